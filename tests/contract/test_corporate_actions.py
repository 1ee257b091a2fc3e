"""Dividends and splits: the same facts from every provider, as each tells them."""

from datetime import date
from decimal import Decimal

import pytest

from tasks.providers import ORDER, PROVIDERS, judge, providers_of
from tests.contract.replies import SUCCESSES, Documented, encoded

DIVIDENDS = [(service, reply) for service, reply in SUCCESSES if reply.dataset == "dividends"]
SPLITS = [(service, reply) for service, reply in SUCCESSES if reply.dataset == "splits"]
NO_MORE_THAN_THE_DAY = {"twelvedata", "intrinio", "yahoo"}
DOLLARS = {"polygon", "twelvedata", "intrinio", "finnhub", "eodhd", "yahoo"}
ONE_NUMBER = {"alpha_vantage", "intrinio", "marketstack"}


@pytest.mark.parametrize(("service", "reply"), DIVIDENDS, ids=lambda value: getattr(value, "verdict", value))
def test_a_dividend_has_its_days_its_amount_and_what_that_is_adjusted_for(
    service: str, reply: Documented
) -> None:
    paid = judge(service, "dividends", 200, {}, reply.encoded, symbol="AAPL").record[-1]
    assert (paid.symbol, paid.ex_date) == ("AAPL", date(2020, 5, 8))
    split = service == "yahoo"
    assert (paid.amount, paid.adjustment) == (
        (Decimal("0.205"), "split") if split else (Decimal("0.82"), "raw")
    )
    known = service not in NO_MORE_THAN_THE_DAY
    assert (paid.pay_date, paid.record_date) == (
        (date(2020, 5, 14), date(2020, 5, 11)) if known else (None, None)
    )
    assert paid.declared == (date(2020, 4, 30) if known and service != "alpaca" else None)
    assert paid.currency == ("USD" if service in DOLLARS else None)
    assert paid.kind == ("cash" if service in ("polygon", "alpaca") else None)


@pytest.mark.parametrize(("service", "reply"), SPLITS, ids=lambda value: getattr(value, "verdict", value))
def test_a_split_of_four_for_one_is_one_whichever_way_round_it_is_told(
    service: str, reply: Documented
) -> None:
    (split,) = judge(service, "splits", 200, {}, reply.encoded, symbol="AAPL").record
    assert (split.symbol, split.date, split.ratio) == ("AAPL", date(2020, 8, 31), 4)
    assert (split.new, split.old) == ((None, None) if service in ONE_NUMBER else (4, 1))


def test_all_who_have_dividends_have_splits_and_amounts_fail_over_within_their_adjustment() -> None:
    assert {service for service, _ in DIVIDENDS} == {service for service, _ in SPLITS} == set(ORDER["splits"])
    assert set(ORDER["dividends"]) - set(providers_of("dividends", "AAPL")) == {"yahoo"}
    assert providers_of("dividends", "AAPL", "split") == ("yahoo",)
    assert "yahoo" in providers_of("splits", "AAPL")


REVERSE = {
    "polygon": {
        "status": "OK",
        "results": [{"ticker": "X", "execution_date": "2021-08-02", "split_from": 3, "split_to": 1}],
    },
    "alpaca": {
        "corporate_actions": {
            "reverse_splits": [{"symbol": "X", "ex_date": "2021-08-02", "new_rate": 1, "old_rate": 3}]
        }
    },
    "fmp": [{"symbol": "X", "date": "2021-08-02", "numerator": 1, "denominator": 3}],
    "twelvedata": {
        "meta": {"symbol": "X"},
        "splits": [{"date": "2021-08-02", "ratio": 3, "from_factor": 1, "to_factor": 3}],
    },
    "tiingo": [{"ticker": "x", "exDate": "2021-08-02T00:00:00.000Z", "splitFrom": 3, "splitTo": 1}],
    "finnhub": [{"symbol": "X", "date": "2021-08-02", "fromFactor": 3, "toFactor": 1}],
    "eodhd": [{"date": "2021-08-02", "split": "1.000000/3.000000"}],
}


@pytest.mark.parametrize("service", REVERSE)
def test_of_three_old_shares_for_a_new_one_both_numbers_are_kept(service: str) -> None:
    (split,) = judge(service, "splits", 200, {}, encoded(REVERSE[service]), symbol="X").record
    assert (split.new, split.old, round(split.ratio, 6)) == (1, 3, Decimal("0.333333"))


@pytest.mark.parametrize(
    ("factor", "told", "ratio"),
    [("0.1", "10", "10"), ("0.1", "0.1", "10"), ("8", "0.125", "0.125"), ("8", "8", "0.125")],
)
def test_intrinios_split_is_read_by_what_it_does_to_earlier_prices(
    factor: str, told: str, ratio: str
) -> None:
    row = f'{{"date": "2024-06-10", "factor": {factor}, "dividend": 0.0, "split_ratio": {told}}}'
    body = f'{{"security": {{"ticker": "X"}}, "stock_price_adjustments": [{row}]}}'.encode()
    (split,) = judge("intrinio", "splits", 200, {}, body, symbol="X").record
    assert split.ratio == Decimal(ratio)
    nothing = judge("intrinio", "dividends", 200, {}, body, symbol="X")
    assert (nothing.verdict, nothing.record) == ("empty", ())


def test_what_tiingo_has_cancelled_never_was() -> None:
    kept = next(reply for service, reply in DIVIDENDS if service == "tiingo").body
    gone = [{**row, "exDate": "2020-06-01T00:00:00.000Z", "distributionFrequency": "c"} for row in kept]
    judgement = judge("tiingo", "dividends", 200, {}, encoded([*kept, *gone]), symbol="AAPL")
    assert ([row.ex_date for row in judgement.record], judgement.left_out) == ([date(2020, 5, 8)], {})


def test_a_dividend_in_pence_is_one_in_pounds() -> None:
    row = {"date": "2024-06-06", "unadjustedValue": 4.5, "value": 4.5, "currency": "GBX"}
    (paid,) = judge("eodhd", "dividends", 200, {}, encoded([row]), symbol="AAPL").record
    assert (paid.amount, paid.currency) == (Decimal("0.045"), "GBP")


@pytest.mark.parametrize("dataset", ["dividends", "splits"])
def test_a_share_without_any_is_an_empty_list(dataset: str) -> None:
    for service, body in (
        ("alpaca", {"corporate_actions": {}, "next_page_token": None}),
        ("polygon", {"status": "OK", "results": []}),
        ("yahoo", {"chart": {"result": [{"meta": YAHOO_META}], "error": None}}),
        ("twelvedata", {"meta": {"symbol": "AAPL"}, dataset: []}),
        ("fmp", []),
    ):
        judgement = judge(service, dataset, 200, {}, encoded(body), symbol="AAPL")
        assert (judgement.verdict, judgement.record) == ("empty", ()), service
        assert PROVIDERS[service].endpoints[dataset].no_rows == "empty"


YAHOO_META = {"symbol": "AAPL", "exchangeTimezoneName": "America/New_York", "currency": "USD"}

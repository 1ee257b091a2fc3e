"""Facts of a company's accounts: one concept of one company, asked for by ticker or by number."""

from datetime import date
from decimal import Decimal

import pytest

from tasks.errors import InvalidSymbolError
from tasks.providers import PROVIDERS, judge
from tasks.records import Fact, as_of
from tests.contract.replies import MODULES, encoded

ENDPOINTS = PROVIDERS["sec_edgar"].endpoints
ASSETS = MODULES["sec_edgar"].ASSETS
PATH = "0000320193/us-gaap/Assets"


def test_the_documented_concept_becomes_records_the_newest_period_last() -> None:
    found = judge("sec_edgar", "facts", 200, {}, encoded(ASSETS), symbol="0000320193:ASSETS").record
    assert found[0].model_dump(exclude_none=True) == {
        "provider": "sec_edgar",
        "series_id": "0000320193:ASSETS",
        "cik": "0000320193",
        "company_name": "Apple Inc.",
        "taxonomy": "us-gaap",
        "concept": "Assets",
        "unit": "USD",
        "value": Decimal(364980000000),
        "end": date(2024, 9, 28),
        "fiscal_year": 2024,
        "fiscal_period": "FY",
        "form": "10-K",
        "filed": date(2024, 11, 1),
        "accession_number": "0000320193-24-000123",
    }
    assert (found[1].end, as_of(found)) == (date(2024, 12, 28), "2024-12-28")


def test_a_fact_asked_for_by_ticker_has_both_and_keeps_them() -> None:
    judged = judge("sec_edgar", "facts", 200, {}, encoded(ASSETS), symbol="AAPL:ASSETS", spelled=PATH)
    fact = judged.record[0]
    assert (fact.series_id, fact.symbol, fact.cik) == ("AAPL:ASSETS", "AAPL", "0000320193")
    assert Fact.model_validate(fact.model_dump(mode="json")) == fact


@pytest.mark.parametrize("changed", [{"cik": 789019}, {"tag": "Liabilities"}, {"taxonomy": "ifrs-full"}])
def test_a_reply_about_another_company_or_concept_is_a_failure(changed: dict[str, object]) -> None:
    body = encoded({**ASSETS, **changed})
    for symbol, spelled in (("0000320193:ASSETS", None), ("AAPL:ASSETS", PATH)):
        judged = judge("sec_edgar", "facts", 200, {}, body, symbol=symbol, spelled=spelled)
        assert judged.verdict == "provider_failure"
        assert f"not {symbol}" in judged.detail


def test_filings_of_a_company_with_several_tickers_are_of_the_one_that_was_asked_for() -> None:
    body = encoded({**MODULES["sec_edgar"].SUBMISSIONS, "cik": "1652044", "tickers": ["GOOGL", "GOOG"]})
    for symbol in ("GOOG", "GOOGL"):
        found = judge("sec_edgar", "filings", 200, {}, body, symbol=symbol, spelled="0001652044").record
        assert {(row.symbol, row.cik) for row in found} == {(symbol, "0001652044")}
    (first, _) = judge("sec_edgar", "filings", 200, {}, body, symbol="0001652044").record
    assert (first.symbol, first.cik) == ("GOOGL", "0001652044")
    wrong = judge("sec_edgar", "filings", 200, {}, body, symbol="AAPL", spelled="0000320193")
    assert wrong.verdict == "provider_failure"


def test_the_list_of_tickers_becomes_companies() -> None:
    body = encoded(MODULES["sec_edgar"].simulated.TICKERS)
    found = judge("sec_edgar", "companies", 200, {}, body, symbol="SEC:COMPANY_TICKERS").record
    told = [(row.ticker, row.cik) for row in found]
    assert told[0] == ("AAPL", "0000320193")
    assert {"GOOGL", "GOOG", "BRK-B"} <= {ticker for ticker, _ in told}


@pytest.mark.parametrize(
    ("dataset", "symbol", "spelled", "ticker"),
    [
        ("filings", "0000320193", "0000320193", ""),
        ("filings", "AAPL", "AAPL", "AAPL"),
        ("filings", "BRK.B", "BRK-B", "BRK-B"),
        ("facts", "0000320193:ASSETS", PATH, ""),
        ("facts", "BRK.B:NETINCOMELOSS", "BRK-B/us-gaap/NetIncomeLoss", "BRK-B"),
        ("facts", "AAPL:ENTITYPUBLICFLOAT", "AAPL/dei/EntityPublicFloat", "AAPL"),
    ],
)
def test_a_ticker_is_looked_up_as_the_list_has_it_and_a_number_is_not(
    dataset: str, symbol: str, spelled: str, ticker: str
) -> None:
    assert (ENDPOINTS[dataset].spelling(symbol), ENDPOINTS[dataset].ticker(symbol)) == (spelled, ticker)


@pytest.mark.parametrize("symbol", ["AAPL", "AAPL:ASETS", ":ASSETS", "320193:ASSETS", "^GSPC:ASSETS"])
def test_facts_want_a_company_and_a_concept_that_is_known(symbol: str) -> None:
    with pytest.raises(InvalidSymbolError, match=r"AAPL:ASSETS|a CIK, ten digits"):
        ENDPOINTS["facts"].spelling(symbol)

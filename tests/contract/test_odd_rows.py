"""One odd row is one odd row, in every list of the catalogue; prices and sessions are the same everywhere."""

import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from tasks.providers import PROVIDERS, judge
from tasks.providers.shapes import tell_left_out
from tasks.records import DATASETS, Bar, Quote
from tests.contract.replies import MODULES, SUCCESSES, Documented, encoded

LISTS = [(name, reply) for name, reply in SUCCESSES if not DATASETS[reply.dataset].alone]
# Their own tests have those in an array, and in lines of text.
QUOTES = [
    (name, reply)
    for name, reply in SUCCESSES
    if DATASETS[reply.dataset] is Quote and name not in ("kraken", "ecb")
]
NOTHING = [None, "", " ", 0, "NaN", "NA", "None", "null"]
ODD = [*NOTHING, -1, [], {}, "x", True, 10**30, "\ud800"]


def named(value: object) -> str:
    return getattr(value, "dataset", str(value))


def about(service: str, reply: Documented) -> str:
    return reply.symbol or PROVIDERS[service].endpoints[reply.dataset].example


def copy(body: object) -> Any:
    return json.loads(json.dumps(body))


def containers(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Every list and object in a document, with its path."""
    if isinstance(value, list | dict):
        yield path, value
        for key, part in enumerate(value) if isinstance(value, list) else value.items():
            yield from containers(part, (*path, key))


def at(document: Any, path: tuple[Any, ...]) -> Any:
    for step in path:
        document = document[step]
    return document


def with_a_row_more(body: object, path: tuple[Any, ...], row: object) -> Any:
    """The document with another row in the list, or the object, at a path."""
    changed = copy(body)
    rows = at(changed, path)
    if isinstance(rows, list):
        rows.append(row)
    else:
        rows["2024-10-31"] = row
    return changed


# Columns side by side, and lines of text.
OTHERWISE = {("ecb", "observations"), ("sec_edgar", "filings"), ("stooq", "bars")} | {
    (name, reply.dataset)
    for name, reply in LISTS
    if name in ("finnhub", "yahoo") and DATASETS[reply.dataset] is Bar
}


def rows_of(service: str, reply: Documented) -> tuple[Any, ...] | None:
    """The path of what holds the reply's rows: another one there, which is none, changes nothing."""
    symbol = about(service, reply)
    good = judge(service, reply.dataset, 200, {}, reply.encoded, symbol=symbol)
    for path, _ in containers(copy(reply.body)):
        body = encoded(with_a_row_more(reply.body, path, "x"))
        told = judge(service, reply.dataset, 200, {}, body, symbol=symbol)
        if told.left_out != good.left_out and told.record == good.record:
            return path
    return None


ROWS = [
    (name, reply, path)
    for name, reply in LISTS
    if (name, reply.dataset) not in OTHERWISE and (path := rows_of(name, reply)) is not None
]


def test_of_every_list_the_rows_are_found() -> None:
    found = {(name, reply.dataset) for name, reply, _ in ROWS} | OTHERWISE
    assert found == {(name, reply.dataset) for name, reply in LISTS}


@pytest.mark.parametrize(("service", "reply", "path"), ROWS, ids=named)
@pytest.mark.parametrize("row", [None, 5, [], [[]], {}, {"error": "x"}], ids=str)
def test_a_row_of_another_kind_is_left_out_and_counted(
    service: str, reply: Documented, path: tuple[Any, ...], row: object
) -> None:
    symbol = about(service, reply)
    good = judge(service, reply.dataset, 200, {}, reply.encoded, symbol=symbol)
    body = encoded(with_a_row_more(reply.body, path, row))
    told = judge(service, reply.dataset, 200, {}, body, symbol=symbol)
    assert (told.verdict, told.record) == ("success", good.record)
    assert sum(told.left_out.values()) == sum(good.left_out.values()) + 1


@pytest.mark.parametrize(("service", "reply", "path"), ROWS, ids=named)
def test_whatever_one_row_has_in_one_place_the_others_live(
    service: str, reply: Documented, path: tuple[Any, ...]
) -> None:
    symbol = about(service, reply)
    good = judge(service, reply.dataset, 200, {}, reply.encoded, symbol=symbol).record
    rows = at(copy(reply.body), path)
    first = rows[0] if isinstance(rows, list) else next(iter(rows.values()))
    for key in first if isinstance(first, dict) else range(len(first)):
        for odd in ODD:
            row = copy(first)
            row[key] = odd
            body = encoded(with_a_row_more(reply.body, path, row))
            told = judge(service, reply.dataset, 200, {}, body, symbol=symbol)
            assert told.verdict == "success", (key, odd, told)
            assert len(told.record) >= len(good), (key, odd, told)


@pytest.mark.parametrize(("service", "dataset"), sorted(OTHERWISE))
@pytest.mark.parametrize("odd", [None, "NaN", 0, -1, "x", {}], ids=str)
def test_in_columns_and_in_lines_a_row_is_a_row_too(service: str, dataset: str, odd: object) -> None:
    reply = next(r for name, r in LISTS if (name, r.dataset) == (service, dataset))
    symbol = about(service, reply)
    good = judge(service, dataset, 200, reply.headers, reply.encoded, symbol=symbol)
    if isinstance(reply.body, str):
        lines = reply.body.splitlines()
        body: object = "\n".join([*lines, ",".join([str(odd)] * len(lines[0].split(",")))])
    else:
        body = copy(reply.body)
        for place, found in list(containers(body)):
            if isinstance(found, list) and found and not isinstance(found[0], dict) and place != ("tickers",):
                found.append(odd)
    told = judge(service, dataset, 200, reply.headers, encoded(body), symbol=symbol)
    assert (told.verdict, told.record) == ("success", good.record)
    assert sum(told.left_out.values()) == sum(good.left_out.values()) + 1


def news_of(*titles: object) -> bytes:
    (article,) = MODULES["finnhub"].NEWS
    return encoded([{**article, "id": n, "headline": title} for n, title in enumerate(titles)])


@pytest.mark.parametrize(
    ("titles", "verdict", "records"),
    [
        (["a", 5], "success", 1),
        (["a", "b", 5, 5], "success", 2),
        (["a", 5, 5], "provider_failure", 0),
        ([5], "provider_failure", 0),
        (["a", None, None, ""], "success", 1),
        ([None, ""], "empty", 0),
        (["a", None, None, 5], "success", 1),
        ([None, None, None, 5], "provider_failure", 0),
    ],
)
def test_it_is_the_reply_that_drifts_where_most_rows_with_something_in_them_do(
    titles: list[object], verdict: str, records: int
) -> None:
    judgement = judge("finnhub", "news", 200, {}, news_of(*titles), symbol="AAPL")
    assert (judgement.verdict, len(judgement.record or ())) == (verdict, records)
    assert judgement.drifted == (verdict == "provider_failure")
    if verdict != "provider_failure":
        blank, malformed = sum(not title for title in titles), titles.count(5)
        counts = {"blank": blank, "malformed": malformed}
        assert judgement.left_out == {why: count for why, count in counts.items() if count}


@pytest.mark.parametrize(
    ("body", "drifted"),
    [(b"{", False), (b"null", True), (b'{"c": "x", "t": 1}', True), (b"<html>", False)],
)
def test_a_success_of_the_right_kind_that_cannot_be_used_has_drifted_and_an_error_has_not(
    body: bytes, *, drifted: bool
) -> None:
    assert judge("finnhub", "quote", 200, {}, body).drifted == drifted
    assert not judge("finnhub", "quote", 500, {}, body).drifted


IN_STRINGS = ("alpha_vantage", "twelvedata", "marketstack", "coinbase", "binance")
PRICES = {
    "alpha_vantage": "05. price",
    "alpaca": "p",
    "benzinga": "lastTradePrice",
    "binance": "lastPrice",
    "coinbase": "price",
    "coingecko": "usd",
    "eodhd": "close",
    "finnhub": "c",
    "fmp": "price",
    "iex_cloud": "latestPrice",
    "intrinio": "last_price",
    "marketstack": "price",
    "polygon": "p",
    "tiingo": "tngoLast",
    "tradier": "last",
    "twelvedata": "close",
    "yahoo": "regularMarketPrice",
}


def replaced(value: Any, name: str, new: object) -> Any:
    """The document with every member of a name changed."""
    if isinstance(value, list):
        return [replaced(part, name, new) for part in value]
    if isinstance(value, dict):
        return {key: new if key == name else replaced(part, name, new) for key, part in value.items()}
    return value


@pytest.mark.parametrize(("service", "reply"), QUOTES, ids=named)
def test_a_quote_without_a_price_is_of_a_symbol_that_is_known_and_has_nothing_now(
    service: str, reply: Documented
) -> None:
    symbol = about(service, reply)
    for value in NOTHING:
        nothing = "0.00" if value == 0 and service in IN_STRINGS else value
        body = replaced(copy(reply.body), PRICES[service], nothing)
        if service == "polygon":
            body = replaced(body, "c", nothing)  # a minute's close stands in for a trade
        judgement = judge(service, "quote", 200, {}, encoded(body), symbol=symbol)
        if judgement.verdict == "success":
            assert "lastTrade" not in reply.body.get("ticker", {})  # its price is no trade's
            continue
        assert (judgement.verdict, judgement.record) == ("empty", None), (nothing, judgement)


ZEROS = ("bid", "ask", "open", "high", "low", "prev_close")
NO_ZEROS = {
    *("iexBidPrice", "iexAskPrice", "open", "high", "low", "previousClose", "previous_close", "prevClose"),
    *(
        "02. open",
        "03. high",
        "04. low",
        "08. previous close",
        "o",
        "h",
        "l",
        "pc",
        "bid",
        "ask",
        "prevclose",
    ),
    *("bidPrice", "askPrice", "bid_price", "ask_price", "open_price", "high_price", "low_price", "bp", "ap"),
    *("openPrice", "highPrice", "lowPrice"),
    *("dayHigh", "dayLow", "previousClosePrice", "chartPreviousClose"),
}


@pytest.mark.parametrize(("service", "reply"), QUOTES, ids=named)
def test_zero_is_no_bid_and_no_price_of_another_time(service: str, reply: Documented) -> None:
    body = copy(reply.body)
    for name in NO_ZEROS:
        zero = "0.0000" if service in IN_STRINGS else 0
        body = replaced(body, name, zero)
    if service in ("polygon", "alpaca"):  # of the day before there is the close alone
        for before in (part for _, part in containers(body) if isinstance(part, dict)):
            before.update(
                {
                    name: replaced(before[name], "c", 0)
                    for name in ("prevDay", "prevDailyBar")
                    if before.get(name)
                }
            )
    quote = judge(service, "quote", 200, {}, encoded(body), symbol=about(service, reply)).record
    told = {name: getattr(quote, name) for name in ZEROS}
    if service == "polygon":
        told = {**told, "bid": None, "ask": None}  # p and P, as of a trade
    assert told == dict.fromkeys(ZEROS)


LONDON = datetime(2026, 4, 7, 23, tzinfo=UTC)  # 2026-04-08, in summer time
DAY = "2026-04-08"


def yahoo_chart(currency: str, opens: int, zone: str, symbol: str = "ABCD.L") -> dict[str, Any]:
    body = copy(MODULES["yahoo"].chart([opens], MODULES["yahoo"].DAY, [231.41]))
    body["chart"]["result"][0]["meta"] |= {
        "currency": currency,
        "exchangeTimezoneName": zone,
        "symbol": symbol,
    }
    return body


def bars_of(service: str, **changed: object) -> Any:
    """The service's documented bars, the members of these names changed."""
    reply = next(r for name, r in SUCCESSES if (name, r.dataset) == (service, "bars"))
    body = copy(reply.body)
    for name, value in changed.items():
        body = replaced(body, name, value)
    return body


SESSIONS = {
    "fmp": bars_of("fmp", date=DAY, symbol="ABCD.L"),
    "eodhd": bars_of("eodhd", date=DAY),
    "marketstack": bars_of("marketstack", date=f"{DAY}T00:00:00+0000", symbol="ABCD.L", exchange="XLON"),
    "twelvedata": bars_of(
        "twelvedata", datetime=DAY, symbol="ABCD", mic_code="XLON", exchange_timezone="Europe/London"
    ),
    "tiingo": bars_of("tiingo", date=f"{DAY}T00:00:00.000Z"),
    "tradier": bars_of("tradier", date=DAY),
    "intrinio": bars_of("intrinio", date=DAY, ticker="ABCD.L"),
    "yahoo": yahoo_chart("GBP", int(datetime(2026, 4, 8, 7, tzinfo=UTC).timestamp()), "Europe/London"),
    "finnhub": bars_of("finnhub", t=[int(LONDON.timestamp())] * 3),
}


@pytest.mark.parametrize("service", SESSIONS)
def test_a_session_begins_at_its_exchanges_midnight_whoever_tells_it(service: str) -> None:
    body = encoded(SESSIONS[service])
    bars = judge(service, "bars", 200, {}, body, symbol="ABCD.L").record
    assert {bar.timestamp for bar in bars} == {LONDON}


@pytest.mark.parametrize(
    ("symbol", "day", "starts"),
    [
        ("AAPL", DAY, datetime(2026, 4, 8, 4, tzinfo=UTC)),
        ("AAPL", "2026-01-08", datetime(2026, 1, 8, 5, tzinfo=UTC)),
        ("ABCD.L", "2026-01-08", datetime(2026, 1, 8, tzinfo=UTC)),
        ("ABCD.T", DAY, datetime(2026, 4, 7, 15, tzinfo=UTC)),
        ("ABCD.AX", DAY, datetime(2026, 4, 7, 14, tzinfo=UTC)),
        ("ABCD.DE", DAY, datetime(2026, 4, 7, 22, tzinfo=UTC)),
        ("EUR/USD", DAY, datetime(2026, 4, 8, tzinfo=UTC)),
        ("BTC-USD", DAY, datetime(2026, 4, 8, tzinfo=UTC)),
    ],
)
def test_the_same_day_is_the_same_instant_as_a_date_and_as_a_midnight(
    symbol: str, day: str, starts: datetime
) -> None:
    told = (
        ("tiingo", f"{day}T00:00:00.000Z"),
        ("tiingo", starts.isoformat()),
        ("tradier", day),
    )
    for service, text in told:
        body = encoded(bars_of(service, date=text))
        assert {bar.timestamp for bar in judge(service, "bars", 200, {}, body, symbol=symbol).record} == {
            starts
        }


def test_two_rows_of_one_session_are_one_bar_the_last() -> None:
    day = MODULES["tiingo"].BARS[0]
    twice = [{**day, "date": f"{DAY}T00:00:00.000Z"}, {**day, "date": f"{DAY}T04:00:00.000Z", "close": 99}]
    (bar,) = judge("tiingo", "bars", 200, {}, encoded(twice), symbol="AAPL").record
    assert (bar.timestamp, bar.close) == (datetime(2026, 4, 8, 4, tzinfo=UTC), 99)


@pytest.mark.parametrize(
    ("told", "currency", "parts"),
    [
        *((told, "GBP", 100) for told in ("GBp", "GBX", "gbx", "GBP0.01")),
        *((told, "ILS", 100) for told in ("ILA", "ILa")),
        *((told, "ZAR", 100) for told in ("ZAc", "ZAC", "ZAX")),
        ("USX", "USD", 100),
    ],
)
def test_a_part_of_a_currency_becomes_the_currency_of_quotes_and_bars(
    told: str, currency: str, parts: int
) -> None:
    body = encoded(yahoo_chart(told, 1729863000, "Europe/London"))
    quote = judge("yahoo", "quote", 200, {}, body, symbol="ABCD.L").record
    assert (quote.currency, quote.last_price) == (currency, Decimal("231.41") / parts)
    (bar,) = judge("yahoo", "bars", 200, {}, body, symbol="ABCD.L").record
    assert bar.currency == currency
    assert (bar.open, bar.high, bar.low, bar.close, bar.adj_close) == tuple(
        Decimal(price) for price in ("2.2974", "2.3322", "2.2957", "2.3141", "2.3141")
    )
    assert bar.volume == 38802304
    for name, kind in (("currency", "twelvedata"), ("price_currency", "marketstack")):
        whole, part = (
            judge(kind, "bars", 200, {}, encoded(replaced(bars_of(kind), name, unit)), symbol="AAPL").record[
                0
            ]
            for unit in (currency, told)
        )
        assert (part.close * parts, part.volume) == (whole.close, whole.volume)


@pytest.mark.parametrize(
    ("told", "currency"), [("usd", "USD"), (" EUR ", "EUR"), ("", None), (None, None), ("US Dollar", None)]
)
def test_a_currency_is_a_code_or_none(told: object, currency: str | None) -> None:
    body = encoded(yahoo_chart("", 1729863000, "Europe/London"))
    body = encoded(replaced(json.loads(body), "currency", told))
    assert judge("yahoo", "quote", 200, {}, body, symbol="ABCD.L").record.currency == currency


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1.2e-05", "0.000012"),
        ("1E3", "1000"),
        (".5", "0.5"),
        ("-.5", "-0.5"),
        ("5.", "5"),
        ("NaN", None),
        ("", None),
        ("N/A", None),
        ("-", None),
    ],
)
def test_a_numeral_is_read_as_it_is_written(text: str, value: str | None) -> None:
    body = encoded(replaced(MODULES["fred"].OBSERVATIONS, "value", text))
    found = judge("fred", "observations", 200, {}, body, symbol="UNRATE").record
    assert {row.value for row in found} == {None if value is None else Decimal(value)}


@pytest.mark.parametrize("text", ["1,000.5", "1_000", "0x10", "1e999", "e5", "1e", "--1"])
def test_what_is_no_numeral_spoils_its_row_alone(text: str) -> None:
    body = copy(MODULES["fred"].OBSERVATIONS)
    body["observations"][1]["value"] = text
    judgement = judge("fred", "observations", 200, {}, encoded(body), symbol="UNRATE")
    assert (judgement.verdict, len(judgement.record), judgement.left_out) == ("success", 1, {"malformed": 1})


def test_a_quote_without_a_time_is_none() -> None:
    body = encoded({**MODULES["finnhub"].QUOTE, "t": 0})
    assert judge("finnhub", "quote", 200, {}, body, symbol="AAPL").verdict == "empty"


def test_a_snapshot_that_is_null_is_of_a_symbol_that_is_unknown() -> None:
    assert judge("alpaca", "quote", 200, {}, encoded({"AAPL": None}), symbol="AAPL").verdict == "not_found"


def test_bars_of_an_index_tell_no_adjustment() -> None:
    told = {name: value for name, value in MODULES["polygon"].AS_TRADED.items() if name != "adjusted"}
    bars = judge("polygon", "bars", 200, {}, encoded(told), symbol="AAPL").record
    assert {bar.adjustment for bar in bars} == {"raw"}


@pytest.mark.parametrize(
    ("service", "dataset", "body"),
    [
        ("yahoo", "quote", {"chart": {"result": [], "error": None}}),
        ("yahoo", "bars", {"chart": {"result": None, "error": None}}),
        ("coingecko", "quote", {"bitcoin": {"last_updated_at": 1779092258}}),
        ("tradier", "bars", {"history": {"day": None}}),
        ("finnhub", "bars", {**dict.fromkeys("tohlcv"), "s": "ok"}),
        ("world_bank", "observations", [{"page": 0, "pages": 0, "total": 0}, None]),
    ],
)
def test_a_known_symbol_without_anything_now_is_empty(service: str, dataset: str, body: object) -> None:
    assert judge(service, dataset, 200, {}, encoded(body)).verdict == "empty"


def test_what_is_beside_a_row_and_null_costs_no_row() -> None:
    quote = {**MODULES["alpha_vantage"].QUOTE, "10. change percent": "None%", "06. volume": "N/D"}
    found = judge("alpha_vantage", "quote", 200, {}, encoded({"Global Quote": quote})).record
    assert (found.change_percent, found.volume) == (None, None)
    for service, name in (("news_api", "source"), ("polygon", "publisher")):
        reply = next(r for s, r in SUCCESSES if (s, r.dataset) == (service, "news"))
        body = encoded(replaced(copy(reply.body), name, None))
        judgement = judge(service, "news", 200, {}, body)
        assert {article.source for article in judgement.record} == {None}
        assert "malformed" not in judgement.left_out
    chart = copy(MODULES["yahoo"].CHART)
    (columns,) = chart["chart"]["result"][0]["indicators"]["quote"]
    columns["volume"] = None
    (bar,) = judge("yahoo", "bars", 200, {}, encoded(chart), symbol="AAPL").record
    assert (bar.close, bar.volume) == (Decimal("231.41"), None)


def test_a_list_that_is_null_is_a_list_without_rows() -> None:
    for service, body in (
        ("alpaca", {"bars": None, "next_page_token": None}),
        ("twelvedata", {**MODULES["twelvedata"].BARS, "values": None}),
        ("tradier", {"history": None}),
    ):
        assert judge(service, "bars", 200, {}, encoded(body), symbol="AAPL").verdict in ("empty", "not_found")


@pytest.mark.parametrize("line", ["2024-06-27", "2024-06-27,1,2,3,4,5,6", "sorry, nothing"])
def test_a_line_of_another_length_is_one_line(line: str) -> None:
    reply = next(r for name, r in LISTS if name == "stooq")
    judgement = judge("stooq", "bars", 200, {}, f"{reply.body}\n{line}".encode(), symbol="AAPL")
    good = judge("stooq", "bars", 200, {}, reply.encoded, symbol="AAPL").record
    assert (judgement.record, judgement.left_out) == (good, {"malformed": 1})


@pytest.mark.parametrize(("symbol", "currency"), [("EUR/USD", "USD"), ("BTC-EUR", "EUR"), ("ABCD.L", None)])
def test_what_a_pair_is_paid_in_is_its_currency_and_no_exchange_is_guessed_from(
    symbol: str, currency: str | None
) -> None:
    body = encoded(bars_of("tiingo"))
    assert {bar.currency for bar in judge("tiingo", "bars", 200, {}, body, symbol=symbol).record} == {
        currency
    }


def test_a_number_that_is_no_json_spoils_its_row_alone() -> None:
    day = MODULES["tiingo"].BARS[0]
    body = json.dumps([day, {**day, "date": f"{DAY}T00:00:00.000Z", "open": float("nan")}]).encode()
    judgement = judge("tiingo", "bars", 200, {}, body, symbol="AAPL")
    assert (len(judgement.record), judgement.left_out) == (1, {"no_trade": 1})


def test_why_rows_are_left_out_is_told_once_without_places_and_texts(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    for titles in (["a", "b", 5, None, 7], ["a", "b", "c", 9, ""]):
        judgement = judge("finnhub", "news", 200, {}, news_of(*titles), symbol="AAPL")
        tell_left_out("finnhub", "news", judgement.shapes)
    told = [record.getMessage() for record in caplog.records]
    assert [line.partition("(")[2].partition(")")[0] for line in told] == [
        "blank: $[].headline is null",
        "malformed: $[].headline is a number, not a string",
        "blank: $[].headline is blank",
    ]

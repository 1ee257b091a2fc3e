"""Bars of minutes: whatever clock a provider tells them by, a bar has its start in UTC."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from tasks.providers import ORDER, PROVIDERS, judge, providers_of
from tasks.records import DATASETS, Bar
from tests.contract.replies import encoded

SPANS = {"bars_1m": "1m", "bars_5m": "5m", "bars_15m": "15m", "bars_30m": "30m", "bars_1h": "1h"}
FIVE = {"1. open": "224.0", "2. high": "224.5", "3. low": "223.9", "4. close": "224.2", "5. volume": "812"}
HEAD = {
    "1. Information": "Intraday (5min) open, high, low, close prices and volume",
    "2. Symbol": "IBM",
    "3. Last Refreshed": "2024-11-01 19:55:00",
    "4. Interval": "5min",
    "5. Output Size": "Compact",
    "6. Time Zone": "US/Eastern",
}
ALPHA_VANTAGE = {
    "Meta Data": HEAD,
    # The clocks go back in between.
    "Time Series (5min)": {"2024-11-04 09:30:00": FIVE, "2024-11-01 09:30:00": FIVE},
}
YAHOO_COLUMNS = {
    "open": [224.0, 224.2, None, 224.4],
    "high": [224.5, 224.6, None, 224.4],
    "low": [223.9, 224.1, None, 224.4],
    "close": [224.2, 224.5, None, 224.4],
    "volume": [812, 640, None, 0],
}
YAHOO = {
    "chart": {
        "result": [
            {
                "meta": {
                    "currency": "USD",
                    "symbol": "AAPL",
                    "exchangeTimezoneName": "America/New_York",
                    "dataGranularity": "1h",
                },
                # The live price, twelve minutes after the last hour began.
                "timestamp": [1730730600, 1730734200, 1730737800, 1730734920],
                "indicators": {"quote": [YAHOO_COLUMNS]},
            }
        ],
        "error": None,
    }
}
OHLCV = {"open": 224.0, "high": 224.5, "low": 223.9, "close": 224.2, "volume": 812}
LETTERS = {"o": 224.0, "h": 224.5, "l": 223.9, "c": 224.2, "v": 812}
START = datetime(2024, 11, 4, 14, 30, tzinfo=UTC)  # the opening of New York, in winter
UNIX = int(START.timestamp())


@pytest.mark.parametrize(
    ("service", "dataset", "body"),
    [
        ("alpaca", "bars_5m", {"bars": {"AAPL": [{"t": "2024-11-04T14:30:00Z", **LETTERS}]}}),
        (
            "polygon",
            "bars_5m",
            {
                "ticker": "AAPL",
                "adjusted": False,
                "resultsCount": 1,
                "results": [{"t": UNIX * 1_000, **LETTERS}],
            },
        ),
        (
            "twelvedata",
            "bars_5m",
            {
                "meta": {"symbol": "AAPL", "interval": "5min", "exchange_timezone": "America/New_York"},
                "values": [{"datetime": "2024-11-04 09:30:00", **{k: str(v) for k, v in OHLCV.items()}}],
            },
        ),
        ("tiingo", "bars_5m", [{"date": "2024-11-04T14:30:00.000Z", **OHLCV}]),
        (
            "alpha_vantage",
            "bars_5m",
            {**ALPHA_VANTAGE, "Meta Data": {**HEAD, "2. Symbol": "AAPL"}},
        ),
        ("finnhub", "bars_5m", {"s": "ok", "t": [UNIX], **{k: [v] for k, v in LETTERS.items()}}),
        ("fmp", "bars_5m", [{"date": "2024-11-04 09:30:00", **OHLCV}]),
        (
            "eodhd",
            "bars_5m",
            [{"timestamp": UNIX, "gmtoffset": 0, "datetime": "2024-11-04 14:30:00", **OHLCV}],
        ),
        (
            "tradier",
            "bars_5m",
            {"series": {"data": {"time": "2024-11-04T09:30:00", "timestamp": UNIX, "price": 224.1, **OHLCV}}},
        ),
        (
            "marketstack",
            "bars_5m",
            {"data": [{"date": "2024-11-04T14:30:00+0000", "symbol": "AAPL", **OHLCV}]},
        ),
        (
            "intrinio",
            "bars_5m",
            {
                "security": {"ticker": "AAPL"},
                "intervals": [
                    {
                        "time": "2024-11-04T14:30:00.000Z",
                        "close_time": "2024-11-04T14:35:00.000Z",
                        "interval": "5m",
                        **OHLCV,
                    }
                ],
            },
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_bar_is_told_by_its_start_in_utc(service: str, dataset: str, body: object) -> None:
    judgement = judge(service, dataset, 200, {}, encoded(body), symbol="AAPL")
    assert judgement.record, judgement
    bar = judgement.record[-1]
    assert (bar.timestamp, bar.symbol, bar.interval, bar.provider) == (START, "AAPL", "5m", service)
    told = (bar.open, bar.high, bar.low, bar.close, bar.volume)
    assert told == tuple(map(Decimal, ("224.0", "224.5", "223.9", "224.2", "812")))
    assert bar.adjustment == ("split" if service == "fmp" else "raw")


def test_alpha_vantages_times_are_new_yorks_in_summer_and_in_winter() -> None:
    bars = judge("alpha_vantage", "bars_5m", 200, {}, encoded(ALPHA_VANTAGE), symbol="IBM").record
    assert [bar.timestamp for bar in bars] == [datetime(2024, 11, 1, 13, 30, tzinfo=UTC), START]


def test_yahoos_empty_rows_and_its_live_price_within_the_last_bar_are_no_bars() -> None:
    bars = judge("yahoo", "bars_1h", 200, {}, encoded(YAHOO), symbol="AAPL").record
    assert [(bar.timestamp, bar.close) for bar in bars] == [
        (START, Decimal("224.2")),
        (START + timedelta(hours=1), Decimal("224.5")),
    ]
    assert {(bar.interval, bar.adjustment) for bar in bars} == {("1h", "split")}


@pytest.mark.parametrize(
    ("service", "body"),
    [("alpha_vantage", ALPHA_VANTAGE), ("yahoo", YAHOO)],
    ids=["alpha_vantage", "yahoo"],
)
def test_bars_of_another_length_than_asked_for_are_a_failure(service: str, body: object) -> None:
    symbol = "IBM" if service == "alpha_vantage" else "AAPL"
    judgement = judge(service, "bars_1m", 200, {}, encoded(body), symbol=symbol)
    assert judgement.verdict == "provider_failure"
    assert "asked for 1m" in judgement.detail


def test_each_endpoint_of_minutes_spans_what_its_dataset_says_and_fails_over_within_its_adjustment() -> None:
    assert {name for name, record in DATASETS.items() if record is Bar} == {"bars", *SPANS}
    for dataset, span in SPANS.items():
        endpoints = {service: PROVIDERS[service].endpoints[dataset] for service in ORDER[dataset]}
        assert {endpoint.interval for endpoint in endpoints.values()} == {span}
        assert not {"fmp", "yahoo"} & set(providers_of(dataset, "AAPL"))
        assert set(providers_of(dataset, "AAPL", "split")) == {"fmp", "yahoo"}

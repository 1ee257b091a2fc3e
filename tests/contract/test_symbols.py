"""One text for a symbol, and each provider's spelling of it."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from urllib.parse import quote, urlsplit
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tasks.errors import InvalidSymbolError
from tasks.exchanges import EXCHANGES, MINOR_UNITS, US, exchange_of
from tasks.fetch import flight_key, question_of
from tasks.providers import PROVIDERS, Endpoint, catalogue, clean_symbol, judge, providers_of
from tasks.providers.documents import Node
from tasks.providers.http import _request
from tasks.providers.indices import INDICES, OTHER_NAMES
from tasks.providers.symbols import Kind, parse
from tests.spellings import SPELLED, SYMBOLS

NOW = datetime(2026, 11, 30, 15, tzinfo=UTC)
ENDPOINTS = [(service, dataset) for service, row in PROVIDERS.items() for dataset in row.endpoints]


def endpoint_of(service: str, dataset: str) -> Endpoint:
    return PROVIDERS[service].endpoints[dataset]


def spelling(service: str, dataset: str, symbol: str) -> str | None:
    try:
        return endpoint_of(service, dataset).spelling(symbol)
    except InvalidSymbolError:
        return None


@pytest.mark.parametrize(("service", "dataset"), ENDPOINTS)
def test_every_endpoint_spells_each_kind_as_its_provider_documents_or_has_none(
    service: str, dataset: str
) -> None:
    assert tuple(spelling(service, dataset, symbol) for symbol in SYMBOLS) == SPELLED[service, dataset]


@pytest.mark.parametrize(
    ("text", "kind", "ours"),
    [
        ("aapl", Kind.SHARE, "AAPL"),
        ("AAPL.US", Kind.SHARE, "AAPL"),
        ("AAPL.XNAS", Kind.SHARE, "AAPL"),
        ("BRK-B", Kind.SHARE, "BRK.B"),
        ("BRK.B.US", Kind.SHARE, "BRK.B"),
        ("BRK-B.XNYS", Kind.SHARE, "BRK.B"),
        ("MKC-V", Kind.SHARE, "MKC-V"),  # a class; V behind a dot is an exchange
        ("MKC.V.US", Kind.SHARE, "MKC-V"),
        ("MKC.V", Kind.SHARE, "MKC.V"),
        ("VOD.L", Kind.SHARE, "VOD.L"),
        ("VOD.XLON", Kind.SHARE, "VOD.L"),
        ("vod.lon", Kind.SHARE, "VOD.L"),
        ("VOD.LSE", Kind.SHARE, "VOD.L"),
        ("NOVO-B.CO", Kind.SHARE, "NOVO.B.CO"),
        ("NOVO.B.XCSE", Kind.SHARE, "NOVO.B.CO"),
        ("REI-UN.TO", Kind.SHARE, "REI.UN.TO"),
        ("7203.T", Kind.SHARE, "7203.T"),
        ("0700.XHKG", Kind.SHARE, "0700.HK"),
        ("SCOM.XNAI", Kind.SHARE, "SCOM.XNAI"),  # an exchange without a suffix
        ("^gspc", Kind.INDEX, "^GSPC"),
        ("^SPX", Kind.INDEX, "^GSPC"),
        ("^UKX", Kind.INDEX, "^FTSE"),
        ("^NOBODY", Kind.INDEX, "^NOBODY"),
        ("EUR/USD", Kind.FX, "EUR/USD"),
        ("eur-usd", Kind.FX, "EUR/USD"),
        ("EURUSD=X", Kind.FX, "EUR/USD"),
        ("JPY=X", Kind.FX, "USD/JPY"),
        ("XAU/USD", Kind.FX, "XAU/USD"),
        ("BTC-USD", Kind.COIN, "BTC-USD"),
        ("btc/usd", Kind.COIN, "BTC-USD"),
        ("XBT/EUR", Kind.COIN, "BTC-EUR"),
        ("ETH-USDT", Kind.COIN, "ETH-USDT"),
        ("ETH/BTC", Kind.COIN, "ETH-BTC"),
        ("GC=F", Kind.OTHER, "GC=F"),
        *((text, Kind.SHARE, "BAC.PRL") for text in ("BAC-PL", "BAC.PRL", "BAC-P-L", "BAC.PR.L", "BAC/PL")),
        ("BACpL", Kind.SHARE, "BAC.PRL"),  # the one spelling whose case tells
        ("BACPL", Kind.SHARE, "BACPL"),
        *((text, Kind.SHARE, "ACHR.WS") for text in ("ACHR.WS", "ACHR-WT", "achr/ws", "ACHR-WS.US")),
        *((text, Kind.SHARE, "AACT.U") for text in ("AACT.U", "AACT-UN", "AACT/U")),
        *((text, Kind.SHARE, "PSTH.RT") for text in ("PSTH.RT", "PSTH-RI")),
        ("T-PA", Kind.SHARE, "T.PRA"),
        ("T.PA", Kind.SHARE, "T.PA"),  # in Paris
        ("BRK/B", Kind.SHARE, "BRK.B"),
        ("bajaj-auto.ns", Kind.SHARE, "BAJAJ-AUTO.NS"),
        ("SBB-PREF.ST", Kind.SHARE, "SBB-PREF.ST"),
        ("BP..L", Kind.SHARE, "BP.L"),
        *((text, Kind.SHARE, "0700.HK") for text in ("700.HK", "0700.HK", "00700.HK")),
        ("80700.HK", Kind.SHARE, "80700.HK"),
        ("BHP.AU", Kind.SHARE, "BHP.AX"),
        ("005930.KO", Kind.SHARE, "005930.KS"),
        ("NESN.VX", Kind.SHARE, "NESN.SW"),
        *((text, Kind.INDEX, "^GSPC") for text in ("GSPC.INDX", "I:SPX", ".INX")),
        *((text, Kind.INDEX, "^SSEC") for text in ("000001.SS", "000001.SHG")),
        ("000001.SZ", Kind.SHARE, "000001.SZ"),  # a bank
        ("FTSEMIB.MI", Kind.INDEX, "^FTSEMIB"),
        *((text, Kind.FX, "EUR/USD") for text in ("EURUSD.FOREX", "C:EURUSD", "EUR_USD")),
        ("USD/CNH", Kind.FX, "USD/CNH"),
        *((text, Kind.COIN, "BTC-USD") for text in ("X:BTCUSD", "BTC-USD.CC", "XBT-USD")),
        ("X:ETHUSDT", Kind.COIN, "ETH-USDT"),
        ("XDG-USD", Kind.COIN, "DOGE-USD"),
        ("EUR/USDT", Kind.COIN, "EUR-USDT"),
        ("ABC.XYZ", Kind.OTHER, "ABC.XYZ"),
        ("0000320193", Kind.OTHER, "0000320193"),
        ("COINGECKO:BITCOIN", Kind.OTHER, "COINGECKO:BITCOIN"),
        ("WB:USA:NY.GDP.MKTP.CD", Kind.OTHER, "WB:USA:NY.GDP.MKTP.CD"),
        ("UST:TREASURY-BILLS", Kind.OTHER, "UST:TREASURY-BILLS"),
    ],
)
def test_a_symbol_is_read_in_any_of_its_spellings(text: str, kind: Kind, ours: str) -> None:
    found = parse(text)
    assert (found.kind, found.text, clean_symbol(ours)) == (kind, ours, ours)


@pytest.mark.parametrize(
    "text", ["USD/BTC", "USD/USD", "LBMA/GOLD", "A/B/C", "BRK/BB", "N/A", "a/b", "/", "EUR/", "../EUR"]
)
def test_a_slash_is_in_a_pair_or_before_a_class_and_in_nothing_else(text: str) -> None:
    with pytest.raises(InvalidSymbolError, match="a pair of currencies has a slash, as in EUR/USD"):
        parse(text)


def test_the_parts_of_a_symbol() -> None:
    share, index, pair, coin = map(parse, ("NOVO-B.CO", "^FTSE", "EUR/USD", "BTC-USD"))
    assert (share.root, share.share_class, share.mic) == ("NOVO", "B", "XCSE")
    assert (index.root, index.mic) == ("FTSE", "XLON")
    assert (pair.base, pair.quote_currency, coin.base, coin.quote_currency) == ("EUR", "USD", "BTC", "USD")
    zones = [found.exchange and found.exchange.zone for found in (share, index, pair, coin, parse("GC=F"))]
    assert zones == ["Europe/Copenhagen", "Europe/London", None, None, None]
    assert parse("AAPL").exchange is parse("^GSPC").exchange is US
    assert parse("^NOBODY").exchange is None, "nobody knows whose clock it has"


def test_the_table_of_exchanges_is_consistent() -> None:
    names = [name for row in EXCHANGES for name in (row.mic, row.suffix, *row.also) if name]
    assert len(names) == len(set(names)), "each means one thing"
    assert len(EXCHANGES) >= 60
    for row in EXCHANGES:
        assert len(row.mic) == 4
        assert ZoneInfo(row.zone)
        assert not row.minor or MINOR_UNITS[row.minor][0] == row.currency
        assert exchange_of(row.mic) is row
    assert exchange_of("NOBODY") is None


def test_the_table_of_indices_is_consistent() -> None:
    assert len(INDICES) >= 30
    assert not set(OTHER_NAMES) & set(INDICES), "a name is one index's"
    for root, index in INDICES.items():
        assert parse(f"^{root}").exchange == (exchange_of(index.mic) or US)
        assert set(index.names) <= set(PROVIDERS)


@pytest.mark.parametrize(
    ("symbol", "names"),
    [
        ("^IXIC", {"yahoo": "^IXIC", "eodhd": "IXIC.INDX", "polygon": "I:COMP", "twelvedata": "IXIC"}),
        ("^VIX", {"yahoo": "^VIX", "fmp": "^VIX", "finnhub": "^VIX", "polygon": "I:VIX", "tradier": "VIX"}),
        ("^FTSE", {"yahoo": "^FTSE", "eodhd": "FTSE.INDX", "polygon": None, "twelvedata": "FTSE"}),
        ("^SSEC", {"yahoo": "000001.SS", "eodhd": "000001.SHG"}),
        ("^FTSEMIB", {"yahoo": "FTSEMIB.MI", "eodhd": None}),
    ],
)
def test_an_index_has_each_providers_own_name(symbol: str, names: dict[str, str | None]) -> None:
    assert {service: spelling(service, "bars", symbol) for service in names} == names


@pytest.mark.parametrize(
    ("service", "symbol", "spelled"),
    [
        ("yahoo", "NOVO.B.CO", "NOVO-B.CO"),
        ("yahoo", "MKC-V", "MKC-V"),
        ("yahoo", "SCOM.XNAI", None),
        ("yahoo", "GC=F", "GC=F"),
        ("alpha_vantage", "SHOP.TO", "SHOP.TRT"),
        ("alpha_vantage", "EDP.LS", "EDP.LIS"),
        ("alpha_vantage", "7203.T", None),
        ("binance", "EUR-USDT", "EURUSDT"),
        ("finnhub", "NOVO.B.CO", "NOVO-B.CO"),
        ("finnhub", "BINANCE:BTCUSDT", "BINANCE:BTCUSDT"),
        ("eodhd", "SAP.DE", "SAP.XETRA"),
        ("eodhd", "BHP.AX", "BHP.AU"),
        ("eodhd", "ENI.MI", None),
        ("fmp", "ETH-USDT", None),
        ("twelvedata", "ETH-BTC", "ETH/BTC"),
        ("twelvedata", "VOD:LSE", None),  # its reply would be about VOD
        ("polygon", "I:NDX", "I:NDX"),
        ("alpaca", "I:NDX", None),
        ("alpaca", "GC=F", None),
        ("yahoo", "UNI-USD", "UNI7083-USD"),  # UNI-USD is another coin there
        ("yahoo", "BAC.PRL", "BAC-PL"),
        ("yahoo", "ACHR.WS", "ACHR-WT"),
        ("yahoo", "AACT.U", "AACT-UN"),
        ("fmp", "BAC.PRL", "BAC-PL"),
        ("polygon", "BAC.PRL", "BACpL"),
        ("polygon", "ACHR.WS", "ACHR.WS"),
        ("tiingo", "BAC.PRL", "BAC-P-L"),
        ("alpha_vantage", "BAC.PRL", "BAC-P-L"),
        ("alpaca", "BAC.PRL", "BAC.PRL"),
        ("eodhd", "BAC.PRL", "BAC-PL.US"),
        ("eodhd", "ACHR.WS", "ACHR-WS.US"),
        ("marketstack", "BAC.PRL", None),
        ("yahoo", "REI.UN.TO", "REI-UN.TO"),  # a class of Toronto's is no unit of New York's
        ("yahoo", "BAJAJ-AUTO.NS", "BAJAJ-AUTO.NS"),
        ("alpaca", "BAJAJ-AUTO.NS", None),
        ("openfigi", "BP.L", "BP/"),
        ("openfigi", "BT.A.L", "BT/A"),
        ("openfigi", "NOVO.B.CO", "NOVOB"),
        ("openfigi", "REI.UN.TO", "REI-U"),
        ("openfigi", "0700.HK", "700"),
        ("openfigi", "BAC.PRL", None),
        ("coingecko", "BTC-EUR", None),
        ("coingecko", "NOBODY-USD", None),
        ("coingecko", "COINGECKO:BITCOIN", "bitcoin"),
    ],
)
def test_the_less_usual_are_spelled_too(service: str, symbol: str, spelled: str | None) -> None:
    dataset = "quote" if service in ("coingecko", "finnhub", "alpaca") else "bars"
    dataset = "reference" if service == "openfigi" else dataset
    assert spelling(service, dataset, clean_symbol(symbol)) == spelled


@pytest.mark.parametrize("ticker", ["BTC", "ETH", "GME", "BITCOIN", "SPX", "NDX", "VIX", "EURUSD", "BTCUSD"])
def test_a_plain_ticker_never_gets_the_price_of_a_coin_a_pair_or_an_index(ticker: str) -> None:
    marked = {"fmp": ("EURUSD", "BTCUSD"), "tradier": ("SPX", "NDX", "VIX"), "twelvedata": ("SPX", "NDX")}
    assert spelling("coingecko", "quote", ticker) is None
    for service, names in marked.items():
        pairs = ("EURUSD", "BTCUSD")
        assert (spelling(service, "quote", ticker) is None) == (ticker in (*names, *pairs))


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("LON:VOD", "an exchange stands behind it by its suffix: write VOD.L"),
        ("XLON:VOD", "write VOD.L"),
        ("NASDAQ:AAPL", "write AAPL"),
        ("XNAS:AAPL", "write AAPL"),
        ("NYSE:BRK.B", "write BRK.B"),
        ("HKG:0700", "write 0700.HK"),
        ("AAPL.NASDAQ", "write AAPL"),
        ("BHP.ASX", "write BHP.AX"),
        ("EURUSDT", "write EUR-USDT"),
        ("EURUSD", "a pair has its parts apart: write EUR/USD"),
        ("BTCUSDT", "write BTC-USDT"),
        ("XXBTZUSD", "write BTC-USD"),
        ("US0378331005", "that is an ISIN or a FIGI: write the ticker"),
        ("BBG000B9XRY4", "that is an ISIN or a FIGI: write the ticker"),
        ("7203", "a number is a share's only with its exchange behind it, as in 7203.T"),
    ],
)
@pytest.mark.parametrize("dataset", ["quote", "bars", "news", "reference"])
def test_what_can_be_no_share_is_told_how_to_write_it(dataset: str, text: str, remedy: str) -> None:
    with pytest.raises(InvalidSymbolError) as raised:
        providers_of(dataset, clean_symbol(text))
    assert remedy in str(raised.value)


def test_what_looks_like_an_exchange_may_be_the_company_whose_facts_are_asked_for() -> None:
    assert providers_of("facts", clean_symbol("ETR:ASSETS")) == ("sec_edgar",)
    assert providers_of("observations", clean_symbol("CBBTCUSD"))[0] == "fred"


@pytest.mark.parametrize("coin", ["BTC-USD", "GME-USD", "SOL-USD"])
def test_a_coin_never_gets_the_price_of_the_share_of_its_name(coin: str) -> None:
    base = coin.partition("-")[0]
    for service in providers_of("quote", coin):
        assert spelling(service, "quote", coin) not in (base, f"{base}.US", None)


@pytest.mark.parametrize(
    ("dataset", "symbol", "services"),
    [
        ("quote", "EUR/USD", ("kraken", "twelvedata", "fmp", "eodhd", "yahoo", "ecb")),
        ("quote", "BTC-USD", ("coinbase", "kraken", "twelvedata", "fmp", "eodhd", "yahoo", "coingecko")),
        ("quote", "^GSPC", ("finnhub", "tradier", "twelvedata", "fmp", "eodhd", "yahoo")),
        ("reference", "VOD.L", ("openfigi",)),
        ("news", "VOD.L", ("fmp", "eodhd", "news_api")),
    ],
)
def test_only_those_who_can_have_a_symbol_are_asked(
    dataset: str, symbol: str, services: tuple[str, ...]
) -> None:
    assert providers_of(dataset, symbol) == services


def test_what_nobody_can_have_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    shares = {"reference": Endpoint("/x", Node.rows)}
    nobody = {"openfigi": replace(PROVIDERS["openfigi"], endpoints=shares)}
    monkeypatch.setattr(catalogue, "PROVIDERS", nobody)
    with pytest.raises(InvalidSymbolError, match="'I:SPX'; no provider of reference has such a symbol"):
        providers_of("reference", "I:SPX")
    with pytest.raises(InvalidSymbolError, match=r"'\^GSPC'; no such index there: ask another provider"):
        endpoint_of("alpaca", "quote").spelling("^GSPC")


@pytest.mark.parametrize("alias", ["VOD.L", "vod.xlon", "VOD.LON"])
def test_the_names_of_a_symbol_share_its_keys(alias: str) -> None:
    symbol = clean_symbol(alias)
    assert flight_key("quote", symbol) == "refresh:1:quote:VOD.L:"
    assert question_of("quote", symbol, None, None) == question_of("quote", "VOD.L", None, None)


def test_tokyo_goes_by_the_code_of_all_of_japan_at_twelve_data() -> None:
    for dataset, endpoint in PROVIDERS["twelvedata"].endpoints.items():
        words = endpoint.words("7203.T", NOW)
        assert (words["symbol"], words["venue"]) == ("7203", "XJPX"), dataset
        assert endpoint.words("SAP.DE", NOW)["venue"] == "XETR", dataset


def openfigi(ticker: str) -> object:
    return [{"data": [{"figi": "BBG000B9XRY4", "ticker": ticker, "exchCode": "LN"}]}]


def yahoo(symbol: str) -> object:
    meta = {"symbol": symbol, "regularMarketPrice": 1.5, "regularMarketTime": 1_764_500_000}
    return {"chart": {"result": [{"meta": meta}], "error": None}}


def twelve_data(symbol: str, **more: object) -> object:
    return {"symbol": symbol, "close": "1.5", "timestamp": 1_764_500_000, **more}


def eodhd(code: str) -> object:
    return {"code": code, "close": 1.5, "timestamp": 1_764_500_000}


def coingecko(coin: str) -> object:
    return {coin: {"usd": 1.5, "last_updated_at": 1_764_500_000}}


@pytest.mark.parametrize(
    ("service", "asked", "reply", "kept"),
    [
        ("twelvedata", "VOD.L", twelve_data("VOD", mic_code="XLON"), "VOD.L"),
        ("twelvedata", "VOD.L", twelve_data("VOD", mic_code="XNGS"), None),
        ("twelvedata", "VOD", twelve_data("VOD", mic_code="XNGS"), "VOD"),
        ("twelvedata", "VOD", twelve_data("VOD", mic_code="XLON"), None),
        ("twelvedata", "VOD", twelve_data("VOD"), "VOD"),
        ("twelvedata", "^GSPC", twelve_data("SPX", mic_code="XNYS"), "^GSPC"),
        ("twelvedata", "EURUSD=X", twelve_data("EUR/USD"), "EUR/USD"),
        ("twelvedata", "BTC-USD", twelve_data("BTC/USD", exchange="Binance"), "BTC-USD"),
        ("twelvedata", None, twelve_data("VOD", mic_code="XLON"), "VOD.L"),
        ("openfigi", "VOD.L", openfigi("VOD"), "VOD.L"),
        ("openfigi", "VOD.L", openfigi("BP/"), None),
        ("openfigi", "BP.L", openfigi("BP/"), "BP.L"),
        ("twelvedata", "7203.T", twelve_data("7203", mic_code="XJPX"), "7203.T"),
        ("yahoo", "BAC.PRL", yahoo("BAC-PL"), "BAC.PRL"),
        ("yahoo", "UNI-USD", yahoo("UNI7083-USD"), "UNI-USD"),
        ("coingecko", "BTC-USD", coingecko("bitcoin"), "BTC-USD"),
        ("coingecko", "BTC-USD", coingecko("ethereum"), None),
        ("coingecko", "COINGECKO:BITCOIN", coingecko("bitcoin"), "COINGECKO:BITCOIN"),
        ("eodhd", "BTC-USD", eodhd("BTC-USD.CC"), "BTC-USD"),
        ("eodhd", "BRK.B", eodhd("BRK-B.US"), "BRK.B"),
        ("eodhd", "VOD", eodhd("VOD.LSE"), None),
        ("eodhd", None, eodhd("VOD.LSE"), "VOD.L"),
        ("fmp", "EUR/USD", [{"symbol": "EURUSD", "price": 1.5, "timestamp": 1_764_500_000}], "EUR/USD"),
    ],
)
def test_a_reply_in_the_providers_spelling_is_ours_and_one_about_another_is_drift(
    service: str, asked: str | None, reply: object, kept: str | None
) -> None:
    dataset = "reference" if service == "openfigi" else "quote"
    judgement = judge(service, dataset, 200, {}, json.dumps(reply).encode(), symbol=asked)
    if kept is None:
        assert (judgement.verdict, "is about" in judgement.detail) == ("provider_failure", True), judgement
    else:
        assert judgement.record.symbol == kept, judgement


TEXTS = st.one_of(
    st.from_regex(r"\A\^?[A-Za-z0-9]{1,6}([.\-/][A-Za-z]{1,5}){0,2}\Z"),
    st.from_regex(r"\A[A-Za-z]{3,4}[-/=][A-Za-z]{1,4}\Z"),
    st.text("AbZ09._-^=:/", min_size=1, max_size=40),
    st.sampled_from([f"ABC.{name}" for row in EXCHANGES for name in (row.mic, row.suffix, *row.also)]),
)


@settings(deadline=None)
@example("DB:..")
@example("WB:USA:..")
@given(TEXTS)
def test_a_clean_symbol_is_clean_and_every_spelling_of_it_is_safe(text: str) -> None:
    try:
        symbol = clean_symbol(text)
    except InvalidSymbolError:
        return
    assert clean_symbol(symbol) == symbol
    assert parse(symbol) == parse(text)
    assert len(symbol) <= 128
    assert symbol.isascii()
    assert not set(symbol) & set(" \r\n%?#&{}\\")
    for service, dataset in ENDPOINTS:
        row, endpoint = PROVIDERS[service], endpoint_of(service, dataset)
        if spelling(service, dataset, symbol) is None:
            continue
        words = endpoint.words(symbol, NOW)
        request = _request(row, endpoint, words, row.base_url, None, None)
        path = urlsplit(str(request.url)).path
        own = endpoint.path.format_map({name: quote(word, safe="/") for name, word in words.items()})
        assert path == urlsplit(row.base_url).path + own
        asked = {name: value.format_map(words) for name, value in endpoint.params.items()}
        assert dict(request.url.params) == {name: value for name, value in asked.items() if value}

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from celery import Celery

from resilience import CIRCUIT_BREAKERS, CircuitBreaker, configure, get_circuit_breaker
from tasks.errors import (
    InvalidSymbolError,
    MissingContactError,
    MissingKeyError,
    SettingsError,
    UnknownAdjustmentError,
    UnknownServiceError,
)
from tasks.fetch import limits, register
from tasks.providers import ORDER, PROVIDERS, adjustments_of, catalogue, clean_symbol, providers_of
from tasks.records import DATASETS, TABLE
from tasks.settings import (
    Freshness,
    ProviderSettings,
    provider_settings,
    require_contact,
    require_key,
)

KEY = "sekret0123456789"


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No provider variable, and an empty current directory."""
    for dataset in DATASETS:
        monkeypatch.delenv(f"{dataset.upper()}_FRESH_SECONDS", raising=False)
        monkeypatch.delenv(f"{dataset.upper()}_MAX_SECONDS", raising=False)
    monkeypatch.delenv("NOT_FOUND_SECONDS", raising=False)
    for service in PROVIDERS:
        monkeypatch.delenv(f"{service.upper()}_API_KEY", raising=False)
        monkeypatch.delenv(f"{service.upper()}_BASE_URL", raising=False)
        monkeypatch.delenv(f"{service.upper()}_CONTACT", raising=False)
        monkeypatch.delenv(f"{service.upper()}_PLAN", raising=False)
    monkeypatch.chdir(tmp_path)
    provider_settings.cache_clear()
    yield
    provider_settings.cache_clear()


@pytest.mark.parametrize("service", PROVIDERS)
def test_every_provider_of_the_catalogue_has_its_variables(
    service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ProviderSettings().api_key(service) is None
    assert ProviderSettings().base_url(service) == PROVIDERS[service].base_url
    assert ProviderSettings().base_url_override(service) is None
    auth = PROVIDERS[service].auth
    key = f"{KEY}:secret" if auth and auth.style == "pair" else KEY
    monkeypatch.setenv(f"{service.upper()}_API_KEY", f"  {key}\n")
    monkeypatch.setenv(f"{service.upper()}_BASE_URL", "http://127.0.0.1:8901/v1/")
    settings = ProviderSettings()
    assert settings.api_key(service) == key
    assert settings.base_url(service) == settings.base_url_override(service) == "http://127.0.0.1:8901/v1"
    assert settings.keys() == (auth.spellings(key) if auth else {key})


def test_the_file_is_read_and_the_environment_wins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    lines = [
        "FINNHUB_API_KEY='from-file'",
        "ALPHA_VANTAGE_API_KEY=from-file",
        "IEX_CLOUD_API_KEY=",
        "OTHER=1",
    ]
    (tmp_path / ".env").write_text("\n".join(lines))
    monkeypatch.setenv("ALPHA_VANTAGE_API_KEY", "from-environment")
    settings = ProviderSettings()
    keys = {service: settings.api_key(service) for service in PROVIDERS if settings.api_key(service)}
    assert keys == {"alpha_vantage": "from-environment", "finnhub": "from-file"}


def test_a_file_that_is_no_text_is_told(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"FINNHUB_API_KEY=\xff\xfe")
    with pytest.raises(SettingsError, match=r"\.env: it cannot be read .*; save it as UTF-8"):
        ProviderSettings()


@pytest.mark.parametrize(
    "url",
    [
        "finnhub.io",
        "ftp://finnhub.io",
        "https://",
        "https://host:99999",
        "https://host:port",
        "https://host/a b",
        f"https://user:{KEY}@host",
        f"https://host/?token={KEY}",
        f"https://host/#{KEY}",
        "https://[::1",
    ],
)
def test_a_bad_address_is_told_with_variable_value_and_remedy_but_no_secret(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FINNHUB_BASE_URL", url)
    with pytest.raises(
        SettingsError, match=r"FINNHUB_BASE_URL: '.+': .+; write it as https://host"
    ) as caught:
        ProviderSettings()
    assert KEY not in f"{caught.value!r} {caught.value}"
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    "key", [f"{KEY} twice", f"{KEY}\nX-Header: 1", f"{KEY}\rX: 1", f"{KEY}\x1b[31m", f"{KEY}é", KEY * 100]
)
def test_a_key_that_fits_no_header_is_told_but_not_shown(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINNHUB_API_KEY", key)
    with pytest.raises(SettingsError, match=r"FINNHUB_API_KEY: .+; write the key alone") as caught:
        ProviderSettings()
    assert KEY not in f"{caught.value!r} {caught.value}"


def test_settings_do_not_show_keys() -> None:
    assert KEY not in repr(ProviderSettings(finnhub_api_key=KEY))


def test_a_missing_key_is_told_with_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        MissingKeyError, match=r"^FINNHUB_API_KEY is not set; put it in the environment or \.env$"
    ):
        require_key("finnhub")
    monkeypatch.setenv("FINNHUB_API_KEY", KEY)
    with pytest.raises(MissingKeyError):  # read once
        require_key("finnhub")
    provider_settings.cache_clear()
    assert require_key("finnhub") == KEY


def test_an_unknown_service_is_told() -> None:
    with pytest.raises(UnknownServiceError):
        ProviderSettings().api_key("yahu")


@pytest.mark.parametrize("service", PROVIDERS)
def test_a_row_of_the_catalogue_is_consistent(service: str) -> None:
    row = PROVIDERS[service]
    assert row.service == service
    assert service.isidentifier()
    assert service == service.lower()
    assert row.base_url.startswith("https://")
    assert not row.base_url.endswith("/")
    assert set(row.endpoints) <= set(DATASETS)
    for endpoint in row.endpoints.values():
        assert endpoint.path.startswith("/")
        assert "{symbol" in f"{endpoint.path} {dict(endpoint.params)} {endpoint.body}"
        assert endpoint.words(clean_symbol(endpoint.example), datetime.now(UTC))["symbol"]
    assert {name for name, endpoint in row.endpoints.items() if endpoint.adjustment} == {
        name for name in row.endpoints if "adjustment" in DATASETS[name].model_fields
    }
    assert row.auth or not row.key_required
    for matcher in row.matchers:
        assert matcher.path or matcher.statuses, "a whole body may hold any text"
    assert not row.retired or row.note, "an operator is to know why, and what to use instead"


def test_the_order_of_a_dataset_names_the_providers_that_serve_it() -> None:
    for dataset, services in ORDER.items():
        assert set(services) == {service for service, row in PROVIDERS.items() if dataset in row.endpoints}
        assert len(set(services)) == len(services)
    assert set(ORDER) <= set(DATASETS)


def test_bars_of_one_adjustment_fail_over_to_each_other_and_the_first_in_the_order_says_to_which() -> None:
    given = {service: PROVIDERS[service].endpoints["bars"].adjustment for service in ORDER["bars"]}
    coins = ("coinbase", "kraken", "binance")
    default = [service for service in ORDER["bars"] if given[service] == "raw" and service not in coins]
    assert providers_of("bars", "AAPL") == providers_of("bars", "AAPL", "raw") == tuple(default)
    assert {given[service] for service in providers_of("bars", "AAPL", "split")} == {"split"}
    assert adjustments_of("bars") == ("raw", "split", "all")
    assert adjustments_of("quote") == ()
    for adjustment, dataset in (("half", "bars"), ("raw", "quote")):
        with pytest.raises(UnknownAdjustmentError, match=rf"unknown adjustment '{adjustment}' of {dataset};"):
            providers_of(dataset, "AAPL", adjustment)


def test_a_retired_provider_does_not_say_what_bars_are_adjusted_for(monkeypatch: pytest.MonkeyPatch) -> None:
    first = providers_of("bars", "AAPL")
    gone = {service: replace(PROVIDERS[service], retired="2026-01-01", note="gone") for service in first}
    monkeypatch.setattr(catalogue, "PROVIDERS", {**PROVIDERS, **gone})
    assert providers_of("bars", "AAPL") == providers_of("bars", "AAPL", "split")


@pytest.mark.parametrize("dataset", DATASETS)
def test_every_dataset_has_its_limits_of_age(dataset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ProviderSettings().freshness(dataset) == TABLE[dataset].freshness
    monkeypatch.setenv(f"{dataset.upper()}_FRESH_SECONDS", " 1.5 ")
    monkeypatch.setenv(f"{dataset.upper()}_MAX_SECONDS", "90")
    assert ProviderSettings().freshness(dataset) == Freshness(1.5, 90)
    assert ProviderSettings().not_found_seconds == 600


@pytest.mark.parametrize(
    ("variable", "value", "why"),
    [
        ("QUOTE_MAX_SECONDS", "5d", "valid number"),
        ("QUOTE_MAX_SECONDS", "nan", "less than or equal|greater than or equal"),
        ("QUOTE_MAX_SECONDS", "inf", "less than or equal"),
        ("QUOTE_MAX_SECONDS", "0", "greater than or equal to 1"),
        ("QUOTE_FRESH_SECONDS", "-1", "greater than or equal to 1"),
        ("QUOTE_FRESH_SECONDS", "432001", "more than QUOTE_MAX_SECONDS, which is 432000"),
        ("NOT_FOUND_SECONDS", "-1", "greater than or equal to 0"),
        ("NOT_FOUND_SECONDS", "86401", "less than or equal to 86400"),
    ],
)
def test_a_bad_limit_is_told_with_variable_value_and_remedy(
    variable: str, value: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError, match=rf"^{variable}: '{value}': .*({why}).*; write seconds") as caught:
        ProviderSettings()
    assert caught.value.__suppress_context__


def test_a_limit_below_what_is_fresh_by_default_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BARS_MAX_SECONDS", "600")
    with pytest.raises(SettingsError, match="BARS_FRESH_SECONDS: '86400': it is more than BARS_MAX_SECONDS"):
        ProviderSettings()


def test_a_contact_is_asked_for_with_its_variable_and_must_hold_an_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(MissingContactError, match=r"^SEC_EDGAR_CONTACT is not set; put a name and an e-mail"):
        require_contact("sec_edgar", ProviderSettings())
    assert require_contact("finnhub", ProviderSettings()) is None
    monkeypatch.setenv("SEC_EDGAR_CONTACT", " Example Research admin@example.com ")
    settings = ProviderSettings()
    assert require_contact("sec_edgar", settings) == "Example Research admin@example.com"
    assert settings.is_set_up("sec_edgar")
    assert not settings.is_set_up("finnhub")
    assert settings.fingerprint("sec_edgar") not in (
        "",
        ProviderSettings(sec_edgar_contact="a@b").fingerprint("sec_edgar"),
    )
    for bad in ("nobody", "@", "a@b\nX: 1", "a@b\r\nX: 1", "a@b\x1b[31m", "é@b"):
        monkeypatch.setenv("SEC_EDGAR_CONTACT", bad)
        with pytest.raises(SettingsError, match=r"SEC_EDGAR_CONTACT: .+; write a name and an e-mail address"):
            ProviderSettings()


def test_a_plan_may_be_asked_at_another_host_with_another_header_and_its_key_is_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    demo = ProviderSettings(coingecko_api_key=KEY)
    assert demo.row("coingecko") == PROVIDERS["coingecko"]
    assert ProviderSettings(coingecko_plan="demo").row("coingecko") == PROVIDERS["coingecko"]
    monkeypatch.setenv("COINGECKO_PLAN", " pro ")
    pro = ProviderSettings(coingecko_api_key=KEY)
    assert pro.base_url("coingecko") == "https://pro-api.coingecko.com/api/v3"
    auth = pro.row("coingecko").auth
    assert auth is not None
    assert auth.headers(KEY) == {"x-cg-pro-api-key": KEY}
    assert pro.fingerprint("coingecko") != demo.fingerprint("coingecko"), "refused under the other plan"
    assert KEY in frozenset(pro.keys())
    own = ProviderSettings(coingecko_base_url="http://127.0.0.1:8901")
    assert own.base_url("coingecko") == "http://127.0.0.1:8901", "an address set by hand counts more"
    with pytest.raises(MissingKeyError, match="COINGECKO_API_KEY"):
        require_key("coingecko", ProviderSettings())
    monkeypatch.setenv("COINGECKO_PLAN", "gold")
    with pytest.raises(
        SettingsError,
        match=r"^COINGECKO_PLAN: 'gold': it is none of demo, pro; write one of them; unset it is demo$",
    ):
        ProviderSettings()


@pytest.mark.usefixtures("own_circuits")
def test_a_plans_quota_is_its_circuits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRADIER_PLAN", "sandbox")
    monkeypatch.setenv("COINGECKO_PLAN", "pro")
    register(Celery("catalogue", set_as_current=False))
    assert get_circuit_breaker("tradier").policy.quota_calls == 60
    assert get_circuit_breaker("coingecko").policy.quota_calls is None
    monkeypatch.setenv("TRADIER_PLAN", "nonsense")
    provider_settings.cache_clear()
    register(Celery("catalogue", set_as_current=False))
    assert get_circuit_breaker("tradier").policy.quota_calls == 120, "the call says what is wrong with it"


def test_a_symbol_only_some_providers_can_have_goes_to_those() -> None:
    assert "sec_edgar" in providers_of("filings", "0000320193")
    assert "finnhub" not in providers_of("filings", "0000320193")
    assert "sec_edgar" in providers_of("filings", "AAPL")
    with pytest.raises(InvalidSymbolError, match="give a ticker listed in the US"):
        providers_of("filings", "BTC=F")
    assert "fred" not in providers_of("observations", "LBMA:GOLD")
    assert "quandl" not in providers_of("observations", "UNRATE")
    assert "stooq" not in providers_of("bars", "^GSPC")
    with pytest.raises(InvalidSymbolError, match="openfigi is asked for shares only"):
        providers_of("reference", "COINGECKO:BITCOIN")
    assert providers_of("filings") == ORDER["filings"]
    rates = ("coinbase", "kraken", "binance", "ecb")
    assert providers_of("quote", "AAPL") == tuple(
        service
        for service in ORDER["quote"]
        if service not in rates and not PROVIDERS[service].endpoints["quote"].prefix
    )


KEYLESS = ("coinbase", "kraken", "binance", "ecb")


@pytest.mark.parametrize(
    ("symbol", "services", "spelled"),
    [
        ("BTC-USD", ("coinbase", "kraken"), ("BTC-USD", "XBTUSD")),
        ("xbt/eur", ("coinbase", "kraken", "binance"), ("BTC-EUR", "XBTEUR", "BTCEUR")),
        ("DOGE-USDT", ("coinbase", "kraken", "binance"), ("DOGE-USDT", "XDGUSDT", "DOGEUSDT")),
        ("ETH-BTC", ("coinbase", "kraken", "binance"), ("ETH-BTC", "ETHXBT", "ETHBTC")),
        ("SOL-TRY", ("binance",), ("SOLTRY",)),
        ("EUR/USD", ("kraken", "ecb"), ("EURUSD", "USD")),
        ("EURUSD=X", ("kraken", "ecb"), ("EURUSD", "USD")),
        ("EUR-CHF", ("kraken", "ecb"), ("EURCHF", "CHF")),
        ("EUR/SEK", ("ecb",), ("SEK",)),
        ("USD/JPY", ("kraken",), ("USDJPY",)),
        ("USD/EUR", (), ()),
        ("AAPL", (), ()),
        ("BRK.B", (), ()),
        ("^GSPC", (), ()),
        ("COINGECKO:BITCOIN", (), ()),
    ],
)
def test_a_coin_or_a_rate_is_asked_only_of_who_has_such_and_a_share_of_none_of_these(
    symbol: str, services: tuple[str, ...], spelled: tuple[str, ...]
) -> None:
    symbol = clean_symbol(symbol)
    asked = [service for service in providers_of("quote", symbol) if service in KEYLESS]
    assert tuple(asked) == services
    found = [PROVIDERS[service].endpoints["quote"].spelling(symbol) for service in services]
    assert tuple(found) == spelled


@pytest.mark.parametrize(
    "symbol", ["ECB:EXR", "ECB:EXR:D..EUR.SP00.A", "ECB:EXR:D.USD.", "ECB:EXR:", "ECB:A:B:C"]
)
def test_a_series_of_the_ecb_is_one_and_by_dataflow_and_key(symbol: str) -> None:
    with pytest.raises(InvalidSymbolError, match=r"as in ECB:EXR:D\.USD\.EUR\.SP00\.A"):
        providers_of("observations", symbol)


@pytest.mark.parametrize(
    ("symbol", "services"),
    [
        ("UNRATE", ("fred",)),  # no colon
        ("LBMA:GOLD", ("quandl",)),  # one, between a database and a dataset
        ("FRED:GDP", ("quandl",)),  # its copy of them
        ("WORLDBANK:USA_GDP", ("quandl",)),
        ("USTREASURY:YIELD", ("quandl",)),
        ("WB:USA:NY.GDP.MKTP.CD", ("world_bank",)),
        ("UST:TREASURY-BILLS", ("us_treasury",)),
        ("ECB:EXR:D.USD.EUR.SP00.A", ("ecb",)),
    ],
)
def test_a_series_id_tells_which_provider_it_is_of(symbol: str, services: tuple[str, ...]) -> None:
    assert providers_of("observations", symbol) == services


@pytest.mark.parametrize(
    "symbol", ["UNRATE", "A:B:C", "WB:GDP", "WB:USA:NY.GDP.MKTP.CD", "UST:TREASURY-BILLS"]
)
def test_quandl_is_asked_for_no_id_of_another_provider(symbol: str) -> None:
    with pytest.raises(InvalidSymbolError, match=r"database:dataset, as in LBMA:GOLD"):
        PROVIDERS["quandl"].endpoints["observations"].spelling(symbol)


@pytest.mark.parametrize(
    ("service", "dataset", "symbol", "spelling"),
    [
        ("world_bank", "observations", "WB:USA:NY.GDP.MKTP.CD", "USA/indicator/NY.GDP.MKTP.CD"),
        ("world_bank", "observations", "WB:1W:SP.POP.TOTL", "1W/indicator/SP.POP.TOTL"),
        ("stooq", "bars", "AAPL", "AAPL.US"),
        ("stooq", "bars", "BRK.B", "BRK-B.US"),
        ("openfigi", "reference", "BRK.B", "BRK/B"),
        ("us_treasury", "observations", "UST:TREASURY-BILLS", "Treasury Bills"),
        ("us_treasury", "observations", "UST:TOTAL-NON-MARKETABLE", "Total Non-marketable"),
    ],
)
def test_a_symbol_is_spelled_as_its_provider_does(
    service: str, dataset: str, symbol: str, spelling: str
) -> None:
    assert PROVIDERS[service].endpoints[dataset].spelling(clean_symbol(symbol)) == spelling


@pytest.mark.parametrize("symbol", ["WB:NY.GDP.MKTP.CD", "WB:ALL:SP.POP.TOTL", "WB:USA:A:B", "WB:..:SP.POP"])
def test_a_series_of_no_country_or_of_all_is_refused(symbol: str) -> None:
    with pytest.raises(InvalidSymbolError, match=r"write one country's code .+ as in WB:USA:NY\.GDP"):
        providers_of("observations", clean_symbol(symbol))


def test_a_symbol_with_a_providers_prefix_is_its_alone_and_it_is_asked_for_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    row = PROVIDERS["finnhub"]
    quote = replace(
        row.endpoints["quote"], prefix="FH:", example="FH:AAPL", spell=lambda symbol: symbol.text.lower()
    )
    rows = {**PROVIDERS, "finnhub": replace(row, endpoints={"quote": quote})}
    monkeypatch.setattr(catalogue, "PROVIDERS", rows)
    assert providers_of("quote", "FH:GME") == ("finnhub",)
    assert "finnhub" not in providers_of("quote", "GME")
    assert quote.words("FH:GME", datetime.now(UTC))["symbol"] == "gme"
    with pytest.raises(InvalidSymbolError, match="'GME'; write it with FH: before it, as in FH:AAPL"):
        quote.words("GME", datetime.now(UTC))


@pytest.fixture
def own_circuits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Circuits as those of the process, but for this test alone."""
    for service in PROVIDERS:
        found = CIRCUIT_BREAKERS.get(service)
        breaker = CircuitBreaker(service, policy=found and found.policy)
        monkeypatch.setitem(CIRCUIT_BREAKERS, service, breaker)


@pytest.mark.usefixtures("own_circuits")
def test_the_circuits_of_the_catalogue_double_their_open_time_and_those_of_others_do_not() -> None:
    register(Celery("catalogue", set_as_current=False))
    for service, row in PROVIDERS.items():
        policy = get_circuit_breaker(service).policy
        assert (policy.timeout_cap_seconds, policy.jitter, policy.call_seconds) == (
            *(600, 0.2),
            row.deadline_seconds,
        )
        assert policy.open_micros(0, 1) == policy.timeout_seconds * 1e6
        assert row.connect_seconds <= row.deadline_seconds
        assert row.read_seconds <= row.deadline_seconds
    few = {name for name in PROVIDERS if get_circuit_breaker(name).failure_threshold == 3}
    assert few == {"finnhub", "quandl", "sec_edgar", "eodhd", "marketstack"}
    assert CircuitBreaker("another").policy.timeout_cap_seconds is None


@pytest.mark.usefixtures("own_circuits")
def test_an_open_time_above_the_catalogues_cap_may_be_set(tmp_path: Path) -> None:
    register(Celery("catalogue", set_as_current=False))
    file = tmp_path / "circuits.toml"
    file.write_text("[finnhub]\ntimeout_seconds = 7200\n")
    configure(file, PROVIDERS)
    assert get_circuit_breaker("finnhub").policy.open_micros(5, 1) == 7200 * 10**6


def test_a_providers_documented_limits_are_its_circuits_unless_its_address_is_set_by_hand(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert limits(PROVIDERS["finnhub"]) == {
        "quota_calls": 60,
        "quota_seconds": 60,
        "quota_burst": 3,
        "quota_strict": True,
        "max_concurrent": None,
    }
    # Too many to be kept one by one: fifty at once make no more than 50 000 a day.
    assert limits(PROVIDERS["quandl"])["quota_calls"] == 49_951
    assert limits(PROVIDERS["iex_cloud"]) == {"max_concurrent": None}
    monkeypatch.setenv("FINNHUB_BASE_URL", "http://127.0.0.1:8901")
    provider_settings.cache_clear()
    assert limits(PROVIDERS["finnhub"]) == {}

"""Refusals as they are met: whose they are, and what they say.

A provider's own documented replies stand in `tests.contract.replies`; here stand those that its users report,
and those of what stands in between. Each names where it can be seen; the wording is reduced to what tells.
"""

from typing import NamedTuple

import pytest

from tasks.providers import PROVIDERS, judge
from tests.contract.replies import encoded
from workers.simulator.replies.refusals import Refusal, refusal_of

DATASET = {service: next(iter(row.endpoints)) for service, row in PROVIDERS.items()}
KEYLESS = [service for service, row in PROVIDERS.items() if row.auth is None]
HTML = {"Content-Type": "text/html; charset=UTF-8"}
TEXT = {"Content-Type": "text/plain; charset=UTF-8"}
DAY, MONTH = 86_400, 31 * 86_400


class Met(NamedTuple):
    """A reply that somebody has met.

    Attributes:
        service: Whose.
        status: HTTP status.
        body: Text, or what JSON can say.
        verdict: The class it must have.
        source: Where such a reply can be seen.
        hold: Seconds it must hold; None for any.
        headers: Response headers.
    """

    service: str
    status: int
    body: object
    verdict: str
    source: str
    hold: float | None = None
    headers: dict[str, str] | None = None


REPORTED = [
    Met("finnhub", 401, {"error": "Invalid API key"}, "auth", "finnhubio/Finnhub-API#582", 300),
    Met("finnhub", 401, {"error": "Invalid API key."}, "auth", "finnhubio/Finnhub-API#582", 300),
    Met("finnhub", 401, {"error": "Please use an API key."}, "auth", "finnhubio/Finnhub-API#506"),
    Met("finnhub", 401, {"error": "You don't have access to this resource."}, "entitlement", "…#405", DAY),
    Met("finnhub", 403, {"error": "You don\u2019t have access to this resource."}, "entitlement", "…#493"),
    Met("finnhub", 429, {"error": "API limit reached. Please try again later."}, "rate_limit", "…#122", 60),
    Met("finnhub", 422, {"error": "Symbol not found"}, "not_found", "finnhubio/Finnhub-API"),
    Met(
        "alpha_vantage",
        200,
        {
            "Information": (
                "Burst pattern detected. Please consider spreading out your API requests more "
                "evenly across a 1-minute window and query no more than 30 requests per "
                "second."
            )
        },
        "rate_limit",
        "commercial keys, 2026",
        2,
    ),
    Met(
        "alpha_vantage",
        200,
        {
            "Information": (
                "Minute-level rate limit exceed. Please stay under the number of API requests "
                "per minute for your premium subscription plan."
            )
        },
        "rate_limit",
        "aqp's test_payload_error_classification",
        60,
    ),
    Met(
        "alpha_vantage",
        200,
        {"Note": ("Thank you for using Alpha Vantage! Our standard API rate limit is 25 requests per day.")},
        "quota",
        "RomelTorres/alpha_vantage#80 and later",
    ),
    Met(
        "alpha_vantage",
        200,
        {
            "Information": (
                "The outputsize=full parameter value is a premium feature for the TIME_SERIES_DAILY endpoint."
            )
        },
        "entitlement",
        "lavolp3/MMM-AVStock#62",
        DAY,
    ),
    Met(
        "alpha_vantage",
        200,
        {"Information": "Invalid API call. Please retry or visit the documentation."},
        "not_found",
        "aqp's test_payload_error_classification",
    ),
    Met("polygon", 401, {"status": "ERROR", "error": "API Key was not provided"}, "auth", "its SDKs' tests"),
    Met(
        "polygon",
        403,
        {"status": "NOT_AUTHORIZED", "message": "Your plan doesn't include this data timeframe."},
        "entitlement",
        "public probes of 2026-07",
    ),
    Met(
        "polygon",
        403,
        {
            "status": "ERROR",
            "message": (
                "You are not entitled to this data. Please upgrade your plan at https://example.com/pricing"
            ),
        },
        "entitlement",
        "its SDKs' tests",
        DAY,
    ),
    Met(
        "polygon",
        200,
        {
            "status": "ERROR",
            "error": (
                "You've exceeded the maximum requests per minute, please wait or upgrade your subscription"
            ),
        },
        "rate_limit",
        "its SDKs' tests",
        60,
    ),
    Met(
        "tiingo",
        403,
        {"detail": "You do not have permission to access the News API"},
        "entitlement",
        "hydrosquall/tiingo-python#1076",
    ),
    Met("tiingo", 404, {"detail": "Not found."}, "not_found", "hydrosquall/tiingo-python"),
    Met("alpaca", 403, {"message": "forbidden."}, "auth", "alpacahq/Alpaca-API#228"),
    Met("alpaca", 401, {"code": 40110000, "message": "request is not authorized"}, "auth", "its error codes"),
    Met("alpaca", 429, {"code": 42910000, "message": "rate limit exceeded"}, "rate_limit", "its error codes"),
    Met(
        "alpaca",
        403,
        ("<html>\n<head><title>403 Forbidden</title></head>\n<body><center>nginx</center></body></html>"),
        "provider_failure",
        "alpacahq/alpaca-trade-api-go#276",
        headers=HTML,
    ),
    Met("tradier", 401, "Invalid Access Token", "auth", "its users' guides"),
    Met(
        "tradier",
        401,
        "invalid api call as no apiproduct match found",
        "auth",
        "a sandbox's token; users' guides",
    ),
    Met(
        "tradier",
        401,
        {
            "fault": {
                "faultstring": "Invalid Access Token",
                "detail": {"errorcode": "keymanagement.service.invalid_access_token"},
            }
        },
        "auth",
        "Apigee's error table",
    ),
    Met(
        "twelvedata",
        200,
        {
            "code": 429,
            "message": (
                "You have run out of API credits for the current minute. 27 API credits were "
                "used, with the current limit being 8."
            ),
            "status": "error",
        },
        "rate_limit",
        "its clients' tests",
        60,
    ),
    Met(
        "twelvedata",
        429,
        {
            "code": 429,
            "message": (
                "You have run out of API credits for the day. The current limit being 800 API "
                "credits per day."
            ),
            "status": "error",
        },
        "quota",
        "its clients' tests",
        DAY,
    ),
    Met(
        "twelvedata",
        401,
        {
            "code": 401,
            "message": (
                "**apikey** parameter is incorrect or not specified. You can get your free API key instantly"
            ),
            "status": "error",
        },
        "auth",
        "its clients' tests",
    ),
    Met(
        "intrinio",
        401,
        {"error": "Authorization Error", "message": "An authorized API key is required to access this data."},
        "auth",
        "OpenBB-finance/OpenBB#7081",
    ),
    Met(
        "intrinio",
        403,
        {"error": "Subscription Error", "message": "An active subscription is required to view this data."},
        "entitlement",
        "OpenBB-finance/OpenBB#7081",
    ),
    Met(
        "news_api",
        426,
        {
            "status": "error",
            "code": "parameterInvalid",
            "message": (
                "You are trying to request results too far in the past. Your plan permits you "
                "to request articles as far back as 2026-10-29"
            ),
        },
        "entitlement",
        "its users' recordings",
        DAY,
    ),
    Met(
        "news_api",
        200,
        {
            "status": "error",
            "code": "parameterInvalid",
            "message": (
                "You are trying to request results too far in the past. Your plan permits you "
                "to request articles as far back as 2026-10-29"
            ),
        },
        "entitlement",
        "its users' recordings",
    ),
    Met("benzinga", 401, ['Access denied for user 0 "anonymous"'], "auth", "OpenBB's benzinga helpers", 300),
    Met(
        "quandl",
        403,
        {"quandl_error": {"code": "QEPx04", "message": "A valid API key is required to retrieve data."}},
        "auth",
        "public probes of 2026",
    ),
    Met(
        "quandl",
        403,
        {
            "quandl_error": {
                "code": "QEPx04",
                "message": (
                    "You do not have permission to view this dataset. Please subscribe to this "
                    "database to get access."
                ),
            }
        },
        "entitlement",
        "its clients' tests",
    ),
    Met(
        "fmp",
        402,
        (
            "Premium Query Parameter: 'Special Endpoint : This value set for 'symbol' is "
            "not available under your current subscription"
        ),
        "entitlement",
        "its users' recordings of 2026",
        DAY,
        headers=TEXT,
    ),
    Met(
        "fmp",
        403,
        {
            "Error Message": (
                "Exclusive Endpoint : This endpoint is not available under your current "
                "subscription agreement, please visit our subscription page to upgrade your "
                "plan"
            )
        },
        "entitlement",
        "its users' recordings",
        DAY,
    ),
    Met(
        "fmp",
        200,
        {
            "Error Message": (
                "Exclusive Endpoint : This endpoint is not available under your current "
                "subscription agreement, please visit our subscription page to upgrade your "
                "plan"
            )
        },
        "entitlement",
        "JerBouma/FinanceToolkit's helpers",
    ),
    Met(
        "fmp",
        402,
        "Premium Query Parameter: the values for 'limit' must be between 0 and 5",
        "entitlement",
        "2026",
    ),
    Met(
        "fmp",
        401,
        {"Error Message": "Account suspended. Please contact support."},
        "auth",
        "a client's table of refusals",
    ),
    Met(
        "fmp", 429, {"Error Message": "Bandwidth Limit Reach . Please upgrade your plan"}, "quota", "the same"
    ),
    Met(
        "eodhd",
        401,
        "Unauthenticated",
        "auth",
        "probed in 2026-06; text/html though no page",
        300,
        headers=HTML,
    ),
    Met(
        "eodhd",
        403,
        "Only EOD data allowed for free users",
        "entitlement",
        "probed in 2026-06",
        DAY,
        headers=HTML,
    ),
    Met(
        "eodhd",
        423,
        "Bulk requests are prohibited for free users",
        "entitlement",
        "probed in 2026-06",
        DAY,
        headers=HTML,
    ),
    Met(
        "marketstack",
        401,
        {"error": {"code": "invalid_access_key", "message": "You have not supplied a valid API Access Key."}},
        "auth",
        "docs.apilayer.com",
    ),
    Met(
        "marketstack",
        401,
        {"error": {"code": "missing_access_key", "message": "You have not supplied an API Access Key."}},
        "auth",
        "docs.apilayer.com",
    ),
    Met(
        "marketstack",
        401,
        {"error": {"code": "inactive_user", "message": "User account is inactive or blocked."}},
        "auth",
        "docs.apilayer.com",
    ),
    Met(
        "marketstack",
        403,
        {
            "error": {
                "code": "function_access_restricted",
                "message": "Your current subscription plan does not support this API function.",
            }
        },
        "entitlement",
        "docs.apilayer.com",
    ),
    Met(
        "marketstack",
        403,
        {
            "error": {
                "code": "https_access_restricted",
                "message": (
                    "Access Restricted - Your current Subscription Plan does not support HTTPS Encryption."
                ),
            }
        },
        "entitlement",
        "docs.apilayer.com",
    ),
    Met(
        "marketstack",
        429,
        {"error": {"code": "monthly_limit_reached", "message": "Your monthly usage limit has been reached."}},
        "quota",
        "a client's table of codes",
        MONTH,
    ),
    Met(
        "coingecko",
        400,
        {
            "status": {
                "error_code": 10010,
                "error_message": (
                    "If you are using Pro API key, please change your root URL from "
                    "api.coingecko.com to pro-api.coingecko.com"
                ),
            }
        },
        "auth",
        "koala73/worldmonitor#4313",
        300,
    ),
    Met(
        "coingecko",
        400,
        {
            "status": {
                "error_code": 10011,
                "error_message": (
                    "If you are using Demo API key, please change your root URL from "
                    "pro-api.coingecko.com to api.coingecko.com"
                ),
            }
        },
        "auth",
        "docs.coingecko.com",
    ),
    Met(
        "coingecko",
        400,
        {
            "error_code": 10010,
            "status": {
                "error_message": "If you are using Pro API key, please change your root URL from a to b"
            },
        },
        "auth",
        "another of its shapes",
    ),
    Met(
        "coingecko",
        401,
        {
            "error": {
                "status": {
                    "error_code": 10012,
                    "error_message": (
                        "Public API users are limited to querying historical data within the past 365 days."
                    ),
                }
            }
        },
        "entitlement",
        "its users' tests",
        DAY,
    ),
    Met(
        "coingecko", 429, "Throttled", "rate_limit", "jonasW3F/staking-rewards-collector#9", 60, headers=TEXT
    ),
    Met(
        "coingecko",
        429,
        {"status": {"error_code": 10006, "error_message": "You've exceeded your monthly call credits."}},
        "quota",
        "no recording",
        MONTH,
    ),
    Met(
        "fred",
        400,
        {
            "error_code": 400,
            "error_message": "Bad Request.  The value for variable api_key is not registered.",
        },
        "auth",
        "its clients' tests",
    ),
    Met(
        "fred",
        403,
        ("<HTML><HEAD><TITLE>Access Denied</TITLE></HEAD><BODY>Reference&#32;&#35;18&#46;1</BODY></HTML>"),
        "provider_failure",
        "netbirdio/netbird#3670",
        headers=HTML,
    ),
    Met(
        "iex_cloud",
        402,
        ("You have exceeded your allotted message quota. Please enable pay-as-you-go to regain access"),
        "quota",
        "its users' recordings",
    ),
    Met(
        "iex_cloud",
        402,
        ("You have used all available credits for the month. Please upgrade or purchase additional packages"),
        "quota",
        "its users' recordings",
        MONTH,
    ),
    Met(
        "iex_cloud",
        402,
        "The requested endpoint is not available to free accounts.",
        "entitlement",
        "its table of errors",
    ),
    Met(
        "iex_cloud",
        401,
        "An API key is required to access this data and no key was provided",
        "auth",
        "its SDKs",
    ),
    Met("iex_cloud", 403, "A test token was used for a production endpoint.", "auth", "its table of errors"),
    Met("iex_cloud", 403, "Your account is currently inactive.", "auth", "its table of errors"),
    Met(
        "iex_cloud",
        401,
        "The requested data is marked restricted and the account does not have access.",
        "entitlement",
        "its table of errors",
    ),
    Met(
        "sec_edgar",
        200,
        ("<!DOCTYPE html><html><title>SEC.gov | Request Rate Threshold Exceeded</title></html>"),
        "rate_limit",
        "Gunratan/edgar#10",
        600,
        headers=HTML,
    ),
    Met(
        "sec_edgar",
        404,
        '<?xml version="1.0"?><Error><Code>NoSuchKey</Code></Error>',
        "not_found",
        "probed in 2026",
        headers={"Content-Type": "application/xml"},
    ),
    Met(
        "world_bank",
        400,
        "<html><body><h2>Request Error</h2></body></html>",
        "provider_failure",
        "tgherzog/wbgapi#18",
        headers=HTML,
    ),
    Met("world_bank", 403, "Forbidden", "provider_failure", "vincentarelbundock/WDI#69", headers=TEXT),
    Met(
        "world_bank",
        200,
        "You are not authorized to access api.worldbank.org",
        "provider_failure",
        "pechiyappan/data360r#7",
    ),
    Met(
        "yahoo",
        999,
        "<html>Unable to process request at this time -- error 999.</html>",
        "rate_limit",
        "a known status of Yahoo's",
        300,
        headers=HTML,
    ),
    Met("yahoo", 999, "", "rate_limit", "a known status of Yahoo's", 300),
    Met("yahoo", 429, "Edge: Too Many Requests", "rate_limit", "many, 2026", 300, headers=HTML),
    Met("yahoo", 200, "Edge: Too Many Requests", "rate_limit", "saved by clients", 300, headers=HTML),
    Met(
        "yahoo",
        401,
        {"finance": {"result": None, "error": {"code": "Unauthorized", "description": "Invalid Crumb"}}},
        "provider_failure",
        "many, 2025: it is the address, and there is no key",
    ),
    Met("stooq", 200, "Przekroczony dzienny limit wywolan", "quota", "a client's download script", DAY),
    Met(
        "openfigi",
        429,
        "Too many requests, please try again later.",
        "rate_limit",
        "its users",
        60,
        headers=TEXT,
    ),
    Met(
        "us_treasury",
        403,
        {"error": "Forbidden"},
        "provider_failure",
        "it documents the status, and has no keys",
    ),
]


@pytest.mark.parametrize("met", REPORTED, ids=lambda met: f"{met.service}-{met.status}-{met.verdict}")
def test_a_reported_refusal_has_its_class(met: Met) -> None:
    judged = judge(met.service, DATASET[met.service], met.status, met.headers or {}, encoded(met.body))
    assert (judged.verdict, judged.certain) == (met.verdict, True), judged
    assert met.hold in (None, judged.hold_seconds)


# Of nobody in particular: what stands between us and any of them.
GATEWAYS = [
    (403, TEXT, "error code: 1020", "Cloudflare, to who takes no HTML"),
    (
        403,
        {},
        {"title": "Error 1020: Access denied", "error_code": 1020, "cloudflare_error": True, "ray_id": "0"},
        "Cloudflare's problem details, 2026",
    ),
    (403, HTML, "<!DOCTYPE html><title>Attention Required! | Cloudflare</title>", "Cloudflare's block page"),
    (403, {"cf-mitigated": "challenge", **HTML}, "<title>Just a moment...</title>", "Cloudflare's challenge"),
    (403, {"cf-mitigated": "challenge"}, "", "the same, to a client that asks for JSON"),
    (
        403,
        HTML,
        ("<HTML><TITLE>Access Denied</TITLE>Reference #18.1<P>https://errors.edgesuite.net/18.1</HTML>"),
        "Akamai",
    ),
    (403, HTML, "<html><title>ERROR: The request could not be satisfied</title>CloudFront</html>", "AWS WAF"),
    (405, {"x-amzn-waf-action": "captcha", **HTML}, "<html>Human Verification</html>", "AWS WAF's captcha"),
    (403, TEXT, "RBAC: access denied", "Envoy"),
    (403, TEXT, "Forbidden", "any reverse proxy"),
    (403, TEXT, "Access denied", "any reverse proxy"),
    (403, {}, {"message": "Access Denied"}, "any gateway that speaks JSON"),
    (403, {}, {"error": "Your IP has been temporarily banned for abuse"}, "any gateway that speaks JSON"),
    (403, {}, {"error": "Your IP address has been blocked"}, "any gateway that speaks JSON"),
    (403, {}, {"incident_id": "1-2-3", "hostName": "a"}, "Imperva, to a client that asks for JSON"),
    (403, {}, {"url": "https://geo.captcha-delivery.com/captcha/?x"}, "DataDome"),
    (401, HTML, "<html><title>Authentication required</title>proxy</html>", "a company's proxy"),
    (403, {"X-Squid-Error": "ERR_ACCESS_DENIED 0", **HTML}, "<html>Squid</html>", "Squid"),
    (403, HTML, "<html><title>Web Page Blocked!</title>FortiGuard</html>", "FortiGate"),
    (407, TEXT, "Proxy Authentication Required", "a company's proxy"),
    (400, HTML, "<html><head><title>400 Bad Request</title></head></html>", "nginx"),
    (406, HTML, "<html><title>Not Acceptable!</title>Mod_Security</html>", "ModSecurity"),
    (418, HTML, "<html>I am a teapot</html>", "any"),
    (403, {"Content-Type": "text/html"}, "", "any"),
]
RATES = [
    (403, TEXT, "error code: 1015", "Cloudflare, to who takes no HTML"),
    (429, TEXT, "error code: 1015", "Cloudflare"),
    (
        429,
        {},
        {"title": "Error 1015: You are being rate limited", "error_code": 1015, "cloudflare_error": True},
        "Cloudflare's problem details, 2026",
    ),
    (
        403,
        HTML,
        ("<html><title>Access denied</title><h1>Error 1015</h1>You are being rate limited</html>"),
        "Cloudflare",
    ),
    (403, {}, {"message": "API rate limit exceeded"}, "Kong, where a row of its own says 403"),
    (400, {}, {"error": "Too Many Requests"}, "any"),
    (200, HTML, "<html><title>Too Many Requests</title></html>", "a page saved as a good download"),
    (200, TEXT, "Rate limit exceeded", "any"),
    (999, HTML, "<html>Unable to process request at this time -- error 999.</html>", "Yahoo"),
    (420, {}, "", "Twitter's, and its followers'"),
    (200, HTML, "<html><body>请求过于频繁</body></html>", "seen by clients in China"),
    (403, HTML, "<html><body>您的访问过于频繁</body></html>", "seen by clients in China"),
    (403, HTML, "<html><body>リクエストが多すぎます</body></html>", "seen by clients in Japan"),
    (403, HTML, "<html><body>Zu viele Anfragen</body></html>", "seen by clients in Germany"),
    (403, HTML, "<html><body>Trop de requ&ecirc;tes</body></html>", "seen by clients in France"),
    (403, HTML, "<html><body>Слишком много запросов</body></html>", "seen by clients in Russia"),
    (200, HTML, "<html><body>Demasiadas solicitudes</body></html>", "seen by clients in Spain"),
]


@pytest.mark.parametrize("service", PROVIDERS)
def test_what_stands_in_between_is_a_failure_and_no_refused_key(service: str) -> None:
    for status, headers, body, whose in GATEWAYS:
        judged = judge(service, DATASET[service], status, headers, encoded(body))
        assert judged.verdict == (_own(service, status) or "provider_failure"), (whose, judged)


def _own(service: str, status: int) -> str | None:
    """Binance documents two statuses as rate limits, whatever comes with them: its firewall's, and a ban."""
    return "rate_limit" if service == "binance" and status in (403, 418) else None


@pytest.mark.parametrize("service", PROVIDERS)
def test_a_rate_page_is_a_rate_limit_under_any_status_and_in_any_language(service: str) -> None:
    for status, headers, body, whose in RATES:
        judged = judge(service, DATASET[service], status, headers, encoded(body))
        assert (judged.verdict, bool(judged.hold_seconds)) == ("rate_limit", True), (whose, judged)


# Kind → its class, and that at a provider without keys.
KINDS = {
    Refusal.FIREWALL: ("provider_failure", "provider_failure"),
    Refusal.UNEXPLAINED: ("auth", "provider_failure"),
    Refusal.PLAN: ("entitlement", "provider_failure"),
    Refusal.WRONG_KEY: ("auth", "caller_error"),
    Refusal.PAGE: ("provider_failure", "provider_failure"),
    Refusal.RATE_PAGE: ("rate_limit", "rate_limit"),
    Refusal.RATE_ABROAD: ("rate_limit", "rate_limit"),
}


@pytest.mark.parametrize("service", PROVIDERS)
@pytest.mark.parametrize("kind", Refusal)
def test_each_kind_of_refusal_has_its_class_at_every_provider(service: str, kind: Refusal) -> None:
    reply = refusal_of(service, kind)
    headers = {"Content-Type": reply.content_type}
    for dataset in PROVIDERS[service].endpoints:
        judged = judge(service, dataset, reply.status, headers, reply.encoded())
        assert judged.verdict == (_own(service, reply.status) or KINDS[kind][service in KEYLESS]), judged
        # Only this may be anybody's; all others are the word of who is meant.
        assert judged.certain == (kind is not Refusal.UNEXPLAINED or service in KEYLESS)


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_is_certain_only_in_the_providers_own_words(status: int) -> None:
    for body, certain in (
        ("", False),
        ({"error": "go away"}, False),
        ({"message": "Unauthorized"}, False),
        ({"error": "Invalid API key"}, True),
        ({"message": "Authentication required"}, True),
        ({"detail": "Your token has expired."}, True),
        ({"message": "This account is suspended"}, True),
    ):
        judged = judge("finnhub", "quote", status, {}, encoded(body))
        assert (judged.verdict, judged.certain) == ("auth", certain), (body, judged)


@pytest.mark.parametrize(
    ("status", "body", "verdict"),
    [
        # Words that another refusal has, too.
        (400, {"error": "Unexpected token < in JSON at position 3"}, "caller_error"),
        (400, {"error": "'foo' is not permitted"}, "caller_error"),
        (400, {"error": "Invalid value for parameter 'plan'"}, "caller_error"),
        (404, {"error": "No such path. Do you need an API key?"}, "not_found"),
        (403, {"error": "Rate limits depend on your plan; this endpoint is premium"}, "entitlement"),
        (403, {"error": "Invalid API key. Subscribe to get one"}, "auth"),
        (429, {"error": "Limit reached. Upgrade your plan, or use an API key"}, "rate_limit"),
        (402, {"error": "Not available on the free plan"}, "entitlement"),
        (402, {"error": "Your API key has expired"}, "auth"),
        (422, {"error": "Unknown symbol: ZZZZ"}, "not_found"),
        (404, "<html>no such page</html>", "provider_failure"),
        (500, {"error": "Invalid API key"}, "provider_failure"),
        (200, {"error": "Invalid API key"}, "auth"),
        (200, {"error": "You don't have access to this resource."}, "entitlement"),
        (200, {"error": "Our standard rate limit is 5 requests per minute"}, "rate_limit"),
        (200, {"error": ["EGeneral:Too many requests"]}, "rate_limit"),
        (200, {"c": "Invalid API key"}, "provider_failure"),
    ],
)
def test_a_word_counts_where_it_is_the_one_that_tells(status: int, body: object, verdict: str) -> None:
    assert judge("finnhub", "quote", status, {}, encoded(body)).verdict == verdict


@pytest.mark.parametrize(
    ("text", "verdict", "hold"),
    [
        ("You have exceeded 60 requests per minute", "rate_limit", 60),
        ("Hourly limit exceeded", "rate_limit", 3_600),
        ("You have exceeded your daily limit", "quota", DAY),
        ("Monthly quota exceeded", "quota", MONTH),
        ("You have exceeded 5 calls per minute and your daily limit", "rate_limit", 60),
        ("You have no credits left", "quota", DAY),
    ],
)
def test_a_limit_holds_as_long_as_its_words_say(text: str, verdict: str, hold: float) -> None:
    for status in (200, 402, 403, 429):
        judged = judge("finnhub", "quote", status, {}, encoded({"error": text}))
        assert (judged.verdict, judged.hold_seconds) == (verdict, hold), (status, judged)


def test_a_month_ends_on_the_providers_own_clock() -> None:
    used_up = encoded({"detail": "Monthly quota exceeded"})
    assert judge("marketstack", "bars", 429, {}, used_up).hold_seconds == MONTH


def test_a_403_that_says_when_to_come_back_is_a_rate_limit() -> None:
    judged = judge("finnhub", "quote", 403, {"Retry-After": "30"}, b"{}")
    assert (judged.verdict, judged.hold_seconds) == ("rate_limit", 30)


@pytest.mark.parametrize("text", ["a" * 100_000, "<" * 100_000, "limit " * 20_000, "invalid api " * 10_000])
def test_a_long_text_is_judged_at_once(text: str) -> None:
    for status in (200, 400, 403):
        for body in (text, {"error": text}):
            judge("finnhub", "quote", status, {}, encoded(body))

"""The providers' documented replies, literally, by service.

Where a provider documents none for a mode, its nearest one stands in, and a comment says so.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

_BAD_GATEWAY = (
    "<html><head><title>502 Bad Gateway</title></head>"
    "<body><center><h1>502 Bad Gateway</h1></center></body></html>"
)


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply; a body that is no string is sent as JSON.

    Attributes:
        status: HTTP status.
        body: Text, or what JSON can say.
        headers: Beside Content-Type; `{next_minute}` in a value stands for that Unix time.
    """

    status: int
    body: object
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def content_type(self) -> str:
        """By the kind of body."""
        if not isinstance(self.body, str):
            return "application/json"
        return "text/html" if self.body.startswith("<") else "text/plain"

    def encoded(self) -> bytes:
        """The body's bytes."""
        return (self.body if isinstance(self.body, str) else json.dumps(self.body)).encode()


_FINNHUB_LIMIT = Reply(
    429,
    {"error": "API limit reached. Please try again later. Remaining Limit: 0"},
    {"X-Ratelimit-Limit": "60", "X-Ratelimit-Remaining": "0", "X-Ratelimit-Reset": "{next_minute}"},
)


@dataclass(frozen=True, slots=True)
class Replies:
    """One provider's replies.

    Attributes:
        sample: The documented quote.
        live: Puts a symbol, a price and a time into the sample.
        start: The sample's price, where a symbol's price starts.
        server_error: For mode 5xx.
        throttle: For mode throttle.
        quota: For mode quota.
        bad_key: For mode bad_key, and for a request without a key.
        unknown_symbol: For a symbol the provider does not know.
        no_path: For a path that is no endpoint.
        bad_call: For an endpoint with other parameters; `no_path` where the provider makes no difference.
    """

    sample: Mapping[str, object]
    live: Callable[[Mapping[str, object], str, Decimal, datetime], object]
    start: Decimal
    server_error: Reply
    throttle: Reply
    quota: Reply
    bad_key: Reply
    unknown_symbol: Reply
    no_path: Reply
    bad_call: Reply | None = None


def _iex_cloud(sample: Mapping[str, object], symbol: str, price: Decimal, now: datetime) -> object:
    change = price - Decimal(str(sample["previousClose"]))
    milliseconds = int(now.timestamp() * 1000)
    return {
        **sample,
        "symbol": symbol,
        "latestPrice": float(price),
        "iexRealtimePrice": float(price),
        "latestUpdate": milliseconds,
        "iexLastUpdated": milliseconds,
        "change": float(change),
        "changePercent": round(float(change / Decimal(str(sample["previousClose"]))), 5),
    }


def _alpha_vantage(sample: Mapping[str, object], symbol: str, price: Decimal, now: datetime) -> object:
    close = Decimal(str(sample["08. previous close"]))
    return {
        "Global Quote": {
            **sample,
            "01. symbol": symbol,
            "05. price": f"{price:.4f}",
            "07. latest trading day": now.date().isoformat(),
            "09. change": f"{price - close:.4f}",
            "10. change percent": f"{(price - close) / close * 100:.4f}%",
        }
    }


def _finnhub(sample: Mapping[str, object], _symbol: str, price: Decimal, now: datetime) -> object:
    close = Decimal(str(sample["pc"]))
    return {
        **sample,
        "c": float(price),
        "d": round(float(price - close), 4),
        "dp": round(float((price - close) / close * 100), 4),
        "t": int(now.timestamp()),
    }


REPLIES: Mapping[str, Replies] = {
    "iex_cloud": Replies(
        sample={
            "symbol": "AAPL",
            "companyName": "Apple Inc.",
            "primaryExchange": "Nasdaq Global Select",
            "calculationPrice": "tops",
            "open": 170.89,
            "openTime": 1510929000472,
            "close": 171.1,
            "closeTime": 1510866000375,
            "high": 170.78,
            "low": 169.71,
            "latestPrice": 170.39,
            "latestSource": "IEX real time price",
            "latestTime": "1:18:58 PM",
            "latestUpdate": 1510942738831,
            "latestVolume": 13529933,
            "iexRealtimePrice": 170.39,
            "iexRealtimeSize": 200,
            "iexLastUpdated": 1510942738831,
            "delayedPrice": 170.59,
            "delayedPriceTime": 1510941879189,
            "previousClose": 171.1,
            "change": -0.71,
            "changePercent": -0.00415,
            "iexBidPrice": 166.18,
            "iexBidSize": 100,
            "iexAskPrice": 172,
            "iexAskSize": 315,
            "marketCap": 874835421680,
            "peRatio": 19.36,
            "week52High": 176.24,
            "week52Low": 108.25,
            "isUSMarketOpen": True,
        },
        live=_iex_cloud,
        start=Decimal("170.39"),
        server_error=Reply(500, "System Error"),
        throttle=Reply(429, "Too many requests"),
        quota=Reply(
            402,
            "You have exceeded your allotted message quota. Please enable pay-as-you-go to regain access",
        ),
        bad_key=Reply(403, "The API key provided is not valid."),
        unknown_symbol=Reply(404, "Unknown symbol"),  # undocumented: as its clients report it
        no_path=Reply(404, "Not Found"),
    ),
    "alpha_vantage": Replies(
        sample={
            "01. symbol": "MSFT",
            "02. open": "112.6300",
            "03. high": "113.1700",
            "04. low": "110.6400",
            "05. price": "112.1300",
            "06. volume": "29062853",
            "07. latest trading day": "2018-10-05",
            "08. previous close": "112.7900",
            "09. change": "-0.6600",
            "10. change percent": "-0.5852%",
        },
        live=_alpha_vantage,
        start=Decimal("112.13"),
        server_error=Reply(502, _BAD_GATEWAY),
        throttle=Reply(
            200,
            {
                "Information": "Thank you for using Alpha Vantage! Please consider spreading out your free "
                "API requests more sparingly (1 request per second). You may subscribe to any of the premium "
                "plans at https://www.alphavantage.co/premium/ to lift the free key rate limit (25 requests "
                "per day) and instantly remove all daily rate limits."
            },
        ),
        quota=Reply(
            200,
            {
                "Information": "We have detected your API key as REDACTED and our standard API rate limit is "
                "25 requests per day. Please subscribe to any of the premium plans at "
                "https://www.alphavantage.co/premium/ to instantly remove all daily rate limits."
            },
        ),
        bad_key=Reply(
            200,
            {
                "Error Message": "the parameter apikey is invalid or missing. Please claim your free API key "
                "on (https://www.alphavantage.co/support/#api-key). It should take less than 20 seconds."
            },
        ),
        unknown_symbol=Reply(200, {"Global Quote": {}}),
        no_path=Reply(404, "<h1>Not Found</h1><p>The requested resource was not found on this server.</p>"),
        bad_call=Reply(
            200,
            {
                "Error Message": "Invalid API call. Please retry or visit the documentation "
                "(https://www.alphavantage.co/documentation/) for TIME_SERIES_DAILY."
            },
        ),
    ),
    "finnhub": Replies(
        sample={
            "c": 261.74,
            "d": 2.29,
            "dp": 0.8826,
            "h": 263.31,
            "l": 260.68,
            "o": 261.07,
            "pc": 259.45,
            "t": 1582641000,
        },
        live=_finnhub,
        start=Decimal("261.74"),
        server_error=Reply(502, _BAD_GATEWAY),
        throttle=_FINNHUB_LIMIT,
        quota=_FINNHUB_LIMIT,  # it has no limit but the one a minute
        bad_key=Reply(401, {"error": "Invalid API key"}),  # undocumented: as its clients report it
        unknown_symbol=Reply(200, {"c": 0, "d": None, "dp": None, "h": 0, "l": 0, "o": 0, "pc": 0, "t": 0}),
        no_path=Reply(404, "<html><body><h1>404 Not Found</h1></body></html>"),
    ),
}

"""Benzinga: what is not documented is as its gateway says it."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from email.utils import format_datetime

from workers.simulator.replies.reply import Answers, Replies, Reply


def news(sample: Mapping[str, object], symbol: str, _price: Decimal, now: datetime) -> object:
    times = [format_datetime(now - timedelta(hours=hours)) for hours in range(3)]
    return [
        {**sample, "id": 39518145 - place, "created": time, "updated": time, "stocks": [{"name": symbol}]}
        for place, time in enumerate(times)
    ]


def quote(sample: Mapping[str, object], symbol: str, price: Decimal, now: datetime) -> object:
    close = Decimal(str(sample["previousClosePrice"]))
    return {
        symbol: {
            **sample,
            "symbol": symbol,
            "lastTradePrice": float(price),
            "lastTradeTime": int(now.timestamp() * 1_000),
            "change": round(float(price - close), 4),
            "changePercent": round(float((price - close) / close * 100), 4),
        }
    }


ARTICLE = {
    "author": "Rounak Jain",
    "title": "Apple Watch X: Cupertino's Special 10th Anniversary Edition To Reportedly Feature Largest "
    "Display Yet",
    "teaser": "New images of the rumored Apple Watch X or Series 10 have surfaced, ...",
    "body": "",
    "url": "https://www.benzinga.com/news/24/06/39518145/apple-watch-x-...",
    "image": [{"size": "large", "url": "https://cdn.benzinga.com/..."}],
    "channels": [{"name": "News"}, {"name": "Tech"}],
    "tags": [{"name": "Apple"}, {"name": "Apple Watch"}],
}
QUOTE = {
    "exchange": "XNYS",
    "isoExchange": "XNYS",
    "bzExchange": "NYSE",
    "type": "STOCK",
    "name": "Ford Motor",
    "open": 13.56,
    "high": 13.86,
    "low": 13.43,
    "close": 13.59,
    "bidPrice": 12.0,
    "askPrice": 13.95,
    "askSize": 10,
    "bidSize": 0,
    "size": 1875880,
    "bidTime": 1457139600000,
    "askTime": 1457139600000,
    "volume": 31818610,
    "previousClosePrice": 13.54,
}
LIMIT = Reply(
    429,
    {"message": "API rate limit exceeded"},
    {"Retry-After": "{to_reset}", "RateLimit-Reset": "{to_reset}"},
)
BROKEN = Reply(
    500,
    {
        "data": None,
        "errors": [
            {
                "code": "database_query_error",
                "id": "ERR_12345",
                "value": "Unable to fetch data for symbol: INVALID",
            }
        ],
        "ok": False,
    },
)

REPLIES = Replies(
    endpoints={
        "news": Answers(ARTICLE, news, unknown_symbol=Reply(200, [])),
        "quote": Answers(QUOTE, quote, unknown_symbol=Reply(200, {}), start=Decimal("13.59")),
    },
    server_error=BROKEN,
    throttle=LIMIT,
    quota=LIMIT,  # none but the licence's own limit is documented
    bad_key=Reply(401, ['Access denied for user 0 "anonymous"']),  # undocumented: as its clients report it
    no_path=Reply(404, None),
    bad_call=Reply(400, '"Invalid or Missing Query Parameters"', kind="application/json"),
)

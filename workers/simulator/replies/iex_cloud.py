"""IEX Cloud: errors are plain text."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal

from workers.simulator.replies.reply import Answers, Replies, Reply, last_days


def quote(sample: Mapping[str, object], symbol: str, price: Decimal, now: datetime) -> object:
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


def bars(sample: Mapping[str, object], _symbol: str, price: Decimal, now: datetime) -> object:
    rows = [{"date": day.isoformat(), **sample} for day in last_days(now, 100)[::-1]]
    rows[-1]["close"] = float(price)
    return rows


def news(sample: Mapping[str, object], symbol: str, _price: Decimal, now: datetime) -> object:
    published = [now - timedelta(hours=hours) for hours in range(3)]
    return [
        {
            **sample,
            "datetime": int(time.timestamp() * 1000),
            "url": f"{sample['url']}{hours}",
            "related": symbol,
        }
        for hours, time in enumerate(published)
    ]


QUOTE = {
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
}
BAR = {
    "open": 167.165,
    "high": 168.62,
    "low": 166.76,
    "close": 167.78,
    "volume": 47230787,
    "unadjustedVolume": 47230787,
    "change": 0.35,
    "changePercent": 0.209,
    "vwap": 167.6021,
    "label": "Feb 1",
    "changeOverTime": 0,
}
ARTICLE = {
    "headline": "Voice Search Technology Creates A New Paradigm For Marketers",
    "source": "Benzinga",
    "url": "https://cloud.iexapis.com/stable/news/article/8348646549980454",
    "summary": "...",
    "image": "https://cloud.iexapis.com/stable/news/image/7594023985414148",
    "lang": "en",
    "hasPaywall": True,
}
UNKNOWN = Reply(404, "Unknown symbol")  # undocumented: as its clients report it

REPLIES = Replies(
    endpoints={
        "quote": Answers(
            QUOTE,
            quote,
            unknown_symbol=UNKNOWN,
            start=Decimal("170.39"),
        ),
        "bars": Answers(BAR, bars, unknown_symbol=UNKNOWN, start=Decimal("167.78")),
        "news": Answers(ARTICLE, news, unknown_symbol=UNKNOWN),
    },
    server_error=Reply(500, "System Error"),
    throttle=Reply(429, "Too many requests"),
    quota=Reply(
        402,
        "You have exceeded your allotted message quota. Please enable pay-as-you-go to regain access",
    ),
    bad_key=Reply(403, "The API key provided is not valid."),
    no_path=Reply(404, "Not Found"),
)

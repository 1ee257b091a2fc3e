"""Alpha Vantage: every error is HTTP 200."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from tasks.providers.documents import NEW_YORK
from workers.simulator.replies.reply import (
    BAD_GATEWAY,
    DAY,
    Answers,
    Limit,
    Replies,
    Reply,
    as_told,
    intraday,
    last_close,
    last_days,
)


def quote(sample: Mapping[str, object], symbol: str, price: Decimal, now: datetime) -> object:
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


def bars(sample: Mapping[str, str], symbol: str, price: Decimal, now: datetime) -> object:
    days = last_days(now, 100)
    return {
        "Meta Data": {
            "1. Information": "Daily Prices (open, high, low, close) and Volumes",
            "2. Symbol": symbol,
            "3. Last Refreshed": days[0].isoformat(),
            "4. Output Size": "Compact",
            "5. Time Zone": "US/Eastern",
        },
        "Time Series (Daily)": {
            day.isoformat(): {**sample, "4. close": f"{price:.4f}"} if day == days[0] else dict(sample)
            for day in days
        },
    }


def minutes(
    sample: Mapping[str, Any], symbol: str, price: Decimal, starts: list[datetime], span: str
) -> object:
    name = "60min" if span == "1h" else span.replace("m", "min")
    rows = last_close(sample, "4. close", f"{price:.4f}", len(starts))
    local = [f"{start.astimezone(NEW_YORK):%Y-%m-%d %H:%M:%S}" for start in starts]
    return {
        "Meta Data": {
            "1. Information": f"Intraday ({name}) open, high, low, close prices and volume",
            "2. Symbol": symbol,
            "3. Last Refreshed": local[0],
            "4. Interval": name,
            "5. Output Size": "Compact",
            "6. Time Zone": "US/Eastern",
        },
        f"Time Series ({name})": dict(zip(local, rows, strict=True)),
    }


def news(sample: Mapping[str, object], symbol: str, _price: Decimal, now: datetime) -> object:
    article = {
        **sample,
        "time_published": f"{now:%Y%m%dT%H%M%S}",
        "ticker_sentiment": [
            {
                "ticker": symbol,
                "relevance_score": "0.9",
                "ticker_sentiment_score": "0.4567",
                "ticker_sentiment_label": "Bullish",
            }
        ],
    }
    return {**FEED, "items": "1", "feed": [article]}


QUOTE = {
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
}
BAR = {
    "1. open": "206.9900",
    "2. high": "208.4700",
    "3. low": "206.2500",
    "4. close": "208.2500",
    "5. volume": "3416107",
}
FEED = {
    "sentiment_score_definition": "x <= -0.35: Bearish; ...",
    "relevance_score_definition": "0 < x <= 1, with a higher score indicating higher relevance.",
}
ARTICLE = {
    "title": "IBM Launches New AI Platform",
    "url": "https://example.com/ibm-ai",
    "authors": ["Jane Doe"],
    "summary": "...",
    "banner_image": None,
    "source": "ExampleNews",
    "category_within_source": "n/a",
    "source_domain": "example.com",
    "topics": [{"topic": "Technology", "relevance_score": "0.5"}],
    "overall_sentiment_score": 0.4567,
    "overall_sentiment_label": "Bullish",
}
INVALID_CALL = Reply(
    200,
    {
        "Error Message": "Invalid API call. Please retry or visit the documentation "
        "(https://www.alphavantage.co/documentation/) for TIME_SERIES_DAILY."
    },
)
INVALID_INPUTS = (
    "Invalid inputs. Please refer to the API documentation https://www.alphavantage.co/documentation#newsapi "
    "and try again."
)

DIVIDENDS = [
    {
        "ex_dividend_date": "2020-05-08",
        "declaration_date": "2020-04-30",
        "record_date": "2020-05-11",
        "payment_date": "2020-05-14",
        "amount": "0.82",
    },
    {
        "ex_dividend_date": "1995-02-13",
        "declaration_date": "None",
        "record_date": "None",
        "payment_date": "None",
        "amount": "0.12",
    },
]
SPLITS = [{"effective_date": "2020-08-31", "split_factor": "4.0000"}]


def _data(rows: list[dict[str, object]], symbol: str) -> object:
    return {"symbol": symbol, "data": rows}


REPLIES = Replies(
    endpoints={
        "quote": Answers(
            QUOTE, quote, unknown_symbol=Reply(200, {"Global Quote": {}}), start=Decimal("112.13")
        ),
        "bars": Answers(BAR, bars, unknown_symbol=INVALID_CALL, start=Decimal("208.25")),
        **intraday(BAR, minutes, INVALID_CALL, Decimal("208.25")),
        # undocumented: as its clients report it
        "news": Answers(ARTICLE, news, unknown_symbol=Reply(200, {"Information": INVALID_INPUTS})),
        # undocumented: as of other facts about a company
        "dividends": Answers(DIVIDENDS, as_told(_data), Reply(200, {})),
        "splits": Answers(SPLITS, as_told(_data), Reply(200, {})),
    },
    server_error=BAD_GATEWAY,
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
    no_path=Reply(404, "<h1>Not Found</h1><p>The requested resource was not found on this server.</p>"),
    bad_call=INVALID_CALL,
    limits=(Limit(1, 1), Limit(25, DAY, says="quota")),
)

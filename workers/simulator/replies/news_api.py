"""NewsAPI: an error has a code and a text."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal

from workers.simulator.replies.reply import DAY, Answers, Limit, Replies, Reply


def news(sample: Mapping[str, object], symbol: str, _price: Decimal, now: datetime) -> object:
    articles = [
        {
            **sample,
            "title": f"{symbol} moves",
            "url": f"https://example.com/{hours}",
            "publishedAt": f"{now - timedelta(hours=hours):%Y-%m-%dT%H:%M:%SZ}",
        }
        for hours in range(3)
    ]
    return {"status": "ok", "totalResults": len(articles), "articles": articles}


def _error(status: int, code: str, message: str) -> Reply:
    return Reply(status, {"status": "error", "code": code, "message": message})


ARTICLE = {
    "source": {"id": None, "name": "Yahoo.com"},
    "author": None,
    "description": "...",
    "urlToImage": None,
    "content": "... [+632 chars]",
}

REPLIES = Replies(
    endpoints={
        "news": Answers(
            ARTICLE, news, unknown_symbol=Reply(200, {"status": "ok", "totalResults": 0, "articles": []})
        )
    },
    server_error=_error(500, "unexpectedError", "Something went wrong on our side."),
    # undocumented: of a paid plan, as of the free one
    throttle=_error(429, "rateLimited", "You have made too many requests recently."),
    quota=_error(
        429,
        "rateLimited",
        "You have made too many requests recently. Developer accounts are limited to 100 requests over a 24 "
        "hour period (50 requests available every 12 hours). Please upgrade to a paid plan if you need more "
        "requests.",
    ),
    bad_key=_error(
        401,
        "apiKeyMissing",
        "Your API key is missing. Append this to the URL with the apiKey param, or use the x-api-key HTTP "
        "header.",
    ),
    no_path=Reply(404, "<html><body><h1>404 Not Found</h1></body></html>"),  # undocumented
    bad_call=_error(
        400,
        "parametersMissing",
        "Required parameters are missing, the scope of your search is too broad. Please set any of the "
        "following required parameters and try again: q, qInTitle, sources, domains.",
    ),
    limits=(Limit(50, DAY / 2, says="quota"),),
)

"""NewsAPI. It knows no symbols: an article is found by the word in it. A limit and a bad key have a code.

The word is what the press writes: a US ticker, one from elsewhere with its suffix (VOD.L), a pair (EUR/USD).
"""

from tasks.providers.documents import Fields, Node, NothingError, Rows
from tasks.providers.rows import Auth, Endpoint, Matcher, Provider, Quota, Verdict
from tasks.providers.symbols import FAMILIAR, Spelling


def news(reply: Node) -> Rows:
    """No ids, and no word of what an article is about; a withdrawn one keeps its place without its text."""
    return reply.child("articles").each(_article)


def _article(row: Node) -> Fields:
    if row.prose("title") == "[Removed]":
        raise NothingError(f"{row.path}.title is [Removed]", "withdrawn")
    return {
        "published_at": row.instant("publishedAt"),
        "title": row.prose("title"),
        "author": row.maybe(Node.prose, "author"),
        "source": row.maybe(_name, "source"),
        "url": row.link("url"),
        "excerpt": row.maybe(Node.prose, "description"),
        "body": row.maybe(Node.prose, "content"),  # its first 200 characters
        "image_url": row.maybe(Node.url, "urlToImage"),
    }


def _name(row: Node, key: str) -> str | None:
    return row.child(key).maybe(Node.prose, "name")


ROW = Provider(
    service="news_api",
    name="NewsAPI",
    base_url="https://newsapi.org/v2",
    auth=Auth("header", "X-Api-Key"),
    endpoints={
        "news": Endpoint(
            "/everything",
            news,
            # Quoted, a dash in a symbol excludes no word.
            params={
                "q": '"{symbol}"',
                "from": "{start}",
                "to": "{end}",
                "sortBy": "publishedAt",
                "pageSize": "100",
            },
            spell=Spelling(exchanges=FAMILIAR, fx="{base}/{quote}"),
            window_days=7,  # the free plan's articles come a day late, and go back a month
        )
    },
    matchers=(
        # By code, whatever the status: some clients have seen an error come as 200.
        Matcher(
            Verdict.ENTITLEMENT, "so many results are not in this plan", ("code",), "maximumResultsReached"
        ),
        # 100 requests; older texts have other numbers.
        Matcher(
            Verdict.QUOTA,
            "the free plan's requests of twelve hours are used up",
            ("message",),
            "Developer accounts are limited to",
        ),
        Matcher(Verdict.QUOTA, "the key has no requests left", ("code",), equals="apiKeyExhausted"),
        Matcher(Verdict.RATE_LIMIT, "too many requests", ("code",), equals="rateLimited"),
        Matcher(Verdict.AUTH, "the API key is missing, disabled or not valid", ("code",), "apiKey"),
        # With code parameterInvalid.
        Matcher(Verdict.ENTITLEMENT, "days so long ago are not in this plan", ("message",), "plan permits"),
        Matcher(Verdict.CALLER_ERROR, "the parameters are wrong", ("code",), "parameter"),
        Matcher(Verdict.PROVIDER_FAILURE, "an unexpected error", ("code",), equals="unexpectedError"),
    ),
    quota=Quota(50, 43_200, burst=5),  # a hundred a day, of which half in each twelve hours
    quota_hold=43_200.0,  # when the twelve hours began is not told
)

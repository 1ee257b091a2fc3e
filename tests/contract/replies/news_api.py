from tests.contract.replies import BAD_GATEWAY, Documented

ARTICLE = {
    "source": {"id": None, "name": "Yahoo.com"},
    "author": None,
    "title": "...",
    "description": "...",
    "url": "https://...",
    "urlToImage": None,
    "publishedAt": "2024-02-20T12:19:00Z",
    "content": "... [+632 chars]",
}
REMOVED = {**ARTICLE, "title": "[Removed]", "url": "https://removed.com", "description": "[Removed]"}


def found(*articles: object) -> dict[str, object]:
    return {"status": "ok", "totalResults": len(articles), "articles": list(articles)}


def error(code: str, message: str) -> dict[str, object]:
    return {"status": "error", "code": code, "message": message}


LIMIT = error(
    "rateLimited",
    "You have made too many requests recently. Developer accounts are limited to 100 requests over a 24 hour "
    "period (50 requests available every 12 hours). Please upgrade to a paid plan if you need more requests.",
)
PAID_LIMIT = error("rateLimited", "You have made too many requests recently.")
NO_KEY = error(
    "apiKeyMissing",
    "Your API key is missing. Append this to the URL with the apiKey param, or use the x-api-key HTTP "
    "header.",
)
NO_QUERY = error(
    "parametersMissing",
    "Required parameters are missing, the scope of your search is too broad. Please set any of the following "
    "required parameters and try again: q, qInTitle, sources, domains.",
)
TOO_FAR = error(
    "maximumResultsReached",
    "You have requested too many results. Developer accounts are limited to a max of 100 results. You are "
    "trying to request results 100 to 150. Please upgrade to a paid plan if you need more results.",
)
UNEXPECTED = error("unexpectedError", "Something went wrong on our side.")

DOCUMENTED = [
    Documented("news", 200, found(ARTICLE), "success"),
    Documented("news", 200, found(REMOVED, ARTICLE), "success"),
    Documented("news", 200, found(REMOVED), "empty"),
    Documented("news", 200, found(), "empty"),
    Documented("news", 429, LIMIT, "quota", 43_200),
    Documented("news", 200, LIMIT, "quota", 43_200),
    Documented("news", 429, PAID_LIMIT, "rate_limit", 60),
    Documented("news", 401, error("apiKeyExhausted", "..."), "quota", 43_200),
    Documented("news", 401, NO_KEY, "auth", 300),
    Documented("news", 401, error("apiKeyDisabled", "Your API key has been disabled."), "auth", 300),
    Documented("news", 200, error("apiKeyInvalid", "..."), "auth", 300),
    Documented("news", 400, NO_QUERY, "caller_error"),
    Documented("news", 200, error("parameterInvalid", "..."), "caller_error"),
    Documented("news", 426, TOO_FAR, "entitlement", 86_400),
    Documented("news", 500, UNEXPECTED, "provider_failure"),
    Documented("news", 502, BAD_GATEWAY, "provider_failure"),
]

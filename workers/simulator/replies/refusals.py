"""Refusals that no provider documents and any of them may send: seven kinds.

They are of what stands in between, or worded otherwise than the provider's documentation has it.
"""

from enum import StrEnum

from workers.simulator.replies.reply import Reply


class Refusal(StrEnum):
    """A kind of refusal."""

    FIREWALL = "firewall"  # 403, the text of a content network
    UNEXPLAINED = "unexplained"  # 401, and not a word
    PLAN = "not_in_plan"  # 401, and it is the plan
    WRONG_KEY = "wrong_key"  # 400, and it is the kind of key
    PAGE = "error_page"  # 400, a page
    RATE_PAGE = "rate_page"  # 200, a page that tells of a rate limit
    RATE_ABROAD = "rate_abroad"  # 999, the same in another language


_EVERYBODYS = {
    Refusal.FIREWALL: Reply(403, "error code: 1020"),
    Refusal.UNEXPLAINED: Reply(401, ""),
    Refusal.PLAN: Reply(401, {"error": "Your current plan does not include this endpoint. Please upgrade."}),
    Refusal.WRONG_KEY: Reply(400, {"error": "A sandbox API key cannot be used here"}),
    Refusal.PAGE: Reply(400, "<html><head><title>400 Bad Request</title></head><body>nginx</body></html>"),
    Refusal.RATE_PAGE: Reply(200, "<html><head><title>Too Many Requests</title></head></html>"),
    Refusal.RATE_ABROAD: Reply(999, "<html><body>请求过于频繁</body></html>"),
}
_OWN = {
    (Refusal.PLAN, "finnhub"): Reply(401, {"error": "You don't have access to this resource."}),
    (Refusal.PLAN, "tiingo"): Reply(401, {"detail": "You do not have permission to access the News API"}),
    (Refusal.PLAN, "twelvedata"): Reply(
        401,
        {"code": 403, "message": "/quote is available exclusively with pro plans", "status": "error"},
    ),
    (Refusal.WRONG_KEY, "coingecko"): Reply(
        400,
        {
            "status": {
                "error_code": 10010,
                "error_message": "If you are using Pro API key, please change your root URL",
            }
        },
    ),
}


def refusal_of(service: str, kind: Refusal) -> Reply:
    """What a provider says then: in its own shape, where it has been seen to have one."""
    return _OWN.get((kind, service)) or _EVERYBODYS[kind]

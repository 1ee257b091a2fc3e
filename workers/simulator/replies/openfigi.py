"""OpenFIGI: a list with an answer for each job; warnings are HTTP 200."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal

from workers.simulator.replies.reply import BAD_GATEWAY, MINUTE, Answers, Limit, Replies, Reply


def reference(sample: Mapping[str, object], symbol: str, _price: Decimal, _now: datetime) -> object:
    return [{"data": [{**sample, "ticker": symbol, "securityDescription": symbol}]}]


APPLE = {
    "figi": "BBG000B9XRY4",
    "name": "APPLE INC",
    "ticker": "AAPL",
    "exchCode": "US",
    "compositeFIGI": "BBG000B9XRY4",
    "securityType": "Common Stock",
    "marketSector": "Equity",
    "shareClassFIGI": "BBG001S5N8V8",
    "securityType2": "Common Stock",
    "securityDescription": "AAPL",
}
NOTHING = {"warning": "No identifier found."}
LIMIT = Reply(
    429,
    "Too Many Requests",
    {"ratelimit-limit": "25", "ratelimit-remaining": "0", "ratelimit-reset": "{to_reset}"},
)

REPLIES = Replies(
    endpoints={"reference": Answers(APPLE, reference, unknown_symbol=Reply(200, [NOTHING]))},
    server_error=BAD_GATEWAY,
    throttle=LIMIT,
    quota=LIMIT,  # it has no limit but the one a minute
    bad_key=Reply(401, "Unauthorized"),
    no_path=Reply(404, ""),  # undocumented
    bad_call=Reply(400, "", kind="application/json"),  # no body is documented
    limits=(Limit(25, MINUTE),),
)

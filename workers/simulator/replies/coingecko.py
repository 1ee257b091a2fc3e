"""CoinGecko: an unknown coin is an empty object."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal

from workers.simulator.replies.reply import MINUTE, Answers, Limit, Replies, Reply


def quote(sample: Mapping[str, object], symbol: str, price: Decimal, now: datetime) -> object:
    return {symbol.lower(): {**sample, "usd": float(price), "last_updated_at": int(now.timestamp())}}


LIMIT = Reply(
    429,
    {
        "status": {
            "error_code": 429,
            "error_message": "You've exceeded the Rate Limit. Please visit "
            "https://www.coingecko.com/en/api/pricing to subscribe to our API plans for higher rate limits.",
        }
    },
    {"retry-after": "53"},
)

REPLIES = Replies(
    endpoints={
        "quote": Answers(
            {"usd_24h_change": -1.4093297098441402},
            quote,
            unknown_symbol=Reply(200, {}),
            start=Decimal(76975),
        )
    },
    server_error=Reply(503, ""),  # no body is documented
    throttle=LIMIT,
    quota=LIMIT,  # undocumented: as the limit a minute
    bad_key=Reply(
        401,
        {
            "error": {
                "status": {
                    "timestamp": "2026-01-01T00:00:00.000+00:00",
                    "error_code": 10010,
                    "error_message": "Invalid API Key. ...",
                }
            }
        },
    ),
    no_path=Reply(
        404, {"error": "Incorrect path. Please check https://www.coingecko.com/api/"}
    ),  # undocumented
    bad_call=Reply(400, ""),  # no body is documented
    limits=(Limit(100, MINUTE),),
)

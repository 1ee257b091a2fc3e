"""World Bank: errors are HTTP 200."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal

from workers.simulator.replies.reply import BAD_GATEWAY, Answers, Replies, Reply


def observations(sample: Mapping[str, object], symbol: str, _price: Decimal, now: datetime) -> object:
    country, _, indicator = symbol.partition("/INDICATOR/")
    row = {
        **sample,
        "indicator": {"id": indicator, "value": "GDP (current US$)"},
        "countryiso3code": country,
    }
    rows = [{**row, "date": str(now.year - 1 - back)} for back in range(10)]
    rows[0]["value"] = None
    return [{**PAGING, "total": len(rows), "lastupdated": f"{now:%Y-%m-%d}"}, rows]


PAGING = {"page": 1, "pages": 1, "per_page": 1000, "sourceid": "2"}
ROW = {
    "country": {"id": "US", "value": "United States"},
    "value": 27360935000000,
    "unit": "",
    "obs_status": "",
    "decimal": 0,
}
INVALID_VALUE = Reply(
    200,
    [
        {
            "message": [
                {"id": "120", "key": "Invalid value", "value": "The provided parameter value is not valid"}
            ]
        }
    ],
)
LIMIT = Reply(429, "")  # undocumented

REPLIES = Replies(
    endpoints={"observations": Answers(ROW, observations, unknown_symbol=INVALID_VALUE)},
    server_error=BAD_GATEWAY,
    throttle=LIMIT,
    quota=LIMIT,
    bad_key=Reply(403, ""),  # it has no keys: blocked
    no_path=Reply(404, ""),  # undocumented
    bad_call=INVALID_VALUE,
)

"""US Treasury: values are strings, and an unknown security has no rows."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal

from workers.simulator.replies.reply import Answers, Replies, Reply


def observations(sample: Mapping[str, object], symbol: str, _price: Decimal, now: datetime) -> object:
    month_end = now.replace(day=1) - timedelta(days=1)
    row = {"security_desc": symbol.title(), "avg_interest_rate_amt": "4.123"}
    rows = [{**row, "record_date": f"{month_end:%Y-%m-%d}"}]
    return {**sample, "data": rows}


PAGE = "&page%5Bnumber%5D=1&page%5Bsize%5D=1000"
ENVELOPE = {
    "meta": {
        "count": 1,
        "labels": {"record_date": "Record Date", "avg_interest_rate_amt": "Average Interest Rate Amount"},
        "dataTypes": {"record_date": "DATE", "avg_interest_rate_amt": "PERCENTAGE"},
        "dataFormats": {"record_date": "YYYY-MM-DD", "avg_interest_rate_amt": "10.2%"},
        "total-count": 1,
        "total-pages": 1,
    },
    "links": {"self": PAGE, "first": PAGE, "prev": None, "next": None, "last": PAGE},
}
LIMIT = Reply(429, "")  # no body is documented

REPLIES = Replies(
    endpoints={
        "observations": Answers(
            ENVELOPE,
            observations,
            unknown_symbol=Reply(200, {**ENVELOPE, "data": []}),  # undocumented
        )
    },
    server_error=Reply(500, ""),  # no body is documented
    throttle=LIMIT,
    quota=LIMIT,
    bad_key=Reply(403, ""),  # it has no keys: forbidden
    no_path=Reply(404, ""),  # undocumented
    bad_call=Reply(
        400,
        {
            "error": "Invalid Query Param",
            "message": "Invalid query parameter 'sorts' with value '[-record_date]'. For more information "
            "please see the documentation.",
        },
    ),
)

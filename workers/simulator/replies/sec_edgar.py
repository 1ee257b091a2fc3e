"""SEC EDGAR: pages for errors, a rate limit is 403."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal

from workers.simulator.replies.reply import BAD_GATEWAY, Answers, Limit, Replies, Reply


def filings(sample: Mapping[str, object], symbol: str, _price: Decimal, now: datetime) -> object:
    recent = {
        **RECENT,
        "filingDate": [f"{now:%Y-%m-%d}", "2020-02-18"],
        "acceptanceDateTime": [f"{now:%Y-%m-%dT%H:%M:%S}.000Z", "2020-02-18T06:24:57.000Z"],
    }
    return {**sample, "cik": symbol.lstrip("0"), "filings": {"recent": recent, "files": []}}


COMPANY = {
    "entityType": "operating",
    "sic": "3571",
    "sicDescription": "Electronic Computers",
    "name": "Apple Inc.",
    "tickers": ["AAPL"],
    "exchanges": ["Nasdaq"],
    "ein": "942404110",
    "category": "Large accelerated filer",
    "fiscalYearEnd": "0926",
    "stateOfIncorporation": "CA",
}
RECENT = {
    "accessionNumber": ["0001193125-20-050884", "0001193125-20-039203"],
    "reportDate": ["2020-02-26", "2020-02-17"],
    "act": ["34", "34"],
    "form": ["8-K", "8-K"],
    "fileNumber": ["001-36743", "001-36743"],
    "filmNumber": ["20658900", "20621801"],
    "items": ["5.07", "2.02,9.01"],
    "size": [201321, 190422],
    "isXBRL": [1, 1],
    "isInlineXBRL": [1, 1],
    "primaryDocument": ["d865740d8k.htm", "d845033d8k.htm"],
    "primaryDocDescription": ["8-K", "8-K"],
}
THRESHOLD = Reply(
    403,
    "<!DOCTYPE html><html><head><title>SEC.gov | Request Rate Threshold Exceeded</title></head><body>"
    "<h1>SEC.gov | Request Rate Threshold Exceeded</h1><p>... manage automated requests ...</p>"
    "</body></html>",
)
NO_SUCH_KEY = Reply(
    404,
    '<?xml version="1.0" encoding="UTF-8"?><Error><Code>NoSuchKey</Code>'
    "<Message>The specified key does not exist.</Message></Error>",
    kind="application/xml",
)

REPLIES = Replies(
    endpoints={"filings": Answers(COMPANY, filings, unknown_symbol=NO_SUCH_KEY)},
    server_error=BAD_GATEWAY,
    throttle=THRESHOLD,
    quota=THRESHOLD,  # it has no limit but the one a second
    bad_key=Reply(
        403,
        "<html><head><title>SEC.gov | Your Request Originates from an Undeclared Automated Tool</title>"
        "</head><body><h1>Your Request Originates from an Undeclared Automated Tool</h1></body></html>",
    ),
    no_path=NO_SUCH_KEY,
    limits=(Limit(10, 1, quiet_seconds=600),),
)

"""SEC EDGAR: pages for errors, a rate limit is 403."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal

from tasks.providers.sec_edgar import concept
from tasks.providers.symbols import parse
from workers.simulator.replies.reply import BAD_GATEWAY, Answers, Limit, Replies, Reply, as_told


def filings(sample: Mapping[str, object], symbol: str, _price: Decimal, now: datetime) -> object:
    recent = {
        **RECENT,
        "filingDate": [f"{now:%Y-%m-%d}", "2020-02-18"],
        "acceptanceDateTime": [f"{now:%Y-%m-%dT%H:%M:%S}.000Z", "2020-02-18T06:24:57.000Z"],
    }
    tickers = [row["ticker"] for row in TICKERS.values() if row["cik_str"] == int(symbol)]
    company = {**sample, "cik": symbol.lstrip("0"), "tickers": tickers or sample["tickers"]}
    return {**company, "filings": {"recent": recent, "files": []}}


def facts(sample: Mapping[str, object], symbol: str) -> object:
    number, _, tag = symbol.split("/")
    spelled = concept(parse(f"{number}:{tag}"))  # it knows which letters are small
    number, taxonomy, tag = spelled.split("/")
    return {"cik": int(number), "taxonomy": taxonomy, "tag": tag, **sample}


def companies(sample: Mapping[str, object], _symbol: str) -> object:
    return sample


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

ASSETS = {
    "label": "Assets",
    "description": "Sum of the carrying amounts ...",
    "entityName": "Apple Inc.",
    "units": {
        "USD": [
            {
                "end": "2024-09-28",
                "val": 364980000000,
                "accn": "0000320193-24-000123",
                "fy": 2024,
                "fp": "FY",
                "form": "10-K",
                "filed": "2024-11-01",
                "frame": "CY2024Q3I",
            },
            {
                "end": "2024-12-28",
                "val": 344085000000,
                "accn": "0000320193-25-000008",
                "fy": 2025,
                "fp": "Q1",
                "form": "10-Q",
                "filed": "2025-01-31",
                "frame": "CY2024Q4I",
            },
        ]
    },
}
TICKERS = {
    "0": {"cik_str": 320193, "ticker": "AAPL", "title": "Apple Inc."},
    "1": {"cik_str": 1652044, "ticker": "GOOGL", "title": "Alphabet Inc."},
    "2": {"cik_str": 1652044, "ticker": "GOOG", "title": "Alphabet Inc."},
    "3": {"cik_str": 1067983, "ticker": "BRK-B", "title": "BERKSHIRE HATHAWAY INC"},
}

REPLIES = Replies(
    endpoints={
        "filings": Answers(COMPANY, filings, unknown_symbol=NO_SUCH_KEY),
        "facts": Answers(ASSETS, as_told(facts), unknown_symbol=NO_SUCH_KEY),
        "companies": Answers(TICKERS, as_told(companies), unknown_symbol=NO_SUCH_KEY),
    },
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

"""SEC EDGAR. No key, but it answers only who says who asks; a rate limit is a page with status 403.

Filings are asked for by CIK: the list of tickers and CIKs is another host's, and a call of its own.
"""

from tasks.providers.documents import Fields, Node, Rows, each
from tasks.providers.rows import Endpoint, Matcher, Provider, Quota, Verdict
from tasks.providers.symbols import cik

_ARCHIVES = "https://www.sec.gov/Archives/edgar/data"
_COLUMNS = (
    "accessionNumber",
    "filingDate",
    "reportDate",
    "acceptanceDateTime",
    "form",
    "items",
    "size",
    "primaryDocument",
)


def filings(reply: Node) -> Rows:
    """`/submissions`: columns beside each other, blank where there is nothing."""
    number, tickers = reply.cik("cik"), reply.maybe(Node.texts, "tickers")
    company: Fields = {
        "cik": number,
        "symbol": tickers[0] if tickers else None,
        "company_name": reply.maybe(Node.prose, "name"),
    }

    def filing(row: Node) -> Fields:
        accession = row.text("accessionNumber")
        folder = f"{_ARCHIVES}/{int(number)}/{accession.replace('-', '')}"
        document = row.maybe(Node.text, "primaryDocument")
        return {
            **company,
            "accession_number": accession,
            "form": row.text("form"),
            "filing_date": row.date("filingDate"),
            "report_date": row.maybe(Node.date, "reportDate"),
            "accepted_at": row.maybe(Node.instant, "acceptanceDateTime"),
            "items": row.maybe(Node.split, "items") or (),
            "primary_document": document,
            "report_url": f"{folder}/{document}" if document else None,
            "filing_url": f"{folder}/{accession}-index.htm",
            "size": row.maybe(Node.count, "size"),
        }

    return each(reply.child("filings").child("recent").columns(*_COLUMNS), filing)


ROW = Provider(
    service="sec_edgar",
    name="SEC EDGAR",
    base_url="https://data.sec.gov",
    auth=None,
    endpoints={
        "filings": Endpoint("/submissions/CIK{symbol}.json", filings, spell=cik, example="0000320193")
    },
    matchers=(
        Matcher(
            Verdict.RATE_LIMIT,
            "more than ten requests a second",
            contains="Request Rate Threshold Exceeded",
            statuses=frozenset({403}),
        ),
        Matcher(
            Verdict.AUTH,
            "SEC_EDGAR_CONTACT is not taken for a name and an e-mail address",
            contains="Undeclared Automated Tool",
            statuses=frozenset({200, 403}),
        ),
    ),
    statuses=frozenset({404, 429}),
    max_body_bytes=16 * 1024 * 1024,  # a thousand filings, or a year of them
    deadline_seconds=30.0,  # for as much
    quota=Quota(10, 1),
    rate_hold=600.0,  # the rate must stay below the limit for ten minutes
    key_required=False,
    contact_required=True,
)

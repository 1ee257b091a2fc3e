"""SEC EDGAR. No key, but it answers only who says who asks; a rate limit is a page with status 403.

It knows companies by number (CIK). Which ticker has which, a list at another host of its says; it is asked
for once a day, where somebody asks for a ticker.

Facts are asked for one concept at a time. All of a company's are one reply, too, but of megabytes, up to more
than is taken here: a company that has filed for long could never be asked for.
"""

import re
from difflib import get_close_matches

from tasks.errors import InvalidSymbolError
from tasks.providers.documents import Fields, Node, Rows, each
from tasks.providers.rows import Endpoint, Matcher, Provider, Quota, Verdict
from tasks.providers.symbols import HYPHENATED, Kind, Spelling, Symbol, parse

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


# The concepts of the three statements that most companies report, as the SEC's taxonomy writes them; what was
# called otherwise before 2018 (SalesRevenueNet) beside what it is called since.
_CONCEPTS = {
    tag.upper(): f"{taxonomy}/{tag}"
    for taxonomy, tags in {
        "us-gaap": """
            Assets AssetsCurrent Liabilities LiabilitiesCurrent StockholdersEquity Goodwill InventoryNet
            CashAndCashEquivalentsAtCarryingValue AccountsReceivableNetCurrent AccountsPayableCurrent
            LongTermDebt LongTermDebtNoncurrent RetainedEarningsAccumulatedDeficit
            PropertyPlantAndEquipmentNet CommonStockSharesOutstanding
            Revenues RevenueFromContractWithCustomerExcludingAssessedTax
            SalesRevenueNet CostOfRevenue CostOfGoodsAndServicesSold GrossProfit OperatingExpenses
            ResearchAndDevelopmentExpense SellingGeneralAndAdministrativeExpense OperatingIncomeLoss
            InterestExpense IncomeTaxExpenseBenefit NetIncomeLoss
            EarningsPerShareBasic EarningsPerShareDiluted
            WeightedAverageNumberOfSharesOutstandingBasic WeightedAverageNumberOfDilutedSharesOutstanding
            NetCashProvidedByUsedInOperatingActivities NetCashProvidedByUsedInInvestingActivities
            NetCashProvidedByUsedInFinancingActivities PaymentsToAcquirePropertyPlantAndEquipment
            PaymentsOfDividends PaymentsForRepurchaseOfCommonStock CommonStockDividendsPerShareDeclared
            ShareBasedCompensation DepreciationDepletionAndAmortization
        """,
        "dei": "EntityCommonStockSharesOutstanding EntityPublicFloat",
    }.items()
    for tag in tags.split()
}
_COMPANY = re.compile(r"[0-9]{10}|[A-Z][A-Z0-9]{0,9}([.\-][A-Z0-9]{1,4})?")
_TICKERS = Spelling(dash="-", issues=HYPHENATED)
_DIRECTORY = ("companies", "SEC:COMPANY_TICKERS")


def company(symbol: Symbol) -> str:
    """A CIK as it is, a ticker as the list has it: with a hyphen before a class of shares.

    Raises:
        InvalidSymbolError: Neither.
    """
    in_us = symbol.kind in (Kind.SHARE, Kind.OTHER) and not symbol.mic
    if in_us and _COMPANY.fullmatch(symbol.text):
        return _TICKERS(symbol) if symbol.kind is Kind.SHARE else symbol.text.replace(".", "-")
    raise InvalidSymbolError(
        symbol.text, "give a ticker listed in the US, as in AAPL, or a CIK, ten digits, as in 0000320193"
    )


def concept(symbol: Symbol) -> str:
    """A company and a concept, AAPL:ASSETS, as a path has them: AAPL/us-gaap/Assets.

    Raises:
        InvalidSymbolError: It names no company, or no concept that is known here.
    """
    name, _, told = symbol.text.partition(":")
    if not name or told not in _CONCEPTS:
        near = " or ".join(get_close_matches(told, _CONCEPTS, 3, 0.4)) or "ASSETS"
        raise InvalidSymbolError(
            symbol.text, f"give a company and a concept, as in AAPL:{near}; docs/operating.md lists them"
        )
    return f"{company(parse(name))}/{_CONCEPTS[told]}"


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

    return each(reply.child("filings").child("recent").columns(*_COLUMNS), filing, company)


def facts(reply: Node) -> Rows:
    """`/companyconcept`: by unit; what a later report repeats is there again."""
    number, taxonomy, tag = reply.cik("cik"), reply.text("taxonomy"), reply.text("tag")
    common: Fields = {
        "series_id": f"{number}/{taxonomy}/{tag}",
        "cik": number,
        "company_name": reply.maybe(Node.prose, "entityName"),
        "taxonomy": taxonomy,
        "concept": tag,
    }
    told = [(unit, row) for unit, rows in reply.child("units").items() for row in rows.rows()]
    rows = (Node({"unit": unit, "fact": row.value}, row.path) for unit, row in told)
    return each(rows, lambda row: {"unit": row.text("unit"), **_fact(row.child("fact"))}, common)


def _fact(row: Node) -> Fields:
    return {
        "value": row.amount("val"),
        "start": row.maybe(Node.date, "start"),
        "end": row.date("end"),
        "fiscal_year": row.maybe(Node.count, "fy"),
        "fiscal_period": row.maybe(Node.text, "fp"),
        "form": row.text("form"),
        "filed": row.date("filed"),
        "accession_number": row.text("accn"),
    }


def companies(reply: Node) -> Rows:
    """An object by place in the list; one company may have several tickers."""
    return each((row for _, row in reply.items()), _company)


def _company(row: Node) -> Fields:
    return {
        "ticker": row.symbol("ticker"),
        "cik": row.cik("cik_str"),
        "name": row.maybe(Node.prose, "title"),
    }


ROW = Provider(
    service="sec_edgar",
    name="SEC EDGAR",
    base_url="https://data.sec.gov",
    auth=None,
    endpoints={
        "filings": Endpoint(
            "/submissions/CIK{symbol}.json",
            filings,
            spell=company,
            example="0000320193",
            directory=_DIRECTORY,
        ),
        "facts": Endpoint(
            "/api/xbrl/companyconcept/CIK{symbol}.json",
            facts,
            spell=concept,
            example="0000320193:ASSETS",
            directory=_DIRECTORY,
        ),
        "companies": Endpoint(
            "/files/{symbol_lower}.json",
            companies,
            spell=str,
            prefix="SEC:",
            example="SEC:COMPANY_TICKERS",
            host="https://www.sec.gov",
            max_rows=20_000,  # it has some ten thousand
        ),
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

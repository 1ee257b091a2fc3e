"""OpenFIGI. A POST of mapping jobs, answered job by job: of one job, a list of one answer.

Version 3, the only one there is since 2026-06-30 (its own notice of 2025-07-01).

A ticker is Bloomberg's, BRK/B for BRK.B, and so is the code of an exchange, of the composite where a country
has one (https://www.openfigi.com/api, values of exchCode). Indices are not asked for: of their tickers there
are many. It has no pairs of currencies and no coins by such names.
"""

import re

from tasks.errors import InvalidSymbolError
from tasks.providers.documents import Fields, Node, each
from tasks.providers.rows import Auth, Endpoint, Matcher, Provider, Quota, Reset, Verdict
from tasks.providers.symbols import Kind, Symbol, remedy_of

_EXCHANGES = {
    "": "US",
    "XTSE": "CN",
    "XTSX": "CN",
    "XLON": "LN",
    "XDUB": "ID",
    "XETR": "GR",
    "XPAR": "FP",
    "XAMS": "NA",
    "XBRU": "BB",
    "XLIS": "PL",
    "XMAD": "SM",
    "XMIL": "IM",
    "XSWX": "SW",
    "XWBO": "AV",
    "XSTO": "SS",
    "XCSE": "DC",
    "XOSL": "NO",
    "XHEL": "FH",
    "XWAR": "PW",
    "XJSE": "SJ",
    "XTAE": "IT",
    "BVMF": "BZ",
    "XMEX": "MM",
    "XTKS": "JP",
    "XHKG": "HK",
    "XSHG": "CH",
    "XSHE": "CH",
    "XTAI": "TT",
    "XKRX": "KS",
    "XNSE": "IN",
    "XBOM": "IN",
    "XSES": "SP",
    "XASX": "AU",
    "XNZE": "NZ",
}
# How a class stands behind a name: BRK/B, RCI/B, BT/A, NOVOB, VOLVB.
_CLASS = {
    **dict.fromkeys(("", "XTSE", "XTSX", "XLON"), "/{}"),
    **dict.fromkeys(("XSTO", "XCSE", "XHEL"), "{}"),
}
_ISSUE = re.compile("PR[A-Z]|WS|U|RT")  # in the US; they have names of their own there, BAC 7 1/4 PERP L
_LONDON_NAME = 3  # letters; a shorter one is filled up: BP/, RR/


def reference(reply: Node) -> Fields | None:
    """The composite of a ticker's listings, whose FIGI is that of all exchanges; else the first of them."""
    # Of other jobs, which nobody here sends, there may be more answers; an empty list comes to no parser.
    listings = reply.rows()[0].child("data").rows()
    found = each(sorted(listings, key=_is_composite, reverse=True), _listing)
    if not found and found.left_out:
        raise found.left_out[0]
    return found[0] if found else None


def _listing(found: Node) -> Fields:
    return {
        "symbol": found.text("ticker"),
        "figi": found.text("figi"),
        "composite_figi": found.maybe(Node.text, "compositeFIGI"),
        "share_class_figi": found.maybe(Node.text, "shareClassFIGI"),
        "name": found.maybe(Node.text, "name"),
        "ticker": found.text("ticker"),
        "exchange_code": found.maybe(Node.text, "exchCode"),
        "security_type": found.maybe(Node.text, "securityType"),
        "security_type2": found.maybe(Node.text, "securityType2"),
        "market_sector": found.maybe(Node.text, "marketSector"),
        "security_description": found.maybe(Node.text, "securityDescription"),
    }


def _is_composite(listing: Node) -> bool:
    told = listing.value if isinstance(listing.value, dict) else {}
    return told.get("figi") is not None and told["figi"] == told.get("compositeFIGI")


def share(symbol: Symbol) -> str:
    """A share as Bloomberg writes it: BRK.B is BRK/B, BP.L is BP/, REI.UN.TO is REI-U, 0700.HK is 700.

    Raises:
        InvalidSymbolError: It is none, or its exchange's code or its class is not known here.
    """
    if written := remedy_of(symbol):
        raise InvalidSymbolError(symbol.text, written)
    known = symbol.kind is Kind.SHARE and symbol.mic in _EXCHANGES
    listed, issue = symbol.share_class, not symbol.mic and _ISSUE.fullmatch(symbol.share_class)
    if not known or issue or (listed and symbol.mic not in _CLASS):
        raise InvalidSymbolError(symbol.text, "openfigi is asked for shares only, as in AAPL or VOD.L")
    if symbol.mic == "XHKG":
        return symbol.root.lstrip("0")
    if symbol.mic in ("XTSE", "XTSX") and listed == "UN":
        return f"{symbol.root}-U"
    if symbol.mic == "XLON" and not listed:
        return symbol.root.ljust(_LONDON_NAME, "/") if len(symbol.root) < _LONDON_NAME else symbol.root
    return symbol.root + (_CLASS[symbol.mic].format(listed) if listed else "")


ROW = Provider(
    service="openfigi",
    name="OpenFIGI",
    base_url="https://api.openfigi.com/v3",
    auth=Auth("header", "X-OPENFIGI-APIKEY"),
    endpoints={
        "reference": Endpoint(
            "/mapping",
            reference,
            # US is all exchanges there: without it a share comes once for each exchange of the world.
            body=[{"idType": "TICKER", "idValue": "{symbol}", "exchCode": "{venue}"}],
            spell=share,
            venue=lambda symbol: _EXCHANGES[symbol.mic],
        )
    },
    matchers=(
        Matcher(Verdict.NOT_FOUND, "no such instrument", (0, "warning"), "No identifier found"),
        # As its second version says it.
        Matcher(Verdict.NOT_FOUND, "no such instrument", (0, "error"), "No identifier found"),
        # Undocumented, as its clients report it: what is wrong with one job.
        Matcher(Verdict.CALLER_ERROR, "it cannot make out the job", (0, "error")),
    ),
    statuses=frozenset({400, 401, 413, 429}),
    # Without a key; with one, as many in six seconds.
    quota=Quota(25, 60),
    reset=Reset("ratelimit-reset", "seconds"),
    rate_hold=60.0,
    key_required=False,
)

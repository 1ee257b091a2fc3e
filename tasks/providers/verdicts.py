"""From a provider's reply to its class. Pure, and the only place where a reply gets one.

Order: the provider's documented replies (`Matcher`s of its row), then the HTTP status, then the body itself.
Never by status alone: Alpha Vantage answers every error with 200, IEX Cloud says two things with each of 402
and 403. A call that brought no reply at all is judged where it was made, in `http`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus

from pydantic import ValidationError

from tasks.providers import documents
from tasks.providers.catalogue import find_endpoint, find_provider
from tasks.providers.documents import ABSENT, Fields, Node, NotJSONError, SchemaDriftError
from tasks.providers.holds import has_retry_after, hold_seconds
from tasks.providers.redaction import excerpt, printable
from tasks.providers.rows import Endpoint, Hold, Provider, Verdict
from tasks.providers.symbols import clean_symbol
from tasks.records import Quote

_BY_STATUS = {
    401: Verdict.AUTH,
    402: Verdict.QUOTA,
    404: Verdict.NOT_FOUND,
    408: Verdict.PROVIDER_FAILURE,
    410: Verdict.NOT_FOUND,
    426: Verdict.ENTITLEMENT,
    429: Verdict.RATE_LIMIT,
    451: Verdict.ENTITLEMENT,
    499: Verdict.PROVIDER_FAILURE,
}
_SPEAKS_OF_PLANS = re.compile(
    r"\b(access\b|(not )?entitle|permi(t|ss)|plans?\b|premium|subscri|upgrade|NOT_AUTHORIZED)", re.IGNORECASE
)
_NOT_JSON_TYPES = ("html", "xml", "csv", "image/", "audio/", "video/", "pdf")


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a call came to.

    Attributes:
        verdict: The class.
        hold_seconds: How long to leave the provider (or the key, or the dataset) alone; None for no hold.
        detail: One short line for people, free of keys.
        record: The value, of a success only; None there too where neither the reply nor the caller names a
            symbol.
    """

    verdict: Verdict
    hold_seconds: float | None = None
    detail: str = ""
    record: Quote | None = None


@dataclass(frozen=True, slots=True)
class _Reply:
    status: int
    headers: Mapping[str, str]  # names in lower case
    text: str
    document: object
    why_no_document: str

    @property
    def is_html(self) -> bool:
        return "html" in self.headers.get("content-type", "").lower() or self.text.lstrip().startswith("<")


def judge(
    service: str,
    dataset: str,
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    now: datetime | None = None,
    symbol: str | None = None,
) -> Judgement:
    """Class a reply.

    Args:
        service: The provider's name in the catalogue.
        dataset: What was asked for.
        status: HTTP status.
        headers: Response headers; names in any case.
        body: The body, decompressed.
        now: The time (UTC where it has no zone). Without it, a hold until the next minute or day is the whole
            minute or day.
        symbol: What was asked about; a record of another symbol is a failure.

    Returns:
        The judgement; whatever bytes, status and headers come, no exception.

    Raises:
        UnknownServiceError: No such service.
        UnknownDatasetError: No such dataset, or the service does not serve it.
        InvalidSymbolError: `symbol` cannot be one.
    """
    provider = find_provider(service)
    endpoint = find_endpoint(provider, dataset)
    symbol = None if symbol is None else clean_symbol(symbol)
    now = now.replace(tzinfo=UTC) if now is not None and now.tzinfo is None else now
    reply = _read(status, headers, body)

    def judged(verdict: Verdict, detail: str, rule: Hold | None = None) -> Judgement:
        return Judgement(verdict, hold_seconds(provider, verdict, rule, reply.headers, now), detail)

    for matcher in provider.matchers:
        if matcher.matches(reply.status, reply.document, reply.text):
            return judged(matcher.verdict, f"{provider.name}: {matcher.says}", matcher.hold)
    verdict = _by_status(reply)
    if verdict is not None:
        said = "an HTML page" if reply.is_html else excerpt(reply.text)
        return judged(verdict, f"{provider.name} answered {printable(str(status), 20)}{said and ': '}{said}")
    return _by_body(provider, endpoint, dataset, symbol, reply)


def _read(status: int, headers: Mapping[str, str], body: bytes) -> _Reply:
    document, why = ABSENT, ""
    try:
        document = documents.parse(body)
    except NotJSONError as error:
        why = str(error)
    lowered = {str(name).lower(): str(value) for name, value in headers.items()}
    return _Reply(status, lowered, body.decode("utf-8", "replace"), document, why)


def _by_status(reply: _Reply) -> Verdict | None:
    """The class a status alone means; None for 2xx, whose body decides."""
    status = reply.status
    if status in range(200, 300):
        return None
    if status == HTTPStatus.FORBIDDEN:
        return _forbidden(reply)
    if status == HTTPStatus.SERVICE_UNAVAILABLE and has_retry_after(reply.headers):
        return Verdict.RATE_LIMIT
    if status in range(400, 500):
        return _BY_STATUS.get(status, Verdict.CALLER_ERROR)
    return Verdict.PROVIDER_FAILURE  # 5xx, a redirect (never followed), or no HTTP status at all


def _forbidden(reply: _Reply) -> Verdict:
    """403: a plan's limit where a JSON reply says so, a firewall's page where it is HTML, else a bad key."""
    if reply.document is not ABSENT and _SPEAKS_OF_PLANS.search(reply.text):
        return Verdict.ENTITLEMENT
    return Verdict.PROVIDER_FAILURE if reply.is_html else Verdict.AUTH


def _by_body(
    provider: Provider, endpoint: Endpoint, dataset: str, symbol: str | None, reply: _Reply
) -> Judgement:
    """The class of a 2xx reply: a record, no row, or a failure that says what is wrong with it."""

    def failed(why: object) -> Judgement:
        return Judgement(Verdict.PROVIDER_FAILURE, detail=f"{provider.name}: {printable(str(why))}")

    content_type = reply.headers.get("content-type", "").lower()
    if any(kind in content_type for kind in _NOT_JSON_TYPES) and "json" not in content_type:
        return failed(f"the reply is {content_type.split(';')[0]}, not JSON")
    if reply.document is ABSENT:
        return failed(reply.why_no_document)
    try:
        fields = None if reply.document == [] else endpoint.parse(Node(reply.document))
        if fields is None:
            return Judgement(
                endpoint.no_rows, detail=f"{provider.name}: no {dataset} for {symbol or 'the symbol'}"
            )
        return Judgement(Verdict.SUCCESS, record=_record(provider, fields, symbol))
    except SchemaDriftError as error:
        return failed(f"schema drift: {error}")


def _record(provider: Provider, fields: Fields, symbol: str | None) -> Quote | None:
    found = fields.get("symbol", symbol)
    if symbol is not None and found != symbol:
        raise SchemaDriftError(f"the reply is about {found}, not {symbol}")
    if found is None:
        return None
    try:
        return Quote.model_validate({**fields, "provider": provider.service, "symbol": found})
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise SchemaDriftError(f"{where}: {first['msg']}") from None

"""From a provider's reply to its class. Pure, and the only place where a reply gets one.

Order: the provider's documented replies (`Matcher`s of its row), then the HTTP status, then the body itself.
Never by status alone: Alpha Vantage answers every error with 200, IEX Cloud says two things with each of 402
and 403. A call that brought no reply at all is judged where it was made, in `http`.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from hashlib import sha256

from pydantic import ValidationError

from tasks.errors import InvalidSymbolError
from tasks.providers import documents
from tasks.providers.canonical import canonical
from tasks.providers.catalogue import find_endpoint, find_provider
from tasks.providers.documents import (
    ABSENT,
    Fields,
    Node,
    NothingError,
    Rows,
    SchemaDriftError,
    UnreadableError,
)
from tasks.providers.holds import hold_seconds, sent_at
from tasks.providers.redaction import excerpt, printable
from tasks.providers.refusals import Reply, refusal, refusal_as_success
from tasks.providers.rows import Endpoint, Hold, Provider, Verdict
from tasks.providers.symbols import clean_symbol
from tasks.records import DATASETS, Bar, NewsArticle, Record, Value, in_order

UNNAMED = "?"
"""The symbol of a record where neither the reply nor the caller says what it is about; none can be so."""

_PROMISED = ("interval", "adjustment")  # of the values, by the row; a reply that says otherwise is none of it
_WRONG_TYPES = {
    "json": ("html", "xml", "csv", "image/", "audio/", "video/", "pdf"),
    "csv": ("html", "xml", "json", "image/", "audio/", "video/", "pdf"),
}


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a call came to.

    Attributes:
        verdict: The class.
        hold_seconds: How long to leave the provider (or the key, or the dataset) alone; None for no hold.
        detail: One short line for people, free of keys; of a success, how many rows were left out and why.
        record: The value: of a success the record, or the records in order, of an `empty` list no records.
            None for any other class. Where neither the reply nor the caller says what it is about, its symbol
            is `UNNAMED`.
        documented: False where no documented reply is this one: it has the class its status has with anybody,
            or is no success anybody documented. What any 5xx means is HTTP's to say.
        left_out: Of a list: how many rows of no use were left out of it, by why, in a word.
        shapes: What was wrong with them, each kind once: why, and a JSON path without its places.
        drifted: It is a success by its status, in the right format, that could not be used. That says
            something of what was asked for; of the provider only where others meet it, too.
        certain: False of `auth` where a 401 or 403 does not say in the provider's own words that it is the
            key: what stands in between may have refused the call.
    """

    verdict: Verdict
    hold_seconds: float | None = None
    detail: str = ""
    record: Value | None = None
    documented: bool = True
    left_out: Mapping[str, int] = field(default_factory=dict)
    shapes: tuple[str, ...] = ()
    drifted: bool = False
    certain: bool = True


def judge(
    service: str,
    dataset: str,
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    now: datetime | None = None,
    symbol: str | None = None,
    spelled: str | None = None,
) -> Judgement:
    """Class a reply.

    Args:
        service: The provider's name in the catalogue.
        dataset: What was asked for.
        status: HTTP status.
        headers: Response headers; names in any case.
        body: The body, decompressed.
        now: The time (UTC where it has no zone); None: that of the reply's Date header. Where there is none
            either, a hold until the next minute or day is the whole minute or day.
        symbol: What was asked about, as the row asks: a record of another symbol, or with prices that are
            adjusted for something else, is a failure. None: the reply is taken for what it says it is.
        spelled: How it was asked for, where the row alone cannot tell: by an id that was looked up.

    Returns:
        The judgement; whatever bytes, status and headers come, no exception.

    Raises:
        UnknownServiceError: No such service.
        UnknownDatasetError: No such dataset, or the service does not serve it.
        InvalidSymbolError: `symbol` cannot be one.
    """
    provider = find_provider(service)
    endpoint = find_endpoint(provider, dataset)
    if spelled is not None:
        endpoint = replace(endpoint, spell=lambda _symbol: spelled)
    symbol = None if symbol is None else clean_symbol(symbol)
    reply = _read(endpoint, status, headers, body)
    now = sent_at(reply.headers) if now is None else now
    now = now.replace(tzinfo=UTC) if now is not None and now.tzinfo is None else now

    def judged(
        verdict: Verdict, detail: str, rule: Hold | None = None, *, documented: bool = True
    ) -> Judgement:
        hold = hold_seconds(provider, verdict, rule, reply.headers, now)
        return Judgement(verdict, hold, detail, _nothing(dataset, verdict), documented)

    for matcher in provider.matchers:
        if matcher.matches(reply.status, reply.document, reply.text):
            found = judged(matcher.verdict, f"{provider.name}: {matcher.says}", matcher.hold)
            return replace(found, hold_seconds=None) if matcher.of_one_symbol else found
    refused = refusal(provider, reply)
    if refused is None:
        found = _by_body(provider, endpoint, dataset, symbol, reply)
        refused = refusal_as_success(provider, reply) if found.verdict is Verdict.PROVIDER_FAILURE else None
        if refused is None:
            return found
    said = "an HTML page" if reply.is_html else excerpt(reply.text)
    detail = f"{provider.name} answered {printable(str(status), 20)}{said and ': '}{said}"
    known = reply.status in provider.statuses or reply.status in range(500, 600)
    found = judged(refused.verdict, detail, refused.hold, documented=known)
    return replace(found, certain=refused.certain)


def _read(endpoint: Endpoint, status: int, headers: Mapping[str, str], body: bytes) -> Reply:
    document, why = ABSENT, ""
    lowered = {str(name).lower(): str(value) for name, value in headers.items()}
    try:
        if endpoint.reply == "csv" and not body.lstrip().startswith((b"{", b"[")):
            document = documents.parse_csv(body)
        else:  # who sends CSV may still answer an error in JSON
            document = documents.parse(body)
    except UnreadableError as error:
        why = str(error)
    return Reply(status, lowered, body.decode("utf-8", "replace"), document, why)


def _by_body(
    provider: Provider, endpoint: Endpoint, dataset: str, symbol: str | None, reply: Reply
) -> Judgement:
    """The class of a 2xx reply: a record, no row, or a failure that says what is wrong with it."""

    def failed(why: object, *, drifted: bool = False) -> Judgement:
        detail = f"{provider.name}: {printable(str(why))}"
        return Judgement(Verdict.PROVIDER_FAILURE, detail=detail, documented=False, drifted=drifted)

    content_type, wanted = reply.headers.get("content-type", "").lower(), endpoint.reply
    wrong = next((kind for kind in _WRONG_TYPES[wanted] if kind in content_type), None)
    if wrong and wanted not in content_type:
        return failed(f"the reply is {wrong.strip('/')}, not {wanted.upper()}")
    if reply.document is ABSENT:
        return failed(reply.why_no_document)
    kind, about = DATASETS[dataset], symbol or "the symbol"
    try:
        found = _read_rows(endpoint, kind, reply.document)
        records, left_out = _records(provider, endpoint, kind, Rows() if found is None else found, symbol)
    except SchemaDriftError as error:
        return failed(f"schema drift: {error}", drifted=True)
    if not found and not left_out:
        verdict = Verdict.NOT_FOUND if found is None else endpoint.no_rows
        detail = f"{provider.name}: no {dataset} for {about}"
        return Judgement(verdict, detail=detail, record=_nothing(dataset, verdict))
    if kind.alone and not records:
        detail = f"{provider.name} knows {about}, and has no {dataset} of it now: {left_out[0]}"
        return Judgement(Verdict.EMPTY, detail=printable(detail))
    counts = Counter(error.why for error in left_out)
    told = ", ".join(f"{count} {why}" for why, count in sorted(counts.items()))
    return Judgement(
        Verdict.SUCCESS if records else Verdict.EMPTY,
        detail=f"{provider.name}: of {len(records) + len(left_out)} rows left out: {told}" if told else "",
        record=records[0] if kind.alone else _kept(endpoint, kind, records),
        left_out=dict(counts),
        shapes=tuple(sorted({f"{error.why}: {error.shape}" for error in left_out})),
    )


def _nothing(dataset: str, verdict: Verdict) -> tuple[Record, ...] | None:
    """An empty answer is a list without records, where there are lists."""
    return () if verdict is Verdict.EMPTY and not DATASETS[dataset].alone else None


def _read_rows(endpoint: Endpoint, kind: type[Record], document: object) -> Rows | None:
    """What the row's reader makes of a document; None where the provider knows no such thing."""
    if document is None:
        raise SchemaDriftError("$ is null")
    if document == []:
        return None if kind.alone else Rows()
    try:
        found = endpoint.parse(Node(document))
    except NothingError as error:
        if kind.alone:
            return Rows(left_out=[error])
        raise
    if isinstance(found, Mapping):
        return Rows([found])
    return found if found is None or isinstance(found, Rows) else Rows(found)


def _records(
    provider: Provider, endpoint: Endpoint, kind: type[Record], rows: Rows, symbol: str | None
) -> tuple[list[Record], list[SchemaDriftError]]:
    """The records, and what was wrong with the rows that are none.

    Raises:
        SchemaDriftError: The whole reply has drifted.
    """
    records, left_out = [], list(rows.left_out)
    for fields in rows:
        try:
            records.append(_record(kind, _complete(provider, endpoint, kind, fields, symbol)))
        except SchemaDriftError as error:
            left_out.append(error)
    odd = [error for error in left_out if not isinstance(error, NothingError)]
    # The one rule of when the whole reply has drifted, and not a row of it: most of the rows that have
    # something in them cannot be read. Rows without anything are common, as a day without a trade.
    if len(odd) > len(records):
        raise odd[0]
    return records, left_out


def _kept(endpoint: Endpoint, kind: type[Record], records: Sequence[Record]) -> tuple[Record, ...]:
    if kind is Bar:  # today may come twice, the live one last
        records = list({record.as_of: record for record in records}.values())
    ordered = in_order(records)
    return ordered[: endpoint.max_rows] if kind.newest_first else ordered[-endpoint.max_rows :]


def _complete(
    provider: Provider, endpoint: Endpoint, kind: type[Record], fields: Fields, symbol: str | None
) -> Fields:
    """The fields, and what only the caller or the row knows."""
    named = [str(fields[name]) for name in kind.subjects if fields.get(name) is not None]
    known: dict[str, object] = {"provider": provider.service}
    if symbol is not None and named and symbol not in named:
        if not any(_names(endpoint, name, symbol) for name in named):
            other = excerpt(named[0]) or "another"
            raise SchemaDriftError(f"the reply is about {other}, not {symbol}", shape="about another symbol")
        fields = {**fields, kind.subjects[0]: symbol}  # named as its provider spells it
    if symbol is None and fields.get("symbol") is not None:
        fields = {**fields, "symbol": _ours(str(fields["symbol"]))}
    if kind.subjects and kind.subjects[0] not in fields:
        known[kind.subjects[0]] = symbol or UNNAMED
    if endpoint.adjustment is not None:
        promised = {name: getattr(endpoint, name) for name in _PROMISED if name in kind.model_fields}
        known |= promised
        told = {**known, **fields}
        for name, value in promised.items():
            if symbol is not None and told[name] != value:
                raise SchemaDriftError(f"prices are {told[name]}, asked for {value}", shape=name)
    if kind is NewsArticle and "article_id" not in fields:
        known["article_id"] = sha256(str(fields["url"]).encode()).hexdigest()
    told = {**known, **fields}
    return canonical(kind, told, symbol or str(told[kind.subjects[0]]) if kind.subjects else "")


def _names(endpoint: Endpoint, name: str, symbol: str) -> bool:
    """Whether a reply's name is the symbol's, in the provider's spelling or in any that means the same."""
    spelled = endpoint.spelling(symbol).upper()
    return name.upper() in (spelled, f"{endpoint.prefix}{spelled}") or _ours(name) == symbol


def _ours(name: str) -> str:
    """A reply's name of a symbol as it is written here, where that can be told."""
    try:
        return clean_symbol(name)
    except InvalidSymbolError:
        return name


def _record(kind: type[Record], fields: Fields) -> Record:
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise SchemaDriftError(f"{where}: {first['msg']}") from None

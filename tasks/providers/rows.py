"""What a provider's row in the catalogue may say.

A row is data: where to ask, how to show the key, which replies mean what. Its callables are an endpoint's
`parse` and, where symbols are spelled in the provider's own way, `spell`. Nothing here calls anything;
`verdicts` judges by these rows and `http` asks by them.
"""

from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import Any, Literal

from tasks.errors import InvalidSymbolError
from tasks.providers.documents import Fields, Node, at
from tasks.providers.symbols import Kind, Spelling, Symbol, parse
from tasks.records import Adjustment, Interval


class Verdict(StrEnum):
    """The class of a provider's reply; each means one thing to the breaker and one to the task.

    ``DELAYED`` is of no reply: this process itself has kept the call from being made in time.
    """

    SUCCESS = "success"
    PROVIDER_FAILURE = "provider_failure"
    RATE_LIMIT = "rate_limit"
    QUOTA = "quota"
    AUTH = "auth"
    ENTITLEMENT = "entitlement"
    CALLER_ERROR = "caller_error"
    NOT_FOUND = "not_found"
    EMPTY = "empty"
    RETIRED = "retired"
    DELAYED = "delayed"


class Window(StrEnum):
    """A limit's window; the hold lasts until the next one starts, on the UTC clock."""

    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"
    MONTH = "month"

    @property
    def seconds(self) -> int:
        """Its length in seconds; a month's is the longest there is."""
        lengths = {Window.MINUTE: 60, Window.HOUR: 3_600, Window.DAY: 86_400, Window.MONTH: 31 * 86_400}
        return lengths[self]


@dataclass(frozen=True, slots=True)
class Until:
    """A limit's window on another clock than UTC's, or one that does not start at midnight.

    Attributes:
        window: A day, or a month.
        zone: The clock, as in America/New_York.
        hour: When the day, or the month's first day, starts on it.
    """

    window: Literal[Window.DAY, Window.MONTH]
    zone: str = "UTC"
    hour: int = 0


Hold = float | Window | Until
"""How long to leave a provider alone: seconds, or until the next window."""


@dataclass(frozen=True, slots=True)
class Reset:
    """A response header that tells when the rate limit ends.

    Attributes:
        header: Its name.
        unit: Unix time in seconds or in milliseconds, or seconds from now.
    """

    header: str
    unit: Literal["unix_seconds", "unix_milliseconds", "seconds"] = "unix_seconds"


@dataclass(frozen=True, slots=True)
class Quota:
    """How often a provider may be asked, by its documentation of the free plan.

    The circuit's pace is made of it (`tasks.fetch.pace`); `circuits.toml` tells of other plans.

    Attributes:
        calls: At most so many calls,
        seconds: in any so many seconds, evenly spaced.
        burst: Calls that may go at once after a pause; they are among `calls`.
    """

    calls: int
    seconds: float
    burst: int = 1


@dataclass(frozen=True, slots=True)
class Auth:
    """How a request carries the key.

    Attributes:
        style: query and header: under `name`, in the URL's query or in a header. pair: the setting is
            `id:secret`, the id goes into the header `name`, the secret into `second`. basic: HTTP basic
            authentication, of `user:password` or of the key as the user. A header is preferred: URLs end up
            in logs.
        name: The parameter's or header's name.
        prefix: Before the key in a header, as in "Bearer ".
        second: The header of a pair's secret.
    """

    style: Literal["query", "header", "pair", "basic"]
    name: str = "Authorization"
    prefix: str = ""
    second: str = ""

    def headers(self, key: str) -> dict[str, str]:
        """The headers that carry a key; of a pair without a colon, the secret is empty."""
        if self.style == "header":
            return {self.name: self.prefix + key}
        if self.style == "pair":
            ident, _, secret = key.partition(":")
            return {self.name: ident, self.second: secret}
        return {self.name: f"Basic {_basic(key)}"} if self.style == "basic" else {}

    def params(self, key: str) -> dict[str, str]:
        """The query parameters that carry a key."""
        return {self.name: key} if self.style == "query" else {}

    def spellings(self, key: str) -> frozenset[str]:
        """The key as it may show up in a text."""
        found = {key}
        if self.style == "pair":
            found |= set(key.split(":", 1))
        if self.style == "basic":
            found |= {_basic(key), *key.split(":", 1)}
        return frozenset(filter(None, found))


def _basic(key: str) -> str:
    return b64encode((key if ":" in key else f"{key}:").encode()).decode()


@dataclass(frozen=True, slots=True)
class Matcher:
    """One documented reply, recognised before any status rule. All conditions given must hold.

    Attributes:
        verdict: What the reply means.
        says: The reply in our words, for people; never the provider's text, which may echo the key.
        path: Keys and indexes to the JSON value looked at; empty for the whole body as text.
        contains: A part of that value as text, in any case; empty where its being there is enough.
        equals: The whole of that value as text.
        statuses: The HTTP statuses it comes with; empty for any.
        hold: Overrides the provider's own rule for this reply.
        of_one_symbol: It is about the symbol that was asked for: nothing is left alone for it.
    """

    verdict: Verdict
    says: str
    path: tuple[str | int, ...] = ()
    contains: str = ""
    equals: str | None = None
    statuses: frozenset[int] = frozenset()
    hold: Hold | None = None
    of_one_symbol: bool = False

    def matches(self, status: int, document: object, text: str) -> bool:
        """Whether a reply is this one.

        Args:
            status: HTTP status.
            document: The parsed body; `documents.ABSENT` where it is no document.
            text: The body as text.
        """
        if self.statuses and status not in self.statuses:
            return False
        seen = at(document, self.path) if self.path else text
        if seen is None:
            return False
        if self.equals is not None and seen != self.equals:
            return False
        return self.contains.casefold() in seen.casefold()


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where one dataset is asked for.

    In `path`, the values of `params` and the texts of `body` these stand for their values:

        {symbol}        the symbol, as `spell` spells it
        {symbol_lower}  the same in lower case
        {venue}         where it is traded, as `venue` spells it; a parameter that is empty is left out
        {start} {end}   the window's first and last day, YYYY-MM-DD
        {start_compact} {end_compact}  the same, YYYYMMDD
        {start_unix} {end_unix}        the first day's midnight (UTC) and now, as Unix time in seconds

    Attributes:
        path: Appended to the base URL; what is put in is percent-encoded, but for the slashes of `spell`.
        parse: Turns the reply into a record's fields, or into a list of them where the dataset has a list, in
            any order (without provider; without symbol, or series id, where the reply has none). None where
            the provider knows no such thing; raises SchemaDriftError.
        params: The query parameters.
        body: Sent as JSON, with POST.
        spell: Turns a symbol into the provider's spelling, mostly a `symbols.Spelling`; raises
            InvalidSymbolError for one it cannot have. It may add slashes. A reply may name the symbol in
            either spelling. With nothing said, the endpoint has shares listed in the US.
        venue: The exchange, where the provider wants it apart from the symbol.
        prefix: How the symbols start that are this provider's alone, as in "WB:", which others know nothing
            of; it is taken off before `spell`, which then gets a text of no kind. A provider with one is
            asked for no other symbol: where GME is a share to some and a coin to another, nobody gets the
            price of the wrong one.
        beside: Kinds that it has beside those with its prefix, where nothing else can be meant.
        example: A symbol it serves, with the prefix.
        window_days: From {start} to {end}.
        reply: What a success is written in. Of CSV, `parse` gets a list of objects by the header's names.
        no_rows: The class of a list without a row.
        max_rows: The newest so many are kept of a list.
        adjustment: Of bars and dividends: what their prices or amounts are adjusted for.
        interval: Of bars: how long each spans.
        host: Another one than the provider's, as in https://www.sec.gov. A base URL set by hand stands for
            it, too.
        directory: Where the provider wants ids of its own: the dataset, and the symbol in it, of its list of
            them. What `spell` gives, up to a slash, is a ticker of that list, or digits, which are an id.
    """

    path: str
    parse: Callable[[Node], Fields | Sequence[Fields] | None]
    params: Mapping[str, str] = field(default_factory=dict)
    body: object = None
    spell: Callable[[Symbol], str] = Spelling()  # noqa: RUF009 - frozen
    venue: Callable[[Symbol], str] = lambda symbol: symbol.mic
    prefix: str = ""
    beside: frozenset[Kind] = frozenset()
    example: str = "AAPL"
    window_days: int = 30
    reply: Literal["json", "csv"] = "json"
    no_rows: Verdict = Verdict.EMPTY
    max_rows: int = 1_000
    adjustment: Adjustment | None = None
    interval: Interval = "1d"
    host: str = ""
    directory: tuple[str, str] | None = None

    @property
    def method(self) -> str:
        """POST where there is a body to send."""
        return "GET" if self.body is None else "POST"

    def spelling(self, symbol: str) -> str:
        """A clean symbol in the provider's spelling.

        Raises:
            InvalidSymbolError: The provider cannot have such a symbol.
        """
        return self._spelled(self._own(symbol))

    def _spelled(self, own: Symbol) -> str:
        spelled = self.spell(own)
        if {".", ".."} & set(spelled.split("/")):  # a path would take it for a step
            raise InvalidSymbolError(own.text)
        return spelled

    def _own(self, symbol: str) -> Symbol:
        if self.prefix and symbol.startswith(self.prefix):
            return Symbol(Kind.OTHER, symbol.removeprefix(self.prefix))
        parsed = parse(symbol)
        if self.prefix and parsed.kind not in self.beside:
            raise InvalidSymbolError(symbol, f"write it with {self.prefix} before it, as in {self.example}")
        return parsed

    def ticker(self, symbol: str) -> str:
        """What must be looked up in the directory before this symbol can be asked for; empty for nothing.

        Raises:
            InvalidSymbolError: The provider cannot have such a symbol.
        """
        name = self.spelling(symbol).partition("/")[0]
        return name if self.directory and not name.isdigit() else ""

    def words(self, symbol: str, now: datetime, ident: str = "") -> dict[str, str]:
        """What the placeholders stand for.

        Args:
            symbol: Clean.
            now: The time, with a zone.
            ident: What the directory has of the symbol's `ticker`.

        Raises:
            InvalidSymbolError: The provider cannot have such a symbol.
        """
        own, end = self._own(symbol), now.astimezone(UTC)
        spelled = self._spelled(own)
        if ident:
            spelled = ident + spelled.removeprefix(self.ticker(symbol))
        start = end.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=self.window_days)
        return {
            "symbol": spelled,
            "symbol_lower": spelled.lower(),
            "venue": self.venue(own),
            "start": f"{start:%Y-%m-%d}",
            "end": f"{end:%Y-%m-%d}",
            "start_compact": f"{start:%Y%m%d}",
            "end_compact": f"{end:%Y%m%d}",
            "start_unix": str(int(start.timestamp())),
            "end_unix": str(int(end.timestamp())),
        }


YEARS = 3_653
"""Ten years, in days: how far dividends and splits are asked for where a request says from when on."""

_INTRADAY_DAYS: Mapping[Interval, int] = {"1m": 4, "5m": 8, "15m": 30, "30m": 45, "1h": 90}  # a long weekend
_INTRADAY_ROWS = 400  # a session of minutes


def intraday(
    names: Mapping[Interval, str],
    path: str,
    parse: Callable[[Node], Fields | Sequence[Fields] | None],
    params: Mapping[str, str],
    **more: Any,
) -> dict[str, Endpoint]:
    """The endpoints of the bars of minutes and hours, made of one template.

    Args:
        names: The intervals there are → what the provider calls each; it stands for `{interval}`.
        path: As an endpoint's.
        parse: The same for all; of each bar its start.
        params: As an endpoint's.
        more: What else the endpoints have in common.
    """
    return {
        f"bars_{interval}": Endpoint(
            path.replace("{interval}", name),
            parse,
            {key: value.replace("{interval}", name) for key, value in params.items()},
            interval=interval,
            window_days=_INTRADAY_DAYS[interval],
            max_rows=_INTRADAY_ROWS,
            **more,
        )
        for interval, name in names.items()
    }


@dataclass(frozen=True, slots=True)
class Provider:
    """One provider.

    Attributes:
        service: Its name everywhere here, and the prefix of its environment variables.
        name: Its name for people.
        base_url: Without a slash at the end.
        auth: How a request carries the key; None for a provider that knows none.
        endpoints: Dataset → endpoint.
        matchers: Its documented replies, tried in order: the first match wins.
        statuses: Those it documents, below 500, that mean there what they mean everywhere.
        deadline_seconds: Wall-clock seconds for a whole call, name look-up to the body's last byte.
        connect_seconds: Of them at most so many for the name look-up and the connection, and for TLS again.
        read_seconds: The longest silence of a provider that is to answer, or is answering.
        max_body_bytes: The largest body taken, decompressed.
        quota: How often it may be asked; None where nothing is documented.
        circuit: Fields of its circuit's policy for which its documentation gives a reason; what is not here
            is as the whole catalogue's (`tasks.fetch.CIRCUIT`).
        max_concurrent: Calls it takes at the same time; None where nothing is documented.
        rate_hold: How long a rate limit holds where the reply does not say.
        quota_hold: How long a used-up quota holds.
        reset: The header that tells when the rate limit ends; believed where it is plausible.
        headers: Fixed headers beside the usual ones.
        plan_lists_symbols: Whether a plan may have a dataset of some symbols only; that one is not in it then
            says nothing of the others.
        retired: The day the provider went away for good; it is not called unless a base URL is set by hand.
        note: What operators are to know of it: why it was retired, or what is left of it, and what to use
            instead.
        plans: Plans that are asked in another way, the one of this row first: name → the fields here that are
            others in it. <SERVICE>_PLAN names the user's; unset it is the first.
        key_required: Whether it answers nobody without a key.
        contact_required: Whether it wants to know who asks: <SERVICE>_CONTACT is then the User-Agent.
    """

    service: str
    name: str
    base_url: str
    auth: Auth | None
    endpoints: Mapping[str, Endpoint]
    matchers: tuple[Matcher, ...] = ()
    statuses: frozenset[int] = frozenset()
    deadline_seconds: float = 10.0
    connect_seconds: float = 5.0
    read_seconds: float = 10.0
    max_body_bytes: int = 2 * 1024 * 1024
    quota: Quota | None = None
    circuit: Mapping[str, Any] = field(default_factory=dict)
    max_concurrent: int | None = None
    rate_hold: Hold = 60.0
    quota_hold: Hold = Window.DAY
    reset: Reset | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    plan_lists_symbols: bool = False
    retired: date | None = None
    note: str = ""
    plans: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    key_required: bool = True
    contact_required: bool = False

    def on(self, plan: str | None) -> "Provider":
        """The row as one of its plans has it; None: the first."""
        return replace(self, **self.plans[plan]) if plan else self

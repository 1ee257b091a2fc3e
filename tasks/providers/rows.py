"""What a provider's row in the catalogue may say.

A row is data: where to ask, how to show the key, which replies mean what. Its one callable is an endpoint's
`parse`. Nothing here calls anything; `verdicts` judges by these rows and `http` asks by them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from typing import Literal

from tasks.providers.documents import Fields, Node, at


class Verdict(StrEnum):
    """The class of a provider's reply; each means one thing to the breaker and one to the task."""

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


class Window(StrEnum):
    """A limit's window; the hold lasts until the next one starts, on the UTC clock."""

    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"

    @property
    def seconds(self) -> int:
        """Its length in seconds."""
        return {Window.MINUTE: 60, Window.HOUR: 3_600, Window.DAY: 86_400}[self]


Hold = float | Window
"""How long to leave a provider alone: seconds, or until the next window."""


@dataclass(frozen=True, slots=True)
class Auth:
    """How a request carries the key.

    Attributes:
        style: In the URL's query, or in a header. A header is preferred: URLs end up in logs.
        name: The parameter's or header's name.
    """

    style: Literal["query", "header"]
    name: str


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
    """

    verdict: Verdict
    says: str
    path: tuple[str | int, ...] = ()
    contains: str = ""
    equals: str | None = None
    statuses: frozenset[int] = frozenset()
    hold: Hold | None = None

    def matches(self, status: int, document: object, text: str) -> bool:
        """Whether a reply is this one.

        Args:
            status: HTTP status.
            document: The parsed body; `documents.ABSENT` where it is no JSON.
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

    Attributes:
        path: Appended to the base URL; `{symbol}` stands for the symbol, percent-encoded.
        parse: Turns the reply into a record's fields (without provider, and without symbol where the reply
            has none); None where the provider knows no such thing; raises SchemaDriftError.
        params: The fixed query parameters; `{symbol}` in a value stands for the symbol.
        no_rows: The class of an answer without a row.
    """

    path: str
    parse: Callable[[Node], Fields | None]
    params: Mapping[str, str] = field(default_factory=dict)
    no_rows: Verdict = Verdict.NOT_FOUND


@dataclass(frozen=True, slots=True)
class Provider:
    """One provider.

    Attributes:
        service: Its name everywhere here, and the prefix of its environment variables.
        name: Its name for people.
        base_url: Without a slash at the end.
        auth: How a request carries the key.
        endpoints: Dataset → endpoint.
        matchers: Its documented replies, tried in order: the first match wins.
        deadline_seconds: Wall-clock seconds for a whole call, name look-up to the body's last byte.
        max_body_bytes: The largest body taken, decompressed.
        rate_hold: How long a rate limit holds where the reply does not say.
        quota_hold: How long a used-up quota holds.
        reset_header: Response header with the Unix time in seconds at which the rate limit ends.
        retired: The day the provider went away for good; it is not called unless a base URL is set by hand.
        note: Why it was retired, and what to use instead.
        key_required: Whether it answers nobody without a key.
    """

    service: str
    name: str
    base_url: str
    auth: Auth
    endpoints: Mapping[str, Endpoint]
    matchers: tuple[Matcher, ...] = ()
    deadline_seconds: float = 10.0
    max_body_bytes: int = 2 * 1024 * 1024
    rate_hold: Hold = 60.0
    quota_hold: Hold = Window.DAY
    reset_header: str | None = None
    retired: date | None = None
    note: str = ""
    key_required: bool = True

"""What a simulated provider may say.

Where a provider documents no reply for a mode, its nearest one stands in, and a comment says so.
"""

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any, Literal

BAD_GATEWAY_PAGE = (
    "<html><head><title>502 Bad Gateway</title></head>"
    "<body><center><h1>502 Bad Gateway</h1></center></body></html>"
)


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply; a body that is no string is sent as JSON.

    Attributes:
        status: HTTP status.
        body: Text, or what JSON can say. The word REDACTED in it stands for the caller's key.
        headers: Beside Content-Type; in a value `{reset}` stands for the Unix time in seconds at which the
            limit ends, `{reset_ms}` for the same in milliseconds, `{to_reset}` for the seconds until then.
        kind: Its Content-Type; by the kind of body where empty.
    """

    status: int
    body: object
    headers: Mapping[str, str] = field(default_factory=dict)
    kind: str = ""

    @property
    def content_type(self) -> str:
        """What Content-Type says."""
        if self.kind:
            return self.kind
        if not isinstance(self.body, str):
            return "application/json"
        return "text/html" if self.body.startswith("<") else "text/plain"

    def encoded(self) -> bytes:
        """The body's bytes."""
        return (self.body if isinstance(self.body, str) else json.dumps(self.body)).encode()

    def headers_at(self, now: float, ends: float | None = None) -> dict[str, str]:
        """The headers with their times filled in.

        Args:
            now: Unix time in seconds.
            ends: When the limit does; None for the next full minute.
        """
        ends = now // 60 * 60 + 60 if ends is None else ends
        times = {
            "reset": math.ceil(ends),
            "reset_ms": math.ceil(ends * 1_000),
            "to_reset": math.ceil(ends - now),
        }
        return {name: value.format_map(times) for name, value in self.headers.items()}


BAD_GATEWAY = Reply(502, BAD_GATEWAY_PAGE)
"""For a provider that publishes no 5xx of its own: its gateway's."""

Live = Callable[[Any, str, Decimal, datetime], object]


@dataclass(frozen=True, slots=True)
class Answers:
    """What one endpoint says while all is well.

    Attributes:
        sample: The documented success, or the part of it that `live` needs.
        live: Makes a success of the sample, a symbol (as the request spells it, upper case), a price and the
            time.
        unknown_symbol: For a symbol the provider does not know.
        start: Where a symbol's price starts: the sample's.
        kind: A success's Content-Type; by the kind of body where empty.
    """

    sample: Any
    live: Live
    unknown_symbol: Reply
    start: Decimal = Decimal(100)
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Limit:
    """A documented quota: so many calls in so many seconds.

    Attributes:
        calls: So many.
        seconds: The window's length.
        window: sliding: any stretch of that length, the strictest, where nothing else is documented. clock:
            from one full minute, hour or day of UTC to the next; a month is 31 days. first_call: from a call
            on.
        says: Which reply refuses.
        quiet_seconds: How long the calls must have kept to it before one is let through again.
    """

    calls: int
    seconds: float
    window: Literal["sliding", "clock", "first_call"] = "sliding"
    says: Literal["throttle", "quota"] = "throttle"
    quiet_seconds: float = 0.0


MINUTE, HOUR, DAY, MONTH = 60, 3_600, 86_400, 31 * 86_400
"""Seconds."""


@dataclass(frozen=True, slots=True)
class Replies:
    """One provider's replies.

    Attributes:
        endpoints: Dataset → what its endpoint says.
        server_error: For mode 5xx.
        throttle: For mode throttle.
        quota: For mode quota.
        bad_key: For mode bad_key, and for a request without a key, or without a contact, that needs one.
        no_path: For a path that is no endpoint.
        bad_call: For an endpoint with other parameters; `no_path` where the provider makes no difference.
        limits: The documented quotas of the plan whose quota the catalogue's row has.
    """

    endpoints: Mapping[str, Answers]
    server_error: Reply
    throttle: Reply
    quota: Reply
    bad_key: Reply
    no_path: Reply
    bad_call: Reply | None = None
    limits: tuple[Limit, ...] = ()


def last_days(now: datetime, number: int) -> list[date]:
    """The last so many working days up to today, newest first."""
    days = (now.astimezone(UTC).date() - timedelta(days=back) for back in range(2 * number + 3))
    return [day for day in days if day.weekday() < 5][:number]  # noqa: PLR2004 - Saturday


def last_midnights(now: datetime, number: int) -> list[int]:
    """When the last so many days of UTC began, Unix time in seconds, today's first; coins know no weekend."""
    today = int(now.timestamp()) // DAY * DAY
    return [today - back * DAY for back in range(number)]


LENGTHS = {"1m": 60, "5m": 300, "15m": 900, "30m": 1_800, "1h": 3_600}
"""How long a bar spans, in seconds."""

Minutes = Callable[[Any, str, Decimal, list[datetime], str], object]
"""Makes a success of the sample, a symbol, the newest close, the bars' starts (newest first, in UTC) and what
each spans."""


def intraday(
    sample: Any,
    minutes: Minutes,
    unknown_symbol: Reply,
    start: Decimal,
    spans: Iterable[str] = tuple(LENGTHS),
) -> dict[str, Answers]:
    """What the endpoints of bars of minutes and hours say: the newest of them."""
    return {
        f"bars_{span}": Answers(sample, partial(_live, minutes, span), unknown_symbol, start)
        for span in spans
    }


def _live(minutes: Minutes, span: str, sample: Any, symbol: str, price: Decimal, now: datetime) -> object:
    newest = int(now.timestamp()) // LENGTHS[span] * LENGTHS[span]
    starts = [datetime.fromtimestamp(newest - back * LENGTHS[span], UTC) for back in range(20)]
    return minutes(sample, symbol, price, starts, span)


def as_told(make: Callable[[Any, str], object]) -> Live:
    """Of what has no price: how a success is made of the sample and a symbol."""
    return lambda sample, symbol, _price, _now: make(sample, symbol)


def last_close(sample: Mapping[str, Any], key: str, close: object, number: int) -> list[dict[str, Any]]:
    """So many samples, the newest of them, which is the first, with this close."""
    return [{**sample, key: close}, *(dict(sample) for _ in range(number - 1))]

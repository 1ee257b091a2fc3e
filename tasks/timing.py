"""When a scheduled fetch is due: every so many seconds or by a crontab, at any time or in market hours.

Every timing tells the next due time after any time, from the clock alone: what ran before is no part of it,
so nothing need be kept. Each of many fetches of one timing has its own place in it, from 0 to less than 1,
which keeps them apart. Times are Unix times in seconds.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, Protocol

from tasks.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from zoneinfo import ZoneInfo

DAY = 86_400
MINUTE = 60
# What is due at a minute of a crontab is spread over it: no shorter time lies between two such minutes.
CRONTAB_SPREAD = MINUTE
# The 29th of February comes after eight years at the latest.
HORIZON = timedelta(days=9 * 366)
# Days differ; the busiest of a week is asked for.
WEEK_DAYS = 7
NEVER = math.inf


class Timing(Protocol):
    """When fetches are due."""

    @property
    def market(self) -> Market | None:
        """The exchange that must be open."""

    @property
    def spread_seconds(self) -> float:
        """Over how long those due together are spread."""

    def next_after(self, when: float, place: float = 0) -> float:
        """The first due time later than ``when`` of what has this place; ``NEVER`` for none."""

    def most_in(self, seconds: float, now: float) -> float:
        """How often one fetch is due in the busiest window of so many seconds, soon after now."""


class Market:
    """An exchange's opening hours, with its holidays and half days; a lunch break is closed.

    Args:
        mic: Its market identifier code, as in XNYS.

    Raises:
        InputError: Nobody knows its hours.
    """

    def __init__(self, mic: str) -> None:
        self.mic = mic
        self._opens: list[float] = []
        self._closes: list[float] = []
        self._load(datetime.now(UTC).timestamp())

    def session_from(self, when: float) -> tuple[float, float] | None:
        """When the session that is on, or else the next, opens and closes; None where no calendar reaches."""
        if not self._opens or when < self._opens[0] or when >= self._closes[-1]:
            self._load(when)
        at = bisect_right(self._closes, when)
        return (self._opens[at], self._closes[at]) if at < len(self._opens) else None

    def closed_before(self, opens: float) -> float:
        """When the session before the one that opens then has closed."""
        at = bisect_left(self._opens, opens)
        return self._closes[at - 1] if at else -math.inf

    def open_seconds(self, start: float, end: float) -> float:
        """How long it is open between two times."""
        total = 0.0
        while start < end and (session := self.session_from(start)):
            total += max(0.0, min(session[1], end) - max(session[0], start))
            start = session[1]
        return total

    def _load(self, when: float) -> None:
        """From a month before a time to a year from today, further than which no calendar is known."""
        calendars = _calendars()
        start = datetime.fromtimestamp(when, UTC).date() - timedelta(days=30)
        try:
            table = calendars.get_calendar(self.mic, start=start.isoformat()).schedule
        except calendars.errors.InvalidCalendarName:
            known = ", ".join(calendars.get_calendar_names(include_aliases=False))
            raise InputError(
                f"market_hours={self.mic!r}: no such exchange; give a market identifier code, one of {known}"
            ) from None
        except ValueError:  # it begins after the calendar's end
            return
        self._opens, self._closes = [], []
        for opens, pause, resumes, closes in zip(
            *(table[name] for name in ("open", "break_start", "break_end", "close")), strict=True
        ):
            broken = pause == pause  # noqa: PLR0124 - pandas' "no such time" is not equal to itself
            for first, last in ((opens, pause), (resumes, closes)) if broken else ((opens, closes),):
                self._opens.append(first.timestamp())
                self._closes.append(last.timestamp())


def _calendars() -> Any:
    """The library of exchange calendars, which takes a third of a second and is not always installed."""
    try:
        import exchange_calendars  # noqa: PLC0415 - see above
    except ImportError:
        raise InputError(
            "market_hours needs exchange_calendars, which is not installed: "
            "pip install 'market-data-resilience[calendars]'"
        ) from None
    return exchange_calendars


@cache
def market(mic: str) -> Market:
    """An exchange's hours, loaded once.

    Raises:
        InputError: Nobody knows them.
    """
    return Market(mic)


@dataclass(frozen=True, slots=True)
class Every:
    """Again and again, by the clock: what comes first is the same after any restart.

    With a market, only while it is open. What has an interval longer than the session, and falls between two
    sessions, is due in the next one, at its place.
    """

    seconds: float
    market: Market | None = None

    @property
    def spread_seconds(self) -> float:
        """The interval."""
        return self.seconds

    def next_after(self, when: float, place: float = 0) -> float:
        """The first due time later than ``when``."""
        later = math.nextafter(when, math.inf)
        if self.market is None:
            return self._from(later, place)
        session = self.market.session_from(when)
        while session:
            opens, closes = session
            due = [time for time in self._in_session(max(later, opens), opens, closes, place) if time > when]
            if due:
                return min(due)
            session = self.market.session_from(self._from(closes, place))
        return NEVER

    def _in_session(self, since: float, opens: float, closes: float, place: float) -> Iterator[float]:
        """The first of its times by the clock, and the one that stands for a time before the session."""
        slot = self._from(since, place)
        if slot < closes:
            yield slot
        if self.market and self.seconds > closes - opens:
            before = self._from(opens, place) - self.seconds
            if before >= self.market.closed_before(opens):
                yield min(opens + place * (closes - opens), math.nextafter(closes, 0))

    def most_in(self, seconds: float, now: float) -> float:
        """An average where the window is longer than the interval, which need not be a whole number."""
        if self.market is None:
            return seconds / self.seconds
        session = self.market.session_from(now)
        length = session[1] - session[0] if session else 0
        if self.seconds > length:  # once in a session, at its place in it
            return min(1, seconds / length) * max(1, seconds / self.seconds) if length else 0
        if seconds <= length:
            return seconds / self.seconds
        window = max(seconds, DAY)
        starts = (now + day * DAY for day in range(WEEK_DAYS))
        return min(seconds, max(self.market.open_seconds(t, t + window) for t in starts)) / self.seconds

    def _from(self, when: float, place: float) -> float:
        """The first of its times by the clock that is not before ``when``."""
        slot = (math.ceil(when / self.seconds - place) + place) * self.seconds
        return slot if slot >= when else slot + self.seconds

    def __str__(self) -> str:
        return f"every {self.seconds:g} s" + (f" while {self.market.mic} is open" if self.market else "")


_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_NAMES = {
    "month": {name: number for number, name in enumerate(_MONTHS, 1)},
    "day of the week": {name: number for number, name in enumerate(_WEEKDAYS)},
}
_FIELDS = (("minute", 0, 59), ("hour", 0, 23), ("day", 1, 31), ("month", 1, 12), ("day of the week", 0, 7))
_PART = re.compile(r"(\*|(\w+)(?:-(\w+))?)(?:/(\d+))?")


@dataclass(frozen=True, slots=True)
class Crontab:
    """By a crontab's five fields: minute, hour, day, month and day of the week.

    As cron has it: where both days are given, either will do. A time that the change to summer time skips is
    due an hour later, one that the change back repeats is due twice.

    Raises:
        InputError: The text is no crontab.
    """

    text: str
    zone: ZoneInfo
    market: Market | None = None
    _allowed: tuple[frozenset[int], ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        parts = self.text.split()
        if len(parts) != len(_FIELDS):
            raise InputError(
                f"crontab={self.text[:80]!r}: give five fields, minute, hour, day, month, day of the week, "
                'as in "*/5 9-16 * * mon-fri"'
            )
        sets = [_values(self.text, part, *limits) for part, limits in zip(parts, _FIELDS, strict=True)]
        sets[4] = {day % 7 for day in sets[4]}  # cron's Sunday is 0 and 7
        object.__setattr__(self, "_allowed", tuple(map(frozenset, sets)))

    @property
    def spread_seconds(self) -> float:
        """A minute."""
        return CRONTAB_SPREAD

    def next_after(self, when: float, place: float = 0) -> float:
        """The first due time later than ``when``."""
        return next(self._minutes(when - place * CRONTAB_SPREAD), NEVER) + place * CRONTAB_SPREAD

    def most_in(self, seconds: float, now: float) -> float:
        """Counted; the calls of one minute are spread over it."""
        window = max(seconds, MINUTE)
        ends = now + max(window, WEEK_DAYS * DAY)
        times: list[float] = []
        for minute in self._minutes(now):
            if minute >= ends and times:
                break
            times.append(minute)
        most = max((bisect_left(times, t + window) - n for n, t in enumerate(times)), default=0)
        return most * min(1, seconds / MINUTE)

    def _minutes(self, when: float) -> Iterator[float]:
        """Its minutes later than ``when``, in order."""
        day = datetime.fromtimestamp(when, self.zone).date() - timedelta(
            days=1
        )  # a change of time may add to it
        last = day + HORIZON
        while day <= last:
            for minute in _minutes_of(self, day):
                if minute <= when:
                    continue
                if self.market is None:
                    yield minute
                    continue
                session = self.market.session_from(minute)
                if session is None:
                    return
                if session[0] <= minute:
                    yield minute
            day += timedelta(days=1)

    def on(self, day: date) -> bool:
        """Whether it is due on a day at all."""
        _, _, days, months, weekdays = self._allowed
        fields = self.text.split()
        by_date, by_weekday = day.day in days, day.isoweekday() % 7 in weekdays
        either = not fields[2].startswith("*") and not fields[4].startswith("*")
        return day.month in months and ((by_date or by_weekday) if either else (by_date and by_weekday))

    def times(self, day: date) -> set[float]:
        """When it is due on such a day."""
        minutes, hours, *_ = self._allowed
        found = set()
        for hour in hours:
            for minute in minutes:
                local = datetime(day.year, day.month, day.day, hour, minute, tzinfo=self.zone)
                found.add(local.timestamp())
                second = local.replace(fold=1).timestamp()
                if second > local.timestamp():  # of a time that is skipped, the second reading is the earlier
                    found.add(second)
        return found

    def __str__(self) -> str:
        return f"{self.text!r} {self.zone.key}" + (f" while {self.market.mic} is open" if self.market else "")


@lru_cache(maxsize=1024)
def _minutes_of(crontab: Crontab, day: date) -> tuple[float, ...]:
    """A day's minutes; all fetches of a crontab ask for the same days."""
    return tuple(sorted(crontab.times(day))) if crontab.on(day) else ()


def _values(text: str, part: str, name: str, low: int, high: int) -> set[int]:
    """What one field allows."""
    found: set[int] = set()
    for piece in part.split(","):
        match = _PART.fullmatch(piece)
        if match is None:
            raise InputError(
                f"crontab={text[:80]!r}: {piece[:20]!r} is no {name}; as in *, 5, 1-5, */5 or 0,30"
            )
        whole, first, last, step = match.groups()
        start, end = (low, high) if whole == "*" else (first, last or first)
        start, end = (_number(text, bound, name, low, high) for bound in (start, end))
        if step and whole != "*" and last is None:
            end = high  # 5/15: from 5 on
        elif last and name == "day of the week" and end == 0:
            end = high  # sat-sun
        if start > end or step == "0" * len(step or "-"):
            raise InputError(
                f"crontab={text[:80]!r}: {piece[:20]!r} is no {name}: it goes backwards or nowhere"
            )
        found.update(range(start, end + 1, int(step or 1)))
    return found


def _number(text: str, value: int | str, name: str, low: int, high: int) -> int:
    number = _NAMES.get(name, {}).get(str(value).lower(), value)
    if not str(number).isdecimal() or not low <= int(number) <= high:
        raise InputError(f"crontab={text[:80]!r}: {str(value)[:20]!r} is no {name}; from {low} to {high}")
    return int(number)

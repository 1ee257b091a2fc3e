"""How long a provider is left alone after a reply, in seconds.

The provider's own word comes first (Retry-After, a reset header), then the rule of the reply or of its row.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from zoneinfo import ZoneInfo

from tasks.providers.rows import Hold, Provider, Until, Verdict, Window

FLOOR, CEILING = 1.0, 3_600.0
"""Bounds of a header's word, in seconds: CoinGecko sends 0, and a slip must not silence a provider."""

AUTH_HOLD = 300.0
"""Until a refused key is looked at again."""

ENTITLEMENT_HOLD = 86_400.0
"""Until a dataset outside the plan is tried again."""

RETIRED_HOLD = 86_400.0
"""Until a retired provider is looked at again."""

_FIXED = {
    Verdict.AUTH: AUTH_HOLD,
    Verdict.ENTITLEMENT: ENTITLEMENT_HOLD,
    Verdict.RETIRED: RETIRED_HOLD,
}
_LONGEST = 10  # digits of a Unix time until 2286; more is nonsense, and int() refuses thousands of them
_MILLISECONDS = 3  # digits it has more in milliseconds
_INTEGER = re.compile(r"[0-9]+")
_HTTP_DATE = re.compile(
    r"[A-Za-z]{3,9}, [0-9]{2}[ -][A-Za-z]{3}[ -][0-9]{2,4} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT"
)


def hold_seconds(
    provider: Provider, verdict: Verdict, rule: Hold | None, headers: Mapping[str, str], now: datetime | None
) -> float | None:
    """The hold a verdict brings.

    Args:
        provider: Its row.
        verdict: The reply's class.
        rule: The matched reply's own rule; None for the row's.
        headers: Response headers, names in lower case.
        now: The time; without one, a hold until the next window is the whole window.

    Returns:
        Seconds; None for a class that holds nothing.
    """
    if verdict is Verdict.RATE_LIMIT:
        told = retry_after(headers, now) or _reset(provider, headers, now)
        return told or _length(rule or provider.rate_hold, now)
    if verdict is Verdict.QUOTA:
        # A header's word is capped at an hour, and a used-up day or month is not over by then.
        return _length(rule or provider.quota_hold, now)
    return _FIXED.get(verdict)


def said_window(provider: Provider, window: Window) -> Hold:
    """The window a reply names, on the row's clock where the row has one of that length."""
    rule = provider.quota_hold
    return rule if getattr(rule, "window", rule) is window else window


def retry_after(headers: Mapping[str, str], now: datetime | None) -> float | None:
    """Retry-After as seconds in [1, 3600]; None where it is absent or unreadable (RFC 9110, 10.2.3).

    A date needs `now`: without one the answer is None.
    """
    value = headers.get("retry-after", "").strip()
    if _INTEGER.fullmatch(value):
        digits = value.lstrip("0") or "0"
        return _clamp(float(digits) if len(digits) <= _LONGEST else CEILING)
    until = _http_date(value)
    return None if until is None or now is None else _clamp((until - now).total_seconds())


def has_retry_after(headers: Mapping[str, str]) -> bool:
    """Whether the reply tells when to come back, be it as seconds or as a date."""
    value = headers.get("retry-after", "").strip()
    return _INTEGER.fullmatch(value) is not None or _http_date(value) is not None


def sent_at(headers: Mapping[str, str]) -> datetime | None:
    """When a reply was sent, by its Date header; None where it has none that can be read."""
    return _http_date(headers.get("date", "").strip())


def _http_date(value: str) -> datetime | None:
    try:
        return parsedate_to_datetime(value).replace(tzinfo=UTC) if _HTTP_DATE.fullmatch(value) else None
    except (ValueError, TypeError):
        return None


def _reset(provider: Provider, headers: Mapping[str, str], now: datetime | None) -> float | None:
    if provider.reset is None:
        return None
    value, unit = headers.get(provider.reset.header.lower(), "").strip(), provider.reset.unit
    longest = _LONGEST + _MILLISECONDS if unit == "unix_milliseconds" else _LONGEST
    if not _INTEGER.fullmatch(value) or len(value) > longest:
        return None
    if unit == "seconds":
        seconds = float(value)
    elif now is None:
        return None
    else:
        seconds = int(value) / (1_000 if unit == "unix_milliseconds" else 1) - now.timestamp()
    return max(seconds, FLOOR) if 0 < seconds <= CEILING else None


def _length(rule: Hold, now: datetime | None) -> float:
    if isinstance(rule, Window):
        rule = Until(rule) if rule is Window.MONTH else rule
    if isinstance(rule, Until):
        return float(rule.window.seconds) if now is None else max(_to_next(rule, now), FLOOR)
    if not isinstance(rule, Window):
        return float(rule)
    if now is None:
        return float(rule.seconds)
    return max(rule.seconds - now.timestamp() % rule.seconds, FLOOR)


def _to_next(rule: Until, now: datetime) -> float:
    """Seconds to the next start of a day or a month on the rule's clock."""
    try:
        local = now.astimezone(ZoneInfo(rule.zone))
        start = local.replace(hour=rule.hour, minute=0, second=0, microsecond=0)
        if rule.window is Window.MONTH:
            start = start.replace(day=1)
            following = (start + timedelta(days=32)).replace(day=1)
        else:
            following = start + timedelta(days=1)
        return ((start if start > local else following).astimezone(UTC) - now).total_seconds()
    except OverflowError:  # at either end of the calendar
        return float(rule.window.seconds)


def _clamp(seconds: float) -> float:
    return min(max(seconds, FLOOR), CEILING)

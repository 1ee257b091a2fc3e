"""The ways a simulated provider behaves."""

from enum import StrEnum


class Mode(StrEnum):
    """A provider's behaviour: its documented replies, then faults on the wire."""

    OK = "ok"
    SLOW = "slow"  # the right reply, late
    SERVER_ERROR = "5xx"
    THROTTLE = "throttle"
    QUOTA = "quota"
    BAD_KEY = "bad_key"
    # Refusals that nobody documents: see replies/refusals.py.
    FIREWALL = "firewall"
    UNEXPLAINED = "unexplained"
    NOT_IN_PLAN = "not_in_plan"
    WRONG_KEY = "wrong_key"
    ERROR_PAGE = "error_page"
    RATE_PAGE = "rate_page"
    RATE_ABROAD = "rate_abroad"
    DOWN = "down"  # nobody listens, live connections are reset
    GARBAGE = "garbage"  # random bytes with status 200
    HALF = "half"  # the length of the whole, half of it, then the end
    DRIP = "drip"  # the right reply, a byte at a time
    HANG = "hang"  # accepts, never answers
    # The right reply is in each of these: who looks at the body alone takes it for a success.
    REDIRECT = "redirect"  # 302, to the same question on another host
    HUGE = "huge"  # then blanks, far more than anybody should take
    GZIP_BOMB = "gzip_bomb"  # the same, a thousand times smaller on the wire
    WRONG_TYPE = "wrong_type"  # said to be HTML


ALIASES = {
    "badkey": Mode.BAD_KEY,
    "half_body": Mode.HALF,
    "huge_body": Mode.HUGE,
    "wrong_content_type": Mode.WRONG_TYPE,
}

DEFAULT_SECONDS = {Mode.SLOW: 3.0, Mode.DRIP: 1.0}
"""What a mode's `seconds` is where none is given: the delay of slow, the time between two bytes of drip."""


def mode_named(name: object) -> Mode:
    """The mode of a name or alias.

    Raises:
        ValueError: There is none; the message names them all.
    """
    try:
        return ALIASES.get(str(name)) or Mode(str(name))
    except ValueError:
        known = ", ".join([*Mode, *ALIASES])
        raise ValueError(f"unknown mode {str(name)[:80]!r}; known are {known}") from None

"""When scheduled fetches are due: crontabs, changes of time, exchanges' hours."""

from __future__ import annotations

from datetime import datetime
from itertools import islice
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.errors import InputError
from tasks.timing import DAY, NEVER, Crontab, Every, market

NEW_YORK = ZoneInfo("America/New_York")
XNYS = market("XNYS")


def at(text: str, zone: ZoneInfo = NEW_YORK) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=zone).timestamp()


def told(when: float, zone: ZoneInfo = NEW_YORK) -> str:
    return datetime.fromtimestamp(when, zone).strftime("%m-%d %H:%M:%S %Z")


def following(timing: Every | Crontab, since: str, count: int, place: float = 0) -> list[str]:
    found, when = [], at(since)
    for _ in range(count):
        when = timing.next_after(when, place)
        found.append(told(when))
    return found


def test_outside_the_hours_the_next_time_is_after_the_next_open_at_ones_place():
    # The day before Thanksgiving, then a half day, then a weekend.
    assert following(Every(60, XNYS), "2026-11-25 15:58:50", 3, 0.25) == [
        "11-25 15:59:15 EST",
        "11-27 09:30:15 EST",
        "11-27 09:31:15 EST",
    ]
    assert following(Every(60, XNYS), "2026-11-27 12:59:00", 2, 0.75) == [
        "11-27 12:59:45 EST",
        "11-30 09:30:45 EST",
    ]


def test_what_is_rarer_than_sessions_are_long_comes_once_in_each_at_its_place():
    # Midnight UTC is no time an exchange in New York is open: the quarter of its six hours and a half is.
    assert following(Every(DAY, XNYS), "2026-11-24 18:00", 3) == [
        "11-25 09:30:00 EST",
        "11-27 09:30:00 EST",
        "11-30 09:30:00 EST",
    ]
    assert following(Every(DAY, XNYS), "2026-11-24 20:00", 2, 0.25) == [
        "11-25 11:07:30 EST",
        "11-27 10:22:30 EST",  # the half day has three hours and a half
    ]


def test_the_hours_follow_the_exchanges_clock_over_a_change_of_time():
    assert following(Every(3600, XNYS), "2026-10-30 15:45", 1) == ["11-02 10:00:00 EST"]
    opens = [XNYS.session_from(at(f"2026-{day} 00:00"))[0] for day in ("10-30", "11-02")]
    assert [told(when) for when in opens] == ["10-30 09:30:00 EDT", "11-02 09:30:00 EST"]
    assert opens[1] - opens[0] == 3 * DAY + 3600


def test_an_exchange_is_closed_for_lunch():
    tokyo = ZoneInfo("Asia/Tokyo")
    when = Every(60, market("XTKS")).next_after(at("2026-11-24 11:29:30", tokyo), 0)
    assert told(when, tokyo) == "11-24 12:30:00 JST"


def test_a_crontab_in_market_hours_keeps_to_both():
    crontab = Crontab("*/30 9-16 * * mon-fri", NEW_YORK, XNYS)
    assert following(crontab, "2026-11-27 11:59", 4) == [
        "11-27 12:00:00 EST",
        "11-27 12:30:00 EST",
        "11-30 09:30:00 EST",
        "11-30 10:00:00 EST",
    ]


def test_beyond_all_calendars_nothing_is_due():
    assert Every(60, XNYS).next_after(at("2200-01-03 12:00")) == NEVER
    assert Every(60, XNYS).next_after(at("2026-11-25 12:00"), 0.5) == at("2026-11-25 12:00:30")


@pytest.mark.parametrize(
    ("text", "since", "due"),
    [
        ("*/5 9-16 * * mon-fri", "2026-11-20 16:55", ["11-23 09:00:00 EST", "11-23 09:05:00 EST"]),
        ("0 0 1 jan *", "2026-11-20 16:55", ["01-01 00:00:00 EST"]),
        ("0 0 29 2 *", "2026-11-20 16:55", ["02-29 00:00:00 EST"]),
        ("15,45 6 * * *", "2026-11-20 06:15", ["11-20 06:45:00 EST", "11-21 06:15:00 EST"]),
        ("0 12 * * sat-sun", "2026-11-20 16:55", ["11-21 12:00:00 EST", "11-22 12:00:00 EST"]),
        ("0 12 * * 7", "2026-11-20 16:55", ["11-22 12:00:00 EST"]),
        ("0 12 1 * mon", "2026-11-28 16:55", ["11-30 12:00:00 EST", "12-01 12:00:00 EST"]),
        ("5/20 8 * * *", "2026-11-20 08:05", ["11-20 08:25:00 EST", "11-20 08:45:00 EST"]),
        # Skipped by the change to summer time: an hour later; repeated by the change back: twice.
        ("30 2 * * *", "2027-03-13 12:00", ["03-14 03:30:00 EDT", "03-15 02:30:00 EDT"]),
        (
            "30 1 * * *",
            "2026-10-31 12:00",
            ["11-01 01:30:00 EDT", "11-01 01:30:00 EST", "11-02 01:30:00 EST"],
        ),
    ],
)
def test_a_crontab_is_due_as_cron_has_it(text, since, due):
    assert following(Crontab(text, NEW_YORK), since, len(due)) == due


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("60 * * * *", "'60' is no minute; from 0 to 59"),
        ("* 24 * * *", "'24' is no hour; from 0 to 23"),
        ("* * 0 * *", "'0' is no day; from 1 to 31"),
        ("* * * 13 *", "'13' is no month"),
        ("* * * * 8", "'8' is no day of the week; from 0 to 7"),
        ("mon * * * *", "'mon' is no minute"),
        ("* * * * monday", "'monday' is no day of the week"),
        ("*/0 * * * *", "'*/0' is no minute"),
        ("30-10 * * * *", "'30-10' is no minute"),
        ("1-5-7 * * * *", "'1-5-7' is no minute"),
        ("*/5/2 * * * *", "'*/5/2' is no minute"),
        ("1,,2 * * * *", "'' is no minute"),
        ("-1 * * * *", "'-1' is no minute"),
        ("² * * * *", "'²' is no minute"),
        ("@daily", "give five fields"),
        ("* * * * * *", "give five fields"),
    ],
)
def test_what_is_no_crontab_is_refused_with_its_part(text, part):
    with pytest.raises(InputError) as caught:
        Crontab(text, NEW_YORK)
    assert part in str(caught.value)


TIMINGS = [
    *(Every(1), Every(17.3), Every(DAY), Every(60, XNYS), Every(3 * 3600, XNYS), Every(9 * DAY, XNYS)),
    *(
        Crontab("*/7 * * * *", NEW_YORK),
        Crontab("30 1,2 * * *", NEW_YORK, None),
        Crontab("0 9-16 * * *", NEW_YORK, XNYS),
    ),
]


@settings(deadline=None)  # the first to ask loads a calendar
@given(
    st.sampled_from(TIMINGS),
    st.floats(at("2026-01-01 00:00"), at("2027-06-01 00:00")),
    st.floats(0, 1, exclude_max=True),
)
def test_the_next_time_is_later_and_none_lies_between(timing, when, place):
    due = timing.next_after(when, place)
    assert when < due < NEVER
    if due - when > 0.001:  # asked from anywhere before it, it is the same
        assert timing.next_after((when + due) / 2, place) == pytest.approx(due, abs=1e-3)
    if timing.market:
        opens, closes = timing.market.session_from(due)
        assert opens <= due < closes


def test_demand_counts_sessions_and_firings():
    now = at("2026-11-23 20:00")
    assert Every(60).most_in(DAY, now) == 1440
    assert Every(60, XNYS).most_in(60, now) == 1
    assert Every(60, XNYS).most_in(DAY, now) == 390
    assert Every(DAY, XNYS).most_in(DAY, now) == 1
    crontab = Crontab("*/5 9-16 * * mon-fri", NEW_YORK, XNYS)
    assert [crontab.most_in(seconds, now) for seconds in (60, 3600, DAY)] == [1, 12, 78]
    assert crontab.most_in(1, now) == pytest.approx(1 / 60)


def test_many_fetches_of_one_crontab_share_its_minutes():
    crontab = Crontab("*/5 9-16 * * mon-fri", NEW_YORK, XNYS)
    start = at("2026-11-25 09:58:30")
    due = sorted(crontab.next_after(start, n / 5000) for n in range(5000))
    assert (due[0], due[-1]) == (at("2026-11-25 10:00"), pytest.approx(at("2026-11-25 10:01"), abs=0.1))
    assert list(islice(crontab._minutes(start), 1)) == [due[0]]

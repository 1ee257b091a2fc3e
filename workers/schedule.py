"""Beat's entries, from the schedule file."""

from __future__ import annotations

import heapq
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from celery.beat import PersistentScheduler, ScheduleEntry, event_t
from celery.schedules import BaseSchedule, schedstate
from celery.utils.log import get_logger

from resilience.parking import Lane
from tasks.errors import InputError
from tasks.fetch import queue_of
from tasks.schedule import Fetch, demand, examples, load
from tasks.timing import NEVER
from workers.settings import settings

if TYPE_CHECKING:
    from celery import Celery

logger = get_logger(__name__)

# Beat is late when it cannot keep up for so long: its machine slept, or the broker hung.
LATE_SECONDS = 0.2
# What was missed follows in so many times the time it was missed in.
CATCH_UP = 2
SENT_UNTIL = "sent_until"


class Slots(BaseSchedule):
    """A fetch's due times, as beat asks for them."""

    def __init__(self, fetch: Fetch, app: Celery) -> None:
        super().__init__(app=app)
        self.fetch = fetch

    def is_due(self, last_run_at: datetime) -> schedstate:
        """Whether it is, and how many seconds from now the next time is."""
        now = time.time()
        due = self.fetch.next_after(last_run_at.timestamp())
        if due > now:
            return schedstate(is_due=False, next=due - now)
        return schedstate(is_due=True, next=self.fetch.next_after(now) - now)


class FileScheduler(PersistentScheduler):
    """Celery's own scheduler, fed from ``settings().schedule_file`` and examples when beat starts.

    Fetches are due at times of their own by the clock, so all that is kept of them on disk is until when
    everything due has been sent. (Celery's scheduler would write each entry, and compare them all at every
    tick.) What a stop has kept from being sent follows at half its pace, beside what is due: half as much
    again as ever is sent until then. What is due again before that is sent once.
    """

    # Not Celery's three minutes: what was sent since is sent once more after a kill.
    sync_every = 5
    _heap: Any
    _store: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.fetches: list[ScheduleEntry] = []
        self.sent_until = 0.0  # not known before the last run's note is read
        self._missed: tuple[float, float] | None = None
        super().__init__(*args, **kwargs)

    def setup_schedule(self) -> None:
        """Load the file, then whatever the last run noted.

        Raises:
            SystemExit: The file cannot be used; it says where and why.
        """
        try:
            shown = filter(None, settings().schedule_examples.split(","))
            fetches = load(settings().schedule_file)
            fetches += examples(shown, beside=fetches)
        except InputError as error:
            raise SystemExit(f"beat does not start: {error}") from None
        for asked in demand(fetches):
            if asked.warning:
                logger.warning("schedule: %s", asked.warning)
        super().setup_schedule()
        noted = self._store.get(SENT_UNTIL)
        now = time.time()
        # A clock that was set back is no reason to wait for it.
        self.fetches = [entry(fetch, self.app) for fetch in fetches]
        self._start_from(min(noted, now) if isinstance(noted, float) else now)

    def populate_heap(self, event_t: Any = event_t, heapify: Any = heapq.heapify) -> None:
        """The app's own entries, and the fetches."""
        super().populate_heap(event_t, heapify)
        for fetch in self.fetches:
            due = fetch.schedule.fetch.next_after(fetch.last_run_at.timestamp())
            self._heap.append(event_t(due, 5, fetch))
        heapify(self._heap)
        self._catch_up(self.sent_until)

    def tick(self, *args: Any, **kwargs: Any) -> float:
        """Send what is due; called again at once, or after the seconds it returns."""
        now = time.time()
        if now < self.sent_until - LATE_SECONDS:  # the clock was set back: nobody waits for it
            self._start_from(now)
            self._heap = None
        elif self._heap and now - self._heap[0][0] > LATE_SECONDS:
            self._catch_up(self._heap[0][0])
        wait: float = super().tick(*args, **kwargs)
        self.sent_until = self._sent_by(time.time())
        return wait

    def _start_from(self, since: float) -> None:
        """Only what is due later is still to be sent."""
        self.sent_until = since
        for fetch in self.fetches:
            fetch.last_run_at = datetime.fromtimestamp(since, UTC)

    def _sent_by(self, now: float) -> float:
        """Until when all that was due has been sent, what had been missed, too."""
        if self._missed:
            since, until = self._missed
            done = since + (now - until) / CATCH_UP
            if done < until:
                return done
            self._missed = None
        return min(self._heap[0][0], now) if self._heap else now

    def _catch_up(self, since: float) -> None:
        """Plan anew the fetches that should have been sent since then."""
        now = time.time()
        self._missed = self._missed or (since, now)
        for place, (due, priority, late) in enumerate(self._heap):
            if due <= now and isinstance(late.schedule, Slots):
                then = late.schedule.fetch.caught_up(due, now + CATCH_UP * (due - since), now)
                self._heap[place] = event_t(then, priority, late)
        heapq.heapify(self._heap)

    def adjust(self, n: float, drift: float = 0) -> float:
        """Celery wakes up 10 ms early, and asks again and again until it is time: 83 times a second."""
        return n + drift if n else n

    def reserve(self, entry: ScheduleEntry) -> ScheduleEntry:
        """It is sent now; what has not run when the next one is due is stale and expires."""
        if not isinstance(entry.schedule, Slots):
            return super().reserve(entry)
        now = time.time()
        entry.last_run_at = datetime.fromtimestamp(now, UTC)
        entry.total_run_count += 1
        again = entry.schedule.fetch.next_after(now)
        entry.options["expires"] = again - now if again < NEVER else None
        return entry

    def sync(self) -> None:
        """Note what the next start needs to know."""
        if self._store is not None and self.sent_until:
            self._store[SENT_UNTIL] = self.sent_until
        super().sync()

    def close(self) -> None:
        """Note it for the last time; Celery closes again on its way out."""
        super().close()
        self._store = None


def entry(fetch: Fetch, app: Celery) -> ScheduleEntry:
    """A beat entry."""
    return ScheduleEntry(
        name=fetch.name,
        task=f"tasks.{fetch.provider}.fetch",
        schedule=Slots(fetch, app),
        args=(fetch.dataset, fetch.symbol),
        kwargs={"fallbacks": list(fetch.fallbacks)} if fetch.fallbacks else {},
        options={"queue": queue_of(fetch.provider, Lane.SCHEDULED)},
        app=app,
    )

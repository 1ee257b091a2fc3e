"""Beat's entries, from the schedule file."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from celery.beat import PersistentScheduler

from resilience.parking import Lane
from tasks.errors import InputError
from tasks.fetch import queue_of
from tasks.schedule import Fetch, load
from workers.settings import settings


class FileScheduler(PersistentScheduler):
    """Celery's own scheduler, fed from ``settings().schedule_file`` when beat starts."""

    def setup_schedule(self) -> None:
        """Load the file, then whatever the last run noted.

        Raises:
            SystemExit: The file cannot be used; it says where and why.
        """
        try:
            fetches = load(settings().schedule_file)
        except InputError as error:
            raise SystemExit(f"beat does not start: {error}") from None
        entries = dict(self.app.conf.beat_schedule) | {fetch.name: entry(fetch) for fetch in fetches}
        self.app.conf.beat_schedule = entries
        super().setup_schedule()
        self._spread(fetches)

    def _spread(self, fetches: list[Fetch]) -> None:
        """The first run of new entries: spread over their interval instead of all at its end."""
        for place, fetch in enumerate(fetches):
            found = self.schedule.get(fetch.name)
            if found is not None and found.total_run_count == 0:
                wait = fetch.every_seconds * place / len(fetches)
                found.last_run_at -= timedelta(seconds=fetch.every_seconds - wait)


def entry(fetch: Fetch) -> dict[str, Any]:
    """A beat entry; what has not run when the next one is due is stale and expires."""
    return {
        "task": f"tasks.{fetch.provider}.fetch",
        "args": (fetch.dataset, fetch.symbol),
        "schedule": fetch.every_seconds,
        "options": {"queue": queue_of(fetch.provider, Lane.SCHEDULED), "expires": fetch.every_seconds},
    }

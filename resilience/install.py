"""``install(app)``: everything a Celery app needs, in one call."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any

from celery import signals

from resilience import publishing
from resilience.gate import Gate
from resilience.release import Releaser
from resilience.stores import Store, default_store, open_store, set_default_store
from resilience.stores.failover import FailoverStore
from resilience.supported import check_settings
from resilience.task import Parked

if TYPE_CHECKING:
    from celery import Celery

logger = logging.getLogger(__name__)


def _tell_what_was_counted(**_: object) -> None:
    current = default_store()
    if isinstance(current, FailoverStore):
        current.views.close()


def _use_own_store(sender: Any, **_: object) -> None:
    """Of several apps in one process a worker runs one: its circuits are in that app's store."""
    gate = getattr(sender.app, "resilience_gate", None)
    if gate is not None:
        set_default_store(gate.store)


def _is_no_refusal(_: logging.LogRecord) -> bool:
    """Celery logs what leaves a pool process as ignored: in an outage a line for each refusal."""
    return not isinstance(sys.exc_info()[1], Parked)


def install(app: Celery, store: Store | str | None = None) -> Celery:
    """Wire an app: the gate, the releaser in every worker, the publishing job in beat.

    Args:
        app: Any Celery app.
        store: Where circuits and parked messages live: ``redis://…``, ``rediss://…``, a store, or None
            for RESILIENCE_STORE_URL. With ``memory://``, or nothing configured, each process has
            circuits of its own, and a refused message goes back to its broker instead of a lot. Apps
            that share a store share its lots, so they must share their broker too.

    Returns:
        The app.

    Raises:
        ConfigurationError: For a setting that cannot work; it names the remedy.
    """
    check_settings(app)
    if store is not None:
        set_default_store(store)
    elif default_store() is None:
        logger.warning("no store configured: circuits are local to each process; set RESILIENCE_STORE_URL")
        set_default_store("memory://")
    app.resilience_gate = Gate(app, default_store() or open_store("memory://"))
    app.steps["consumer"].add(Releaser)

    # That it expires is the task's own word: a scheduler with entries in a database keeps no such option.
    @app.task(name=publishing.TASK_NAME, base=publishing.PublishingTask, shared=False, ignore_result=True)
    def publish() -> None:
        publishing.publish(app)

    def schedule(**_: object) -> None:
        """What sets the schedule later, or reads the configuration again, must not lose the job."""
        if app.configured and publishing.TASK_NAME not in app.conf.beat_schedule:
            app.add_periodic_task(
                publishing.EVERY_SECONDS, app.signature(publishing.TASK_NAME), name=publishing.TASK_NAME
            )

    for moment in (app.on_after_configure, app.on_after_finalize):
        moment.connect(schedule, weak=False)
    schedule()
    logging.getLogger("celery.app.trace").addFilter(_is_no_refusal)
    # A pool's process ends without Python's own exit.
    signals.worker_process_shutdown.connect(_tell_what_was_counted)
    signals.worker_ready.connect(publishing.may_send_again)
    signals.worker_init.connect(_use_own_store)
    return app

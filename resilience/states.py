"""The result state ``PARKED``, so that whoever asks for a task's result sees what it waits for.

It is for information: a task whose state could not be written is parked all the same. In a worker all of this
happens beside the event loop (``background.py``), which never waits for a result backend.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from celery import states
from celery.backends.base import KeyValueStoreBackend
from celery.backends.redis import RedisBackend
from celery.exceptions import SecurityError
from celery.utils.log import get_logger
from kombu.exceptions import ContentDisallowed, DecodeError, EncodeError
from redis.backoff import NoBackoff
from redis.retry import Retry

from resilience.errors import UNREADABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from celery.app.task import Context

    from resilience.parking import Stored

logger = get_logger(__name__)

PARKED = "PARKED"
# What reading a state raises that is none: of another content type, or with an exception that is none.
ODD = (ContentDisallowed, DecodeError, SecurityError, *UNREADABLE)
# A backend that does not answer in this time is left alone, for REST times as long as it took.
BACKEND_SECONDS = 0.5
REST = 20
LONGEST_REST_SECONDS = 10.0
# Readings of a state that others write at the same moment.
ATTEMPTS = 3
# in    the state's key; the text that was read, '' for none; the new text; its seconds, 0: for ever
# out   1, or 0 where it is another by now
_UNLESS_CHANGED = """
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
if ARGV[3] ~= '0' then redis.call('EXPIRE', KEYS[1], ARGV[3]) end
redis.call('PUBLISH', KEYS[1], ARGV[2])
return 1
"""


def brief(backend: RedisBackend) -> RedisBackend:
    """Another like it that waits BACKEND_SECONDS at most and repeats nothing; Celery's own do for minutes."""
    quick = type(backend)(app=backend.app, url=backend.url)
    quick.connparams = {
        **backend.connparams,
        "socket_timeout": BACKEND_SECONDS,
        "socket_connect_timeout": BACKEND_SECONDS,
        "retry": Retry(NoBackoff(), 0),
    }
    return quick


class ParkedStates:
    """Writes the state of many tasks at once, never over a final one, and reads the final ones.

    Args:
        breathe: Told before each act that may hang.
    """

    def __init__(self, breathe: Callable[[], object] = lambda: None) -> None:
        #: Who parks, as Celery names a task's worker; '' outside of one.
        self.worker = ""
        self._breathe = breathe
        self._quick: dict[RedisBackend, RedisBackend] = {}
        self._rests_until: dict[tuple[type, str | None], float] = {}

    def write(self, backend: Any, batch: Sequence[tuple[Stored, dict[str, Any]]]) -> None:
        """Write them, or log why not.

        Args:
            backend: The tasks' result backend.
            batch: The tasks' messages, and what each waits for.
        """
        if self.rests(backend):
            return
        started = time.monotonic()
        try:
            extended = bool(backend.app.conf.result_extended)
            if isinstance(backend, RedisBackend):
                _write(
                    self._quick_one(backend),
                    {
                        message.id: (meta, message.context(self.worker, extended=extended))
                        for message, meta in batch
                    },
                )
            else:
                for number, (message, meta) in enumerate(batch):
                    started = time.monotonic()
                    self._breathe()
                    written = self._write_one(backend, message, meta, extended=extended)
                    if not written and time.monotonic() - started > BACKEND_SECONDS:
                        logger.warning("nor are those of %d others", len(batch) - number - 1)
                        return
        except Exception as error:  # noqa: BLE001 - any backend's; a missing state loses nothing
            self._leave_alone(backend, started)
            logger.warning("state PARKED of %d tasks not written: %r", len(batch), error)

    def _write_one(self, backend: Any, message: Stored, meta: dict[str, Any], *, extended: bool) -> bool:
        started, request = time.monotonic(), message.context(self.worker, extended=extended)
        try:
            backend.store_result(message.id, meta, PARKED, request=request)
        except Exception as error:  # noqa: BLE001 - as above
            self._leave_alone(backend, started)
            logger.warning("state PARKED of %s not written: %r", message.id, error)
            return False
        return True

    def final(self, backend: Any, ids: Sequence[str]) -> dict[str, dict[str, Any]] | None:
        """Celery's metadata (status, result, ...) of those tasks that have ended, by id.

        Returns:
            None while the backend does not answer, which is logged.
        """
        if self.rests(backend):
            return None
        started = time.monotonic()
        try:
            quick = self._quick_one(backend) if isinstance(backend, RedisBackend) else backend
            if isinstance(quick, KeyValueStoreBackend):  # all in one round trip
                try:
                    return dict(quick.get_many(ids, interval=0, max_iterations=1))
                except ODD:
                    logger.warning("a state among %d cannot be read", len(ids))
            metas = {ident: _meta(quick, ident) for ident in ids}
        except Exception as error:  # noqa: BLE001 - any backend's; it is asked again
            self._leave_alone(backend, started)
            logger.warning("states of %d tasks not read: %r", len(ids), error)
            return None
        return {ident: meta for ident, meta in metas.items() if meta["status"] in states.READY_STATES}

    def rests(self, backend: Any) -> bool:
        """Whether this backend is left alone for now."""
        return time.monotonic() < self._rests_until.get(_place(backend), 0)

    def _leave_alone(self, backend: Any, started: float) -> None:
        now = time.monotonic()
        self._rests_until[_place(backend)] = now + min(REST * (now - started), LONGEST_REST_SECONDS)

    def _quick_one(self, backend: RedisBackend) -> RedisBackend:
        if backend not in self._quick:
            self._quick[backend] = brief(backend)
        return self._quick[backend]


def _place(backend: Any) -> tuple[type, str | None]:
    """Each thread has an object of its own for it."""
    return type(backend), getattr(backend, "url", None)


def _meta(backend: Any, ident: str) -> dict[str, Any]:
    """Celery's metadata of one task; one that nobody wrote who may ends it: nobody will ever read another."""
    try:
        meta = dict(backend.get_task_meta(ident))
        return meta | {"status": str(meta["status"])}
    except ODD as error:
        return {
            "status": states.FAILURE,
            "result": ValueError(f"the result of {ident} cannot be read: {error!r}"),
        }


def _write(backend: RedisBackend, metas: dict[str, tuple[dict[str, Any], Context]]) -> None:
    """As ``RedisBackend`` does one by one, in two round trips; what changed between them is read again."""
    for _ in range(ATTEMPTS):
        metas = _write_once(backend, metas)
        if not metas:
            return


def _write_once(
    backend: RedisBackend, metas: dict[str, tuple[dict[str, Any], Context]]
) -> dict[str, tuple[dict[str, Any], Context]]:
    """Returns those that somebody else wrote meanwhile: another copy of the task may just have ended."""
    keys = {ident: backend.get_key_for_task(ident) for ident in metas}
    present = backend.mget(list(keys.values()))
    asked = []
    with backend.client.pipeline(transaction=False) as pipe:
        for (ident, key), text in zip(keys.items(), present, strict=True):
            try:
                if text and backend.decode(text)["status"] in states.READY_STATES:
                    continue  # it came again after it had ended
                waits, request = metas[ident]
                meta = backend._get_result_meta(waits, PARKED, None, request)  # noqa: SLF001 - Celery has no public one
                value = backend.encode(meta | {"task_id": ident})
            except (EncodeError, *ODD) as error:  # the others' are none the worse
                logger.warning("state PARKED of %s not written: %r", ident, error)
                continue
            pipe.eval(_UNLESS_CHANGED, 1, key, text or "", value, int(backend.expires or 0))
            asked.append(ident)
        written = pipe.execute()
    return {ident: metas[ident] for ident, was in zip(asked, written, strict=True) if not was}

"""Circuits and parking lots in Redis or Valkey: each act is one script on the server's clock.

All keys of a service lie under one hash tag, so the same scripts run on a cluster. A command waits
``SOCKET_SECONDS`` at most, from the server's name to its answer (``lines.py``), and is never repeated: what
to do then is decided by ``failover.py``, not by a retry nobody sees.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import random
import time
from dataclasses import replace
from functools import cache, lru_cache, partial
from importlib.resources import files
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypeVar

from resilience import forks
from resilience.circuit import (
    TOOK,
    Circuit,
    CircuitState,
    Evidence,
    Finding,
    History,
    Known,
    Order,
    Permit,
    Reason,
    Report,
    Sample,
    Transition,
    count_of,
    from_micros,
    reason_of,
    time_of,
    to_micros,
    token_for,
)
from resilience.errors import UNREADABLE, StoreFullError, StoreUnavailableError, StoreUnreadableError
from resilience.parking import ParkingLot
from resilience.policy import DEFAULT, MICROSECONDS, Policy, changes_of, effective, micros_in
from resilience.stores import PREFIX
from resilience.stores.address import parse
from resilience.stores.cluster import MOVES, Cluster
from resilience.stores.lines import BusyError, LostError, ReplyError
from resilience.stores.servers import OneServer
from resilience.stores.views import VIEW_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from resilience.stores.lines import Lines

logger = logging.getLogger(__name__)

T = TypeVar("T")

# With what it takes to find that out, a lost store delays one call by no more than 250 ms.
SOCKET_SECONDS = 0.2
# So long replicas have to confirm a write, where they are waited for. A server may tell 100 ms later that it
# is over; together that must be less than the above.
WAIT_MILLISECONDS = 50
# Changes of state handed out at a time, and how long who took them may be silent before another does.
BATCH = 100
SILENCE_MILLISECONDS = 60_000
# How often a process's calls renew what makes a circuit go away that nobody asks for (``lua/epilogue.lua``).
KEEP_SECONDS = 3600.0
# Where a script has the prelude put; what stands before it is for the calls that need none.
PRELUDE_MARK = "-- prelude\n"
# A server without memory left runs no script that takes any, unless it says that it may: what empties the
# lots and keeps the circuits must go on. Redis knows the word from 7.0 on, so it is said only when needed.
ALLOW_OOM = "#!lua flags=allow-oom\n"
# The one script for which there must be memory.
GROWING = "park"


SUFFIXES = (
    *("probes", "transitions", "samples", "window", "reporters", "calls", "counted", "failing", "subjects"),
    *("lot:on_demand", "lot:scheduled", "lot:due", "lot:messages", "lot:leases", "lot:tokens"),
    *("lot:trail", "lot:returning", "lot:since", "lot:expires"),
    *("lot:grouped", "lot:leaders", "lot:followers", "lot:away", "lot:ended"),
)


#: A process may meet one service for each tenant: the names of so many are kept ready.
KEPT_NAMES = 1024


@lru_cache(maxsize=KEPT_NAMES)
def circuit_of(service: str) -> str:
    """The key of a service's circuit, from which the scripts derive the others."""
    return f"{PREFIX}{{{service}}}"


@lru_cache(maxsize=KEPT_NAMES)
def keys_of(service: str) -> tuple[str, ...]:
    """All keys of a service, under one hash tag.

    A cluster's servers must be told what a script will touch, because they move keys one by one; elsewhere
    the circuit's is enough, and to name them all would cost more than the call itself.
    """
    circuit = circuit_of(service)
    return (circuit, *(f"{circuit}:{suffix}" for suffix in SUFFIXES))


def assemble(name: str, text_of: Callable[[str], str]) -> str:
    """A script as a server gets it: what needs no prelude, the prelude, its own, and the epilogue."""
    before, _, after = text_of(name).rpartition(PRELUDE_MARK)
    return before + text_of("prelude") + after + text_of("epilogue")


@cache
def _source(name: str) -> str:
    folder = files("resilience") / "lua"
    return assemble(name, lambda file: (folder / f"{file}.lua").read_text("utf-8"))


@cache
def _sha(source: str) -> str:
    return hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()


class Scripts:
    """Runs the scripts of ``resilience/lua`` on the server that has the service's keys.

    Args:
        url: ``redis://user:password@host:port/number``, with TLS ``rediss://``,
            ``sentinel://:password@host:port,host:port/name/number``, whose password is the server's and the
            sentinels', with TLS ``rediss+sentinel://``, or
            ``cluster://user:password@host:port,host:port``, with TLS ``rediss+cluster://``. TLS is verified,
            certificate and host name, against ``?ssl_ca_certs=`` or the system's authorities. With
            ``?wait_replicas=1`` a message is parked when a replica has it; ``address.py`` has the rest.
        clock: For tests that move time: microseconds since the epoch instead of the server's clock and this
            machine's, or, as text, both: ``"server~here"``.

    Raises:
        ValueError: A URL that cannot be read.
    """

    def __init__(self, url: str, clock: Callable[[], int | str] | None = None) -> None:
        self._address = parse(url)
        self._clock = clock
        self._told: set[str] = set()
        #: Told of every failure to answer, whoever asked.
        self.on_lost: Callable[[StoreUnavailableError], None] = lambda _: None
        forks.begin_anew(self)

    def begin(self) -> None:
        """Connections of this process alone; none is made before it is used."""
        seconds = self._address.seconds or SOCKET_SECONDS
        self._servers: OneServer | Cluster
        if self._address.kind == "cluster":
            self._servers = Cluster(self._address, seconds)
        else:
            self._servers = OneServer(self._address, seconds)
        # Nearly always there is one server, and it need not be looked for.
        self._lines = self._servers.lines if isinstance(self._servers, OneServer) else None

    def close(self) -> None:
        """Let go of the connections; the next command makes new ones."""
        servers = self._servers
        self.begin()
        servers.close()

    @property
    def address(self) -> str:
        """Where the URL points, without user or password."""
        return self._address.shown

    def _now(self) -> str:
        """This machine's clock, the second witness where the server's has leapt (see ``lua/prelude.lua``)."""
        return str(self._clock()) if self._clock else f"~{time.time_ns() // 1000}"

    def run(self, name: str, service: str, *arguments: str | bytes | float) -> Any:
        """One script, one round trip.

        Raises:
            StoreUnavailableError: When the server does not answer in time, or cannot write.
            StoreFullError: The same, for a script that takes more in, when the server has no memory left.
            StoreUnreadableError: It answers, and not for this circuit.
        """
        if self._lines is not None:
            now, sha = self._now(), _sha(_source(name))
            try:
                answer = self._lines.ask("EVALSHA", sha, 1, circuit_of(service), now, *arguments)
            except (LostError, BusyError) as error:
                raise self._lost(error) from error
            if not isinstance(answer, ReplyError):
                return answer
            how = {"source": _source(name), "keys": 1, "urgent": name != GROWING, "answers": [answer]}
            return self._only(self._send([(circuit_of(service), now, *arguments)], **how))
        return self._only(self.run_many(name, [(service, arguments)]))

    def run_confirmed(self, name: str, service: str, *arguments: str | bytes | float) -> Any:
        """One script, and the replicas' word that they have what it wrote; still one round trip.

        Raises:
            StoreUnavailableError: As ``run``; or it is written, but may be lost with its server.
        """
        if not self._address.replicas:
            return self.run(name, service, *arguments)
        return self._only(self.run_many(name, [(service, arguments)], self._address.replicas))

    def run_many(
        self, name: str, calls: Iterable[tuple[str, Sequence[str | bytes | float]]], replicas: int = 0
    ) -> list[Any]:
        """One script for several services, still one round trip; on a cluster one for each server.

        While a cluster moves a service to another server it may run twice.

        Returns:
            The answers; of a circuit for which the server has none, its error.

        Raises:
            StoreUnavailableError: When the server does not answer in time, or cannot write.
        """
        now = self._now()
        keys, urgent = len(SUFFIXES) + 1 if isinstance(self._servers, Cluster) else 1, name != GROWING
        prepared = [(*keys_of(service)[:keys], now, *arguments) for service, arguments in calls]
        return self._send(prepared, source=_source(name), keys=keys, replicas=replicas, urgent=urgent)

    def evaluate(self, source: str, keys: Sequence[str], *arguments: str | bytes | float) -> Any:
        """A script of the caller's own, on keys of its own.

        Raises:
            StoreUnavailableError: When the server does not answer in time, or cannot write.
        """
        return self._only(self._send([(*keys, *arguments)], source=source, keys=len(keys)))

    def _send(self, prepared: list[tuple[Any, ...]], **how: Any) -> list[Any]:
        """The answers; of what the server refuses to do for one, the error."""
        answers = self._ask(prepared, partial(_send, **how))
        return [
            self._own(str(call[0]), answer) if isinstance(answer, ReplyError) else answer
            for call, answer in zip(prepared, answers, strict=True)
        ]

    def _ask(
        self, calls: list[tuple[Any, ...]], send: Callable[[Lines, list[tuple[Any, ...]], float], list[Any]]
    ) -> list[Any]:
        try:
            return self._servers.spread(calls, send)
        except NotReplicatedError as error:  # it answers, so it is not lost
            raise StoreUnavailableError(self.address, str(error)) from error
        except (LostError, BusyError) as error:
            raise self._lost(error) from error

    def _plain(self, key: str, *command: str) -> Any:
        """A command's answer, which may be a ``ReplyError``, of the server that has a key."""
        return self._ask([(key,)], lambda lines, _, ends: _followed([lines.ask(*command, ends=ends)]))[0]

    def _only(self, answers: list[Any]) -> Any:
        [answer] = answers
        if isinstance(answer, StoreUnavailableError):
            raise answer
        return answer

    def _lost(self, error: Exception) -> StoreUnavailableError:
        lost = StoreUnavailableError(self.address, str(error))
        if isinstance(error, LostError):
            self._servers.forget()  # every thread's connection, not this one's alone
            self.on_lost(lost)
        return lost

    def _own(self, key: str, error: ReplyError) -> StoreUnavailableError:
        """What a server says of one command: the trouble of whoever has that key, and of nobody else."""
        if error.code == "OOM":
            return StoreFullError(self.address, str(error))
        remedy = (
            "give its user the rights in docs/operating.md"
            if error.code == "NOPERM"
            else "delete what is not ours"
        )
        return self.unreadable(key, f"{error}, in or beside {key!r}: {remedy}")

    def unreadable(self, key: str, cause: str) -> StoreUnreadableError:
        """It answers, so it is not lost; said once, since it will be found again and again."""
        told = StoreUnreadableError(self.address, cause)
        if key not in self._told:
            self._told.add(key)
            logger.error("%s; until it is mended each process goes by itself there", told)
        return told

    def setting(self, name: str) -> str:
        """A setting of the server, '' where it is not told: many a hosted one does not."""
        try:
            answer = [] if self._lines is None else self._lines.ask("CONFIG", "GET", name)
        except (LostError, BusyError):
            return ""
        return _text(answer[1]) if isinstance(answer, list) and len(answer) > 1 else ""

    def memory(self) -> tuple[int, int] | None:
        """Bytes the server, or a cluster's fullest, uses and may use (0: no limit); None: it is not told."""
        try:
            told = [_info(lines.ask("INFO", "memory")) for lines in self._servers.primaries()]
            figures = [(int(each["used_memory"]), int(each["maxmemory"])) for each in told]
        except (LostError, BusyError, KeyError, ValueError):
            return None
        return max(figures, key=lambda used: used[0] / (used[1] or float("inf")))

    def version(self) -> tuple[int, ...]:
        """The oldest server's, as Redis counts, which Valkey tells too; empty where it is not told."""
        try:
            told = [
                _info(lines.ask("INFO", "server"))["redis_version"] for lines in self._servers.primaries()
            ]
            return min(tuple(map(int, each.split(".")[:2])) for each in told)
        except (LostError, BusyError, KeyError, ValueError):
            return ()

    def get(self, key: str) -> bytes | None:
        """A plain value, None if there is none or the server does not answer."""
        try:
            value = self._plain(key, "GET", key)
        except StoreUnavailableError:
            return None
        return value if isinstance(value, bytes) else None

    def set(self, key: str, value: str) -> None:
        """A plain value.

        Raises:
            StoreUnavailableError: When the server does not answer in time.
        """
        answer = self._plain(key, "SET", key, value)
        if isinstance(answer, ReplyError):
            raise self._own(key, answer)

    def works(self) -> bool:
        """Whether the server answers and takes a write now; on a cluster, whether all do.

        A connection is waited for, since nobody waits for this.
        """
        try:
            return all(map(_takes, self._servers.checked(f"{PREFIX}check")))
        except (LostError, BusyError):
            return False


class NotReplicatedError(Exception):
    """Fewer replicas than asked for have confirmed a write."""


def _takes(answer: Any) -> bool:
    """A server that is full works: what is there is served, and can leave."""
    return not isinstance(answer, ReplyError) or answer.code == "OOM"


def _info(answer: Any) -> dict[str, str]:
    """What INFO tells; nothing where it is not allowed."""
    pairs = (
        line.partition(":") for line in (_text(answer) if isinstance(answer, bytes) else "").splitlines()
    )
    return {name: value for name, found, value in pairs if found}


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _send(
    lines: Lines,
    prepared: list[tuple[Any, ...]],
    ends: float,
    *,
    source: str,
    keys: int,
    replicas: int = 0,
    urgent: bool = False,
    answers: list[Any] | None = None,
) -> list[Any]:
    """Run a script for each; ``answers`` are the first ones, where they are known already."""
    ask = partial(_evalsha, lines, ends=ends, keys=keys, replicas=replicas)
    answers = ask(prepared, source) if answers is None else answers
    # A new server, or one that restarted or flushed its scripts.
    unknown = [place for place, answer in enumerate(answers) if _code(answer) == "NOSCRIPT"]
    _put(answers, unknown, partial(ask, source=source, load=True), prepared)
    # Stopped before its first write. Redis before 7 does not know the word, and stays full.
    full = [place for place, answer in enumerate(answers) if urgent and _code(answer) == "OOM"]
    _put(answers, full, partial(ask, source=ALLOW_OOM + source, load=True), prepared)
    return answers


def _put(
    answers: list[Any],
    places: list[int],
    ask: Callable[[list[tuple[Any, ...]]], list[Any]],
    prepared: list[tuple[Any, ...]],
) -> None:
    """Ask again, in these places."""
    if places:
        for place, answer in zip(places, ask([prepared[place] for place in places]), strict=True):
            if _code(answer) != "ERR":
                answers[place] = answer


def _evalsha(
    lines: Lines,
    prepared: list[tuple[Any, ...]],
    source: str,
    *,
    ends: float,
    keys: int,
    replicas: int,
    load: bool = False,
) -> list[Any]:
    """The answers, in one round trip; where asked, once the replicas have what was written."""
    sha = _sha(source)
    # To find out that a server does not know a script, while replicas are waited for, costs the wait.
    load = load or (replicas > 0 and sha not in lines.loaded)
    commands: list[tuple[Any, ...]] = [("EVALSHA", sha, keys, *arguments) for arguments in prepared]
    before = [("SCRIPT", "LOAD", source)] if load else []
    after = [("WAIT", replicas, WAIT_MILLISECONDS)] if replicas else []  # for what this very connection wrote
    answers = lines.ask_all([*before, *commands, *after], ends)
    if replicas and any(not isinstance(answer, ReplyError) for answer in answers[len(before) : -1]):
        confirmed = answers[-1]
        if isinstance(confirmed, ReplyError) or confirmed < replicas:
            raise NotReplicatedError(f"{confirmed} of {replicas} replicas have what was written")
    if load and isinstance(answers[0], ReplyError):
        return [answers[0]] * len(prepared)
    if load and replicas:
        lines.loaded.add(sha)
    return _followed(answers[len(before) : len(before) + len(prepared)])


def _followed(answers: list[Any]) -> list[Any]:
    """The answers, unless a cluster says that another server has the key.

    Raises:
        ReplyError: It does.
    """
    for answer in answers:
        if _code(answer) in MOVES:
            raise answer
    return answers


def _code(answer: Any) -> str:
    return answer.code if isinstance(answer, ReplyError) else ""


class RedisStore:
    """Circuits shared by everybody who uses this server.

    Args:
        url: See ``Scripts``.
        clock: See ``Scripts``.
    """

    def __init__(self, url: str, clock: Callable[[], int | str] | None = None) -> None:
        self.scripts = Scripts(url, clock)
        self.lot = ParkingLot(self.scripts)
        self._kept: dict[str, float] = {}

    def acquire(self, service: str, policy: Policy, owner: str = "", key: str = "") -> Permit:
        """See ``Store.acquire``."""
        token = token_for(owner)
        short = policy.plain and not self._is_to_keep(service)
        told = self.scripts.run("acquire", service, policy.wire, key, token, owner, int(short))
        try:
            granted, state, generation, probe, when, reason, attempts, now, override, wait, word = told
            return Permit(
                granted=bool(granted),
                service=service,
                state=_STATES[state],
                generation=generation,
                token=token if granted else "",
                probe=bool(probe),
                until=from_micros(when) if granted else None,
                retry_at=None if granted else from_micros(when),
                reason=_reason(reason),
                attempts=attempts,
                at_micros=now,
                policy=effective(policy, override.decode()) if override else policy,
                wait_seconds=wait / MICROSECONDS,
                order=_order(*word) if word else None,
                override=override.decode(),
            )
        except UNREADABLE as error:
            raise self._unreadable(service, error) from error

    def _is_to_keep(self, service: str) -> bool:
        """Whether this process has not for KEEP_SECONDS gone the way that keeps a circuit from going away."""
        now = time.monotonic()
        if now < self._kept.get(service, 0.0):
            return False
        self._kept[service] = now + KEEP_SECONDS
        return True

    def report(self, permit: Permit, policy: Policy, finding: Finding) -> Report:
        """See ``Store.report``."""
        told = self.scripts.run(
            "report",
            permit.service,
            policy.wire,
            finding.key,
            permit.generation,
            permit.token,
            int(permit.probe),
            permit.at_micros,
            finding.verdict.value,
            micros_in(finding.hold_seconds),
            (finding.reason or Reason.RATE_LIMITED).value,
            finding.owner,
            finding.max_attempts,
            finding.host,
            random.random(),  # noqa: S311 - spreads load, guards nothing
            int(policy.plain and permit.policy.plain),
            micros_in(time.monotonic() - permit.viewed_at) if permit.viewed else "",
            finding.detail,
            finding.subject,
            int(finding.guessed),
        )
        try:
            applied, state, attempts, losses, retry_at, why, generation, now, unseen, own = told
            _wait_unseen(unseen)
            return Report(
                applied=bool(applied),
                state=_STATES[state],
                attempts=attempts,
                losses=losses,
                retry_at=from_micros(retry_at),
                reason=_reason(why),
                generation=generation,
                at_micros=now,
                own=bool(own),
            )
        except UNREADABLE as error:
            raise self._unreadable(permit.service, error) from error

    def forget(self, service: str, owner: str) -> None:
        """See ``Store.forget``."""
        self.scripts.run("forget", service, owner)

    def control(self, service: str, act: str, seconds: float, note: str, actor: str) -> None:
        """See ``Store.control``."""
        _, unseen = self.scripts.run("control", service, act, micros_in(seconds), note, actor)
        _wait_unseen(unseen)

    def override(
        self, service: str, seen: str | None, stages: Sequence[tuple[int, str]], note: str, actor: str
    ) -> bool:
        """See ``Store.override``."""
        how = "anyway" if seen is None else "if"
        done, unseen = self.scripts.run(
            "override", service, how, seen or "", note, actor, json.dumps(list(stages))
        )
        _wait_unseen(unseen)
        return bool(done)

    def restore(
        self, service: str, order: Order | None, stages: Sequence[tuple[int, str]], note: str, actor: str
    ) -> None:
        """See ``Store.restore``."""
        word = (order.act, order.until, order.note, order.actor) if order else ("", 0, "", "")
        self.scripts.run("restore", service, *word, json.dumps(list(stages)), note, actor)

    def remind(self, service: str, known: Known) -> None:
        """See ``Store.remind``."""
        retry_at = to_micros(known.retry_at)
        self.scripts.run("remind", service, "", known.key, known.generation, retry_at, known.reason.value)

    def remove(self, service: str) -> int:
        """See ``Store.remove``."""
        parked = int(self.scripts.run("remove", service))
        self._kept.pop(service, None)
        return parked

    def transitions(self, services: Sequence[str]) -> list[Transition]:
        """See ``Store.transitions``."""
        handed = self.scripts.run_many(
            "transitions", [(service, (BATCH, SILENCE_MILLISECONDS)) for service in services]
        )
        found = []
        for service, handed_out in zip(services, handed, strict=True):
            if isinstance(handed_out, StoreUnavailableError):
                continue
            number, entries = handed_out
            for ident, values in entries:
                change = _transition(service, ident, values)
                if change is None:  # or it would be handed out again and again
                    self.scripts.run("heard", service, 0, ident)
                    continue
                lost = max(change.number - number - 1, 0)
                number = change.number or number
                found.append(replace(change, lost=lost))
        return found

    def heard(self, transitions: Sequence[Transition]) -> None:
        """See ``Store.heard``."""
        for service, group in groupby(transitions, key=attrgetter("service")):
            changes = list(group)
            with contextlib.suppress(StoreUnreadableError):  # of that circuit alone, and said
                self.scripts.run("heard", service, changes[-1].number, *(change.id for change in changes))

    def read(self, services: Sequence[str]) -> dict[str, Circuit]:
        """See ``Store.read``."""
        return _whole(self.circuits(services))

    def history(self, services: Sequence[str], most: int) -> dict[str, History]:
        """See ``Store.history``."""
        return _whole(self.histories(services, most))

    def circuits(self, services: Sequence[str]) -> dict[str, Circuit | StoreUnavailableError]:
        """As ``read``; one that cannot be read takes none of the others along."""
        return self._look("read", services, (), _circuit)

    def histories(self, services: Sequence[str], most: int) -> dict[str, History | StoreUnavailableError]:
        """As ``history``; one that cannot be read takes none of the others along."""
        # One more than asked for tells whether there are earlier ones.
        return self._look("history", services, (most + 1,), partial(_history, most=most))

    def _look(
        self,
        script: str,
        services: Sequence[str],
        arguments: tuple[int, ...],
        load: Callable[[str, Any], T],
    ) -> dict[str, T | StoreUnavailableError]:
        found: dict[str, T | StoreUnavailableError] = {}
        rows = self.scripts.run_many(script, [(service, arguments) for service in services])
        for service, row in zip(services, rows, strict=True):
            try:
                found[service] = row if isinstance(row, StoreUnavailableError) else load(service, row)
            except UNREADABLE as error:
                found[service] = self._unreadable(service, error)
        return found

    def _unreadable(self, service: str, error: Exception) -> StoreUnreadableError:
        key = circuit_of(service)
        return self.scripts.unreadable(key, f"{error!r}, in or beside {key!r}: delete what is not ours")


def _whole(found: Mapping[str, T | StoreUnavailableError]) -> dict[str, T]:
    for each in found.values():
        if isinstance(each, StoreUnavailableError):
            raise each
    return dict(found)  # type: ignore[arg-type]  # none is an error


def _wait_unseen(micros: int) -> None:
    """Until nobody goes by an older view (``views.py``): as long as one lasts, whatever the clock says."""
    if micros:
        time.sleep(min(micros / MICROSECONDS, VIEW_SECONDS))


def _circuit(service: str, row: list[Any]) -> Circuit:
    now, in_flight, parked, ready, oldest, away, stirs, *pairs = row
    fields = {k.decode(): v.decode() for k, v in zip(pairs[::2], pairs[1::2], strict=True)}
    counts = {name: count_of(fields.get(name, 0)) for name in _COUNTS}
    override = fields.get("override", "")
    if override and not (effective(DEFAULT, override) and isinstance(changes_of(override), dict)):
        raise ValueError("its override is none")
    stages = tuple((until, text) for until, text in json.loads(fields.get("override_stages", "[]")))
    forced = fields.get("forced", "") if count_of(fields.get("forced_until", 0)) > now else ""
    over = {"open": CircuitState.FORCED_OPEN, "disabled": CircuitState.DISABLED}.get(forced)
    told = (fields.get(name, "") for name in ("forced_until", "note", "actor"))
    reason = "forced" if forced == "open" else fields.get("reason", "")
    return Circuit(
        service=service,
        state=over or CircuitState(fields.get("state", "closed")),
        generation=counts["generation"],
        failures=counts["failures"],
        successes=counts["successes"],
        reopened=counts["reopened"],
        in_flight=in_flight,
        since=from_micros(fields.get("since")),
        recovering_since=from_micros(fields.get("since") if "ramp" in fields else None),
        retry_at=from_micros(fields.get("forced_until" if forced == "open" else "retry_at")),
        reason=reason_of(reason),
        last_failure=from_micros(fields.get("last_failure")),
        last_error=fields.get("last_error"),
        forced_until=from_micros(fields.get("forced_until")) if forced else None,
        actor=(fields.get("actor") or None) if forced else None,
        note=(fields.get("note") or None) if forced else None,
        refused_keys=frozenset(name[8:] for name in fields if name.startswith("refused:")),
        override=override,
        override_until=from_micros(fields.get("override_until")),
        override_stages=stages if override else (),
        override_actor=fields.get("override_actor") or None,
        override_note=fields.get("override_note") or None,
        order=_order(forced, *told) if forced else None,
        acted="acted" in fields,
        allowed_total=counts["allowed"],
        blocked_total=counts["blocked"],
        would_block_total=counts["would_block"],
        failures_total=counts["verdict:failure"],
        trips_total=counts["trips"],
        moved_total=_after("moved:", fields),
        took=_after(TOOK, fields),
        parked=parked,
        parked_ready=ready,
        parked_since=from_micros(oldest),
        away=away,
        stirs_at=from_micros(stirs),
        used_until=from_micros(fields.get("tat")),
        parked_total=counts["parked"],
        coalesced_total=counts["coalesced"],
        released_total=counts["released"],
        unroutable_total=counts["unroutable"],
        dropped_total=_after("dropped:", fields),
        read_at=from_micros(now),
    )


def _order(
    act: str | bytes, until: float | str, note: str | bytes | None, actor: str | bytes | None
) -> Order:
    """An operator's word as a script tells it, or a circuit's hash."""
    words = [word.decode() if isinstance(word, bytes) else word or "" for word in (act, note, actor)]
    return Order(words[0], count_of(until), *words[1:])


def _after(prefix: str, fields: dict[str, str]) -> dict[str, int]:
    """The counters whose names begin so, by the rest of their names."""
    return {name.removeprefix(prefix): count_of(n) for name, n in fields.items() if name.startswith(prefix)}


def _transition(service: str, ident: bytes, values: list[bytes]) -> Transition | None:
    """None for one that cannot be read."""
    try:
        told = [text.decode() for text in values]
        fields = dict(zip(told[::2], told[1::2], strict=True))
        return Transition(
            service=service,
            before=CircuitState(fields["from"]),
            after=CircuitState(fields["to"]),
            reason=reason_of(fields["reason"]),
            evidence=Evidence(*(count_of(fields.get(name, 0)) for name in _EVIDENCE)),
            at=time_of(fields["at"]),
            retry_at=from_micros(fields["retry_at"]),
            actor=fields["actor"] or None,
            note=fields["note"] or None,
            id=ident.decode(),
            number=count_of(fields.get("number", 0)),
        )
    except UNREADABLE:
        return None


def _history(service: str, row: list[Any], most: int) -> History:
    (now, state), entries, samples = row
    changes = [_transition(service, *entry) for entry in entries]
    # Of what an earlier release has noted nobody knows the number.
    first = changes[-1].number if changes and changes[-1] else 0
    return History(
        now=time_of(now),
        state=_STATES[state],
        transitions=tuple(filter(None, changes[:most])),
        complete=len(entries) <= most and first <= 1,
        samples=tuple(_sample(line) for line in reversed(samples)),
    )


def _sample(line: bytes) -> Sample:
    at, *counts = map(count_of, line.split())
    return Sample(time_of(at), *counts)


_EVIDENCE = ("failures", "calls", "failed", "slow")
_COUNTS = (
    "generation",
    "failures",
    "successes",
    "reopened",
    "allowed",
    "blocked",
    "would_block",
    "verdict:failure",
    "trips",
    "parked",
    "coalesced",
    "released",
    "unroutable",
)


_STATES = {state.value.encode(): state for state in CircuitState}


def _reason(text: bytes) -> Reason | None:
    return reason_of(text.decode())

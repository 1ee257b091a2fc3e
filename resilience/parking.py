"""The parking lot: where messages wait that an open circuit refuses.

A message is kept as it came from the broker, with its own exchange and routing key; it is never rebuilt
from a signature, but where its task asks for other arguments or options with ``retry()``. Order of acts,
everywhere: result state ``PARKED``, park, acknowledge. A crash between two of them repeats a message and
never loses one.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import uuid
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING, Any

from celery.app.task import Context
from celery.utils.time import maybe_iso8601
from kombu.exceptions import ContentDisallowed, DecodeError
from kombu.message import Message
from kombu.serialization import prepare_accept_content
from kombu.utils.json import dumps, loads

from resilience.circuit import CircuitState, from_micros, time_of, to_micros
from resilience.errors import UNREADABLE
from resilience.messages import ODD, fields_of, id_of
from resilience.policy import DEFAULT, micros_in
from resilience.stores import PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from resilience.policy import Policy
    from resilience.stores.redis import Scripts

# A releaser that was killed holds its batch back this long.
RELEASE_LEASE_SECONDS = 15
# A message that is in no queue is tried again after an eighth of the time it has waited, within these limits.
DEFERRED_SECONDS = (5, 60)
# A released probe that reaches no worker in this time gives its place to another.
RESERVATION_SECONDS = 15

# So many messages are looked through in one go: a fraction of a millisecond of the server's time.
STEP = 100
BEGINNING = "-inf"

# Header of a message that was published from here, and so may be in its queue twice.
PUBLISHED_AGAIN = "resilience_published_again"

# In JSON, kombu writes what a value of another type is under this key.
TYPED = '"__type__"'

# Content that is read without asking the app what it accepts: none of it can be code.
PLAIN = ("application/json", "application/x-msgpack", "application/x-yaml")

# Of each app the services that have a lot, those included that are known by a task's arguments alone. Where
# that key is something else, none of them is known, and no circuit is the worse for it.
LOTS = f"{PREFIX}lots:"
NOTE = "redis.pcall('HSET', KEYS[1], ARGV[1], 1) return 0"
STRIKE = "redis.pcall('HDEL', KEYS[1], ARGV[1]) return 0"
NOTED = "local found = redis.pcall('HKEYS', KEYS[1]) return found.err and {} or found"

# What ``settle`` is told of messages that have ended as their leader has.
ANSWERED = "answered"

# Why tasks end in the lot: their own time is over, no room, an operator, too long a wait, somebody's revoke,
# or what was stored of them is no message any more.
DROPS = ("expired", "full", "operator", "overdue", "revoked", "unreadable")

# What a broker sets anew at each delivery; what the message itself holds, and AMQP repeats among the
# properties; and Celery's TTL, which would delete a copy that waits.
_LEFT_OUT = frozenset(
    {
        *("delivery_info", "delivery_tag", "body_encoding", "redelivered"),
        *("content_type", "content_encoding", "application_headers"),
        "expiration",
    }
)
# kombu has decompressed the body, so the header that says otherwise goes; and where RabbitMQ has held the
# message back for a while is no matter to the next who gets it. These names and no others: what begins like
# one of them is the sender's.
_NOT_ITS_OWN = frozenset(
    {
        *("compression", "x-death"),
        *(
            f"x-{which}-death-{what}"
            for which in ("first", "last")
            for what in ("exchange", "queue", "reason")
        ),
    }
)


def expires_of(fields: dict[str, Any]) -> int:
    """When Celery would revoke a message, in microseconds since the epoch; 0: never, or not to be read."""
    try:
        when = maybe_iso8601(fields.get("expires"))
        return to_micros(when if when.tzinfo else when.replace(tzinfo=UTC)) if when else 0
    except ODD:
        return 0  # Celery refuses it with its own error when it runs


class Lane(StrEnum):
    """Who asked. On-demand leaves the lot first."""

    ON_DEMAND = "on_demand"
    SCHEDULED = "scheduled"


@dataclass(frozen=True, slots=True)
class Stored:
    """A message as it came from the broker, ready to be published again.

    Attributes:
        problem: Why it is none: what is stored of it cannot be read, and nothing is known but its id. All
            that is left is to tell whoever waits for it.
    """

    id: str
    body: str | bytes
    content_type: str
    content_encoding: str
    headers: dict[str, Any]
    properties: dict[str, Any]
    exchange: str
    routing_key: str
    problem: str = ""

    @classmethod
    def of(cls, message: Any) -> Stored:
        """From a kombu message."""
        delivery = message.delivery_info or {}
        return cls(
            id=id_of(message),
            body=message.body,
            content_type=message.content_type,
            content_encoding=message.content_encoding,
            headers={k: v for k, v in message.headers.items() if k not in _NOT_ITS_OWN},
            properties={k: v for k, v in (message.properties or {}).items() if k not in _LEFT_OUT},
            exchange=delivery.get("exchange") or "",
            routing_key=delivery.get("routing_key") or "",
        )

    @property
    def fields(self) -> dict[str, Any]:
        """What Celery goes by (``fields_of``); the headers, where the body cannot be read."""
        try:
            return fields_of(self.restore(PLAIN))
        except (DecodeError, ContentDisallowed, *ODD):
            return self.headers

    def context(self, worker: str, *, extended: bool) -> Context:
        """The request as Celery's result backends know it: what they tell with a state, and whom.

        Args:
            worker: Whose it is.
            extended: With its arguments, as under ``result_extended``.
        """
        fields = self.fields
        args, kwargs = fields.get("args"), fields.get("kwargs")
        with contextlib.suppress(DecodeError, ContentDisallowed, *ODD):
            if extended and "args" not in fields:
                args, kwargs, _ = self.restore(PLAIN).payload
        names = {name: self.properties.get(name) for name in ("reply_to", "correlation_id")}
        delivered = {"exchange": self.exchange, "routing_key": self.routing_key}
        return Context(
            fields, args=args, kwargs=kwargs, hostname=worker or None, delivery_info=delivered, **names
        )

    def question(self) -> str:
        """What it asks: the same for messages with the same task, arguments and ``ignore_result``.

        Returns:
            A digest; '' for a member of a chord, group or chain, or one with callbacks: its end is more than
            its answer. The last of a chain, whose end is no more, looks like any other.
        """
        if self.headers.get("group"):
            return ""
        try:
            args, kwargs, embed = json.loads(self.body if isinstance(self.body, str) else bytes(self.body))
            if embed and any(embed.values()):
                return ""
            asked = [self.headers["task"], args, kwargs, bool(self.headers.get("ignore_result"))]
        except ODD:
            return ""  # the protocol before the present one, or malformed
        text = json.dumps(asked, sort_keys=True, separators=(",", ":"))
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    def retried(self, retries: int) -> Stored:
        """The same for another attempt, whose ``request.retries`` is this."""
        if "task" in self.headers:
            return replace(self, headers=self.headers | {"retries": retries})
        return replace(self, body=json.dumps(json.loads(self.body) | {"retries": retries}))

    def restore(self, accept: Iterable[str]) -> Message:
        """As a kombu message again, off any channel; ``accept`` says what its body may be."""
        return Message(
            body=self.body,
            content_type=self.content_type,
            content_encoding=self.content_encoding,
            headers=dict(self.headers),
            properties=dict(self.properties),
            delivery_info={"exchange": self.exchange, "routing_key": self.routing_key},
            accept=prepare_accept_content(accept),
        )

    def dump(self) -> str:
        """As JSON; a body that is no text goes as base64."""
        body = self.body
        if not isinstance(body, str):
            body = bytes(body)  # RabbitMQ hands out memoryviews
        encoded = {"b64": base64.b64encode(body).decode()} if isinstance(body, bytes) else {"text": body}
        text: str = dumps(  # kombu's: it keeps the times an AMQP header may hold
            [
                self.id,
                encoded,
                self.content_type,
                self.content_encoding,
                self.headers,
                self.properties,
                self.exchange,
                self.routing_key,
            ]
        )
        return text

    @classmethod
    def load(cls, text: str | bytes) -> Stored:
        """The inverse of ``dump``.

        Raises:
            ValueError: It is none of ours.
        """
        try:
            # A later release may have put more behind it.
            ident, encoded, kind, encoding, headers, properties, exchange, key, *_ = loads(text)
            body = base64.b64decode(encoded["b64"]) if "b64" in encoded else encoded["text"]
            parts = {str: (ident, exchange, key, kind or "", encoding or ""), dict: (headers, properties)}
            if not all(isinstance(part, type_) for type_, some in parts.items() for part in some):
                raise ValueError("its parts are of other types")
        except UNREADABLE as error:
            raise ValueError(f"{text[:80]!r} is no parked message: {error}") from None
        return cls(ident, body, kind, encoding, headers, properties, exchange, key)

    @classmethod
    def read(cls, ident: bytes, text: bytes) -> Stored:
        """What the lot keeps under this id; never raises, so that one in a batch is that one's affair."""
        name = _name(ident)
        try:
            found = cls.load(text)
            if found.id == name:
                return found
            problem = f"it is the message of {found.id[:80]!r}"
        except ValueError as error:
            problem = str(error) if text else "its message is gone"
        return cls(name, "", "", "", {}, {}, "", "", problem)


@dataclass(frozen=True, slots=True)
class Waiting:
    """A message on its way into the lot.

    Attributes:
        message: The message.
        lane: Who asked.
        delay_seconds: Its own backoff; 0: the circuit is the gate.
        behind: Goes behind all others (a failed probe), instead of keeping its place.
        group: Those of one group become one in the lot (``Stored.question``); '': it stays for itself.
        text: The message as it is stored.
        expires: When it expires, in microseconds since the epoch; 0: never.

    Raises:
        TypeError, ValueError: For a message whose headers or properties are no JSON, or of types that could
            not be read again.
    """

    message: Stored
    lane: Lane
    delay_seconds: float = 0
    behind: bool = False
    group: str = ""
    text: str = field(init=False)
    expires: int = field(init=False)

    def __post_init__(self) -> None:
        text = self.message.dump()
        if TYPED in text:  # kombu's word for what JSON has no word for, or a sender's
            Stored.load(text)
        object.__setattr__(self, "text", text)
        object.__setattr__(self, "expires", expires_of(self.message.fields))


class Taken(IntEnum):
    """What became of a message that was to be parked."""

    LET_THROUGH = 0
    PARKED = 1
    FULL = 2
    NOT_NOW = 3


@dataclass(frozen=True, slots=True)
class Entry:
    """A message in the lot.

    Attributes:
        message: The message.
        lane: Who asked.
        since: When it was first parked.
        due: When its own pause ends; None: the circuit is the gate.
        released: It is on its way back to its queue.
        attempts: Failed attempts its task has spent.
    """

    message: Stored
    lane: Lane
    since: datetime
    due: datetime | None
    released: bool
    attempts: int


@dataclass(frozen=True, slots=True)
class Leader:
    """A task that has left the lot, and whose answer others wait for.

    Attributes:
        id: The task's.
        verdict: What its last call said of the service, once it has ended; '' where that is not known.
        ended: It has, as far as the lot knows.
        late: Nobody has heard of it for as long as an answer may take.
        follower: The first of those that wait for it: the same task with the same arguments.
    """

    id: str
    verdict: str
    ended: bool
    late: bool
    follower: Stored


class ParkingLot:
    """The lots of all services on one store. Every method raises StoreUnavailableError if it is lost.

    Args:
        scripts: The store's scripts.
    """

    def __init__(self, scripts: Scripts) -> None:
        self._scripts = scripts

    @property
    def address(self) -> str:
        """Where the lots are, without user or password."""
        return self._scripts.address

    def eviction(self) -> str:
        """What the server throws away when it is full; '' where it does not say."""
        return self._scripts.setting("maxmemory-policy")

    def version(self) -> tuple[int, ...]:
        """The server's, as Redis counts; empty where it does not say."""
        return self._scripts.version()

    def memory(self) -> tuple[int, int] | None:
        """Bytes the server uses and may use (0: no limit); None where it does not say."""
        return self._scripts.memory()

    def note(self, app: str, service: str) -> None:
        """This app has a lot for this service: whoever looks after its lots must know."""
        self._scripts.evaluate(NOTE, [LOTS + app], service)

    def strike(self, app: str, service: str) -> None:
        """The app has none for it any more."""
        self._scripts.evaluate(STRIKE, [LOTS + app], service)

    def noted(self, app: str) -> set[str]:
        """The services of which the app has a lot."""
        found = self._scripts.evaluate(NOTED, [LOTS + app])
        return {name.decode("utf-8", "replace") for name in found}

    def park(
        self,
        service: str,
        batch: Iterable[Waiting],
        policy: Policy = DEFAULT,
        *,
        gate: bool = False,
        spare: bool = False,
        key: str = "",
    ) -> list[Taken]:
        """Take messages in, atomically.

        Args:
            service: Whose lot.
            batch: The messages.
            policy: Its circuit's.
            gate: Take only those the circuit refuses at this moment: what the caller knew may be
                a second old.
            spare: Of those, take only what was here before, because the store's memory is nearly used up.
            key: The fingerprint of the key the calls would be made with.

        Returns:
            For each message what became of it.

        Raises:
            StoreFullError: There is no memory left for them.
        """
        mode = "spare" if spare else "gate" if gate else "force"
        arguments: list[str | float] = [policy.wire, key, mode]
        for entry in batch:
            arguments += [
                entry.message.id,
                "d" if entry.lane is Lane.ON_DEMAND else "s",
                micros_in(entry.delay_seconds),
                int(entry.behind),
                entry.expires,
                entry.group,
                entry.text,
            ]
        return [Taken(taken) for taken in self._scripts.run_confirmed("park", service, *arguments)]

    def take(self, service: str, policy: Policy, most: int, key: str = "") -> tuple[str, list[Stored]]:
        """Lease what may leave now.

        Returns:
            The lease's token and the messages, on-demand first, each lane in order; none while the
            circuit is shut. Here as elsewhere, some may have a ``problem``.
        """
        token = uuid.uuid4().hex
        _, *pairs = self._scripts.run(
            "take",
            service,
            policy.wire,
            key,
            token,
            most,
            micros_in(RELEASE_LEASE_SECONDS),
            micros_in(RESERVATION_SECONDS),
        )
        return token, _read(pairs)

    def waiting(self, service: str, most: int, skip: int = 0) -> list[Entry]:
        """What is parked, the longest waiting first."""
        return [
            Entry(
                message=Stored.read(ident, text[1:]),
                lane=Lane.ON_DEMAND if text[:1] == b"d" else Lane.SCHEDULED,
                since=time_of(since),
                due=from_micros(due),
                released=bool(released),
                attempts=attempts,
            )
            for ident, since, due, released, attempts, text in self._scripts.run("list", service, most, skip)
        ]

    def on_demand(self, service: str, most: int, skip: int = 0) -> list[Stored]:
        """What waits on demand for the circuit, in order."""
        return _read(self._scripts.run("on_demand", service, most, skip))

    def hurry(self, service: str, note: str, actor: str) -> tuple[CircuitState, int]:
        """Have what is parked tried now: an open circuit becomes half-open, pauses of their own end.

        Returns:
            The circuit's state, and how many may go, as it lets them.
        """
        state, ready = self._scripts.run("hurry", service, note, actor)
        return CircuitState(state.decode()), ready

    def pick(self, service: str, most: int, ids: Sequence[str] = ()) -> tuple[str, list[Stored]]:
        """Lease messages to end them: these, or the longest waiting; the circuit has no say."""
        token = uuid.uuid4().hex
        lease = micros_in(RELEASE_LEASE_SECONDS)
        return token, _read(self._scripts.run("pick", service, token, most, lease, *map(_key, ids)))

    def stamped(self, service: str, cursor: str, stamps: Iterable[Any]) -> tuple[str, list[Stored]]:
        """Look through a part of the lot for what may bear one of these stamps.

        Args:
            service: Whose lot.
            cursor: Where to go on; BEGINNING.
            stamps: As they stand in a message's headers.

        Returns:
            Where to go on, '' at the end, and messages with one of these values anywhere in them.
        """
        texts = [dumps(stamp) for stamp in stamps]
        after, *pairs = self._scripts.run("stamped", service, cursor, STEP, *texts)
        return after.decode(), _read(pairs)

    def take_expired(self, service: str, policy: Policy, most: int) -> tuple[str, dict[str, list[Stored]]]:
        """Lease what expired while it waited, and what has waited too long; the circuit has no say.

        Returns:
            The lease's token, and the messages under ``expired`` and ``overdue``.
        """
        token = uuid.uuid4().hex
        lease = micros_in(RELEASE_LEASE_SECONDS)
        told = self._scripts.run("expired", service, policy.wire, token, most, lease)
        found: dict[str, list[Stored]] = {"expired": [], "overdue": []}
        for why, ident, text in zip(told[::3], told[1::3], told[2::3], strict=True):
            found[why.decode()].append(Stored.read(ident, text))
        return token, found

    def away(self, service: str, most: int, patience: float) -> list[Leader]:
        """Leaders that have ended, then those away for longer than ``patience`` seconds, then others."""
        return [
            Leader(_name(ident), verdict.decode(), bool(ended), bool(late), Stored.read(first, text))
            for ident, verdict, ended, late, first, text in self._scripts.run(
                "away", service, most, micros_in(patience)
            )
        ]

    def follow(self, service: str, most: int, leaders: Sequence[str]) -> tuple[str, list[tuple[str, Stored]]]:
        """Lease what follows these leaders, to end it as they have ended.

        Returns:
            The lease's token, and each message with its leader's id.
        """
        token = uuid.uuid4().hex
        lease = micros_in(RELEASE_LEASE_SECONDS)
        told = self._scripts.run("follow", service, token, most, lease, *map(_key, leaders))
        rows = zip(told[::3], told[1::3], told[2::3], strict=True)
        return token, [(_name(leader), Stored.read(ident, text)) for leader, ident, text in rows]

    def succeed(self, service: str, leaders: Sequence[str], patience: float = 0) -> int:
        """Leaders without an answer give their place to the first that follows.

        Args:
            service: Whose lot.
            leaders: Their ids; one that is back, or has been heard of since, leads on.
            patience: How long, in seconds, they must have been away; 0: it is known that no answer comes.

        Returns:
            How many did.
        """
        return int(self._scripts.run("succeed", service, micros_in(patience), *map(_key, leaders)))

    def defer(self, service: str, token: str, ids: Iterable[str]) -> int:
        """Put back what no queue takes, behind all others and for a while; its place is free for the next.

        Returns:
            How many were; what was parked again meanwhile stays as it is.
        """
        least, most = map(micros_in, DEFERRED_SECONDS)
        return int(self._scripts.run("defer", service, token, least, most, *map(_key, ids)))

    def settle(self, service: str, token: str, ids: Iterable[str], dropped: str = "") -> int:
        """Forget what has been published under this lease; what was parked again meanwhile stays.

        Args:
            service: Whose lot.
            token: The lease's.
            ids: The messages'.
            dropped: Why they have ended, if they have instead; ANSWERED is no drop.
        """
        return int(self._scripts.run("settle", service, token, dropped, *map(_key, ids)))


def _name(ident: bytes) -> str:
    """An id out of the store, where somebody may have put anything."""
    return ident.decode("utf-8", "surrogateescape")


def _key(ident: str) -> bytes:
    """The inverse of ``_name``."""
    return ident.encode("utf-8", "surrogateescape")


def _read(pairs: Sequence[bytes]) -> list[Stored]:
    """Id, message, id, message, and so on."""
    return [Stored.read(ident, text) for ident, text in zip(pairs[::2], pairs[1::2], strict=True)]

"""The real scripts in an embedded Lua 5.1, which Redis and Valkey run too, on keys that can be copied.

Redis gives a script ``redis.call`` and ``cjson``; here these are the few commands the scripts use, in Python.
That they do what a server does is tested against one: ``test_fidelity.py``. A command nobody has written here
is an error, never a guess.
"""

from __future__ import annotations

import functools
import json
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from lupa import lua51

from resilience.parking import ParkingLot
from resilience.stores.redis import RedisStore, assemble, circuit_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence


class Hash(dict[str, str]):
    """Field to value, as they were set."""


class SortedSet(dict[str, float]):
    """Member to score."""

    def ordered(self) -> list[tuple[float, str]]:
        return sorted((score, member) for member, score in self.items())


class Log(list[str]):
    """A Redis list."""


def text_of(value: Any) -> str:
    """An argument as Redis writes it down: a number to 17 digits."""
    if type(value) is str:
        return value
    if type(value) is int:
        return str(value)
    if type(value) is float:
        return f"{value:.17g}"
    raise TypeError(f"a script gave {value!r} to a command; Redis takes strings and numbers")


def score_text(score: float) -> str:
    return str(int(score)) if score == int(score) else f"{score:.17g}"


class Keyspace:
    """The keys of one database, and the commands on them.

    A copy shares the values; what is changed is copied first: copies are cheap and never affect each other.
    """

    def __init__(self) -> None:
        self.keys: dict[str, Any] = {}
        self._own: set[str] = set()

    def snapshot(self) -> dict[str, Any]:
        """All keys as they stand; not to be changed."""
        self._own = set()
        return dict(self.keys)

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Back to where that was taken."""
        self.keys = dict(snapshot)
        self._own = set()

    def _at(self, key: str, kind: type) -> Any:
        value = self.keys.get(key)
        if value is not None and type(value) is not kind:
            raise TypeError(f"WRONGTYPE {key} is a {type(value).__name__}, no {kind.__name__}")
        return value if value is not None else kind()

    def _mine(self, key: str, kind: type) -> Any:
        """The value to be changed."""
        value = self._at(key, kind)
        if key not in self._own:
            value = kind(value)
            self.keys[key] = value
            self._own.add(key)
        elif key not in self.keys:
            self.keys[key] = value
        return value

    def _drop_empty(self, key: str) -> None:
        if key in self.keys and not self.keys[key]:
            del self.keys[key]

    # Keys

    def exists(self, *keys: str) -> int:
        return sum(key in self.keys for key in keys)

    def delete(self, *keys: str) -> int:
        return sum(self.keys.pop(key, None) is not None for key in keys)

    def pexpire(self, key: str, _: Any) -> int:
        """Of what expires a model knows nothing: it is never so old."""
        return int(key in self.keys)

    # Hashes

    def hget(self, key: str, field: str) -> Any:
        return self._at(key, Hash).get(text_of(field), False)

    def hmget(self, key: str, *fields: str) -> list[Any]:
        found = self._at(key, Hash)
        return [found.get(text_of(field), False) for field in fields]

    def hset(self, key: str, *pairs: Any) -> int:
        if len(pairs) % 2 or not pairs:
            raise TypeError("HSET takes pairs")
        value = self._mine(key, Hash)
        before = len(value)
        for place in range(0, len(pairs), 2):
            value[text_of(pairs[place])] = text_of(pairs[place + 1])
        return len(value) - before

    def hsetnx(self, key: str, field: str, value: Any) -> int:
        return 0 if field in self._at(key, Hash) else self.hset(key, field, value)

    def hdel(self, key: str, *fields: str) -> int:
        if key not in self.keys:
            return 0
        value = self._mine(key, Hash)
        gone = sum(value.pop(text_of(field), None) is not None for field in fields)
        self._drop_empty(key)
        return gone

    def hexists(self, key: str, field: str) -> int:
        return int(field in self._at(key, Hash))

    def hlen(self, key: str) -> int:
        return len(self._at(key, Hash))

    def hkeys(self, key: str) -> list[str]:
        return list(self._at(key, Hash))

    def hgetall(self, key: str) -> list[str]:
        return [text for pair in self._at(key, Hash).items() for text in pair]

    def hstrlen(self, key: str, field: str) -> int:
        return len(self._at(key, Hash).get(field, "").encode())

    def hincrby(self, key: str, field: str, more: Any) -> int:
        value = self._mine(key, Hash)
        total = int(value.get(field, "0")) + int(text_of(more))
        value[field] = str(total)
        return total

    def hrandfield(self, key: str, most: Any) -> list[str]:
        """Any of them: the first, so that a search is the same each time."""
        return list(self._at(key, Hash))[: int(most)]

    # Sorted sets

    def zadd(self, key: str, *arguments: Any) -> int:
        option = arguments[0] if arguments[0] in ("NX", "XX") else None
        pairs = arguments[1:] if option else arguments
        value, added = self._mine(key, SortedSet), 0
        for place in range(0, len(pairs), 2):
            member = text_of(pairs[place + 1])
            if (option == "NX" and member in value) or (option == "XX" and member not in value):
                continue
            added += member not in value
            value[member] = float(pairs[place])
        self._drop_empty(key)
        return added

    def zrem(self, key: str, *members: str) -> int:
        if key not in self.keys:
            return 0
        value = self._mine(key, SortedSet)
        gone = sum(value.pop(text_of(member), None) is not None for member in members)
        self._drop_empty(key)
        return gone

    def zcard(self, key: str) -> int:
        return len(self._at(key, SortedSet))

    def zscore(self, key: str, member: str) -> Any:
        score = self._at(key, SortedSet).get(member)
        return False if score is None else score_text(score)

    def zcount(self, key: str, low: Any, high: Any) -> int:
        return len(self._between(key, low, high))

    def zrange(self, key: str, first: Any, last: Any, *options: str) -> list[str]:
        return _told(_slice(self._at(key, SortedSet).ordered(), int(first), int(last)), options)

    def zrevrange(self, key: str, first: Any, last: Any, *options: str) -> list[str]:
        return _told(_slice(self._at(key, SortedSet).ordered()[::-1], int(first), int(last)), options)

    def zrangebyscore(self, key: str, low: Any, high: Any, *options: Any) -> list[str]:
        return _told(_limited(self._between(key, low, high), options), options)

    def zremrangebyscore(self, key: str, low: Any, high: Any) -> int:
        members = [member for _, member in self._between(key, low, high)]
        return self.zrem(key, *members) if members else 0

    def zrangebylex(self, key: str, low: str, high: str, *options: Any) -> list[str]:
        if not (low[0] == "[" and high[0] == "("):
            raise TypeError(f"ZRANGEBYLEX {low} {high} is not among what the scripts ask")
        found = [
            pair for pair in self._at(key, SortedSet).ordered() if low[1:] <= pair[1] and pair[1] < high[1:]
        ]
        return _told(_limited(found, options), options)

    def zrandmember(self, key: str, most: Any) -> list[str]:
        """Any of them, as above."""
        return [member for _, member in self._at(key, SortedSet).ordered()][: int(most)]

    def _between(self, key: str, low: Any, high: Any) -> list[tuple[float, str]]:
        above, least = _bound(low)
        below, most = _bound(high)
        return [
            (score, member)
            for score, member in self._at(key, SortedSet).ordered()
            if (score > least or (score == least and not above))
            and (score < most or (score == most and not below))
        ]

    # Lists, and the stream of changes, which nobody here reads

    def rpush(self, key: str, *values: str) -> int:
        value = self._mine(key, Log)
        value += map(text_of, values)
        return len(value)

    def lindex(self, key: str, place: Any) -> Any:
        value = self._at(key, Log)
        return value[int(place)] if -len(value) <= int(place) < len(value) else False

    def lrange(self, key: str, first: Any, last: Any) -> list[str]:
        return _slice(self._at(key, Log), int(first), int(last))

    def ltrim(self, key: str, first: Any, last: Any) -> str:
        if key in self.keys:
            value = self._mine(key, Log)
            value[:] = _slice(value, int(first), int(last))
            self._drop_empty(key)
        return "OK"

    def xautoclaim(self, *_: Any) -> list[Any]:
        return []

    def xadd(self, key: str, *_: Any) -> str:  # noqa: ARG002 - it is not kept
        return "0-1"


def _bound(text: Any) -> tuple[bool, float]:
    """Whether it is exclusive, and the score."""
    if type(text) is str and text[:1] == "(":
        return True, float(text[1:])
    return False, float(text)


def _slice(items: Sequence[Any], first: int, last: int) -> list[Any]:
    """As Redis counts: the last is included, and from the end below zero."""
    size = len(items)
    first = max(first + size, 0) if first < 0 else first
    last = last + size if last < 0 else last
    return list(items[first : last + 1]) if last >= 0 else []


def _limited(found: list[tuple[float, str]], options: Sequence[Any]) -> list[tuple[float, str]]:
    if "LIMIT" not in options:
        return found
    place = options.index("LIMIT")
    skip, most = int(options[place + 1]), int(options[place + 2])
    return found[skip : skip + most] if most >= 0 else found[skip:]


def _told(found: Iterable[tuple[float, str]], options: Sequence[Any]) -> list[str]:
    if "WITHSCORES" in options:
        return [text for score, member in found for text in (member, score_text(score))]
    return [member for _, member in found]


# What Python calls otherwise.
NAMES = {"del": "delete"}
COMMANDS = (
    *("exists", "del", "pexpire"),
    *("hget", "hmget", "hset", "hsetnx", "hdel", "hexists", "hlen", "hkeys", "hgetall"),
    *("hstrlen", "hincrby", "hrandfield", "zadd", "zrem", "zcard", "zscore", "zcount", "zrange", "zrevrange"),
    *("zrangebyscore", "zremrangebyscore", "zrangebylex", "zrandmember"),
    *("rpush", "lindex", "lrange", "ltrim", "xadd", "xautoclaim"),
)

# A script is a function here. A table is handed over with its length: as in Redis, it ends at its first nil.
HARNESS = """
local commands, decode = ...
local redis = {}
function redis.call(name, ...)
  local command = commands[name]
  if not command then error('no command ' .. name .. ' here: write it in tests/model/embedded.py') end
  return command(...)
end
redis.pcall = redis.call
return function(source, name)
  local script = assert(loadstring('local redis, cjson, KEYS, ARGV = ...\\n' .. source, name))
  local cjson = { decode = decode }
  return function(...)
    local answer = script(redis, cjson, { (...) }, { select(2, ...) })
    if type(answer) == 'table' then return #answer, true, unpack(answer, 1, #answer) end
    return -1, true, answer
  end
end
"""


class Embedded:
    """Stands in for ``resilience.stores.redis.Scripts``: the same scripts, no server.

    Args:
        changes: (file, text, what stands there instead): scripts with a guard taken out.

    Attributes:
        keyspace: What a server would hold.
        now: The clock, in microseconds since the epoch; moved by hand.
    """

    def __init__(self, changes: Iterable[tuple[str, str, str]] = ()) -> None:
        self.keyspace = Keyspace()
        self.now = 0
        self._changes = list(changes)
        self._lua = lua51.LuaRuntime(
            unpack_returned_tuples=False, register_eval=False, register_builtins=False
        )
        commands = self._lua.table_from(
            {name.upper(): self._command(getattr(self.keyspace, NAMES.get(name, name))) for name in COMMANDS}
        )
        commands["TIME"] = self._command(lambda: [str(self.now // 1_000_000), str(self.now % 1_000_000)])
        self._compile = self._lua.execute(HARNESS, commands, self._decode)
        self._scripts: dict[str, Callable[..., Any]] = {}

    def _command(self, command: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            answer = command(*arguments)
            return self._lua.table_from(answer) if type(answer) is list else answer

        return call

    def _decode(self, text: str) -> Any:
        """Plain tables, as cjson makes them of what a policy is written in."""
        return self._table(json.loads(text))

    def _table(self, value: Any) -> Any:
        if isinstance(value, dict):
            return self._lua.table_from({name: self._table(inner) for name, inner in value.items()})
        return (
            self._lua.table_from([self._table(inner) for inner in value])
            if isinstance(value, list)
            else value
        )

    def _script(self, name: str) -> Callable[..., Any]:
        if name not in self._scripts:
            self._scripts[name] = self._compile(self._source(name), f"={name}.lua")
        return self._scripts[name]

    def _source(self, name: str) -> str:
        """As ``stores/redis.py`` puts it together, but for the changes."""
        return assemble(name, self._text)

    def _text(self, name: str) -> str:
        text = (files("resilience") / "lua" / f"{name}.lua").read_text("utf-8")
        for file, guard, without in self._changes:
            if file == f"{name}.lua":
                if text.count(guard) != 1:
                    raise ValueError(f"{file}: the guard {guard!r} is not where it was")
                text = text.replace(guard, without)
        return text

    def run(self, name: str, service: str, *arguments: str | bytes | float) -> Any:
        """See ``Scripts.run``."""
        # What a client sends is bytes: redis-py writes a number as Python does.
        sent = [text.decode() if isinstance(text, bytes) else str(text) for text in arguments]
        count, _, *answer = self._script(name)(circuit_of(service), str(self.now), *sent)
        return [_reply(value) for value in answer] if count >= 0 else _reply(answer[0] if answer else None)

    run_confirmed = run

    def run_many(self, name: str, calls: Iterable[tuple[str, Sequence[str | bytes | float]]]) -> list[Any]:
        """See ``Scripts.run_many``."""
        return [self.run(name, service, *arguments) for service, arguments in calls]


def _reply(value: Any) -> Any:
    """What a client reads: numbers lose their fraction, true is 1, false and nil are nothing."""
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, bool):
        return 1 if value else None
    if isinstance(value, (int, float)):
        return int(value)
    if value is None:
        return None
    return [_reply(value[place]) for place in range(1, len(value) + 1)]


def store_on(scripts: Any) -> RedisStore:
    """The real store's Python on other scripts."""
    store = RedisStore("redis://nowhere")
    store.scripts, store.lot = scripts, ParkingLot(scripts)
    return store


@functools.cache
def script_names() -> tuple[str, ...]:
    """Every script there is."""
    found = (file.name for file in (files("resilience") / "lua").iterdir())
    shared = ("prelude.lua", "epilogue.lua")
    return tuple(sorted(name.removesuffix(".lua") for name in found if name not in shared))

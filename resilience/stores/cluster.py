"""The servers of one cluster: which of them has a key, and what is sent there.

redis-py finds the servers, but no command goes through its own cluster client: after a failure that one
asks the other servers for the slot map before it says so, and each that hangs costs a time-out more. Here a
command waits for one server; the map is read at first use and by ``works``, which nobody waits for.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from redis.cluster import ClusterNode, RedisCluster
from redis.crc import REDIS_CLUSTER_HASH_SLOTS
from redis.exceptions import AskError, MovedError, OutOfMemoryError, TryAgainError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import redis

# Between two looks at a slot that is on its way from one server to another.
PAUSE_SECONDS = 0.01


class Cluster:
    """Servers that share the keys between them. Nothing is sent before it is used.

    Args:
        hosts: Some of them, each host and port.
        seconds: How long a slot on its way from one server to another is waited for.
        options: What redis-py's clients take.
    """

    def __init__(self, hosts: Sequence[tuple[str, int]], seconds: float, **options: Any) -> None:
        self._hosts = hosts
        self._seconds = seconds
        self._options = options
        self._found: RedisCluster | None = None

    def _servers(self) -> RedisCluster:
        found = self._found
        if found is None:
            nodes = [ClusterNode(host, port) for host, port in self._hosts]
            # The URL's hosts stay the ones to ask: the others may come back under new addresses.
            found = RedisCluster(startup_nodes=nodes, dynamic_startup_nodes=False, **self._options)
            self._found = found
        return found

    def spread(
        self,
        calls: Sequence[tuple[Any, ...]],
        send: Callable[[redis.Redis, list[tuple[Any, ...]]], list[Any]],
    ) -> list[Any]:
        """Send each call, in one go with its neighbours, to the server that has its first item as a key.

        Returns:
            The answers, in the order of the calls.
        """
        ends = time.monotonic() + self._seconds
        servers = self._servers()
        answers: dict[int, Any] = {}
        waiting = list(range(len(calls)))
        while waiting:
            nodes = [servers.get_node_from_key(calls[place][0]) for place in waiting]
            places = [place for place, node in zip(waiting, nodes, strict=True) if node == nodes[0]]
            try:
                got = send(servers.get_redis_connection(nodes[0]), [calls[place] for place in places])
            except (AskError, TryAgainError) as error:  # a MovedError is an AskError too
                if time.monotonic() > ends:
                    raise
                if isinstance(error, MovedError):
                    servers.nodes_manager.move_slot(error)
                # A script needs all its keys in one place, so to ask where some are already is no use.
                time.sleep(PAUSE_SECONDS)
            else:
                answers.update(zip(places, got, strict=True))
                waiting = [place for place in waiting if place not in answers]
        return [answers[place] for place in range(len(calls))]

    def get(self, key: str) -> Any:
        """A plain value."""
        return self.spread([(key,)], lambda server, _: [server.get(key)])[0]

    def set(self, key: str, value: str, px: int | None = None) -> Any:
        """A plain value, for ``px`` milliseconds if given."""
        return self.spread([(key,)], lambda server, _: [server.set(key, value, px=px)])[0]

    def works(self, prefix: str) -> bool:
        """Whether all servers take a write now, after a new look at who they are.

        All, not one: else a store that one server has left would be lost and found again by turns.
        """
        servers = self._servers()
        known = {(node.host, node.port) for node in servers.get_nodes()} - {*self._hosts}
        servers.nodes_manager.initialize(additional_startup_nodes_info=[*known])
        primaries = len(servers.get_primaries())
        checks: dict[str, str] = {}
        for number in range(REDIS_CLUSTER_HASH_SLOTS):
            if len(checks) == primaries:
                break
            key = f"{prefix}{number}"
            checks.setdefault(servers.get_node_from_key(key).name, key)
        return all(self._takes(key) for key in checks.values())

    def _takes(self, key: str) -> bool:
        """A server that is full works: what is there is served, and can leave."""
        try:
            return bool(self.set(key, "", px=1000))
        except OutOfMemoryError:
            return True

    def memory(self) -> dict[str, Any]:
        """What the server says of its memory that has the least left of what it may use."""
        servers = self._servers()
        told = [servers.get_redis_connection(node).info("memory") for node in servers.get_primaries()]
        return max(told, key=lambda server: server["used_memory"] / (server.get("maxmemory") or float("inf")))

    def close(self) -> None:
        """Let go of the connections; the next command makes new ones."""
        found, self._found = self._found, None
        if found is not None:
            found.close()

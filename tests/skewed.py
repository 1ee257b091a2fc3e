"""One process of a fleet, on whatever clock it was started with; it does what it is told, line by line.

python -m tests.skewed URL SERVICE POLICY
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from resilience import CircuitBreaker, Permit, Policy


class Process:
    """The verbs. Each answers with what JSON can say."""

    def __init__(self, url: str, service: str, policy: str) -> None:
        self.breaker = CircuitBreaker(service, store=url, policy=Policy(**json.loads(policy)))
        self.permit: Permit | None = None

    def clocks(self) -> list[float]:
        return [time.time(), time.monotonic()]

    def acquire(self) -> dict[str, Any]:
        permit = self.breaker.acquire()
        if permit:
            self.permit = permit
        times = {name: getattr(permit, name) for name in ("retry_at", "until")}
        return {
            "granted": permit.granted,
            "shared": permit.shared,
            **{name: when and when.timestamp() for name, when in times.items()},
        }

    def fail(self) -> str:
        assert self.permit is not None
        return str(self.breaker.report(self.permit, "failure").state)


if __name__ == "__main__":
    process = Process(*sys.argv[1:])
    for line in sys.stdin:
        print(json.dumps(getattr(process, line.strip())()), flush=True)  # noqa: T201 - this is how it answers

"""Steering a running simulator from Python."""

import ssl
from functools import cache
from typing import Any, cast

import httpx2

from workers.simulator.modes import Mode


class SimulatorError(RuntimeError):
    """The simulator is not there, or refused what was asked; the message says which, and what to do."""


class SimulatorClient:
    """A simulator's control API.

    Args:
        control_url: Its address, as its first line of output tells it.
        timeout_seconds: How long it may take to answer.
    """

    def __init__(self, control_url: str, timeout_seconds: float = 5.0) -> None:
        self.control_url = control_url.rstrip("/")
        self._timeout = timeout_seconds

    def set_mode(self, service: str, mode: Mode | str, seconds: float | None = None) -> dict[str, Any]:
        """Change how a provider behaves.

        Args:
            service: Which.
            mode: How; see `Mode`.
            seconds: The delay of slow, the time between two bytes of drip.

        Returns:
            Its new state.
        """
        wanted = {"mode": str(mode), "seconds": seconds}
        return cast("dict[str, Any]", self._ask("POST", f"/providers/{service}", json=wanted))

    def enforce_quotas(self, faster: float | None = 1) -> None:
        """Let every provider refuse what is above its documented quotas; what was counted is forgotten.

        Args:
            faster: By how much windows of an hour and more are shorter than documented; None: no quotas.
        """
        self._ask("POST", "/quotas", json={"faster": faster})

    def make_odd(self, rows: float = 0.0, delisted: float = 0.0) -> None:
        """Let every provider send odd rows, and know some symbols no more.

        Args:
            rows: Which part of all rows is odd, 0 to 1.
            delisted: Which part of all symbols is gone, 0 to 1.
        """
        self._ask("POST", "/oddities", json={"rows": rows, "delisted": delisted})

    def providers(self) -> dict[str, dict[str, Any]]:
        """Every provider's state: mode, base_url, port, calls, in_flight, refusals, above, …."""
        return cast("dict[str, dict[str, Any]]", self._ask("GET", "/providers"))

    def calls(self, service: str | None = None, since: float = 0) -> list[dict[str, Any]]:
        """The last 10 000 calls, or one provider's among them: at, service, path, symbol, mode, status.

        Args:
            service: Whose; None: all.
            since: Only later ones, Unix time in seconds.
        """
        params = ({} if service is None else {"service": service}) | ({"since": repr(since)} if since else {})
        return cast("list[dict[str, Any]]", self._ask("GET", "/calls", params=params))

    def reset(self) -> None:
        """Default modes, no calls, nothing odd, and the quotas there were at the start."""
        self._ask("POST", "/reset")

    def _ask(self, method: str, path: str, **what: Any) -> object:
        try:
            with httpx2.Client(timeout=self._timeout, trust_env=False, verify=_certificates()) as client:
                reply = client.request(method, f"{self.control_url}{path}", **what)
            document = reply.json()
        except (httpx2.HTTPError, httpx2.InvalidURL, ValueError) as error:
            raise SimulatorError(
                f"no simulator answers at {self.control_url} ({type(error).__name__}); "
                "start one with: python -m workers.simulator"
            ) from error
        if reply.is_error:
            raise SimulatorError(
                f"the simulator at {self.control_url} refused {method} {path}: {document['error']}"
            )
        return cast("object", document)


@cache
def _certificates() -> ssl.SSLContext:
    """Read once: that takes several times as long as a call."""
    return httpx2.create_ssl_context()

"""The simulator's process: a port for every provider, and one to steer them all.

Control API, JSON both ways; an error is `{"error": message}` with status 400 or 404:

    GET  /providers            service → mode, seconds, base_url, port, calls, calls_by_mode, in_flight,
                               max_in_flight, connections, quotas in force, refusals by them, calls above them
    GET  /providers/<service>  the same of one
    POST /providers/<service>  {"mode": "slow", "seconds": 0.5}; its new state
    GET  /calls[?service=]     the last 10 000 calls: at, service, path, symbol, mode, status;
                               &since=: those after that Unix time; where rows may be odd, how many
                               there were and how many of them were
    POST /oddities             {"rows": 0.01, "delisted": 0.02}: which part of all rows is odd, and which
                               part of all symbols nobody knows any more
    POST /quotas               {"faster": 144}: calls above the documented quotas are refused, windows of an
                               hour and more so many times shorter, a month as a day; null: none is.
                               Forgets the counts
    POST /reset                default modes, no calls, nothing odd, the quotas there were at the start
"""

import asyncio
import json
import signal
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from http import HTTPStatus
from itertools import takewhile
from typing import Any

from tornado.httpserver import HTTPServer
from tornado.web import Application, RequestHandler

from tasks.providers.catalogue import PROVIDERS, find_provider
from workers.simulator.modes import Mode, mode_named
from workers.simulator.oddities import Oddities
from workers.simulator.replies import REPLIES
from workers.simulator.station import Call, Station, bound_socket

PORT_TAKEN = 2
"""Exit code where a port cannot be had."""

FASTEST = 86_400
"""A day may last a second."""

_KEPT_CALLS = 10_000
_LONGEST = 3_600  # seconds a mode may delay


class _PortTakenError(Exception):
    """The message says which port, whose, why and what to do."""


def run(host: str, control_port: int, services: Sequence[str] = (), faster: float | None = None) -> int:
    """Serve until SIGTERM or SIGINT; when ready, print one JSON line with the addresses.

    Args:
        host: Where to listen.
        control_port: The control API's port; the providers' follow it in the catalogue's order. 0 for free
            ports.
        services: Which providers; all there are replies for where empty.
        faster: By how much the long windows of the quotas are shorter than documented; None: no quotas.

    Returns:
        The exit code: 0, or 2 where a port is taken.

    Raises:
        UnknownServiceError: No such service.
    """
    chosen = [find_provider(service).service for service in services] or list(REPLIES)
    try:
        asyncio.run(_serve(host, control_port, chosen, faster))
    except _PortTakenError as error:
        sys.stderr.write(f"{error}\n")
        return PORT_TAKEN
    return 0


async def _serve(host: str, control_port: int, services: Sequence[str], faster: float | None) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    calls: deque[Call] = deque(maxlen=_KEPT_CALLS)
    stations: dict[str, Station] = {}
    control = _control(stations, calls, faster)
    try:
        port = _listen(control, host, control_port)
        places = {service: place for place, service in enumerate(PROVIDERS, start=1)}
        for service in sorted(services, key=lambda service: places[service]):
            wanted = control_port + places[service] if control_port else 0
            stations[service] = _station(service, host, wanted, calls, faster)
        sys.stdout.write(json.dumps(_ready(host, port, stations)) + "\n")
        sys.stdout.flush()
        await stop.wait()
    finally:
        control.stop()
        for station in stations.values():
            station.close()
        await control.close_all_connections()


def _listen(control: HTTPServer, host: str, port: int) -> int:
    try:
        listening = bound_socket(host, port)
        listening.listen(128)
    except OSError as error:
        raise _taken(host, port, "the control API", error) from None
    control.add_socket(listening)
    found: int = listening.getsockname()[1]
    return found


def _station(service: str, host: str, port: int, calls: deque[Call], faster: float | None) -> Station:
    try:
        return Station(PROVIDERS[service], host, port, calls, faster)
    except OSError as error:
        raise _taken(host, port, service, error) from None


def _taken(host: str, port: int, whose: str, error: OSError) -> _PortTakenError:
    return _PortTakenError(
        f"simulator: port {port} on {host}, for {whose}, cannot be had ({error.strerror}); "
        "choose another --control-port (the providers' ports follow it), or 0 for free ports"
    )


def _ready(host: str, port: int, stations: Mapping[str, Station]) -> dict[str, object]:
    shown = f"[{host}]" if ":" in host else host
    return {
        "control_url": f"http://{shown}:{port}",
        "control_port": port,
        "providers": {
            service: {"port": station.port, "base_url": station.base_url}
            for service, station in stations.items()
        },
    }


def _control(stations: dict[str, Station], calls: deque[Call], faster: float | None) -> HTTPServer:
    shared = {"stations": stations, "calls": calls, "faster": faster}
    routes: list[Any] = [
        (r"/providers/?", _Providers, shared),
        (r"/providers/([^/]+)", _Provider, shared),
        (r"/calls", _Calls, shared),
        (r"/quotas", _Quotas, shared),
        (r"/oddities", _Oddities, shared),
        (r"/reset", _Reset, shared),
    ]
    return HTTPServer(Application(routes, log_function=lambda _: None))


class _Base(RequestHandler):
    def initialize(self, stations: dict[str, Station], calls: deque[Call], faster: float | None) -> None:
        self.stations, self.calls, self.faster = stations, calls, faster

    def found(self, service: str) -> Station | None:
        """The station of a name; None, and the error is answered, where there is none."""
        if service not in self.stations:
            self.fail(
                HTTPStatus.NOT_FOUND, f"unknown service {service!r}; known are {', '.join(self.stations)}"
            )
        return self.stations.get(service)

    def answer(self, document: object) -> None:
        self.set_header("Content-Type", "application/json")
        self.write(json.dumps(document))

    def fail(self, status: HTTPStatus, message: str) -> None:
        self.set_status(status)
        self.answer({"error": message})

    def write_error(self, status_code: int, **_: Any) -> None:
        self.answer({"error": f"{HTTPStatus(status_code).phrase}: {self.request.method} {self.request.path}"})


class _Providers(_Base):
    def get(self) -> None:
        self.answer({service: station.state() for service, station in self.stations.items()})


class _Provider(_Base):
    def get(self, service: str) -> None:
        if station := self.found(service):
            self.answer(station.state())

    def post(self, service: str) -> None:
        if station := self.found(service):
            try:
                station.set_mode(*_wanted(self.request.body))
            except ValueError as error:
                self.fail(HTTPStatus.BAD_REQUEST, str(error))
            except OSError as error:
                self.fail(
                    HTTPStatus.CONFLICT,
                    f"port {station.port} is gone ({error.strerror}); restart the simulator",
                )
            else:
                self.answer(station.state())


class _Calls(_Base):
    def get(self) -> None:
        service = self.get_query_argument("service", "")
        if not service or self.found(service):
            since = self.get_query_argument("since", "0")
            try:
                after = float(since)
            except ValueError:
                self.fail(HTTPStatus.BAD_REQUEST, f"since={since[:80]!r}: give a Unix time in seconds")
                return
            # From the newest back: whoever looks often is told little, at little cost.
            new = takewhile(lambda call: call.at > after, reversed(self.calls))
            self.answer([asdict(call) for call in new if service in ("", call.service)][::-1])


class _Quotas(_Base):
    def post(self) -> None:
        try:
            faster = _factor(self.request.body)
        except ValueError as error:
            self.fail(HTTPStatus.BAD_REQUEST, str(error))
            return
        for station in self.stations.values():
            station.enforce_quotas(faster)
        self.answer({service: station.state() for service, station in self.stations.items()})


class _Oddities(_Base):
    def post(self) -> None:
        try:
            wanted = _parts(self.request.body)
        except ValueError as error:
            self.fail(HTTPStatus.BAD_REQUEST, str(error))
            return
        for station in self.stations.values():
            station.oddities = wanted
        self.answer(asdict(wanted))


class _Reset(_Base):
    def post(self) -> None:
        for station in self.stations.values():
            station.set_mode(station.default_mode)
            station.enforce_quotas(self.faster)
            station.clear()
        self.calls.clear()
        self.answer({})


def _parts(body: bytes) -> Oddities:
    try:
        wanted = json.loads(body)
        parts = {name: float(wanted.get(name, 0)) for name in ("rows", "delisted")}
        if all(0 <= part <= 1 for part in parts.values()):
            return Oddities(**parts)
    except (ValueError, TypeError, AttributeError):
        pass
    raise ValueError('the body must be JSON such as {"rows": 0.01, "delisted": 0.02}, each from 0 to 1')


def _factor(body: bytes) -> float | None:
    """By how much a request's body wants the long windows of the quotas shortened; None: no quotas."""
    try:
        faster = json.loads(body)["faster"]
    except (ValueError, TypeError, KeyError):
        raise ValueError('the body must be JSON such as {"faster": 144} or {"faster": null}') from None
    if faster is not None and not (
        isinstance(faster, int | float) and not isinstance(faster, bool) and 1 <= faster <= FASTEST
    ):
        raise ValueError(f"faster must be a number from 1 to {FASTEST}, or null for no quotas")
    return faster


def _wanted(body: bytes) -> tuple[Mode, float | None]:
    """The mode and the seconds that a request's body asks for."""
    try:
        wanted = json.loads(body)
    except ValueError:
        wanted = None
    if not isinstance(wanted, dict) or "mode" not in wanted:
        raise ValueError('the body must be JSON such as {"mode": "slow", "seconds": 0.5}')
    seconds = wanted.get("seconds")
    if seconds is not None and not (isinstance(seconds, int | float) and 0 <= seconds <= _LONGEST):
        raise ValueError(f"seconds must be a number from 0 to {_LONGEST}")
    return mode_named(wanted["mode"]), seconds

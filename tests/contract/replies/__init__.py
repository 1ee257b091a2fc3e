"""Every provider's documented replies: a module for each service, named as it is.

A module has

    DOCUMENTED   the replies and their classes, the successes among them
    BY_STATUS    optional: status → class, where the provider's own rule differs from everyone's
    BY_BODY      optional: body → class, where a body that nobody else sends is documented

A document, or a part of one, that the simulator sends too is written down in `workers.simulator.replies`; the
class of a reply, and the record it becomes, never are.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import import_module

from tasks.providers import PROVIDERS
from workers.simulator.replies.reply import BAD_GATEWAY_PAGE, Replies

BAD_GATEWAY = BAD_GATEWAY_PAGE
AT = datetime(2026, 11, 23, 20, 0, 31, tzinfo=UTC)


@dataclass(frozen=True)
class Documented:
    """One reply and its class.

    Attributes:
        dataset: What was asked for.
        status: HTTP status.
        body: Text, or what JSON can say.
        verdict: Its class.
        hold: Seconds, where nobody knows the time of day.
        headers: Response headers.
        symbol: What was asked about, for a success; the endpoint's example where None.
    """

    dataset: str
    status: int
    body: object
    verdict: str
    hold: float | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    symbol: str | None = None

    @property
    def encoded(self) -> bytes:
        return encoded(self.body)


def as_simulated(replies: Replies, *, symbol: str = "AAPL", nothing: Mapping[str, str]) -> list[Documented]:
    """Successes as the simulator has them, each with the reply about an unknown symbol.

    The values that must come of such replies stand in test_intraday.py and test_corporate_actions.py.

    Args:
        replies: The provider's.
        symbol: As the provider spells it.
        nothing: How a dataset starts → the class of the reply about an unknown symbol.
    """
    found = []
    for dataset, answers in replies.endpoints.items():
        verdict = next((nothing[start] for start in nothing if dataset.startswith(start)), None)
        if verdict is not None:
            body = answers.live(answers.sample, symbol, answers.start, AT)
            unknown = answers.unknown_symbol
            found += [
                Documented(dataset, 200, body, "success"),
                Documented(dataset, unknown.status, unknown.body, verdict),
            ]
    return found


def encoded(body: object) -> bytes:
    """As a provider sends it."""
    return (body if isinstance(body, str) else json.dumps(body)).encode()


MODULES = {service: import_module(f"{__name__}.{service}") for service in PROVIDERS}
DOCUMENTED = [(service, reply) for service, module in MODULES.items() for reply in module.DOCUMENTED]
"""(service, reply) of the whole catalogue."""

SUCCESSES = [(service, reply) for service, reply in DOCUMENTED if reply.verdict == "success"]
SERVED = [(service, dataset) for service, row in PROVIDERS.items() for dataset in row.endpoints]
"""(service, dataset) of every endpoint."""

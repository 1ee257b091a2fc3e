"""The providers' documented replies, literally: a module for each service, named as it is."""

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType

from tasks.providers.catalogue import PROVIDERS
from workers.simulator.replies.reply import Answers, Limit, Replies, Reply

__all__ = ["REPLIES", "Answers", "Limit", "Replies", "Reply"]


def _replies(service: str) -> Replies:
    found: Replies = import_module(f"{__name__}.{service}").REPLIES
    return found


REPLIES: Mapping[str, Replies] = MappingProxyType({service: _replies(service) for service in PROVIDERS})
"""Service name → its replies, in the catalogue's order."""

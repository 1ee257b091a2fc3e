"""The best-known indices: where they are made, and what each provider calls them."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Index:
    mic: str = ""


INDICES: dict[str, Index] = {}
OTHER_NAMES: dict[str, str] = {}

"""The simulator's odd rows: of every provider's success some, counted, and nothing else is changed."""

from __future__ import annotations

import copy
import json
import random
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from tasks.providers import PROVIDERS
from workers.simulator.oddities import Oddities, Spoiler
from workers.simulator.replies import REPLIES

SERVED = [(service, dataset) for service, replies in REPLIES.items() for dataset in replies.endpoints]


def success(service: str, dataset: str) -> object:
    answers = REPLIES[service].endpoints[dataset]
    endpoint = PROVIDERS[service].endpoints[dataset]
    symbol = endpoint.example if endpoint.directory else endpoint.spelling(endpoint.example)
    if service == "sec_edgar":
        symbol = {"filings": "0000320193", "facts": "0000320193/us-gaap/Assets"}.get(dataset, symbol)
    body = answers.live(answers.sample, symbol.upper(), Decimal(100), datetime(2026, 11, 27, 20, tzinfo=UTC))
    return body if isinstance(body, str) else json.loads(json.dumps(body))


@pytest.mark.parametrize(("service", "dataset"), SERVED)
def test_rows_are_found_and_made_odd_and_the_others_stay(service: str, dataset: str) -> None:
    body = success(service, dataset)
    kept = copy.deepcopy(body)
    none = Spoiler(0, random.Random(1))  # noqa: S311 - no secret
    assert none.spoil(body) == body
    assert (none.rows, none.odd) == (none.rows, 0)
    assert none.rows >= 1
    every = Spoiler(1, random.Random(1))  # noqa: S311 - no secret
    assert every.spoil(body) != body
    assert (every.rows, every.odd) == (none.rows, none.rows)
    assert body == kept, "the sample itself is left as it is"


def test_the_same_part_of_symbols_is_gone_each_time() -> None:
    odd = Oddities(delisted=0.02)
    gone = [name for name in (f"S{number}" for number in range(5_000)) if odd.is_delisted(name)]
    assert 50 <= len(gone) <= 150
    assert all(map(odd.is_delisted, gone))
    assert not any(map(Oddities().is_delisted, gone))

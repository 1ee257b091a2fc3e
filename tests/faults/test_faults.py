"""Machines die while tasks are parked and while they return; every id is counted. ``make faults``.

What may be lost, and why it is not compared by number. On RabbitMQ nothing may. On Redis, kombu's transport
takes a message with a pop and notes it in a command of its own; a worker or a broker killed between the two
has lost it, with the layer or without: a message for each second SIGKILL or so. Two such numbers in one run
differ by chance, so a limit drawn from the bare broker's would either fail at random or allow a real loss
each time the bare broker was unlucky. Instead each lost message is looked up in the broker's own record
(``ledger.py``), which tells the two apart: one the transport has lost was popped and never noted, so no
worker ever had it; any other had reached the layer, and the layer may lose none. The bare series of the same
faults hold the record to account: whatever *they* lose, it must put down to the transport.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from resilience.release import BATCH
from tests.faults.conftest import ROUNDS
from tests.faults.series import COUNT, PREFETCHED, Account, Case

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.timeout(3600)

# The longest first: they are played several at a time.
SAFE = (
    Case("broker", "rabbitmq"),
    Case("freeze", deduplicate=True),
    Case("freeze"),
    Case("worker"),
    Case("worker", deduplicate=True),
    Case("worker", "rabbitmq"),
    Case("worker", "rabbitmq", deduplicate=True),
    Case("beat"),
    Case("broker"),
    Case("child"),
    Case("child", "rabbitmq"),
    Case("store", fsync="always"),
    Case("store", "rabbitmq", fsync="always"),
)
# Written by the server before it answers, but to disk only once a second.
EVERY_SECOND = Case("store", fsync="everysec")
BARE = (
    Case("broker", "rabbitmq", bare=True),
    Case("broker", bare=True),
    Case("worker", bare=True),
    Case("worker", "rabbitmq", bare=True),
)
# These take a releaser down, or its store or broker, between publishing a batch and forgetting it.
LEAVE_A_BATCH = frozenset({"worker", "freeze", "store", "broker"})
DEDUPLICATED = (
    Case("worker", deduplicate=True),
    Case("worker", "rabbitmq", deduplicate=True),
    Case("freeze", deduplicate=True),
)


def each(*cases: Any) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", cases, ids=str)


@each(*SAFE, EVERY_SECOND, *BARE)
def test_the_fault_strikes_while_work_is_under_way(case: Case, account_of: Callable[[Case], Account]) -> None:
    account = account_of(case)
    assert account.sent == ROUNDS * COUNT
    assert account.strikes == ROUNDS * (1 if case.fault == "freeze" else 2)
    assert account.while_releasing == (0 if case.bare else ROUNDS)
    # Some had been worked on already, and not all was done, each time.
    if not case.bare:
        assert all(parked + done > 0 and sent > done for sent, parked, done in account.under_way)


@each(*SAFE, EVERY_SECOND)
def test_only_a_lost_redis_broker_ends_a_worker(case: Case, account_of: Callable[[Case], Account]) -> None:
    """As it ends a bare one: kombu's transport fails to give back what it holds when it is not connected."""
    assert not account_of(case).ended or (case.fault, case.broker) == ("broker", "redis")


@each(*SAFE)
def test_nothing_is_lost_beyond_the_transports_own_loss(
    case: Case, account_of: Callable[[Case], Account]
) -> None:
    account = account_of(case)
    assert not set(account.lost) - set(account.by_transport)
    # The transport has one message in hand at a time, in each of two workers.
    assert len(account.lost) <= account.strikes * (2 if case.fault == "broker" else 1)
    if case.fault not in ("worker", "broker"):
        assert not account.lost


@each(*BARE)
def test_the_record_accounts_for_what_the_bare_broker_loses(
    case: Case, account_of: Callable[[Case], Account]
) -> None:
    account = account_of(case)
    assert account.lost == account.by_transport
    assert account.again <= redeliveries(case, account)


@each(*SAFE, EVERY_SECOND)
def test_nothing_is_stuck_and_no_get_hangs(case: Case, account_of: Callable[[Case], Account]) -> None:
    account = account_of(case)
    assert not account.stuck
    assert not account.unwell


@each(*SAFE, EVERY_SECOND)
def test_nothing_runs_again_but_what_came_again_and_a_batch_for_each_killed_releaser(
    case: Case, account_of: Callable[[Case], Account]
) -> None:
    account = account_of(case)
    batches = account.while_releasing if case.fault in LEAVE_A_BATCH else 0
    in_hand = account.strikes if case.fault == "child" else 0  # done, and killed before it could say so
    assert account.again <= redeliveries(case, account) + batches * BATCH + in_hand


@each(*DEDUPLICATED)
def test_with_deduplication_nothing_runs_that_has_ended_well(
    case: Case, account_of: Callable[[Case], Account]
) -> None:
    assert not account_of(case).after_success


@each(EVERY_SECOND)
def test_a_store_that_writes_later_loses_only_what_it_had_put_off(
    case: Case, account_of: Callable[[Case], Account]
) -> None:
    """The machine is not killed here: what the system has not yet written to disk, it still has."""
    account = account_of(case)
    assert account.lost == account.put_off


def redeliveries(case: Case, account: Account) -> int:
    """Messages the broker delivered again: by its record, or all a killed worker can have had."""
    if account.redelivered >= 0:
        return account.redelivered
    workers = {"worker": 1, "broker": 2}.get(case.fault, 0)
    return account.strikes * workers * PREFETCHED

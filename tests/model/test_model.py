"""A small part of ``make model``: the first states of every world, and every guard."""

from __future__ import annotations

import pytest

from tests.model.canonical import canonical, fingerprint
from tests.model.invariants import NAMES
from tests.model.mutants import mutants
from tests.model.search import explore
from tests.model.worlds import WORLDS

STATES = 1500
MUTANTS = mutants()


@pytest.mark.parametrize("world", WORLDS)
def test_what_holds_always_holds_in_the_first_states_of_every_world(world):
    found = explore(WORLDS[world](), STATES)
    assert found.violation is None, found
    assert found.complete or found.states >= STATES


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.trap)
def test_without_its_guard_an_invariant_does_not_hold(mutant):
    found = mutant.explore()
    assert found.violation, "nothing misses it"
    assert found.violation.invariant == mutant.invariant, found
    assert found.trace


def test_every_invariant_is_missed_somewhere():
    assert {mutant.invariant for mutant in MUTANTS} == set(NAMES)


@pytest.mark.parametrize("world", WORLDS)
def test_two_states_taken_for_one_have_the_same_futures(world):
    """Else what was left out of one of them would matter."""
    world = WORLDS[world]()

    def futures(state):
        return sorted(repr((label, canonical(world, after))) for label, after in world.steps(state))

    firsts, level, compared = {}, [world.start], 0
    while level and compared < 150:
        following = []
        for state in level:
            for _, after in world.steps(state):
                key = fingerprint(world, after)
                first = firsts.setdefault(key, after)
                if first is after:
                    following.append(after)
                elif compared < 150 and first.keys != after.keys:
                    assert futures(first) == futures(after)
                    compared += 1
        level = following
    assert compared == 150 or not level

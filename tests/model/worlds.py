"""The small worlds that are searched."""

from __future__ import annotations

from dataclasses import replace

from resilience.circuit import Verdict
from resilience.parking import Lane
from resilience.policy import Policy
from tests.model.world import Task, World

POLICY = Policy(failure_threshold=1, timeout_seconds=10, half_open_max_calls=1, call_seconds=3)
ALL = (Verdict.SUCCESS, Verdict.FAILURE, Verdict.HOLD)


def circuit(**how) -> World:
    """Calls without tasks, at most two probes, and an operator."""
    policy = replace(POLICY, failure_threshold=2, half_open_max_calls=2)
    how = {"callers": 3, "verdicts": ALL, "faults": {"crash": 1}, "acts": ("open", "close"), **how}
    return World("circuit", policy, **how)


def operator(**how) -> World:
    """Calls without tasks under each word an operator has, and a moment between."""
    how = {
        "callers": 2,
        "acts": ("open", "close", "disable", "reset"),
        "faults": {"crash": 1},
        "moments": 1,
        **how,
    }
    return World("operator", POLICY, **how)


def lot(**how) -> World:
    """Two tasks, on a schedule and on demand, two workers and two releasers, one of which may die."""
    tasks = (Task("a"), Task("d", Lane.ON_DEMAND))
    return World("lot", POLICY, tasks, **{"faults": {"crash": 1}, **how})


def pair(**how) -> World:
    """The same two with one worker, one releaser and no fault: small enough to be searched to its end."""
    tasks = (Task("a"), Task("d", Lane.ON_DEMAND))
    return World("pair", POLICY, tasks, **{"workers": 1, "releasers": 1, "gate": False, **how})


def alone(**how) -> World:
    """One task, one worker and one releaser, of which one may die at any moment, and an operator."""
    faults = {"crash": 1, "lost_process": 1}
    how = {"workers": 1, "releasers": 1, "faults": faults, "acts": ("drop", "hurry"), **how}
    return World("alone", POLICY, (Task("a"),), **how)


def losses(**how) -> World:
    """One task more often lost, killed and delivered twice than any will be."""
    faults = {"crash": 2, "redelivery": 1, "lost_process": 2}
    return World("losses", POLICY, (Task("a"),), **{"faults": faults, **how})


def steered(**how) -> World:
    """Two tasks, one of which expires, and an operator who drops, hurries and resets."""
    tasks = (Task("a", expires=15), Task("b"))
    how = {"workers": 1, "acts": ("drop", "hurry", "close"), "faults": {"crash": 1}, "gate": False, **how}
    return World("steered", POLICY, tasks, **how)


def coalesced(**how) -> World:
    """Three tasks that ask the same, where the broker may lose one and a worker may die."""
    tasks = (Task("a", group="g"), Task("b", group="g"), Task("c", group="g"))
    how = {"workers": 2, "releasers": 2, "faults": {"crash": 1}, "acts": ("drop",), "gate": False, **how}
    return World("coalesced", POLICY, tasks, **how)


def orphaned(**how) -> World:
    """Two tasks that ask the same; the broker loses one, or an operator drops it."""
    tasks = (Task("a", group="g"), Task("b", group="g"))
    how = {
        "workers": 1,
        "releasers": 1,
        "faults": {"broker_loss": 1},
        "acts": ("drop",),
        "gate": False,
        **how,
    }
    return World("orphaned", POLICY, tasks, **how)


def blamed(**how) -> World:
    """Two tasks about the same and one about something else, of which two in a row open the circuit."""
    tasks = (Task("a", subject="s"), Task("b", subject="s"), Task("c", subject="t"))
    policy = replace(POLICY, failure_threshold=2)
    how = {"workers": 2, "releasers": 1, "faults": {"lost_process": 1}, "gate": False, **how}
    return World("blamed", policy, tasks, **how)


def drifting(**how) -> World:
    """Two tasks about one thing and one about another, of which it is known that they fail themselves."""
    about = {"subject": "s", "known": True}
    tasks = (Task("a", **about), Task("b", Lane.ON_DEMAND, **about), Task("c", subject="t", known=True))
    policy = replace(POLICY, failure_threshold=2)
    how = {"workers": 2, "releasers": 1, "faults": {"lost_process": 1}, "gate": False, **how}
    return World("drifting", policy, tasks, **how)


def paced(**how) -> World:
    """A call at once at most, and a gentle return, for two tasks and somebody without one."""
    policy = replace(POLICY, max_concurrent=1, ramp_calls=1)
    how = {"callers": 1, "faults": {"crash": 1}, "gate": False, **how}
    return World("paced", policy, (Task("a"), Task("b")), **how)


def clock(**how) -> World:
    """A task and somebody without one, an operator, and a store whose clock is set back."""
    faults = {"crash": 1, "set_back": 1}
    how = {"workers": 1, "releasers": 1, "callers": 1, "faults": faults, "acts": ("open",), **how}
    return World("clock", replace(POLICY, max_concurrent=1), (Task("a"),), **how)


def deferred(**how) -> World:
    """Two tasks that ask the same and one on demand, whose queues are gone for a while."""
    tasks = (Task("a", group="g"), Task("b", group="g"), Task("d", Lane.ON_DEMAND))
    how = {"workers": 1, "releasers": 1, "faults": {"unroutable": 2}, "gate": False, **how}
    return World("deferred", POLICY, tasks, **how)


WORLDS = {
    make.__name__: make
    for make in (
        circuit,
        operator,
        pair,
        alone,
        lot,
        losses,
        steered,
        coalesced,
        orphaned,
        blamed,
        drifting,
        paced,
        clock,
        deferred,
    )
}

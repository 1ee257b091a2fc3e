"""Every parser of providers' replies: random ones, and documented ones with anything changed."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from tasks.providers import PROVIDERS
from tests.contract import test_mutations as mutations
from tests.fuzz.target import Target

CHECKS = (
    mutations.test_a_documented_reply_with_anything_changed_is_judged_and_tells_no_key,
    mutations.test_the_shape_of_a_reply_is_the_same_whatever_its_values_and_tells_no_key,
)


def check(_: None, data: Any) -> None:
    """What ``tests/contract/test_mutations.py`` says of one provider, of any."""
    service = data.draw(st.sampled_from(list(PROVIDERS)))
    data.draw(st.sampled_from(CHECKS)).hypothesis.inner_test(service=service, data=data)


# make test has its own number of them, in that module.
TARGET = Target("replies", st.data(), check, quick=20)

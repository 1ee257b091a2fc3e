"""The ten services, their settings, and how one is registered."""

import pytest

import tasks  # noqa: F401 - registers them
from resilience import CIRCUIT_BREAKERS, CircuitBreaker, ConfigurationError, get_circuit_breaker
from resilience.stores import open_store

SEED = {
    "iex_cloud": (5, 60),
    "alpha_vantage": (5, 120),
    "finnhub": (3, 60),
    "polygon": (5, 60),
    "news_api": (5, 120),
    "benzinga": (5, 60),
    "quandl": (3, 180),
    "sec_edgar": (3, 120),
    "fred": (5, 120),
    "twelvedata": (5, 60),
}


@pytest.mark.parametrize("name", SEED)
def test_a_known_service_has_its_settings(name: str) -> None:
    breaker = get_circuit_breaker(name)
    assert breaker is CIRCUIT_BREAKERS[name]
    assert (breaker.failure_threshold, breaker.timeout_seconds, breaker.half_open_max_calls) == (
        *SEED[name],
        3,
    )


def test_an_unknown_service_is_made_once_with_the_defaults() -> None:
    breaker = get_circuit_breaker("somebody_new")
    try:
        assert get_circuit_breaker("somebody_new") is breaker
        assert (breaker.failure_threshold, breaker.timeout_seconds) == (5, 60)
    finally:
        del CIRCUIT_BREAKERS["somebody_new"]


def test_assigning_registers() -> None:
    mine = CIRCUIT_BREAKERS["mine"] = CircuitBreaker("mine", failure_threshold=1)
    try:
        assert get_circuit_breaker("mine") is mine
    finally:
        del CIRCUIT_BREAKERS["mine"]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"failure_threshold": 0}, "failure_threshold=0"),
        ({"failure_threshold": True}, "failure_threshold=True"),
        ({"failure_threshold": 2.5}, "failure_threshold=2.5"),
        ({"timeout_seconds": 0}, "timeout_seconds=0"),
        ({"timeout_seconds": -1}, "timeout_seconds=-1"),
        ({"timeout_seconds": float("nan")}, "timeout_seconds=nan"),
        ({"timeout_seconds": float("inf")}, "timeout_seconds=inf"),
        ({"timeout_seconds": "60"}, "timeout_seconds='60'"),
        ({"half_open_max_calls": 0}, "half_open_max_calls=0"),
        ({"service_name": ""}, "service_name=''"),
        ({"service_name": "a{b}"}, "service_name='a{b}'"),
        ({"service_name": None}, "service_name=None"),
        ({"store": "http://x"}, "'http'"),
    ],
)
def test_settings_that_cannot_work_are_refused_by_name(arguments: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        CircuitBreaker(**{"service_name": "x", **arguments})  # type: ignore[arg-type]
    assert named in str(caught.value)


def test_one_url_is_one_store() -> None:
    assert open_store("memory://") is open_store("memory://")
    one, two = (CircuitBreaker("shared-by-url", 1, store="memory://") for _ in range(2))
    one.report(one.acquire(), "failure")
    assert not two.acquire()
    one.reset()


@pytest.mark.parametrize(
    "password", ["hid/den", "hid?den", "hid#den", "@hidden?", "hidden@/", "hid:den/", "den?hid@"]
)
@pytest.mark.parametrize("scheme", ["redis", "rediss", "sentinel", "cluster"])
def test_a_password_that_is_not_quoted_is_refused_and_not_shown(scheme: str, password: str) -> None:
    with pytest.raises(ConfigurationError, match="percent-encoded") as caught:
        open_store(f"{scheme}://:{password}@127.0.0.1:6379/0")
    assert "hid" not in str(caught.value)
    assert "den" not in str(caught.value)


def test_expected_exception_is_what_counts() -> None:
    breaker = CircuitBreaker("picky", failure_threshold=1, expected_exception=OSError)

    @breaker.call
    def wrong() -> None:
        raise KeyError("a bug of ours")

    with pytest.raises(KeyError):
        wrong()
    assert breaker.get_state()["failure_count"] == 0

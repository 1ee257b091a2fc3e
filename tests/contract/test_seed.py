"""The snippet operators were handed with the first specification, unchanged but for the import."""

from resilience import CircuitBreaker, CircuitBreakerOpenError


# fmt: off
def test_the_first_specifications_own_snippet() -> None:
    # Test normal operation
    cb = CircuitBreaker("test", failure_threshold=3, timeout_seconds=10)

    @cb.call
    def test_func():
        return "success"

    # Should work
    assert test_func() == "success"
    assert cb.get_state()["state"] == "closed"

    # Simulate failures
    @cb.call
    def failing_func():
        raise Exception("Service unavailable")

    for _ in range(3):
        try:
            failing_func()
        except:
            pass

    # Circuit should be open
    assert cb.get_state()["state"] == "open"

    # Should block requests
    try:
        test_func()
    except CircuitBreakerOpenError:
        pass  # Expected
    else:
        raise AssertionError("it did not block")
# fmt: on

"""A child that is forked while another thread of its parent is at work."""

from __future__ import annotations

import os
import signal
import threading
import warnings

from celery import Celery

import resilience.forks  # noqa: F401 - what is tried


def test_a_child_reaches_its_result_backend_though_a_thread_was_just_about_to() -> None:
    backend = Celery("forks", backend="redis://127.0.0.1:1/0", set_as_current=False).backend
    lock, held, over = type(backend).client.lock, threading.Event(), threading.Event()

    def look() -> None:
        with lock:  # as at every look at the property, of any object of the class
            held.set()
            over.wait(20)

    thread = threading.Thread(target=look)
    thread.start()
    held.wait(20)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside threads: this is what is tried
        child = os.fork()
    if not child:
        signal.alarm(10)
        try:
            assert backend.client
            os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    over.set()
    thread.join()
    assert status == 0, "it hangs, or has failed"

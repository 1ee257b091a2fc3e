"""For the worker with a clock of its own: under libfaketime Python's sleep ends at once, with an error.

It sleeps until a time of the monotonic clock, which the library takes for one of its own. This waits as
long by other means; first on PYTHONPATH, it is loaded before anything else.
"""

import select
import time


def _sleep(seconds: float, /) -> None:
    select.select([], [], [], seconds)


time.sleep = _sleep

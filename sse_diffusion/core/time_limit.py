"""End a block of somebody else's code that takes too long."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal


class TimeIsUpError(BaseException):
    """Raised in the block; not an ``Exception``, so that no library takes it for one of its own errors."""


@contextmanager
def time_limit(seconds: float, clock: Literal["wall", "cpu"] = "wall") -> Iterator[None]:
    """Raise :class:`TimeIsUpError` in the block after so many seconds, of wall time or of this process's processor time.

    Without effect outside the main thread and on systems without interval timers.
    """
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        raise TimeIsUpError

    number, timer = (signal.SIGALRM, signal.ITIMER_REAL) if clock == "wall" else (signal.SIGPROF, signal.ITIMER_PROF)
    before = signal.signal(number, stop)
    remaining = signal.setitimer(timer, seconds, 1.0)  # again every second: what is raised inside a callback of C code is lost
    try:
        yield
    finally:
        signal.setitimer(timer, *remaining)
        signal.signal(number, before)

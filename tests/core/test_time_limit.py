"""A block that takes too long ends, and no alarm is left behind."""

from __future__ import annotations

import time

import pytest

from sse_diffusion.core.time_limit import TimeIsUpError, time_limit


def busy(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


@pytest.mark.parametrize("clock", ["wall", "cpu"])
def test_it_interrupts_and_leaves_no_alarm_behind(clock) -> None:
    start = time.process_time()
    with pytest.raises(TimeIsUpError), time_limit(0.05, clock):
        busy(5.0)
    assert time.process_time() - start < 1.0
    with time_limit(0.05, clock):
        pass
    busy(0.1)


def test_processor_time_does_not_pass_while_waiting() -> None:
    start = time.monotonic()
    with time_limit(0.05, "cpu"):
        time.sleep(0.2)
    assert time.monotonic() - start >= 0.2


def test_no_library_swallows_it() -> None:
    with pytest.raises(TimeIsUpError), time_limit(0.05):
        try:
            busy(5.0)
        except Exception:
            busy(5.0)


def test_limits_nest() -> None:
    with time_limit(10.0), pytest.raises(TimeIsUpError), time_limit(0.05):
        busy(5.0)

"""How many processes an evaluation uses."""

from __future__ import annotations

import os


def worker_count(asked: int | None) -> int:
    """As asked, or one per core that this process may use."""
    if asked:
        return int(asked)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

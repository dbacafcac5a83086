"""How many CPU threads torch uses."""

from __future__ import annotations


def set_threads(number: int | None) -> None:
    """Set torch's CPU threads; ``None`` leaves its choice (all cores).

    Force-field steps on small cells alternate between torch and BLAS, whose thread pools fight over the cores: relaxing 14 atoms
    on 2 cores took 122 ms a step with torch's choice and 37 ms with one thread.
    """
    import torch

    if number:
        torch.set_num_threads(int(number))

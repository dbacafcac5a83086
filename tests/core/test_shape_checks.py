"""The test run checks tensor shapes at every call of the core and the model (conftest installs the hook)."""

from __future__ import annotations

import pytest
import torch

from sse_diffusion.core.lattice import log_to_lattice


def test_a_wrong_shape_is_caught_where_it_enters() -> None:
    pytest.importorskip("beartype")
    with pytest.raises(TypeError, match="log_to_lattice"):
        log_to_lattice(torch.zeros(2, 5))


def test_one_thread_per_test_process() -> None:
    assert torch.get_num_threads() == 1

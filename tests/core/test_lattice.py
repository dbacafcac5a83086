"""The cell from its logarithm where floating point is short of digits."""

from __future__ import annotations

import torch

from sse_diffusion.core.lattice import log_to_lattice


def test_a_very_flat_cell_still_has_a_lattice() -> None:
    """Its metric spans more than sixteen digits: rounding leaves no positive definite matrix to factor."""
    lattice = log_to_lattice(torch.tensor([-4.0, -4.0, 4.0, -4.0, 4.0, 1.607899])).double()
    assert torch.isfinite(lattice).all() and (lattice.diagonal() > 0).all() and not lattice.triu(1).any()
    torch.testing.assert_close(lattice.diagonal().log().sum(), torch.tensor(3 * 1.607899).double(), atol=1e-3, rtol=1e-4)

"""Where the ions were: their density on a grid, as a file for VESTA and other viewers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sse_diffusion.verification.transport.jumps import histogram

if TYPE_CHECKING:
    from sse_diffusion.verification.dynamics.trajectory import Trajectory


def write_pathways(run: Trajectory, ion: str, path: str | Path, drop_ps: float = 0.0, spacing_A: float = 0.25) -> np.ndarray:
    """Write the probability density of ``ion`` (1/A^3) over the mean framework; the format is the one ``path`` ends in.

    ``.cube``: Gaussian cube. Anything else: VASP's CHGCAR (density times cell volume, as that format wants it). Both open in
    VESTA.

    Returns:
        (A, B, C) density; its integral over the cell is the number of ions.
    """
    from pymatgen.core import Structure
    from pymatgen.io.vasp import Chgcar, Poscar

    from sse_diffusion.verification.msd import relative_to_framework

    first = round(drop_ps / run.frame_ps)
    mobile = run.symbols == ion
    positions = run.in_mean_cell(first)
    fixed = relative_to_framework(positions, run.masses, ~mobile)
    # the framework's centre of mass goes back to where it was, so that ions and framework share one origin
    fixed += (positions[0] - fixed[0])[0]
    cell = run.cells_A[first:].mean(axis=0)
    shares = histogram(fixed[:, mobile], cell, spacing_A)
    volume = abs(float(np.linalg.det(cell)))
    framework = Structure(cell, run.symbols[~mobile].tolist(), fixed[:, ~mobile].mean(axis=0), coords_are_cartesian=True)
    volumetric = Chgcar(Poscar(framework), {"total": shares * shares.size})
    if Path(path).suffix == ".cube":
        volumetric.to_cube(str(path))
    else:
        volumetric.write_file(str(path))
    return shares * shares.size / volume

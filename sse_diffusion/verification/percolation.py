"""Bond-valence percolation: how much energy an ion needs to cross a frozen crystal in one, two or three directions.

The bond-valence site energy of the ion (Chen, Wong and Adams, Acta Cryst. B 75, 18 (2019)) is a Morse attraction to the
counter-ions plus a screened Coulomb repulsion from the other ions of its own sign, with tabulated parameters, on a grid over the
cell from which every mobile ion was removed. The library bvlain (A. Dembitskiy, github.com/dembart/BVlain, MIT) computes it. The
barrier is the lowest energy, above the deepest point of the landscape, under which the grid points hang together across the
periodic boundaries: a tendency, not an activation energy (frozen lattice, no correlated jumps, formal charges).
"""

from __future__ import annotations

import contextlib
import io
import math
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sse_diffusion.core.errors import ConfigError, SSEError, did_you_mean
from sse_diffusion.core.results import Status
from sse_diffusion.core.symmetry import is_searchable
from sse_diffusion.core.time_limit import TimeIsUpError, time_limit
from sse_diffusion.verification.percolation_grid import interpolate, percolation_thresholds

if TYPE_CHECKING:
    from pymatgen.core import Structure

ION_CHARGE = {"Li": 1, "Na": 1, "K": 1, "Mg": 2, "Ag": 1}
"""Mobile ions with their charge."""

FORBIDDEN_SPECIES = ["O-", "P3-"]
"""Species that bvlain forbids when it assigns oxidation states from bond lengths."""


@dataclass(frozen=True, kw_only=True)
class PercolationConfig:
    """How the barriers are computed; the choices are measured in docs/verification.md.

    Attributes:
        points: energies sampled per cell; sets the spacing between ``finest_A`` and ``coarsest_A``, so that small cells, where
            the grid error is largest, cost no accuracy and large cells no time.
        finest_A, coarsest_A: limits of the spacing of the sampled grid, Angstrom.
        refine: the sampled landscape is interpolated (periodic cubic spline) to a grid this many times finer.
        r_cut_A: farthest framework ion that acts on the mobile ion, Angstrom.
        neighbours: most framework ions that act on one grid point (the nearest ones).
        max_barrier_eV: no path below this energy counts as no percolation.
        tolerance_eV: width of the last bisection step; barriers are its upper end.
        symprec_A: distance tolerance of the reduction to the primitive cell.
        timeout_s: limit per crystal (only the main thread of a process can be interrupted; pool workers are that).
    """

    points: int = 12_000
    finest_A: float = 0.2
    coarsest_A: float = 0.4
    refine: int = 2
    r_cut_A: float = 7.0
    neighbours: int = 100
    max_barrier_eV: float = 10.0
    tolerance_eV: float = 0.001
    symprec_A: float = 0.01
    timeout_s: float = 60.0

    def __post_init__(self) -> None:
        if min(self.points, self.finest_A, self.refine, self.r_cut_A, self.neighbours, self.tolerance_eV, self.timeout_s) <= 0:
            raise ConfigError(f"{self}: every number must be positive", "see configs or the defaults of PercolationConfig")
        if self.finest_A > self.coarsest_A:
            raise ConfigError(f"finest_A {self.finest_A} is above coarsest_A {self.coarsest_A}", "swap them")

    def spacing_A(self, volume_A3: float) -> float:
        """Spacing of the sampled grid in a cell of this volume."""
        return min(max((volume_A3 / self.points) ** (1 / 3), self.finest_A), self.coarsest_A)


@dataclass(frozen=True)
class PercolationResult:
    """Barriers of one ion in one crystal.

    Attributes:
        ion: the mobile ion.
        e1d_eV, e2d_eV, e3d_eV: lowest energy at which the ion percolates in at least one, two, three independent directions;
            infinite when it does not below ``max_barrier_eV``; NaN when nothing could be computed.
        status: ``ok``, or ``failed`` when there is no finite barrier.
        reason: why; empty when ``ok``.
    """

    ion: str
    e1d_eV: float = math.nan
    e2d_eV: float = math.nan
    e3d_eV: float = math.nan
    status: Status = Status.FAILED
    reason: str = ""

    @property
    def migration_barrier_eV(self) -> float:
        """Lowest energy at which the ion percolates in all directions (the 3D barrier): the one that goes with conductivity."""
        return self.e3d_eV


class PercolationError(SSEError):
    """Why no barrier can be computed; :func:`percolation_barriers` turns it into the reason of a failed result."""


def percolation_barriers(structure: Structure, ion: str, config: PercolationConfig | None = None) -> PercolationResult:
    """Barriers of ``ion`` in an ordered crystal; whatever fails is a reason in the result.

    Args:
        structure: any cell of the crystal; it is reduced to its primitive cell first, so that supercells agree.
        ion: one of :data:`ION_CHARGE`.
        config: see :class:`PercolationConfig`.

    Raises:
        ConfigError: unknown ion.
    """
    config = config or PercolationConfig()
    if ion not in ION_CHARGE:
        raise ConfigError(f"no bond-valence percolation for the ion {ion!r}", did_you_mean(ion, ION_CHARGE))
    try:
        with time_limit(config.timeout_s), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # bvlain and pymatgen warn per crystal about what ends up in the reason
            energy = site_energy(structure, ion, config)
            barriers = percolation_thresholds(energy, config.max_barrier_eV, config.tolerance_eV)
    except TimeIsUpError:
        return PercolationResult(ion, reason=f"not finished within {config.timeout_s:g} s")
    except PercolationError as error:
        return PercolationResult(ion, reason=str(error))
    except (ArithmeticError, LookupError, MemoryError, RuntimeError, TypeError, ValueError) as error:
        return PercolationResult(ion, reason=f"{type(error).__name__}: {error}")  # of a library, on a crystal it cannot take
    if math.isinf(barriers[0]):
        return PercolationResult(ion, *barriers, reason=f"no percolation below {config.max_barrier_eV:g} eV")
    return PercolationResult(ion, *barriers, status=Status.OK)


def site_energy(structure: Structure, ion: str, config: PercolationConfig) -> NDArray[np.float64]:
    """Bond-valence site energy of ``ion`` in the primitive cell.

    Returns:
        (na, nb, nc) eV above the lowest, on a periodic grid without doubled end planes.

    Raises:
        PercolationError: no energy can be computed, and why.
    """
    from bvlain import Lain

    primitive = _decorated(_primitive(structure, ion, config.symprec_A), ion)
    lain = Lain(verbose=False)
    lain.read_structure(primitive, oxi_check=False)
    try:
        with contextlib.redirect_stdout(io.StringIO()), np.errstate(all="ignore"):  # bvlain prints before it raises
            sampled = lain.bvse_distribution(
                f"{ion}{ION_CHARGE[ion]}+",
                r_cut=config.r_cut_A,
                resolution=config.spacing_A(primitive.volume),
                k=config.neighbours,
            )
    except KeyError as error:
        anions = sorted({str(site.specie) for site in primitive if site.specie.oxi_state < 0})
        raise PercolationError(f"no bond-valence parameters for {ion} with {', '.join(anions)}") from error
    return interpolate(sampled, config.refine)


def _primitive(structure: Structure, ion: str, symprec: float) -> Structure:
    """The primitive cell with compact (LLL-reduced) vectors, without oxidation states."""
    from moyopy import Cell, MoyoDataset
    from pymatgen.core import Lattice, Structure

    if not structure.is_ordered:
        raise PercolationError("the crystal has partial occupancies: order it first")
    numbers = [int(z) for z in structure.atomic_numbers]
    if ion not in {element.symbol for element in structure.composition.element_composition}:
        raise PercolationError(f"the crystal holds no {ion}")
    if not is_searchable(structure, symprec):
        raise PercolationError("atoms on top of each other or a degenerate cell")
    cell = Cell(structure.lattice.matrix.tolist(), structure.frac_coords.tolist(), numbers)
    try:
        found = MoyoDataset(cell, symprec=symprec).prim_std_cell
        lattice, frac, numbers = found.basis, found.positions, found.numbers
    except (ValueError, RuntimeError):  # no symmetry found: the cell as given is only slower
        lattice, frac = cell.basis, cell.positions
    reduced = Lattice(lattice).get_lll_reduced_lattice()
    cartesian = np.asarray(frac) @ np.asarray(lattice)
    return Structure(reduced, numbers, cartesian, coords_are_cartesian=True, to_unit_cell=True)


def _decorated(structure: Structure, ion: str) -> Structure:
    """The crystal with oxidation states: from bond lengths where that works, else the likeliest that balance the formula."""
    from pymatgen.analysis.bond_valence import BVAnalyzer

    try:
        decorated = BVAnalyzer(forbidden_species=FORBIDDEN_SPECIES).get_oxi_state_decorated_structure(structure)
    except ValueError:
        guesses = structure.composition.oxi_state_guesses(max_sites=-1)
        if not guesses:
            raise PercolationError("oxidation states could not be guessed") from None
        decorated = structure.copy().add_oxidation_state_by_element(guesses[0])
    states = sorted({float(site.specie.oxi_state) for site in decorated if site.specie.symbol == ion})
    if states != [ION_CHARGE[ion]]:
        raise PercolationError(f"{ion} has the oxidation state {', '.join(f'{q:g}' for q in states)}, not {ION_CHARGE[ion]}")
    return decorated

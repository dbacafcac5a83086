"""The numbers of structure prediction: from proposals and true crystals to metrics, floors and a table of rows."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sse_diffusion.core.atomic_files import replacing
from sse_diffusion.design.evaluation.floors import random_in_cell, random_in_orbits, true_orbits
from sse_diffusion.design.evaluation.reference import Reference
from sse_diffusion.verification.metrics.match import in_parallel, rms_distances
from sse_diffusion.verification.metrics.rates import Metric
from sse_diffusion.verification.validity import composition_validity, structural_validity

if TYPE_CHECKING:
    from pymatgen.core import Structure

TIGHT_RMSE = 0.1
_MATCHER = "StructureMatcher(stol=0.5, angle_tol=10, ltol=0.3)"
PROTOCOL = {
    "match_rate": f"rows matched by any of k proposals, of all readable rows; {_MATCHER}; primitive cell's composition given",
    "match_rate_valid_only": "as match_rate; proposal and truth must pass CDVAE's structural and SMACT checks, else no match "
    "(DiffCSP, FlowMM; without their test that CrystalNN fingerprints exist)",
    "match_rate_rmse_0.1": "as match_rate, with RMSE below 0.1",
    "rmse": "mean over matched rows of the RMS displacement in (V/N)^(1/3); best of k",
    "rmse_valid_only": "as rmse, over the rows of match_rate_valid_only",
    "floor_true_cell": "all atoms at random coordinates in the true cell (P1), k draws, same matcher",
    "floor_true_gene": "random free coordinates in the true group, cell and Wyckoff positions, k draws, same matcher; "
    "of the rows whose symmetry could be described",
    "structural_validity": "of all n x k proposals: distances >= 0.5 A, volume >= 0.1 A^3 (CDVAE); a missing one is invalid",
    "composition_validity": "of all n x k proposals: CDVAE's SMACT check; given by the rows, so it says how many truths pass",
    "seconds": "wall time of sampling, model loading excluded; seconds_cpu: CPU time of the same, all threads",
    "nfe": "network evaluations of the continuous stage per crystal; the discrete stage adds one per orbit",
}


@dataclass(frozen=True)
class Proposals:
    """n x k proposals and what was found.

    Attributes:
        reference: the n rows.
        n_atoms: (n,) atoms in the primitive cell.
        crystals: n lists of k crystals, ``None`` where there is none.
        rms: (n, k) RMS displacement, NaN for no match.
        structure_valid, composition_valid: (n, k), False where there is no crystal.
        truth_valid: (n,) the true crystal passes both checks.
    """

    reference: Reference
    n_atoms: NDArray[np.int64]
    crystals: list[list[Structure | None]]
    rms: NDArray[np.float64]
    structure_valid: NDArray[np.bool_]
    composition_valid: NDArray[np.bool_]
    truth_valid: NDArray[np.bool_]

    @classmethod
    def judge(
        cls, reference: Reference, n_atoms: NDArray[np.int64], crystals: list[list[Structure | None]], workers: int = 1
    ) -> Proposals:
        """Match every proposal with its row and check both."""
        k = len(crystals[0])
        flat = [crystal for row in crystals for crystal in row]
        rms = rms_distances([s for s in reference.structures for _ in range(k)], flat, workers, "matching").reshape(-1, k)
        valid = validity(flat, workers).reshape(-1, k, 2)
        truth = np.asarray(validity(reference.structures, workers).all(axis=1))
        return cls(reference, n_atoms, crystals, rms, valid[..., 0], valid[..., 1], truth)

    @property
    def valid(self) -> NDArray[np.bool_]:
        """(n, k) proposal and truth pass both checks."""
        return self.structure_valid & self.composition_valid & self.truth_valid[:, None]

    @property
    def n_missing(self) -> int:
        """Proposals that could not be made."""
        return sum(crystal is None for row in self.crystals for crystal in row)


def validity(structures: Sequence[Structure | None], workers: int = 1) -> NDArray[np.bool_]:
    """(n, 2): passes CDVAE's structural check, passes its SMACT check; False for ``None``."""
    return np.array(in_parallel(_both, structures, workers, "validity", lost=(False, False)), dtype=bool).reshape(-1, 2)


def _both(structure: Structure | None) -> tuple[bool, bool]:
    if structure is None:
        return False, False
    return structural_validity(structure).valid, composition_validity(structure).valid


def proposal_metrics(proposals: Proposals) -> dict[str, Metric]:
    """Match rates and RMSE, whole, split by size and filtered, and the validity of the proposals."""
    filtered = best(np.where(proposals.valid, proposals.rms, np.nan))
    return {
        **matched("match_rate", "rmse", best(proposals.rms), proposals.n_atoms),
        "match_rate_valid_only": _rate(np.isfinite(filtered)),
        "rmse_valid_only": Metric.mean(filtered),
        "structural_validity": _rate(proposals.structure_valid),
        "composition_validity": _rate(proposals.composition_valid),
    }


def floor_metrics(reference: Reference, n_atoms: NDArray[np.int64], k: int, seed: int, workers: int = 1) -> dict[str, Metric]:
    """The same numbers for random coordinates, see :mod:`sse_diffusion.design.evaluation.floors`."""
    orbits = true_orbits(reference.rows, workers)
    cells = [s if o is None else o.to_structure() for s, o in zip(reference.structures, orbits, strict=True)]
    shots = [(i, row, shot) for i, row in enumerate(reference.positions) for shot in range(k)]
    truths = [reference.structures[i] for i, _, _ in shots]
    free = [random_in_cell(cells[i], seed, row, shot) for i, row, shot in shots]
    genes = [None if (o := orbits[i]) is None else random_in_orbits(o, seed, row, shot).to_structure() for i, row, shot in shots]
    in_cell = best(rms_distances(truths, free, workers, "floor: true cell").reshape(-1, k))
    in_gene = best(rms_distances(truths, genes, workers, "floor: true orbits").reshape(-1, k))
    parsed = np.array([o is not None for o in orbits])
    metrics = matched("floor_true_cell_match_rate", "floor_true_cell_rmse", in_cell, n_atoms)
    return metrics | matched("floor_true_gene_match_rate", "floor_true_gene_rmse", in_gene[parsed], n_atoms[parsed])


def matched(rate: str, rmse: str, rms: NDArray[np.float64], n_atoms: NDArray[np.int64]) -> dict[str, Metric]:
    """Match rate, RMSE, tight match rate, and both by size class (only the classes that occur).

    Args:
        rate, rmse: names of the metrics.
        rms: (n,) RMS displacement of the best shot, NaN for no match.
        n_atoms: (n,) atoms in the primitive cell.
    """
    metrics = {rate: _rate(np.isfinite(rms)), rmse: Metric.mean(rms), f"{rate}_rmse_{TIGHT_RMSE:g}": _rate(rms < TIGHT_RMSE)}
    for name, rows in sizes(n_atoms).items():
        metrics |= {f"{rate}_{name}": _rate(np.isfinite(rms[rows])), f"{rmse}_{name}": Metric.mean(rms[rows])}
    return metrics


def best(rms: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n,) smallest of (n, k) displacements, NaN where no shot matches."""
    smallest = np.where(np.isnan(rms), np.inf, rms).min(axis=1)
    return np.where(np.isinf(smallest), np.nan, smallest)


def _rate(hits: NDArray[np.bool_]) -> Metric:
    return Metric.rate(int(hits.sum()), hits.size)


def sizes(n_atoms: NDArray[np.int64]) -> dict[str, NDArray[np.bool_]]:
    """Rows by atoms in the primitive cell; only the classes that occur."""
    classes = {"up_to_8": n_atoms <= 8, "9_to_20": (n_atoms > 8) & (n_atoms <= 20), "above_20": n_atoms > 20}
    return {name: rows for name, rows in classes.items() if rows.any()}


def write_proposals(proposals: Proposals, out: Path) -> None:
    """``rows.csv`` (one line per row) and ``proposals.extxyz`` (one frame per proposal, ``info`` names row and shot)."""
    from ase.io import write
    from pymatgen.io.ase import AseAtomsAdaptor

    smallest, frames = best(proposals.rms), []
    with replacing(out / "rows.csv") as path, path.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow(["id", "row", "formula", "n_atoms_primitive", "matched", "rmse", "proposals_valid"])
        for i, row in enumerate(proposals.reference.rows):
            name = proposals.reference.structures[i].composition.reduced_formula
            rmse = "" if np.isnan(smallest[i]) else f"{smallest[i]:.5f}"
            place, valid = proposals.reference.positions[i], int(proposals.valid[i].sum())
            writer.writerow([row.id, place, name, int(proposals.n_atoms[i]), int(bool(rmse)), rmse, valid])
            for shot, crystal in enumerate(proposals.crystals[i]):
                if crystal is not None and np.isfinite(crystal.lattice.matrix).all() and np.isfinite(crystal.frac_coords).all():
                    atoms = AseAtomsAdaptor.get_atoms(crystal, msonable=False)
                    atoms.info = {"id": f"{row.id}-{shot}", "reference": row.id, "shot": shot}
                    atoms.info |= {"rmse": float(proposals.rms[i, shot])} if np.isfinite(proposals.rms[i, shot]) else {}
                    frames.append(atoms)
    with replacing(out / "proposals.extxyz") as path:
        write(path, frames, format="extxyz")

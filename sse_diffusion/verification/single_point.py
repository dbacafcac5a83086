"""Static energies of many structures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sse_diffusion.core.errors import SSEError
from sse_diffusion.core.results import Quantity

if TYPE_CHECKING:
    from ase import Atoms
    from pymatgen.core import Structure

    from sse_diffusion.verification.potential import Potential


def static_energies(
    structures: Sequence[Structure], potential: Potential, *, batch_size: int = 16, progress: bool = True
) -> list[Quantity]:
    """Energy per atom of each structure as it is, in order; a structure that cannot be evaluated becomes a failed Quantity.

    Args:
        structures: ordered pymatgen structures.
        potential: the engine.
        batch_size: structures handed to the engine at a time (it batches further by its own rule).
        progress: show a progress bar.
    """
    from pymatgen.io.ase import AseAtomsAdaptor
    from tqdm import tqdm

    provenance = {"engine": f"{potential.info.name} {potential.info.version}", "energy_scheme": potential.info.energy_scheme}
    atoms = [AseAtomsAdaptor.get_atoms(structure, msonable=False) for structure in structures]
    results: list[Quantity] = []
    with tqdm(total=len(atoms), desc="static energies", unit="crystal", disable=not progress) as bar:
        for start in range(0, len(atoms), batch_size):
            batch = atoms[start : start + batch_size]
            try:
                energies = [e.energy_eV / len(a) for e, a in zip(potential.evaluate(batch), batch, strict=True)]
                results += [Quantity(e, unit="eV/atom", provenance=dict(provenance)) for e in energies]
            except SSEError:
                results += [_single(each, potential, provenance) for each in batch]
            bar.update(len(batch))
    return results


def _single(atoms: Atoms, potential: Potential, provenance: dict[str, str]) -> Quantity:
    """One structure by itself, to find out which one of a batch failed and why."""
    try:
        evaluation = potential.evaluate([atoms])[0]
    except SSEError as error:
        return Quantity.failed(error.message, "eV/atom", **provenance)
    return Quantity(evaluation.energy_eV / len(evaluation.forces_eV_per_A), unit="eV/atom", provenance=dict(provenance))

"""Hard chemistry as masks: the constraints of a request in the form the decoder consults at every choice."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from sse_diffusion.core.errors import ChemistryError
from sse_diffusion.core.orbit_batch import MASKED_SPECIES, MAX_SPECIES
from sse_diffusion.core.orbits import Orbits
from sse_diffusion.core.symmetry import find_symmetry
from sse_diffusion.core.wyckoff import N_GROUPS, wyckoff_table
from sse_diffusion.diffusion.condition_tensors import atomic_numbers
from sse_diffusion.diffusion.counting import can_complete
from sse_diffusion.thermo.charge_balance import imbalance
from sse_diffusion.thermo.chemistry import SYMMETRY_TOLERANCE_A, Chemistry

ATTEMPT_STRIDE = 10_000_000
"""Attempt a at crystal i draws from stream i + a * stride: redrawing one crystal never moves another."""


@dataclass(frozen=True)
class HardChemistry:
    """Constraints by atomic number.

    Attributes:
        allowed: atomic numbers that may occur.
        require: atomic numbers that must occur.
        groups: accepted space groups.
        n_atoms: inclusive range of atoms in the primitive cell.
        compositions: prescribed atoms per primitive cell, one of which crystal i takes in turn; empty when free.
        charge_neutral: the composition must pass the SMACT check.
        by_index: prescribed atoms per primitive cell of each crystal number; takes the place of ``compositions``.
    """

    allowed: tuple[int, ...]
    require: tuple[int, ...]
    groups: tuple[int, ...]
    n_atoms: tuple[int, int] | None
    compositions: tuple[tuple[tuple[int, int], ...], ...]
    charge_neutral: bool = False
    by_index: Mapping[int, Mapping[int, int]] | None = None

    @classmethod
    def for_compositions(cls, compositions: Mapping[int, Mapping[int, int]]) -> HardChemistry:
        """Structure prediction: crystal number -> atoms of each element in the primitive cell."""
        everything = tuple(range(1, MAX_SPECIES + 1))
        return cls(everything, (), tuple(range(1, N_GROUPS + 1)), None, (), by_index=compositions)

    @property
    def prescribed(self) -> bool:
        """Whether the composition is given."""
        return bool(self.compositions) or self.by_index is not None

    @classmethod
    def from_chemistry(cls, chemistry: Chemistry) -> HardChemistry:
        """Translate symbols; raises :class:`ChemistryError` for elements beyond the model's range."""
        from pymatgen.core import Element

        symbols = [Element.from_Z(z).symbol for z in range(1, MAX_SPECIES + 1)]
        unknown = chemistry.require - frozenset(symbols)
        if unknown:
            raise ChemistryError(
                f"the model does not know {', '.join(sorted(unknown))}", "it knows the elements up to plutonium (Z <= 94)"
            )
        allowed = atomic_numbers(chemistry.allowed(symbols))
        if not allowed:
            raise ChemistryError("no element is left by the constraints", "widen elements.allow")
        cells = tuple(tuple((Element(s).Z, n) for s, n in cell.items()) for cell in chemistry.cells())
        groups = tuple(sorted(chemistry.space_group)) if chemistry.space_group else tuple(range(1, N_GROUPS + 1))
        return cls(
            tuple(allowed), tuple(atomic_numbers(chemistry.require)), groups, chemistry.n_atoms, cells, chemistry.charge_neutral
        )

    def orbit_bounds(self, index: Int64[Tensor, " b"], limit: int) -> tuple[Int64[Tensor, " b"], Int64[Tensor, " b"]]:
        """Fewest and most orbits that crystal ``index`` can have: one per element at least, one per atom at most."""
        fewest = torch.full_like(index, max(1, len(self.require)))
        most = torch.full_like(index, min(limit, self.n_atoms[1] if self.n_atoms else limit))
        if self.prescribed:
            cells = [self.composition_of(i) for i in index.tolist()]
            fewest = torch.tensor([len(cell) for cell in cells], device=index.device)
            most = torch.tensor([min(limit, sum(cell.values())) for cell in cells], device=index.device)
        return torch.minimum(fewest, most), most

    def composition_of(self, index: int) -> dict[int, int]:
        """The prescribed composition of the crystal that draws from stream ``index``; all its attempts share it."""
        if self.by_index is not None:
            return dict(self.by_index[index % ATTEMPT_STRIDE])
        return dict(self.compositions[index % ATTEMPT_STRIDE % len(self.compositions)])

    def group_mask(self, device: torch.device) -> Bool[Tensor, " g"]:
        """(231,) True for accepted groups."""
        mask = torch.zeros(N_GROUPS + 1, dtype=torch.bool, device=device)
        mask[list(self.groups)] = True
        return mask

    def species_mask(self, device: torch.device) -> Bool[Tensor, " z"]:
        """(95,) True for accepted elements."""
        mask = torch.zeros(MAX_SPECIES + 1, dtype=torch.bool, device=device)
        mask[list(self.allowed)] = True
        return mask

    def balancing(self, species: Sequence[int], atoms: Sequence[int]) -> Bool[Tensor, " z"]:
        """(95,) elements that, put on every masked orbit, make a crystal charge neutral.

        Args:
            species: atomic number of each orbit, ``MASKED_SPECIES`` where it is to be chosen.
            atoms: atoms of each orbit, in any cell.
        """
        counts: dict[int, int] = {}
        for z, n in zip(species, atoms, strict=True):
            counts[z] = counts.get(z, 0) + n
        multiplicity = counts.pop(MASKED_SPECIES, 0)
        mask = torch.zeros(MAX_SPECIES + 1, dtype=torch.bool)
        for z in self.allowed:
            completed = {**counts, z: counts.get(z, 0) + multiplicity}
            mask[z] = not imbalance({_symbol(k): n for k, n in completed.items()})
        return mask

    def groups_that_fit(self, counts: tuple[int, ...], orbits: int) -> Bool[Tensor, " g"]:
        """(231,) groups in which the prescribed atoms fit into exactly ``orbits`` orbits."""
        return torch.tensor([group > 0 and _fits(group, counts, orbits) for group in range(N_GROUPS + 1)])

    def still_required(self, species: Int64[Tensor, "r m"], masked: Int64[Tensor, " r"]) -> Bool[Tensor, "r z"]:
        """Once as many orbits are left as required elements are missing, only those may be chosen."""
        mask = torch.ones(len(species), MAX_SPECIES + 1, dtype=torch.bool, device=species.device)
        if not self.require:
            return mask
        wanted = torch.tensor(self.require, device=species.device)
        missing = ~(species[:, :, None] == wanted).any(1)
        forced = missing.sum(-1) >= masked
        only = torch.zeros_like(mask)
        only[:, wanted] = missing
        return torch.where(forced[:, None] & missing.any(-1, keepdim=True), only, mask)


@lru_cache(maxsize=128)
def _symbol(z: int) -> str:
    from pymatgen.core import Element

    return str(Element.from_Z(z).symbol)


@lru_cache(maxsize=1)
def similarity() -> Tensor:
    """(95, 95) how alike two elements are as ions: exp(-(difference of Pauling electronegativity / 0.4)^2).

    It tells where the probability of a forbidden element goes. Without it, forbidding most metals would hand their share to
    the anions and every constrained crystal would come out over-oxidised.
    """
    import warnings

    from pymatgen.core import Element

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # noble gases have no electronegativity
        chi = [Element.from_Z(z).X for z in range(1, MAX_SPECIES + 1)]
    values = torch.tensor([0.0, *(x if x == x else 4.5 for x in chi)])
    alike = torch.exp(-(((values[:, None] - values[None]) / 0.4) ** 2))
    alike[0], alike[:, 0] = 0.0, 0.0
    return alike


def redistribute(logits: Float[Tensor, "r z"], allowed: Bool[Tensor, "r z"]) -> Float[Tensor, "r z"]:
    """Log-probabilities over the allowed elements, the forbidden ones' share given to the allowed ones most like them."""
    probability = logits.double().softmax(-1)
    kept = probability * allowed
    weight = similarity().to(logits.device).double()[None] * allowed[:, None, :] + 1e-30 * allowed[:, None, :]
    share = weight / weight.sum(-1, keepdim=True).clamp_min(1e-300)
    moved = torch.einsum("rz,rzy->ry", probability * ~allowed, share)
    return (kept + moved).log().float()


@lru_cache(maxsize=100_000)
def _fits(group: int, counts: tuple[int, ...], orbits: int) -> bool:
    return can_complete(group, frozenset(), counts, orbits)


def has_enough_atoms(crystal: Orbits, n_atoms: tuple[int, int] | None) -> bool:
    """Whether the crystal keeps to the lower bound although its coordinates may have given it a smaller primitive cell.

    Two orbits of one element, half a cell apart, are one atom in half the cell; only then the symmetry has to be searched.
    """
    if n_atoms is None:
        return True
    table = wyckoff_table()
    atoms = (table.multiplicity // table.centring[table.group])[crystal.wyckoff]
    of_element = [int(atoms[crystal.species == z].sum()) for z in np.unique(crystal.species)]
    if sum(of_element) // math.gcd(*of_element) >= n_atoms[0]:  # no cell of this composition is smaller
        return True
    return len(find_symmetry(crystal.to_structure(), SYMMETRY_TOLERANCE_A).primitive_numbers) >= n_atoms[0]

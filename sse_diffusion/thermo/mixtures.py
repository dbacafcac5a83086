"""Lowest mixture of phases at a composition: the convex hull as a linear program, solved for many problems at once.

    h(x) = min { sum_k f_k E_k : sum_k f_k A_k = x, f_k >= 0 }         E_k per atom of phase k, A_k its atomic fractions

Primal simplex with all problems of one chemical system pivoting together (numpy, stacked n x n solves; n elements). The dual
solution mu, sum_i mu_i A_ki <= E_k with equality for the phases of the mixture, holds the elements' chemical potentials.
Pivoting sees every composition shifted by about 1e-9 of an atom in a generic direction, so that one on a tie line does not cycle
(Charnes, Econometrica 20, 160 (1952)); amounts and energies are those of the composition itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from sse_diffusion.core.errors import ChemistryError

PERTURBATION = 1e-9
TOLERANCE_eV = 1e-11
ABSENT = 1e-7
"""Amounts below this are zero."""
MAX_PIVOTS = 500


@dataclass(frozen=True)
class Mixtures:
    """Solutions of a batch of problems with n elements.

    Attributes:
        phases: (b, n) indices of the phases of each mixture (some with amount 0).
        amounts: (b, n) atoms of each phase; they add up to the atoms of the target.
        potentials: (b, n) chemical potential of each element, eV; where the mixture has fewer than n phases these are the
            potentials on one side (that of the perturbation).
        energies: (b,) hull energy for the target's atoms, eV.
    """

    phases: Int[np.ndarray, "b n"]
    amounts: Float[np.ndarray, "b n"]
    potentials: Float[np.ndarray, "b n"]
    energies: Float[np.ndarray, " b"]


def lowest_mixtures(
    targets: Float[np.ndarray, "b n"], compositions: Float[np.ndarray, "k n"], energies: Float[np.ndarray, "... k"]
) -> Mixtures:
    """Solve b problems over the same k phases.

    Args:
        targets: amounts of each element (not negative, any total; a small step beside a composition gives one-sided potentials).
        compositions: amounts of each element in one atom of phase k; for each element there is a phase that holds nothing else.
        energies: eV per atom of phase, (k,) for all problems or (b, k) for each its own; finite.

    Raises:
        ChemistryError: an element has no pure phase, or an energy is lower than every bound (NaN or unbounded).
    """
    b, n = targets.shape
    cost = np.broadcast_to(energies, (b, len(compositions)))
    columns = compositions.T
    basis = np.tile(_pure_phases(compositions), (b, 1))
    noise = PERTURBATION * np.modf(np.sqrt(np.arange(2.0, n + 2.0)) * 7.0)[0]
    shifted = targets + noise + PERTURBATION
    open_problems = np.arange(b)
    for _ in range(MAX_PIVOTS):
        chosen = basis[open_problems]
        square = np.swapaxes(compositions[chosen], 1, 2)
        price = _solve(np.swapaxes(square, 1, 2), np.take_along_axis(cost[open_problems], chosen, 1))
        reduced = cost[open_problems] - price @ columns
        entering = reduced.argmin(1)
        going = reduced[np.arange(len(open_problems)), entering] < -TOLERANCE_eV
        if not going.any():
            return _solution(targets, compositions, cost, basis)
        open_problems, square, entering, chosen = open_problems[going], square[going], entering[going], chosen[going]
        amounts = _solve(square, shifted[open_problems])
        direction = _solve(square, compositions[entering])
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.where(direction > 1e-10, amounts / direction, np.inf)
        leaving = ratio.argmin(1)
        if not np.isfinite(ratio.min(1)).all():
            raise ChemistryError("the hull is not bounded below", "an open element's potential lies above that of its own phase")
        basis[open_problems, leaving] = entering
    raise ChemistryError(f"no hull after {MAX_PIVOTS} pivots", "look for NaN among the energies")


def _solution(
    targets: Float[np.ndarray, "b n"],
    compositions: Float[np.ndarray, "k n"],
    cost: Float[np.ndarray, "b k"],
    basis: Int[np.ndarray, "b n"],
) -> Mixtures:
    """Amounts at the unperturbed targets."""
    square = np.swapaxes(compositions[basis], 1, 2)
    basis_cost = np.take_along_axis(cost, basis, 1)
    amounts = _solve(square, targets)
    amounts[np.abs(amounts) < ABSENT] = 0.0
    return Mixtures(basis, amounts, _solve(np.swapaxes(square, 1, 2), basis_cost), (amounts * basis_cost).sum(1))


def _pure_phases(compositions: Float[np.ndarray, "k n"]) -> Int[np.ndarray, " n"]:
    """For each element the first phase that holds only it."""
    holds = compositions > 0
    pure = holds & (holds.sum(1, keepdims=True) == 1)
    if not pure.any(0).all():
        raise ChemistryError("an element of the chemical system has no phase of its own", "add the elements to the table")
    return pure.argmax(0)


def _solve(matrices: Float[np.ndarray, "b n n"], vectors: Float[np.ndarray, "b n"]) -> Float[np.ndarray, "b n"]:
    return np.linalg.solve(matrices, vectors[..., None])[..., 0]

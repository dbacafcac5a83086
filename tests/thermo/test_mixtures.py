"""Batched simplex: agreement with a general solver and with pymatgen, dual prices, degenerate compositions, refusals."""

from __future__ import annotations

import numpy as np
import pytest
from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
from pymatgen.core import Composition
from scipy.optimize import linprog

from sse_diffusion.core.errors import ChemistryError
from sse_diffusion.thermo.mixtures import lowest_mixtures


def random_phases(rng, n, k):
    """k phases of n elements, many on lines and faces of the simplex, the pure elements first."""
    counts = rng.integers(0, 4, (k, n)) * (rng.random((k, n)) < 0.6)
    counts = np.vstack([np.eye(n), counts[counts.sum(1) > 0]])
    fractions = counts / counts.sum(1, keepdims=True)
    return fractions, np.concatenate([np.zeros(n), rng.normal(-0.5, 1.0, len(fractions) - n)])


@pytest.mark.parametrize("n", [1, 2, 3, 5, 7])
def test_equals_a_general_solver(n):
    rng = np.random.default_rng(n)
    phases, energies = random_phases(rng, n, 40)
    targets = np.vstack([phases[rng.integers(0, len(phases), 25)], rng.dirichlet(np.ones(n), 15)])
    found = lowest_mixtures(targets, phases, energies)
    for target, amount, chosen, energy in zip(targets, found.amounts, found.phases, found.energies, strict=True):
        reference = linprog(energies, A_eq=phases.T, b_eq=target, method="highs")
        assert energy == pytest.approx(reference.fun, abs=1e-8)
        assert amount @ phases[chosen] == pytest.approx(target, abs=1e-7) and (amount > -1e-6).all()


def test_prices_are_those_of_the_phase_diagram():
    rows = [("Li", -1.9), ("O", -4.9), ("P", -5.4), ("Li2O", -4.95), ("Li3PO4", -6.2), ("P2O5", -6.8), ("LiPO3", -6.55)]
    diagram = PhaseDiagram([PDEntry(Composition(f), e * Composition(f).num_atoms) for f, e in rows])
    composition = Composition("Li4P2O9")  # inside a facet
    order = ("Li", "O", "P")
    phases = np.array([[Composition(f).get_atomic_fraction(s) for s in order] for f, _ in rows])
    target = np.array([[composition.get_atomic_fraction(s) for s in order]])
    found = lowest_mixtures(target, phases, np.array([e for _, e in rows]))
    prices = {el.symbol: mu for el, mu in diagram.get_composition_chempots(composition).items()}
    assert dict(zip(order, found.potentials[0], strict=True)) == pytest.approx(prices)
    assert found.energies[0] == pytest.approx(diagram.get_hull_energy_per_atom(composition))


def test_every_problem_has_its_own_energies():
    phases = np.array([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]])
    energies = np.array([[0.0, 0.0, -1.0], [0.0, 0.0, 1.0]])
    found = lowest_mixtures(np.array([[0.5, 0.5], [0.5, 0.5]]), phases, energies)
    assert found.energies == pytest.approx([-1.0, 0.0])
    assert lowest_mixtures(np.array([[2.0, 1.0]]), phases, energies[0]).energies == pytest.approx([-2.0])  # any total


def test_polymorphs_do_not_cycle():
    # twenty phases at the same composition with equal energies, asked for at that composition
    phases = np.vstack([np.eye(3), np.tile([[0.4, 0.4, 0.2]], (20, 1)), [[0.5, 0.5, 0.0]]])
    energies = np.concatenate([np.zeros(3), np.full(20, -1.0), [-1.2]])
    found = lowest_mixtures(np.tile([[0.4, 0.4, 0.2]], (5, 1)), phases, energies)
    assert found.energies == pytest.approx(-1.0) and (found.amounts > 0).sum(1).tolist() == [1] * 5


def test_the_textbook_example_of_cycling_ends():
    # Beale (1955): the plain simplex method returns to its first basis after six pivots; the optimum is -1/20
    phases = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1 / 4, 1 / 2, 0], [-60, -90, 0], [-1 / 25, -1 / 50, 1], [9, 3, 0.0]])
    energies = np.array([0, 0, 0, -3 / 4, 150, -1 / 50, 6.0])
    assert lowest_mixtures(np.array([[0.0, 0.0, 1.0]]), phases, energies).energies[0] == pytest.approx(-0.05, abs=1e-6)


def test_impossible_hulls_are_refused():
    with pytest.raises(ChemistryError, match="no phase of its own"):
        lowest_mixtures(np.array([[0.5, 0.5]]), np.array([[1.0, 0.0], [0.5, 0.5]]), np.zeros(2))
    with pytest.raises(ChemistryError, match="not bounded"):
        lowest_mixtures(np.array([[1.0]]), np.array([[1.0], [0.0]]), np.array([0.0, -1.0]))  # a free phase without content

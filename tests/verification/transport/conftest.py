"""A toy with activated jumps: lithium in a cosine landscape, chlorine on springs."""

from __future__ import annotations

import math

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from sse_diffusion.verification.potential import Evaluation, PotentialInfo


class Landscape:
    """Lithium feels barrier / 2 (1 - cos(2 pi x / 1.5 A)) along each axis and no other lithium; chlorine springs of 4 eV/A^2."""

    info = PotentialInfo("landscape", "1", "MIT", "toy", "toy", frozenset({"Li", "Cl"}), "constant")

    def __init__(self, barrier: float):
        self.barrier, self.calls, self.sites = barrier, 0, None

    def evaluate(self, atoms):
        self.calls += 1
        return [self._one(a) for a in atoms]

    def _one(self, atoms):
        lithium, wave = np.array(atoms.get_chemical_symbols()) == "Li", 2 * math.pi / 1.5
        if self.sites is None:
            self.sites = atoms.positions.copy()
        away = atoms.positions - self.sites
        forces = np.where(lithium[:, None], -0.5 * self.barrier * wave * np.sin(wave * away), -4.0 * away)
        energy = 0.5 * self.barrier * (1 - np.cos(wave * away[lithium])).sum() + 2.0 * (away[~lithium] ** 2).sum()
        return Evaluation(float(energy), forces, np.zeros((3, 3)))


@pytest.fixture
def landscape() -> type:
    """The engine class."""
    return Landscape


@pytest.fixture
def cell() -> Structure:
    """CsCl-like LiCl, 3 A."""
    return Structure.from_spacegroup("Pm-3m", Lattice.cubic(3.0), ["Li", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])


@pytest.fixture
def quick() -> dict:
    """A protocol of a second."""
    return {
        "temperatures_K": (1200.0, 800.0, 600.0), "drop_ps": 0.2, "keep_ps": 2.0, "min_atoms": 16, "max_atoms": 16,
        "ensemble": "nvt", "friction_per_ps": 5.0, "timestep_fs": 4.0,
    }  # fmt: skip

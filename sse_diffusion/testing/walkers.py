"""Paths with known transport: Brownian walkers, vacancy lattice gases, overdamped ions in a cosine potential."""

from __future__ import annotations

import numpy as np

CORRELATION_FACTORS = {"sc": 0.6531, "bcc": 0.7272, "fcc": 0.7815}
"""Tracer correlation factors of diffusion by single vacancies (Compaan and Haven, Trans. Faraday Soc. 52, 786 (1956))."""

_BASIS = {
    "sc": [[0, 0, 0]],
    "bcc": [[0, 0, 0], [1, 1, 1]],
    "fcc": [[0, 0, 0], [1, 1, 0], [1, 0, 1], [0, 1, 1]],
}
_NEAREST_SQUARED = {"sc": 4, "bcc": 3, "fcc": 2}


def brownian(
    rng: np.random.Generator,
    frames: int,
    ions: int,
    diffusivity: float,
    vibration: float = 0.0,
    together: int = 1,
    memory: float = 0.0,
) -> np.ndarray:
    """(frames, ions, 3) walks with variance 2 D per frame and coordinate.

    Args:
        rng: generator.
        frames, ions: size.
        diffusivity: D in length^2 per frame.
        vibration: standard deviation of the rattling about the walk, on every coordinate.
        together: groups of this many ions make the same moves (then D_J = ``together`` D).
        memory: correlation of the rattling from one frame to the next (an overdamped ion in a cage); 0 for white noise.
    """
    from scipy.signal import lfilter

    steps = rng.normal(size=(frames, ions // together, 3)) * np.sqrt(2.0 * diffusivity)
    walks = np.repeat(np.cumsum(steps, axis=0), together, axis=1)
    rattling = rng.normal(size=walks.shape)
    rattling[1:] *= np.sqrt(1.0 - memory**2)  # so that its variance is one in every frame
    return walks + vibration * lfilter([1.0], [1.0, -memory], rattling, axis=0)


def vacancy_lattice_gas(
    rng: np.random.Generator, lattice: str, cells: int, runs: int, frames: int, hops_per_atom: float = 1.0
) -> tuple[np.ndarray, float]:
    """Kinetic Monte Carlo of one vacancy in a periodic crystal, many crystals at a time.

    In each step the vacancy changes places with a random nearest neighbour.

    Args:
        rng: generator.
        lattice: ``sc``, ``bcc`` or ``fcc``, of lattice constant 2.
        cells: edge of the crystal in cubic cells.
        runs: independent crystals.
        frames: length of the paths.
        hops_per_atom: mean number of hops of an atom between frames.

    Returns:
        (frames, runs * atoms, 3) unwrapped positions relative to the start, and the diffusivity per frame that the same hops
        would give without correlation, so that the correlation factor is the ratio of the measured one to it.
    """
    corners = np.stack(np.meshgrid(*[np.arange(cells)] * 3, indexing="ij"), -1).reshape(-1, 1, 3) * 2
    sites = (corners + np.array(_BASIS[lattice])).reshape(-1, 3)
    number = np.full((2 * cells,) * 3, -1)
    number[tuple(sites.T)] = np.arange(len(sites))
    offsets = np.stack(np.meshgrid(*[np.arange(-2, 3)] * 3, indexing="ij"), -1).reshape(-1, 3)
    jumps = offsets[(offsets**2).sum(axis=1) == _NEAREST_SQUARED[lattice]]
    neighbour = number[tuple(np.moveaxis((sites[:, None] + jumps) % (2 * cells), -1, 0))]
    atoms = len(sites) - 1
    occupant = np.tile(np.arange(len(sites)), (runs, 1))
    vacancy, every = np.full(runs, atoms), max(1, round(hops_per_atom * atoms))
    moved = np.zeros((runs, atoms + 1, 3), dtype=np.int32)
    path = np.zeros((frames, runs, atoms, 3), dtype=np.float32)
    row = np.arange(runs)
    for frame in range(1, frames):
        for direction in rng.integers(len(jumps), size=(every, runs)):
            target = neighbour[vacancy, direction]
            atom = occupant[row, target]
            moved[row, atom] -= jumps[direction].astype(np.int32)
            occupant[row, vacancy] = atom
            vacancy = target
        path[frame] = moved[:, :atoms]
    return path.reshape(frames, -1, 3), _NEAREST_SQUARED[lattice] * (every / atoms) / 6.0


def cosine_ions(
    rng: np.random.Generator,
    kT_eV: np.ndarray,
    ions: int,
    frames: int,
    every: int,
    barrier_eV: float = 0.3,
    spacing_A: float = 3.0,
) -> np.ndarray:
    """(frames, R, ions, 3) overdamped ions in U = barrier / 2 (1 - cos(2 pi x / spacing)) along each axis.

    dx = -mobility U'(x) dt + sqrt(2 mobility kT dt) xi with mobility 1 A^2/(eV ps) and dt = 0.05 ps, a frame every ``every``
    steps.

    Args:
        rng: generator.
        kT_eV: (R,) thermal energy of each run.
        ions, frames, every: size.
        barrier_eV, spacing_A: of the potential.
    """
    dt, wave = 0.05, 2.0 * np.pi / spacing_A
    positions = np.zeros((len(kT_eV), ions, 3))
    kick = np.sqrt(2.0 * kT_eV * dt)[:, None, None]
    path = np.zeros((frames, *positions.shape), dtype=np.float32)
    for frame in range(1, frames):
        for _ in range(every):
            positions -= 0.5 * barrier_eV * wave * np.sin(wave * positions) * dt
            positions += kick * rng.standard_normal(positions.shape, dtype=np.float32)
        path[frame] = positions
    return path


def cosine_diffusivity(kT_eV: float, barrier_eV: float = 0.3) -> float:
    """Exact D (A^2/ps) of :func:`cosine_ions`: kT / I0(barrier / 2 kT)^2 (Lifson and Jackson, J. Chem. Phys. 36, 2410 (1962))."""
    from scipy.special import i0

    return kT_eV / float(i0(0.5 * barrier_eV / kT_eV)) ** 2

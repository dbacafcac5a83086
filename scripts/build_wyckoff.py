"""Compile the Wyckoff positions of the 230 space groups into one array file.

    python scripts/build_wyckoff.py            # needs: pip install sse-diffusion[wyckoff]

Settings are the standard ones of the International Tables A: unique axis b, hexagonal axes, origin choice 2.
Source of the positions: pyxtal. Translations are multiples of 1/24 in every group, so everything is exact in int8.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pyxtal.symmetry import Group
from tqdm import tqdm

CENTRING = {"P": 1, "A": 2, "B": 2, "C": 2, "I": 2, "R": 3, "F": 4}
DENOMINATOR = 24


def compile_table() -> dict[str, np.ndarray]:
    """Arrays of the table; their meaning is documented in ``sse_diffusion.core.wyckoff``."""
    group, multiplicity, dof, image_start, rotation, translation, centring = [], [], [], [0], [], [], [0]
    for number in tqdm(range(1, 231), desc="space groups"):
        record = Group(number)
        centring.append(CENTRING[record.symbol[0]])
        for position in reversed(record.Wyckoff_positions):  # a, b, c, ... : special first, general last
            affine = np.stack([op.affine_matrix for op in position.ops])
            group.append(number)
            multiplicity.append(len(affine))
            dof.append(np.linalg.matrix_rank(affine[0, :3, :3]))
            rotation.append(affine[:, :3, :3])
            translation.append(affine[:, :3, 3] * DENOMINATOR)
            image_start.append(image_start[-1] + len(affine))
    return {
        "group": np.array(group, dtype=np.int16),
        "multiplicity": np.array(multiplicity, dtype=np.int16),
        "dof": np.array(dof, dtype=np.int8),
        "image_start": np.array(image_start, dtype=np.int32),
        "rotation": exact(np.concatenate(rotation)),
        "translation": exact(np.concatenate(translation)),
        "centring": np.array(centring, dtype=np.int8),
    }


def exact(values: np.ndarray) -> np.ndarray:
    """The values as int8; raises when rounding would change them."""
    rounded = np.round(values)
    if np.abs(values - rounded).max() > 1e-6 or np.abs(rounded).max() > 127:
        raise SystemExit("a Wyckoff operation is not a small multiple of 1/24: the table format cannot hold it")
    return rounded.astype(np.int8)


if __name__ == "__main__":
    target = Path(__file__).resolve().parents[1] / "sse_diffusion" / "core" / "assets" / "wyckoff.npz"
    target.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(target, **compile_table())
    print(f"{target}: {target.stat().st_size / 1024:.0f} KB")

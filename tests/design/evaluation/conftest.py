"""A table of six known crystals, a tiny random checkpoint, and composed configurations of `sse evaluate`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from omegaconf import OmegaConf
from pymatgen.core import Lattice, Structure

from sse_diffusion.core.compose import compose


def cubic(a: float, group: str, species: list[str], sites: list[list[float]]) -> Structure:
    """A cubic crystal in its conventional cell."""
    return Structure.from_spacegroup(group, Lattice.cubic(a), species, sites)


KNOWN: dict[str, Structure] = {
    "nacl": cubic(5.64, "Fm-3m", ["Na", "Cl"], [[0, 0, 0], [0.5] * 3]),
    "cscl": cubic(4.12, "Pm-3m", ["Cs", "Cl"], [[0, 0, 0], [0.5] * 3]),
    "zns": cubic(5.41, "F-43m", ["Zn", "S"], [[0, 0, 0], [0.25] * 3]),
    "srtio3": cubic(3.91, "Pm-3m", ["Sr", "Ti", "O"], [[0, 0, 0], [0.5] * 3, [0.5, 0.5, 0]]),
    "mnf3": cubic(4.0, "Pm-3m", ["Mn", "F"], [[0, 0, 0], [0.5, 0, 0]]),
    "na2cl": cubic(6.0, "Fm-3m", ["Cl", "Na"], [[0, 0, 0], [0.25] * 3]),  # fluorite type; fails the SMACT check
}
"""All but the last pass both validity checks; cells are conventional."""


@pytest.fixture()
def known() -> dict[str, Structure]:
    """Name -> crystal."""
    return KNOWN


@pytest.fixture()
def table(tmp_path: Path) -> Path:
    """The known crystals as Parquet with the package's columns; the first four are `val`."""
    rows = []
    for number, (name, s) in enumerate(KNOWN.items()):
        cell = dict(zip(("a", "b", "c", "alpha", "beta", "gamma"), s.lattice.parameters, strict=True))
        atoms = {"atomic_numbers": list(s.atomic_numbers), "frac_coords": s.frac_coords.ravel().tolist()}
        rows.append({"material_id": name, "split": "val" if number < 4 else "train", **cell, **atoms})
    path = tmp_path / "known.parquet"
    pd.DataFrame(rows).to_parquet(path)
    return path


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stored model of a few thousand untrained weights."""
    from sse_diffusion.diffusion.denoiser import DenoiserConfig
    from sse_diffusion.diffusion.model import CrystalModel, save_model
    from sse_diffusion.thermo.conditions import load_condition_specs

    path = tmp_path_factory.mktemp("model")
    small = DenoiserConfig(width=16, depth=1, heads=2, pair_width=8, n_radial=8, max_orbits=8)
    save_model(CrystalModel(small, load_condition_specs()), path)
    return path


@pytest.fixture(scope="session")
def composed_once() -> Any:
    """What `sse evaluate` composes without overrides; Hydra takes longer than most of these tests."""
    return compose("evaluate")


@pytest.fixture()
def evaluation(checkpoint: Path, out_dir: Path, composed_once: Any) -> Callable[..., Any]:
    """``evaluation("task=csp", ...)``: the configuration with overrides in this test's folder, one process."""

    def _override(*overrides: str) -> Any:
        shared = [f"checkpoint={checkpoint}", f"out={out_dir}", "workers=1", "sampler.steps=2", "sampler.refine_steps=2"]
        return OmegaConf.merge(composed_once, OmegaConf.from_dotlist([*shared, *overrides]))

    return _override


@pytest.fixture()
def metrics(out_dir: Path) -> Callable[[], dict[str, Any]]:
    """Reads what the run wrote."""
    return lambda: json.loads((out_dir / "metrics.json").read_text())

"""Take the mobile ions out of known crystals and place them again: `sse sample fix.structure=...` against the truth.

    python benchmarks/inpainting.py [checkpoint=mp_base] [data=mp] [limit=32] [max_sites=30] [cifs=FOLDER_OR_ZIP] [seed=0]

Three sets: validation crystals with Li or Na whose framework has at least two elements (seeded choice); named frameworks among
the embedded prototypes (ideal crystallographic data; the training table may hold relatives of them); ordered CIFs with Li, if
given. The number of ions is given, and so is the exact framework, which was relaxed with its ions: what it shows of them helps.

- field: StructureMatcher(ltol 0.3, stol 0.5, angle 10) on the whole crystal, lenient when the framework is given;
- strict: root-mean-square distance of the ions below 0.5 Angstrom, the framework in place (its own symmetry operations allowed).

One shot is the most probable of 8 trials (the default), ten shots are the ten most probable different ones of 20; `one_trial` is
one draw, not ranked. The control puts as many ions at random, 1.5 Angstrom from the framework at least, and is scored alike.
"""

from __future__ import annotations

import sys
import tempfile
import time
import zipfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure import options, write
from pymatgen.core import Element, Structure
from tqdm import tqdm

from sse_diffusion.core.compose import compose
from sse_diffusion.core.errors import SSEError
from sse_diffusion.core.orbits import Orbits
from sse_diffusion.data.prototypes.library import PROTOTYPES
from sse_diffusion.design.evaluation.reference import read_reference
from sse_diffusion.diffusion.fix import FixConfig, Given, distinct
from sse_diffusion.diffusion.model import CrystalModel, load_model
from sse_diffusion.diffusion.samplers import SamplerConfig
from sse_diffusion.thermo.request import parse_request
from sse_diffusion.verification.metrics.match import rms_distance
from sse_diffusion.verification.metrics.rates import wilson

SHOTS, TRIALS_ONE, TRIALS_TEN = 10, 8, 20
STRICT_A, CONTROL_A = 0.5, 1.5
NAMED = (
    "argyrodite", "beta_lithium_thiophosphate", "gamma_lithium_thiophosphate", "cubic_sodium_thiophosphate",
    "tetragonal_sodium_thiophosphate", "lithium_yttrium_bromide", "lithium_nitride", "alpha_sodium_ferrite", "antiperovskite",
    "lithium_hexafluorozirconate", "lithium_niobate", "olivine", "gamma_lithium_phosphate", "lithium_yttrium_chloride",
    "nasicon", "lgps",
)  # fmt: skip


def ion_of(structure: Structure) -> str | None:
    """The one mobile ion of a structure."""
    found = [s for s in ("Li", "Na") if Element(s) in structure.composition]
    return found[0] if len(found) == 1 else None


def usable(structure: Structure, max_sites: int) -> bool:
    """At most so many sites, one of Li and Na, and two more elements at least."""
    return len(structure) <= max_sites and len(structure.composition) >= 3 and ion_of(structure) is not None


def validation_crystals(data: str, limit: int, max_sites: int, seed: int) -> dict[str, Structure]:
    """A seeded choice of validation crystals."""
    reference = read_reference({"path": compose("train", [f"data={data}"]).data.path, "split": "val", "max_sites": max_sites})
    assert reference is not None
    crystals = {r.id: s for r, s in zip(reference.rows, reference.structures, strict=True) if usable(s, max_sites)}
    chosen = np.random.default_rng(seed).permutation(sorted(crystals))[:limit]
    return {str(name): crystals[str(name)] for name in sorted(chosen)}


def ordered_cifs(source: str, limit: int, max_sites: int, seed: int) -> dict[str, Structure]:
    """A seeded choice of the ordered CIFs of a folder or zip file, primitive cells."""
    with tempfile.TemporaryDirectory() as folder:
        if source.endswith(".zip"):
            zipfile.ZipFile(source).extractall(folder)
        found = {}
        for path in sorted(Path(folder if source.endswith(".zip") else source).rglob("*.cif")):
            try:
                structure = Structure.from_file(path, primitive=True)
            except Exception:  # a benchmark over files of any quality: what cannot be read is no case
                continue
            if structure.is_ordered and usable(structure.remove_oxidation_states(), max_sites):
                found[path.stem] = structure
    chosen = np.random.default_rng(seed).permutation(sorted(found))[:limit]
    return {str(name): found[str(name)] for name in sorted(chosen)}


def at_random(given: Given, truth: Structure, rng: np.random.Generator) -> tuple[Structure, np.ndarray]:
    """The control: ions anywhere that is 1.5 Angstrom away from the framework."""
    framework, ions = given.framework, np.zeros((0, 3))
    while len(ions) < given.count:
        points = rng.random((200, 3))
        apart = framework.distances(points[:, None] - framework.frac).min(-1)
        ions = np.concatenate([ions, points[apart > CONTROL_A]])[: given.count]
    species = [*framework.species.tolist(), *[given.atomic_number] * given.count]
    return Structure(truth.lattice, species, np.concatenate([framework.frac, ions])), ions


def scores(given: Given, truth: Structure, shots: list[tuple[Structure, np.ndarray]]) -> dict[str, Any]:
    """Matched by the first shot and by any, in both senses, and the smallest distance of the ions."""
    rms = [given.framework.ion_rms(ions, given.removed) for _, ions in shots]
    field = [bool(np.isfinite(rms_distance(truth, structure))) for structure, _ in shots]
    strict = [r < STRICT_A for r in rms]
    return {
        "field_1": field[0], "field_10": any(field), "strict_1": bool(strict[0]), "strict_10": bool(any(strict)),
        "ions_rms_A_1": round(rms[0], 3), "ions_rms_A_10": round(min(rms), 3),
    }  # fmt: skip


def regenerate(model: CrystalModel, name: str, truth: Structure, seed: int) -> dict[str, Any]:
    """One crystal: its ions out and in again."""
    truth = truth.copy().remove_oxidation_states()
    request, fix = parse_request({"mobile_ion": ion_of(truth)}, model.specs), FixConfig()
    given = Given.of(truth, fix, request)
    row: dict[str, Any] = {"name": name, "formula": truth.composition.reduced_formula, "ions": given.count, "sites": len(truth)}
    started = time.process_time()
    task = given.task(model, fix, request, SamplerConfig(), seed)
    try:
        made = task.run(torch.arange(TRIALS_TEN))
    except SSEError as error:
        made, row["failed"] = {}, str(error)
    structures = {i: given.structure(task, placement) for i, placement in made.items()}
    one = distinct(given, {i: p for i, p in made.items() if i < TRIALS_ONE}, structures)[:1]
    ten = distinct(given, made, structures)[:SHOTS]
    row |= {"cpu_s": round(time.process_time() - started, 2), "different": len(ten)}
    rng = np.random.default_rng([seed, *name.encode()])
    row["control"] = scores(given, truth, [at_random(given, truth, rng) for _ in range(SHOTS)])
    if not ten or not one:
        return row | dict.fromkeys(("field_1", "field_10", "strict_1", "strict_10", "one_trial"), False)
    shots = scores(given, truth, [(structures[i], made[i].ions) for i in ten])
    best = scores(given, truth, [(structures[one[0]], made[one[0]].ions)])
    shots |= {key: best[key] for key in ("field_1", "strict_1", "ions_rms_A_1")}
    crystal: Orbits = made[ten[0]].crystal
    single = 0 in made and given.framework.ion_rms(made[0].ions, given.removed) < STRICT_A
    return row | shots | {"one_trial": bool(single), "space_group": crystal.group}


def rates(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """k of n with Wilson intervals, of the model and of the control."""
    numbers: dict[str, Any] = {"n": len(rows)}
    for key in ("field_1", "field_10", "strict_1", "strict_10"):
        for label, values in ((key, [r[key] for r in rows]), (f"control_{key}", [r["control"][key] for r in rows])):
            numbers[label] = {"k": sum(values), "rate": sum(values) / len(rows), "ci95": wilson(sum(values), len(rows))}
    k = sum(r["one_trial"] for r in rows)
    numbers["one_trial_strict"] = {"k": k, "rate": k / len(rows), "ci95": wilson(k, len(rows))}
    return numbers | {"cpu_s_per_crystal": round(float(np.mean([r["cpu_s"] for r in rows])), 2)}


def main(arguments: list[str]) -> None:
    """Regenerate all sets and write the rates."""
    asked = options(arguments, checkpoint="mp_base", data="mp", limit=32, max_sites=30, cifs="", cif_limit=12, seed=0)
    torch.set_num_threads(1)
    model, stored = load_model(asked["checkpoint"])
    seed, size = asked["seed"], asked["max_sites"]
    sets = {"validation": validation_crystals(asked["data"], asked["limit"], size, seed)}
    sets["named"] = {name: PROTOTYPES[name].structure().get_primitive_structure() for name in NAMED}
    if asked["cifs"]:
        sets["ordered_cifs"] = ordered_cifs(asked["cifs"], asked["cif_limit"], size, seed)
    results: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for label, crystals in sets.items():
        for name, truth in tqdm(crystals.items(), desc=label, unit="crystal"):
            results[label].append(regenerate(model, name, truth, seed))
    record = {"protocol": " ".join((__doc__ or "").split()), "checkpoint_sha256": stored.sha256, "seed": seed}
    record |= {label: rates(rows) | {"crystals": rows} for label, rows in results.items()}
    write("inpainting", record, speed=False)


if __name__ == "__main__":
    main(sys.argv[1:])

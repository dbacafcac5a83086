"""Known conductors against insulators through the short MD gate, as a user would run it: `sse verify FOLDER` with its defaults.

    python benchmarks/conductors_insulators.py obelix=obelix_train_cifs.zip table=mp_structures.parquet out=runs/gate

Crystals are published ones: CIFs of OBELiX (LGPS, argyrodite and garnet with their partial occupancies, ordered by the command
itself), rows of the structures table, and rock salt at its measured edge. The verdict asked for is "mobile" for conductors and
"not mobile" for insulators. Resumable; writes results/conductors_insulators.json and docs/figures/conductors_insulators.png.
"""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from measure import RESULTS, machine, options

from sse_diffusion.core.atomic_files import read_json, write_bytes_atomically, write_json_atomically

FIGURE = Path(__file__).parents[1] / "docs" / "figures" / "conductors_insulators.png"


@dataclass(frozen=True)
class Known:
    """A crystal and what is known of it.

    Attributes:
        name: file name of its CIF.
        conducts: what the gate should say.
        source: ``obelix:ID``, ``mp:ID`` or ``rock_salt:FORMULA:EDGE_IN_ANGSTROM``.
        sigma: measured at room temperature, S/cm, in words.
    """

    name: str
    conducts: bool
    source: str
    sigma: str


CRYSTALS = (
    Known("Li10GeP2S12", True, "obelix:j8q", "1.2e-2"),
    Known("Li6PS5Cl", True, "obelix:122", "about 3e-3"),
    Known("Li3N", True, "obelix:gvd", "about 1e-3 in the layers"),
    Known("Li7La3Zr2O12", True, "obelix:etz", "about 5e-4"),
    Known("LiF", False, "rock_salt:LiF:4.027", "below 1e-10"),
    Known("LiCl", False, "rock_salt:LiCl:5.130", "below 1e-9"),
    Known("Li2O", False, "mp:mp-1960", "below 1e-9"),
    Known("Li4SiO4", False, "mp:mp-11737", "below 1e-8"),
    Known("Li4GeO4", False, "obelix:dth", "1.3e-12"),
    Known("Li3PO4", False, "obelix:w7d", "4e-18"),
)


def write_cif(known: Known, folder: Path, obelix: Path, table: Path) -> None:
    """The crystal as ``folder/NAME.cif``, unless it is there."""
    path = folder / f"{known.name}.cif"
    if path.is_file():
        return
    kind, *rest = known.source.split(":")
    if kind == "obelix":
        with zipfile.ZipFile(obelix) as archive:
            write_bytes_atomically(path, archive.read(f"{rest[0]}.cif"))
        return
    structure = rock_salt(*rest) if kind == "rock_salt" else row_of(table, rest[0])
    write_bytes_atomically(path, structure.to(fmt="cif").encode())


def rock_salt(formula: str, edge_A: str) -> Any:
    """Two interpenetrating face-centred lattices at the measured edge."""
    from pymatgen.core import Composition, Lattice, Structure

    ions = [e.symbol for e in Composition(formula).elements]
    return Structure.from_spacegroup("Fm-3m", Lattice.cubic(float(edge_A)), ions, [(0, 0, 0), (0.5, 0.5, 0.5)])


def row_of(table: Path, material_id: str) -> Any:
    """A crystal of the structures table."""
    import pandas as pd
    from pymatgen.core import Lattice, Structure

    rows = pd.read_parquet(table, filters=[("material_id", "==", material_id)])
    row = rows.iloc[0]
    cell = Lattice.from_parameters(*(float(row[k]) for k in ("a", "b", "c", "alpha", "beta", "gamma")))
    return Structure(cell, [int(z) for z in row["atomic_numbers"]], np.reshape(row["frac_coords"], (-1, 3)))


def verdicts(out: Path) -> list[dict[str, Any]]:
    """One row per crystal from ``verification.json`` and the curves of ``md/``."""
    page = read_json(out / "verification.json") or {}
    rows = {str(r["id"]).split("-ordering")[0].split("_")[0]: r for r in page.get("crystals", [])}
    made = []
    for known in CRYSTALS:
        row = rows.get(known.name, {})
        said = row.get("md_mobile")
        moved = ("md_msd_A2", "md_framework_msd_A2", "md_framework_shift")
        kept = ("id", "md_status", *moved, "md_hops", "md_n_atoms", "md_kept_ps", "md_seconds")
        made.append(
            {
                "crystal": known.name,
                "source": known.source,
                "measured_S_per_cm": known.sigma,
                "conducts": known.conducts,
                "mobile": said,
                "right": said is known.conducts,
                **{k: row.get(k) for k in kept},
                "reason": row.get("reason", ""),
            }
        )
    return made


def draw(rows: list[dict[str, Any]], out: Path) -> None:
    """Mean squared displacement of the lithium against the lag, and of the framework, at 1000 K."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, 2, figsize=(8.4, 3.8), layout="constrained", sharex=True, sharey=True)
    for axes, key, title in zip(panels, ("msd_mobile_A2", "msd_framework_A2"), ("lithium", "framework"), strict=True):
        for i, row in enumerate(rows):
            record = read_json(out / "md" / str(row["id"]) / "md.json")
            if record is None or not record["times_ps"]:
                continue
            style = "-" if row["conducts"] else "--"
            axes.plot(record["times_ps"][1:], record[key][1:], style, color=f"C{i}", lw=1.4, label=row["crystal"])
        if key == "msd_mobile_A2":
            axes.axhline(1.0, color="0.4", lw=0.8, ls=":")
        axes.set(yscale="log", xlabel="lag (ps)", title=f"{title}, 1000 K", ylim=(0.03, 20))
    panels[0].set_ylabel("mean squared displacement (A$^2$)")
    panels[1].legend(fontsize=7, ncols=2)
    FIGURE.parent.mkdir(exist_ok=True)
    figure.savefig(FIGURE, dpi=150)
    plt.close(figure)


def main() -> None:
    """``key=value`` options: obelix (CIF archive), table (structures), out (run folder), max_seconds (wall cap of a run)."""
    data = "../shared/data"
    given = options(
        sys.argv[1:],
        obelix=f"{data}/conductivity/obelix_train_cifs.zip",
        table=f"{data}/structures/mp_structures.parquet",
        out="runs/gate",
        max_seconds=1200.0,
    )
    out = Path(given["out"])
    folder = out / "cifs"
    folder.mkdir(parents=True, exist_ok=True)
    for known in CRYSTALS:
        write_cif(known, folder, Path(given["obelix"]), Path(given["table"]))
    command = ["sse", "verify", f"input={folder}", f"out={out}", "mobile_ion=Li", "verification/executor=serial"]
    command.append(f"verification.md_gate.max_seconds={given['max_seconds']}")
    subprocess.run([sys.executable, "-m", "sse_diffusion.cli", *command[1:]], check=False)
    rows = verdicts(out)
    right = sum(row["right"] for row in rows)
    record = {"command": " ".join(command), "right": right, "n": len(rows), "crystals": rows, **machine()}
    write_json_atomically(RESULTS / "conductors_insulators.json", record)
    draw(rows, out)
    print(json.dumps({"right": right, "n": len(rows)}))


if __name__ == "__main__":
    main()

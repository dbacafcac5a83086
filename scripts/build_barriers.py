"""Bond-valence barriers of every crystal of a table that holds Li, Na, K, Mg or Ag; see docs/verification.md.

python scripts/build_barriers.py data=mp workers=4 out=sse_diffusion/thermo/assets/migration_barriers.csv.xz

data=... and data.x=... choose the table as in training; the other words are fields of BarrierTableConfig (workers, limit, store,
out, compute, percolation.points, ...). An interrupted run goes on where it stopped; compute=false only writes the table.
"""

from __future__ import annotations

import logging
import shlex
import sys
from typing import Any

from omegaconf import OmegaConf

from sse_diffusion.core.compose import compose
from sse_diffusion.core.config import build
from sse_diffusion.core.errors import SSEError
from sse_diffusion.data.sources import load_source
from sse_diffusion.verification.barrier_table import BarrierTableConfig, build_table


def main(arguments: list[str]) -> None:
    """Read the table without its labels (they may come from the file that is written here), compute, write."""
    about_data = [a for a in arguments if a.startswith(("data=", "data."))] or ["data=mp"]
    source: Any = OmegaConf.to_container(compose("train", about_data).data, resolve=True)
    config = build(BarrierTableConfig, OmegaConf.from_dotlist([a for a in arguments if a not in about_data]))
    source = {key: value for key, value in source.items() if "labels" not in key}
    build_table(load_source(source).rows, config, f"python scripts/build_barriers.py {shlex.join(arguments)}")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        main(sys.argv[1:])
    except SSEError as error:
        sys.exit(f"error: {error}")

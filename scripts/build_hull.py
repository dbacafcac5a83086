"""Relax the reference phases with one engine and merge them into the hull table that ships; see docs/hull.md.

python scripts/build_hull.py structures_path=... energies_path=... heldout_path=... compositions_path=... [compute=false]

The first word may name another protocol of configs/verification/hull: chgnet_all is the table of every chemistry. An interrupted
run goes on where it stopped; compute=false only merges.
"""

from __future__ import annotations

import logging
import sys

from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import OmegaConf

from sse_diffusion.core.config import config_dir
from sse_diffusion.core.errors import ConfigError, SSEError
from sse_diffusion.verification.hull_merge import build_table


def main(overrides: list[str]) -> None:
    """Compose the configuration, compute, merge."""
    name = overrides.pop(0) if overrides and "=" not in overrides[0] else "chgnet"
    with initialize_config_dir(config_dir=str(config_dir() / "verification" / "hull"), version_base="1.3"):
        config = compose(name, overrides=overrides)
    if missing := sorted(OmegaConf.missing_keys(config)):
        raise ConfigError(f"build_hull needs {', '.join(missing)}", "for example structures_path=data/crystals.parquet")
    build_table(OmegaConf.to_container(config, resolve=True))


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        main(sys.argv[1:])
    except (SSEError, HydraException) as error:
        sys.exit(f"error: {error}")

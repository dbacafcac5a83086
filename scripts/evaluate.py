"""Hydra main of `sse evaluate`: the same verb, with Hydra's sweeps (-m) and completion. See configs/evaluate.yaml."""

from __future__ import annotations

import sys

import hydra
from omegaconf import DictConfig

from sse_diffusion.cli import run_verb


@hydra.main(version_base="1.3", config_path="../configs", config_name="evaluate")
def main(config: DictConfig) -> None:
    """Run the verb on the composed configuration and exit with its code."""
    if code := run_verb("evaluate", config):
        sys.exit(code)


if __name__ == "__main__":
    main()

"""What a checkpoint was trained on, for the leakage warning of sse evaluate task=predictor; training writes the same file.

python scripts/build_training_index.py stability_composition band_gap_composition formation_energy mechanics
"""

from __future__ import annotations

import sys
from importlib import import_module

from sse_diffusion.core.checkpoint import checkpoint_dir
from sse_diffusion.core.compose import compose
from sse_diffusion.core.task import prepare_task


def main(names: list[str]) -> None:
    """Read the tables that experiment=predictor_NAME trains on and write checkpoints/NAME/trained_on.npy."""
    for name in names:
        task, config = prepare_task(compose(f"experiment/predictor_{name}"))
        index = import_module(task.__module__).training_index(config)
        index.save(checkpoint_dir(name))
        print(f"{name}: {len(index)} compositions")


if __name__ == "__main__":
    main(sys.argv[1:])

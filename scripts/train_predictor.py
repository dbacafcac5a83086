"""Train a predictor that knows the composition only: `python scripts/train_predictor.py NAME [key=value ...]`.

NAME and keys: configs/predictors/NAME.yaml (stability_composition, band_gap_composition).
"""

from __future__ import annotations

import json
import sys

from sse_diffusion.core.compose import compose
from sse_diffusion.core.config import build
from sse_diffusion.core.errors import SSEError
from sse_diffusion.predictors.composition_training import CompositionTrainConfig, train_composition


def main() -> None:
    """Train, calibrate, score; the metrics go to standard output as well as to ``out/metrics.json``."""
    if len(sys.argv) < 2:
        sys.exit("usage: python scripts/train_predictor.py stability_composition|band_gap_composition [key=value ...]")
    try:
        metrics = train_composition(build(CompositionTrainConfig, compose(f"predictors/{sys.argv[1]}", sys.argv[2:])))
    except SSEError as error:
        sys.exit(f"error: {error}")
    sys.stdout.write(json.dumps({k: metrics[k] for k in ("rows", "val", "test_new_systems")}, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""Train the composition-stability predictor: `python scripts/train_stability.py [key=value ...]`.

Keys: configs/predictors/stability_composition.yaml.
"""

from __future__ import annotations

import json
import sys

from sse_diffusion.core.compose import compose
from sse_diffusion.core.config import build
from sse_diffusion.core.errors import SSEError
from sse_diffusion.predictors.stability_training import StabilityTrainConfig, train_stability


def main() -> None:
    """Train, calibrate, score; the metrics go to standard output as well as to ``out/metrics.json``."""
    try:
        metrics = train_stability(build(StabilityTrainConfig, compose("predictors/stability_composition", sys.argv[1:])))
    except SSEError as error:
        sys.exit(f"error: {error}")
    sys.stdout.write(json.dumps({k: metrics[k] for k in ("rows", "val", "test_new_systems")}, indent=1) + "\n")


if __name__ == "__main__":
    main()

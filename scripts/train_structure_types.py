"""Build the library of structure types and train its scorer: `python scripts/train_structure_types.py [key=value ...]`.

Keys: configs/diffusion/structure_types.yaml.
"""

from __future__ import annotations

import json
import sys

from sse_diffusion.core.compose import compose
from sse_diffusion.core.errors import SSEError
from sse_diffusion.diffusion.structure_types.build import run_build


def main() -> None:
    """Build, measure, store; what was measured goes to standard output as well as to ``out/metrics.json``."""
    try:
        measured = run_build(compose("diffusion/structure_types", sys.argv[1:]))
    except SSEError as error:
        sys.exit(f"error: {error}")
    sys.stdout.write(json.dumps(measured, indent=1) + "\n")


if __name__ == "__main__":
    main()

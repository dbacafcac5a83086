"""Soft labels for the conductivity predictor from the dynamics of finished runs, as a CSV.

python scripts/build_soft_labels.py RUN [RUN ...] out=md_labels.csv ion=Li
sse train experiment=predictor_conductivity soft_labels=[md_labels.csv]
"""

from __future__ import annotations

import sys

from sse_diffusion.core.errors import ConfigError, SSEError, did_you_mean
from sse_diffusion.verification.conductivity_labels import write_soft_labels


def main(arguments: list[str]) -> None:
    """Folders of sse verify or sse design, and the options ``out`` and ``ion``."""
    options = {"out": "md_labels.csv", "ion": "Li"} | dict(a.split("=", 1) for a in arguments if "=" in a)
    runs = [a for a in arguments if "=" not in a]
    if unknown := sorted(set(options) - {"out", "ion"}):
        raise ConfigError(f"unknown option {unknown[0]!r}", did_you_mean(unknown[0], ["out", "ion"]))
    if not runs:
        raise ConfigError("no run is given", "name folders of sse verify or sse design")
    n = write_soft_labels(runs, options["out"], options["ion"])
    print(f"{n} labels of {len(runs)} runs -> {options['out']}")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except SSEError as error:
        sys.exit(f"error: {error}")

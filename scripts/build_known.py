"""Index of the training crystals for the novelty check: hashes of (reduced formula, space group), nothing else.

python scripts/build_known.py data=mp out=checkpoints/mp_base/known.npy
"""

from __future__ import annotations

import sys

from sse_diffusion.core.compose import compose
from sse_diffusion.data.datamodule import CrystalDataModule, LoaderConfig
from sse_diffusion.verification.novelty import KnownIndex


def main(arguments: list[str]) -> None:
    """Parse the data config as training does and write the index (train and validation rows)."""
    from omegaconf import OmegaConf

    out = next((a.removeprefix("out=") for a in arguments if a.startswith("out=")), "known.npy")
    cfg = compose("train", [a for a in arguments if not a.startswith("out=")])
    source = OmegaConf.to_container(cfg.data, resolve=True)
    dataset = CrystalDataModule(source, LoaderConfig(cache_dir=cfg.loader.cache_dir)).dataset
    crystals = (dataset.orbits(i) for i in range(len(dataset)))
    index = KnownIndex.build((c.to_structure().composition.reduced_formula, c.group) for c in crystals)
    index.save(out)
    print(f"{len(index)} pairs of {len(dataset)} crystals -> {out}")


if __name__ == "__main__":
    main(sys.argv[1:])

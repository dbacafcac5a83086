"""Band gap from composition alone: the independent judge of crystals that were asked for a band gap."""

from __future__ import annotations

from typing import ClassVar

from sse_diffusion.predictors.composition import CompositionPredictor, Target


class CompositionBandGap(CompositionPredictor):
    """Predicts the PBE band gap of the lowest known crystal of a composition, eV.

    It cannot tell polymorphs apart. Metals are labels of 0 that are known to be "at or below 0" only, so the location may be
    negative (``provenance["signed_value"]``: how clearly a metal) and is cut at 0.
    """

    kind: ClassVar[str] = "band_gap_composition"
    targets: ClassVar[tuple[Target, ...]] = (Target(name="band_gap", unit="eV", floor=0.0),)

"""What every property predictor looks like from outside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from sse_diffusion.core.results import Quantity

if TYPE_CHECKING:
    from pymatgen.core import Structure


@runtime_checkable
class Predictor(Protocol):
    """A property of a crystal, predicted in milliseconds with a calibrated interval.

    ``uncertainty`` of each returned quantity is the calibrated half-width of the central 68 % interval;
    ``provenance["interval_95"]`` holds the calibrated 95 % interval. A crystal outside the training domain is answered
    with status ``unconverged``, a wide interval and the reason; one that cannot be read, with status ``failed``.
    ``provenance["domain_percentile"]``, where given: share of the training materials that were closer to the others.

    A pymatgen ``Composition`` may stand for a crystal of unknown structure; a predictor that needs the structure answers
    ``failed``. Register a predictor by a file in configs/predictors/property (docs/add_a_property.md).
    """

    name: str
    unit: str

    def predict(self, structures: Sequence[Structure]) -> list[Quantity]:
        """One quantity per structure, in the same order; an empty input gives an empty list."""
        ...

"""What every predictor must do. A plug-in's test class inherits :class:`PredictorContract` and gives a predictor.

class TestMine(PredictorContract):
    def make(self): return MyPredictor.load()
    def reload(self, predictor, folder): predictor.save(folder); return MyPredictor.load(folder)
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from statistics import median
from typing import Any

from pymatgen.core import Lattice, Structure

from sse_diffusion.core.results import Quantity, Status
from sse_diffusion.predictors.protocol import Predictor


def rock_salt(cation: str, anion: str, a: float = 5.0) -> Structure:
    """Primitive rock-salt cell; ``a`` is the conventional lattice parameter in Angstrom."""
    half = a / 2
    lattice = Lattice([[0, half, half], [half, 0, half], [half, half, 0]])
    return Structure(lattice, [cation, anion], [[0, 0, 0], [0.5, 0.5, 0.5]])


class PredictorContract:
    """Inherit, override :meth:`make` (and :meth:`reload`), and pytest does the rest.

    Attributes:
        foreign: element that the predictor was not trained on.
    """

    foreign = "No"

    def make(self) -> Predictor:
        """A predictor ready to predict."""
        raise NotImplementedError

    def reload(self, predictor: Any, folder: Path) -> Predictor:
        """Write the predictor to ``folder`` and read it back."""
        predictor.save(folder)
        return type(predictor).load(folder)

    def crystals(self) -> list[Structure]:
        """Crystals well inside the domain."""
        return [rock_salt("Li", "Cl", 5.1), rock_salt("Mg", "O", 4.2), rock_salt("Na", "I", 6.5)]

    def test_is_a_predictor(self) -> None:
        """It has the protocol's members."""
        assert isinstance(self.make(), Predictor)

    def test_one_quantity_per_crystal(self) -> None:
        """Same length and order as the input, and none for none."""
        predictor, crystals = self.make(), self.crystals()
        together = predictor.predict(crystals)
        alone = [predictor.predict([crystal])[0] for crystal in crystals]
        assert predictor.predict([]) == []
        assert all(isinstance(q, Quantity) and q.unit == predictor.unit and q.ok for q in together)
        for a, b in zip(together, alone, strict=True):
            assert math.isclose(a.value, b.value, abs_tol=1e-5), "a crystal's prediction depends on its neighbours in the list"

    def test_cell_choice_does_not_matter(self) -> None:
        """A supercell is the same crystal."""
        predictor = self.make()
        crystal = self.crystals()[0]
        supercell = crystal.copy()
        supercell.make_supercell([2, 1, 1])
        one, two = predictor.predict([crystal, supercell])
        assert math.isclose(one.value, two.value, abs_tol=1e-5)

    def test_interval(self) -> None:
        """The 95 % interval holds the value; the 68 % half-width is positive."""
        for quantity in self.make().predict(self.crystals()):
            low, high = quantity.provenance["interval_95"]
            assert low <= quantity.value <= high
            assert quantity.uncertainty > 0

    def test_outside_the_domain(self) -> None:
        """An element never seen: flagged, with the reason, and less certain than the crystals inside usually are."""
        predictor = self.make()
        inside = predictor.predict(self.crystals())
        outside = predictor.predict([rock_salt(self.foreign, "O")])[0]
        assert outside.status in (Status.UNCONVERGED, Status.FAILED)
        assert self.foreign in outside.reason
        if outside.status is Status.UNCONVERGED:
            assert outside.uncertainty > median(q.uncertainty for q in inside)

    def test_results_are_plain_json(self) -> None:
        """Every result can be written to the ledger as it is."""
        for quantity in self.make().predict([*self.crystals(), rock_salt(self.foreign, "O")]):
            json.dumps(quantity.to_dict(), allow_nan=False)

    def test_checkpoint_round_trip(self, tmp_path: Path) -> None:
        """The same numbers after saving and loading."""
        predictor = self.make()
        before = predictor.predict(self.crystals())
        after = self.reload(predictor, tmp_path / "copy").predict(self.crystals())
        assert [(q.value, q.uncertainty) for q in before] == [(q.value, q.uncertainty) for q in after]

"""What an electrolyte touches: electrode materials by name, or any formula."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sse_diffusion.core.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from pymatgen.core import Composition

METAL = "metal"
"""The mobile ion's own metal."""
CATHODES = {
    "LCO": "LiCoO2",
    "LFP": "LiFePO4",
    "NMC111": "Li3NiMnCoO6",
    "NMC811": "Li10Ni8MnCoO20",
    "S": "S",
}
"""Name -> formula. A mixed one that is no phase of the table has the energy of the hull at its composition."""


def partner_composition(name: str, ion: str = "Li") -> Composition:
    """Of one formula unit of a partner.

    Args:
        name: ``metal``, one of :data:`CATHODES`, or a formula such as ``LiCoO2`` or ``Li0.5CoO2``.
        ion: whose metal is meant by ``metal``.

    Raises:
        ConfigError: neither a name nor a formula.
    """
    from pymatgen.core import Composition, Element

    formula = ion if name == METAL else CATHODES.get(name, name)
    try:
        composition = Composition(formula)
        known = len(composition) > 0 and all(Element.is_valid_symbol(symbol) for symbol in composition.chemical_system_set)
    except ValueError:
        known = False
    if not known:
        hint = did_you_mean(name, (METAL, *CATHODES))
        raise ConfigError(f"{name!r} is no formula of a reaction partner", f"write it as in LiCoO2; {hint}")
    return Composition(composition.reduced_formula)

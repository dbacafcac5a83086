"""Units as people write them ("50 meV/atom", "25 C", "1 bar"), converted to the unit a field is kept in."""

from __future__ import annotations

from sse_diffusion.core.errors import ConfigError, did_you_mean

_FAMILIES: dict[str, dict[str, tuple[float, float]]] = {
    # unit -> (factor, offset): value in the family's base unit = factor * value + offset
    "energy per atom": {"eV/atom": (1.0, 0.0), "meV/atom": (1e-3, 0.0)},
    "energy": {"eV": (1.0, 0.0), "meV": (1e-3, 0.0)},
    "temperature": {"K": (1.0, 0.0), "C": (1.0, 273.15), "°C": (1.0, 273.15), "degC": (1.0, 273.15)},
    "pressure": {
        "GPa": (1.0, 0.0),
        "MPa": (1e-3, 0.0),
        "Pa": (1e-9, 0.0),
        "bar": (1e-4, 0.0),
        "kbar": (1e-1, 0.0),
        "atm": (1.01325e-4, 0.0),
    },
    "conductivity": {"S/cm": (1.0, 0.0), "mS/cm": (1e-3, 0.0), "S/m": (1e-2, 0.0), "mS/m": (1e-5, 0.0)},
    "diffusivity": {"cm^2/s": (1.0, 0.0), "m^2/s": (1e4, 0.0)},
    "density": {"g/cm^3": (1.0, 0.0), "kg/m^3": (1e-3, 0.0)},
    "volume per atom": {"A^3/atom": (1.0, 0.0), "nm^3/atom": (1e3, 0.0)},
}


def convert(value: float, unit: str, target: str, name: str) -> float:
    """``value`` of ``unit`` in ``target``.

    Args:
        value: the number as written.
        unit: unit text as written; the empty string means ``target``.
        target: unit the field is kept in (empty for a dimensionless field).
        name: field name, for the error message.

    Raises:
        ConfigError: the unit is unknown, or measures something else (eV is not eV/atom).
    """
    if unit in ("", target):
        return value
    accepted = next((family for family in _FAMILIES.values() if target in family), {target: (1.0, 0.0)} if target else {})
    if unit not in accepted:
        if not accepted:
            raise ConfigError(f"{name} has no unit, but {unit!r} was given", "write the bare number")
        raise ConfigError(f"{name} is in {target}; the unit {unit!r} cannot be converted to it", did_you_mean(unit, accepted))
    factor, offset = accepted[unit]
    target_factor, target_offset = accepted[target]
    if factor == target_factor:  # keeps 0.05 eV exactly 0.05
        return value + offset - target_offset if offset != target_offset else value
    return (value * factor + offset - target_offset) / target_factor

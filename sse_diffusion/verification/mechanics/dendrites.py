"""Two mechanical criteria for dendrites at a metal | solid electrolyte interface, and why neither is a promise.

Both are continuum limits of perfect interfaces. Li7La3Zr2O12 passes Monroe and Newman's criterion with a wide margin and
shorts all the same, along grain boundaries, pores and electronically conducting paths (Porz et al., Adv. Energy Mater. 7, 1701003
(2017); Han et al., Nat. Energy 4, 187 (2019)); every result carries that sentence in its provenance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from sse_diffusion.core.errors import DataError
from sse_diffusion.core.results import Quantity, Status

FARADAY_C_PER_MOL = 96485.33212
CAUTION = (
    "a continuum limit of a perfect interface: Li7La3Zr2O12 passes the shear-modulus criterion and shorts all the same, "
    "along grain boundaries, pores and electronically conducting paths"
)


@dataclass(frozen=True, kw_only=True)
class Metal:
    """The anode.

    Attributes:
        name: e.g. ``"Li"``.
        shear_modulus_GPa, poisson_ratio: elastic constants of the polycrystal.
        molar_volume_cm3: of the metal.
        surface_tension_J_per_m2: of the interface with the electrolyte.
        charge: of its ion.
    """

    name: str
    shear_modulus_GPa: float
    poisson_ratio: float
    molar_volume_cm3: float
    surface_tension_J_per_m2: float
    charge: int = 1


LITHIUM = Metal(name="Li", shear_modulus_GPa=3.4, poisson_ratio=0.42, molar_volume_cm3=13.0, surface_tension_J_per_m2=0.556)
"""Constants of Monroe and Newman (2005) and of Ahmad and Viswanathan (2017); the surface tension is that of bare lithium."""


def monroe_newman(
    shear_modulus: Quantity,
    poisson_ratio: float,
    ion_volume_ratio: float,
    *,
    metal: Metal = LITHIUM,
    wavelength_nm: float = 100.0,
) -> Quantity:
    """Stability parameter chi of a rippled interface, kJ/(mol nm): positive flattens the ripple, negative lets it grow.

    Monroe and Newman, J. Electrochem. Soc. 152, A396 (2005), in the form for a solid single-ion conductor (Ahmad and
    Viswanathan, Phys. Rev. Lett. 119, 056003 (2017)). A ripple u = A cos(k x) of the metal (e) into the electrolyte (s)
    shifts the electrons'
    electrochemical potential by d_mu = chi A cos(k x),

        chi A = -V (1 + v) / 2z (-gamma k^2 A + tau_e - tau_s) + V (1 - v) / 2z (p_e + p_s)

    with tau the normal deviatoric stress (compression positive) and p the pressure at the crest, V the molar volume of the metal
    and v that of the ion in the electrolyte relative to it. Both solids are isotropic half-spaces in plane strain, with
    continuous
    displacement and shear traction. Without surface tension the sign depends on G_s/G_e and v alone: v < 1 is stabilised by a
    stiff electrolyte (from G_s/G_e = 0.7 at v = 0), v > 1 by a soft one.

    Args:
        shear_modulus: of the electrolyte, GPa; its uncertainty is propagated.
        poisson_ratio: of the electrolyte.
        ion_volume_ratio: v, partial molar volume of the mobile ion in the electrolyte over that of the metal.
        metal: the anode.
        wavelength_nm: of the ripple; surface tension stabilises the short ones.

    Returns:
        chi; ``provenance`` holds ``verdict`` and ``shear_ratio`` as text, and the caution.

    Raises:
        DataError: a Poisson ratio outside (-1, 0.5), or a wavelength that is not positive.
    """
    if not (-1 < poisson_ratio < 0.5 and wavelength_nm > 0 and math.isfinite(ion_volume_ratio)):
        raise DataError("Monroe-Newman needs a Poisson ratio in (-1, 0.5), a positive wavelength and a finite volume ratio")
    unit, provenance = "kJ/(mol nm)", _provenance(metal, wavelength_nm=wavelength_nm, ion_volume_ratio=ion_volume_ratio)
    if shear_modulus.status is Status.FAILED:
        return Quantity.failed(f"no shear modulus: {shear_modulus.reason}", unit, **provenance)
    k = 2 * math.pi / wavelength_nm

    def chi(shear_GPa: float) -> float:
        """At one shear modulus; GPa cm^3/mol = kJ/mol, J/m^2 = GPa nm."""
        deviatoric, hydrostatic = _crest_stresses(shear_GPa, poisson_ratio, metal)
        surface = metal.surface_tension_J_per_m2 * k
        stress = 0.5 * (1 + ion_volume_ratio) * (surface + deviatoric) + 0.5 * (1 - ion_volume_ratio) * hydrostatic
        return metal.molar_volume_cm3 / metal.charge * k * stress

    value, step = chi(shear_modulus.value), 1e-3 * shear_modulus.value
    slope = (chi(shear_modulus.value + step) - chi(shear_modulus.value - step)) / (2 * step)
    provenance |= {
        "verdict": "stable" if value > 0 else "unstable",
        "shear_ratio": f"{shear_modulus.value / metal.shear_modulus_GPa:.3g}",
    }
    return Quantity(value, abs(slope) * shear_modulus.uncertainty, unit, shear_modulus.status, shear_modulus.reason, provenance)


def griffith_overpotential(
    youngs_modulus: Quantity,
    poisson_ratio: float,
    surface_energy_J_per_m2: float,
    flaw_size_um: float,
    *,
    metal: Metal = LITHIUM,
) -> Quantity:
    """Overpotential (V) at which metal plated into a flaw splits the electrolyte: Griffith's limit.

    Plating into a closed flaw raises its pressure to p = z F eta / V (Porz et al., Adv. Energy Mater. 7, 1701003 (2017);
    Klinsmann et al., J. Power Sources 442, 227226 (2019)), and a flaw of depth a runs at p = sqrt(2 E gamma / ((1 - nu^2) pi
    a)), so

        eta = V / (z F) sqrt(2 E gamma / ((1 - nu^2) pi a))

    A smaller flaw or a larger surface energy raises it; creep of the metal out of the flaw is left out, so it is pessimistic.

    Args:
        youngs_modulus: of the electrolyte, GPa; its uncertainty is propagated.
        poisson_ratio: of the electrolyte.
        surface_energy_J_per_m2: fracture energy per new surface (brittle ceramics: 0.5 to 5).
        flaw_size_um: depth of the largest surface flaw.
        metal: the anode.

    Raises:
        DataError: surface energy or flaw size not positive.
    """
    if not (surface_energy_J_per_m2 > 0 and flaw_size_um > 0 and abs(poisson_ratio) < 1):
        raise DataError("Griffith's limit needs a positive surface energy and flaw size, and |Poisson ratio| < 1")
    provenance = _provenance(metal, surface_energy_J_per_m2=surface_energy_J_per_m2, flaw_size_um=flaw_size_um)
    if youngs_modulus.status is Status.FAILED:
        return Quantity.failed(f"no Young's modulus: {youngs_modulus.reason}", "V", **provenance)
    energy_release = 2 * youngs_modulus.value * 1e9 * surface_energy_J_per_m2 / (1 - poisson_ratio**2)
    pressure_Pa = math.sqrt(energy_release / (math.pi * flaw_size_um * 1e-6))
    value = metal.molar_volume_cm3 * 1e-6 * pressure_Pa / (metal.charge * FARADAY_C_PER_MOL)
    relative = 0.5 * youngs_modulus.uncertainty / youngs_modulus.value
    provenance["pressure_GPa"] = pressure_Pa * 1e-9
    return Quantity(value, relative * value, "V", youngs_modulus.status, youngs_modulus.reason, provenance)


def volume_per_ion_ratio(volume_A3: float, n_ions: int, metal: Metal = LITHIUM) -> float:
    """Upper estimate of ``ion_volume_ratio``: all the volume of the crystal shared among its mobile ions.

    Taking a lithium ion out of a rigid framework shrinks it by much less, so the truth lies between 0 and this number.
    """
    cm3_per_mol = volume_A3 / n_ions * 0.602214076
    return cm3_per_mol / metal.molar_volume_cm3


def _crest_stresses(shear_GPa: float, poisson: float, metal: Metal) -> tuple[float, float]:
    """(tau_s - tau_e, p_e + p_s) at the crest per k A, in GPa.

    A half-space with surface displacement (a sin kx, b cos kx), decaying away from the interface, has per 2 G k cos kx the normal
    stress b - (1 - 2 nu)(a + b)/kappa and the pressure -2 (1 + nu)(a + b)/(3 kappa), and per G k sin kx the shear stress
    a - b + (a + b)/kappa, kappa = 3 - 4 nu. The electrolyte is the mirror image (b -> -b, shear stress reversed).
    """
    g_e, nu_e, g_s, nu_s = metal.shear_modulus_GPa, metal.poisson_ratio, shear_GPa, poisson
    kappa_e, kappa_s = 3 - 4 * nu_e, 3 - 4 * nu_s
    a = (g_e * (1 - 1 / kappa_e) - g_s * (1 - 1 / kappa_s)) / (g_e * (1 + 1 / kappa_e) + g_s * (1 + 1 / kappa_s))
    normal_e = 2 * g_e * (1 - (1 - 2 * nu_e) * (a + 1) / kappa_e)
    normal_s = 2 * g_s * (-1 - (1 - 2 * nu_s) * (a - 1) / kappa_s)
    pressure_e = -4 * g_e * (1 + nu_e) * (a + 1) / (3 * kappa_e)
    pressure_s = -4 * g_s * (1 + nu_s) * (a - 1) / (3 * kappa_s)
    return (normal_e + pressure_e) - (normal_s + pressure_s), pressure_e + pressure_s


def _provenance(metal: Metal, **settings: float) -> dict[str, float | str]:
    """Settings, the metal, and the caution."""
    return {**settings, "metal": metal.name, "caution": CAUTION}

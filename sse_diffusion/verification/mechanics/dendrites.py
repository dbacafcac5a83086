"""Two mechanical criteria for dendrites at a metal | solid electrolyte interface, and why neither is a promise.

Both are continuum limits of perfect interfaces. Li7La3Zr2O12 is far stiffer than twice lithium's shear modulus, the best known
form of Monroe and Newman's criterion, and shorts all the same, along grain boundaries, pores and electronically conducting paths
(Porz et al., Adv. Energy Mater. 7, 1701003 (2017); Han et al., Nat. Energy 4, 187 (2019)); every result carries that sentence in
its provenance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from sse_diffusion.core.errors import DataError
from sse_diffusion.core.results import Quantity, Status

FARADAY_C_PER_MOL = 96485.33212
CAUTION = (
    "a continuum limit of a perfect interface: Li7La3Zr2O12 is far stiffer than twice lithium and shorts all the same, "
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
"""As in the screening of Ahmad et al., ACS Cent. Sci. 4, 996 (2018); the surface tension is that of bare lithium."""


def monroe_newman(
    shear_modulus: Quantity,
    poisson_ratio: float,
    ion_volume_ratio: float,
    *,
    metal: Metal = LITHIUM,
    wavelength_nm: float = 100.0,
) -> Quantity:
    """Stability parameter chi of a rippled interface, kJ/(mol nm): negative flattens the ripple, positive lets it grow.

    Monroe and Newman, J. Electrochem. Soc. 152, A396 (2005), in the form for a solid single-ion conductor (Ahmad and
    Viswanathan, Phys. Rev. Lett. 119, 056003 (2017), and their sign). A ripple u = A cos(k x) of the metal (e) into the
    electrolyte (s) shifts the electrons' electrochemical potential by d_mu = chi A cos(k x),

        chi A = -V (1 + v) / 2z (gamma k^2 A + tau_e - tau_s) + V (1 - v) / 2z (p_e + p_s)

    with tau the normal deviatoric stress and p the pressure (mean in the plane, both compression positive) at the crest, V the
    molar volume of the metal and v that of the ion in the electrolyte relative to it. Both solids are isotropic half-spaces in
    plane strain, with continuous displacement and shear traction:

        tau_s - tau_e = 4 k A G_e G_s (2 - 3 nu_e - 3 nu_s + 4 nu_e nu_s) / N
        p_e + p_s = k A (G_s^2 (3 - 4 nu_e) - G_e^2 (3 - 4 nu_s)) / N
        N = G_e (1 - nu_e) (3 - 4 nu_s) + G_s (1 - nu_s) (3 - 4 nu_e)

    The first always lets the ripple grow. Long waves are stable only where the second wins: a small ion (v < 1: most inorganic
    solids) in a soft electrolyte (G_s/G_e < 0.76 at v = 0), or a large ion (v > 1: polymers) in a stiff one (G_s/G_e > 1.7 for
    v -> infinity), both at nu_s = 0.33. The normal traction of these fields is not continuous; the criterion is as published.

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
        stress = 0.5 * (1 + ion_volume_ratio) * (deviatoric - surface) + 0.5 * (1 - ion_volume_ratio) * hydrostatic
        return metal.molar_volume_cm3 / metal.charge * k * stress

    value, step = chi(shear_modulus.value), 1e-3 * shear_modulus.value
    slope = (chi(shear_modulus.value + step) - chi(shear_modulus.value - step)) / (2 * step)
    provenance["verdict"] = "stable" if value < 0 else "unstable"
    provenance["shear_ratio"] = f"{shear_modulus.value / metal.shear_modulus_GPa:.3g}"
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
    Klinsmann et al., J. Power Sources 442 (2019)), and a flaw of depth a runs at p = sqrt(2 E gamma / ((1 - nu^2) pi
    a)) (Griffith, plane strain; an edge crack runs 11 % earlier), so

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

    Taking a lithium ion out of a rigid framework shrinks it by much less, so the truth lies between 0 and this number; the
    sphere of Shannon's radius, which Ahmad et al. (2018) take, gives about 0.1 for lithium.
    """
    cm3_per_mol = volume_A3 / n_ions * 0.602214076
    return cm3_per_mol / metal.molar_volume_cm3


def _crest_stresses(shear_GPa: float, poisson: float, metal: Metal) -> tuple[float, float]:
    """(tau_s - tau_e, p_e + p_s) at the crest per k A, in GPa: the formulas in :func:`monroe_newman`."""
    g_e, nu_e, g_s, nu_s = metal.shear_modulus_GPa, metal.poisson_ratio, shear_GPa, poisson
    kappa_e, kappa_s = 3 - 4 * nu_e, 3 - 4 * nu_s
    shared = g_e * (1 - nu_e) * kappa_s + g_s * (1 - nu_s) * kappa_e
    deviatoric = 4 * g_e * g_s * (2 - 3 * nu_e - 3 * nu_s + 4 * nu_e * nu_s) / shared
    return deviatoric, (g_s**2 * kappa_e - g_e**2 * kappa_s) / shared


def _provenance(metal: Metal, **settings: float) -> dict[str, float | str]:
    """Settings, the metal, and the caution."""
    return {**settings, "metal": metal.name, "caution": CAUTION}

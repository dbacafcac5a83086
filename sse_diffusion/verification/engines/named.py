"""Foundation force fields by name, each through its own ASE calculator; weights are never downloaded here.

SevenNet's wheel holds weights, so ``name: sevennet`` works as it is. The others need their package and a file of weights that the
user has fetched (``model: path``). Each entry declares licence, level of theory and energy scheme; the scheme decides which hulls
its energies may enter: 7net-0 is on the raw scale of the Materials Project, so CHGNet's corrected hull refuses it.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sse_diffusion.core.config import build
from sse_diffusion.core.errors import ConfigError, EngineError, did_you_mean
from sse_diffusion.verification.engines.ase_any import AseConfig, AseEngine, verified

if TYPE_CHECKING:
    from ase.calculators.calculator import Calculator

MP_RAW = "PBE / PBE+U (Materials Project), uncorrected energies"


@dataclass(frozen=True)
class Shipped:
    """Weights inside a wheel: version, level of theory, energy scheme, and energies of the known-answer salts (eV/atom)."""

    version: str
    level_of_theory: str
    energy_scheme: str
    known_eV_per_atom: Mapping[str, float]


@dataclass(frozen=True)
class NamedEngine:
    """What is known of a force field before its weights are seen.

    Attributes:
        package: what to ``pip install``.
        licence: of package and published weights; a file of the user's own may differ.
        weights: where a user finds weights.
        memory_law: how its memory grows, in words.
        make: ``(model, device) -> calculator``; imports the package.
        shipped: weights that come with the package, by name; the first is the default.
    """

    package: str
    licence: str
    weights: str
    memory_law: str
    make: Callable[[str, str], Calculator]
    shipped: Mapping[str, Shipped] = field(default_factory=dict)


def _sevennet(model: str, device: str) -> Calculator:
    return importlib.import_module("sevenn.calculator").SevenNetCalculator(model, device=device)


def _mace(model: str, device: str) -> Calculator:
    calculators = importlib.import_module("mace.calculators")
    return calculators.MACECalculator(model_paths=model, device=device, default_dtype="float64")


def _mattersim(model: str, device: str) -> Calculator:
    return importlib.import_module("mattersim.forcefield").MatterSimCalculator(load_path=model, device=device)


def _orb(model: str, device: str) -> Calculator:
    pretrained = importlib.import_module("orb_models.forcefield.pretrained")
    calculator = importlib.import_module("orb_models.forcefield.calculator").ORBCalculator
    # The architecture is not in the file; its name is (orb-v3-conservative-inf-omat-20250404.ckpt).
    name = "_".join(Path(model).stem.split("-")[:-1])
    return calculator(getattr(pretrained, name)(weights_path=model, device=device), device=device)


def _matgl(model: str, device: str) -> Calculator:
    potential = importlib.import_module("matgl").load_model(model).to(device)
    return importlib.import_module("matgl.ext.ase").PESCalculator(potential, stress_unit="eV/A3", use_voigt=True)


NAMED: dict[str, NamedEngine] = {
    "sevennet": NamedEngine(
        package="sevenn",
        licence="MIT",
        weights="7net-0 and 7net-l3i5 come with the package",
        memory_law="linear in atoms: a few MB per atom on 1 GB for the libraries",
        make=_sevennet,
        shipped={
            "7net-0": Shipped(
                "7net-0 (11Jul2024)",
                f"{MP_RAW}, MPtrj",
                "7net-0/MP-raw",
                {"LiF": -4.8309, "LiCl": -3.6872, "Li2O": -4.7399, "Li2S": -3.9636},
            ),
            "7net-l3i5": Shipped(
                "7net-l3i5",
                f"{MP_RAW}, MPtrj",
                "7net-l3i5/MP-raw",
                {"LiF": -4.8311, "LiCl": -3.6856, "Li2O": -4.7414, "Li2S": -3.9782},
            ),
        },
    ),
    "mace": NamedEngine(
        package="mace-torch",
        licence="MIT (code; see the model card of the weights, some are academic only)",
        weights="the releases of github.com/ACEsuit/mace-foundations",
        memory_law="linear in atoms",
        make=_mace,
    ),
    "mattersim": NamedEngine(
        package="mattersim",
        licence="MIT",
        weights="the folder pretrained_models of github.com/microsoft/mattersim",
        memory_law="linear in atoms",
        make=_mattersim,
    ),
    "orb": NamedEngine(
        package="orb-models",
        licence="Apache-2.0",
        weights="the model table of github.com/orbital-materials/orb-models; keep the file's name, it names the architecture",
        memory_law="linear in atoms",
        make=_orb,
    ),
    "matgl": NamedEngine(
        package="matgl",
        licence="BSD-3-Clause",
        weights="a folder written by matgl's Potential.save with the installed major version; older ones give wrong energies",
        memory_law="linear in atoms",
        make=_matgl,
    ),
}
"""Name in the YAML -> what it is."""


@dataclass(frozen=True, kw_only=True)
class NamedConfig:
    """An engine of :data:`NAMED`.

    Attributes:
        model: name of shipped weights, or path of a file of weights; empty = the first shipped one.
        device: ``"cpu"`` or ``"cuda"``.
        level_of_theory, energy_scheme, version, licence: of a file of weights; shipped ones have theirs.
        reference_eV_per_atom: energies of LiF, LiCl, Li2O, Li2S compared at load; required for a file of weights, because weights
            of another library version may load without an error and be wrong.
        tolerance_eV_per_atom: of that test.
    """

    model: str = ""
    device: str = "cpu"
    level_of_theory: str = ""
    energy_scheme: str = ""
    version: str = ""
    licence: str = ""
    reference_eV_per_atom: Mapping[str, float] = field(default_factory=dict)
    tolerance_eV_per_atom: float = 0.005


def load(name: str, values: Mapping[str, Any]) -> AseEngine:
    """Build one of :data:`NAMED` and run its known-answer test.

    Raises:
        ConfigError: unknown key, no such weights, or no known answers for a file of weights.
        EngineError: package missing, weights unreadable, or energies off.
    """
    entry, config = NAMED[name], build(NamedConfig, values)
    model = config.model or next(iter(entry.shipped), "")
    shipped = entry.shipped.get(model)
    if shipped is None:
        _check_file(name, entry, config)
    calculator = _made(name, entry, model, config.device)
    return verified(AseEngine(_declared(name, entry, config, model, shipped, _elements(calculator)), lambda: calculator))


def _check_file(name: str, entry: NamedEngine, config: NamedConfig) -> None:
    """A file of weights must exist and come with known answers."""
    if not config.model or not Path(config.model).exists():
        what = f"has no weights {config.model!r}" if config.model else "comes without weights"
        near = f"; {did_you_mean(config.model, entry.shipped)}" if entry.shipped else ""
        raise ConfigError(
            f"{name} {what}, and nothing is downloaded here",
            f"pip install {entry.package}, fetch weights ({entry.weights}) and set verification.engine.model to the file{near}",
        )
    if not config.reference_eV_per_atom:
        raise ConfigError(
            f"{name}: weights from a file need known answers",
            "set verification.engine.reference_eV_per_atom={LiF: ..., LiCl: ...} (static energies, eV/atom, as published or as "
            "measured once with a version that you trust)",
        )


def _made(name: str, entry: NamedEngine, model: str, device: str) -> Calculator:
    """The calculator, or one type of error with what to do."""
    try:
        return entry.make(model, device)
    except ImportError as error:
        raise EngineError(f"{name} cannot be imported: {error}", f"pip install {entry.package}") from error
    except Exception as error:  # a foreign loader may raise anything
        raise EngineError(
            f"{name} cannot load {model!r}: {error}", f"get weights that fit the installed {entry.package}"
        ) from error


def _declared(
    name: str, entry: NamedEngine, config: NamedConfig, model: str, shipped: Shipped | None, elements: tuple[str, ...]
) -> AseConfig:
    """The declaration that travels with every result."""
    stem = Path(model).stem
    return AseConfig(
        calculator=f"{name}:{stem}",
        name=name,
        version=config.version or (shipped.version if shipped else stem),
        licence=config.licence or entry.licence,
        level_of_theory=config.level_of_theory or (shipped.level_of_theory if shipped else "unknown"),
        energy_scheme=config.energy_scheme or (shipped.energy_scheme if shipped else f"{name}/{stem}"),
        memory_law=entry.memory_law,
        elements=elements,
        reference_eV_per_atom=dict(config.reference_eV_per_atom) or dict(shipped.known_eV_per_atom if shipped else {}),
        tolerance_eV_per_atom=config.tolerance_eV_per_atom,
    )


def _elements(calculator: Any) -> tuple[str, ...]:
    """Supported elements where the calculator tells (SevenNet's type map, matgl's list); empty otherwise."""
    from ase.data import chemical_symbols

    numbers = getattr(calculator, "type_map", None)
    return tuple(chemical_symbols[z] for z in numbers) if numbers else tuple(getattr(calculator, "element_types", ()))


load_sevennet, load_mace, load_mattersim, load_orb, load_matgl = (partial(load, name) for name in NAMED)

"""The contract that every force field fulfils, and the one door through which it is loaded."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from sse_diffusion.core.errors import ConfigError, EngineError, SSEError, did_you_mean

if TYPE_CHECKING:
    from ase import Atoms
    from ase.calculators.calculator import Calculator

ENGINES: dict[str, str] = {
    "chgnet": "sse_diffusion.verification.engines.chgnet:load",
    "sevennet": "sse_diffusion.verification.engines.named:load_sevennet",
    "mace": "sse_diffusion.verification.engines.named:load_mace",
    "mattersim": "sse_diffusion.verification.engines.named:load_mattersim",
    "orb": "sse_diffusion.verification.engines.named:load_orb",
    "matgl": "sse_diffusion.verification.engines.named:load_matgl",
    "ase": "sse_diffusion.verification.engines.ase_any:load",
}
"""Engine name -> ``module:function``; the function takes the rest of the YAML mapping and returns a :class:`Potential`."""

SPEED_FIELDS = ("device", "batch_atoms", "skin_A")
"""Settings that make an engine faster, not another one: results stay valid when they change."""


class EvaluationError(SSEError):
    """One structure that this engine cannot evaluate (isolated atoms, collapsed cell, unsupported element)."""


@dataclass(frozen=True)
class PotentialInfo:
    """What an engine is and which energies it may be compared with.

    Attributes:
        name: short name, e.g. ``"CHGNet"``.
        version: version of the weights.
        licence: SPDX-like identifier of the weights' licence.
        level_of_theory: what the training data were computed with.
        energy_scheme: name of the energy scale; energies of two schemes never meet in one hull.
        elements: chemical symbols it supports.
        memory_law: how its memory grows, in words.
    """

    name: str
    version: str
    licence: str
    level_of_theory: str
    energy_scheme: str
    elements: frozenset[str]
    memory_law: str

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values (elements as a sorted list)."""
        return {**asdict(self), "elements": sorted(self.elements)}


@dataclass(frozen=True)
class Evaluation:
    """Energy, forces and stress of one structure.

    Attributes:
        energy_eV: total energy of the cell, eV.
        forces_eV_per_A: (N, 3) array.
        stress_eV_per_A3: (3, 3) symmetric array, ASE's sign (positive under tension): dE/dstrain / V.
    """

    energy_eV: float
    forces_eV_per_A: np.ndarray
    stress_eV_per_A3: np.ndarray


@runtime_checkable
class Potential(Protocol):
    """Energy, forces and stress of periodic structures."""

    info: PotentialInfo

    def evaluate(self, atoms: Sequence[Atoms]) -> list[Evaluation]:
        """One :class:`Evaluation` per structure, in order.

        Raises:
            EvaluationError: a structure cannot be evaluated; the message says which and why.
        """
        ...

    def calculator(self) -> Calculator:
        """A fresh ASE calculator with energy, forces and stress."""
        ...


def load_potential(cfg: Mapping[str, Any]) -> Potential:
    """Load the engine named by ``cfg["name"]`` and run its known-answer test.

    Args:
        cfg: the YAML of ``configs/verification/engine``: ``name`` (a key of :data:`ENGINES`, or ``module:function`` of a
            plug-in) plus the keys of that engine's config dataclass.

    Raises:
        ConfigError: ``name`` missing or unknown, or an unknown key for that engine.
        EngineError: the engine cannot be imported or fails its known-answer test.
    """
    values = dict(cfg)
    name = values.pop("name", None)
    if not name:
        raise ConfigError("the engine has no name", f"set verification.engine.name; {did_you_mean('', ENGINES)}")
    target = ENGINES.get(str(name), str(name))
    if ":" not in target:
        raise ConfigError(f"unknown engine {name!r}", did_you_mean(str(name), ENGINES))
    return import_target(target)(values)


def import_target(target: str) -> Any:
    """The object behind ``"package.module:attribute"``.

    Raises:
        EngineError: the module or the attribute does not exist.
    """
    module_name, _, attribute = target.partition(":")
    try:
        return getattr(importlib.import_module(module_name), attribute)
    except ImportError as error:
        raise EngineError(f"cannot import {module_name!r}: {error}", "install the package that provides this engine") from error
    except AttributeError as error:
        raise EngineError(f"{module_name!r} has no {attribute!r}", "write the import path as module:ClassName") from error

"""Any ASE calculator, by import path, as a :class:`Potential`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from sse_diffusion.core.config import build
from sse_diffusion.core.errors import EngineError
from sse_diffusion.verification.engines import known_answer
from sse_diffusion.verification.engines.adapter import PotentialCalculator
from sse_diffusion.verification.potential import Evaluation, EvaluationError, PotentialInfo, import_target

if TYPE_CHECKING:
    from ase import Atoms
    from ase.calculators.calculator import Calculator

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class AseConfig:
    """An engine given as an ASE calculator.

    Attributes:
        calculator: ``module:ClassName``; called with ``kwargs``.
        kwargs: keywords of the calculator.
        name, version, licence, level_of_theory: what to write in the provenance.
        memory_law: how its memory grows, in words.
        energy_scheme: name of its energy scale; empty gives a scheme of its own, which no shipped hull accepts.
        elements: supported elements; empty = all.
        reference_eV_per_atom: energies of LiF, LiCl, Li2O, Li2S compared at load; empty skips the test.
        tolerance_eV_per_atom: of that test.
    """

    calculator: str
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""
    version: str = ""
    licence: str = ""
    level_of_theory: str = ""
    energy_scheme: str = ""
    memory_law: str = "unknown"
    elements: tuple[str, ...] = ()
    reference_eV_per_atom: Mapping[str, float] = field(default_factory=dict)
    tolerance_eV_per_atom: float = 0.005


class AseEngine:
    """One ASE calculator as a :class:`~sse_diffusion.verification.potential.Potential`.

    Args:
        config: see :class:`AseConfig`.
        factory: makes the calculator; ``config.calculator`` called with ``config.kwargs`` when omitted.

    Raises:
        EngineError: the calculator cannot be imported or built.
    """

    def __init__(self, config: AseConfig, factory: Callable[[], Calculator] | None = None) -> None:
        """Build the calculator once: loading weights takes seconds."""
        from ase.data import chemical_symbols

        self.config = config
        self._calculator = factory() if factory else _imported(config)
        self.info = PotentialInfo(
            name=config.name or config.calculator.rpartition(":")[2],
            version=config.version or "unknown",
            licence=config.licence or "unknown",
            level_of_theory=config.level_of_theory or "unknown",
            energy_scheme=config.energy_scheme or f"ase/{config.calculator}",
            elements=frozenset(config.elements or chemical_symbols[1:]),
            memory_law=config.memory_law,
        )

    def calculator(self) -> Calculator:
        """An ASE calculator with results of its own on the same weights."""
        return PotentialCalculator(self)

    def evaluate(self, atoms: Sequence[Atoms]) -> list[Evaluation]:
        """See :meth:`sse_diffusion.verification.potential.Potential.evaluate`."""
        return [self._evaluate_one(each) for each in atoms]

    def _evaluate_one(self, atoms: Atoms) -> Evaluation:
        formula = atoms.get_chemical_formula()
        unknown = set(atoms.get_chemical_symbols()) - self.info.elements
        if unknown:
            names = ", ".join(sorted(unknown))
            raise EvaluationError(f"{formula}: {self.info.name} does not know {names}", "choose another engine")
        copy = atoms.copy()
        copy.calc = self._calculator
        try:
            energy, forces = copy.get_potential_energy(), copy.get_forces()
            stress = copy.get_stress(voigt=False)
        except Exception as error:  # a foreign calculator may raise anything; the caller gets one type with the reason
            raise EvaluationError(f"{formula}: {self.info.name} failed: {error}") from error
        if not (np.isfinite(energy) and np.isfinite(forces).all() and np.isfinite(stress).all()):
            raise EvaluationError(f"{formula}: energy, forces or stress are not finite")
        return Evaluation(float(energy), np.asarray(forces, dtype=float), np.asarray(stress, dtype=float))


def load(values: Mapping[str, Any]) -> AseEngine:
    """Build the engine from its YAML mapping; compare known answers when the YAML gives them.

    Raises:
        ConfigError: unknown key. EngineError: cannot be built, or its energies are off.
    """
    return verified(AseEngine(build(AseConfig, values)))


def verified(engine: AseEngine) -> AseEngine:
    """The engine, once its energies agree with the known answers that its configuration gives; EngineError otherwise."""
    config = engine.config
    if not config.reference_eV_per_atom:
        logger.warning("%s: no reference energies given, the known-answer test was skipped", engine.info.name)
    known_answer.check(engine, config.reference_eV_per_atom, config.tolerance_eV_per_atom)
    return engine


def _imported(config: AseConfig) -> Calculator:
    """The calculator behind the import path."""
    calculator = import_target(config.calculator)
    try:
        return calculator(**dict(config.kwargs))
    except Exception as error:  # a foreign constructor may raise anything
        raise EngineError(f"{config.calculator} cannot be built: {error}", "check kwargs in the engine YAML") from error

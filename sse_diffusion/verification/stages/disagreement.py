"""Stage: how far a second force field disagrees on the relaxed candidate (off by default: it loads another engine)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from sse_diffusion.core.errors import ConfigError, SSEError
from sse_diffusion.core.results import Quantity
from sse_diffusion.verification.potential import Potential, load_potential
from sse_diffusion.verification.stage import BaseStage, FunnelContext, Member, StageConfig, StageOutcome

if TYPE_CHECKING:
    from pymatgen.core import Structure


@dataclass(frozen=True, kw_only=True)
class DisagreementConfig(StageConfig):
    """Settings of the disagreement stage.

    Attributes:
        second_engine: YAML mapping of the other engine, as in ``configs/verification/engine``.
        rattle_A: displacements (standard deviation) at which forces are compared; at the minimum of one engine they say little.
        n_rattled: how many displaced copies.
        max_force_rms_eV_per_A: larger disagreement stops here; ``None`` records only.
    """

    second_engine: Mapping[str, Any] = field(default_factory=lambda: {"name": "sevennet"})
    rattle_A: float = 0.1
    n_rattled: int = 4
    max_force_rms_eV_per_A: float | None = None


def disagreement(
    structure: Structure, first: Potential, second: Potential, *, rattle_A: float = 0.1, n_rattled: int = 4, seed: int = 0
) -> dict[str, Quantity]:
    """RMS difference of two engines on displaced copies of one crystal.

    Energies of two schemes have different zeros, so energies are compared as differences to the undisplaced crystal.

    Returns:
        ``energy_rms`` (eV/atom) and ``force_rms`` (eV/A, per component); failed with the reason when an engine refuses.
    """
    from pymatgen.io.ase import AseAtomsAdaptor

    atoms = AseAtomsAdaptor.get_atoms(structure, msonable=False)
    copies = [atoms]
    for index in range(n_rattled):
        copies.append(atoms.copy())
        copies[-1].rattle(rattle_A, seed=seed + index)
    names = [f"{engine.info.name} {engine.info.version}" for engine in (first, second)]
    provenance = {"engines": names, "rattle_A": rattle_A, "n_rattled": n_rattled, "seed": seed}
    try:
        results = [engine.evaluate(copies) for engine in (first, second)]
    except SSEError as error:
        units = {"energy_rms": "eV/atom", "force_rms": "eV/A"}
        return {name: Quantity.failed(error.message, unit, **provenance) for name, unit in units.items()}
    energies = np.array([[e.energy_eV for e in engine] for engine in results]) / len(atoms)
    rises = energies[:, 1:] - energies[:, :1]
    forces = np.array([[e.forces_eV_per_A for e in engine[1:]] for engine in results])
    rms = [float(np.sqrt(np.mean((pair[0] - pair[1]) ** 2))) for pair in (rises, forces)]
    return {
        "energy_rms": Quantity(rms[0], unit="eV/atom", provenance=provenance),
        "force_rms": Quantity(rms[1], unit="eV/A", provenance=provenance),
    }


class DisagreementStage(BaseStage):
    """Two-engine disagreement as columns."""

    config_class = DisagreementConfig
    in_workers = True

    def depends_on(self, members: Sequence[Member], context: FunnelContext) -> Any:
        """The first engine; the second is part of the settings."""
        return context.engine_id

    def prepare(self, missing: Sequence[Member], members: Sequence[Member], context: FunnelContext) -> None:
        """Load both engines."""
        if self.config.n_rattled < 1 or not self.config.rattle_A > 0:
            raise ConfigError("disagreement needs n_rattled >= 1 and rattle_A > 0")
        self._second = load_potential(self.config.second_engine)
        _ = context.potential

    def atom_steps(self, member: Member, context: FunnelContext) -> float:
        """The second engine is taken to be five times dearer."""
        return float(len(member.structure) * (self.config.n_rattled + 1) * 6)

    def evaluate(self, member: Member, context: FunnelContext) -> StageOutcome:
        """Fills ``disagreement_energy_eV_per_atom``, ``disagreement_force_eV_per_A`` and ``second_engine``."""
        settings = {"rattle_A": self.config.rattle_A, "n_rattled": self.config.n_rattled}
        found = disagreement(member.structure, context.potential, self._second, **settings)
        force, limit = found["force_rms"], self.config.max_force_rms_eV_per_A
        info = self._second.info
        values = {
            "disagreement_energy_eV_per_atom": found["energy_rms"].value,
            "disagreement_force_eV_per_A": force.value,
            "second_engine": f"{info.name} {info.version}",
        }
        if not force.ok:
            return StageOutcome(False, values, force.reason)
        if limit is not None and force.value > limit:
            return StageOutcome(False, values, f"two engines differ by {force.value:.3f} eV/A rms (> {limit:g})")
        return StageOutcome(True, values)

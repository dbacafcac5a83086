"""What a run will cost, what fits into the time there is, and what it did cost.

Cost of one candidate at one stage = atoms x force evaluations (``Stage.atom_steps``) x seconds per atom and evaluation. The last
factor starts from a table per engine and is replaced by what this run (and earlier ones in the same folder) measured.
"""

from __future__ import annotations

import logging
import math
import re
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sse_diffusion.core.errors import ConfigError

if TYPE_CHECKING:
    from sse_diffusion.verification.stage import FunnelContext, Member, Stage, StageResult

logger = logging.getLogger(__name__)

SECONDS = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
ENERGIES = {"Wh": 3600.0, "kWh": 3.6e6, "J": 1.0, "kJ": 1e3, "MJ": 1e6}
CHEAP_s = 0.01
"""Cost of a stage that needs no force field."""
ENOUGH = 3
"""Results of a stage after which its measured rate replaces the table's."""


@dataclass(frozen=True, kw_only=True)
class BudgetConfig:
    """Settings of the budget.

    Attributes:
        limit: time (``2h``, ``90min``, ``1h 30min``, seconds as a number) or energy (``0.2kWh``; needs ``watts``) that this call
            may use; ``None`` for no limit.
        watts: power of the machine while it works; gives energies beside times.
        seconds_per_atom_step: engine name -> seconds per atom and evaluation on one core, measured; ``default`` for others.
    """

    limit: str | float | None = None
    watts: float | None = None
    seconds_per_atom_step: Mapping[str, float] = field(default_factory=dict)


def parse_limit(text: str | float | None, watts: float | None) -> float:
    """Seconds of wall time in a budget; infinite for ``None``.

    Raises:
        ConfigError: not a time or an energy, or an energy without ``watts``.
    """
    if text is None:
        return math.inf
    parts = re.findall(r"([0-9.]+)\s*([A-Za-z]*)", str(text))
    if not parts or re.sub(r"[0-9.]+\s*[A-Za-z]*|\s", "", str(text)):
        raise ConfigError(
            f"budget={text} is no time", "write 2h, 90min, 1h30min, a number of seconds, or an energy such as 0.2kWh"
        )
    seconds = 0.0
    for number, unit in parts:
        factor = SECONDS.get(unit or "s")
        if factor is None and unit in ENERGIES:
            if not watts:
                raise ConfigError(f"budget={text} is an energy", "give the power of the machine as well: watts=65")
            factor = ENERGIES[unit] / watts
        if factor is None:
            raise ConfigError(f"budget={text}: {unit!r} is no unit", f"known: {', '.join([*SECONDS, *ENERGIES])}")
        seconds += float(number) * factor
    return seconds


class Budget:
    """Estimates, decides and keeps the books of one call.

    Args:
        config: limit, power, table of rates. engine: name of the engine. workers: candidates computed at a time.
    """

    def __init__(self, config: BudgetConfig, engine: str = "", workers: int = 1) -> None:
        """The clock starts here."""
        self.limit_s = parse_limit(config.limit, config.watts)
        self.watts, self.workers = config.watts, workers
        table = config.seconds_per_atom_step
        self.rate = float(table.get(engine, table.get("default", 0.005)))
        self.started = time.monotonic()
        self.estimate: dict[str, float] = {}
        self.left_out: dict[str, str] = {}
        self._seconds: dict[str, list[float]] = defaultdict(list)
        self._steps: dict[str, list[float]] = defaultdict(list)
        self._spent: dict[str, float] = defaultdict(float)
        self._spent_before: dict[str, float] = defaultdict(float)

    @property
    def remaining_s(self) -> float:
        """Wall time left."""
        return self.limit_s - (time.monotonic() - self.started)

    def learn(self, stage: Stage, member: Member, context: FunnelContext, result: StageResult, now: bool) -> None:
        """Take note of what a result did cost; ``now``: it was computed by this call."""
        steps = stage.atom_steps(member, context)
        if steps > 0:
            self._seconds[stage.name].append(result.seconds)
            self._steps[stage.name].append(steps)
        (self._spent if now else self._spent_before)[stage.name] += result.seconds

    def cost(self, stage: Stage, member: Member, context: FunnelContext) -> float:
        """Computing seconds expected of one candidate at one stage."""
        steps = stage.atom_steps(member, context)
        if steps <= 0:
            return CHEAP_s
        cap = float(dict(getattr(stage.config, "protocol", {})).get("max_seconds") or math.inf)
        return min(steps * self._rate(stage.name), cap)

    def _rate(self, stage: str) -> float:
        """Seconds per atom and evaluation: measured at this stage, else at all stages, else from the table."""
        own = self._seconds.get(stage, []), self._steps.get(stage, [])
        everywhere = [[x for values in book.values() for x in values] for book in (self._seconds, self._steps)]
        for seconds, steps in (own, everywhere):
            if len(steps) >= ENOUGH:
                return sum(seconds) / sum(steps)
        return self.rate

    def forecast(self, stages: Sequence[Stage], members: Sequence[Member], context: FunnelContext) -> None:
        """Computing seconds per stage if every candidate reached it, beforehand: ``estimate``."""
        for stage in stages:
            costs = sorted((self.cost(stage, m, context) for m in members), reverse=True)
            most = stage.config.max_candidates
            self.estimate[stage.name] = sum(costs if most is None else costs[:most])
        wall = sum(self.estimate.values()) / self.workers
        dear = ", ".join(f"{name} {words(s)}" for name, s in self.estimate.items() if s >= 1)
        limit = "" if math.isinf(self.limit_s) else f"; the budget is {words(self.limit_s)}"
        where = f"on {self.workers} worker(s)"
        logger.info("expected at most, %s: %s%s (%s)%s", where, words(wall), self._joules(wall), dear or "nothing dear", limit)

    def log_result(self) -> None:
        """Say what it did cost."""
        wall = time.monotonic() - self.started
        left = f"; {len(self.left_out)} left out" if self.left_out else ""
        logger.info("took %s%s%s", words(wall), self._joules(wall), left)

    def _joules(self, seconds: float) -> str:
        """`` and 12 Wh``, when the power is known."""
        return "" if self.watts is None else f" and {self._energy_Wh(seconds):.3g} Wh"

    def too_dear(
        self, stage: Stage, later: Sequence[Stage], ranked: Sequence[Member], done: Iterable[str], context: FunnelContext
    ) -> dict[str, str]:
        """Id -> reason of those that do not fit: in the order of rank, each with all that it still has to go through.

        One that is too large for what is left is passed over, a smaller one behind it may still fit. ``done``: ids whose result
        of this stage is there already; they cost nothing here.
        """
        if math.isinf(self.limit_s):
            return {}
        left, out, finished = self.remaining_s * min(self.workers, max(1, len(ranked))), {}, set(done)
        for position, member in enumerate(ranked):
            here = 0.0 if member.id in finished else self.cost(stage, member, context)
            ahead = sum(
                self.cost(s, member, context)
                for s in later
                if s.config.max_candidates is None or position < s.config.max_candidates
            )
            if here + ahead <= left or member.id in finished:
                left -= here + ahead
            else:
                out[member.id] = (
                    f"left out by the budget of {words(self.limit_s)}: it would take about {words(here + ahead)}, "
                    f"{words(max(left, 0.0))} are left after better-ranked ones"
                )
        self.left_out |= out
        return out

    def too_late(self, stage: Stage, member: Member, context: FunnelContext) -> str:
        """Why a candidate is not started any more; empty when there is time for it."""
        cost = self.cost(stage, member, context)
        if cost <= self.remaining_s:
            return ""
        reason = (
            f"left out by the budget of {words(self.limit_s)}: it would take about {words(cost)}, "
            f"{words(max(self.remaining_s, 0.0))} are left"
        )
        self.left_out[member.id] = reason
        return reason

    def _energy_Wh(self, seconds: float) -> float | None:
        """Energy of so much time; ``None`` when the power is not known."""
        return None if self.watts is None else round(seconds * self.watts / 3600, 3)

    def report(self) -> dict[str, Any]:
        """Plain values for the result file: what was expected, what was spent, what was left out."""
        wall, total = time.monotonic() - self.started, sum(self.estimate.values())
        return {
            "limit_s": None if math.isinf(self.limit_s) else self.limit_s,
            "workers": self.workers,
            "estimated_computing_s": {k: round(v, 1) for k, v in self.estimate.items()},
            "estimated_wall_s": round(total / self.workers, 1),
            "estimated_energy_Wh": self._energy_Wh(total / self.workers),
            "computing_s": {k: round(v, 3) for k, v in self._spent.items()},
            "computing_before_s": {k: round(v, 3) for k, v in self._spent_before.items()},
            "wall_s": round(wall, 1),
            "energy_Wh": self._energy_Wh(wall),
            "watts": self.watts,
            "seconds_per_atom_step": {
                k: float(f"{sum(self._seconds[k]) / sum(s):.3g}") for k, s in self._steps.items() if sum(s) > 0
            },
            "left_out": self.left_out,
        }


def words(seconds: float) -> str:
    """A time for people: ``45 s``, ``12 min``, ``2.5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"

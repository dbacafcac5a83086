"""Which guides a sampler setting and a request call for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sse_diffusion.core.errors import ConfigError, did_you_mean
from sse_diffusion.core.units import AMBIENT_PRESSURE_GPa
from sse_diffusion.diffusion.conductivity_head import MOBILE_ION, ConductivityHead
from sse_diffusion.diffusion.guidance import check_weights
from sse_diffusion.diffusion.guides.conductivity_guide import CONDUCTIVITY, ConductivityGuide
from sse_diffusion.diffusion.guides.gibbs_guide import GibbsGuide
from sse_diffusion.diffusion.guides.guide import Asked, Guide, Stage, load_guide
from sse_diffusion.diffusion.guides.heights import GIBBS, height_judges
from sse_diffusion.diffusion.guides.predictor_guide import PredictorGuide
from sse_diffusion.diffusion.guides.property_guide import PropertyGuide
from sse_diffusion.diffusion.model import CrystalModel
from sse_diffusion.diffusion.samplers import SamplerConfig
from sse_diffusion.predictors.registry import load_predictor
from sse_diffusion.thermo.competition import load_competition
from sse_diffusion.thermo.conditions import load_judged_specs
from sse_diffusion.thermo.gibbs import MIN_TEMPERATURE_K
from sse_diffusion.thermo.request import ROOM_TEMPERATURE_K, Interval

COMPOSITION, HEAD = "composition", "head"


def choose_guides(
    model: CrystalModel, asked: Asked, config: SamplerConfig, more: Sequence[Guide] = (), state: tuple[float, float] | None = None
) -> tuple[Guide, ...]:
    """Guides for what is asked (thermodynamics, property head, predictors), those of ``config.guides``, and ``more``.

    Args:
        model: that generates.
        asked: conditions of a request.
        config: sampler settings.
        more: further guides.
        state: temperature (K) and pressure (GPa) of the request; ``None``: as among ``asked``, else ambient.

    Raises:
        ConfigError: guidance weights, particles or gradient that this model and request have no use for.
    """
    check_weights(config.guidance, model.specs)
    check_weights(config.guidance_continuous, model.specs)
    numbers = {name: getattr(config, name) for name in ("particles", "particle_strength", "gradient_strength", "gradient_clip")}
    for name, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
            raise ConfigError(f"sampler.{name} is {value!r}", "give a number of 0 or more")
    if config.particles < 1:
        raise ConfigError(f"sampler.particles is {config.particles}", "give at least one particle")
    guides: list[Guide] = [load_guide(path, model, asked) for path in config.guides] + list(more)
    in_company = config.particles > 1
    strength: dict[Stage, float] = {
        "discrete": config.particle_strength if in_company else 0.0,
        "continuous": config.gradient_strength,
        "final": config.particle_strength if in_company and config.finish_particles else 0.0,
    }
    state = state or _state_point(asked)
    predicted = _predicted(model, asked, config, strength, state)
    if any(strength.values()):
        judging = _judges(model, asked, config, strength, state)
        moving = any("continuous" in guide.stages for guide in predicted)
        if not judging and ((config.gradient_strength and not moving) or not (guides or predicted)):
            raise _nothing_to_judge(model)
        guides += judging
    guides += predicted
    if config.particles == 1 and any({"discrete", "final"} & guide.stages for guide in guides):
        raise ConfigError("a guide weighs crystals, but sampler.particles is 1", "set sampler.particles to 8, say")
    return tuple(guides)


def _judges(
    model: CrystalModel, asked: Asked, config: SamplerConfig, strength: dict[Stage, float], state: tuple[float, float]
) -> list[Guide]:
    """dG_hull through thermodynamics where that is possible, everything else (and every gradient) by the property head."""
    guides: list[Guide] = []
    asked_gibbs = asked.get(GIBBS)
    weighing: dict[Stage, float] = {"discrete": strength["discrete"], "final": strength["final"]}
    if config.phases is not None and isinstance(asked_gibbs, Interval) and any(weighing.values()):
        competition = load_competition(config.phases, max(state[0], MIN_TEMPERATURE_K), state[1])
        judges = height_judges(config.height_judges, model, competition.table.energy_scheme)
        guides.append(GibbsGuide(model, competition, asked_gibbs, judges, weighing))
    fields = [name for name in model.denoiser.property_names if isinstance(asked.get(name), Interval)]
    if guides and GIBBS in fields:
        fields.remove(GIBBS)
        if strength["continuous"]:
            guides.append(PropertyGuide(model, [GIBBS], {"continuous": strength["continuous"]}))
    if fields:
        guides.append(PropertyGuide(model, fields, strength))
    return guides


def _predicted(
    model: CrystalModel, asked: Asked, config: SamplerConfig, strength: Mapping[Stage, float], state: tuple[float, float]
) -> list[Guide]:
    """What no condition of the model says, each by its predictor at the request's temperature and pressure, or by its own head.

    Raises:
        ConfigError: a single particle and no gradient, another mobile ion than the predictor's, a state point outside its range.
    """
    judged = load_judged_specs()
    guides: list[Guide] = []
    for name, interval in asked.items():
        if name in model.specs or name not in judged or not isinstance(interval, Interval):
            continue
        judges, by_head = _conductivity_judges(config, strength) if name == CONDUCTIVITY else ({COMPOSITION}, {})
        if by_head:
            _check_ion(name, MOBILE_ION, asked)
            head = ConductivityHead.load(str(config.conductivity_head), model)
            guides.append(ConductivityGuide(model, head, judged[name], interval, by_head, state[0]))
        if not (strength["discrete"] or strength["final"]):
            if by_head:
                continue
            hint = "set sampler.particles=16 and sampler.particle_strength=1, say"
            raise ConfigError(f"{name} is judged by a predictor, among several particles", hint)
        if COMPOSITION in judges:
            predictor = load_predictor(str(judged[name].predictor), temperature_K=state[0], pressure_GPa=state[1])
            _check_ion(name, getattr(predictor, "mobile_ion", None), asked)
            guides.append(PredictorGuide(model, judged[name], predictor, interval, strength))
        elif not by_head:
            hint = f"set sampler.conductivity_judges=[{COMPOSITION}], or a head in sampler.conductivity_head"
            raise ConfigError(f"{name} is asked, and nobody judges it", hint)
    return guides


def _conductivity_judges(config: SamplerConfig, strength: Mapping[Stage, float]) -> tuple[set[str], dict[Stage, float]]:
    """Who judges conductivities, and the stages at which the head does: its gradient is the only one there is."""
    judges = set(config.conductivity_judges)
    if unknown := judges - {COMPOSITION, HEAD}:
        hint = did_you_mean(sorted(unknown)[0], (COMPOSITION, HEAD))
        raise ConfigError(f"sampler.conductivity_judges: nobody is called {sorted(unknown)[0]!r}", hint)
    if config.conductivity_head is None:
        return judges, {}
    stages = {stage for stage in strength if stage == "continuous" or HEAD in judges}
    return judges, {stage: power for stage, power in strength.items() if power and stage in stages}


def _check_ion(name: str, ion: str | None, asked: Asked) -> None:
    wanted = asked.get("mobile_ion")
    if ion and wanted not in (None, ion):
        raise ConfigError(f"the predictor of {name} knows {ion} only, ask.mobile_ion is {wanted}", f"leave {name} out of ask")


def _state_point(asked: Asked) -> tuple[float, float]:
    """Temperature and pressure of a request whose model knows them."""
    temperature, pressure = asked.get("temperature_K"), asked.get("pressure_GPa")
    t = temperature.target if isinstance(temperature, Interval) else ROOM_TEMPERATURE_K
    return t, pressure.target if isinstance(pressure, Interval) else AMBIENT_PRESSURE_GPa


def _nothing_to_judge(model: CrystalModel) -> ConfigError:
    if not model.denoiser.property_names:
        return ConfigError(
            "sampler.particles and sampler.gradient_strength need a property head, which this checkpoint lacks",
            "set sampler.particles=1 and sampler.gradient_strength=0, or use a checkpoint trained with denoiser.properties=true",
        )
    known = ", ".join(model.denoiser.property_names)
    return ConfigError(
        "nothing that the property head judges is asked: sampler.particles and sampler.gradient_strength have no use",
        f"ask for one of {known}, or set sampler.particles=1 and sampler.gradient_strength=0",
    )

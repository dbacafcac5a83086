"""Which guides a sampler setting and a request call for."""

from __future__ import annotations

from collections.abc import Sequence

from sse_diffusion.core.errors import ConfigError
from sse_diffusion.diffusion.guidance import check_weights
from sse_diffusion.diffusion.guides.guide import Asked, Guide, Stage, load_guide
from sse_diffusion.diffusion.guides.property_guide import PropertyGuide
from sse_diffusion.diffusion.model import CrystalModel
from sse_diffusion.diffusion.samplers import SamplerConfig
from sse_diffusion.thermo.request import Interval


def choose_guides(model: CrystalModel, asked: Asked, config: SamplerConfig, more: Sequence[Guide] = ()) -> tuple[Guide, ...]:
    """The property head's guide for what is asked, those of ``config.guides``, and ``more``.

    Raises:
        ConfigError: guidance weights, particles or gradient that this model and request have no use for.
    """
    check_weights(config.guidance, model.specs)
    check_weights(config.guidance_continuous, model.specs)
    if config.particles < 1 or config.gradient_clip < 0:
        raise ConfigError(
            f"sampler.particles is {config.particles}, sampler.gradient_clip {config.gradient_clip}",
            "give at least one particle, and a clip of 0 or more",
        )
    guides: list[Guide] = [load_guide(path, model, asked) for path in config.guides] + list(more)
    in_company = config.particles > 1
    strength: dict[Stage, float] = {
        "discrete": config.particle_strength if in_company else 0.0,
        "continuous": config.gradient_strength,
        "final": config.particle_strength if in_company and config.finish_particles else 0.0,
    }
    if any(strength.values()):
        fields = [name for name in model.denoiser.property_names if isinstance(asked.get(name), Interval)]
        if fields:
            guides.append(PropertyGuide(model, fields, strength))
        elif config.gradient_strength or not guides:
            raise _nothing_to_judge(model)
    if config.particles == 1 and any({"discrete", "final"} & guide.stages for guide in guides):
        raise ConfigError("a guide weighs crystals, but sampler.particles is 1", "set sampler.particles to 8, say")
    return tuple(guides)


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

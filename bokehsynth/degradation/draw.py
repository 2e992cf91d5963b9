"""Draws every random choice of one degradation, as plain JSON."""

from collections.abc import Callable
from typing import Any

import numpy as np
from typing_extensions import TypedDict  # pydantic reads no other before Python 3.12

from bokehsynth.degradation.custom import draw_custom
from bokehsynth.degradation.spec import Blur, CustomStep, Degradation, Final, Jpeg, Noise, Resize
from bokehsynth.rng import chance, draw_seed, pick, uniform

SMALL_SINC = 13
"""Below this size a sinc kernel takes its cut-off from `omega_small`: a lower one would not fit (Real-ESRGAN)."""

Record = dict[str, Any]


class DegradationDraw(TypedDict):
    """A plain dict from which the pixels follow bit for bit, also after JSON.

    A skipped step is recorded too, with None for its kernel, noise family or quality.
    """

    scale: int
    """Input size over low-quality size."""
    upscale: str
    """Mode that brings the low-quality picture back to the input size."""
    steps: list[Record]
    """In order; each has `kind` and the numbers of that kind (see `draw_*` in this module)."""


def draw_degradation(degradation: Degradation, rng: np.random.Generator) -> DegradationDraw:
    """Draw one degradation; consumes `rng`, and nothing random is left for `apply_degradation`."""
    steps = [_DRAW[type(step)](step, rng) for step in degradation.steps]
    return DegradationDraw(scale=degradation.scale, upscale=pick(rng, degradation.upscale), steps=steps)


def draw_blur(step: Blur, rng: np.random.Generator) -> Record:
    """`kernel`: None, or `family`, `size` and either `omega` or `sigma_x`, `sigma_y`, `rotation` and perhaps `beta`."""
    if not chance(rng, step.probability):
        return {"kind": "blur", "kernel": None}
    size = pick(rng, range(step.size[0], step.size[1] + 1, 2))
    if chance(rng, step.sinc):
        omega = uniform(rng, *(step.omega_small if size < SMALL_SINC else step.omega))
        return {"kind": "blur", "kernel": {"family": "sinc", "size": size, "omega": omega}}
    weights = step.kernels.model_dump()
    family = pick(rng, tuple(weights), tuple(weights.values()))
    sigma_x = uniform(rng, *step.sigma)
    kernel: Record = {"family": family, "size": size, "sigma_x": sigma_x, "sigma_y": sigma_x, "rotation": 0.0}
    if family.endswith("aniso"):
        kernel["sigma_y"] = uniform(rng, *step.sigma)
        kernel["rotation"] = uniform(rng, *step.rotation)
    if family.startswith("generalized"):
        kernel["beta"] = _draw_beta(step.beta_generalized, rng)
    elif family.startswith("plateau"):
        kernel["beta"] = _draw_beta(step.beta_plateau, rng)
    return {"kind": "blur", "kernel": kernel}


def draw_resize(step: Resize, rng: np.random.Generator) -> Record:
    """`factor`, `mode` and `relative_to` (what the factor multiplies)."""
    direction = pick(rng, ("up", "down", "keep"), (step.up, step.down, step.keep))
    factor = 1.0
    if direction == "up":
        factor = uniform(rng, 1.0, step.range[1])
    elif direction == "down":
        factor = uniform(rng, step.range[0], 1.0)
    return {"kind": "resize", "factor": factor, "mode": pick(rng, step.modes), "relative_to": step.relative_to}


def draw_noise(step: Noise, rng: np.random.Generator) -> Record:
    """`family`: None, gaussian (with `sigma` in 8-bit levels) or poisson (with `scale`); `gray`; `seed`."""
    if not chance(rng, step.probability):
        return {"kind": "noise", "family": None}
    if chance(rng, step.gaussian):
        record: Record = {"kind": "noise", "family": "gaussian", "sigma": uniform(rng, *step.sigma)}
    else:
        record = {"kind": "noise", "family": "poisson", "scale": uniform(rng, *step.poisson_scale)}
    return record | {"gray": chance(rng, step.gray), "seed": draw_seed(rng)}


def draw_jpeg(step: Jpeg, rng: np.random.Generator) -> Record:
    """`quality`: None, or an int."""
    quality = pick(rng, range(step.quality[0], step.quality[1] + 1)) if chance(rng, step.probability) else None
    return {"kind": "jpeg", "quality": quality}


def draw_final(step: Final, rng: np.random.Generator) -> Record:
    """`mode` of the resize, `kernel` (None or a sinc), `quality`, `jpeg_first`."""
    kernel = None
    if chance(rng, step.sinc):
        size = pick(rng, range(step.size[0], step.size[1] + 1, 2))
        kernel = {"family": "sinc", "size": size, "omega": uniform(rng, *step.omega)}
    return {
        "kind": "final",
        "mode": pick(rng, step.modes),
        "kernel": kernel,
        "quality": pick(rng, range(step.quality[0], step.quality[1] + 1)),
        "jpeg_first": chance(rng, step.jpeg_first),
    }


def _draw_beta(bounds: tuple[float, float], rng: np.random.Generator) -> float:
    # Peaked (below 1) and flat (above 1) shapes equally often, however wide either side is.
    if chance(rng, 0.5):
        return uniform(rng, bounds[0], 1.0)
    return uniform(rng, 1.0, bounds[1])


_DRAW: dict[type, Callable[[Any, np.random.Generator], Record]] = {
    Blur: draw_blur,
    Resize: draw_resize,
    Noise: draw_noise,
    Jpeg: draw_jpeg,
    Final: draw_final,
    CustomStep: lambda step, rng: {"kind": "custom", "path": step.path, "params": draw_custom(step.path, rng)},
}

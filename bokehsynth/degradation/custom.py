"""User-defined steps: their contract, and loading the class at `package.module:Class`.

The string stands in the recipe and in every draw, so replaying a draw imports that module where
`config.user_code` trusts it: an untrusted draw is as dangerous as an untrusted recipe.
"""

import json
from typing import Any, Protocol

import numpy as np

from bokehsynth.color import FloatArray
from bokehsynth.config.user_code import load_instance, source_of
from bokehsynth.errors import UsageError
from bokehsynth.files import canonical_json

_METHODS = ("draw", "apply")


class DegradationStep(Protocol):
    """What a class named in a recipe offers. It is made without arguments; it needs no base class.

    class Exposure:
        def draw(self, rng):
            return {"gain": float(rng.uniform(0.8, 1.2))}

        def apply(self, image, params):
            return image * params["gain"]
    """

    def draw(self, rng: np.random.Generator) -> dict[str, Any]:
        """Every random choice, as a dict that survives JSON unchanged (str keys; str, int, float, bool, None, list).

        A step that needs a noise field draws a seed (`bokehsynth.rng.draw_seed`) and makes the field in `apply`.
        """
        ...

    def apply(self, image: FloatArray, params: dict[str, Any]) -> FloatArray:
        """The picture after the step, by `params` alone: no randomness, no memory of earlier calls.

        `image` is float32 [h, w, 3], sRGB-encoded, 0..1, of any size from 1x1; it may be overwritten. The result may
        have another size and may leave 0..1; it must be finite.
        """
        ...


def load_step(path: str) -> DegradationStep:
    """Make an instance of the class at `package.module:Class`; a UsageError says what is missing."""
    step: DegradationStep = load_instance(path, "degradation step", _METHODS)
    return step


def step_source(path: str) -> str:
    """Return the source of the module of the class at `path`, its identity in a data set; `path` without one."""
    return source_of(load_step(path), path)


def draw_custom(path: str, rng: np.random.Generator) -> dict[str, Any]:
    """Draw the params of the class at `path`; a UsageError unless they survive JSON unchanged."""
    params = load_step(path).draw(rng)
    try:
        same = isinstance(params, dict) and json.loads(canonical_json(params)) == params
    except (TypeError, ValueError):
        same = False
    if not same:
        raise UsageError(f"degradation step {path!r}: draw() must return a dict that survives JSON, got {params!r}")
    return params


def apply_custom(path: str, image: FloatArray, params: dict[str, Any]) -> FloatArray:
    """Apply the step at `path` to float32 [h, w, 3] in 0..1; a UsageError if the result is no finite picture."""
    result = np.asarray(load_step(path).apply(image, params))
    if result.ndim != 3 or result.shape[2] != 3 or 0 in result.shape or not np.issubdtype(result.dtype, np.floating):
        found = f"{result.dtype} {list(result.shape)}"
        raise UsageError(f"degradation step {path!r}: apply() must return float [h, w, 3], got {found}")
    if not np.isfinite(result).all():
        raise UsageError(f"degradation step {path!r}: apply() returned values that are not finite")
    return np.ascontiguousarray(result, dtype=np.float32)

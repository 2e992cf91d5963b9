"""User-defined steps: their contract, and loading the class at `package.module:Class`.

The string stands in the recipe and in every draw, so replaying a draw imports that module where
`config.user_code` trusts it: an untrusted draw is as dangerous as an untrusted recipe.
"""

import inspect
import json
import re
import sys
from typing import Any, Protocol

import numpy as np

from bokehsynth.color import FloatArray
from bokehsynth.config.user_code import UntrustedCodeError, load_module
from bokehsynth.errors import UsageError, user_error
from bokehsynth.files import canonical_json

_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
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


def check_step_path(path: str) -> str:
    """Return `path` if it is written as `package.module:Class`; a ValueError (for pydantic) otherwise."""
    if not _PATH.fullmatch(path):
        raise ValueError(f"must be written as package.module:Class, got {path!r}")
    return path


def load_step(path: str) -> DegradationStep:
    """Make an instance of the class at `package.module:Class`; a UsageError says what is missing."""
    try:
        module_name, class_name = check_step_path(path).split(":")
    except ValueError as error:
        raise UsageError(f"degradation step {error}") from None
    try:
        module = load_module(path)
    except UntrustedCodeError:
        raise
    except BaseException as raised:  # an import runs the user's code, which may raise anything
        cause = user_error(raised)
        name = type(cause).__name__
        raise UsageError(
            f"degradation step {path!r}: cannot import module {module_name!r} ({name}: {cause})"
        ) from raised
    cls = getattr(module, class_name, None)
    if not isinstance(cls, type):
        raise UsageError(f"degradation step {path!r}: module {module_name!r} has no class {class_name!r}")
    missing = [name for name in _METHODS if not callable(getattr(cls, name, None))]
    if missing:
        raise UsageError(f"degradation step {path!r}: the class has no method {' and no method '.join(missing)}")
    try:
        step: DegradationStep = cls()
    except TypeError as error:
        raise UsageError(f"degradation step {path!r}: cannot be made without arguments ({error})") from error
    except Exception:
        raise
    except BaseException as raised:
        raise UsageError(f"degradation step {path!r}: when it was made, {user_error(raised)}") from raised
    return step


def step_source(path: str) -> str:
    """Return the source of the module of the class at `path`, its identity in a data set; `path` without one."""
    try:
        return inspect.getsource(sys.modules[type(load_step(path)).__module__])
    except OSError:  # built in C, or typed into a console
        return path


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

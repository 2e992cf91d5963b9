"""bokehsynth makes bokeh training data: scenes through a thin lens, degraded, in shards.

    import bokehsynth as bs
    recipe = bs.load_recipe("quickstart")
    sample = bs.make_sample(recipe, 0)          # .lq .hq .aif .defocus .disparity .meta
    bs.generate(recipe, "demo")                 # what `bokehsynth generate quickstart --out demo` does
    for sample in bs.open_dataset("demo"): ...

Names are loaded when first used: `open_dataset` needs NumPy and OpenCV, `render` NumPy and Numba.
"""

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bokehsynth.color import linear_to_srgb, srgb_to_linear
    from bokehsynth.degrade import degrade
    from bokehsynth.errors import (
        AssetError,
        BokehsynthError,
        ChangedError,
        DataError,
        DeviceError,
        FailureBudgetError,
        LockedError,
        RecipeError,
        StorageError,
        UnsoundError,
        UsageError,
    )
    from bokehsynth.files import atomic_write
    from bokehsynth.generate import generate
    from bokehsynth.icc import RgbProfile, read_profile
    from bokehsynth.layers import Layer
    from bokehsynth.lens_contract import LensReport, check_aperture
    from bokehsynth.optics import Aperture, CatEye, Disc, Lens, Plane, Polygon, Ring
    from bokehsynth.pipeline import SampleDraw, draw_sample, make_sample
    from bokehsynth.recipe import Recipe, find_recipe, load_recipe
    from bokehsynth.render import render, render_batch, resolve_device
    from bokehsynth.render.frames import Frames
    from bokehsynth.schema import Sample
    from bokehsynth.shards import open_dataset
    from bokehsynth.sheet import contact_sheet
    from bokehsynth.strict_yaml import load_yaml
    from bokehsynth.together import SetUp, make_samples, set_up_sample

_HOME = {
    "color": ["linear_to_srgb", "srgb_to_linear"],
    "degrade": ["degrade"],
    "errors": [
        "AssetError", "BokehsynthError", "ChangedError", "DataError", "DeviceError", "FailureBudgetError",
        "LockedError", "RecipeError", "StorageError", "UnsoundError",
        "UsageError",
    ],
    "files": ["atomic_write"],
    "generate": ["generate"],
    "icc": ["RgbProfile", "read_profile"],
    "layers": ["Layer"],
    "lens_contract": ["LensReport", "check_aperture"],
    "optics": ["Aperture", "CatEye", "Disc", "Lens", "Plane", "Polygon", "Ring"],
    "pipeline": ["SampleDraw", "draw_sample", "make_sample"],
    "recipe": ["Recipe", "find_recipe", "load_recipe"],
    "render": ["render", "render_batch", "resolve_device"],
    "render.frames": ["Frames"],
    "schema": ["Sample"],
    "sheet": ["contact_sheet"],
    "shards": ["open_dataset"],
    "strict_yaml": ["load_yaml"],
    "together": ["SetUp", "make_samples", "set_up_sample"],
}  # fmt: skip
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}

__version__ = "0.4.0"

__all__ = [  # noqa: RUF022  # by room, as in the docs
    "Plane", "Layer", "Lens", "Aperture", "Disc", "Polygon", "CatEye", "Ring", "check_aperture",
    "LensReport", "render", "render_batch", "resolve_device", "Frames",
    "Recipe", "load_recipe", "find_recipe", "load_yaml", "SampleDraw", "draw_sample", "make_sample", "Sample",
    "SetUp", "set_up_sample", "make_samples",
    "degrade", "generate", "open_dataset", "contact_sheet", "srgb_to_linear", "linear_to_srgb", "RgbProfile",
    "read_profile", "atomic_write",
    "BokehsynthError", "UsageError", "RecipeError", "DeviceError", "ChangedError", "DataError", "AssetError",
    "UnsoundError", "StorageError", "LockedError", "FailureBudgetError",
]  # fmt: skip


class _Package(ModuleType):
    """Keeps `bs.render`, `bs.degrade` and `bs.generate` the functions.

    Importing the module of the same name would otherwise put the module in the function's place, whenever that
    happens to be; `from bokehsynth.render import ...` does not need that attribute.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if not (isinstance(value, ModuleType) and name in _MODULE_OF):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    """Load a public name from its room on first use (PEP 562)."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'bokehsynth' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"bokehsynth.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])

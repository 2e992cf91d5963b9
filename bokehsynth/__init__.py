"""bokehsynth makes bokeh training data: scenes through a thin lens, degraded, in shards.

    import bokehsynth as bs
    recipe = bs.load_recipe("quickstart")
    sample = bs.make_sample(recipe, 0)          # .lq .hq .aif .defocus .disparity .meta
    bs.generate(recipe, "demo")                 # what `bokehsynth generate quickstart --out demo` does
    for sample in bs.open_dataset("demo"): ...

Names other than errors are loaded when first used: `open_dataset` needs NumPy and OpenCV, `render` NumPy and Numba.
"""

import importlib
from typing import TYPE_CHECKING, Any

from bokehsynth.errors import (
    AssetError,
    BokehsynthError,
    ChangedError,
    DataError,
    DeviceError,
    FailureBudgetError,
    LockedError,
    NoDatasetError,
    RecipeError,
    StorageError,
    UnsoundError,
    UsageError,
)
from bokehsynth.version import __version__ as __version__

if TYPE_CHECKING:
    from bokehsynth.aperture_check import LensReport, check_aperture
    from bokehsynth.color import linear_to_srgb, srgb_to_linear
    from bokehsynth.config.strict_yaml import load_yaml
    from bokehsynth.degradation import degrade
    from bokehsynth.files import atomic_write
    from bokehsynth.generation.generate import generate
    from bokehsynth.generation.open_dataset import open_dataset
    from bokehsynth.imaging.contact_sheet import contact_sheet
    from bokehsynth.imaging.icc import RgbProfile, read_profile
    from bokehsynth.optics import (
        Anamorphic,
        Aperture,
        Apodized,
        Band,
        CalibratedAperture,
        CatEye,
        Disc,
        ImageAperture,
        Lens,
        OnionRings,
        Plane,
        Polygon,
        Prescription,
        Ring,
        halves_of,
        load_prescription,
        part_of,
    )
    from bokehsynth.optics.layer import Layer
    from bokehsynth.pipeline import (
        ComposedSample,
        SetUp,
        compose_sample,
        make_sample,
        make_samples,
        render_samples,
        set_up_sample,
    )
    from bokehsynth.recipe import Recipe, find_recipe, load_recipe
    from bokehsynth.rendering import render, render_batch, render_views, resolve_device
    from bokehsynth.rendering.frames import Frames
    from bokehsynth.sample_draw import SampleDraw, draw_sample, layers_of
    from bokehsynth.schema import Sample

_HOME = {
    "color": ["linear_to_srgb", "srgb_to_linear"],
    "degradation": ["degrade"],
    "files": ["atomic_write"],
    "generation.generate": ["generate"],
    "generation.open_dataset": ["open_dataset"],
    "imaging.contact_sheet": ["contact_sheet"],
    "imaging.icc": ["RgbProfile", "read_profile"],
    "aperture_check": ["LensReport", "check_aperture"],
    "config.strict_yaml": ["load_yaml"],
    "optics": [
        "Anamorphic", "Aperture", "Apodized", "Band", "CalibratedAperture", "CatEye", "Disc", "ImageAperture", "Layer",
        "Lens", "OnionRings", "Plane", "Polygon", "Prescription", "Ring", "halves_of", "load_prescription", "part_of",
    ],
    "pipeline": [
        "make_sample", "ComposedSample", "compose_sample", "render_samples", "SetUp", "set_up_sample", "make_samples",
    ],
    "recipe": ["Recipe", "find_recipe", "load_recipe"],
    "rendering": ["render", "render_batch", "render_views", "resolve_device"],
    "rendering.frames": ["Frames"],
    "sample_draw": ["SampleDraw", "draw_sample", "layers_of"],
    "schema": ["Sample"],
}  # fmt: skip
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}

__all__ = [  # noqa: RUF022  # by room, as in the docs
    "Plane", "Layer", "Lens", "Aperture", "Disc", "Polygon", "CatEye", "Ring", "Apodized",
    "OnionRings", "Anamorphic", "ImageAperture", "CalibratedAperture", "Band", "part_of", "halves_of",
    "check_aperture", "LensReport",
    "Prescription", "load_prescription", "render", "render_batch", "render_views", "resolve_device", "Frames",
    "Recipe", "load_recipe", "find_recipe", "load_yaml", "SampleDraw", "draw_sample", "make_sample", "Sample",
    "layers_of",
    "ComposedSample", "compose_sample", "render_samples", "SetUp", "set_up_sample", "make_samples",
    "degrade", "generate", "open_dataset", "contact_sheet", "srgb_to_linear", "linear_to_srgb", "RgbProfile",
    "read_profile", "atomic_write",
    "BokehsynthError", "UsageError", "RecipeError", "DeviceError", "ChangedError", "DataError", "AssetError",
    "NoDatasetError", "UnsoundError", "StorageError", "LockedError", "FailureBudgetError",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Load a public name from its room on first use (PEP 562)."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'bokehsynth' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"bokehsynth.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])

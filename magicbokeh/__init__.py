"""magicbokeh turns a degraded photo into a clean one with shallow depth of field, in one step.

    from magicbokeh import MagicBokehPipeline
    pipe = MagicBokehPipeline.from_pretrained("model")      # a folder made by `magicbokeh convert`
    result = pipe("photo.jpg", focus=(812, 640), blur=24)
    result.images[0].save("bokeh.png")

Names are loaded when first used: torch and diffusers come with the first of them.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from magicbokeh.conversion.official import convert_official
    from magicbokeh.inference.pipeline import BokehOutput, MagicBokehPipeline
    from magicbokeh.inference.tile_grid import TileOptions
    from magicbokeh.model.bundle import build_networks
    from magicbokeh.model.config import ModelConfig

_HOME = {
    "BokehOutput": "inference.pipeline",
    "MagicBokehPipeline": "inference.pipeline",
    "ModelConfig": "model.config",
    "TileOptions": "inference.tile_grid",
    "build_networks": "model.bundle",
    "convert_official": "conversion.official",
}

__all__ = ["BokehOutput", "MagicBokehPipeline", "ModelConfig", "TileOptions", "build_networks", "convert_official"]


def __getattr__(name: str) -> Any:
    """Load a public name from its room on first use (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module 'magicbokeh' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"magicbokeh.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])

"""The networks: pruned UNet, ControlNet on the defocus map, autoencoder or Haar codec, and the single step.

diffusers writes the module of a custom component into `model_index.json`; saved pipelines name `magicbokeh.model`, so
the five classes are importable from here, and `ModelMixin`, by which diffusers decides how to load them. They are
loaded on first use, because `config` and `conditioning` need no torch.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from magicbokeh.model.haar import HaarCodec
    from magicbokeh.model.lite_depth import LiteDepthNetwork
    from magicbokeh.model.networks import BokehUNet, BokehVAE, DefocusControlNet

__all__ = ["BokehUNet", "BokehVAE", "DefocusControlNet", "HaarCodec", "LiteDepthNetwork"]


def __getattr__(name: str) -> Any:
    """Load a network class on first use (PEP 562)."""
    if name not in {*__all__, "ModelMixin"}:
        raise AttributeError(f"module 'magicbokeh.model' has no attribute {name!r}")
    from magicbokeh.model import haar, lite_depth, networks

    return getattr({"HaarCodec": haar, "LiteDepthNetwork": lite_depth}.get(name, networks), name)

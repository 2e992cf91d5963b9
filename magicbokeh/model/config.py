"""Configuration of the MagicBokeh networks, from a toy that runs in milliseconds to Stable Diffusion 2.1."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from bokehsynth import UsageError

Prediction = Literal["eps", "residual"]
Codec = Literal["vae", "haar"]

SD_ALPHA_BAR = 0.00466009508818388
"""Share of signal variance left at step 999 of Stable Diffusion's schedule (scaled linear, 0.00085 to 0.012)."""


class Bound(NamedTuple):
    """What a number of the configuration may be; no network that is in use comes near these limits."""

    low: float
    high: float
    whole: bool = True
    """Integers only."""
    entries: tuple[int, int] | None = None
    """Of a list: least and largest length."""

    def fault(self, value: Any) -> str:
        """Why a value is refused; empty where it is allowed."""
        kinds = int if self.whole else int | float
        if self.entries is not None:
            fewest, most = self.entries
            if not isinstance(value, list | tuple) or not fewest <= len(value) <= most:
                return f"must be a list of {fewest} to {most} numbers"
            return next((f"each {text}" for text in map(self._replace(entries=None).fault, value) if text), "")
        if isinstance(value, bool) or not isinstance(value, kinds) or not self.low <= value <= self.high:
            return f"must be {'an integer' if self.whole else 'a number'} from {self.low:g} to {self.high:g}"
        return ""


_CHANNELS = Bound(1, 4096, entries=(1, 6))
_TINY = math.ulp(0.0)

BOUNDS = {
    "sample_size": Bound(1, 512),
    "block_out_channels": _CHANNELS,
    "heads": Bound(0, 256, entries=(1, 6)),
    "layers_per_block": Bound(1, 6),
    "norm_groups": Bound(1, 256),
    "norm_eps": Bound(_TINY, 1, whole=False),
    "map_channels": Bound(1, 4096, entries=(2, 6)),
    "latent_channels": Bound(1, 1024),
    "haar_levels": Bound(1, 4),
    "vae_block_out_channels": _CHANNELS,
    "vae_layers_per_block": Bound(1, 6),
    "vae_norm_groups": Bound(1, 256),
    "scaling_factor": Bound(_TINY, 1e4, whole=False),
    "sr_rank": Bound(0, 1024),
    "sr_alpha": Bound(0, 1e5, whole=False),
    "vae_rank": Bound(0, 1024),
    "vae_alpha": Bound(0, 1e5, whole=False),
    "bokeh_rank": Bound(0, 1024),
    "bokeh_alpha": Bound(0, 1e5, whole=False),
    "alpha_bar": Bound(_TINY, 1, whole=False),
    "blur_reference": Bound(_TINY, 1e5, whole=False),
    "focus_threshold": Bound(0, 1, whole=False),
}
"""Bounds of the numbers of ModelConfig, checked before anything is allocated for them."""

LITE_MULTIPLE = 32
"""What the sides of the small depth network's pictures must be multiples of."""
LITE_BOUNDS = {
    "lite_side": Bound(LITE_MULTIPLE, 1024),
    "lite_channels": Bound(1, 1024, entries=(7, 7)),
    "lite_repeats": Bound(1, 16, entries=(6, 6)),
    "lite_decoder_channels": Bound(1, 1024, entries=(4, 4)),
}
"""Bounds of the numbers of the small depth network."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The shapes of the networks and the meaning of their inputs and outputs; the defaults are SD2.1-base."""

    sample_size: int = 64
    """Side of a tile in latent pixels; the tile has `scale` times as many picture pixels."""
    block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280)
    heads: tuple[int, ...] = (5, 10, 20, 20)
    """Attention heads per block, 0 for a block without attention (the last block ignores its number unless
    `attention_in_last`)."""
    attention_in_last: bool = False
    """Self-attention in the last, coarsest block too; Stable Diffusion has none there."""
    layers_per_block: int = 2
    norm_groups: int = 32
    norm_eps: float = 1e-5
    use_linear_projection: bool = True
    upcast_attention: bool = False
    map_channels: tuple[int, ...] = (16, 32, 96, 256)
    """Channels of the layers that downsample the defocus map to the latents' size: one more than its halvings."""
    codec: Codec = "vae"
    """Between pictures and latents. vae: Stable Diffusion's autoencoder, of the sizes `vae_...`. haar: an orthonormal
    wavelet transform, which has no weights and loses nothing, for small models."""
    haar_levels: int = 2
    """Levels of the Haar codec: 3·4^levels latent channels at 1/2^levels of the size."""
    latent_channels: int = 4
    vae_block_out_channels: tuple[int, ...] = (128, 256, 512, 512)
    vae_layers_per_block: int = 2
    vae_norm_groups: int = 32
    scaling_factor: float = 0.18215
    """Factor from the codec's latents to the UNet's."""
    sr_rank: int = 32
    """Rank of the super-resolution LoRA of the UNet; 0 for none (merged)."""
    sr_alpha: float = 8.0
    """The super-resolution LoRA is scaled by alpha/rank."""
    vae_rank: int = 16
    vae_alpha: float = 8.0
    bokeh_rank: int = 64
    bokeh_alpha: float = 64.0
    prediction: Prediction = "eps"
    """eps: the UNet predicts noise, x0 = (z - sqrt(1-a) eps)/sqrt(a). residual: x0 = z - output, for training from
    scratch: at the start x0 = z, where the eps form starts from 14.65 z."""
    alpha_bar: float = SD_ALPHA_BAR
    blur_reference: float = 32.0
    """Blur radius, in network pixels, at which the defocus map is 1: the largest of the training set."""
    focus_threshold: float = 0.1
    """Defocus (0..1) up to which a pixel belongs to the region in focus."""

    def __post_init__(self) -> None:
        for name, bound in BOUNDS.items():
            if fault := bound.fault(getattr(self, name)):
                raise UsageError(f"{name}: {fault}, not {getattr(self, name)!r:.100}")
        if len(self.heads) != len(self.block_out_channels):
            raise UsageError(f"heads: one per block: {len(self.block_out_channels)} blocks, {len(self.heads)} numbers")
        self._check_codec()
        if self.prediction not in ("eps", "residual"):
            raise UsageError(f"prediction: eps or residual, not {self.prediction!r}")
        if not 0 < self.alpha_bar < 1:
            raise UsageError(f"alpha_bar: between 0 and 1, not {self.alpha_bar}")

    def _check_codec(self) -> None:
        if self.codec not in ("vae", "haar"):
            raise UsageError(f"codec: vae or haar, not {self.codec!r}")
        if self.codec == "haar":
            channels = 3 * 4**self.haar_levels
            if self.latent_channels != channels:
                raise UsageError(
                    f"latent_channels: {channels} with codec haar and haar_levels {self.haar_levels}, "
                    f"not {self.latent_channels}"
                )
            if self.vae_rank:
                raise UsageError(f"vae_rank: 0 with codec haar, which has no weights, not {self.vae_rank}")
        if 2 ** (len(self.map_channels) - 1) != self.scale:
            raise UsageError(
                f"map_channels: {self.scale.bit_length()} numbers, because latents are 1/{self.scale} of the picture's "
                f"size, not {len(self.map_channels)}"
            )

    @property
    def scale(self) -> int:
        """Picture pixels per latent pixel."""
        return int(2 ** (self.haar_levels if self.codec == "haar" else len(self.vae_block_out_channels) - 1))

    @property
    def multiple(self) -> int:
        """What the sides of the network's pictures must be multiples of: the coarsest block needs whole pixels."""
        return int(self.scale * 2 ** (len(self.block_out_channels) - 1))

    @classmethod
    def sd21(cls, **changes: Any) -> "ModelConfig":
        """Stable Diffusion 2.1-base, pruned: 724 million parameters in the UNet, 247 million in the ControlNet."""
        return dataclasses.replace(cls(), **changes)

    @classmethod
    def toy(cls, **changes: Any) -> "ModelConfig":
        """SD2.1's architecture with some 300 thousand parameters and 64 px tiles: seconds on a CPU."""
        toy = cls(
            sample_size=8,
            block_out_channels=(16, 32, 48, 48),
            heads=(2, 4, 6, 6),
            norm_groups=8,
            vae_block_out_channels=(8, 8, 16, 16),
            vae_layers_per_block=1,
            vae_norm_groups=4,
            sr_rank=4,
            vae_rank=4,
            bokeh_rank=6,
            bokeh_alpha=6.0,
            prediction="residual",
            blur_reference=8.0,
        )
        return dataclasses.replace(toy, **changes)

    @classmethod
    def small(cls, **changes: Any) -> "ModelConfig":
        """A model that learns from nothing on a CPU: Haar codec, 5 million parameters in the UNet, 512 px tiles."""
        small = cls(
            sample_size=128,
            block_out_channels=(64, 96, 160),
            heads=(0, 0, 4),
            attention_in_last=True,
            layers_per_block=1,
            norm_groups=8,
            map_channels=(8, 16, 32),
            codec="haar",
            haar_levels=2,
            latent_channels=48,
            scaling_factor=1.0,
            sr_rank=8,
            vae_rank=0,
            bokeh_rank=16,
            bokeh_alpha=16.0,
            prediction="residual",
            focus_threshold=1 / 32,
        )
        return dataclasses.replace(small, **changes)

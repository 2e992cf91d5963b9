"""MagicBokehPipeline, a diffusers pipeline that gives photographs shallow depth of field."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from diffusers import DiffusionPipeline
from diffusers.utils.outputs import BaseOutput
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from bokehsynth import BokehsynthError, DataError, UsageError
from magicbokeh.inference.depth import DEFAULT_MODEL, estimate_disparity, load_depth_model, read_map
from magicbokeh.inference.model_source import HUB_OPTIONS, PIPELINE_FILES, fetch, first_line, packaged_depth
from magicbokeh.inference.photo import Photo, open_photo
from magicbokeh.inference.tile_grid import TileOptions
from magicbokeh.inference.tiled_forward import Canvas, TiledForward
from magicbokeh.inference.upsampling import COLOR_FIXES, ColorFix, OutputType, fix_color, shrink, to_photo_size
from magicbokeh.model.bundle import Networks, OneStep, StepOutput
from magicbokeh.model.conditioning import BLUR_SIZE, Focus, blur_in_pixels, defocus_map, find_focus
from magicbokeh.model.config import SD_ALPHA_BAR, ModelConfig
from magicbokeh.model.folders import check_pipeline_folder
from magicbokeh.model.haar import HaarCodec
from magicbokeh.model.networks import BokehUNet, BokehVAE, DefocusControlNet

FloatArray = npt.NDArray[np.float32]

DEFAULT_BLUR = 16.0
"""Pixels of radius per unit of disparity at 512 px of the shorter side."""


@dataclass
class BokehOutput(BaseOutput):
    """The result of a call; one entry per photo, all upright."""

    images: list[Any]
    """PIL pictures, or as `output_type` says."""
    defocus: list[FloatArray]
    """[H, W]: blur radius in pixels of the photo."""
    disparity: list[FloatArray | None]
    """[H, W] in 0..1, 1 = near; None where no depth was needed (blur 0)."""
    focus: list[tuple[float, float] | None]
    """Disparities in focus, far and near end."""


@dataclass(frozen=True, kw_only=True)
class _CallOptions:
    """The options of a call that are the same for all photos."""

    blur: float
    focus_range: float
    work_size: int | Literal["full"] | None
    color: ColorFix
    tiles: TileOptions
    output_type: OutputType


@dataclass(frozen=True)
class _PreparedPhoto:
    """One photo with disparity and focus resolved."""

    photo: Photo
    disparity: FloatArray | None
    focus: Focus | None
    blur: float
    """K, pixels of the photo per unit of disparity difference."""

    def radius(self) -> FloatArray:
        """The blur radius [H, W] in photo pixels."""
        if self.disparity is None or self.focus is None:
            return np.zeros(self.photo.size, np.float32)
        return self.focus.distance(self.disparity) * np.float32(self.blur)


class MagicBokehPipeline(DiffusionPipeline):
    """Restores degraded photographs and gives them the depth of field of a wide lens, in one step of the network."""

    model_cpu_offload_seq = "depth_estimator->controlnet->unet->vae"
    _optional_components = ["depth_estimator"]  # noqa: RUF012  # diffusers reads it as a list

    unet: BokehUNet
    controlnet: DefocusControlNet
    vae: BokehVAE | HaarCodec
    depth_estimator: Any

    def __init__(
        self,
        unet: BokehUNet,
        controlnet: DefocusControlNet,
        vae: BokehVAE | HaarCodec,
        depth_estimator: Any = None,
        prediction: str = "eps",
        alpha_bar: float = SD_ALPHA_BAR,
        blur_reference: float = 32.0,
        focus_threshold: float = 0.1,
    ) -> None:
        super().__init__()
        self.register_modules(unet=unet, controlnet=controlnet, vae=vae, depth_estimator=depth_estimator)
        self.register_to_config(
            prediction=prediction, alpha_bar=alpha_bar, blur_reference=blur_reference, focus_threshold=focus_threshold
        )

    # --- opening and saving

    @classmethod
    def from_networks(
        cls, networks: Networks, config: ModelConfig, depth_estimator: Any = None
    ) -> "MagicBokehPipeline":
        """Wrap networks that were built or trained with `config`."""
        return cls(
            networks.unet.eval(),
            networks.controlnet.eval(),
            networks.vae.eval(),
            depth_estimator,
            prediction=config.prediction,
            alpha_bar=config.alpha_bar,
            blur_reference=config.blur_reference,
            focus_threshold=config.focus_threshold,
        )

    @classmethod
    def from_pretrained(cls, path: str | Path, **options: Any) -> "MagicBokehPipeline":
        """Open a folder made by `magicbokeh convert`, `export` or `save_pretrained`, or such a repository.

        Takes diffusers' options (`variant`, `revision`, ...). UsageError where there is no such folder, or it is
        another model's; DataError where its weights are incomplete.
        """
        if options.setdefault("use_safetensors", True) is not True:
            raise UsageError("use_safetensors: weights are read from safetensors only; leave it out")
        folder = Path(path)
        if not folder.exists():
            hub = {name: options.pop(name) for name in HUB_OPTIONS if name in options}
            folder = fetch(
                str(path), PIPELINE_FILES, f"{path}: no such folder, and no repository that can be fetched", **hub
            )
        check_pipeline_folder(folder)
        try:
            if options.get("depth_estimator", ...) is ... and (folder / "depth_estimator").is_dir():
                dtype = options.get("torch_dtype", options.get("dtype"))
                given = dtype if isinstance(dtype, torch.dtype) else torch.float32  # diffusers' default
                options["depth_estimator"] = load_depth_model(folder / "depth_estimator", given)
            pipe: MagicBokehPipeline = super().from_pretrained(str(folder), **options)
        except (BokehsynthError, MemoryError, ImportError):
            raise
        except Exception as error:  # a configuration that no network can be built of may raise anything
            reason = f"{type(error).__name__}: {first_line(error)}"
            raise DataError(f"{path}: cannot be opened ({reason}); make the folder again") from error
        return pipe

    @property
    def networks(self) -> Networks:
        """The networks with the parameters of their use."""
        step = OneStep(self.config.prediction, self.config.alpha_bar)
        return Networks(self.unet, self.controlnet, self.vae, step, self.config.focus_threshold)

    def fuse(self) -> "MagicBokehPipeline":
        """Merge LoRAs and fold time embeddings, in place: the same pictures for less work. Returns itself."""
        self.networks.fuse()
        return self

    # --- the step

    @torch.no_grad()
    def forward_tensors(self, lq: Tensor, defocus: Tensor, latent_noise: Tensor | None = None) -> StepOutput:
        """Run the step on tensors, without tiles.

        `lq` [B, 3, H, W] in -1..1, `defocus` [B, 1, H, W] in 0..1 (radius / blur_reference), H and W multiples of
        `networks.multiple` (64 for Stable Diffusion); `latent_noise`, of the latents' shape ([B, 4, H/8, W/8] there),
        samples them, None takes the mode of their distribution.
        """
        device = self._execution_device
        lq, defocus = lq.to(device, self.unet.dtype), defocus.to(device, torch.float32)
        return self.networks.restore(lq, defocus, latent_noise, decode=self._decode)

    @torch.no_grad()
    def _decode(self, x0: Tensor) -> Tensor:
        return self.networks.decode(x0)

    # --- photographs

    @torch.no_grad()
    def __call__(
        self,
        image: Any,
        focus: Any = "auto",
        blur: float = DEFAULT_BLUR,
        *,
        depth: Any = None,
        generator: Any = None,
        focus_range: float = 0.0,
        work_size: int | Literal["full"] | None = None,
        color: ColorFix = "auto",
        tiles: TileOptions | None = None,
        output_type: OutputType = "pil",
    ) -> BokehOutput:
        """Restore photographs and blur what is out of focus.

        image: a path, PIL picture or array (uint8, uint16, float 0..1 sRGB), 16 px or more, or a list of them.
        focus: (x, y) in pixels of the upright photo, a list of points, a box (x0, y0, x1, y1), a mask [H, W], a
            disparity 0..1, or "auto". For several photos a list with one entry each, if it holds as many.
        blur: radius per unit of disparity difference, in pixels at 512 px of the shorter side; 0 restores only.
        depth: disparity map [H, W] (1 = near), .npy or grey picture; None estimates it. A list for several photos.
        generator: torch.Generator(s) that sample the latents; None takes their mode, which is always the same.
        focus_range: half width of a zone of sharp disparities around the focus.
        work_size: shorter side, in pixels, at which the network sees the photo; "full" the photo's own; None the
            largest at which the blur stays within what the model was trained for. Finer detail comes from the photo.
        color: focus, wavelet, adain or none: how colour is brought back to the photo's. auto: none with a codec that
            loses nothing, where noise in the photo would be taken for contrast, else focus.
        output_type: pil; np (float32 [H, W, 3] sRGB 0..1); photo (16 bits and profile kept, with `save`).
        """
        options = _CallOptions(
            blur=blur,
            focus_range=focus_range,
            work_size=work_size,
            color=self._color_fix(_one_of("color", color, COLOR_FIXES)),
            tiles=tiles or TileOptions(),
            output_type=_one_of("output_type", output_type, ("pil", "np", "photo")),
        )
        if self.unet.dtype == torch.bfloat16:
            warnings.warn("bfloat16: the step multiplies its rounding by 14.6; use float16 or float32", stacklevel=2)
        is_list = isinstance(image, list | tuple)
        sources = list(image) if is_list else [image]
        if not sources:
            raise UsageError("image: an empty list; give at least one photo")
        if isinstance(generator, list) and len(generator) != len(sources):
            raise UsageError(f"generator: one, or one per photo: {len(sources)} photos, {len(generator)} generators")
        focuses = _per_photo(focus, len(sources)) if is_list else [focus]
        depths = _per_photo(depth, len(sources)) if is_list else [depth]
        generators = _per_photo(generator, len(sources))
        results = []
        for source, one_focus, one_depth, one_generator in zip(sources, focuses, depths, generators, strict=True):
            prepared = self._resolve_focus(open_photo(source), one_focus, one_depth, options)
            results.append(self._run_networks(prepared, options, one_generator))
        self.maybe_free_model_hooks()
        images, radii, disparities, intervals = (list(column) for column in zip(*results, strict=True))
        return BokehOutput(images=images, defocus=radii, disparity=disparities, focus=intervals)

    def sweep(
        self, image: Any, over: Literal["aperture", "focus"], values: Sequence[Any], **options: Any
    ) -> BokehOutput:
        """Render one photo several times: over "aperture" `values` are blurs, over "focus" what `focus` takes.

        Depth is estimated once, and a pull of focus has one `work_size`, that of its largest blur. `options` are those
        of a call. Returns one entry per value.
        """
        name = {"aperture": "blur", "focus": "focus"}[_one_of("over", over, ("aperture", "focus"))]
        if not len(values):
            raise UsageError("values: give at least one")
        photo = open_photo(image)
        depth = options.pop("depth", None)
        if over == "focus" or any(value > 0 for value in values):
            depth = self.disparity(photo, depth)
        if over == "focus" and options.get("work_size") is None and options.get("blur", DEFAULT_BLUR) > 0:
            options["work_size"] = self._common_work_size(photo, depth, values, options)
        frames = [self(photo, depth=depth, **{**options, name: value}) for value in values]
        return BokehOutput(**{key: [frame[key][0] for frame in frames] for key in frames[0]})

    def _common_work_size(self, photo: Photo, depth: Any, focuses: Sequence[Any], options: dict[str, Any]) -> int:
        """The shorter side at which the network sees all pictures of a pull of focus: else it would jump within it."""
        disparity = self.disparity(photo, depth)
        blur = blur_in_pixels(options.get("blur", DEFAULT_BLUR), photo.size)
        width = options.get("focus_range", 0.0)
        farthest = max(
            float(find_focus(focus, disparity, photo.size, width).distance(disparity).max()) for focus in focuses
        )
        return min(self._work_size(photo.size, farthest * blur, None))

    def disparity(self, photo: Any, depth: Any = None) -> FloatArray:
        """Disparity [H, W] in 0..1 of a photo: the given map resized to it, or the depth model's estimate."""
        photo = open_photo(photo)
        if depth is not None:
            return read_map(depth, photo.size)
        if self.depth_estimator is None:
            source = packaged_depth() or DEFAULT_MODEL
            self.register_modules(depth_estimator=load_depth_model(source).to(self.device, self.dtype))
        model = self.depth_estimator
        device = self._execution_device if hasattr(model, "_hf_hook") else model.device  # the hook moves it there
        return estimate_disparity(model, photo.srgb(), device)

    def _resolve_focus(self, photo: Photo, focus: Any, depth: Any, options: _CallOptions) -> _PreparedPhoto:
        blur = blur_in_pixels(options.blur, photo.size)
        if blur == 0 and depth is None:
            return _PreparedPhoto(photo, None, None, 0.0)
        disparity = self.disparity(photo, depth)
        return _PreparedPhoto(photo, disparity, find_focus(focus, disparity, photo.size, options.focus_range), blur)

    def _run_networks(
        self, prepared: _PreparedPhoto, options: _CallOptions, generator: Any
    ) -> tuple[Any, FloatArray, FloatArray | None, tuple[float, float] | None]:
        """Restore one photo at the network's size, fix its colour, and bring it to the photo's size and form."""
        photo, radius = prepared.photo, prepared.radius()
        size = self._work_size(photo.size, float(radius.max()), options.work_size)
        scale = size[0] / photo.size[0]
        small = shrink(photo.srgb(), size)
        small_radius = shrink(radius, size) * np.float32(scale)
        self._warn_of_clipping(small_radius)
        defocus = defocus_map(small_radius, self.config.blur_reference)
        canvas = Canvas.pad(small, defocus, self.unet.config.sample_size, self.vae.scale)
        noise = None
        if generator is not None:
            shape = (1, self.vae.latent_channels, *canvas.latent_size)
            noise = randn_tensor(shape, generator=generator, device=generator.device, dtype=torch.float32)
        picture = self._tiled_forward(options.tiles).picture(canvas, noise)
        del canvas
        picture = fix_color(picture, small, defocus <= self.config.focus_threshold, options.color)
        np.clip(picture, 0, 1, out=picture)
        image = to_photo_size(photo, picture, small, small_radius, options.output_type)
        focus = None if prepared.focus is None else (prepared.focus.far, prepared.focus.near)
        return image, radius, prepared.disparity, focus

    def _tiled_forward(self, tiles: TileOptions) -> TiledForward:
        return TiledForward(
            forward=self.forward_tensors,
            decode=self._decode,
            device=self._execution_device,
            sample_size=self.unet.config.sample_size,
            scale=self.vae.scale,
            options=tiles,
            progress=lambda total: self.progress_bar(total=total),
        )

    def _color_fix(self, wanted: ColorFix) -> ColorFix:
        if wanted != "auto":
            return wanted
        return "none" if isinstance(self.vae, HaarCodec) else "focus"

    def _work_size(self, size: tuple[int, int], radius: float, wanted: int | str | None) -> tuple[int, int]:
        """(height, width) of the network's picture, never larger than the photo; `radius`: its largest, in pixels."""
        short, least = min(size), 2 * self.vae.scale
        if wanted is None:
            work = min(short, int(short * self.config.blur_reference / radius)) if radius > 0 else short
            if work < min(short, least):
                most = self.config.blur_reference * BLUR_SIZE / least
                raise UsageError(
                    f"blur: radii of at most {most:g} px (at {BLUR_SIZE} px of the shorter side) with this model, not "
                    f"{radius * BLUR_SIZE / short:g}; give less blur"
                )
        elif wanted == "full":
            work = short
        elif isinstance(wanted, int) and wanted >= least:
            work = min(short, wanted)
        else:
            raise UsageError(f"work_size: {least} px or more of the shorter side, 'full' or None, not {wanted!r}")
        return tuple(max(1, round(length * work / short)) for length in size)  # type: ignore[return-value]

    def _warn_of_clipping(self, radius: FloatArray) -> None:
        largest, limit = float(radius.max()), float(self.config.blur_reference)
        if largest > limit * 1.001:
            warnings.warn(
                f"the blur reaches {largest:.1f} px at the network's resolution, the model was trained to {limit:g}: "
                "it stops there; lower blur or leave work_size to the pipeline",
                stacklevel=2,
            )


def _per_photo(value: Any, count: int) -> list[Any]:
    """Return `value` if it is a list with one entry per photo, else repeat it for all photos."""
    if isinstance(value, list) and len(value) == count:
        return value
    return [value] * count


def _one_of(name: str, value: Any, allowed: Sequence[str]) -> Any:
    if value not in allowed:
        raise UsageError(f"{name}: one of {', '.join(allowed)}, not {value!r}")
    return value

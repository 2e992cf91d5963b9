"""`magicbokeh infer` and `export`: photographs and models, from files to files."""

import io
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt
import torch

from bokehsynth import AssetError, BokehsynthError, DeviceError, StorageError, UsageError, atomic_write
from magicbokeh.given_files import about, check_regular
from magicbokeh.inference.depth import load_depth_model
from magicbokeh.inference.model_source import check_finite_weights, packaged_depth, packaged_model
from magicbokeh.inference.photo import Photo, open_photo
from magicbokeh.inference.pipeline import BokehOutput, MagicBokehPipeline
from magicbokeh.inference.tile_grid import TileOptions
from magicbokeh.inference.upsampling import ColorFix
from magicbokeh.model.checkpoint_files import SavedCheckpoint, check_files, read_state
from magicbokeh.model.safetensors_io import check_new_folder, write_folder

_STRIP_HEIGHT = 512
"""Largest height of a picture in a strip."""


@dataclass(frozen=True, kw_only=True)
class InferOptions:
    """The options of the command, by its names."""

    model: str | None = None
    """A pipeline folder or repository; None takes the packaged model."""
    focus: tuple[str, ...] = ()
    blur: float = 16.0
    focus_range: float = 0.0
    depth: Path | None = None
    depth_model: str | None = None
    sweep: Literal["aperture", "focus"] | None = None
    steps: int = 5
    work_size: str | None = None
    color: ColorFix = "auto"
    seed: int | None = None
    tile_batch: int = 1
    maps: bool = False
    device: str = "auto"
    dtype: str | None = None


def infer_photos(
    photos: Sequence[Path], out: Path, options: InferOptions
) -> Iterator[tuple[Path, BokehsynthError | str]]:
    """Process photos; yields each with a line about its result, or the error of a file that cannot be used.

    All options are checked before the first photo.
    """
    _check(photos, out, options)
    work_size = _work_size(options.work_size)
    focus = parse_focus(options.focus)
    pipe = open_for_use(options.model, options.depth_model, options.device, options.dtype)
    call: dict[str, Any] = {
        "focus_range": options.focus_range,
        "work_size": work_size,
        "color": options.color,
        "tiles": TileOptions(batch=options.tile_batch),
        "depth": options.depth,
        "output_type": "photo",
    }
    for path in photos:
        if options.seed is not None:
            call["generator"] = torch.Generator().manual_seed(options.seed)
        with about(path):
            outcome = _infer_photo(pipe, path, out, focus, options, call)
        yield path, outcome


def taken_by_default(options: InferOptions) -> list[str]:
    """A line for each network of the package that is used because none was named."""
    if options.model is None:
        return [f"model: {packaged_model().name}, which comes with magicbokeh; --model takes another"]
    folder, wants_depth = Path(options.model), options.depth is None and options.depth_model is None
    alone = folder.is_dir() and not (folder / "depth_estimator").is_dir()
    needed = options.blur != 0 or options.sweep is not None
    if not wants_depth or not alone or not needed or packaged_depth() is None:
        return []
    return ["depth: by the network that comes with magicbokeh, because the model has none; --depth-model takes another"]


def _infer_photo(
    pipe: MagicBokehPipeline, path: Path, out: Path, focus: Any, options: InferOptions, call: dict[str, Any]
) -> BokehsynthError | str:
    """Process one photo; returns a line about its result, or the error of a file that cannot be used."""
    try:
        photo = open_photo(path)
    except (AssetError, UsageError) as error:
        return error
    target = _target(path, out, options)
    if options.sweep is not None:
        return _write_strip(pipe, photo, focus, options, call, target)
    result = pipe(photo, focus=focus, blur=options.blur, **call)
    result.images[0].save(target)
    if options.maps:
        _write_maps(result, target)
    return f"{target}: {describe(result)}"


def describe(result: BokehOutput) -> str:
    """Describe a result in one line: size, focus, largest radius in pixels of the photo."""
    height, width = result.defocus[0].shape
    if result.focus[0] is None:
        return f"{width} x {height}, restored"
    far, near = (min(max(end, 0.0), 1.0) for end in result.focus[0])
    focus = f"{far:.3f}" if near == far else f"{far:.3f} to {near:.3f}"
    return f"{width} x {height}, focus at disparity {focus}, blur to {float(result.defocus[0].max()):.1f} px"


def open_for_use(
    model: str | None, depth_model: str | None = None, device: str = "auto", dtype: str | None = None
) -> MagicBokehPipeline:
    """Open a model, the packaged one if none is named, fused and with its depth network."""
    pipe = open_pipeline(str(packaged_model()) if model is None else model, device, dtype)
    pipe.fuse()
    if pipe.device.type == "cuda":
        use_channels_last(pipe)
    if depth_model is not None:
        pipe.register_modules(depth_estimator=load_depth_model(depth_model).to(pipe.device, pipe.dtype))
    return pipe


def use_channels_last(pipe: MagicBokehPipeline) -> None:
    """Lay the weights of convolutions out as tensor cores read them. Pictures differ by rounding at most."""
    for part in (pipe.unet, pipe.controlnet, pipe.vae):
        part.to(memory_format=torch.channels_last)


def open_pipeline(model: str, device: str = "auto", dtype: str | None = None) -> MagicBokehPipeline:
    """Open a pipeline on a device; DeviceError where that is not there."""
    import diffusers
    import transformers

    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()
    target = check_device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
    precision = torch.float16 if dtype == "float16" or (dtype is None and target.type == "cuda") else torch.float32
    pipe = MagicBokehPipeline.from_pretrained(model).to(target)
    _cast_quietly(pipe, precision)
    pipe.set_progress_bar_config(disable=not sys.stderr.isatty(), leave=False, unit="tile")
    return pipe


def check_device(device: str) -> torch.device:
    """The torch device of that name; DeviceError where it is not there."""
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError) as error:
        raise DeviceError(f"{device}: no such device here ({str(error).splitlines()[0]}); use --device cpu") from None
    return found


def export_model(
    model: str, out: Path, dtype: str = "float32", checkpoint: str = "last", depth_model: str | None = None
) -> Path:
    """Write the fused pipeline of `model` to the new folder `out`.

    `model` is a pipeline folder or repository, or the folder of a training run, of which `checkpoint` is taken.
    `depth_model`, what `load_depth_model` takes, becomes its depth network.
    """
    check_new_folder(out)
    # Merged in float32, then rounded once.
    pipe = open_pipeline(pipeline_folder(model, checkpoint), "cpu", "float32")
    if depth_model is not None:
        pipe.register_modules(depth_estimator=load_depth_model(depth_model))
    check_finite_weights(pipe, model)
    pipe.fuse()
    _cast_quietly(pipe, getattr(torch, dtype))
    write_folder(out, pipe.save_pretrained)
    return out


def pipeline_folder(model: str, checkpoint: str) -> str:
    """The pipeline folder of a training run's checkpoint; any other `model` is returned unchanged."""
    saved = Path(model) / "checkpoints"
    if not (Path(model) / "run.json").is_file():
        return model
    if not (saved / checkpoint / "pipeline").is_dir():
        there = sorted(path.name for path in saved.glob("[!.]*")) if saved.is_dir() else []
        raise UsageError(f"{model}: this run has no checkpoint {checkpoint!r}; it has {', '.join(there) or 'none yet'}")
    check_files(SavedCheckpoint(saved / checkpoint, read_state(saved / checkpoint)))
    return str(saved / checkpoint / "pipeline")


def _cast_quietly(pipe: MagicBokehPipeline, dtype: torch.dtype) -> None:
    """Convert to another dtype without diffusers' warnings: about an empty list of modules, and about float16 on the
    CPU, which the caller requested.
    """
    from diffusers.utils import logging

    if dtype == torch.float32:
        return
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        pipe.to(dtype)
    finally:
        logging.set_verbosity(before)


def parse_focus(words: Sequence[str]) -> Any:
    """Parse `--focus`: x,y (several of them), x0,y0,x1,y1, a disparity, a mask file, or auto."""
    if not words or list(words) == ["auto"]:
        return "auto"
    numbers = [_numbers(word) for word in words]
    if len(words) == 1 and numbers[0] is None:
        return _read_mask(Path(words[0]))
    if len(words) == 1 and numbers[0] is not None and len(numbers[0]) in (1, 2, 4):
        return numbers[0][0] if len(numbers[0]) == 1 else tuple(numbers[0])
    if all(point is not None and len(point) == 2 for point in numbers):
        return [tuple(point) for point in numbers if point is not None]
    raise UsageError(
        f"--focus: x,y, or a box x0,y0,x1,y1, or a disparity, or a mask file, or auto; several must all be points: "
        f"{' '.join(words)}"
    )


def _numbers(word: str) -> list[float] | None:
    try:
        return [float(part) for part in word.split(",")]
    except ValueError:
        return None


def _read_mask(path: Path) -> npt.NDArray[np.bool_]:
    try:
        check_regular(path)
    except UsageError as error:
        raise UsageError(f"--focus: neither a point x,y nor a mask file that is there ({error})") from None
    return open_photo(path).srgb()[..., 0] > 0.5


def _check(photos: Sequence[Path], out: Path, options: InferOptions) -> None:
    for path in photos:
        check_regular(path)
    names = [path.stem for path in photos]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(f"{', '.join(twice)}: several photos of this name would overwrite each other in {out}")
    if options.depth is not None and len(photos) > 1:
        raise UsageError("--depth: goes with one photo, or leave it to the depth model")
    if options.sweep == "focus" and options.focus:
        raise UsageError("--focus: has no meaning with --sweep focus, which runs through all depths")
    inputs = [*photos, *(Path(word) for word in (options.depth, *options.focus) if word is not None)]
    read = {path.resolve() for path in inputs}
    for path in photos:
        if _target(path, out, options).resolve() in read:
            raise UsageError(
                f"--out: {_target(path, out, options)} is read from, and would be overwritten; choose another"
            )
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{out}: {error.strerror or error} (choose another --out)") from None


def _target(photo: Path, out: Path, options: InferOptions) -> Path:
    return out / (f"{photo.stem}.png" if options.sweep is None else f"{photo.stem}.{options.sweep}.png")


def _work_size(word: str | None) -> int | str | None:
    if word is None or word == "full":
        return word
    if not word.isdigit():
        raise UsageError(f"--work-size: pixels of the shorter side, or full, not {word}")
    return int(word)


def _write_strip(
    pipe: MagicBokehPipeline, photo: Photo, focus: Any, options: InferOptions, call: dict[str, Any], target: Path
) -> str:
    """Write a sweep as one picture: growing aperture, or focus from far to near."""
    disparity = pipe.disparity(photo, options.depth)
    call = call | {"depth": disparity}
    if options.sweep == "aperture":
        values = [float(value) for value in np.linspace(0, options.blur, options.steps)]
        result = pipe.sweep(photo, "aperture", values, focus=focus, **call)
    else:
        values = [float(value) for value in np.quantile(disparity, np.linspace(0.05, 0.95, options.steps))]
        result = pipe.sweep(photo, "focus", values, blur=options.blur, **call)
    height = min(_STRIP_HEIGHT, photo.size[0])
    width = max(1, round(photo.size[1] * height / photo.size[0]))
    cells = [cv2.resize(image.pixels, (width, height), interpolation=cv2.INTER_AREA) for image in result.images]
    result.images[0].with_pixels(np.concatenate(cells, axis=1)).without_alpha().save(target)
    name = "blur" if options.sweep == "aperture" else "focus"
    return f"{target}: {name} " + ", ".join(f"{value:.3g}" for value in values)


def _write_maps(result: BokehOutput, target: Path) -> None:
    for name, values in (("defocus", result.defocus[0]), ("disparity", result.disparity[0])):
        if values is not None:
            data = io.BytesIO()
            np.save(data, values)
            atomic_write(target.with_suffix(f".{name}.npy"), data.getvalue())

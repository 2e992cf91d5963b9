"""Disparity of a photograph: Depth Anything V2 through transformers, or a map from a file."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch

from bokehsynth import AssetError, DataError, UsageError

FloatArray = npt.NDArray[np.float32]

DEFAULT_MODEL = "depth-anything/Depth-Anything-V2-Small-hf"
"""The Small model alone has a free licence (Apache-2.0); Base and Large are CC-BY-NC-4.0."""

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Depth Anything's input normalisation, RGB."""


def load_depth_model(source: str = DEFAULT_MODEL) -> Any:
    """Load the transformers model of a folder or hub repository; UsageError where neither has it."""
    from transformers import DepthAnythingForDepthEstimation

    try:
        return DepthAnythingForDepthEstimation.from_pretrained(source).eval()
    except (OSError, ValueError) as error:
        raise UsageError(
            f"depth: the model {source} is neither on this machine nor can it be fetched "
            f"({str(error).splitlines()[0][:200]}); give a map (depth=..., --depth MAP.png), a folder with the model "
            "(--depth-model DIR), or run once with a connection"
        ) from None


@torch.no_grad()
def estimate_disparity(model: Any, srgb: FloatArray, device: torch.device) -> FloatArray:
    """Estimate disparity [H, W] (1 = near) of a picture [H, W, 3] in 0..1; scaled to 0..1, not quantised."""
    height, width = srgb.shape[:2]
    backbone = model.config.backbone_config
    patch, side = backbone.patch_size, backbone.image_size
    scale = side / min(height, width)
    inner = [max(patch, round(length * scale / patch) * patch) for length in (height, width)]
    shrink = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    resized = cv2.resize(srgb, (inner[1], inner[0]), interpolation=shrink)
    small = (resized - np.array(IMAGENET_MEAN, np.float32)) / np.array(IMAGENET_STD, np.float32)
    pixels = torch.from_numpy(np.ascontiguousarray(small.transpose(2, 0, 1), np.float32))[None]
    found = model(pixels.to(device, model.dtype)).predicted_depth[0].float().cpu().numpy()
    if not np.isfinite(found).all():
        raise DataError("depth: the model gives NaN or infinity; use it in float32 or float16, or give a map")
    return stretch(cv2.resize(found, (width, height), interpolation=cv2.INTER_LINEAR))


def stretch(values: npt.NDArray[Any]) -> FloatArray:
    """Scale to 0..1 by minimum and maximum; a flat map becomes 0."""
    low, high = float(values.min()), float(values.max())
    if high <= low:
        return np.zeros(values.shape, np.float32)
    return ((values - low) / (high - low)).astype(np.float32)


def read_map(source: str | Path | npt.NDArray[Any], size: tuple[int, int]) -> FloatArray:
    """Read a disparity map (1 = near) as [H, W] float32 in 0..1 at `size`, (height, width).

    An array or .npy: floats within 0..1 are taken as they are, others stretched to 0..1 by minimum and maximum.
    A grey picture of 8 or 16 bits: full scale is 1. UsageError for another shape or aspect ratio than the photo's (a
    map that was not rotated with it); AssetError for a file that cannot be read.
    """
    name = str(source) if isinstance(source, str | Path) else "depth"
    values = _load(Path(source)) if isinstance(source, str | Path) else np.asarray(source)
    if values.ndim == 3 and values.shape[2] in (1, 3, 4):
        if values.shape[2] > 1 and (values[..., :3] != values[..., :1]).any():
            raise UsageError(f"{name}: must be a grey map, one number per pixel; this picture has colours")
        values = values[..., 0]
    if values.ndim != 2 or not min(values.shape):
        raise UsageError(f"{name}: must be [H, W], not {list(values.shape)}")
    found = _normalise(values, name)
    height, width = size
    if abs(found.shape[1] / found.shape[0] / (width / height) - 1) > 0.02 + 2 / min(found.shape):
        raise UsageError(
            f"{name}: {found.shape[1]} x {found.shape[0]} px do not match the photo, which upright is {width} x "
            f"{height}; make the map from the upright photo"
        )
    if found.shape == size:
        return found
    shrink = cv2.INTER_AREA if found.shape[0] > height else cv2.INTER_LINEAR
    return cv2.resize(found, (width, height), interpolation=shrink).astype(np.float32, copy=False)


def _load(path: Path) -> npt.NDArray[Any]:
    if not path.is_file():
        raise UsageError(f"{path}: no such file")
    if path.suffix.lower() == ".npy":
        try:
            return np.asarray(np.load(path, allow_pickle=False))
        except (ValueError, OSError, EOFError) as error:
            raise AssetError(f"{path}: is not an array of numbers ({error})") from None
    data = np.fromfile(path, np.uint8)
    stored = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if data.size else None
    if stored is None:
        raise AssetError(f"{path}: is not a picture that can be read; a map is a grey PNG or a .npy")
    return stored


def _normalise(values: npt.NDArray[Any], name: str) -> FloatArray:
    if values.dtype == np.bool_ or np.issubdtype(values.dtype, np.unsignedinteger):
        full = 1 if values.dtype == np.bool_ else np.iinfo(values.dtype).max
        return (values / full).astype(np.float32)
    if not np.issubdtype(values.dtype, np.number) or np.iscomplexobj(values):
        raise UsageError(f"{name}: must hold numbers, not {values.dtype}")
    values = values.astype(np.float64)
    if not np.isfinite(values).all():
        raise UsageError(f"{name}: holds NaN or infinity; a disparity map is finite, 0 for the far end")
    return values.astype(np.float32) if values.min() >= 0 and values.max() <= 1 else stretch(values)

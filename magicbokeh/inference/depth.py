"""Disparity of a photograph: Depth Anything V2 through transformers, the small network, or a map from a file."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import torch

from bokehsynth import AssetError, BokehsynthError, DataError, UsageError
from magicbokeh.given_files import check_size
from magicbokeh.inference.model_source import DEPTH_FILES, fetch, first_line, saved_depth
from magicbokeh.inference.picture_header import MAX_FILE, MAX_PIXELS, decode_deep, read_header
from magicbokeh.model.config import LITE_MULTIPLE
from magicbokeh.model.depth_folder import check_depth_folder
from magicbokeh.model.folder_files import count_weights
from magicbokeh.model.folders import check_lite_depth_folder, is_lite_depth
from magicbokeh.model.lite_depth import LiteDepthNetwork

FloatArray = npt.NDArray[np.float32]

DEFAULT_MODEL = "depth-anything/Depth-Anything-V2-Small-hf"
"""The Small model alone has a free licence (Apache-2.0); Base and Large are CC-BY-NC-4.0."""

_MOST_ASPECT = 16
"""Ratio of the sides up to which the depth model sees a picture with its own size as the shorter side."""

_EDGE_RADIUS, _EDGE_NOISE = 5, 2e-3
"""Of `follow_edges`: window in pixels of the network's picture, and the variance of brightness that counts as noise."""

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Depth Anything's input normalisation, RGB."""


class DepthInput(NamedTuple):
    """How a depth network wants its pictures."""

    side: int
    """Shorter side in pixels."""
    multiple: int
    """What both sides are multiples of."""
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    """Of sRGB in 0..1, subtracted and divided by."""


def depth_input(model: Any) -> DepthInput:
    """How a network wants its pictures: the small one, or one of transformers."""
    if isinstance(model, LiteDepthNetwork):
        return DepthInput(model.config.side, LITE_MULTIPLE, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    backbone = model.config.backbone_config
    return DepthInput(backbone.image_size, backbone.patch_size, IMAGENET_MEAN, IMAGENET_STD)


def load_depth_model(source: str | Path = DEFAULT_MODEL, dtype: torch.dtype | None = None) -> Any:
    """Load the depth network of a folder or hub repository; UsageError where neither has it.

    A folder is that of a network, of a pipeline with one, or of a run that trained one (its best is taken).
    The folder is checked first, and its configuration rebuilt from the fields that are known: nothing else of it
    reaches transformers. DataError where its weights are not exactly those of the network.
    """
    from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation

    folder = saved_depth(Path(source))
    if not folder.exists():
        otherwise = (
            f"depth: the model {source} is neither on this machine nor can it be fetched; give a map (depth=..., "
            "--depth MAP.png), a folder with the model (--depth-model DIR), or run once with a connection"
        )
        if "/" not in str(source):  # repositories are OWNER/NAME
            raise UsageError(otherwise)
        folder = fetch(str(source), DEPTH_FILES, otherwise)
    if is_lite_depth(folder):
        return _load_lite(folder, torch.float32 if dtype is None else dtype)
    config = DepthAnythingConfig.from_dict(check_depth_folder(folder))
    options = {} if dtype is None else {"torch_dtype": dtype}
    try:
        with torch.device("meta"):  # transformers would allocate what the file lacks
            wanted = sum(value.numel() for value in DepthAnythingForDepthEstimation(config).state_dict().values())
        if (held := count_weights(folder)) < wanted // 2:
            raise DataError(f"{folder}: its files hold {held:,} weights, the network of its config.json {wanted:,}")
        model, info = DepthAnythingForDepthEstimation.from_pretrained(
            folder, config=config, use_safetensors=True, local_files_only=True, output_loading_info=True, **options
        )
    except (BokehsynthError, MemoryError, ImportError):
        raise
    except Exception as error:  # a configuration that no network can be built of may raise anything
        raise DataError(
            f"{folder}: the depth model cannot be opened ({type(error).__name__}: {first_line(error)}); fetch it again"
        ) from error
    faults = [
        f"{len(info[kind])} {kind.partition('_')[0]} ({', '.join(map(str, sorted(info[kind])[:3]))})"
        for kind in ("missing_keys", "unexpected_keys", "mismatched_keys")
        if info[kind]
    ]
    if faults:
        raise DataError(f"{folder}: the weights are not those of its network: {'; '.join(faults)}; fetch it again")
    return model.eval()


def _load_lite(folder: Path, dtype: torch.dtype) -> LiteDepthNetwork:
    check_lite_depth_folder(folder)
    try:
        model: LiteDepthNetwork = LiteDepthNetwork.from_pretrained(folder, torch_dtype=dtype)
    except (BokehsynthError, MemoryError, ImportError):
        raise
    except Exception as error:  # weights of another shape may raise anything
        raise DataError(
            f"{folder}: the depth model cannot be opened ({type(error).__name__}: {first_line(error)}); make it again"
        ) from error
    return model.eval()


@torch.no_grad()
def estimate_disparity(model: Any, srgb: FloatArray, device: torch.device) -> FloatArray:
    """Estimate disparity [H, W] (1 = near) of a picture [H, W, 3] in 0..1; scaled to 0..1, not quantised."""
    height, width = srgb.shape[:2]
    side, patch, mean, std = depth_input(model)
    scale = side / min(height, width)
    if max(height, width) > _MOST_ASPECT * min(height, width):  # a strip of 16 px would become gigabytes
        scale *= (_MOST_ASPECT * min(height, width) / max(height, width)) ** 0.5
    inner = [max(patch, round(length * scale / patch) * patch) for length in (height, width)]
    shrink = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    resized = cv2.resize(srgb, (inner[1], inner[0]), interpolation=shrink)
    small = (resized - np.array(mean, np.float32)) / np.array(std, np.float32)
    pixels = torch.from_numpy(np.ascontiguousarray(small.transpose(2, 0, 1), np.float32))[None]
    found = model(pixels.to(device, model.dtype)).predicted_depth[0].float().cpu().numpy()
    if not np.isfinite(found).all():
        raise DataError("depth: the model gives NaN or infinity; use it in float32 or float16, or give a map")
    if isinstance(model, LiteDepthNetwork):  # its maps are coarse
        return stretch(follow_edges(found, np.asarray(resized, np.float32), srgb))
    return stretch(cv2.resize(found, (width, height), interpolation=cv2.INTER_LINEAR))


def follow_edges(coarse: FloatArray, small: FloatArray, picture: FloatArray) -> FloatArray:
    """Enlarge a coarse map to the size of a picture [H, W, 3] so that its edges become the picture's.

    `small` is the picture at the size at which the map is seen as a linear function of its brightness around each pixel
    (He and Sun, Fast guided filter, 2015); the map may be coarser still.
    """
    size, window = (small.shape[1], small.shape[0]), (2 * _EDGE_RADIUS + 1, 2 * _EDGE_RADIUS + 1)
    values, guide = cv2.resize(coarse, size, interpolation=cv2.INTER_LINEAR), small.mean(2, dtype=np.float32)

    def around(field: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return cv2.blur(field, window, borderType=cv2.BORDER_REFLECT_101)

    mean, mean_guide = around(values), around(guide)
    slope = (around(values * guide) - mean * mean_guide) / (around(guide * guide) - mean_guide**2 + _EDGE_NOISE)
    level = mean - slope * mean_guide
    full = (picture.shape[1], picture.shape[0])
    slope, level = (cv2.resize(around(one), full, interpolation=cv2.INTER_LINEAR) for one in (slope, level))
    return np.asarray(slope * picture.mean(2, dtype=np.float32) + level, np.float32)


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
    if path.suffix.lower() == ".npy":
        return _load_npy(path)
    read_header(path)
    stored = decode_deep(path)
    if stored is None:
        raise AssetError(f"{path}: is not a picture that can be read; a map is a grey PNG or a .npy")
    return stored


def _load_npy(path: Path) -> npt.NDArray[Any]:
    """Read an array whose header promises no more than the file holds."""
    size = check_size(path, MAX_FILE)
    try:
        with open(path, "rb") as file:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, dtype = read(file)
            count = math.prod(shape)
            if dtype.hasobject or not 1 <= len(shape) <= 3 or any(length < 0 for length in shape):
                raise ValueError(f"shape {shape!s:.100} of {dtype!s:.100}")
            if count * dtype.itemsize > size - file.tell() or count > 4 * MAX_PIXELS:
                raise ValueError(f"shape {shape!s:.100} in a file of {size:,} bytes")
        return np.asarray(np.load(path, allow_pickle=False))
    except MemoryError:
        raise AssetError(f"{path}: takes more memory than there is", "too_large") from None
    except Exception as error:  # a damaged header may raise anything
        raise AssetError(f"{path}: is not an array of numbers ({error!s:.200})") from None


def _normalise(values: npt.NDArray[Any], name: str) -> FloatArray:
    if values.dtype == np.bool_ or np.issubdtype(values.dtype, np.unsignedinteger):
        full = 1 if values.dtype == np.bool_ else np.iinfo(values.dtype).max
        return _by_rows(values, lambda rows: rows / full)
    if not np.issubdtype(values.dtype, np.number) or np.iscomplexobj(values):
        raise UsageError(f"{name}: must hold numbers, not {values.dtype}")
    if not np.isfinite(values).all():
        raise UsageError(f"{name}: holds NaN or infinity; a disparity map is finite, 0 for the far end")
    low, high = float(values.min()), float(values.max())
    if low >= 0 and high <= 1:
        return values.astype(np.float32)
    if high <= low:
        return np.zeros(values.shape, np.float32)
    return _by_rows(values, lambda rows: (rows.astype(np.float64) - low) / (high - low))


def _by_rows(values: npt.NDArray[Any], convert: Callable[[npt.NDArray[Any]], npt.NDArray[Any]]) -> FloatArray:
    """Convert in float64, some rows at a time: a whole map of that type may not fit into memory."""
    found = np.empty(values.shape, np.float32)
    for top in range(0, len(values), 256):
        found[top : top + 256] = convert(values[top : top + 256])
    return found

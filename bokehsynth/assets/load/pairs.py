"""Photographed pairs: group files by name, load them together, and check their alignment.

Two common layouts are recognized:

    ebb/original/123.jpg  ebb/bokeh/123.jpg  ebb/disparity/123.png  ebb/mask/123.png      one folder per role
    pairs/123_input.jpg   pairs/123_bokeh.jpg  pairs/123_disparity.png  ...               one suffix per role

and any other by patterns with `{name}` in the source.
"""

import io
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from bokehsynth.assets.decode.decoder import DEFAULT_LIMITS, Limits, decode_raster
from bokehsynth.assets.decode.raster import Raster
from bokehsynth.assets.decode.rejection import RejectedPicture
from bokehsynth.assets.decode.safe_read import read_unchanged
from bokehsynth.assets.spec import PairChecks, PairPatterns
from bokehsynth.color import FloatArray
from bokehsynth.errors import StorageError
from bokehsynth.imaging.registration import ViewComparison

ROLES: dict[str, tuple[str, ...]] = {
    "aif": ("aif", "input", "original", "all_in_focus", "sharp"),
    "bokeh": ("bokeh", "target", "gt", "hq", "wide"),
    "disparity": ("disparity", "depth"),
    "mask": ("mask", "focalmask", "focal_mask", "focal", "focusmask", "focus_mask"),
}
"""Role -> folder names and suffixes, in any case. `depth`, too, must be bright where it is near."""
REQUIRED, MAP_ROLES = ("aif", "bokeh"), ("disparity", "mask")
PHOTOS = (".png", ".jpg", ".jpeg", ".jpe", ".webp", ".tif", ".tiff", ".exr", ".hdr")
MAPS = (*PHOTOS, ".npy")


@dataclass(frozen=True, eq=False)
class PhotoPair:
    """Two photographs of one view in linear light, with their maps; all of one size."""

    all_in_focus: FloatArray
    """[H, W, 3]."""
    bokeh: FloatArray
    """[H, W, 3]."""
    disparity: FloatArray | None
    """[H, W], relative inverse depth of any scale and offset, larger = nearer."""
    mask: FloatArray | None
    """[H, W] in 0..1, 1 where the subject is in focus."""


def group_pairs(folder: Path, patterns: PairPatterns | None = None) -> tuple[dict[str, dict[str, Path]], list[Path]]:
    """The files of a folder by name and role, names in order; and the files that belong to no pair.

    StorageError where a folder below cannot be listed.
    """
    files = []
    for place, folders, names in os.walk(folder, onerror=_raise_unlistable):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        files += sorted(Path(place, name) for name in names if not name.startswith("."))
    found: dict[str, dict[str, Path]] = {}
    others = []
    for path in files:
        known = _by_name(path, folder) if patterns is None else _by_patterns(path, folder, patterns)
        if known is None or path.suffix.lower() not in (PHOTOS if known[1] in REQUIRED else MAPS):
            others.append(path)
            continue
        name, role = known
        if role in found.setdefault(name, {}):
            others.append(path)  # a second file of the same role: the first by name counts
            continue
        found[name][role] = path
    return {name: found[name] for name in sorted(found)}, others


def _raise_unlistable(error: OSError) -> None:
    raise StorageError(f"{error.filename}: the folder cannot be listed: {error.strerror}")


def load_pair(
    paths: Mapping[str, Path],
    root: Path | None = None,
    limits: Limits = DEFAULT_LIMITS,
    sha256: Mapping[str, str] | None = None,
) -> tuple[PhotoPair, Raster]:
    """Read the files of a pair by role, maps resized to the photographs; and the stored sharp photo.

    With `sha256` (by role), ChangedError if a file no longer has that digest. Raises RejectedPicture.
    """
    expected = sha256 or {}
    aif, bokeh = (
        decode_raster(read_unchanged(paths[r], root, expected.get(r)), str(paths[r]), limits) for r in REQUIRED
    )
    if aif.size != bokeh.size:
        sizes = " and ".join(f"{photo.size[1]} x {photo.size[0]}" for photo in (aif, bokeh))
        raise RejectedPicture(
            f"{paths['aif']}: the two photographs of this pair have different sizes, {sizes}", "pair_size"
        )
    size = aif.size[::-1]
    disparity, mask = (
        read_map(paths[r], size, root, limits, expected.get(r)) if r in paths else None for r in MAP_ROLES
    )
    if mask is not None and mask.max() > 0:
        mask = np.clip(mask / mask.max(), 0, 1).astype(np.float32)
    return PhotoPair(aif.light(), bokeh.light(), disparity, mask), aif


def pair_rejection(views: ViewComparison, shorter_side: int, checks: PairChecks, name: str) -> RejectedPicture | None:
    """The rejection of a pair that fails `checks`: alignment, shift or exposure; None if it passes."""
    allowed = max(1.5, checks.max_shift * shorter_side)
    if views.correlation < checks.min_likeness:
        return RejectedPicture(
            f"{name}: the two photographs of this pair cannot be aligned: after the best shift their subjects "
            f"correlate by {views.correlation:.2f}, {checks.min_likeness:g} is asked for (assets.checks.min_likeness)",
            "unlike",
        )
    if views.pixels > allowed:
        return RejectedPicture(
            f"{name}: in the photo through the lens the subject lies {views.pixels:.1f} px from its place "
            f"({views.shift[0]:+.1f}, {views.shift[1]:+.1f}), {allowed:.1f} px are allowed (assets.checks.max_shift); "
            "align the two photographs",
            "misaligned",
        )
    if views.stops > checks.max_stops:
        gains = ", ".join(f"{gain:.2f}" for gain in views.gain)
        return RejectedPicture(
            f"{name}: in the photo through the lens the subject is {views.stops:.2f} stops off (gain of red, green, "
            f"blue: {gains}), {checks.max_stops:g} are allowed (assets.checks.max_stops); match the exposures",
            "exposure",
        )
    return None


def _by_name(path: Path, folder: Path) -> tuple[str, str] | None:
    """Name and role of a file by the folder it lies in, or by its suffix."""
    parts = path.relative_to(folder).parts
    for depth, part in enumerate(parts[:-1]):
        role = _role(part)
        if role is not None:
            return "/".join([*parts[:depth], *parts[depth + 1 : -1], path.stem]), role
    # The longest suffix counts: `x_focal_mask` is a focal mask, not the mask of `x_focal`.
    for suffix in sorted((word for words in ROLES.values() for word in words), key=len, reverse=True):
        match = re.fullmatch(rf"(.*)[_-]{suffix.replace('_', '[_-]')}", path.stem, re.IGNORECASE)
        if match:
            return ("/".join([*parts[:-1], match[1]]), _role(suffix) or "") if match[1] else None
    return None


def _role(word: str) -> str | None:
    """The role of a folder name or suffix; `-` and `_` are equivalent."""
    return next((role for role, words in ROLES.items() if word.lower().replace("-", "_") in words), None)


def _by_patterns(path: Path, folder: Path, patterns: PairPatterns) -> tuple[str, str] | None:
    relative = path.relative_to(folder).as_posix()
    for role in ROLES:
        pattern = getattr(patterns, role)
        if pattern is not None:
            before, after = (re.escape(part) for part in pattern.split("{name}"))
            match = re.fullmatch(f"{before}(.+?){after}", relative)
            if match:
                return match[1], role
    return None


def read_map(
    path: Path,
    size: tuple[int, int],
    root: Path | None = None,
    limits: Limits = DEFAULT_LIMITS,
    sha256: str | None = None,
) -> FloatArray:
    """A map [H, W] at `size` (width, height): integers over their full scale, floats as they are.

    With `sha256`, ChangedError if the file no longer has that digest.
    """
    data = read_unchanged(path, root, sha256)
    if path.suffix.lower() == ".npy":
        values = _numpy(data, path, limits)
    else:
        raster = decode_raster(data, str(path), limits)
        values = raster.grey() if not raster.linear else np.asarray(raster.values, np.float32)
        values = values if values.ndim == 2 else values.mean(axis=2, dtype=np.float32)
    if values.shape != size[::-1]:
        shrinks = values.shape[0] >= size[1] and values.shape[1] >= size[0]
        values = cv2.resize(values, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)  # type: ignore[assignment]
    return np.asarray(values, np.float32)


def _numpy(data: bytes, path: Path, limits: Limits) -> FloatArray:
    """The map in the bytes of an .npy file, whose header is checked before anything is allocated."""
    file = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(file)
        read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, _, dtype = read_header[version](file)
    except Exception as error:  # NumPy parses the header as Python: it raises anything on malformed bytes
        cause = (str(error).splitlines() or [type(error).__name__])[0]
        raise RejectedPicture(f"{path}: is no plain NumPy array of numbers ({cause:.200})", "corrupt") from None
    if dtype.kind not in "biuf":
        raise RejectedPicture(f"{path}: is no plain NumPy array of numbers (its type is {dtype!r:.80})", "corrupt")
    sides = [side for side in shape if side != 1] if len(shape) > 2 else list(shape)
    if len(sides) != 2 or min(sides) < 1:
        raise RejectedPicture(f"{path}: must hold a map [H, W], got shape {shape!s:.80}", "corrupt")
    if sides[0] * sides[1] > limits.max_pixels:
        words = f"{sides[1]!r:.12} x {sides[0]!r:.12} is more than {limits.max_pixels / 1e6:g} million pixels"
        raise RejectedPicture(f"{path}: {words}", "too_large")
    if len(data) - file.tell() != sides[0] * sides[1] * dtype.itemsize:
        held = f"{len(data) - file.tell():,} bytes of numbers where its header says {shape} of {dtype}"
        raise RejectedPicture(f"{path}: holds {held}", "truncated")
    file.seek(0)
    values = np.asarray(np.load(file, allow_pickle=False), np.float32).reshape(sides)
    if not np.isfinite(values).all():
        raise RejectedPicture(f"{path}: holds NaN or infinite values", "not_finite")
    return values

"""Depth sets in the layouts in which NYUv2 and KITTI are handed out: photographs with measured metres."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from bokehsynth import AssetError, DataError, UsageError
from magicbokeh.evaluation.items import BoolArray, ByteArray, FloatArray, check_count
from magicbokeh.evaluation.sets import files_identity, read_picture
from magicbokeh.inference.picture_header import decode_deep, read_header

Kind = Literal["NYUv2", "KITTI"]
_METRES = {"NYUv2": 1 / 1000, "KITTI": 1 / 256}
"""Of a count in a 16-bit PNG; 0 is not measured."""
FARTHEST = {"NYUv2": 10.0, "KITTI": 80.0}
"""Metres up to which depth is scored."""
_NEAREST = 1e-3


@dataclass(frozen=True)
class DepthItem:
    """One photograph and its measured depth."""

    key: str
    picture: ByteArray
    """uint8 [H, W, 3] sRGB."""
    metres: FloatArray
    """[H, W]; 0 where nothing was measured."""
    scored: BoolArray
    """[H, W]: measured, within the range and the crop of the protocol."""
    farthest: float


@dataclass(frozen=True)
class DepthSet:
    """Pairs of a photograph and a depth map."""

    kind: Kind
    pairs: list[tuple[str, Path, Path]]
    """Key, photograph, depth map."""

    @property
    def identity(self) -> str:
        """The names, sizes and times of change of the files."""
        return files_identity(self.kind, self.pairs)

    def __len__(self) -> int:
        return len(self.pairs)

    def __iter__(self) -> Iterator[DepthItem]:
        for key, photo, depth in self.pairs:
            picture, metres = read_picture(photo), read_metres(depth, self.kind)
            if picture.shape[:2] != metres.shape:
                size, other = picture.shape, metres.shape
                raise DataError(f"{depth}: {other[1]} x {other[0]} px, its photograph has {size[1]} x {size[0]}")
            scored = (metres > _NEAREST) & (metres < FARTHEST[self.kind]) & crop_mask(metres.shape, self.kind)
            yield DepthItem(key, picture, metres, scored, FARTHEST[self.kind])


def open_depth(path: Path, count: int | None) -> DepthSet | None:
    """Open a folder in NYUv2's or KITTI's layout; None where it is in neither.

    NYUv2: rgb_00045.jpg beside sync_depth_00045.png, 16 bits in millimetres. KITTI: either
    DRIVE_sync/image_02/data/0000000005.png and DRIVE_sync/proj_depth/groundtruth/image_02/0000000005.png anywhere
    below the folder, or the benchmark's selection in image/ and groundtruth_depth/; 16 bits, 256 a metre.
    """
    if not path.is_dir():
        raise UsageError(f"{path}: no such folder")
    for kind, find in (("NYUv2", _nyu_pairs), ("KITTI", _kitti_pairs)):
        if pairs := find(path):
            return DepthSet(kind, pairs[: check_count(count, len(pairs), str(path))])  # type: ignore[arg-type]
    return None


def _nyu_pairs(root: Path) -> list[tuple[str, Path, Path]]:
    found = []
    for depth in sorted(root.rglob("sync_depth_*.png")):
        number = depth.stem.removeprefix("sync_depth_")
        photo = next((one for end in ("jpg", "png") if (one := depth.with_name(f"rgb_{number}.{end}")).is_file()), None)
        if photo is not None:
            found.append((_key(photo, root), photo, depth))
    return found


def _kitti_pairs(root: Path) -> list[tuple[str, Path, Path]]:
    found = []
    for depth in sorted(root.rglob("groundtruth_depth/*_groundtruth_depth_*.png")):
        photo = depth.parents[1] / "image" / depth.name.replace("_groundtruth_depth_", "_image_", 1)
        if photo.is_file():
            found.append((photo.stem, photo, depth))
    photos = {}
    for photo in sorted(root.rglob("image_0[23]/data/*.png")):
        photos[photo.parts[-4], photo.parts[-3], photo.name] = photo
    for depth in sorted(root.rglob("proj_depth/groundtruth/image_0[23]/*.png")):
        place = depth.parts[-5], depth.parts[-2], depth.name
        if place in photos:
            found.append(("__".join((*place[:2], depth.stem)), photos[place], depth))
    return found


def _key(path: Path, root: Path) -> str:
    return "__".join(path.relative_to(root).with_suffix("").parts)


def read_metres(path: Path, kind: Kind) -> FloatArray:
    """A depth map in metres, 0 where nothing was measured; AssetError for another file than a grey one of 16 bits."""
    read_header(path)
    stored = decode_deep(path)
    if stored is None or stored.ndim != 2 or stored.dtype != np.uint16:
        raise AssetError(f"{path}: is not a grey PNG of 16 bits, as {kind}'s depth maps are")
    return (stored * np.float32(_METRES[kind])).astype(np.float32)


def crop_mask(size: tuple[int, ...], kind: Kind) -> BoolArray:
    """What the usual protocols score: Eigen's crop of NYUv2's 640 x 480 px, Garg's of KITTI."""
    height, width = size[:2]
    mask = np.zeros((height, width), np.bool_)
    if kind == "KITTI":  # Garg et al. 2016
        rows, columns = (0.40810811, 0.99189189), (0.03594771, 0.96405229)
        mask[int(rows[0] * height) : int(rows[1] * height), int(columns[0] * width) : int(columns[1] * width)] = True
    elif (height, width) == (480, 640):  # Eigen et al. 2014
        mask[45:471, 41:601] = True
    else:
        mask[:] = True
    return mask

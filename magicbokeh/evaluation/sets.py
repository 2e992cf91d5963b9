"""Sets of pictures: generated ones, and pairs of degraded and clean pictures in RealSR's layout."""

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from bokehsynth import DataError, Sample, UsageError, open_dataset
from magicbokeh.evaluation.items import IN_FOCUS_RADIUS, ByteArray, Item, ItemSet, Outline, Scene, Task, check_count
from magicbokeh.given_files import read_json
from magicbokeh.inference.photo import open_photo
from magicbokeh.inference.picture_header import read_header

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
_LARGEST_RECORD = 64 << 20
"""Bytes of a `dataset.json`, which lists the counts of all shards."""
_FIELDS = ("lq", "hq", "aif", "defocus", "disparity", "mask", "lq_native")
_HIGH = re.compile(r"[-_](hr|gt|hq|x1)$", re.IGNORECASE)
_LOW = re.compile(r"[-_](lr|lq|x)(?:[-_]?x?([234]))?$", re.IGNORECASE)
"""Ends of names: Canon_001_HR and Canon_001_LR4 (RealSR), panasonic_1_x1 and panasonic_1_x4 (DRealSR)."""
_HIGH_FOLDERS = ("test_hr", "hr", "gt", "hq", "high")
_LOW_FOLDERS = ("test_lr", "lr", "lq", "low")


def open_pictures(path: Path, split: str | None, count: int | None) -> ItemSet:
    """Open a generated set, or a folder of pairs; UsageError, with the layouts that are read, for anything else."""
    if (path / "dataset.json").exists():
        return GeneratedSet.open(path, split, count)
    pairs = find_pairs(path)
    if not pairs:
        raise UsageError(
            f"{path}: neither a generated set (dataset.json), nor pairs NAME_HR.png and NAME_LR4.png or folders "
            "test_HR and test_LR, nor a depth set in NYUv2's or KITTI's layout; docs/evaluation.md lists what is read"
        )
    if split is not None:
        raise UsageError(f"--split: {path} has no splits; leave it out")
    return PairSet(path, pairs[: check_count(count, len(pairs), str(path))])


@dataclass(frozen=True)
class GeneratedSet:
    """A split of a set that bokehsynth generated."""

    data: Any
    """The opened ShardDataset."""
    split: str
    task: Task
    identity: str
    outlines: list[Outline]

    @staticmethod
    def open(path: Path, split: str | None, count: int | None) -> "GeneratedSet":
        """Open the given split; else val, or train where `dataset.json` lists no val."""
        split = split or _default_split(path)
        whole: Any = open_dataset(path, split)  # a folder: a reader of shards
        record = whole.record
        data: Any = open_dataset(path, split, [name for name in _FIELDS if name in record["fields"]])
        if missing := [name for name in ("lq", "hq") if name not in data.fields]:
            raise DataError(f"{path}: an evaluation needs {', '.join(missing)}, which the set does not store")
        metas = list(data.records(range(check_count(count, len(data), str(path)))))
        blurred = any(meta["blur"] for meta in metas)
        if blurred and (missing := [name for name in ("aif", "defocus", "disparity") if name not in data.fields]):
            raise DataError(f"{path}: is blurred by a lens; an evaluation needs {', '.join(missing)} too")
        digest = hashlib.sha256(json.dumps([record["identity"], split, len(metas)], sort_keys=True).encode())
        outlines = [Outline(f"{split}-{meta['index']:09d}", (meta["height"], meta["width"])) for meta in metas]
        return GeneratedSet(data, split, "bokeh" if blurred else "restoration", digest.hexdigest(), outlines)

    def __iter__(self) -> Iterator[Item]:
        for index in range(len(self.outlines)):
            yield item_of(self.data[index])


def _default_split(path: Path) -> str:
    """`val`, or `train` where `dataset.json` lists that alone: a damaged `val` is no reason to evaluate on `train`."""
    splits = read_json(path / "dataset.json", _LARGEST_RECORD).get("splits")
    return "train" if isinstance(splits, dict) and "train" in splits and "val" not in splits else "val"


def item_of(sample: Sample) -> Item:
    """The item of a sample: its mask where the set stores one, else what is blurred by at most a pixel, is in focus."""
    if float(sample.meta["blur"]) == 0:
        return Item(sample.key, sample.lq, sample.hq, lq_native=sample.arrays.get("lq_native"))
    meta = sample.meta
    scene = Scene(sample.aif, sample.disparity, sample.defocus, float(meta["blur"]), float(meta["focus"]))
    mask = sample.arrays.get("mask")
    sharp = sample.defocus <= IN_FOCUS_RADIUS if mask is None else mask >= 0.5
    return Item(sample.key, sample.lq, sample.hq, scene, sharp, sample.arrays.get("lq_native"))


# --- pairs


@dataclass(frozen=True)
class PairSet:
    """Pairs of a degraded and a clean picture; the degraded one is enlarged to the size of the other where smaller."""

    path: Path
    pairs: list[tuple[str, Path, Path]]
    """Key, degraded, clean."""
    task: Task = "restoration"
    split: None = None

    @property
    def identity(self) -> str:
        """The names, sizes and times of change of the files."""
        return files_identity("pairs", self.pairs)

    @property
    def outlines(self) -> list[Outline]:
        """Keys, and the sizes that the clean pictures' headers tell."""
        headers = [(key, read_header(high)) for key, _, high in self.pairs]
        return [Outline(key, header.size, header.format != "PNG") for key, header in headers]

    def __iter__(self) -> Iterator[Item]:
        for key, low, high in self.pairs:
            target, native = read_picture(high), read_picture(low)
            height, width = target.shape[:2]
            if native.shape == target.shape:
                yield Item(key, native, target)
                continue
            if abs(native.shape[0] / native.shape[1] / (height / width) - 1) > 0.02:
                raise DataError(f"{low}: {native.shape[1]} x {native.shape[0]} px do not fit {high.name}")
            enlarged = np.asarray(cv2.resize(native, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)
            yield Item(key, enlarged, target, lq_native=native)


def files_identity(kind: str, pairs: Sequence[tuple[str, Path, Path]]) -> str:
    """A digest of the keys, sizes and times of change of pairs of files."""
    stats = [(key, one.stat(), two.stat()) for key, one, two in pairs]
    words = [(key, *((each.st_size, each.st_mtime_ns) for each in both)) for key, *both in stats]
    return hashlib.sha256(json.dumps([kind, words]).encode()).hexdigest()


def find_pairs(folder: Path) -> list[tuple[str, Path, Path]]:
    """Pairs below a folder, by the ends of their names (_HR and _LR4, _x1 and _x4) or of their folders (HR and LR)."""
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder")
    high: dict[str, Path] = {}
    low: dict[str, Path] = {}
    for path in sorted(path for path in folder.rglob("*") if path.suffix.lower() in PICTURES and path.is_file()):
        side, name = _side(path, folder)
        if side is None:
            continue
        place = high if side == "high" else low
        if name in place:
            raise UsageError(f"{folder}: {place[name]} and {path} would both be {name!r}; give the folder of one scale")
        place[name] = path
    return [(name.replace("/", "__"), low[name], high[name]) for name in sorted(high.keys() & low.keys())]


def _side(path: Path, root: Path) -> tuple[str | None, str]:
    """high, low or None, and the name that both pictures of a pair share."""
    inner = path.relative_to(root)
    folders = list(inner.parts[:-1])
    side = None
    for place, word in enumerate(folders):
        if word.lower() in _HIGH_FOLDERS or word.lower() in _LOW_FOLDERS:
            side = "high" if word.lower() in _HIGH_FOLDERS else "low"
            del folders[place]
            break
    stem = inner.stem
    for pattern, kind in ((_HIGH, "high"), (_LOW, "low")):
        if (end := pattern.search(stem)) and side in (None, kind):
            side, stem = kind, stem[: end.start()]
            break
    return side, "/".join([*folders, stem])


def read_picture(path: Path) -> ByteArray:
    """A picture file as sRGB, uint8 [H, W, 3], upright."""
    photo = open_photo(path)
    if photo.pixels.dtype == np.uint8 and photo.profile is None:
        return np.ascontiguousarray(photo.pixels, np.uint8)
    return np.rint(np.clip(photo.srgb(), 0, 1) * 255).astype(np.uint8)

"""The report of `bokehsynth assets`: the contents of one folder as a summary and as a contact sheet."""

import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from bokehsynth.assets.catalogue import Kind, RejectedFile
from bokehsynth.assets.index.build import decide_splits
from bokehsynth.assets.index.cache import IndexCache
from bokehsynth.assets.index.discover import find_candidates
from bokehsynth.assets.index.source import Indexed, ProgressCallback, index_source
from bokehsynth.assets.load.store import cutout_from, landscape_from, read_asset
from bokehsynth.assets.spec import AssetsSpec, SourceSpec
from bokehsynth.color import encode_8bit
from bokehsynth.errors import RecipeError, UsageError
from bokehsynth.imaging.drawing import INK, grid, write_sheet, write_text

CELL, LABEL, COLUMNS, SHOWN = 200, 40, 6, 60
"""Pixels of a cell and of the lines under it, cells a row, and cells in all."""
GREY = (110, 110, 114)


@dataclass(frozen=True)
class FolderReport:
    """One folder, indexed."""

    folder: Path
    kind: Kind
    usable: list[Indexed]
    split_of: dict[str, str]
    """train or val by sha256."""
    quarantine: list[RejectedFile]
    notes: list[str]
    index_place: Path | None

    @classmethod
    def of(cls, folder: Path, kind: str, settings: Mapping[str, Any], progress: ProgressCallback) -> "FolderReport":
        """Index a folder; UsageError if it is none, or holds nothing that looks like a picture."""
        if not folder.is_dir():
            raise UsageError(f"{folder}: is no folder")
        spec = AssetsSpec.model_validate(dict(settings))
        source = SourceSpec(path=str(folder.absolute()))
        meant: Kind = guess_kind(folder.absolute()) if kind == "auto" else kind  # type: ignore[assignment]
        notes: list[str] = []
        usable, rejected = index_source(source, meant, spec, notes, progress)
        if not usable and not rejected:
            raise UsageError(f"{folder}: holds no picture files (PNG, JPEG, WebP, TIFF, .hdr, .exr)")
        split_of = _decide_splits(usable, meant, spec.val_fraction, notes, rejected)
        cache = next((item.cache for item in usable if item.cache), IndexCache.open(folder.absolute()))
        rejected.sort(key=lambda item: (item.name, item.reason))
        return cls(folder, meant, usable, split_of, rejected, notes, cache.save())

    @property
    def listed(self) -> list[Indexed]:
        """The usable pictures in order of their names."""
        return sorted(self.usable, key=lambda item: item.files.name if item.files else item.id)

    def counts(self) -> dict[str, Counter[str]]:
        """Tallies for the summary, by title."""
        probes = [item.probe for item in self.usable if item.probe is not None]
        tallies = {"mode": Counter(probe.mode for probe in probes)}
        tallies["size"] = Counter(_size_class(min(probe.width, probe.height)) for probe in probes)
        if self.kind == "foreground":
            tallies["colours"] = Counter(f"{probe.colors}" for probe in probes)
            tallies["mattes"] = Counter("soft" if (probe.soft or 0) > 0.002 else "hard" for probe in probes)
        return {title: tally for title, tally in tallies.items() if tally}

    def lines(self) -> list[str]:
        """One line per usable picture."""
        result = []
        for item in self.listed:
            assert item.probe is not None
            assert item.files is not None
            probe, split = item.probe, self.split_of.get(item.sha256, "-")
            facts = f"sharpness {probe.sharpness:.2f}" if probe.sharpness is not None else f"{probe.colors}"
            result.append(
                f"{split:6} {probe.width:>5} x {probe.height:<5} {probe.mode:8} {facts:16} "
                f"{item.id}  {item.files.name!r}"
            )
        return result


def _decide_splits(
    usable: list[Indexed], kind: Kind, val_fraction: float, notes: list[str], rejected: list[RejectedFile]
) -> dict[str, str]:
    """Splits as in a recipe with both, or without filling empty ones where there are too few pictures."""
    for splits in (("train", "val"), ()):
        try:
            found: list[RejectedFile] = []
            split_of = decide_splits(usable, kind, val_fraction, splits, notes, found)
        except RecipeError:
            continue
        rejected += found
        return split_of
    return {}


def guess_kind(folder: Path) -> Literal["foreground", "background"]:
    """`foreground` where pictures are paired with mattes, or most of the first 40 have transparency."""
    candidates = find_candidates(folder, "foreground", None).candidates
    if any(candidate.matte for candidate in candidates):
        return "foreground"
    first = candidates[:40]
    transparent = sum(_has_transparency(candidate.image) for candidate in first)
    return "foreground" if transparent > len(first) / 2 else "background"


def _has_transparency(path: Path) -> bool:
    """Whether the header declares transparency; nothing is decoded."""
    try:
        if not path.is_file():
            return False
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=["PNG", "WEBP", "TIFF"]) as image:
                return "A" in image.mode or "a" in image.mode or "transparency" in image.info
    except Exception:  # probing reports what is wrong with it
        return False


def _size_class(side: int) -> str:
    bounds = (256, 512, 1024, 2048)
    return next((f"below {bound} px" for bound in bounds if side < bound), "2048 px and more")


def draw_assets_sheet(report: FolderReport, path: Path) -> None:
    """Write a PNG of the usable pictures, cut-outs over a checkerboard, with names and splits."""
    step = max(1, -(-len(report.usable) // SHOWN))
    cells = [_cell(item, report.split_of.get(item.sha256, "quarantined")) for item in report.listed[::step]]
    write_sheet(path, grid(cells, COLUMNS, np.full_like(cells[0], 250)))


def _cell(item: Indexed, split: str) -> npt.NDArray[np.uint8]:
    assert item.files is not None
    assert item.probe is not None
    picture = _fit_cell(_rendition(item))
    cell = np.full((CELL + LABEL, CELL + 8, 3), 250, np.uint8)
    top, left = (CELL - picture.shape[0]) // 2 + 4, (CELL - picture.shape[1]) // 2 + 4
    cell[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    name = "".join(char if char.isascii() and char.isprintable() else "?" for char in item.files.name)[-32:]
    facts = f"{split}  {item.probe.width} x {item.probe.height}  {item.probe.mode}"
    if item.probe.sharpness is not None:
        facts += f"  sharp {item.probe.sharpness:.2f}"
    return write_text(cell, [(4, CELL + 8, name, 11, INK), (4, CELL + 23, facts, 11, GREY)])


def _rendition(item: Indexed) -> npt.NDArray[np.uint8]:
    """The picture as it is handed to scenes."""
    assert item.files is not None
    raster = read_asset(item.files)
    if item.kind == "background":
        return encode_8bit(landscape_from(raster, CELL).color)
    cutout = cutout_from(raster, item.asset("train").colors, max(1, max(raster.size) // CELL))
    y, x = np.indices(cutout.alpha.shape) // max(6, min(cutout.alpha.shape) // 16)
    board = np.where(((x + y) % 2)[..., None] == 1, np.float32(0.35), np.float32(0.55))
    return encode_8bit(cutout.color * cutout.alpha[..., None] + board * (1 - cutout.alpha[..., None]))


def _fit_cell(picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    factor = (CELL - 8) / max(picture.shape[:2])
    size = (max(1, round(picture.shape[1] * factor)), max(1, round(picture.shape[0] * factor)))
    shrinks = factor < 1
    resized = cv2.resize(picture, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_NEAREST)
    return np.asarray(resized, np.uint8)

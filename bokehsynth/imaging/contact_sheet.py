"""Contact sheets: samples as rows of pictures and coloured maps to be judged by eye."""

import itertools
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from bokehsynth.errors import UsageError
from bokehsynth.imaging.drawing import FAINT, INK, ByteArray, blank, grid, write_sheet, write_text
from bokehsynth.schema import FIELDS, LAYER_FIELDS, SOURCE, VIEW_FIELDS, Sample

COLUMNS = ("aif", "hq", "lq", "defocus", "disparity", "mask")
MOST_VIEWS = 5
"""Columns of views, and of layers, at most; of more, evenly spread ones are shown."""
ANAGLYPH = "anaglyph"
"""The column that shows left in red and right in cyan, for glasses: in focus both meet, elsewhere they part."""
TITLES = {
    "aif": "all in focus",
    "source": "lq starts here",
    "left": "half of the opening",
    "right": "half of the opening",
    ANAGLYPH: "left red, right cyan",
    "hq": "through the lens",
    "lq": "degraded",
    "defocus": "blur radius",
    "disparity": "0 far, 1 near",
    "mask": "1 in focus",
}
COLOR_MAPS = {"defocus": cv2.COLORMAP_INFERNO, "disparity": cv2.COLORMAP_VIRIDIS, "mask": cv2.COLORMAP_BONE}

GAP, HEAD, CAPTION, BAR = 8, 56, 42, 30
SMALLEST_CELL = 128
"""Columns are never narrower: titles and scale bars need that much."""


def contact_sheet(samples: Iterable[Sample], path: str | Path | None = None, cell: int = 256) -> ByteArray:
    """Rows of aif | hq | lq | defocus | disparity with captions, colour maps and scale bars: uint8 [H, W, 3].

    Fields that no sample has are left out (as is `mask`, mostly); where only some lack one, their cells say so. The
    source and at most five views and five layers come behind lq, and of a dual pixel also an anaglyph. `cell`
    is the longer side of a picture in pixels, at least 128. Each map's colours run over one range for the whole sheet,
    shown by its scale bar. With `path`, the sheet is also written as PNG.
    """
    rows = list(samples)
    if not rows:
        raise UsageError("contact_sheet needs at least one sample")
    names = _columns(rows)
    sizes = [_cell_size(sample, cell) for sample in rows]
    ranges = {name: _range(name, rows) for name in COLOR_MAPS}
    column = max(SMALLEST_CELL, *(width for _, width in sizes))
    bands = [_head(column, ranges, names)]
    for sample, (height, width) in zip(rows, sizes, strict=True):
        cells = [_cell(sample, name, height, width, ranges) for name in names]
        bands += [_beside(cells, column), _caption(sample, _total_width(column, len(names)))]
    sheet = np.concatenate(bands, axis=0)
    if path is not None:
        write_sheet(Path(path), sheet, compression=9)
    return sheet


def _columns(rows: list[Sample]) -> list[str]:
    """What is shown of samples, from left to right."""
    stored = {name for sample in rows for name in sample.arrays}
    names = [name for name in COLUMNS if name in stored] or ["hq"]
    more = [name for name in (SOURCE,) if name in stored]
    more += take_spread([name for name in VIEW_FIELDS if name in stored], MOST_VIEWS)
    more += take_spread([name for name in LAYER_FIELDS if name in stored and name.startswith("color")], MOST_VIEWS)
    if {"left", "right"} <= stored:
        more.append(ANAGLYPH)
    place = next((i for i, name in enumerate(names) if name in COLOR_MAPS), len(names))
    return names[:place] + more + names[place:]


def gallery(
    samples: Iterable[Sample], path: str | Path | None = None, cell: int = 256, columns: int = 3, field: str = "hq"
) -> ByteArray:
    """One field of many samples, `columns` a row, each captioned by its aperture, or its key if all have one."""
    shown = list(samples)
    if not shown:
        raise UsageError("gallery needs at least one sample")
    by_aperture = len({sample.meta["aperture"] for sample in shown}) > 1
    sizes = [_cell_size(sample, cell) for sample in shown]
    height, width = (max(side) for side in zip(*sizes, strict=True))
    ranges = {name: _range(name, shown) for name in COLOR_MAPS}
    tiles = []
    for sample, (h, w) in zip(shown, sizes, strict=True):
        tile = blank(height + CAPTION - GAP, width + GAP)
        tile[:h, :w] = _cell(sample, field, h, w, ranges)
        title = re.sub(r"^[\w.]*\.", "", sample.meta["aperture"]) if by_aperture else sample.key
        tiles.append(write_text(tile, [(4, height + 8, title, 15, INK)]))
    sheet = grid(tiles, columns, blank(*tiles[0].shape[:2]))
    frame = blank(sheet.shape[0] + GAP, sheet.shape[1] + GAP)
    frame[GAP:, GAP:] = sheet
    if path is not None:
        write_sheet(Path(path), frame, compression=9)
    return frame


def take_spread(items: Sequence[Any], count: int) -> list[Any]:
    """`count` items spread evenly over a sequence, first and last included."""
    if count >= len(items):
        return list(items)
    return [items[round(i * (len(items) - 1) / max(count - 1, 1))] for i in range(count)]


def _cell_size(sample: Sample, cell: int) -> tuple[int, int]:
    height, width = sample.meta["height"], sample.meta["width"]
    factor = max(cell, SMALLEST_CELL) / max(height, width)
    return max(1, round(height * factor)), max(1, round(width * factor))


def _range(name: str, rows: list[Sample]) -> tuple[float, float]:
    """Disparity and mask always 0..1; radius from 0 to the sheet's largest, 1 px if nothing is blurred."""
    if name != "defocus":
        return 0.0, 1.0
    largest = max((float(sample.arrays[name].max()) for sample in rows if name in sample.arrays), default=0.0)
    return 0.0, largest or 1.0


def _cell(sample: Sample, name: str, height: int, width: int, ranges: dict[str, tuple[float, float]]) -> ByteArray:
    values = anaglyph(sample) if name == ANAGLYPH else sample.arrays.get(name)
    if values is None:
        missing = np.full((height, width, 3), 230, np.uint8)
        return write_text(missing, [(width // 2 - 30, height // 2 - 8, "not stored", 14, FAINT)])
    if name != ANAGLYPH and FIELDS[name].kind == "map":
        low, high = ranges.get(name, (0.0, 1.0))  # mattes are shown only alone
        values = _colored(np.clip((values - low) / (high - low), 0, 1), COLOR_MAPS.get(name, cv2.COLORMAP_BONE))
    shrinks = values.shape[0] > height
    resized = cv2.resize(values, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_NEAREST)
    return np.asarray(resized, np.uint8)


def anaglyph(sample: Sample) -> ByteArray | None:
    """Red of the left half's picture, green and blue of the right one's, uint8 [H, W, 3]; None without both."""
    if not {"left", "right"} <= sample.arrays.keys():
        return None
    return np.concatenate([sample["left"][..., :1], sample["right"][..., 1:]], axis=2)


def _colored(unit: npt.NDArray[Any], color_map: int) -> ByteArray:
    """Values 0..1 [H, W] as RGB [H, W, 3]."""
    levels = np.rint(unit * 255).astype(np.uint8)
    return np.asarray(cv2.applyColorMap(levels, color_map)[..., ::-1], np.uint8)


def _head(width: int, ranges: dict[str, tuple[float, float]], names: Sequence[str]) -> ByteArray:
    band = blank(HEAD, _total_width(width, len(names)))
    texts = []
    for i, name in enumerate(names):
        left = GAP + i * (width + GAP)
        texts.append((left, 8, f"{name}", 16, INK))
        texts.append((left + 12 + 8 * len(name), 10, TITLES.get(name, ""), 13, FAINT))
        if name in ranges:
            ramp = _colored(np.linspace(0, 1, width - 90)[None].repeat(9, axis=0), COLOR_MAPS[name])
            band[BAR + 6 : BAR + 15, left + 14 : left + 14 + ramp.shape[1]] = ramp
            low, high = ranges[name]
            unit = " px" if name == "defocus" else ""
            texts.append((left, BAR + 2, f"{low:g}", 13, INK))
            texts.append((left + 20 + ramp.shape[1], BAR + 2, f"{high:.3g}{unit}", 13, INK))
    return write_text(band, texts)


def _caption(sample: Sample, width: int) -> ByteArray:
    meta = sample.meta
    names = meta["assets"][1:] + meta["assets"][:1]
    assets = "   ".join(
        name[:12] if name.startswith(("photo-", "pair-")) else name.removeprefix("procedural/") for name in names
    )
    if "source_blur" in meta:
        assets = (
            f"lq from K {meta['source_blur']:.1f} px, focus {meta['source_focus']:.3f}, {meta['source_aperture']}; hq "
            f"{meta['aperture']}   {assets}"
        )
    focus = f"K {meta['blur']:.1f} px   focus {meta['focus']:.3f}   largest radius {meta['radius_max']:.1f} px"
    texts = [(GAP, 4, sample.key, 14, INK), (GAP + 140, 4, focus, 13, INK), (GAP + 560, 4, assets, 13, FAINT)]
    return write_text(blank(CAPTION, width), texts)


def _beside(cells: list[ByteArray], column: int) -> ByteArray:
    height, width = cells[0].shape[:2]
    gap = blank(height, GAP)
    after = blank(height, column - width + GAP)
    return np.concatenate([gap, *itertools.chain.from_iterable((cell, after) for cell in cells)], axis=1)


def _total_width(width: int, columns: int) -> int:
    return GAP + columns * (width + GAP)

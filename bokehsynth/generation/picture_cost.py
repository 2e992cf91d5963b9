"""What it takes to load and draw the pictures of a data set: from their sizes and from draws, nothing is opened."""

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from bokehsynth.assets.catalogue import Asset, AssetFiles, Kind
from bokehsynth.assets.load.class_pictures import class_of, class_size
from bokehsynth.assets.load.picture_cache import picture_cache
from bokehsynth.assets.load.store import (
    CACHE_BYTES,
    DRAWN_SIZES,
    AssetStore,
    cutout_factor,
    drawn_size,
    landscape_factor,
)
from bokehsynth.errors import user_error
from bokehsynth.recipe import Recipe
from bokehsynth.sample_draw import SampleDraw, canvas_margin
from bokehsynth.scene import PhotoDraw, SceneDraw
from bokehsynth.scene.compose import background_side, foreground_side
from bokehsynth.scene.photo import photo_side

# Measured on one core of an AMD EPYC: CPU seconds per megapixel of the file, of what is kept of it, and of a drawing.
DECODE = {".jpg": 0.011, ".jpeg": 0.011, ".png": 0.028, ".webp": 0.020}
DECODE_OTHERS = 0.015
REDUCE, CUT_OUT = 0.012, 0.014
OWN_COLORS = {"photographed": 0.26}
OWN_COLORS_KNOWN = 0.045
DRAW = {"foreground": (0.035, 0.22), "background": (0.05, 0.31)}
"""Seconds, and seconds per megapixel of size x size."""
READ = 0.012
"""From the user's cache."""

_SAMPLED = 400
"""Pictures of a pool that stand for all of it."""


class Work(NamedTuple):
    """One picture at one size."""

    times: float
    """How often the data set asks for it, on average."""
    like: float
    """Pictures of its pool that it stands for."""
    make: float
    """Seconds to decode and reduce it, or to draw it."""
    pixels: float
    """Megapixels of what scenes get."""
    kept: bool
    """Whether the user's cache keeps it."""

    @property
    def bytes(self) -> float:
        """Size of what the cache keeps."""
        return 14e6 * self.pixels

    @property
    def made(self) -> float:
        """How often it is asked for a first time, on average: at most once."""
        return 1 - float(np.exp(-self.times))


def picture_seconds(recipe: Recipe, drawn: Sequence[SampleDraw]) -> float:
    """Seconds of loading and drawing for an average sample of the data set, from some of its draws.

    Each picture is made once at each size that scenes ask for; then it is in a worker's memory or in the user's cache,
    as far as they hold all of them. At first the user's cache is taken to be empty. Pairs are not counted.
    """
    works = list(_works(recipe, drawn))
    held = sum(work.like * work.made * work.bytes for work in works)
    on_disk = sum(work.like * work.made * work.bytes for work in works if work.kept)
    disk = picture_cache()
    in_memory = min(1.0, CACHE_BYTES / max(held, 1.0))
    in_cache = min(1.0, disk.room() / max(on_disk, 1.0)) if disk is not None else 0.0
    seconds = 0.0
    for work in works:
        found = in_cache if work.kept else 0.0
        again = found * READ * work.pixels + (1 - found) * work.make
        seconds += work.like * (work.made * work.make + (work.times - work.made) * (1 - in_memory) * again)
    return float(seconds) / sum(recipe.count(split) for split in recipe.splits)


def _works(recipe: Recipe, drawn: Sequence[SampleDraw]) -> Iterator[Work]:
    """What every pool of pictures is asked for."""
    timed: dict[tuple[str, int], float] = {}
    asked: dict[tuple[str, Kind], list[int]] = defaultdict(list)
    draws: dict[str, int] = defaultdict(int)
    for draw in drawn:
        draws[draw.split] += 1
        for kind, side in _sides(recipe, draw):
            asked[draw.split, kind].append(side)
    for (split, kind), sides in asked.items():
        pool = recipe.catalogue.pool(kind, split)
        chosen = pool[:: -(-len(pool) // _SAMPLED)]
        times = recipe.count(split) * len(sides) / draws[split] / sum(asset.weight for asset in pool)
        different, counts = np.unique(np.maximum(sides, 1), return_counts=True)
        for asset in chosen:
            files = recipe.catalogue.files.get(asset.id)
            drawn_by = class_of(asset.id)
            scales = [_scale(files, kind, int(side), drawn_by is not None) for side in different]
            for scale in sorted(set(scales)):
                share = counts[np.array(scales) == scale].sum() / len(sides)
                make, pixels = _cost(asset, files, scale)
                if drawn_by is not None:
                    if (drawn_by, scale) not in timed:
                        timed[drawn_by, scale] = _drawing_seconds(recipe, asset, scale)
                    make = timed[drawn_by, scale]
                kept = drawn_by is None and (files is None or kind == "foreground" or scale > 1)
                yield Work(times * asset.weight * share, len(pool) / len(chosen), make, pixels, kept)


def _sides(recipe: Recipe, draw: SampleDraw) -> Iterator[tuple[Kind, int]]:
    """The pictures that a sample shows: kind, and the side in pixels that the store is asked for."""
    scene = draw.scene
    if isinstance(scene, SceneDraw):
        margin = canvas_margin(recipe, draw)
        yield "background", background_side(scene.background, scene.height + 2 * margin, scene.width + 2 * margin)
        yield from (("foreground", foreground_side(each, scene)) for each in scene.foregrounds)
    elif isinstance(scene, PhotoDraw):
        yield "photo", photo_side(scene)


def _drawing_seconds(recipe: Recipe, asset: Asset, size: int) -> float:
    """Seconds in which a class draws one of its pictures, measured here, or raises, which quarantines a draw."""
    store = AssetStore(recipe.catalogue)
    start = time.perf_counter()
    try:
        if asset.kind == "foreground":
            store.cutout(asset.id, size)
        else:
            store.landscape(asset.id, size)
    except BaseException as raised:
        user_error(raised)
    return time.perf_counter() - start


def _scale(files: AssetFiles | None, kind: Kind, side: int, by_class: bool) -> int:
    """The whole factor by which a file is reduced, or the size of a drawing."""
    if by_class:
        return class_size(side if kind != "photo" else min(side, DRAWN_SIZES[-1]))
    if files is None:
        return drawn_size(side)
    return cutout_factor(files, side) if kind == "foreground" else landscape_factor(files, side)


def _cost(asset: Asset, files: AssetFiles | None, scale: int) -> tuple[float, float]:
    """Seconds to make a picture, and megapixels of it."""
    if files is None:
        first, more = DRAW["foreground" if asset.kind == "foreground" else "background"]
        return first + more * scale * scale / 1e6, scale * scale / 1e6
    stored = files.size[0] * files.size[1] / 1e6
    decode = sum(DECODE.get(path.suffix.lower(), DECODE_OTHERS) for path in (files.image, files.matte) if path)
    if asset.kind != "foreground":
        return (decode + REDUCE) * stored, stored / scale**2
    height, width = files.box[2:] if files.box else files.size
    pixels = height * width / 1e6 / scale**2
    return (decode + CUT_OUT) * stored + OWN_COLORS.get(asset.colors, OWN_COLORS_KNOWN) * pixels, pixels

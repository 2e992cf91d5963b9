"""Reads the pictures that a scene asks for and keeps the last few at hand."""

from functools import lru_cache

from bokehsynth.assets.embedded import draw_background, draw_foreground
from bokehsynth.assets.pictures import Cutout, Landscape

DRAWN_SIZES = (64, 96, 128, 192, 256, 384, 512, 768, 1024)
"""Procedural pictures are drawn at one of these and scaled down, so that few sizes fill the cache."""


KEPT_CUTOUTS, KEPT_LANDSCAPES = 16, 8
"""At 1024 px a picture takes 17 MB, so a worker's shelf stays below half a gigabyte."""


class Shelf:
    """Loads assets by id at least as large as asked for, if they can be had that large."""

    def __init__(self) -> None:
        self._cutout = lru_cache(maxsize=KEPT_CUTOUTS)(draw_foreground)
        self._landscape = lru_cache(maxsize=KEPT_LANDSCAPES)(draw_background)

    def cutout(self, asset_id: str, longer_side: int) -> Cutout:
        """The cut-out with a longer side of at least `longer_side` pixels, or its largest."""
        return self._cutout(asset_id, _drawn_size(longer_side))

    def landscape(self, asset_id: str, shorter_side: int) -> Landscape:
        """The landscape with a shorter side of at least `shorter_side` pixels, or its largest."""
        return self._landscape(asset_id, _drawn_size(shorter_side))


def _drawn_size(pixels: int) -> int:
    return next((size for size in DRAWN_SIZES if size >= pixels), DRAWN_SIZES[-1])

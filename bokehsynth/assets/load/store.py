"""Load pictures for scenes at the size they need, with an LRU cache per process."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import replace
from typing import Any

import numpy as np

from bokehsynth.assets.catalogue import Asset, AssetFiles, Catalogue
from bokehsynth.assets.decode.decoder import Limits, decode_raster
from bokehsynth.assets.decode.downscale import averaged, in_strips, reduced, weighted, whole_factor
from bokehsynth.assets.decode.matte import visible_bounds, with_matte
from bokehsynth.assets.decode.raster import Raster, straight, unpremultiplied
from bokehsynth.assets.decode.safe_read import read_unchanged
from bokehsynth.assets.load.class_pictures import class_of, class_size, draw_cutout, draw_landscape
from bokehsynth.assets.load.foreground_colors import foreground_colors
from bokehsynth.assets.load.highlights import recover_highlights
from bokehsynth.assets.load.pairs import PhotoPair, load_pair
from bokehsynth.assets.load.picture_cache import Picture, picture_cache
from bokehsynth.assets.spec import PILLOW_GUARD
from bokehsynth.color import LUMINANCE, FloatArray
from bokehsynth.imaging.pictures import Cutout, Landscape
from bokehsynth.procedural.families import PROCEDURAL_VERSION, draw_background, draw_foreground

DRAWN_SIZES = (64, 96, 128, 192, 256, 384, 512, 768, 1024)
"""Procedural pictures are drawn at one of these and scaled down, so that the cache holds few sizes."""

CACHE_BYTES = 400_000_000
"""Bound on a worker's cache: thirty pictures of 1280 x 853."""

LIGHT_MAX = 500.0
"""Scene-referred light is clipped here, nine stops above white: a sun still fills its disc, 32-bit sums stay exact."""
USUAL_LUMINANCE = (0.03, 0.25)
"""Geometric mean of luminance within which a scene-referred picture, whose unit is arbitrary, keeps its exposure."""


class AssetStore:
    """Pictures of a catalogue at the requested size or larger, if they have that many pixels.

    Stores for several catalogues (`of`) share one cache; a cached picture is never modified.
    """

    def __init__(self, catalogue: Catalogue | None = None, cache: "LruCache | None" = None) -> None:
        self._catalogue = catalogue
        self._cache = LruCache(CACHE_BYTES) if cache is None else cache

    def of(self, catalogue: Catalogue) -> "AssetStore":
        """A store for the assets of a catalogue, with the same cache."""
        return AssetStore(catalogue, self._cache)

    def cutout(self, asset_id: str, longer_side: int) -> Cutout:
        """The cut-out with a longer side of at least `longer_side` pixels, or its largest."""
        asset, files = self._find(asset_id)
        if files is None or asset is None:
            return self._draw(asset_id, longer_side, Cutout, draw_foreground, draw_cutout)
        colors, factor = asset.colors, cutout_factor(files, longer_side)
        key = {**_contents(files), "colors": colors, "factor": factor}
        return self._get(key, Cutout, lambda: cutout_from(self._decoded(files), colors, factor))

    def landscape(self, asset_id: str, shorter_side: int) -> Landscape:
        """The landscape with a shorter side of at least `shorter_side` pixels, or its largest."""
        _, files = self._find(asset_id)
        if files is None:
            return self._draw(asset_id, shorter_side, Landscape, draw_background, draw_landscape)
        factor = landscape_factor(files, shorter_side)
        shorter = min(files.size) // factor
        key = {**_contents(files), "lamps": True, "shorter": shorter}
        return self._get(
            key, Landscape, lambda: landscape_from(read_asset(files), shorter),
            worth=lambda found: factor > 1 or found.highlights is not None,
        )  # fmt: skip

    def photo(self, asset_id: str, shorter_side: int) -> FloatArray:
        """A photograph [H, W, 3] as it is, with a shorter side of at least `shorter_side` pixels, or its largest."""
        _, files = self._find(asset_id)
        if files is None:
            return self.landscape(asset_id, min(shorter_side, DRAWN_SIZES[-1])).color  # a window of it, of any size
        factor = landscape_factor(files, shorter_side)
        shorter = min(files.size) // factor
        key = {**_contents(files), "lamps": False, "shorter": shorter}
        return self._get(
            key, Landscape, lambda: Landscape(reduced(read_asset(files), shorter)), on_disk=factor > 1
        ).color

    def pair(self, asset_id: str) -> PhotoPair:
        """The photographs and maps of a pair at full size."""
        _, files = self._find(asset_id)
        assert files is not None, "pairs are photographs"
        return self._cache.get(asset_id, lambda: load_pair(files.roles, files.root, _UNLIMITED, files.sums)[0])

    def _get(
        self, key: dict[str, Any], kind: type[Picture], make: Callable[[], Picture], on_disk: bool = True,
        worth: Callable[[Picture], bool] = lambda picture: True,
    ) -> Picture:  # fmt: skip
        """The picture of a key from memory, else from the disk, else made; with `on_disk` it is kept there, too, if it
        is `worth` that.

        Reading a photograph that is not reduced takes as long as decoding it; finding its lamps ten times as long.
        """
        disk = picture_cache() if on_disk else None
        found: Picture = self._cache.get(
            (kind, *key.items()), make if disk is None else lambda: disk.get(key, kind, make, worth)
        )
        return found

    def _draw(
        self, asset_id: str, pixels: int, kind: type[Picture],
        embedded: Callable[[str, int], Picture], by_class: Callable[[str, int], Picture],
    ) -> Picture:  # fmt: skip
        """A picture without a file. One that a class draws is not kept on disk: what else it hangs on is not known."""
        if class_of(asset_id) is None:
            size = drawn_size(pixels)
            return self._get(_drawn_key(asset_id, size), kind, lambda: embedded(asset_id, size))
        assert self._catalogue is not None, "classes are named by recipes"
        key = {"drawn": f"{asset_id}@{self._catalogue.by_id[asset_id].sha256}", "size": class_size(pixels)}
        return self._get(key, kind, lambda: by_class(asset_id, class_size(pixels)), on_disk=False)

    def _decoded(self, files: AssetFiles) -> Raster:
        """A cut-out's file, kept in memory: scenes ask for it in ten sizes, and decoding takes longer than reducing.

        (Landscapes, which are larger, come in two or three.)
        """
        raster: Raster = self._cache.get((Raster, *_contents(files).values()), lambda: _compact(read_asset(files)))
        return raster

    def _find(self, asset_id: str) -> tuple[Asset | None, AssetFiles | None]:
        if self._catalogue is None or asset_id not in self._catalogue.files:
            return None, None
        return self._catalogue.by_id[asset_id], self._catalogue.files[asset_id]


def _compact(raster: Raster) -> Raster:
    """The raster without what its arrays are views of: the cache counts what it sees."""
    alpha = None if raster.alpha is None else np.ascontiguousarray(raster.alpha)
    return replace(raster, values=np.ascontiguousarray(raster.values), alpha=alpha)


def cutout_factor(files: AssetFiles, longer_side: int) -> int:
    """The whole factor by which a cut-out's file is reduced, so that its subject keeps `longer_side` pixels."""
    return max(1, max(files.box[2:] if files.box else files.size) // max(longer_side, 1))


def landscape_factor(files: AssetFiles, shorter_side: int) -> int:
    """The whole factor by which a landscape or photograph is reduced, so that it keeps `shorter_side` pixels."""
    return whole_factor(files.size, max(shorter_side, 1))


def drawn_size(pixels: int) -> int:
    """The size at which an embedded picture is drawn, for one of so many pixels."""
    return next((size for size in DRAWN_SIZES if size >= pixels), DRAWN_SIZES[-1])


def _contents(files: AssetFiles) -> dict[str, Any]:
    """What names the content of a picture's files; digests that `read_asset` confirms, so that an index that claims
    another picture's cannot have its own kept under them."""
    return {"image": files.image_sha256, "matte": files.matte_sha256}


def _drawn_key(asset_id: str, size: int) -> dict[str, Any]:
    return {"drawn": f"{asset_id}@{PROCEDURAL_VERSION}", "size": size}


def read_asset(files: AssetFiles) -> Raster:
    """The stored numbers of an indexed asset; ChangedError if its files are not what was indexed."""
    raster = decode_raster(read_unchanged(files.image, files.root, files.image_sha256), files.name, _UNLIMITED)
    if files.matte is None:
        return raster
    # An index without the matte's digest would otherwise have it kept as the picture's own: "" is no file's digest.
    data = read_unchanged(files.matte, files.root, files.matte_sha256 or "")
    return with_matte(raster, decode_raster(data, f"{files.name}'s matte", _UNLIMITED), files.matte)


_UNLIMITED = Limits(max_pixels=PILLOW_GUARD, min_side=1)
"""Indexed files have passed the recipe's limits already."""


def cutout_from(raster: Raster, colors: str, factor: int = 1) -> Cutout:
    """A photographed cut-out: cropped to its subject, reduced by a whole factor, the old background removed."""
    raster = _crop_to_subject_bounds(raster, factor)
    alpha = raster.opacity()
    assert alpha is not None
    small = averaged(alpha, factor)
    if colors == "premultiplied":
        raster = unpremultiplied(raster, alpha)
    if colors == "photographed" or factor == 1:
        color = in_strips(raster, factor, lambda light: light)
    else:  # straight colour is weighted by alpha
        color = straight(weighted(raster, factor, alpha), small)
    own = foreground_colors(color, small, colors)
    top, bottom, left, right = _subject_bounds(small, 2)
    return Cutout(own[top:bottom, left:right].copy(), small[top:bottom, left:right].copy())


CONTEXT = 32
"""Pixels kept beside the subject, after reduction, for estimating the old background."""


def _crop_to_subject_bounds(raster: Raster, factor: int) -> Raster:
    """Crop to the subject and a little around it: a person in a wide photograph is small."""
    alpha = raster.opacity()
    assert alpha is not None
    assert raster.alpha is not None
    top, bottom, left, right = _subject_bounds(alpha, CONTEXT * factor)
    part = (slice(top, bottom), slice(left, right))
    return replace(raster, values=raster.values[part], alpha=raster.alpha[part])


def _subject_bounds(alpha: FloatArray, beside: int) -> tuple[int, int, int, int]:
    """Top, bottom, left and right of visible pixels, extended by `beside` pixels within the picture."""
    height, width = alpha.shape
    top, bottom, left, right = visible_bounds(alpha) or (0, height - 1, 0, width - 1)
    return max(top - beside, 0), min(bottom + 1 + beside, height), max(left - beside, 0), min(right + 1 + beside, width)


def landscape_from(raster: Raster, shorter: int = 1 << 30) -> Landscape:
    """A photographed landscape, reduced by a whole factor to a shorter side of at least `shorter` pixels."""
    color = reduced(raster, shorter)
    if raster.linear:
        return Landscape(_normalize_exposure(color))
    return Landscape(color, recover_highlights(raster, color, whole_factor(raster.size, shorter)))


def _normalize_exposure(color: FloatArray) -> FloatArray:
    """Scene-referred light, scaled just enough to lie in USUAL_LUMINANCE, and clipped at LIGHT_MAX."""
    stops = np.log2(np.maximum(color @ LUMINANCE, np.float32(1e-6))).mean(dtype=np.float64)
    low, high = USUAL_LUMINANCE
    gain = min(max(1.0, low / 2**stops), max(high / 2**stops, 1e-12)) if 2**stops > 0 else 1.0
    return np.minimum(color * np.float32(gain), np.float32(LIGHT_MAX))


class LruCache:
    """A thread-safe LRU cache of pictures, bounded in bytes."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._held = 0
        self._items: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self._pending: set[Hashable] = set()
        self._changed = threading.Condition()

    def get(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """The picture under a key, made if it is missing; the least recently used ones are evicted.

        While another thread is making it, the caller waits, and makes it itself if that thread failed or the picture
        was too large to keep.
        """
        with self._changed:
            while key in self._pending:
                self._changed.wait()
            if key in self._items:
                self._items.move_to_end(key)
                return self._items[key][0]
            self._pending.add(key)
        try:
            item = make()
            self._keep(key, item)
        finally:
            with self._changed:
                self._pending.remove(key)
                self._changed.notify_all()
        return item

    def _keep(self, key: Hashable, item: Any) -> None:
        size = sum(value.nbytes for value in vars(item).values() if isinstance(value, np.ndarray))
        if size > self._most // 2:
            return
        with self._changed:
            while self._items and self._held + size > self._most:
                self._held -= self._items.popitem(last=False)[1][1]
            self._items[key] = (item, size)
            self._held += size

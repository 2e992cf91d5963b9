"""A photograph as a scene: one flat layer, all in focus, so that hq is aif and nothing is blurred."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from bokehsynth.assets.catalogue import Asset
from bokehsynth.assets.load.store import AssetStore
from bokehsynth.config.distributions import Spec
from bokehsynth.errors import UsageError
from bokehsynth.optics import Aperture, Lens, Plane
from bokehsynth.optics.layer import Layer
from bokehsynth.rng import chance, pick, uniform
from bokehsynth.scene.composed_scene import ComposedScene
from bokehsynth.scene.place import show_window

WHOLE = 1 << 30
"""More pixels than any picture has: as it is."""

Order = Literal["random", "turn"]


class PhotoSpec(Spec):
    """Photographs as they are: clean pictures for `hq`, degraded ones for `lq`, zero defocus."""

    kind: Literal["photo"]
    take: Literal["crop", "fit"] = "crop"
    """`crop`: `size` pixels of the original, nothing resampled unless it is smaller; `fit`: the picture is scaled until
    it just covers `size`."""
    order: Order = "random"
    """`random`: a photograph is drawn for every sample, by weight; `turn`: sample i shows photograph i, from the first
    again after the last."""
    flip: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Probability that a picture is mirrored."""

    def radius_bound(self, shorter_side: int) -> float:
        """Nothing is blurred."""
        return 0.0


@dataclass(frozen=True, kw_only=True)
class WindowDraw:
    """A picture and the part of it that is shown."""

    height: int
    width: int
    asset: str
    take: Literal["crop", "fit"]
    flip: bool
    u: float
    v: float
    """Place of the shown part in what is left over, 0..1 from left and top."""

    @property
    def assets(self) -> list[str]:
        """The one picture."""
        return [self.asset]


@dataclass(frozen=True, kw_only=True)
class PhotoDraw(WindowDraw):
    """A photograph."""

    kind: Literal["photo"] = "photo"


def draw_photo(
    spec: PhotoSpec, size: tuple[int, int] | None, pool: tuple[Asset, ...], index: int, rng: np.random.Generator
) -> PhotoDraw:
    """Choose a photograph and a window of `size` (height, width) in it; None shows it whole, in its own size."""
    asset = choose(pool, spec.order, index, rng)
    height, width = size or own_size(asset)
    return PhotoDraw(
        height=height, width=width, asset=asset.id, take=spec.take, flip=chance(rng, spec.flip),
        u=uniform(rng, 0, 1), v=uniform(rng, 0, 1),
    )  # fmt: skip


def own_size(asset: Asset) -> tuple[int, int]:
    """Height and width of a photograph; UsageError for a drawn picture."""
    if asset.height == 0:
        raise UsageError("size: own needs photographs; embedded pictures are drawn as large as they are wanted")
    return asset.height, asset.width


def choose(pool: tuple[Asset, ...], order: Order, index: int, rng: np.random.Generator) -> Asset:
    """Choose by weight, or in turn; consumes one random number either way."""
    drawn = pick(rng, pool, [asset.weight for asset in pool])
    return drawn if order == "random" else pool[index % len(pool)]


def compose_photo(draw: PhotoDraw, store: AssetStore, aperture: Aperture) -> ComposedScene:
    """One opaque layer at disparity 0, in focus; a photograph says nothing about depth."""
    color, notes = window_of(draw, store.photo(draw.asset, photo_side(draw)))
    layer = Layer(color, np.ones(color.shape[:2], np.float32), Plane(0.0))
    return ComposedScene(layers=[layer], lens=Lens(0.0, 0.0, aperture), margin=0, notes=notes)


def photo_side(draw: PhotoDraw) -> int:
    """Shorter side in pixels of the photograph that the window is taken from."""
    return min(draw.height, draw.width) if draw.take == "fit" else WHOLE


def window_of(draw: WindowDraw, color: Any) -> tuple[Any, dict[str, Any]]:
    """The drawn window [height, width, C] of a picture [h, w, C], and where it lies in the scaled picture."""
    h, w = color.shape[:2]
    cover = max(draw.height / h, draw.width / w)
    factor = cover if draw.take == "fit" else max(cover, 1.0)
    return show_window(color, factor, draw.flip, (draw.u, draw.v), (draw.height, draw.width))

"""The spot that a light behind the focus becomes at a sample's largest blur radius: the lens, seen at work.

The aperture's class is asked itself, as the backend `reference` does. Only classes of bokehsynth are: what a data set
names from elsewhere is not imported, and its spot is not shown.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from bokehsynth.config.user_code import user_code
from bokehsynth.errors import BokehsynthError, UsageError
from bokehsynth.generation.stored_recipe import stored_recipe
from bokehsynth.optics import Aperture, Lens
from bokehsynth.recipe import Recipe
from bokehsynth.rendering.aperture.lens_points import check_weights
from bokehsynth.sample_draw import SampleDraw, draw_from_meta
from bokehsynth.scene import SceneDraw
from bokehsynth.scene.check_draw import check_camera_draw
from bokehsynth.shards import Layout

SIDE = 72
"""Pixels of a spot's picture."""
RAYS = 5 * SIDE
"""Lens points along a side of the square in which they are asked."""
FRAME = 1.1
"""Half a side of a picture over the largest distance from its middle."""
CORNER = (-0.8, -0.6)
"""Field position of the second spot: far to the upper left, in half-diagonals of a picture of 4 : 3."""
LEAST_RADIUS, MOST_RADIUS = 0.5, 1e5
"""Pixels below which a lens makes no spot worth showing, and above which none does."""

Array = npt.NDArray[Any]


@dataclass
class LensSpots:
    """Spots of the lens of each sample, as PNG; the same lens is drawn once."""

    recipe: Recipe | None
    fault: str = ""
    """Why there are none, or not all."""
    _drawn: dict[Any, list[bytes]] = field(default_factory=dict)

    @classmethod
    def of(cls, layout: Layout) -> "LensSpots":
        """The spots of the data set at `layout`, by its own recipe."""
        try:
            return cls(stored_recipe(layout))
        except BokehsynthError as error:
            return cls(None, str(error).splitlines()[0])

    def of_sample(self, meta: dict[str, Any]) -> list[bytes]:
        """Spots in the middle and towards the upper left corner of a sample's picture; none where no lens was drawn."""
        if self.recipe is None or meta["blur"] <= 0 or not LEAST_RADIUS <= meta["radius_max"] <= MOST_RADIUS:
            return []
        try:
            with user_code(trusted=False):
                draw = draw_from_meta(meta)
                if not isinstance(draw.scene, SceneDraw):
                    return []  # the lens of a photograph is not known
                return self._spots(self.recipe, draw, meta)
        except (BokehsynthError, ArithmeticError, ValueError, IndexError) as error:
            self.fault = self.fault or f"{type(error).__name__} of {str(meta['aperture'])[:80]}: {str(error)[:200]}"
            return []

    def _spots(self, recipe: Recipe, draw: SampleDraw, meta: dict[str, Any]) -> list[bytes]:
        check_camera_draw(recipe.lens.ranges, draw.camera, draw.scene)
        aperture = recipe.lens.apertures[draw.aperture] if draw.aperture >= 0 else None
        if aperture is None or meta["aperture"] != recipe.lens.names[draw.aperture]:
            raise BokehsynthError("is not the recipe's")
        size, radius = (draw.scene.height, draw.scene.width), float(meta["radius_max"])
        key: Any = draw.aperture
        if recipe.lens.real_lens is not None:
            focus = min(1.0, max(0.0, meta["focus"]))
            lens: Lens = recipe.lens.scene_lens(draw.aperture, draw.camera, size).focused(focus, size)
            aperture = lens.aperture
            key = (draw.camera, focus, radius, size)
        elif aperture.depends_on_field:
            key = (draw.aperture, radius, size)
        if key not in self._drawn:
            places = [(0.0, 0.0), CORNER] if aperture.depends_on_field else [(0.0, 0.0)]
            spots = spot_pictures(aperture, places, radius, math.hypot(*size) / 2)
            self._drawn[key] = [cv2.imencode(".png", spot[..., ::-1])[1].tobytes() for spot in spots]
        return self._drawn[key]


def spot_pictures(
    aperture: Aperture, fields: Sequence[tuple[float, float]], radius: float, half_diagonal: float, side: int = SIDE
) -> list[Array]:
    """The light of points behind the focus at some field positions, each uint8 [side, side, 3], all on one scale.

    `radius` is their blur radius, `half_diagonal` that of the picture, both in pixels. Through the lens point s the
    light of a point at q reaches the pixel p = q + radius*s - aberration(s, h(p)) (docs/optics.md); of the aberration,
    h is taken where p is without it.
    """
    spots = [_rays(aperture, field, radius, half_diagonal) for field in fields]
    exact = not aperture.has_aberration
    middles = [np.zeros(2) if exact else where.mean(axis=(0, 1)) for _, where in spots]
    reach = FRAME * aperture.extent * radius
    if not exact:
        apart = [np.abs(where - middle).max(axis=(1, 2)) for (_, where), middle in zip(spots, middles, strict=True)]
        reach = 1.25 * max(*(float(np.quantile(far, 0.985)) for far in apart), 1e-9)  # a few rays may go anywhere
    pictures = [
        _binned(light, where - middle, reach, side) for (light, where), middle in zip(spots, middles, strict=True)
    ]
    if not exact:  # rays no longer fall evenly into the cells
        pictures = [cv2.GaussianBlur(picture, (0, 0), 0.7) for picture in pictures]
    white = max(float(np.quantile(picture, 0.998)) for picture in pictures) or 1.0
    return [np.rint(255 * np.clip(picture / white, 0, 1) ** (1 / 2.2)).astype(np.uint8) for picture in pictures]


def _rays(aperture: Aperture, field: tuple[float, float], radius: float, half_diagonal: float) -> tuple[Array, Array]:
    """Light [N, 3] of the rays that pass, and where they land [N, 3, 2], in pixels from the field position."""
    s = _lens_points(aperture.extent)
    h = np.asarray(field, np.float64) + s * (radius / half_diagonal)
    passes = np.asarray(aperture.inside(s), np.bool_)
    for centre, rim in aperture.pupil_discs(h):
        passes = passes & (np.hypot(*(s - centre).T) <= rim)
    s, h = s[passes], h[passes]
    light = check_weights(aperture, s, h) if len(s) else np.zeros((0, 3))
    lit = light.max(axis=1, initial=0.0) > 0  # the pupil of a traced lens is in its weights
    s, h, light = s[lit], h[lit], light[lit]
    if len(s) == 0:
        raise UsageError("no light passes")
    where = np.broadcast_to((radius * s)[:, None], (len(s), 3, 2))
    if aperture.has_aberration:
        shift = np.asarray(aperture.aberration(s, h), np.float64)
        where = where - (shift if shift.ndim == 3 else shift[:, None])
    return light, where


def _binned(light: Array, where: Array, reach: float, side: int) -> Array:
    """Rays of light [N, 3] that land at where [N, 3, 2], counted in a square that reaches so far from its middle."""
    edges = np.linspace(-reach, reach, side + 1)
    cells = []
    for channel in range(3):
        x, y = where[:, channel].T
        cells.append(np.histogram2d(y, x, bins=[edges, edges], weights=light[:, channel])[0])
    return np.stack(cells, axis=-1)


@lru_cache(maxsize=2)
def _lens_points(extent: float) -> Array:
    """A square grid of points [N, 2] that holds the opening; where there is no aberration, it fits the cells."""
    axis = FRAME * extent * (2 * (np.arange(RAYS) + 0.5) / RAYS - 1)
    return np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)

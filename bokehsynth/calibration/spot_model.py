"""The spot of one lamp in closed form: what the renderer draws of a point of light, at a thousandth of its cost.

The image of a lamp at q with blur radius r is the opening itself: the pixel p sees it through the lens point
s = side*(p - q)/r (docs/optics.md), side +1 behind the focus. Its edge is blurred by a Gaussian of `sigma` pixels,
which stands for the pixel and for the size of the lamp.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from bokehsynth.optics.calibrated import GLOW_WIDTH, CalibratedAperture

Float64Array = npt.NDArray[np.float64]

SIGMAS = (0.25, 4.0)
"""Bounds of sigma, pixels."""
BOUNDS = {
    "rotation": (-50.0, 50.0), "curvature": (0.0, 1.0), "strength": (0.0, 3.0), "radius": (0.3, 2.0),
    "edge": (0.1, 6.0), "glow": (0.0, 8.0),
}  # fmt: skip


@dataclass(frozen=True)
class Shape:
    """The opening as the fit sees it; `blades` 0 is round, `rim` None has no rim."""

    blades: int = 0
    has_rim: bool = False
    rotation: float = 0.0
    curvature: float = 0.0
    strength: float = 0.0
    radius: float = 1.0
    edge: float = 1.0
    glow: float = 0.0
    exact: bool = False
    """Whether light is taken once where rim and boundary run along each other. The simpler product of both draws the
    rim to its place also from beyond the boundary, so shapes are looked for by it."""

    def free(self, has_glow: bool) -> list[str]:
        """Names of the shared parameters that may move."""
        names = ["rotation", "curvature"] if self.blades else []
        names += ["strength", "radius"] if self.has_rim else []
        return [*names, "edge", *(["glow"] if has_glow else [])]

    def moved(self, names: list[str], step: Float64Array) -> "Shape":
        """It with steps added to some parameters, kept within BOUNDS."""
        pairs = zip(names, step, strict=True)
        return replace(
            self, **{name: min(max(getattr(self, name) + d, BOUNDS[name][0]), BOUNDS[name][1]) for name, d in pairs}
        )

    def aperture(self) -> CalibratedAperture:
        """The opening that a lens has of it."""
        turn = 2 * math.pi / self.blades if self.blades else 1.0
        return CalibratedAperture(
            blades=self.blades,
            rotation=math.remainder(self.rotation, turn) if self.blades else 0.0,
            curvature=self.curvature if self.blades else 0.0,
            rims=((self.strength, self.radius),) if self.has_rim else (),
            edge=self.edge,
            glow=self.glow,
        )


@dataclass(frozen=True, eq=False)
class Grid:
    """The pixels of one lamp that are compared: their places, and what turns them into field positions."""

    x: Float64Array
    y: Float64Array
    centre: tuple[float, float]
    half_diagonal: float
    side: float = 1.0


def spot(shape: Shape, place: Any, grid: Grid) -> Float64Array:
    """The light [N] of a lamp at place (x, y, log radius, log sigma) in the pixels of `grid`, 1 in its middle."""
    radius, sigma = math.exp(place[2]), math.exp(place[3])
    sx, sy = (grid.x - place[0]) * (grid.side / radius), (grid.y - place[1]) * (grid.side / radius)
    square = sx * sx + sy * sy
    rho = np.sqrt(square)
    boundary: Any = 1.0
    slope: Any = 0.0
    distance = 1.0 - rho
    if shape.blades:
        half_angle = math.pi / shape.blades
        phi = np.mod(np.arctan2(sy, sx) - shape.rotation, 2 * half_angle) - half_angle
        straight = (1 - shape.curvature) * math.cos(half_angle) / np.cos(phi)
        boundary = straight + shape.curvature
        slope = straight * np.tan(phi) / boundary  # of the boundary against the circle
        distance = (boundary - rho) / np.sqrt(1 + slope * slope)
    edges: Any = 1.0  # of the rim, and its direction along the boundary
    along: Any = 1.0
    if shape.has_rim:
        cx = sx - shape.strength * (grid.x - grid.centre[0]) / grid.half_diagonal
        cy = sy - shape.strength * (grid.y - grid.centre[1]) / grid.half_diagonal
        far = np.sqrt(cx * cx + cy * cy)
        edges = normal_share((shape.radius - far) * (radius / sigma))
        if shape.exact:
            length = far * rho * np.sqrt(1 + slope * slope)
            along = (cx * (sx + slope * sy) + cy * (sy - slope * sx)) / np.maximum(length, 1e-9)

    def passing(softer: float) -> Float64Array:
        boundary_share = normal_share(distance * (radius / sigma * softer))
        return both_shares(boundary_share, edges, along) if shape.exact else boundary_share * edges

    result: Float64Array = passing(1.0) * (1 + (shape.edge - 1) * np.minimum(square, 1.5))
    if shape.glow:  # half a Gaussian, within the boundary, blurred: a Gaussian under a softer edge
        width = math.hypot(GLOW_WIDTH, math.sqrt(2) * sigma / radius)
        ring = np.exp(-(((1 - rho / boundary) / width) ** 2))
        result = result + shape.glow * (GLOW_WIDTH / width) * ring * passing(GLOW_WIDTH / width)
    return result


def both_shares(a: Float64Array, b: Float64Array, along: Float64Array) -> Float64Array:
    """Light that two blurred edges let pass which let a and b pass alone, `along`: the cosine between their normals.

    It is the probability that two normal variables of that correlation are both below their bounds: the lesser of a and
    b where one edge runs along the other, their product where they cross at right angles, between them as it is where
    the edges cross (Sheppard's 1/4 + asin(rho)/(2 pi)).
    """
    product = a * b
    turn = np.arcsin(np.clip(along, -1, 1)) * (2 / math.pi)
    nested, opposite = np.minimum(a, b) - product, product - np.maximum(a + b - 1, 0)
    result: Float64Array = product + turn * np.where(turn > 0, nested, opposite)
    return result


def normal_share(z: Float64Array) -> Float64Array:
    """The share of a normal distribution below z, within 2e-7 (Abramowitz and Stegun, 7.1.26)."""
    x = np.abs(z) * math.sqrt(0.5)
    t = 1 / (1 + 0.3275911 * x)
    poly = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    tail = 0.5 * poly * np.exp(-x * x)
    return np.where(z >= 0, 1 - tail, tail)

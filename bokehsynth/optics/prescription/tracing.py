"""Rays through a lens, one surface after the other, forwards or backwards, in float64."""

from dataclasses import dataclass

import numpy as np

from bokehsynth.optics.apertures import BoolArray, Float64Array
from bokehsynth.optics.prescription.surfaces import LensStack, Surface

_NEWTON_STEPS = 30


@dataclass(frozen=True, eq=False)
class Rays:
    """Straight lines: a point [N, 3] in mm and a unit direction [N, 3]; NaN where a ray missed a surface."""

    point: Float64Array
    direction: Float64Array

    def at(self, z: float) -> Float64Array:
        """Where the lines cross the plane z, [N, 2]."""
        result: Float64Array = self.point[:, :2] + self.slope * (z - self.point[:, 2:])
        return result

    @property
    def slope(self) -> Float64Array:
        """dx/dz and dy/dz, [N, 2]."""
        result: Float64Array = self.direction[:, :2] / self.direction[:, 2:]
        return result


@dataclass(frozen=True, eq=False)
class TracedRays:
    """Rays behind a lens (before it, when traced backwards) and where they met its surfaces."""

    rays: Rays
    hits: Float64Array
    """x and y at every surface, [surfaces, N, 2], in the surfaces' order."""

    def passed(self, stack: LensStack, spare: float = 1.0) -> BoolArray:
        """Which rays lie within `spare` times every rim, bool [N]; only at 1 those that a middle stops are left out."""
        passes = np.asarray(np.isfinite(self.rays.direction).all(axis=1), np.bool_)
        for surface, hit in zip(stack.surfaces, self.hits, strict=True):
            if surface.semi_diameter is not None:
                passes &= np.hypot(hit[:, 0], hit[:, 1]) <= spare * surface.semi_diameter
            if surface.inner_semi_diameter is not None and spare == 1:
                passes &= np.hypot(hit[:, 0], hit[:, 1]) >= surface.inner_semi_diameter
        return passes


def rays_from(point: Float64Array, slope: Float64Array) -> Rays:
    """Rays through points [3] or [N, 3] with slopes dx/dz, dy/dz [N, 2]."""
    direction = np.concatenate([slope, np.ones((len(slope), 1))], axis=1)
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    return Rays(np.broadcast_to(point, direction.shape).astype(np.float64), direction)


def trace(stack: LensStack, wavelength: float, rays: Rays, backwards: bool = False) -> TracedRays:
    """Trace rays through all surfaces, whether or not they pass the rims; backwards from the sensor's side."""
    indices, order = stack.indices(wavelength), range(len(stack.surfaces))
    point, direction = rays.point.copy(), rays.direction.copy()
    if backwards:
        direction = np.where(direction[:, 2:] > 0, -direction, direction)
    hits = np.empty((len(stack.surfaces), len(point), 2))
    with np.errstate(invalid="ignore", divide="ignore"):
        for i in reversed(order) if backwards else order:
            before, behind = (indices[i + 1], indices[i]) if backwards else (indices[i], indices[i + 1])
            vertex = np.array([0.0, 0.0, stack.vertices[i]])
            local = _meet(stack.surfaces[i], point - vertex, direction)
            hits[i] = local[:, :2]
            normal = _normals(stack.surfaces[i], local)
            mirror = stack.surfaces[i].mirror
            direction = _reflect(direction, normal) if mirror else _refract(direction, normal, before / behind)
            point = local + vertex
    return TracedRays(Rays(point, direction), hits)


def _meet(surface: Surface, point: Float64Array, direction: Float64Array) -> Float64Array:
    """Where rays meet a surface, relative to its vertex, [N, 3]."""
    start = point - direction * (point[:, 2:] / direction[:, 2:])
    x, y = start[:, 0], start[:, 1]
    dx, dy, dz = direction.T
    c = surface.curvature
    half = dz - c * (x * dx + y * dy)
    root = np.sqrt(half * half - c * (1 + surface.conic * dz * dz) * c * (x * x + y * y))
    length = c * (x * x + y * y) / (half + np.sign(dz) * root)
    if surface.asphere:
        length = _newton(surface, start, direction, np.where(np.isfinite(length), length, 0.0))
    return start + direction * length[:, None]


def _newton(surface: Surface, start: Float64Array, direction: Float64Array, length: Float64Array) -> Float64Array:
    """Lengths at which rays meet an asphere, from those at which they meet its conic."""
    for _ in range(_NEWTON_STEPS):
        at = start + direction * length[:, None]
        sag, slope = _sag(surface, np.einsum("ij,ij->i", at[:, :2], at[:, :2]))
        above = at[:, 2] - sag
        rate = direction[:, 2] - 2 * slope * np.einsum("ij,ij->i", at[:, :2], direction[:, :2])
        step = above / rate
        length = length - step
        if not (np.abs(step) > 1e-14 * (1 + np.abs(length))).any():
            break
    at = start + direction * length[:, None]
    sag, _ = _sag(surface, np.einsum("ij,ij->i", at[:, :2], at[:, :2]))
    return np.where(np.abs(at[:, 2] - sag) < 1e-10, length, np.nan)


def _sag(surface: Surface, square: Float64Array) -> tuple[Float64Array, Float64Array]:
    """Height of a surface over its vertex plane at r^2, and its derivative by r^2."""
    c = surface.curvature
    root = np.sqrt(1 - (1 + surface.conic) * c * c * square)
    sag, slope = c * square / (1 + root), c / (2 * root)
    for power, coefficient in enumerate(surface.asphere, 2):
        sag = sag + coefficient * square**power
        slope = slope + coefficient * power * square ** (power - 1)
    return sag, slope


def _normals(surface: Surface, point: Float64Array) -> Float64Array:
    """Unit normals [N, 3] of a surface, towards larger z."""
    _, slope = _sag(surface, np.einsum("ij,ij->i", point[:, :2], point[:, :2]))
    x, y = -2 * slope * point[:, 0], -2 * slope * point[:, 1]
    length = np.sqrt(x * x + y * y + 1)
    return np.stack([x / length, y / length, 1 / length], axis=1)


def _reflect(direction: Float64Array, normal: Float64Array) -> Float64Array:
    """Unit vectors mirrored."""
    cosine = np.einsum("ij,ij->i", direction, normal)
    result: Float64Array = direction - 2 * cosine[:, None] * normal
    return result


def _refract(direction: Float64Array, normal: Float64Array, ratio: float) -> Float64Array:
    """Snell's law for unit vectors; ratio = index before / index behind; NaN at total reflection."""
    cosine = np.einsum("ij,ij->i", direction, normal)
    behind = np.sqrt(1 - ratio * ratio * (1 - cosine * cosine))
    bent: Float64Array = ratio * direction + (np.sign(cosine) * behind - ratio * cosine)[:, None] * normal
    return bent

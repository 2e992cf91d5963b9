"""Point lights traced through a prescription's surfaces to the sensor: what a rendered light must look like.

Shares no code with `bokehsynth.optics`: rays start at the light, go forwards through every surface by a tracer of its
own, and land on the sensor; focus, pupil and scale are found with the same tracer, by rays close to the axis. Only a
prescription's numbers and its indices of refraction are read.
"""

from functools import cached_property
from typing import NamedTuple

import numpy as np

TINY = 1e-6
"""Slope and height in mm of rays close to the axis."""


class Spot(NamedTuple):
    """One colour of one light."""

    energy: float
    """Sum of its pixels over that of the same light ideally imaged at the centre."""
    centroid: np.ndarray
    """x, y in px from the picture's centre."""
    spread: np.ndarray
    """Covariance, px^2 [2, 2]."""


class TracedLens:
    """A prescription stopped down and focused, for pictures of one size, by definition (docs/optics.md)."""

    def __init__(self, prescription, f_number, focus_m, sensor_width_mm, size):
        self.surfaces = prescription.surfaces
        self.lines = prescription.wavelengths_nm
        self.size, self.pitch = size, sensor_width_mm / size[1]
        self.vertices = np.concatenate([[0.0], np.cumsum([surface.thickness for surface in self.surfaces[:-1]])])
        self.stop = next(i for i, surface in enumerate(self.surfaces) if surface.stop)
        self.semi_diameters = [surface.semi_diameter or np.inf for surface in self.surfaces]
        self.green = self.lines[1]

        # From before the first vertex, heights at the stop and behind the lens are linear in the start's z.
        self.pupil = self._root(lambda z: self._axial(z)[0])
        front_focus = self._root(lambda z: self._axial(z)[2])
        self.focal_length = abs(self._axial(front_focus)[1] / TINY)
        at_stop, height, slope, z = self._near_axis(TINY, 0.0, -1.0)
        back_focus = z - height / slope
        behind = self.surfaces[-1].thickness
        self.sensor = self.vertices[-1] + behind if behind else back_focus
        self.sensor += self.focal_length**2 / (focus_m * 1000 - (self.pupil - front_focus))
        open_ = self.surfaces[self.stop].semi_diameter
        open_ = open_ or abs(at_stop / TINY) * self.focal_length / (2 * prescription.f_number)
        self.semi_diameters[self.stop] = open_ * prescription.f_number / f_number
        self.pupil_radius = self.semi_diameters[self.stop] * abs(TINY / at_stop)
        self.f_px = abs(self.chief(np.array([1e-4]))[0]) / 1e-4 / self.pitch
        self._unit = [self._light_at_centre(line) for line in self.lines]

    def trace(self, start, slope, wavelength):
        """Where rays [N, 3] with slopes [N, 2] land on the sensor [N, 2], and whether they pass all rims."""
        point, direction, hits = self._through(start, slope, wavelength)
        passes = np.isfinite(point).all(axis=1) & np.isfinite(direction).all(axis=1)
        for surface, rim, hit in zip(self.surfaces, self.semi_diameters, hits, strict=True):
            radius = np.hypot(*hit.T)
            passes &= (radius <= rim) & (radius >= (surface.inner_semi_diameter or 0.0))
        landed = point[:, :2] + direction[:, :2] / direction[:, 2:] * (self.sensor - point[:, 2:])
        return landed, passes

    def _through(self, start, slope, wavelength):
        direction = np.concatenate([slope, np.ones((len(slope), 1))], axis=1)
        direction /= np.sqrt((direction**2).sum(axis=1, keepdims=True))
        point, index, hits = np.array(start, float), 1.0, []
        with np.errstate(all="ignore"):
            for surface, vertex in zip(self.surfaces, self.vertices, strict=True):
                point, normal = _meet(surface, point - [0, 0, vertex], direction)
                hits.append(point[:, :2])
                point = point + [0, 0, vertex]
                cosine = (direction * normal).sum(axis=1, keepdims=True)
                if surface.mirror:
                    direction = direction - 2 * cosine * normal
                    continue
                behind = surface.index_at(wavelength)
                ratio, index = index / behind, behind
                across = ratio * (direction - cosine * normal)  # Snell: the part along the surface
                direction = across + np.sign(cosine) * normal * np.sqrt(1 - (across**2).sum(axis=1, keepdims=True))
        return point, direction, hits

    def chief(self, tangents):
        """x on the sensor of green rays through the pupil's centre that come from (tangent, 0)."""
        slopes = np.stack([-tangents, 0 * tangents], axis=1)
        return self.trace(np.tile([0.0, 0.0, self.pupil], (len(tangents), 1)), slopes, self.green)[0][:, 0]

    def spots(self, pixel, distance_m, side=201):
        """The spots of a light that stands at `pixel` (x, y from the centre, all in focus), and their picture.

        Returns [Spot; 3] and rays (pixels [N, 2], light [N]) for each colour.
        """
        Z = distance_m * 1000
        light = np.array([*(np.asarray(pixel) * Z / self.f_px), self.pupil - Z])
        found, rays = [], []
        for line, unit in zip(self.lines, self._unit, strict=True):
            at, share = self._rays(light, Z, line, side)
            share = share / unit
            total = share.sum()
            centroid = share @ at / total if total else np.zeros(2)
            away = at - centroid
            found.append(Spot(float(total), centroid, (away.T * share) @ away / (total or 1.0)))
            rays.append((at, share))
        return found, rays

    def _rays(self, light, Z, wavelength, side):
        """Pixels [N, 2] and light [N] of rays that land, from a grid of `side` x `side` over the opening."""
        low, high = np.full(2, -3 * self.pupil_radius), np.full(2, 3 * self.pupil_radius)
        for count in (61, 61, side):
            lines = [(np.arange(count) + 0.5) / count * (b - a) + a for a, b in zip(low, high, strict=True)]
            s = np.stack(np.meshgrid(*lines), axis=-1).reshape(-1, 2)
            slope = (s - light[:2]) / Z
            start = np.concatenate([s, np.full((len(s), 1), self.pupil)], axis=1)  # exact for lights far away
            landed, passes = self.trace(start, slope, wavelength)
            if not passes.any():
                return np.zeros((0, 2)), np.zeros(0)
            area = np.prod((high - low) / count)
            step = 1.5 * (high - low) / count
            low, high = s[passes].min(axis=0) - step, s[passes].max(axis=0) + step
        at, per_area = self._pixels(landed[passes])
        cosine = 1 / np.sqrt(1 + (slope[passes] ** 2).sum(axis=1))
        return at, cosine**4 * area / self.f_px**2 * per_area

    def _pixels(self, landed):
        """Pixels whose green chief rays land there, and how many of them there are per mm^2."""
        heights, tangents = self._chiefs
        radius = np.hypot(*landed.T)
        tangent = np.interp(radius, heights, tangents)
        rate = np.interp(radius, heights, np.gradient(tangents, heights))
        sign = np.sign(self.chief(np.array([1e-4]))[0])
        with np.errstate(all="ignore"):
            share = np.where(radius > 0, tangent / radius, rate)
        return sign * landed * share[:, None] * self.f_px, share * rate * self.f_px**2

    @cached_property
    def _chiefs(self):
        """Heights on the sensor, rising, and tangents of chief rays, far beyond the corner where they get there."""
        tangents = np.linspace(0, 2.5 * np.hypot(*self.size) / 2 / self.f_px, 4001)
        heights = np.abs(self.chief(tangents))
        rising = np.isfinite(heights) & (np.maximum.accumulate(np.nan_to_num(heights)) <= heights)
        last = int(np.argmin(rising)) if not rising.all() else len(rising)
        return heights[:last], tangents[:last]

    def _light_at_centre(self, wavelength):
        """Projected solid angle of the rays that meet the sensor's centre, seen through a plane of any distance."""
        Z = 5000 + 40 * self.focal_length
        radii = (np.arange(3000) + 0.5) / 3000 * 1.5 * self.pupil_radius
        s = np.stack([radii, 0 * radii], axis=1)

        def land(x, y):
            start = np.stack([x, y, np.full_like(x, self.pupil - Z)], axis=1)
            slope = (s - start[:, :2]) / Z
            return *self.trace(start, slope, wavelength), slope

        x, step = radii * 0.0, 1e-3
        for _ in range(7):
            here, ahead = land(x, 0 * x)[0][:, 0], land(x + step, 0 * x)[0][:, 0]
            with np.errstate(all="ignore"):
                x = np.nan_to_num(x - here * step / (ahead - here))
        here, passes, slope = land(x, 0 * x)
        along = (land(x + step, 0 * x)[0] - here)[:, 0] / step
        across = (land(x, 0 * x + step)[0] - here)[:, 1] / step
        cosine = 1 / np.sqrt(1 + (slope**2).sum(axis=1))
        with np.errstate(all="ignore"):
            each = cosine**4 / Z**2 / np.abs(along * across) * 2 * np.pi * radii * (radii[1] - radii[0])
        return float(each[passes & (np.abs(here[:, 0]) < 1e-6)].sum())

    def _axial(self, z):
        """Height at the stop, height and slope behind the lens of a ray from the axis at z."""
        return self._near_axis(0.0, TINY, z)[:3]

    def _near_axis(self, height, slope, z):
        start = np.array([[height, 0.0, z]])
        point, direction, hits = self._through(start, np.array([[slope, 0.0]]), self.green)
        return hits[self.stop][0, 0], point[0, 0], direction[0, 0] / direction[0, 2], point[0, 2]

    @staticmethod
    def _root(line):
        """Where a linear function of z is 0."""
        a, b = line(-1.0), line(-2.0)
        return -1.0 + a / (b - a)


def picture_of(rays, about, half):
    """Light of rays (pixels [N, 2], light [N]) on the pixels round `about`, as tents: [2 half + 1, 2 half + 1]."""
    at, light = rays
    place = at - about + half
    low = np.floor(place).astype(int)
    out = np.zeros((2 * half + 1, 2 * half + 1))
    inside = ((low >= 0) & (low < 2 * half)).all(axis=1)
    low, (u, v), light = low[inside], (place - low)[inside].T, light[inside]
    for i in (0, 1):
        for j in (0, 1):
            np.add.at(out, (low[:, 1] + j, low[:, 0] + i), light * np.abs(1 - i - u) * np.abs(1 - j - v))
    return out


def spot_of(picture, about):
    """The spot of one colour of a picture of pixels round `about`; a texel's tent is 1/6 px^2 wide."""
    half = len(picture) // 2
    y, x = np.mgrid[-half : half + 1, -half : half + 1]
    at, light = np.stack([x.ravel(), y.ravel()], axis=1) + about, picture.ravel()
    total = light.sum()
    if not total > 0:
        return Spot(float(total), np.zeros(2), np.zeros((2, 2)))
    centroid = light @ at / total
    away = at - centroid
    return Spot(float(total), centroid, (away.T * light) @ away / total - np.eye(2) / 6)


def _meet(surface, point, direction):
    """Where rays meet a surface, relative to its vertex, and its normals there."""
    c, k = (1 / surface.radius if surface.radius else 0.0), surface.conic
    x, y, z = point.T
    dx, dy, dz = direction.T
    # c (x^2 + y^2 + (1 + k) z^2) = 2 z along the ray: A t^2 + 2 B t + C = 0, the root at the vertex's side.
    A = c * (1 + k * dz * dz)
    B = c * (x * dx + y * dy + (1 + k) * z * dz) - dz
    C = c * (x * x + y * y + (1 + k) * z * z) - 2 * z
    t = C / (-B + np.sign(dz) * np.sqrt(B * B - A * C))
    if surface.asphere:
        t = np.where(np.isfinite(t), t, -z / dz)
        for _ in range(60):
            at = point + t[:, None] * direction
            sag, gradient = _sag(surface, c, k, at)
            step = (at[:, 2] - sag) / (dz - (gradient * direction[:, :2]).sum(axis=1))
            t = t - step
            if not (np.abs(step) > 1e-13).any():
                break
        at = point + t[:, None] * direction
        t = np.where(np.abs(at[:, 2] - _sag(surface, c, k, at)[0]) < 1e-8, t, np.nan)
    at = point + t[:, None] * direction
    _, gradient = _sag(surface, c, k, at)
    normal = np.concatenate([-gradient, np.ones((len(at), 1))], axis=1)
    return at, normal / np.sqrt((normal**2).sum(axis=1, keepdims=True))


def _sag(surface, c, k, at):
    """Height over the vertex plane and its gradient."""
    r2 = (at[:, :2] ** 2).sum(axis=1)
    root = np.sqrt(1 - (1 + k) * c * c * r2)
    sag, slope = c * r2 / (1 + root), c / root
    for power, a in enumerate(surface.asphere, 2):
        sag, slope = sag + a * r2**power, slope + 2 * power * a * r2 ** (power - 1)
    return sag, slope[:, None] * at[:, :2]

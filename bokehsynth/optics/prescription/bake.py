"""Traced rays as polynomials: what a prescription's rays do, per field and colour."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from bokehsynth.errors import UsageError
from bokehsynth.optics.apertures import BoolArray, Float64Array
from bokehsynth.optics.prescription.paraxial import Paraxial
from bokehsynth.optics.prescription.polynomials import DEGREES, degree_of, derivatives, exponents, fit, monomials
from bokehsynth.optics.prescription.surfaces import LensStack
from bokehsynth.optics.prescription.tracing import TracedRays, rays_from, trace

FIELDS = 16
"""Field positions from the centre to a little beyond the corner."""

GOOD = 0.01
"""Root mean square of the aberration's error, in pixels, that is good enough."""

_SIDE = 33
"""Rays per side of the grid that a polynomial is fitted to."""

_LEAST_RAYS = 12
"""Of a grid; where fewer pass, the field counts as dark."""

_SPARE = 1.08
"""Polynomials are fitted up to so many times every rim, so that rims cut where they are trustworthy."""


class Camera(NamedTuple):
    """A focused lens in front of a picture."""

    stack: LensStack
    properties: Paraxial
    wavelengths: tuple[float, float, float]
    f_px: float
    """Pixels per unit tangent of the green chief ray."""
    radius: float
    """Of the entrance pupil in mm: length of one unit of s."""
    defocus: float
    """K * d_f: pixels by which a ray through |s| = 1 is displaced at infinity when the lens is free of aberration."""
    half_diagonal: float
    """Of the picture in pixels."""


@dataclass(frozen=True, eq=False)
class LensTable:
    """Polynomials in s [fields, colours, P, ...], in the meridional frame: h along +x.

    P = 21, 36 or 55 monomials (degree 5, 7, 9), in the order of `monomials`.
    """

    fields: Float64Array
    """abs(h) of the rows, from 0 in equal steps."""
    aberration: Float64Array
    """Pixels, [F, 3, P, 2]."""
    weight: Float64Array
    """Light per area of s, relative to green on the axis, [F, 3, P]."""
    rims: Float64Array
    """Hits on the rims that cut light somewhere, in units of their semi-diameters, [F, 3, P, rims, 2]."""
    bounds: Float64Array
    """Least and largest x and y, and largest abs(s), of the s that pass, [F, 3, 5]; empty where nothing passes.

    Beyond, polynomials of high degree may fall back within a rim.
    """
    extent: float
    """Largest abs(s) that passes anywhere."""
    residual_rms: float
    """Of the aberration's fit over all rays that pass, in pixels."""
    residual_max: float
    surfaces: tuple[int, ...]
    """Places of the surfaces whose rims `rims` holds."""
    inner: Float64Array
    """Rays within so much of a rim's semi-diameter are stopped as well, [rims]; 0: none are."""


def pixels_per_tangent(stack: LensStack, wavelength: float, pupil: float, pitch: float) -> float:
    """Pixels on the sensor per unit tangent of the chief ray at the picture's centre."""
    tangent = 1e-4
    rays = rays_from(np.array([0.0, 0.0, pupil]), np.array([[tangent, 0.0]]))
    height = trace(stack, wavelength, rays).rays.at(stack.sensor)[0, 0]
    return float(abs(height) / tangent / pitch)


def pupil_radius(stack: LensStack, wavelength: float, properties: Paraxial) -> float:
    """Largest distance from the axis, in the pupil's plane, of rays from the axial sensor point that pass all rims."""
    semi_diameter = stack.surfaces[stack.stop].semi_diameter or 0.0
    marginal = abs(semi_diameter / properties.sensor_to_stop[1])

    def heights(slopes: Float64Array) -> tuple[Float64Array, BoolArray]:
        rays = rays_from(np.array([0.0, 0.0, stack.sensor]), np.stack([slopes, 0 * slopes], axis=1))
        traced = trace(stack, wavelength, rays, backwards=True)
        return np.abs(traced.rays.at(properties.entrance_pupil)[:, 0]), traced.passed(stack)

    slopes = np.linspace(0, 2 * marginal, 401)
    for _ in range(8):  # each pass looks 400 times closer between the last ray that passes and the next
        height, passes = heights(slopes)
        if not passes.any():
            raise UsageError("no ray from the axial point of the sensor passes all rims")
        last = int(np.flatnonzero(passes)[np.argmax(height[passes])])
        best = float(height[last])
        after = slopes[min(last + 1, len(slopes) - 1)]
        if after - slopes[last] < 1e-15 * marginal:
            break
        slopes = np.linspace(slopes[last], after, 401)
    return best


def bake_tables(cameras: Sequence[Camera], good: float = GOOD) -> list[LensTable]:
    """Trace and fit all fields and colours of a lens in several states; monomials and rims are the same in all.

    The degree is the first of DEGREES whose aberration errs by less than `good` pixels rms in all, or the last.
    """
    fields = np.linspace(0, 1, FIELDS)
    states = [[[_bundle(camera, h, line) for line in camera.wavelengths] for h in fields] for camera in cameras]
    found = [bundle for bundles in states for row in bundles for bundle in row if bundle is not None]
    if any(bundles[0][1] is None for bundles in states):
        raise UsageError("no ray reaches the centre of the sensor")
    stack = cameras[0].stack
    holed = [i for i, surface in enumerate(stack.surfaces) if surface.inner_semi_diameter is not None]
    rims = sorted({stack.stop, *holed, *(rim for bundle in found for rim in bundle.cut_by)})
    for degree in DEGREES:
        tables = [
            _fitted_table(bundles, camera.stack, rims, degree) for bundles, camera in zip(states, cameras, strict=True)
        ]
        if max(table.residual_rms for table in tables) < good:
            break
    return tables


def _fitted_table(bundles: "list[list[_Bundle | None]]", stack: LensStack, rims: list[int], degree: int) -> LensTable:
    axis = bundles[0][1]
    assert axis is not None
    axial = fit(axis.s, axis.light, DEGREES[0])[0]
    parts = [_fitted_row(row, rims, degree) for row in zip(*bundles, strict=True)]
    errors = np.concatenate([part.errors for row in parts for part in row])

    def table(name: str) -> Float64Array:
        return np.array([[getattr(part, name) for part in row] for row in zip(*parts, strict=True)])

    return LensTable(
        fields=np.linspace(0, 1, FIELDS),
        aberration=table("aberration"),
        weight=table("weight") / float(axial),
        rims=table("rims"),
        bounds=table("bounds"),
        extent=max(farthest(part.rims, part.bounds) for row in parts for part in row),
        residual_rms=float(np.sqrt(np.square(errors).mean())),
        residual_max=float(np.sqrt(np.square(errors).max())),
        surfaces=tuple(rims),
        inner=np.array(stack.inner_shares(rims)),
    )


class _Bundle(NamedTuple):
    """Rays of one colour from one point of the sensor."""

    s: Float64Array
    aberration: Float64Array
    light: Float64Array
    """d^2(direction cosines at the sensor) / d^2 s."""
    hits: Float64Array
    """[surfaces, N, 2] in units of the semi-diameter, 0 where there is no rim."""
    passes: BoolArray
    cut_by: tuple[int, ...]
    """Surfaces whose rims stop rays that all others let pass."""


_NOTHING = np.array([np.inf, -np.inf, np.inf, -np.inf, -np.inf])
"""Bounds that hold no point."""


class _Part(NamedTuple):
    """One entry of the table."""

    aberration: Float64Array
    weight: Float64Array
    rims: Float64Array
    bounds: Float64Array
    errors: Float64Array


def _bundle(camera: Camera, h: float, wavelength: float) -> _Bundle | None:
    """Trace the rays that meet the sensor where green's chief ray of field h does; None where none pass."""
    stack, properties = camera.stack, camera.properties
    tangent = h * camera.half_diagonal / camera.f_px  # X/Z of the chief ray; Z grows towards the scene, so dx/dz = -X/Z
    pupil = np.array([0.0, 0.0, properties.entrance_pupil])
    chief = trace(stack, camera.wavelengths[1], rays_from(pupil, np.array([[-tangent, 0.0]])))
    at = chief.rays.at(stack.sensor)[0, 0]
    if not np.isfinite(at):
        return None
    slopes, traced = _opening(camera, at, chief.rays.slope[0], wavelength)
    passes = traced.passed(stack)
    if passes.sum() < _LEAST_RAYS:
        return None
    keep = traced.passed(stack, _SPARE)
    s = traced.rays.at(properties.entrance_pupil) / camera.radius
    astray = camera.f_px * (-traced.rays.slope - [tangent, 0.0]) + camera.defocus * s
    cosines = rays_from(np.zeros(3), slopes).direction[:, :2]
    rims = np.array([surface.semi_diameter or np.inf for surface in stack.surfaces])
    hits = traced.hits / rims[:, None, None]
    within = np.hypot(hits[..., 0], hits[..., 1]) <= 1
    alone = keep & (within.sum(axis=0) == len(rims) - 1)
    cut_by = tuple(i for i in range(len(rims)) if (alone & ~within[i]).any())
    return _Bundle(s[keep], astray[keep], _jacobian(s[keep], cosines[keep]), hits[:, keep], passes[keep], cut_by)


def _opening(camera: Camera, at: float, chief: Float64Array, wavelength: float) -> tuple[Float64Array, TracedRays]:
    """Slopes of a grid of rays from the sensor's point (at, 0) that just covers what passes, and the rays traced.

    They are looked for about the slope of the chief ray there.
    """
    stack = camera.stack
    from_slope = camera.properties.sensor_to_stop[1]
    stop = (stack.surfaces[stack.stop].semi_diameter or 0.0) * 1.6
    line = np.linspace(-stop, stop, 49)
    grid = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
    slopes = chief + grid / from_slope
    sensor = np.array([at, 0.0, stack.sensor])
    traced = trace(stack, wavelength, rays_from(sensor, slopes), backwards=True)
    for _ in range(2):
        near = slopes[traced.passed(stack, _SPARE)]
        if len(near) == 0:
            break
        least, most = near.min(axis=0), near.max(axis=0)
        spare = 0.06 * (most - least) + 0.01 * stop / abs(from_slope)
        lines = [np.linspace(a, b, _SIDE) for a, b in zip(least - spare, most + spare, strict=True)]
        slopes = np.stack(np.meshgrid(*lines), axis=-1).reshape(-1, 2)
        traced = trace(stack, wavelength, rays_from(sensor, slopes), backwards=True)
    return slopes, traced


def _jacobian(s: Float64Array, cosines: Float64Array) -> Float64Array:
    """abs(det d cosines / d s) at every ray, from polynomials fitted to the cosines."""
    by_x, by_y = derivatives(s, DEGREES[1])
    fitted = fit(s, cosines, DEGREES[1])
    (a, b), (c, d) = (by_x @ fitted).T, (by_y @ fitted).T
    result: Float64Array = np.abs(a * d - b * c)
    return result


def _fitted_row(bundles: tuple[_Bundle | None, ...], rims: list[int], degree: int) -> list[_Part]:
    """One colour's polynomials for all fields; where nothing passes, those of the last field, and no extent."""
    count = len(exponents(degree))
    part = _Part(np.zeros((count, 2)), np.zeros(count), np.zeros((count, len(rims), 2)), _NOTHING, np.zeros((0, 2)))
    parts = []
    for bundle in bundles:
        dark = part._replace(bounds=_NOTHING, errors=np.zeros((0, 2)))
        part = dark if bundle is None else _fitted(bundle, rims, degree)
        parts.append(part)
    return parts


def _fitted(bundle: _Bundle, rims: list[int], degree: int) -> _Part:
    """Polynomials of a bundle."""
    aberration = fit(bundle.s, bundle.aberration, degree)
    passing = bundle.s[bundle.passes]
    errors = monomials(passing, degree) @ aberration - bundle.aberration[bundle.passes]
    hits = np.moveaxis(bundle.hits[rims], 0, 1).reshape(len(bundle.s), -1)
    least, most = passing.min(axis=0), passing.max(axis=0)
    spare = 0.03 * (most - least) + 0.01
    farthest_ray = float(np.hypot(*passing.T).max()) + float(spare.max())
    bounds = np.array([least[0] - spare[0], most[0] + spare[0], least[1] - spare[1], most[1] + spare[1], farthest_ray])
    fitted_hits = fit(bundle.s, hits, degree).reshape(-1, len(rims), 2)
    return _Part(aberration, fit(bundle.s, bundle.light, degree), fitted_hits, bounds, errors)


def farthest(rims: Float64Array, bounds: Float64Array, angles: int = 180, radii: int = 400) -> float:
    """Largest abs(s) within all rims [P, rims, 2] and bounds [5] of an entry, to a step of 2/radii and not less."""
    least, most = bounds[[0, 2]], bounds[[1, 3]]
    if not (most > least).all():
        return 0.0
    angle = np.arange(angles) * (2 * np.pi / angles)
    radius = np.arange(1, radii + 1)[:, None] * (2 / radii)
    s = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=-1).reshape(-1, 2)
    s = s[((s >= least) & (s <= most)).all(axis=1) & (np.hypot(*s.T) <= bounds[4])]
    hits = np.tensordot(monomials(s, degree_of(len(rims))), rims, axes=1)
    s = s[(np.einsum("nri,nri->nr", hits, hits) <= 1).all(axis=1)]
    return float(np.hypot(*s.T).max(initial=0)) + 1.2 * 2 / radii

"""Traced rays as polynomials: what a prescription's rays do, per field and colour."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from bokehsynth.errors import UsageError
from bokehsynth.optics.apertures import BoolArray, Float64Array
from bokehsynth.optics.prescription.bundles import FIELDS, NEAR_AXIS, Bundle, Camera, edge_of_image, trace_bundle
from bokehsynth.optics.prescription.paraxial import Paraxial
from bokehsynth.optics.prescription.polynomials import DEGREES, degree_of, exponents, fit, monomials
from bokehsynth.optics.prescription.surfaces import LensStack
from bokehsynth.optics.prescription.tracing import rays_from, trace

GOOD = 0.01
"""Root mean square of the aberration's error, in pixels, that is good enough."""

_FARTHEST = 50.0
"""Radii of the pupil beyond which openings are not looked for."""

_RINGS = 10
"""Of points that are looked at together for the farthest one."""


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
    dark_beyond: bool
    """Whether the last row is the edge of the image; where not, the rows end at the corner of the picture alone."""


def pixels_per_tangent(stack: LensStack, wavelength: float, pupil: float, pitch: float) -> float:
    """Pixels on the sensor per unit tangent of the chief ray at the picture's centre."""
    rays = rays_from(np.array([0.0, 0.0, pupil]), np.array([[NEAR_AXIS, 0.0]]))
    height = trace(stack, wavelength, rays).rays.at(stack.sensor)[0, 0]
    return float(abs(height) / NEAR_AXIS / pitch)


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
    edge = max(edge_of_image(camera) for camera in cameras)
    if edge == 0:
        raise UsageError("no ray reaches the centre of the sensor")
    fields = np.linspace(0, 1, FIELDS) * edge
    states = _traced(cameras, fields)
    found = [bundle for bundles in states for row in bundles for bundle in row if bundle is not None]
    if any(bundles[0][1] is None or not bundles[0][1].passes.any() for bundles in states):
        raise UsageError("no ray reaches the centre of the sensor")
    stack = cameras[0].stack
    holed = [i for i, surface in enumerate(stack.surfaces) if surface.inner_semi_diameter is not None]
    rims = sorted({stack.stop, *holed, *(rim for bundle in found for rim in bundle.cut_by)})
    for degree in DEGREES:
        tables = []
        for bundles, camera in zip(states, cameras, strict=True):
            table = _fitted_table(bundles, camera.stack, (fields, rims, degree))
            if not table.residual_rms < good and degree < DEGREES[-1]:
                break
            tables.append(replace(table, dark_beyond=edge < 1))
        if len(tables) == len(states):
            break
    return [replace(table, extent=_extent(table)) for table in tables]


def _traced(cameras: Sequence[Camera], fields: Float64Array) -> list[list[list[Bundle | None]]]:
    return [[[trace_bundle(camera, h, line) for line in camera.wavelengths] for h in fields] for camera in cameras]


def _fitted_table(
    bundles: list[list[Bundle | None]], stack: LensStack, choice: tuple[Float64Array, list[int], int]
) -> LensTable:
    """Fit all rows, but for the extent; `choice`: fields, rims and degree."""
    fields, rims, degree = choice
    axis = bundles[0][1]
    assert axis is not None
    axial = fit(axis.s, axis.light, DEGREES[0])[0]
    parts = [_fitted_row(row, rims, degree) for row in zip(*bundles, strict=True)]
    errors = np.concatenate([part.errors for row in parts for part in row])

    def table(name: str) -> Float64Array:
        return np.array([[getattr(part, name) for part in row] for row in zip(*parts, strict=True)])

    return LensTable(
        fields=fields,
        aberration=table("aberration"),
        weight=table("weight") / float(axial),
        rims=table("rims"),
        bounds=table("bounds"),
        extent=math.nan,
        residual_rms=float(np.sqrt(np.square(errors).mean())),
        residual_max=float(np.sqrt(np.square(errors).max())),
        surfaces=tuple(rims),
        inner=np.array(stack.inner_shares(rims)),
        dark_beyond=False,
    )


def _extent(table: LensTable) -> float:
    """Largest abs(s) that passes at any field in any colour."""
    entries = np.ndindex(table.rims.shape[:2])
    return max(farthest(table.rims[entry], table.bounds[entry]) for entry in entries)


_NOTHING = np.array([np.inf, -np.inf, np.inf, -np.inf, -np.inf])
"""Bounds that hold no point."""


class _Part(NamedTuple):
    """One entry of the table."""

    aberration: Float64Array
    weight: Float64Array
    rims: Float64Array
    bounds: Float64Array
    errors: Float64Array


def _fitted_row(bundles: tuple[Bundle | None, ...], rims: list[int], degree: int) -> list[_Part]:
    """One colour's polynomials for all fields; where no ray is found, those of the last field, and no extent."""
    count = len(exponents(degree))
    part = _Part(np.zeros((count, 2)), np.zeros(count), np.zeros((count, len(rims), 2)), _NOTHING, np.zeros((0, 2)))
    parts = []
    for bundle in bundles:
        dark = part._replace(bounds=_NOTHING, errors=np.zeros((0, 2)))
        if bundle is None:
            part = dark
        elif bundle.passes.any():
            part = _fitted(bundle, rims, degree)
        else:
            part = part._replace(**_closed(bundle, rims, degree))
        parts.append(part)
    return parts


def _closed(bundle: Bundle, rims: list[int], degree: int) -> dict[str, Float64Array]:
    """What a field of which nothing passes has of its own: its rims, without high powers, and bounds that hold all.

    Fields between it and the last one with light are interpolated, at lens points that its rays do not reach. There
    high powers run away: aberrations would grow to 1,000 px in a lens of 3 px.
    """
    hits = np.moveaxis(bundle.hits[rims], 0, 1).reshape(len(bundle.s), -1)
    plane = fit(bundle.s, hits, 1).reshape(-1, len(rims), 2)
    powers = exponents(degree)
    fitted = np.zeros((len(powers), len(rims), 2))
    fitted[[powers.index(each) for each in exponents(1)]] = plane
    return {"rims": fitted, "bounds": _bounds(bundle.s), "errors": np.zeros((0, 2))}


def _bounds(points: Float64Array) -> Float64Array:
    """Bounds [5] of lens points, and a little more."""
    least, most = points.min(axis=0), points.max(axis=0)
    spare = 0.03 * (most - least) + 0.01
    farthest_ray = float(np.hypot(*points.T).max()) + float(spare.max())
    return np.array([least[0] - spare[0], most[0] + spare[0], least[1] - spare[1], most[1] + spare[1], farthest_ray])


def _fitted(bundle: Bundle, rims: list[int], degree: int) -> _Part:
    """Polynomials of a bundle of which some rays pass."""
    aberration = fit(bundle.s, bundle.aberration, degree)
    passing = bundle.s[bundle.passes]
    errors = monomials(passing, degree) @ aberration - bundle.aberration[bundle.passes]
    hits = np.moveaxis(bundle.hits[rims], 0, 1).reshape(len(bundle.s), -1)
    fitted_hits = fit(bundle.s, hits, degree).reshape(-1, len(rims), 2)
    return _Part(aberration, fit(bundle.s, bundle.light, degree), fitted_hits, _bounds(passing), errors)


def farthest(rims: Float64Array, bounds: Float64Array, angles: int = 180, radii: int = 400) -> float:
    """Largest abs(s) within all rims [P, rims, 2] and bounds [5] of an entry, to a step of 2/radii and not less.

    At small stops of wide angles the pupil wanders off by several radii.
    """
    least, most = bounds[[0, 2]], bounds[[1, 3]]
    if not (most > least).all():
        return 0.0
    angle = np.arange(angles) * (2 * np.pi / angles)
    reach = max(1.0, min(bounds[4] / 2, _FARTHEST))
    rings = np.arange(math.ceil(radii * reach), 0, -1)[:, None] * (2 / radii)
    for first in range(0, len(rings), _RINGS):  # from outside: the first ring of which a point passes decides
        radius = rings[first : first + _RINGS]
        s = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=-1).reshape(-1, 2)
        s = s[((s >= least) & (s <= most)).all(axis=1) & (np.hypot(*s.T) <= bounds[4])]
        if len(s) == 0:
            continue
        hits = np.tensordot(monomials(s, degree_of(len(rims))), rims, axes=1)
        s = s[(np.einsum("nri,nri->nr", hits, hits) <= 1).all(axis=1)]
        if len(s):
            return float(np.hypot(*s.T).max()) + 1.2 * 2 / radii
    return 1.2 * 2 / radii

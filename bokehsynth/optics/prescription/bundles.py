"""Bundles of rays of one colour from one point of the sensor, through all that a lens lets pass there."""

from typing import NamedTuple

import numpy as np

from bokehsynth.optics.apertures import BoolArray, Float64Array
from bokehsynth.optics.prescription.paraxial import Paraxial
from bokehsynth.optics.prescription.polynomials import DEGREES, derivatives, fit
from bokehsynth.optics.prescription.surfaces import LensStack
from bokehsynth.optics.prescription.tracing import TracedRays, rays_from, trace

FIELDS = 16
"""Field positions from the centre to the corner, or to the edge of the image where that is nearer."""

_SIDE = 33
"""Rays per side of the grid that a polynomial is fitted to."""

NEAR_AXIS = 1e-4
"""Tangent of a chief ray close to the axis."""

_LEAST_RAYS = 12
"""Of a grid; where fewer pass, the field counts as dark."""

_BISECTIONS = 6
"""Of the step between two fields, for the edge of the image."""

_SPARES = (1.08, 1.3, 1.6, 2.0, 3.0)
"""Polynomials are fitted up to so many times every rim, so that rims cut where they are trustworthy. Where nothing
passes, up to the first of several at which rays come through, so that openings close smoothly towards such fields."""


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


class Bundle(NamedTuple):
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


def trace_bundle(camera: Camera, h: float, wavelength: float) -> Bundle | None:
    """Trace the rays that meet the sensor where green's chief ray of field h does; None where none come near it.

    Where the rims stop all of them, the rays are those beyond the rims that come nearest.
    """
    stack, properties = camera.stack, camera.properties
    chief = _chief_ray(camera, h)
    if chief is None:
        return None
    at, slope = chief
    tangent = h * camera.half_diagonal / camera.f_px  # X/Z of the chief ray; Z grows towards the scene, so dx/dz = -X/Z
    slopes, traced = _opening(camera, at, slope, wavelength, _SPARES[0])
    keep, passes = traced.passed(stack, _SPARES[0]), traced.passed(stack)
    if passes.sum() < _LEAST_RAYS:
        for spare in (_SPARES[-1], *_SPARES[1:]):  # the last one first: in the dark most fields are done with it
            slopes, traced = _opening(camera, at, slope, wavelength, spare)
            keep, passes = traced.passed(stack, spare), traced.passed(stack)
            if (keep.sum() >= _LEAST_RAYS) != (spare == _SPARES[-1]):
                break
        if keep.sum() < _LEAST_RAYS:
            return None
    s = traced.rays.at(properties.entrance_pupil) / camera.radius
    astray = camera.f_px * (-traced.rays.slope - [tangent, 0.0]) + camera.defocus * s
    cosines = rays_from(np.zeros(3), slopes).direction[:, :2]
    rims = np.array([surface.semi_diameter or np.inf for surface in stack.surfaces])
    hits = traced.hits / rims[:, None, None]
    within = np.hypot(hits[..., 0], hits[..., 1]) <= 1
    alone = keep & (within.sum(axis=0) == len(rims) - 1)
    stopped = alone if passes.any() else keep
    cut_by = tuple(i for i in range(len(rims)) if (stopped & ~within[i]).any())
    return Bundle(s[keep], astray[keep], _jacobian(s[keep], cosines[keep]), hits[:, keep], passes[keep], cut_by)


def _chief_ray(camera: Camera, h: float) -> tuple[float, Float64Array] | None:
    """Where green's chief ray of field h meets the sensor, (x, 0), and its slope there; None where it does not."""
    stack, tangent = camera.stack, h * camera.half_diagonal / camera.f_px
    pupil = np.array([0.0, 0.0, camera.properties.entrance_pupil])
    chiefs = np.array([[-tangent, 0.0], [-0.999 * tangent, 0.0], [-NEAR_AXIS, 0.0]])
    rays = trace(stack, camera.wavelengths[1], rays_from(pupil, chiefs)).rays
    at, inner, central = rays.at(stack.sensor)[:, 0]
    backs_off = h > 0 and not (at * central > 0 and abs(at) > abs(inner))  # as beyond the edge of a fisheye's image
    return None if not np.isfinite(at) or backs_off else (float(at), rays.slope[0])


def _opening(
    camera: Camera, at: float, slope: Float64Array, wavelength: float, spare: float
) -> tuple[Float64Array, TracedRays]:
    """Slopes of a grid of rays from the sensor's point (at, 0) that just covers what passes, and the rays traced.

    They are looked for about `slope`, that of the chief ray there, and, where that does not meet the opening (at small
    stops of wide angles the pupil wanders), about the ray through the middle of the stop and farther round.
    """
    stack = camera.stack
    from_slope = camera.properties.sensor_to_stop[1]
    stop = (stack.surfaces[stack.stop].semi_diameter or 0.0) * 1.6
    sensor = np.array([at, 0.0, stack.sensor])
    for attempt in range(4):
        line = np.linspace(-stop, stop, 49)
        grid = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
        slopes = slope + grid / from_slope
        traced = trace(stack, wavelength, rays_from(sensor, slopes), backwards=True)
        passes = traced.passed(stack, spare)
        on_border = np.abs(grid).max(axis=1) == stop
        if passes.any() and not passes[on_border].any():
            break
        if attempt == 0:
            slope = _towards_stop(stack, sensor, slope, wavelength)
        else:
            stop *= 2
    for _ in range(2):
        near = slopes[traced.passed(stack, spare)]
        if len(near) == 0:
            break
        least, most = near.min(axis=0), near.max(axis=0)
        wider = 0.06 * (most - least) + 0.01 * stop / abs(from_slope)
        lines = [np.linspace(a, b, _SIDE) for a, b in zip(least - wider, most + wider, strict=True)]
        slopes = np.stack(np.meshgrid(*lines), axis=-1).reshape(-1, 2)
        traced = trace(stack, wavelength, rays_from(sensor, slopes), backwards=True)
    return slopes, traced


def _towards_stop(stack: LensStack, sensor: Float64Array, slope: Float64Array, wavelength: float) -> Float64Array:
    """The slope of the meridional ray from a sensor's point through the middle of the stop; as given if none does."""
    found, step = slope.copy(), 1e-6
    for _ in range(20):
        pair = np.stack([found, found + [step, 0.0]])
        here, ahead = trace(stack, wavelength, rays_from(sensor, pair), backwards=True).hits[stack.stop, :, 0]
        if not (np.isfinite(here) and np.isfinite(ahead) and ahead != here):
            return slope
        found[0] -= here * step / (ahead - here)
        if abs(here) < 1e-6:
            break
    return found


def _jacobian(s: Float64Array, cosines: Float64Array) -> Float64Array:
    """abs(det d cosines / d s) at every ray, from polynomials fitted to the cosines."""
    by_x, by_y = derivatives(s, DEGREES[1])
    fitted = fit(s, cosines, DEGREES[1])
    (a, b), (c, d) = (by_x @ fitted).T, (by_y @ fitted).T
    result: Float64Array = np.abs(a * d - b * c)
    return result


def edge_of_image(camera: Camera) -> float:
    """abs(h), at most 1, up to which green light comes near the sensor; 0 where the axis is dark."""
    if _comes_near(camera, 1.0):
        return 1.0
    fields = np.linspace(0, 1, FIELDS)
    dark = next((i for i, h in enumerate(fields) if not _comes_near(camera, float(h))), 0)
    if dark == 0:
        return 0.0
    low, high = float(fields[dark - 1]), float(fields[dark])
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if _comes_near(camera, middle) else (low, middle)
    return low


def _comes_near(camera: Camera, h: float) -> bool:
    """Whether green rays pass within the first of _SPARES times every rim: where few do, little time is lost."""
    chief = _chief_ray(camera, h)
    if chief is None:
        return False
    _, traced = _opening(camera, *chief, camera.wavelengths[1], _SPARES[0])
    return bool(traced.passed(camera.stack, _SPARES[0]).sum() >= _LEAST_RAYS)

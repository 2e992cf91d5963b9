"""Paraxial quantities of a lens: focal length, focal points, pupil."""

from dataclasses import dataclass

import numpy as np

from bokehsynth.optics.apertures import Float64Array
from bokehsynth.optics.prescription.surfaces import LensStack


@dataclass(frozen=True)
class Paraxial:
    """In mm, at one wavelength; z from the first vertex."""

    focal_length: float
    front_focus: float
    """z of the focal point in front."""
    back_focus: float
    """z of the focal point behind."""
    entrance_pupil: float
    """z of the stop's image in object space; infinite for a lens that is telecentric there."""
    pupil_scale: float
    """Size of the entrance pupil over that of the stop."""
    sensor_to_stop: Float64Array
    """Height at the stop = [0] * height at the sensor + [1] * slope there, for rays in image space."""


def paraxial(stack: LensStack, wavelength: float) -> Paraxial:
    """Trace two rays by y' = y + t*u, n'u' = nu - y (n' - n)/R.

    A lens that forms no image has an infinite or undefined focal length.
    """
    with np.errstate(all="ignore"):
        return _paraxial(stack, wavelength)


def _paraxial(stack: LensStack, wavelength: float) -> Paraxial:
    front = _to_before(stack, wavelength, stack.stop)
    whole = _through(stack, wavelength, 0, len(stack.surfaces))
    a, c, d = whole[0, 0], whole[1, 0], whole[1, 1]
    last = stack.vertices[-1]
    focal_length = -1 / c
    # Object space: an axial point at z sends y = -z*u to the first vertex; it is imaged on the stop's centre.
    (fa, fb), _ = front
    entrance = fb / fa
    from_sensor = _to_before(stack, wavelength, stack.stop) @ np.linalg.inv(whole)
    shift = np.array([[1.0, last - stack.sensor], [0.0, 1.0]])
    return Paraxial(
        focal_length=float(focal_length),
        front_focus=float(d / c),
        back_focus=float(last - a / c),
        entrance_pupil=float(entrance),
        pupil_scale=float(1 / fa),
        sensor_to_stop=(from_sensor @ shift)[0],
    )


def _to_before(stack: LensStack, wavelength: float, surface: int) -> Float64Array:
    """Matrix from (y, u) before the first vertex to (y, u) at the vertex of a surface, before it refracts."""
    if surface == 0:
        return np.eye(2)
    matrix = _through(stack, wavelength, 0, surface)
    gap = stack.vertices[surface] - stack.vertices[surface - 1]
    return np.array([[1.0, gap], [0.0, 1.0]]) @ matrix


def _through(stack: LensStack, wavelength: float, first: int, last: int) -> Float64Array:
    """Matrix from (y, u) before the vertex of surface `first` to (y, u) behind that of `last` - 1."""
    indices, vertices, matrix = stack.indices(wavelength), stack.vertices, np.eye(2)
    for i in range(first, last):
        before, behind = indices[i], indices[i + 1]
        bend = -stack.surfaces[i].curvature * (behind - before) / behind
        refraction = np.array([[1.0, 0.0], [bend, before / behind]])
        gap = 0.0 if i == first else vertices[i] - vertices[i - 1]
        matrix = refraction @ np.array([[1.0, gap], [0.0, 1.0]]) @ matrix
    return matrix

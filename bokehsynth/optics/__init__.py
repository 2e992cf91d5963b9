"""What a lens is: disparity planes and height fields, apertures, the lens itself, layers. NumPy only."""

from bokehsynth.optics.apertures import Aperture, CatEye, Disc, Polygon, Ring, SameAperture
from bokehsynth.optics.layer import Layer
from bokehsynth.optics.prescription import Prescription, load_prescription
from bokehsynth.optics.thin_lens import HeightField, Lens, Plane, Surface

__all__ = [
    "Aperture",
    "CatEye",
    "Disc",
    "HeightField",
    "Layer",
    "Lens",
    "Plane",
    "Polygon",
    "Prescription",
    "Ring",
    "SameAperture",
    "Surface",
    "load_prescription",
]

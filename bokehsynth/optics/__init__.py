"""What a lens is: disparity planes and height fields, apertures, the lens itself, layers. NumPy only."""

from bokehsynth.optics.apertures import Aperture, CatEye, Disc, Polygon, Ring, SameAperture
from bokehsynth.optics.layer import Layer
from bokehsynth.optics.prescription import Prescription, load_prescription
from bokehsynth.optics.thin_lens import HeightField, Lens, Plane, Surface
from bokehsynth.optics.weighted_apertures import Anamorphic, Apodized, ImageAperture, OnionRings

__all__ = [
    "Anamorphic",
    "Aperture",
    "Apodized",
    "CatEye",
    "Disc",
    "HeightField",
    "ImageAperture",
    "Layer",
    "Lens",
    "OnionRings",
    "Plane",
    "Polygon",
    "Prescription",
    "Ring",
    "SameAperture",
    "Surface",
    "load_prescription",
]

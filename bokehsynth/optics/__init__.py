"""What a lens is: disparity planes and height fields, apertures, the lens itself, layers. NumPy only."""

from bokehsynth.optics.apertures import Aperture, CatEye, Disc, Polygon, Ring, SameAperture
from bokehsynth.optics.calibrated import CalibratedAperture, read_calibration, sized_aperture
from bokehsynth.optics.layer import Layer
from bokehsynth.optics.prescription import Prescription, load_prescription
from bokehsynth.optics.pupil_parts import Band, PupilPart, halves_of, part_of
from bokehsynth.optics.thin_lens import HeightField, Lens, Plane, Surface
from bokehsynth.optics.weighted_apertures import Anamorphic, Apodized, ImageAperture, OnionRings

__all__ = [
    "Anamorphic",
    "Aperture",
    "Apodized",
    "Band",
    "CalibratedAperture",
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
    "PupilPart",
    "Ring",
    "SameAperture",
    "Surface",
    "halves_of",
    "load_prescription",
    "part_of",
    "read_calibration",
    "sized_aperture",
]

"""What a lens is: disparity planes and height fields, apertures, the lens itself, layers. NumPy only."""

from bokehsynth.optics.apertures import Aperture, CatEye, Disc, Polygon, Ring
from bokehsynth.optics.layer import Layer
from bokehsynth.optics.thin_lens import HeightField, Lens, Plane, Surface

__all__ = ["Aperture", "CatEye", "Disc", "HeightField", "Layer", "Lens", "Plane", "Polygon", "Ring", "Surface"]

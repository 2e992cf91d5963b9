"""Real lenses: surfaces as a patent lists them, traced and baked into an aperture. NumPy only."""

from bokehsynth.optics.prescription.files import load_prescription, packaged_lenses
from bokehsynth.optics.prescription.prescription import Prescription

__all__ = ["Prescription", "load_prescription", "packaged_lenses"]

"""Real lenses: surfaces as a patent lists them, traced and baked into an aperture. NumPy only."""

from bokehsynth.optics.prescription.files import load_prescription, packaged_lenses, read_prescription
from bokehsynth.optics.prescription.focus_tables import FocusTables, focus_tables
from bokehsynth.optics.prescription.prescription import Prescription

__all__ = [
    "FocusTables",
    "Prescription",
    "focus_tables",
    "load_prescription",
    "packaged_lenses",
    "read_prescription",
]

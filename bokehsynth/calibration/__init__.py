"""A lens from a photograph: defocused lamps, found and fitted."""

from bokehsynth.calibration.lens_calibration import Calibration, FittedLamp, calibrate, reasons

__all__ = ["Calibration", "FittedLamp", "calibrate", "reasons"]

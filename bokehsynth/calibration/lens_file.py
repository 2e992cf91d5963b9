"""What `bokehsynth calibrate` writes: the lens as JSON, with error bars and lamps, and the sheet beside it."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2

from bokehsynth.calibration.lens_calibration import Calibration
from bokehsynth.calibration.pair_fit import PairFit
from bokehsynth.calibration.sheet import sheet
from bokehsynth.errors import UsageError
from bokehsynth.files import atomic_write, pretty_json


def check_out(out: Path, inputs: Sequence[Path] = ()) -> Path:
    """The path of the sheet beside a lens file; UsageError for a name of another kind, or if it would replace an input.

    Links are followed: a file is the same by whichever name.
    """
    if out.suffix.lower() != ".json":
        raise UsageError(f"{out}: a lens is written as JSON: --out my-lens.json (the sheet goes beside it, .png)")
    beside = out.with_suffix(".png")
    for path, what in ((out, "the lens file"), (beside, "the sheet beside it")):
        for source in inputs:
            if _is_same(path, source):
                raise UsageError(
                    f"--out {out}: {what}, {path}, would replace {source}, which is read: give another name, "
                    f"such as --out {out.with_name(f'{out.stem}-lens.json')}"
                )
    return beside


def _is_same(path: Path, other: Path) -> bool:
    """Whether two paths lead to one file, whether or not it is there."""
    try:
        return path.samefile(other)
    except OSError:  # one of them is not there, or a link leads round in a circle
        return os.path.realpath(path) == os.path.realpath(other)


def lens_record(found: Calibration, name: str, pair: PairFit | None = None) -> dict[str, Any]:
    """The content of the file: `opening` is what recipes, `--aperture` and `CalibratedAperture.load` read."""
    low, middle, high = found.radii
    opening = found.aperture.record
    errors: dict[str, Any] = {key: round(value, 6) for key, value in sorted(found.errors.items())}
    errors["colors"], errors["lateral"] = list(found.colors.radii_errors), list(found.colors.lateral_errors)
    record: dict[str, Any] = {
        "name": name,
        "opening": opening,
        "standard_errors": errors,
        "photograph": {"height": found.size[0], "width": found.size[1]},
        "radius_px": {"smallest": round(low, 3), "median": round(middle, 3), "largest": round(high, 3)},
        "edge_blur_px": round(found.sigma, 3),
        "lamps": {
            "found": found.found,
            "used": [lamp.record for lamp in found.lamps],
            "dropped": dict(sorted(found.dropped.items())),
            "for_red_and_blue": list(found.colors.lamps),
        },
        "warnings": found.warnings,
    }
    if pair is not None:
        record["pair"] = pair.record
    return record


def write_lens(out: Path, found: Calibration, pair: PairFit | None = None) -> list[Path]:
    """Write the lens file and the sheet beside it; their paths. StorageError where they cannot be written."""
    beside = check_out(out)
    page = sheet(found, out.stem)
    atomic_write(beside, cv2.imencode(".png", page[..., ::-1])[1].tobytes())
    atomic_write(out, pretty_json(lens_record(found, out.stem, pair)))
    return [out, beside]

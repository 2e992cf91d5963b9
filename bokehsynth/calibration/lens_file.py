"""What `bokehsynth calibrate` writes: the lens as JSON, with error bars and lamps, and the sheet beside it."""

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from bokehsynth.calibration.lens_calibration import Calibration
from bokehsynth.calibration.pair_fit import PairFit
from bokehsynth.calibration.sheet import sheet
from bokehsynth.errors import UsageError
from bokehsynth.files import atomic_write, pretty_json

SHEET_MARK = ("Software", "bokehsynth calibrate")
"""Text in a sheet's header by which it is known: only such a picture is replaced."""


def check_out(out: Path, inputs: Sequence[Path] = ()) -> Path:
    """The path of the sheet beside a lens file.

    UsageError for a name of another kind, or if the lens file would replace an input, or the sheet any file that is no
    sheet. Links are followed: a file is the same by whichever name.
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
    if beside.exists() and not _is_sheet(beside):
        raise UsageError(
            f"--out {out}: the sheet beside it, {beside}, would replace a file that is no sheet of calibrate: move it, "
            f"or give another name, such as --out {out.with_name(f'{out.stem}-lens.json')}"
        )
    return beside


def _is_sheet(path: Path) -> bool:
    """Whether an existing file is a sheet, by its first bytes."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return b"tEXt" + "\0".join(SHEET_MARK).encode() in file.read(200)
    except OSError:
        return False


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
    page, mark = io.BytesIO(), PngInfo()
    mark.add_text(*SHEET_MARK)
    Image.fromarray(sheet(found, out.stem)).save(page, "PNG", pnginfo=mark)
    atomic_write(beside, page.getvalue())
    atomic_write(out, pretty_json(lens_record(found, out.stem, pair)))
    return [out, beside]

"""Lens files of other programs, Zemax `.zmx` and CODE V `.seq`, read by optiland (extra `lenses`) and converted.

The only module that knows optiland. Centred spheres, conics, even aspheres, mirrors and circular rims are taken over;
anything else is refused with its surface, never left out.
"""

import contextlib
import io
import math
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from bokehsynth.errors import UsageError
from bokehsynth.optics.prescription.surfaces import FRAUNHOFER_C, FRAUNHOFER_D, FRAUNHOFER_F

FORMATS = {".zmx": "load_zemax_file", ".seq": "load_codev_file"}
"""Endings, and optiland's readers."""

_SURFACE = {
    ".zmx": re.compile(rb"^\s*SURF\s", re.MULTILINE | re.IGNORECASE),
    ".seq": re.compile(rb"(?:^|;)\s*S(?:O|I|\d+)?\s", re.MULTILINE | re.IGNORECASE),
}
_SHAPES = ("Plane", "StandardGeometry", "EvenAsphere")


def convert(path: Path, glasses: dict[str, list[float]]) -> dict[str, Any]:
    """The content of a prescription file for a lens file of another program.

    `glasses` are the catalogue's: a glass that is there keeps Sellmeier's formula, others become nd and vd. Raises
    UsageError that names the file, the surface and the way out.
    """
    optic = _read(path)
    surfaces = list(optic.surfaces.surfaces)[1:-1]
    if not surfaces:
        raise UsageError(f"{path}: holds no surfaces between object and image")
    places = [_number(surface.geometry.cs.z) for surface in list(optic.surfaces.surfaces)[1:]]
    records = []
    for i, surface in enumerate(surfaces):
        record = _surface(surface, f"{path}, surface {i + 1}", glasses)
        thickness = places[i + 1] - places[i]
        records.append(record | {"thickness": 0.0 if abs(thickness) < 1e-12 else thickness})
    with np.errstate(all="ignore"):
        focal_length, f_number = (_number(found) for found in (optic.paraxial.f2(), optic.paraxial.FNO()))
    if not (math.isfinite(focal_length) and focal_length > 0 and math.isfinite(f_number) and f_number > 0):
        raise UsageError(
            f"{path}: optiland finds a focal length of {focal_length:g} mm and f/{f_number:g}; a lens is needed that "
            "forms an image of distant things, with its aperture stated"
        )
    title = "".join(c for c in str(optic.name or "") if c.isprintable())[:200]
    return {
        "name": path.stem[:100], "source": f"{path.name}{': ' if title else ''}{title}",
        "focal_length_mm": focal_length, "f_number": f_number, "surfaces": records,
    }  # fmt: skip


def count_surfaces(ending: str, data: bytes) -> int:
    """The lines that begin a surface: `SURF n` in a .zmx, of either encoding, `S`, `S1`, `SO`, `SI` in a .seq."""
    return len(_SURFACE[ending].findall(data.replace(b"\0", b"")))


def _read(path: Path) -> Any:
    try:
        from optiland import fileio
    except ImportError:
        raise UsageError(
            f"{path}: {path.suffix} files are converted by optiland, which is not installed: pip install "
            "'bokehsynth[lenses]', or write the surfaces as .json (docs/lenses.md)"
        ) from None
    try:
        with warnings.catch_warnings(record=True) as warned, contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("always")
            optic = getattr(fileio, FORMATS[path.suffix.lower()])(str(path.absolute()))
    except Exception as error:  # its parsers raise anything on malformed text
        fault = " ".join(str(error).split())[:300]
        raise UsageError(f"{path}: optiland cannot read it ({type(error).__name__}: {fault})") from None
    left_out = [" ".join(str(warning.message).split()) for warning in warned if warning.category is UserWarning]
    if left_out:  # such as a glass that it takes for air
        raise UsageError(
            f"{path}: optiland would leave something out: {left_out[0][:300]} Change the file, or write the surfaces "
            "as .json (docs/lenses.md)"
        )
    return optic


def _surface(surface: Any, where: str, glasses: dict[str, list[float]]) -> dict[str, Any]:
    """One surface without its thickness."""
    geometry = surface.geometry
    shape = type(geometry).__name__
    if shape not in _SHAPES:
        raise UsageError(f"{where}: is a {shape}; spheres, conics and even aspheres can be traced")
    if any(abs(_number(getattr(geometry.cs, axis))) > 1e-12 for axis in ("x", "y", "rx", "ry", "rz")):
        raise UsageError(f"{where}: is tilted or off the axis; lenses are traced about one axis")
    radius = _number(geometry.radius)
    record: dict[str, Any] = {"radius": radius if math.isfinite(radius) else 0.0}
    if shape != "Plane" and (conic := _number(geometry.k)):
        record["conic"] = conic
    if shape == "EvenAsphere":
        square, *others = [_number(value) for value in geometry.coefficients] or [0.0]
        if square:
            raise UsageError(f"{where}: has an aspheric term in r^2; put it into the radius: 1/R' = 1/R + 2 A2")
        record["asphere"] = others
    if surface.is_stop:
        record["stop"] = True
    if surface.interaction_model.is_reflective:
        record["mirror"] = True
    else:
        record |= _glass(surface.material_post, where, glasses)
    return record | _rim(surface.aperture, where)


def _glass(material: Any, where: str, glasses: dict[str, list[float]]) -> dict[str, Any]:
    nd, nf, nc = (_number(material.n(line / 1000)) for line in (FRAUNHOFER_D, FRAUNHOFER_F, FRAUNHOFER_C))
    if not 1 <= nd < 6:
        raise UsageError(
            f"{where}: the glass behind is in no catalogue and the file states no index and Abbe number of it (read as "
            f"{nd:g}); state them, or write the surfaces as .json (docs/lenses.md)"
        )
    if nd == 1:
        return {}
    record: dict[str, Any] = {"index": nd}
    if (sellmeier := glasses.get(str(getattr(material, "name", "")).upper())) is not None:
        return record | {"sellmeier": sellmeier}
    return record | ({"abbe": (nd - 1) / (nf - nc)} if nf > nc else {})


def _rim(aperture: Any, where: str) -> dict[str, Any]:
    if aperture is None:
        return {}
    outer, inner = getattr(aperture, "r_max", None), getattr(aperture, "r_min", 0.0)
    if type(aperture).__name__ != "RadialAperture" or outer is None:
        raise UsageError(f"{where}: its rim is a {type(aperture).__name__}; circular ones about the axis can be traced")
    rim = {"semi_diameter": _number(outer)} if math.isfinite(_number(outer)) else {}
    return rim | ({"inner_semi_diameter": _number(inner)} if _number(inner) > 0 else {})


def _number(value: Any) -> float:
    return float(np.ravel(np.asarray(value, np.float64))[0])

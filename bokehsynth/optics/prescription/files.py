"""Prescription files: JSON of one's own, and the lenses that come with the package."""

import json
import math
from dataclasses import fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from bokehsynth.errors import UsageError
from bokehsynth.optics.prescription.prescription import Prescription
from bokehsynth.optics.prescription.surfaces import LINES, Surface

_PACKAGED = Path(__file__).parent / "lenses"
_KEYS = ("name", "source", "focal_length_mm", "f_number", "wavelengths_nm", "surfaces")
_REQUIRED = ("name", "focal_length_mm", "f_number", "surfaces")
_SURFACE_KEYS = tuple(field.name for field in fields(Surface))


def packaged_lenses() -> list[str]:
    """Names that `load_prescription` knows without a file."""
    return sorted(path.stem for path in _PACKAGED.glob("*.json"))


def load_prescription(name_or_path: str | Path) -> Prescription:
    """Read a prescription: the name of a packaged lens, or a path to a `.json` file (docs/lenses.md).

    Raises UsageError that names the file, the surface and what to do.
    """
    name, path = str(name_or_path), Path(name_or_path)
    if name in packaged_lenses():
        path = _PACKAGED / f"{name}.json"
    elif path.suffix.lower() != ".json":
        if path.exists():
            raise UsageError(f"{path}: a prescription is a .json file (docs/lenses.md)")
        raise UsageError(
            f"no lens is named {name!r}{_nearest(name, packaged_lenses())}; packaged are "
            f"{', '.join(packaged_lenses())}; a file of your own ends in .json"
        )
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"{path} is no JSON: {error}") from error
    return read_prescription(data, str(path))


def read_prescription(data: Any, source: str) -> Prescription:
    """The prescription that parsed JSON describes; `source` names it in messages."""
    if not isinstance(data, dict):
        raise UsageError(f"{source}: a prescription is a JSON object with the keys {', '.join(_KEYS)}")
    _check_keys(data, _KEYS, source)
    for key in _REQUIRED:
        if key not in data:
            raise UsageError(f"{source}: {key!r} is missing")
    surfaces = data["surfaces"]
    if not isinstance(surfaces, list) or not surfaces:
        raise UsageError(f"{source}: 'surfaces' must be a list of at least one surface, front to back")
    read = tuple(_surface(surface, f"{source}, surface {i}") for i, surface in enumerate(surfaces, 1))
    for i, surface in enumerate(surfaces[:-1], 1):
        if "thickness" not in surface:
            raise UsageError(f"{source}, surface {i}: 'thickness' (mm to the next surface) is missing")
    lines = data.get("wavelengths_nm", LINES)
    if not (isinstance(lines, list | tuple) and len(lines) == 3):
        raise UsageError(f"{source}: 'wavelengths_nm' must be three numbers for R, G and B, got {lines!r}")
    red, green, blue = (_number(line, f"{source}: wavelengths_nm") for line in lines)
    try:
        return Prescription(
            str(data["name"]),
            _number(data["focal_length_mm"], f"{source}: focal_length_mm"),
            _number(data["f_number"], f"{source}: f_number"),
            read,
            str(data.get("source", "")),
            (red, green, blue),
        )
    except UsageError as error:
        raise UsageError(f"{source}: {error}") from error


def _surface(data: Any, where: str) -> Surface:
    if not isinstance(data, dict):
        raise UsageError(f"{where} must be an object with the keys {', '.join(_SURFACE_KEYS)}, got {data!r}")
    _check_keys(data, _SURFACE_KEYS, where)
    if "radius" not in data:
        raise UsageError(f"{where}: 'radius' is missing (mm; null or 0 is flat)")
    if "abbe" in data and "index" not in data:
        raise UsageError(f"{where}: 'abbe' needs an 'index' (nd of the glass behind the surface)")
    given = {key: value for key, value in data.items() if value is not None}
    stop = given.pop("stop", False)
    if not isinstance(stop, bool):
        raise UsageError(f"{where}: 'stop' must be true or false, got {stop!r}")
    asphere = given.pop("asphere", [])
    if not isinstance(asphere, list):
        raise UsageError(f"{where}: 'asphere' must be a list [A4, A6, ...], got {asphere!r}")
    numbers = {key: _number(value, f"{where}: {key}") for key, value in given.items()}
    return Surface(stop=stop, asphere=tuple(_number(a, f"{where}: asphere") for a in asphere), **numbers)


def _check_keys(data: dict[str, Any], known: tuple[str, ...], where: str) -> None:
    for key in data:
        if key not in known:
            raise UsageError(f"{where}: unknown key {key!r}{_nearest(key, known)}; known are {', '.join(known)}")


def _nearest(word: str, words: "tuple[str, ...] | list[str]") -> str:
    close = get_close_matches(word, words, 1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UsageError(f"{where} must be a finite number, got {value!r}")
    return float(value)

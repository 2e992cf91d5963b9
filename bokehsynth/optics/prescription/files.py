"""Prescription files: JSON of one's own, and the lenses that come with the package."""

import json
import os
import stat
from dataclasses import fields
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

from bokehsynth.errors import UsageError
from bokehsynth.files import local_path
from bokehsynth.optics.prescription.converted import FORMATS, convert, count_surfaces
from bokehsynth.optics.prescription.prescription import Prescription
from bokehsynth.optics.prescription.surfaces import LINES, Surface

_PACKAGED = Path(__file__).parent / "lenses"
_KEYS = ("name", "source", "focal_length_mm", "f_number", "wavelengths_nm", "surfaces")
_REQUIRED = ("name", "focal_length_mm", "f_number", "surfaces")
_SURFACE_KEYS = (*(field.name for field in fields(Surface)), "glass")


MOST_SURFACES, MOST_COEFFICIENTS = 200, 20
"""Of one file, and of one asphere."""

_LARGEST = 1_000_000
"""Bytes of a file."""

_MOST = 1e15
"""Of any number: what is larger is none of a lens."""


def packaged_lenses() -> list[str]:
    """Names that `load_prescription` knows without a file."""
    return sorted(path.stem for path in _PACKAGED.glob("*.json"))


def load_prescription(name_or_path: str | Path, base: Path | None = None) -> Prescription:
    """Read a prescription: the name of a packaged lens, or a path to a `.json`, `.zmx` or `.seq` file (docs/lenses.md).

    The last two need optiland (`pip install 'bokehsynth[lenses]'`). A path is relative to `base`, or to the working
    directory. Raises UsageError that names the file, the surface and what to do.
    """
    name, path = str(name_or_path), local_path(name_or_path)
    if name in packaged_lenses():
        return read_prescription(_read_json(_PACKAGED / f"{name}.json"), f"{name}.json")
    path = path if base is None else base / path
    if path.suffix.lower() in FORMATS:
        count = count_surfaces(path.suffix.lower(), _read_bytes(path))
        if count > MOST_SURFACES + 2:  # with object and image; optiland takes the square of their number
            raise UsageError(f"{path}: {count:,} surfaces; at most {MOST_SURFACES} are traced")
        return read_prescription(convert(path, _catalogue()), str(path))
    if path.suffix.lower() != ".json":
        if path.exists():
            raise UsageError(f"{path}: a prescription is a .json, .zmx or .seq file (docs/lenses.md)")
        raise UsageError(
            f"no lens is named {name!r}{_nearest(name, packaged_lenses())}; packaged are "
            f"{', '.join(packaged_lenses())}; a file of your own ends in .json, .zmx or .seq"
        )
    return read_prescription(_read_json(path), str(path))


def _read_json(path: Path) -> Any:
    """The content of a JSON file; UsageError for one that is too large, too deep, or none."""
    data = _read_bytes(path)
    try:
        return json.loads(data.decode("utf-8"), object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        fault = "is nested too deeply" if isinstance(error, RecursionError) else f"is no JSON: {error}"
        raise UsageError(f"{path} {fault}") from None


def _read_bytes(path: Path) -> bytes:
    """The bytes of a regular file that is not too large; UsageError for another."""
    try:
        with open(path, "rb", opener=_open_at_once) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise UsageError(f"{path}: is not a regular file")
            data = file.read(_LARGEST + 1)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    if len(data) > _LARGEST:
        raise UsageError(f"{path}: more than {_LARGEST:,} bytes, and no lens needs so many")
    return data


def _open_at_once(path: str, flags: int) -> int:
    """Open without waiting for a writer, as a FIFO would have one do."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON whose keys stand once each."""
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for i, (key, _) in enumerate(pairs) if key in dict(pairs[:i]))
        raise ValueError(f"key {twice!r} stands twice in one object")
    return found


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
    if len(surfaces) > MOST_SURFACES:
        raise UsageError(f"{source}: {len(surfaces)} surfaces; at most {MOST_SURFACES} are traced")
    read = tuple(_surface(surface, f"{source}, surface {i}") for i, surface in enumerate(surfaces, 1))
    for i, surface in enumerate(surfaces[:-1], 1):
        if "thickness" not in surface:
            raise UsageError(f"{source}, surface {i}: 'thickness' (mm to the next surface) is missing")
    lines = data.get("wavelengths_nm", LINES)
    if not (isinstance(lines, list | tuple) and len(lines) == 3):
        raise UsageError(f"{source}: 'wavelengths_nm' must be three numbers for R, G and B, got {_short(lines)}")
    red, green, blue = (_number(line, f"{source}: wavelengths_nm") for line in lines)
    if not all(200 <= line <= 3000 for line in (red, green, blue)):
        raise UsageError(f"{source}: 'wavelengths_nm' must lie in 200..3000 nm, got {red:g}, {green:g}, {blue:g}")
    name, text = _text(data["name"], f"{source}: name", 100), _text(data.get("source", ""), f"{source}: source", 2000)
    try:
        prescription = Prescription(
            name,
            _number(data["focal_length_mm"], f"{source}: focal_length_mm"),
            _number(data["f_number"], f"{source}: f_number"),
            read,
            text,
            (red, green, blue),
        )
        prescription.check_opening()
    except UsageError as error:
        raise UsageError(f"{source}: {error}") from error
    return prescription


def _text(value: Any, where: str, longest: int) -> str:
    if not (isinstance(value, str) and len(value) <= longest and value.isprintable()):
        raise UsageError(f"{where} must be a printable text of at most {longest} characters, got {_short(value)}")
    return value


def _short(value: Any) -> str:
    """A value in a message, cut."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


def _surface(data: Any, where: str) -> Surface:
    if not isinstance(data, dict):
        raise UsageError(f"{where} must be an object with the keys {', '.join(_SURFACE_KEYS)}, got {_short(data)}")
    _check_keys(data, _SURFACE_KEYS, where)
    if "radius" not in data:
        raise UsageError(f"{where}: 'radius' is missing (mm; null or 0 is flat)")
    given = {key: value for key, value in data.items() if value is not None}
    glass = given.pop("glass", None)
    if glass is not None:
        given = _with_glass(given, glass, where)
    if "abbe" in data and "index" not in data:
        raise UsageError(f"{where}: 'abbe' needs an 'index' (nd of the glass behind the surface)")
    flags = {key: given.pop(key, False) for key in ("stop", "mirror")}
    for key, value in flags.items():
        if not isinstance(value, bool):
            raise UsageError(f"{where}: {key!r} must be true or false, got {_short(value)}")
    sellmeier = given.pop("sellmeier", [])
    if not isinstance(sellmeier, list) or len(sellmeier) not in {0, 6}:
        raise UsageError(f"{where}: 'sellmeier' must be [B1, B2, B3, C1, C2, C3] (C in um^2), got {_short(sellmeier)}")
    asphere = given.pop("asphere", [])
    if not isinstance(asphere, list) or len(asphere) > MOST_COEFFICIENTS:
        found = f"{len(asphere)} coefficients" if isinstance(asphere, list) else _short(asphere)
        raise UsageError(
            f"{where}: 'asphere' must be a list [A4, A6, ...] of at most {MOST_COEFFICIENTS} numbers, got {found}"
        )
    numbers: dict[str, Any] = {key: _number(value, f"{where}: {key}") for key, value in given.items()}
    return Surface(
        asphere=tuple(_number(a, f"{where}: asphere") for a in asphere),
        sellmeier=tuple(_number(b, f"{where}: sellmeier") for b in sellmeier),
        **flags,
        **numbers,
    )


def _with_glass(given: dict[str, Any], glass: Any, where: str) -> dict[str, Any]:
    """A surface whose glass is named, with the catalogue's dispersion; UsageError for a name that is not there."""
    known = _catalogue()
    name = str(glass).strip().upper()
    if name not in known:
        raise UsageError(
            f"{where}: glass {_short(glass)} is not in the catalogue ({len(known)} glasses of Schott)"
            f"{_nearest(name, list(known))}; give index and abbe (nd and vd), or sellmeier, instead"
        )
    if double := [key for key in ("index", "abbe", "sellmeier") if key in given]:
        raise UsageError(f"{where}: glass and {double[0]} both say what lies behind; give one of them")
    return given | {"sellmeier": known[name]}


@cache
def _catalogue() -> dict[str, list[float]]:
    """Sellmeier's coefficients by the names of glasses."""
    record = json.loads((Path(__file__).parent / "glasses.json").read_text(encoding="utf-8"))
    return dict(record["glasses"])


def _check_keys(data: dict[str, Any], known: tuple[str, ...], where: str) -> None:
    for key in data:
        if key not in known:
            raise UsageError(f"{where}: unknown key {_short(key)}{_nearest(key, known)}; known are {', '.join(known)}")


def _nearest(word: str, words: "tuple[str, ...] | list[str]") -> str:
    close = get_close_matches(word, words, 1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= _MOST:  # also for NaN
        raise UsageError(f"{where} must be a finite number, got {_short(value)}")
    return float(value)

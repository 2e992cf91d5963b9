"""Traced tables of lenses on disk, in the user's cache: `~/.cache/bokehsynth/lenses`, or below XDG_CACHE_HOME.

Only a cache: what cannot be read is traced again, and where nothing can be written nothing is kept. Files hold numbers
alone, and are read without pickle.
"""

import contextlib
import io
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bokehsynth.errors import StorageError
from bokehsynth.files import atomic_write, canonical_json, sha256_bytes, user_cache
from bokehsynth.optics.prescription.bake import LensTable

VERSION = 6
"""Of the tracing and fitting: raised whenever their numbers change."""

_LARGEST = 64_000_000
"""Bytes of a file that is read."""


class TableSet(NamedTuple):
    """Tables of a lens at one stop, free of pixels: lengths at the sensor are tangents before the lens."""

    tables: tuple[LensTable, ...]
    """At the focus distances of `FocusTables.nodes`."""
    radius: float
    """Length in mm of one unit of s in them."""
    stop: float
    """Semi-diameter in mm of the stop in them."""
    tangent: float
    """abs(h) = 1 in them, as a tangent."""


def load(key: dict[str, Any]) -> TableSet | None:
    """The tables kept under a key; None where there are none that can be read."""
    try:
        path = _path(key)
        if path.stat().st_size > _LARGEST:
            return None
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as kept:
            tables = tuple(_table(kept, f"{i}/") for i in range(int(kept["count"])))
            radius, stop, tangent = (float(value) for value in kept["lengths"])
        return TableSet(tables, radius, stop, tangent)
    except Exception:  # zipfile, zlib and NumPy's header parser raise anything on damaged bytes
        return None


def save(key: dict[str, Any], found: TableSet) -> None:
    """Keep tables under a key, if that is possible."""
    arrays = {
        f"{i}/{field.name}": np.asarray(getattr(table, field.name))
        for i, table in enumerate(found.tables)
        for field in fields(LensTable)
    }
    lengths = np.array([found.radius, found.stop, found.tangent])
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, count=np.array(len(found.tables)), lengths=lengths, **arrays)
    with contextlib.suppress(OSError, StorageError):
        path = _path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, buffer.getvalue())


def _table(kept: Any, place: str) -> LensTable:
    given = {field.name: kept[f"{place}{field.name}"] for field in fields(LensTable)}
    for name in ("extent", "residual_rms", "residual_max"):
        given[name] = float(given[name])
    given["dark_beyond"] = bool(given["dark_beyond"])
    given["surfaces"] = tuple(int(i) for i in given["surfaces"])
    table = LensTable(**given)
    if not all(np.isfinite(array).all() for array in (table.fields, table.aberration, table.weight, table.rims)):
        raise ValueError("tables hold numbers")
    return table


def _path(key: dict[str, Any]) -> Path:
    """The file of a key; the last bits of a fit depend on NumPy and on the CPU, so they are part of it."""
    build: Any = np.show_config(mode="dicts")
    whole = {"version": VERSION, "numpy": np.__version__, "cpu": str(build.get("SIMD Extensions")), "key": key}
    path = user_cache("bokehsynth", "lenses", f"{sha256_bytes(canonical_json(whole))[:32]}.npz")
    if path is None:
        raise OSError("a user without a home keeps nothing")
    return path

"""Reads the records of a data set that a run goes on with, and tells how two of them differ."""

import json
from typing import Any

from bokehsynth.errors import DataError
from bokehsynth.stores import StoredPath
from bokehsynth.untrusted_files import read_json

MAX_RECORDS = 16 << 20
"""Bytes of the records of identity and machines."""


def read_record(path: StoredPath, kind: type) -> Any:
    """The JSON value of that kind (list, dict) in a file; DataError, with the way out, where it is none."""
    try:
        value = read_json(path, MAX_RECORDS)
        if not isinstance(value, kind):
            raise DataError(f"{path}: is not a {kind.__name__}")
    except (OSError, DataError) as error:
        fault = error if isinstance(error, DataError) else f"{path}: cannot be read ({error})"
        raise DataError(f"{fault}; `bokehsynth verify --fix` restores it where the set is finished") from None
    return value


def differences(old: Any, new: Any, place: str = "") -> list[str]:
    """Lines `dotted.path: old -> new` for every leaf that differs."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [*old, *(key for key in new if key not in old)]
        nested = (differences(old.get(key), new.get(key), f"{place}.{key}" if place else key) for key in keys)
        return [line for lines in nested for line in lines]
    if old == new:
        return []
    return [f"{place}: {json.dumps(old)} -> {json.dumps(new)}"]

"""What a command found, for the object that `--json` prints."""

import math
from pathlib import Path
from typing import Any

from bokehsynth.stores import ObjectPath

FACTS: dict[str, Any] = {}
"""Of the command that this process runs."""


def record(**values: Any) -> None:
    """Add facts under their names; paths become text, tuples lists."""
    FACTS.update({name: _plain(value) for name, value in values.items()})


def _plain(value: Any) -> Any:
    """A value of JSON, digits of floats that say nothing left out."""
    if isinstance(value, dict):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(each) for each in (sorted(value) if isinstance(value, set) else value)]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else str(value)
    return str(value) if isinstance(value, Path | ObjectPath) else value

"""What an engine says while it works."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Report = Callable[[int], None]
"""A task calls it with the number of units just finished."""

Task = Callable[[Any, Report], Any]
"""Picklable; called as task(spec, report) in a worker, returns something small and picklable, or raises."""


@dataclass(frozen=True)
class Progress:
    """Units of a spec that were just finished (taken back, as a negative number, when its worker died)."""

    spec: Any
    units: int


@dataclass(frozen=True)
class Done:
    """A spec's result."""

    spec: Any
    result: Any
    attempts: int
    seconds: float


@dataclass(frozen=True)
class Failed:
    """A spec that was given up: its task raised, or killed every worker that tried it."""

    spec: Any
    error: BaseException
    trace: str
    attempts: int


Event = Progress | Done | Failed

"""What is evaluated: one picture with its truth, and the parts of it that are scored apart."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from bokehsynth import UsageError

ByteArray = npt.NDArray[np.uint8]
FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]

Task = Literal["bokeh", "restoration"]
PICTURE_SPLITS = ("all", "in focus", "out of focus")
DEPTH_SPLITS = ("degraded", "clear", "average")
IN_FOCUS_RADIUS = 1.0
"""Largest blur radius, in pixels, that counts as in focus where the set stores no mask."""
_SMALLEST_PART = 64
"""Pixels that a part of a picture must have to be scored."""


@dataclass(frozen=True)
class Scene:
    """The lens of a sample: what a renderer needs to make the target out of a sharp picture."""

    aif: ByteArray
    """The scene all in focus, clean, uint8 [H, W, 3] sRGB."""
    disparity: FloatArray
    """[H, W] in 0..1, 1 = near."""
    defocus: FloatArray
    """[H, W]: blur radius in pixels."""
    blur: float
    """K, pixels of blur radius per unit of disparity difference."""
    focus: float
    """The disparity in focus."""


@dataclass(frozen=True)
class Item:
    """One picture of a set."""

    key: str
    lq: ByteArray
    """The degraded picture, uint8 [H, W, 3] sRGB."""
    target: ByteArray
    """The truth, of the same size."""
    scene: Scene | None = None
    """None where nothing is blurred by a lens: the method only restores."""
    in_focus: BoolArray | None = None
    """[H, W]; None without a lens."""
    lq_native: ByteArray | None = None
    """`lq` before it was enlarged, where the set stores it."""

    def parts(self) -> dict[str, BoolArray | None]:
        """The masks of the parts that are large enough to be scored; None is the whole picture."""
        found: dict[str, BoolArray | None] = {"all": None}
        if self.in_focus is not None:
            named = {"in focus": self.in_focus, "out of focus": ~self.in_focus}
            found |= {name: mask for name, mask in named.items() if int(mask.sum()) >= _SMALLEST_PART}
        return found


class Outline(NamedTuple):
    """What is known of an item before it is read."""

    key: str
    size: tuple[int, int]
    """(height, width) of its picture."""
    may_turn: bool = False
    """Whether the two may be the other way round, because a file's EXIF may turn it."""


class ItemSet(Protocol):
    """A set that is evaluated."""

    @property
    def task(self) -> Task:
        """bokeh, or restoration: nothing is blurred by a lens."""
        ...

    @property
    def split(self) -> str | None:
        """The split of a generated set; None where a set has none."""
        ...

    @property
    def identity(self) -> str:
        """Differs between sets that differ."""
        ...

    @property
    def outlines(self) -> list[Outline]:
        """Keys and sizes, in the order of evaluation."""
        ...

    def __iter__(self) -> Iterator[Item]:
        """Read the items, one at a time."""
        ...


@dataclass
class Values:
    """The numbers of one method on one item."""

    metrics: dict[str, dict[str, float]]
    """By metric and split; what could not be measured is absent."""
    features: dict[str, FloatArray] = field(default_factory=dict)
    """By split, what set-level metrics compare; [C] each."""
    target_features: dict[str, FloatArray] = field(default_factory=dict)
    seconds: float | None = None
    memory: float | None = None
    """Bytes above what was in use before."""
    flops: float | None = None
    warm: bool = True
    """False for the first item of a process, whose time is no measure."""


def check_count(count: int | None, there: int, where: str) -> int:
    """How many items of `there` are evaluated; UsageError where that is none."""
    if there == 0:
        raise UsageError(f"{where}: holds no samples")
    return there if count is None else min(count, there)

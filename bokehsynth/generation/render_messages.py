"""What workers and the process that renders for them say to each other."""

from typing import NamedTuple

import numpy as np

from bokehsynth.generation.shared_scene import ScenePlace

RESULTS: dict[str, tuple[tuple[tuple[int, ...], ...], type]] = {
    "codes": (((3,), (3,)), np.uint8), "linear": (((3,), (3,)), np.float32), "coverage": (((3,), ()), np.float32)
}  # fmt: skip
"""What may be asked for: shapes per pixel and type of the pictures. The first two are `bokeh` and `all_in_focus`, the
third are those of `rendering.render_output`."""


def result_bytes(wanted: str) -> int:
    """Bytes for each pixel of what is asked for."""
    shapes, kind = RESULTS[wanted]
    return sum(int(np.prod(shape)) for shape in shapes) * np.dtype(kind).itemsize


class MemoryNote(NamedTuple):
    """Tells of new memory for a slot; its descriptor follows."""

    slot: int
    size: int


class SceneRequest(NamedTuple):
    """Asks for the pictures of a scene that lies in the memory of a slot."""

    number: int
    slot: int
    generation: int
    """Of the slot's layers: those of the same number are the same."""
    scene: ScenePlace
    wanted: str
    """A key of `RESULTS`."""
    samples: int | None
    """Rays, of `coverage` alone; None: training quality."""
    alone: bool
    """Whether it must be rendered by itself: it was in a batch over which a process ended."""

    @property
    def alike(self) -> tuple[str, int | None]:
        """Scenes that agree in this can be rendered together."""
        return self.wanted, self.samples

"""A worker's memory for one scene at a time, which the process that renders maps, too."""

import os
from dataclasses import dataclass
from multiprocessing import reduction
from multiprocessing.connection import Connection
from typing import Any
from weakref import ref

from bokehsynth.generation.render_messages import MemoryNote, result_bytes
from bokehsynth.generation.shared_scene import SharedMemory, place, write_layers
from bokehsynth.optics.layer import Layer
from bokehsynth.rendering.types import RenderInput

ROOMY = 4
"""A slot's memory is made anew when a scene needs less than one part in so many of it."""


@dataclass(eq=False)
class SceneSlot:
    """Shared memory for one scene at a time."""

    number: int
    memory: SharedMemory | None = None
    descriptor: int = -1
    announced: bool = False
    """Whether the process that renders has the memory."""
    generation: int = 0
    layers: "tuple[ref[Layer], ...]" = ()
    """What lies in the memory."""

    def holds(self, scene: RenderInput) -> bool:
        """Whether these very layers lie here."""
        kept = [found() for found in self.layers]
        return len(kept) == len(scene.layers) and all(a is b for a, b in zip(kept, scene.layers, strict=True))

    def put(self, scene: RenderInput, wanted: str) -> Any:
        """Copy a scene's layers here unless they are, and say where everything lies. MemoryError if there is none."""
        there, size = place(scene, result_bytes(wanted))
        if self.memory is None or not size <= self.memory.size < ROOMY * max(size, 1):
            self.let_go()
            self.memory, self.descriptor = SharedMemory.create(size)
        if not self.holds(scene):
            write_layers(self.memory, scene.layers, there.layers)
            self.generation += 1
            self.layers = tuple(ref(layer) for layer in scene.layers)
        return there

    def announce(self, link: "Connection[Any, Any]") -> None:
        """Hand the memory to the process that renders, once."""
        if not self.announced:
            assert self.memory is not None
            link.send(MemoryNote(self.number, self.memory.size))
            reduction.send_handle(link, self.descriptor, os.getpid())
            self.announced = True

    def let_go(self) -> None:
        """Give the memory back; the process that renders keeps what it has until it is told of other."""
        if self.memory is not None:
            os.close(self.descriptor)
        self.memory, self.announced, self.layers = None, False, ()

"""Batches in flight on two streams: one goes up to the device, or comes down, while the kernels of the other run.

A batch does everything on one stream, its lane, and the next one takes the other. Within a lane the order is that of
the calls. Between lanes only what is kept on the device is shared (layers, lens points, tables): a batch waits, between
its own uploads and its first kernel over them, for the event that follows the uploads of the batch before. Nothing that
a batch reads is given back before its pictures are fetched, which the host waits for: memory is reused in the order of
the lane that it was taken in.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from bokehsynth.rendering.cuda.batch import Batch, ray_set
from bokehsynth.rendering.cuda.encoding import Encoding
from bokehsynth.rendering.cuda.layer_cache import LayerCache
from bokehsynth.rendering.types import CodeTable, RenderInput

LANES = 2


class Part(NamedTuple):
    """Scenes that are rendered by the same launches."""

    scenes: Sequence[RenderInput]
    samples: int | None


@dataclass(eq=False)
class Flight:
    """Batches on their way in one lane."""

    lane: Any
    batches: list[Batch]
    encodings: list[Encoding]
    """Of each batch; none where linear pictures are fetched."""

    def land(self) -> list[list[Any]]:
        """For each part its pictures: linear [H, W, 3], or codes, None for one that has none. To be called once."""
        found: list[list[Any]] = []
        for number, batch in enumerate(self.batches):
            with batch.device.on(self.lane):
                if self.encodings:
                    found.append(list(self.encodings[number].fetch()))
                else:
                    found.append([batch.device.get(made.color) for made in batch.outputs])
        return found


class Lanes:
    """The streams of the device of a cache, taken in turn."""

    def __init__(self, cache: LayerCache) -> None:
        self.cache, self.device = cache, cache.device
        self._lanes = [self.device.new_stream() for _ in range(LANES)]
        self._uploaded: Any = None
        """Follows the uploads of the last flight."""
        self._count = 0
        self._turn = threading.Lock()

    def start(self, parts: Sequence[Part], table: CodeTable | None) -> Flight:
        """Send scenes on their way; raises what `Batch` raises."""
        device = self.device
        with self._turn:
            lane = self._lanes[self._count % LANES]
            self._count += 1
            with device.on(lane):
                before = self._uploaded
                try:
                    batches = [
                        Batch(self.cache, part.scenes, [ray_set(scene, part.samples) for scene in part.scenes])
                        for part in parts
                        if part.scenes
                    ]
                    colors = [[made.color for made in batch.outputs] for batch in batches]
                    encodings = [] if table is None else [Encoding(self.cache, each, table) for each in colors]
                finally:  # also what a batch kept there before it failed is waited for
                    self._uploaded = device.record(lane)
                if before is not None:
                    device.wait(lane, before)
                for batch in batches:
                    batch.render()
                for encoding in encodings:
                    encoding.launch()
        return Flight(lane, batches, encodings)

"""Layers that stay the same objects from view to view, as many as fit: what lies on a device goes by them."""

from collections.abc import Hashable
from typing import NamedTuple

from bokehsynth.generation.render_messages import SceneRequest
from bokehsynth.generation.shared_scene import LayerPlace, SharedMemory, read_layers
from bokehsynth.optics.layer import Layer

KEPT_BYTES = 4 << 30
"""Bytes on the device that layers may keep between batches: scenes of 512 px with three layers of 130 workers. One that
is let go too early is only uploaded again."""

TEXEL_BYTES = 20
"""Of a layer on the device: four channels, and alpha once more (`rendering.cuda.layer_cache`)."""


class _Kept(NamedTuple):
    generation: int
    places: tuple[LayerPlace, ...]
    layers: tuple[Layer, ...]
    bytes: int


class KeptLayers:
    """The layers of slots; beyond `most` bytes those that were asked for longest ago are let go."""

    def __init__(self, most: int = KEPT_BYTES) -> None:
        self.most, self.bytes = most, 0
        self._kept: dict[Hashable, _Kept] = {}

    def get(self, slot: Hashable, request: SceneRequest, memory: SharedMemory) -> tuple[Layer, ...]:
        """The layers of a request, which lie in the slot's memory: the same objects while their generation is."""
        places = request.scene.layers
        kept = self.drop(slot)
        if kept is None or (kept.generation, kept.places) != (request.generation, places):
            layers = read_layers(memory, places)
            size = sum(TEXEL_BYTES * layer.shape[0] * layer.shape[1] for layer in layers)
            kept = _Kept(request.generation, places, layers, size)
        self._kept[slot] = kept  # the last one now
        self.bytes += kept.bytes
        while self.bytes > self.most:
            self.drop(next(iter(self._kept)))
        return kept.layers

    def drop(self, slot: Hashable) -> _Kept | None:
        """Let go of a slot's layers."""
        found = self._kept.pop(slot, None)
        if found is not None:
            self.bytes -= found.bytes
        return found

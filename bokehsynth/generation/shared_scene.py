"""Scenes that pass between processes of one machine: their arrays in shared memory, the rest in a small message.

The memory is anonymous (`memfd_create` of Linux): it has no name in /dev/shm, does not count against the size of that
file system, which is small in containers, and goes with the last process that has it, however that ends.
"""

import mmap
import os
import pickle
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from bokehsynth.errors import BokehsynthError
from bokehsynth.generation.free_memory import free_memory
from bokehsynth.optics import Aperture, Disc, HeightField, Lens, Plane, SameAperture
from bokehsynth.optics.layer import Layer
from bokehsynth.rendering.types import RenderInput

ALIGNED = 64
"""Bytes between which arrays begin."""

APERTURES = 64
"""Openings that each side keeps: each is pickled once, and is one object for all its scenes, which tables go by."""


def why_not_shared() -> str | None:
    """Why this machine has no such memory; None if it has."""
    if not hasattr(os, "memfd_create"):
        return "this system has no memfd_create"
    try:
        os.close(os.memfd_create("bokehsynth-probe"))
    except OSError as error:
        return f"memfd_create is refused ({error})"
    return None


class SharedMemory:
    """A piece of memory that another process can map by its file descriptor."""

    def __init__(self, descriptor: int, size: int) -> None:
        """Map `size` bytes of what `descriptor` has."""
        if os.fstat(descriptor).st_size < size:
            raise BokehsynthError(f"shared memory has {os.fstat(descriptor).st_size} bytes, and should have {size}")
        self.size = size
        self._bytes = np.frombuffer(mmap.mmap(descriptor, size), np.uint8)

    @classmethod
    def create(cls, size: int) -> "tuple[SharedMemory, int]":
        """New memory and its descriptor; MemoryError where there is not so much, before any of it is taken.

        The kernel would not refuse: it hands out pages until it has to end a process, of anyone's.
        """
        left = free_memory()
        if left is not None and size > left:
            raise MemoryError(f"{size >> 20} MB of shared memory are needed for a scene, and {left >> 20} MB are free")
        descriptor = os.memfd_create("bokehsynth-scene")
        try:
            os.posix_fallocate(descriptor, 0, size)
            return cls(descriptor, size), descriptor
        except OSError as error:
            os.close(descriptor)
            raise MemoryError(f"no {size >> 20} MB of shared memory for a scene ({error})") from error

    def array(self, offset: int, shape: Sequence[int], kind: Any) -> "np.ndarray[Any, Any]":
        """The array that lies there."""
        end = offset + int(np.prod(shape)) * np.dtype(kind).itemsize
        if not 0 <= offset <= end <= self.size:
            raise BokehsynthError(f"an array at {offset} to {end} lies outside {self.size} bytes of shared memory")
        return self._bytes[offset:end].view(kind).reshape(shape)


class LayerPlace(NamedTuple):
    """Where a layer's arrays lie."""

    shape: tuple[int, int]
    color: int
    alpha: int
    surface: Plane | int
    """A plane, or where the height field lies."""


class ScenePlace(NamedTuple):
    """A scene but for its arrays."""

    layers: tuple[LayerPlace, ...]
    margin: int
    lens: Lens
    """With another opening."""
    aperture: bytes
    results: int
    """Where its pictures are to be put, one after the other."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the picture."""
        height, width = self.layers[0].shape
        return height - 2 * self.margin, width - 2 * self.margin


def place(scene: RenderInput, picture_bytes: int) -> tuple[ScenePlace, int]:
    """Where everything of a scene lies, and how many bytes that takes; `picture_bytes` for each pixel of results."""
    at, layers = 0, []
    for layer in scene.layers:
        texels = 4 * layer.shape[0] * layer.shape[1]
        color, alpha, heights = at, _after(at + 3 * texels), _after(at + 4 * texels + ALIGNED)
        field = isinstance(layer.disparity, HeightField)
        layers.append(LayerPlace(layer.shape, color, alpha, heights if field else layer.disparity))  # type: ignore[arg-type]
        at = _after(heights + texels * field)
    lens = replace(scene.lens, aperture=Disc())
    found = ScenePlace(tuple(layers), scene.margin, lens, _pickled(SameAperture(scene.lens.aperture)), at)
    return found, at + max(0, scene.height) * max(0, scene.width) * picture_bytes


def _after(offset: int) -> int:
    return -(-offset // ALIGNED) * ALIGNED


def write_layers(memory: SharedMemory, layers: Sequence[Layer], places: Sequence[LayerPlace]) -> None:
    """Copy the arrays of layers to their places."""
    for layer, there in zip(layers, places, strict=True):
        memory.array(there.color, (*there.shape, 3), np.float32)[...] = layer.color
        memory.array(there.alpha, there.shape, np.float32)[...] = layer.alpha
        if isinstance(layer.disparity, HeightField) and isinstance(there.surface, int):
            memory.array(there.surface, there.shape, np.float32)[...] = layer.disparity.values


def read_layers(memory: SharedMemory, places: Sequence[LayerPlace]) -> tuple[Layer, ...]:
    """The layers that lie there, without a copy."""
    return tuple(
        Layer.of_checked(
            memory.array(there.color, (*there.shape, 3), np.float32),
            memory.array(there.alpha, there.shape, np.float32),
            HeightField(memory.array(there.surface, there.shape, np.float32))
            if isinstance(there.surface, int)
            else there.surface,
        )
        for there in places
    )


def lens_at(there: ScenePlace) -> Lens:
    """The lens with its opening: the same object for all scenes that have it."""
    return replace(there.lens, aperture=_unpickled(there.aperture))


def result_arrays(
    memory: SharedMemory, there: ScenePlace, shapes: Sequence[tuple[int, ...]], kind: Any
) -> Iterator["np.ndarray[Any, Any]"]:
    """The pictures of a scene, one after the other where its results lie; `shapes` are per pixel."""
    at = there.results
    for shape in shapes:
        found = memory.array(at, (*there.size, *shape), kind)
        yield found
        at += found.nbytes


@lru_cache(maxsize=APERTURES)
def _pickled(key: SameAperture) -> bytes:
    return pickle.dumps(key.aperture)


@lru_cache(maxsize=APERTURES)
def _unpickled(pickled: bytes) -> Aperture:
    found: Aperture = pickle.loads(pickled)  # of a process of this run
    return found

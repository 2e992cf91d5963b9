"""The pictures through the two halves of an opening: that through the whole, shared out, so that both add up to it.

Each half is rendered by itself, and the whole too; of every pixel's light each half gets the share that its own picture
has in the sum of both. So what the three renderings are off by, where rays or tables decide, does not show in the sum,
and no half is below 0.
"""

import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary, ref

import numpy as np
import numpy.typing as npt

from bokehsynth.optics import Aperture, Lens
from bokehsynth.optics.apertures import SameAperture
from bokehsynth.optics.layer import Layer
from bokehsynth.optics.pupil_parts import PupilPart, all_parts
from bokehsynth.rendering.types import Backend, Float64Array, FloatArray, RenderInput, RenderOutput


class _Made(NamedTuple):
    """What was rendered of one scene on the way to another picture, and that nothing has asked for yet."""

    layers: "tuple[ref[Layer], ...]"
    margin: int
    backend: Backend
    samples: int | None
    outputs: "dict[tuple[Lens, SameAperture], RenderOutput]"

    def is_of(self, scene: RenderInput, backend: Backend, samples: int | None) -> bool:
        """Whether it is of the same layers by the same means."""
        same = (self.margin, self.backend, self.samples, len(self.layers))
        return same == (scene.margin, backend, samples, len(scene.layers)) and all(
            one() is other for one, other in zip(self.layers, scene.layers, strict=True)
        )


Array = npt.NDArray[Any]

_MADE: WeakKeyDictionary[Layer, _Made] = WeakKeyDictionary()
"""By nearest layer; dropped with it, or when halves of another picture of it are rendered."""

_LOCK = threading.Lock()


def is_half(aperture: Aperture) -> bool:
    """Whether an opening is one of two parts."""
    return isinstance(aperture, PupilPart) and aperture.is_half


def render_scene(scene: RenderInput, backend: Backend, samples: int | None) -> RenderOutput:
    """What `backend.render_scene` gives of a scene through a whole opening, or its share through a half of one.

    Of a lens with `falloff` a half is darkened as the whole is. What is rendered for a half is kept for the other half
    and the whole, each to be asked for once.
    """
    if (found := _taken(scene, backend, samples)) is not None:
        return found
    if not is_half(scene.lens.aperture):
        return backend.render_scene(scene, samples)
    from bokehsynth.rendering.aperture.part_light import lights_of

    part = scene.lens.aperture
    assert isinstance(part, PupilPart)
    scenes = [_through(scene, each) for each in all_parts(part)]
    scenes[part.number] = scene
    whole = _through(scene, part.whole)
    even = [replace(each, lens=replace(each.lens, falloff=False)) for each in scenes]
    of_whole = backend.render_scene(whole, samples)
    shared = _shared_out(of_whole, [backend.render_scene(each, samples) for each in even], lights_of(scene, part))
    made = {_key(each): output for each, output in zip([whole, *scenes], [of_whole, *shared], strict=True)}
    result = made.pop(_key(scene))
    with _LOCK:
        layers = tuple(ref(layer) for layer in scene.layers)
        _MADE[scene.layers[0]] = _Made(layers, scene.margin, backend, samples, made)
    return result


def _through(scene: RenderInput, aperture: Aperture) -> RenderInput:
    return replace(scene, lens=replace(scene.lens, aperture=aperture))


def _key(scene: RenderInput) -> tuple[Lens, SameAperture]:
    """The lens of a scene; openings are the same only as objects."""
    lens = scene.lens
    return Lens(lens.blur, lens.focus, falloff=lens.falloff), SameAperture(lens.aperture)


def _taken(scene: RenderInput, backend: Backend, samples: int | None) -> RenderOutput | None:
    """What was rendered for this scene already; it is handed out once."""
    with _LOCK:
        kept = _MADE.get(scene.layers[0])
        if kept is None or not kept.is_of(scene, backend, samples):
            return None
        return kept.outputs.pop(_key(scene), None)


def _shared_out(
    whole: RenderOutput, halves: Sequence[RenderOutput], lights: Sequence[FloatArray]
) -> list[RenderOutput]:
    """The halves' outputs with colours that, times `lights` and what arrives, add up to those of the whole."""
    arriving = [light * half.coverage[..., None].astype(np.float64) for half, light in zip(halves, lights, strict=True)]
    own = [np.maximum(half.color, 0) * light for half, light in zip(halves, arriving, strict=True)]
    total, arrived = own[0] + own[1], arriving[0] + arriving[1]
    light_of_all = whole.color * whole.coverage[..., None].astype(np.float64)
    result = []
    for half, here, there, light in zip(halves, own, arriving, lights, strict=True):
        share = np.where(total > 0, _ratio(here, total), _ratio(there, arrived))
        color = _ratio(light_of_all * share, there)
        result.append(RenderOutput(color.astype(np.float32), half.coverage, half.paths, light))
    return result


def _ratio(a: Array, b: Array) -> Float64Array:
    """a / b, 0 where b is."""
    result: Float64Array = np.divide(a, b, out=np.zeros(np.broadcast_shapes(a.shape, b.shape)), where=b > 0)
    return result

"""The pictures through the two halves of an opening: that through the whole, shared out, so that both add up to it.

Each half is rendered by itself, and the whole too; of every pixel's light each half gets the share that its own picture
has in the sum of both. So what the three renderings are off by, where rays or tables decide, does not show in the sum,
and no half is below 0. The same in other words: what both lack of the whole is split as they share the light. Split by
the light of their openings, or evenly, it makes dim pixels beside a lamp less accurate, and by the squares of what both
have no more so (docs/optics.md). On `reference` the rays of both halves are the whole's, and nothing is shared out.
"""

import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple
from weakref import WeakKeyDictionary, ref

import numpy as np

from bokehsynth.optics import Aperture, Lens
from bokehsynth.optics.apertures import SameAperture
from bokehsynth.optics.layer import Layer
from bokehsynth.optics.pupil_parts import PupilPart, all_parts
from bokehsynth.rendering.types import Backend, FloatArray, RenderInput, RenderOutput


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


_DARK = 1e-30
"""Light of both halves up to which there is nothing to share by."""

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
    if backend.partitions or not is_half(scene.lens.aperture):
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
    colors = [np.maximum(half.color, 0) for half in halves]
    arriving = [_times_coverage(light, half) for half, light in zip(halves, lights, strict=True)]
    total = colors[0] * arriving[0]
    total += colors[1] * arriving[1]
    dark = total <= _DARK
    light_of_all = _times_coverage(whole.color, whole)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        factor = np.divide(light_of_all, total, out=total)
    if dark.any():  # the whole's own colour, for both
        factor[dark] = 1
        arrived = np.broadcast_to(arriving[0] + arriving[1], dark.shape)[dark]
        own = np.divide(light_of_all[dark], arrived, out=np.zeros_like(arrived), where=arrived > 0)
        for color in colors:
            color[dark] = own
    for color in colors:
        np.multiply(color, factor, out=color)
    pairs = zip(halves, colors, lights, strict=True)
    return [RenderOutput(color, half.coverage, half.paths, light) for half, color, light in pairs]


def _times_coverage(picture: FloatArray, output: RenderOutput) -> FloatArray:
    """What arrives of a picture's light, float32; the picture itself where all does."""
    if (output.coverage == 1).all():
        return picture
    result: FloatArray = picture * output.coverage[..., None]
    return result

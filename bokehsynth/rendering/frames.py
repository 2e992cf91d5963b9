"""The pictures and maps of one scene."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from bokehsynth.rendering import half_pictures
from bokehsynth.rendering.types import Backend, ByteArray, Encode, Float64Array, FloatArray, RenderInput, RenderOutput


class Frames:
    """The pictures and maps of one scene, NumPy float32 on every backend; each is computed when first read."""

    def __init__(
        self,
        scene: RenderInput,
        backend: Backend,
        samples: int | None,
        made: Sequence[Any] = (),
        encode: Encode | None = None,
    ) -> None:
        """`made`: the pictures through the lens and through a pinhole, None where they are not made already.

        With `encode` they are codes as it makes them, None also where it would refuse.
        """
        self._scene, self._backend, self._samples = scene, backend, samples
        self._made: Sequence[FloatArray | None] = made if made and encode is None else (None, None)
        self._codes: Sequence[ByteArray | None] = made if encode is not None else (None, None)
        self._encode = encode

    @cached_property
    def _blurred(self) -> RenderOutput:
        if self._scene.lens.blur == 0:
            return self._pinhole
        return half_pictures.render_scene(self._scene, self._backend, self._samples)

    @cached_property
    def _pinhole(self) -> RenderOutput:
        return self._backend.render_scene(self._scene.all_in_focus(), 1)

    @property
    def bokeh(self) -> FloatArray:
        """The scene through the lens, [H, W, 3] linear light, not clamped.

        Through one of two halves: what it adds to the picture through the whole, over `part_light`
        (`rendering.half_pictures`).
        """
        return self._blurred.color if self._made[0] is None else self._made[0]

    def bokeh_by(self, encode: Encode) -> ByteArray:
        """`encode(bokeh)`, from the device where it was encoded there; raises what `encode` raises."""
        codes = self._codes[0] if self._encode is encode else None
        return encode(self.bokeh) if codes is None else codes

    def all_in_focus_by(self, encode: Encode) -> ByteArray:
        """`encode(all_in_focus)`, from the device where it was encoded there; raises what `encode` raises."""
        codes = self._codes[1] if self._encode is encode else None
        return encode(self.all_in_focus) if codes is None else codes

    def view_by(self, encode: Encode, half: bool) -> ByteArray:
        """`encode(of_half)` where the lens is one of two halves, else `bokeh_by(encode)`."""
        return encode(self.of_half) if half else self.bokeh_by(encode)

    @property
    def coverage(self) -> FloatArray:
        """Share of the light that comes from the layers rather than from nothing behind them, [H, W] in 0..1."""
        return self._blurred.coverage

    @property
    def paths(self) -> npt.NDArray[np.uint8] | None:
        """Path of each tile of `bokeh`: uint8 [ceil(H/8), ceil(W/16)], names in `rendering.PATHS`.

        None on backends, and for height fields, that have one way only.
        """
        return self._blurred.paths

    @property
    def all_in_focus(self) -> FloatArray:
        """The same layers through a pinhole (K = 0), [H, W, 3] linear light, not clamped."""
        return self._pinhole.color if self._made[1] is None else self._made[1]

    @property
    def disparity(self) -> FloatArray:
        """Disparity of the nearest layer at which the accumulated alpha reaches 0.5, [H, W].

        Never a blend of two layers: a blend crosses the focus and would draw a false sharp rim. Where nothing
        reaches 0.5 it is the farthest layer's.
        """
        return self._maps[0]

    @property
    def defocus(self) -> FloatArray:
        """Blur radius in pixels of that layer, r = K * |d - d_f|, [H, W], >= 0."""
        return self._maps[1]

    @cached_property
    def _maps(self) -> tuple[FloatArray, FloatArray]:
        from bokehsynth.rendering.cpu import pinhole

        planes = pinhole.planes_in_order(self._scene)
        if planes is not None:
            return pinhole.maps(self._scene, planes)
        visible = _visible_disparity(self._scene)
        radius: Float64Array = self._scene.lens.radius(visible)
        return visible.astype(np.float32), radius.astype(np.float32)

    @cached_property
    def transmission(self) -> FloatArray:
        """Light that a field-dependent aperture lets pass, relative to none being blocked, [H, W] in 0..1."""
        return self._backend.transmission(self._scene)

    @cached_property
    def part_light(self) -> FloatArray:
        """Light through a part of an opening (`optics.pupil_parts`) over that through the whole, for R, G and B.

        [H, W, 3] or [1, 1, 3]. `bokeh` is normalised; times this it is what the part adds to the whole's picture, where
        the layers let nothing through. UsageError for another opening.
        """
        if self._scene.lens.blur > 0 and half_pictures.is_half(self._scene.lens.aperture):
            made = self._blurred.part_light
            assert made is not None
            return made
        from bokehsynth.rendering.aperture.part_light import part_light

        return part_light(self._scene)

    @property
    def of_half(self) -> FloatArray:
        """The picture through one of two parts with the light it has, doubled: the mean of both is the whole's."""
        return 2 * self.bokeh * self.part_light


def _visible_disparity(scene: RenderInput) -> Float64Array:
    x, y = scene.offsets()
    shape = (len(scene.layers), scene.height, scene.width)
    disparity = np.empty(shape)
    alpha = np.empty(shape, np.float32)
    for i, layer in enumerate(scene.layers):
        disparity[i] = layer.disparity.at(x, y)
        alpha[i] = scene.crop(layer.alpha)
    if (np.diff(disparity, axis=0) > 0).any():  # layers cross: near to far changes from pixel to pixel
        order = np.argsort(-disparity, axis=0, kind="stable")
        disparity = np.take_along_axis(disparity, order, axis=0)
        alpha = np.take_along_axis(alpha, order, axis=0)
    reached = np.empty(shape, np.bool_)
    through = np.ones(shape[1:], np.float32)
    for i in range(shape[0]):
        through *= 1 - alpha[i]
        reached[i] = through <= 0.5
    reached[-1] = True
    first = np.argmax(reached, axis=0)
    result: Float64Array = np.take_along_axis(disparity, first[None], axis=0)[0]
    return result

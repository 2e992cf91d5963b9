"""Metrics by closed formulas: PSNR, SSIM, edge energy in focus, and the blur radius out of focus.

Pictures are uint8 [H, W, 3] sRGB. Each function gives one number per part of the picture (all, in focus, out of focus).
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from bokehsynth import Lens
from magicbokeh.data.augment import classical_bokeh
from magicbokeh.evaluation.items import BoolArray, ByteArray, Item, Scene

Parts = dict[str, BoolArray | None]
Float64Array = npt.NDArray[np.float64]

LARGEST_PSNR = 100.0
"""dB: what two equal pictures get, so that means stay finite."""
_SSIM_SIGMA, _SSIM_RADIUS = 1.5, 5
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def psnr(found: ByteArray, target: ByteArray, parts: Parts) -> dict[str, float]:
    """Peak signal-to-noise ratio in dB over the pixels of each part, RGB, peak 255; at most 100."""
    error = ((found.astype(np.float64) - target) ** 2).mean(axis=2)
    return {
        name: min(LARGEST_PSNR, float(10 * np.log10(255**2 / max(mean(error, mask), 1e-12))))
        for name, mask in parts.items()
    }


def ssim_map(found: ByteArray, target: ByteArray) -> Float64Array:
    """The SSIM index of every pixel, mean of the channels, [H, W].

    Wang et al. 2004: Gaussian window of sigma 1.5 and 11 x 11 pixels, K1 = 0.01, K2 = 0.03, range 255.
    """
    one, two = found.astype(np.float64), target.astype(np.float64)

    def window(values: Float64Array) -> Float64Array:
        side = 2 * _SSIM_RADIUS + 1
        return np.asarray(
            cv2.GaussianBlur(values, (side, side), _SSIM_SIGMA, borderType=cv2.BORDER_REFLECT), np.float64
        )

    mean1, mean2 = window(one), window(two)
    var1, var2 = window(one * one) - mean1 * mean1, window(two * two) - mean2 * mean2
    joint = window(one * two) - mean1 * mean2
    index = ((2 * mean1 * mean2 + _C1) * (2 * joint + _C2)) / ((mean1**2 + mean2**2 + _C1) * (var1 + var2 + _C2))
    return np.asarray(index.mean(axis=2), np.float64)


def ssim(found: ByteArray, target: ByteArray, parts: Parts) -> dict[str, float]:
    """Structural similarity, 1 for equal pictures: the mean of the map, without a border of 5 px, over each part."""
    inner = slice(_SSIM_RADIUS, -_SSIM_RADIUS)
    index = ssim_map(found, target)[inner, inner]
    cut = {name: None if mask is None else mask[inner, inner] for name, mask in parts.items()}
    return {name: mean(index, mask) for name, mask in cut.items() if mask is None or mask.any()}


def edge_energy(found: ByteArray, target: ByteArray, parts: Parts) -> dict[str, float]:
    """Energy of luma gradients relative to the target's, in focus: 1 like the truth, below it softer, above it noisier.

    sum |grad found|^2 / sum |grad target|^2 over the part `in focus`, or over all where nothing is out of focus;
    gradients are central differences.
    """
    name = "in focus" if "in focus" in parts else "all"
    if name == "all" and "out of focus" in parts:
        return {}
    mask = parts[name]
    energies = [mean(_gradient_energy(picture), mask) for picture in (found, target)]
    return {name: energies[0] / energies[1]} if energies[1] > 0 else {}


def _gradient_energy(picture: ByteArray) -> Float64Array:
    down, across = (np.asarray(one) for one in np.gradient(_luma(picture)))
    return np.asarray(down**2 + across**2, np.float64)


# --- blur radius

BLUR_FACTORS = (0.0, 0.4, 0.6, 0.75, 0.88, 1.0, 1.12, 1.25, 1.5, 2.0)
"""Factors of K at which the scene is rendered to find what blur a picture shows."""


class _Gradients(NamedTuple):
    """Gradients of luma over a mask, one after the other, and their length."""

    values: Float64Array
    length: float


class _Truth(NamedTuple):
    """What the pictures of one item are compared with."""

    key: str
    renders: list[_Gradients]
    """By factor of K."""
    factor: float
    """What the target itself shows."""


@dataclass
class BlurRadius:
    """The blur that a picture shows out of focus, beside the one it should."""

    _newest: _Truth | None = field(default=None, init=False)

    def error(self, found: ByteArray, item: Item) -> dict[str, float]:
        """How far the mean blur radius out of focus is off, in pixels, >= 0.

        |factor - factor of the target| times the mean radius there, where `factor` times K is the blur that a picture
        shows there. The target's is not 1: what a layer hides is missing in the renders it is compared with. Measured
        against 1, a method that renders one layer itself would come out nearer than the truth.
        """
        mask = item.parts().get("out of focus")
        if item.scene is None or mask is None:
            return {}
        truth = self._truth(item, item.scene, mask)
        off = abs(_best_factor(truth.renders, _gradients(found, mask)) - truth.factor)
        return {"out of focus": off * float(item.scene.defocus[mask].mean())}

    def factor(self, found: ByteArray, item: Item, mask: BoolArray) -> float:
        """The factor of K that a picture shows where `mask` is true, 0 to 2.

        The clean scene is rendered, as one layer, at several factors. The one whose gradients correlate best with those
        of `found` is taken, refined by a parabola. A correlation: noise lowers all of them alike, whereas the squared
        error would take the smoothest render for the nearest to anything noisy.
        """
        assert item.scene is not None
        return _best_factor(self._truth(item, item.scene, mask).renders, _gradients(found, mask))

    def _truth(self, item: Item, scene: Scene, mask: BoolArray) -> _Truth:
        if self._newest is None or self._newest.key != item.key:
            lenses = (Lens(blur=factor * scene.blur, focus=scene.focus) for factor in BLUR_FACTORS)
            pictures = (classical_bokeh(scene.aif, scene.disparity, lens) for lens in lenses)
            renders = [_gradients(picture, mask) for picture in pictures]
            self._newest = _Truth(item.key, renders, _best_factor(renders, _gradients(item.target, mask)))
        return self._newest


def _best_factor(renders: list[_Gradients], found: _Gradients) -> float:
    """The factor of K whose render correlates best, between the factors by a parabola through the best three."""
    fits = [float(found.values @ render.values) / max(render.length, 1e-9) for render in renders]
    best = int(np.argmax(fits))
    if best in (0, len(fits) - 1):
        return BLUR_FACTORS[best]
    x, y = np.array(BLUR_FACTORS[best - 1 : best + 2]), np.array(fits[best - 1 : best + 2])
    a, b, _ = np.polyfit(x, y, 2)
    return float(np.clip(-b / (2 * a), x[0], x[2])) if a < 0 else float(x[1])


def _gradients(picture: ByteArray, mask: BoolArray) -> _Gradients:
    found = np.concatenate([np.asarray(one)[mask] for one in np.gradient(_luma(picture))])
    return _Gradients(found, float(np.linalg.norm(found)))


def _luma(picture: ByteArray) -> Float64Array:
    return picture.astype(np.float64) @ np.array([0.299, 0.587, 0.114])


def mean(values: Float64Array, mask: BoolArray | None) -> float:
    """The mean of [H, W], over a mask if there is one."""
    return float(values.mean() if mask is None else values[mask].mean())

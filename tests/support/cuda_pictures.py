"""Scenes and tolerances for what the CUDA kernels compute, on a GPU and on the host."""

from functools import cache

import numpy as np

import bokehsynth as bs
from support.apertures import APERTURES, PUPILS, TintedPentagon
from support.compare import Tolerance, occlusion_band
from support.height_fields import battery_scene as height_field_scene
from support.scenes import Scene, battery_scene

CONVERGED = Tolerance(inside=5e-5, edge=2.1e-4, edge_share=0.16)
"""3000 rays, where any are needed, against 56 x 56 plain ones: worst 4.8e-5, 1.98e-4, 0.151."""


TRAINING = {
    "disc": Tolerance(5.5e-5, 8e-4, 0.35, sigmas=4.1),  # worst 5.2e-5, 7.4e-4, 0.33 and 3.8
    "pentagon": Tolerance(1.9e-4, 2.5e-3, 0.42, sigmas=4.1),  # worst 1.8e-4, 2.4e-3, 0.40, 3.7
    "rounded": Tolerance(2.2e-4, 2.1e-3, 0.33, sigmas=4.8),  # worst 2.1e-4, 2.0e-3, 0.31, 4.5
    "ring": Tolerance(2.5e-4, 5.8e-3, 0.65, sigmas=5.8),  # worst 2.3e-4, 5.6e-3, 0.61, 5.3
    "tinted pentagon": Tolerance(3.2e-4, 2.2e-3, 0.24, sigmas=4.0),  # worst 3.0e-4, 2.1e-3, 0.22, 3.8
    "no blue": Tolerance(3.2e-4, 2.2e-3, 0.24, sigmas=4.0),  # the same
    "quarter": Tolerance(7e-5, 2e-4, 0.12),  # worst 6.5e-5, 1.9e-4, 0.11
    "heart": Tolerance(2.3e-4, 2.4e-3, 0.45, sigmas=5.4),  # worst 2.1e-4, 2.2e-3, 0.42, 5.1
    "bubble": Tolerance(4.4e-5, 1.3e-3, 0.68, sigmas=5.4),  # worst 4.1e-5, 1.2e-3, 0.64, 5.1
}
"""cuda against cpu, both at training quality. At edges it is the error of two small sets of rays, each below that of
51 x 51; inside, that of the lens points that kernels are folded from: an opening's edge cuts between their points."""


def arriving(color, coverage):
    """Light that arrives, and the share of rays: [H, W, 4]. The colour alone is a quotient of noise where none does."""
    return np.dstack([color * coverage[..., None], coverage])


def light(frames):
    return arriving(frames.bokeh, frames.coverage)


@cache
def smooth_scene(name, aperture="disc"):
    """A scene that two sets of rays can agree on, and its occlusion band."""
    scene = battery_scene(name, lights=0, smooth=5.0, aperture={**APERTURES, **PUPILS}[aperture])
    return scene, occlusion_band(scene)


def various_scenes():
    """Of all sizes, lenses and numbers of layers; two share their layers."""
    first = battery_scene("tilted")
    return [
        first,
        battery_scene("wider than a tile"),
        Scene(first.layers, bs.Lens(6.0, 0.6, bs.Polygon(6)), first.margin),
        height_field_scene("cut-out over hills", (19, 33)),
        battery_scene("same disparity", aperture=TintedPentagon()),
        battery_scene("far from the middle", aperture=bs.CatEye(0.8)),
        Scene(first.layers, bs.Lens(0.0, 0.5), first.margin),
    ]

"""Growing hairs on a form: what every animal's coat is made of."""

from dataclasses import dataclass

import numpy as np

from bokehsynth.procedural.foregrounds.brush import Canvas
from bokehsynth.procedural.foregrounds.light import Light
from bokehsynth.procedural.toolkit import Points


@dataclass(frozen=True)
class Hair:
    """Roots, directions and looks of hairs about to be combed: [N, 2], [N, 2], [N], [N], [N, 3]."""

    roots: Points
    flow: Points
    length: Points
    shade: Points
    color: Points


def comb(canvas: Canvas, hair: Hair, rng: np.random.Generator, width: float = 0.016) -> None:
    """Grow hairs as bent, tapering strands, each a little lighter or darker than its neighbours."""
    count = len(hair.roots)
    jitter = rng.normal(0, 0.16, count)
    bend = rng.normal(0, 0.22, count) + 0.10 * np.sign(hair.roots[:, 0])
    t = np.linspace(0, 1, 5)[None, :]
    heading = np.arctan2(hair.flow[:, 1], hair.flow[:, 0])[:, None] + jitter[:, None] + bend[:, None] * t
    step = np.stack([np.cos(heading), np.sin(heading)], -1) * (hair.length[:, None] / 4)[..., None]
    spine = hair.roots[:, None] + np.cumsum(step, 1) - step[:, :1]
    brightness = hair.shade * np.exp(rng.normal(0, 0.17, count))
    canvas.strands(spine, width * rng.uniform(0.6, 1.25, count), hair.color * brightness[:, None])


def tone(normal: Points, light: Light) -> Points:
    """Brightness of hair on a form, with a bright fringe where the rim light grazes it."""
    facing = np.clip(normal @ light.key * 1.05 + 0.10, 0.06, None)
    edge = np.clip(1 - normal[:, 2], 0, 1) ** 2 * np.clip(normal[:, :2] @ light.rim, 0, 1)
    return np.asarray(1.05 * facing + 0.13 + 1.2 * edge)

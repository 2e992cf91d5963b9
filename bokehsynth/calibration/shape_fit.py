"""Finds the opening behind a set of lamps: round first, then rims, then blades, each only if the lamps ask for it."""

import copy
import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from bokehsynth.calibration.detection import Progress
from bokehsynth.calibration.joint_fit import CAUCHY, FINE, ROUGH, Lamp, cost_of, joint_fit, standard_errors
from bokehsynth.calibration.spot_model import Shape, spot

Float64Array = npt.NDArray[np.float64]

BLADES = range(4, 17)
"""Numbers of blades that are looked for."""
TRIED = 4
"""The most likely of them, which are fitted."""
SURE = 3.0
"""Standard errors by which a richer opening must win over the lamps."""
WORTH = 0.01
"""Share of the cost that it must save besides."""
SYSTEMATIC = {
    "rotation": 0.0014, "curvature": 0.0024, "strength": 0.027, "radius": 0.016, "edge": 0.011,
}  # fmt: skip
"""What all lamps of a photograph have in common (JPEG, the closed form's edges) and their scatter does not show: root
mean squares of the errors in scenes 0 to 29 of benchmarks/calibrate.py (its table is of others); that of the curvature
times 1 - cos(pi/blades), how far the sides' middles move. That of the glow, which those scenes lack, is not known."""
ANGLES = 96
LOOK, POLISH = 8, 25
"""Rounds of a fit that only has to win or lose, and of the last one."""
MOST_LAMPS = 24
"""Lamps that are fitted together: more of them add time only."""
MOST_COMPARED = 300
"""Lamps of which those are chosen: fitted with a round opening."""


@dataclass(eq=False)
class ShapeFit:
    """A fitted opening with its lamps."""

    shape: Shape
    lamps: list[Lamp]
    has_glow: bool

    @property
    def names(self) -> list[str]:
        """The shared parameters that were free."""
        return self.shape.free(self.has_glow)

    @property
    def costs(self) -> Float64Array:
        """Cauchy's cost of each lamp."""
        return np.array([cost_of(lamp, self.shape) for lamp in self.lamps])

    def errors(self) -> dict[str, float]:
        """Standard errors of the shared parameters: the scatter between lamps, and SYSTEMATIC.

        None of the glow, whose errors are not known, nor of the edge where all lamps are clipped: it is not seen.
        """
        found = standard_errors(self.lamps, self.shape, self.names)
        seen = 1 - math.cos(math.pi / self.shape.blades) if self.shape.blades else 1.0  # of a curvature
        common = SYSTEMATIC | {"curvature": SYSTEMATIC["curvature"] / seen}
        if all(lamp.clipped for lamp in self.lamps):
            del common["edge"]
        return {name: math.hypot(error, common[name]) for name, error in found.items() if name in common}


def fit_shape(lamps: list[Lamp], show: Progress) -> tuple[ShapeFit, int]:
    """Fit the opening that all lamps share, and say how many of them were left out because others are enough.

    The best of some shapes; simpler ones where richer ones win by chance.
    """
    found = len(lamps)
    lamps = _chosen(lamps, MOST_COMPARED)
    compared = len(lamps)
    round_one = _followers(_fitted(_followers(_fitted(lamps, Shape(), False, LOOK), 0.25), Shape(), False, LOOK), 0.2)
    lamps = _chosen(round_one, MOST_LAMPS)
    plain = _fitted(lamps, Shape(), False, LOOK)
    best = _with_blades(_with_rim(plain, show), show)
    if not best.shape.blades:  # a rim may have taken their place
        other = _with_rim(_with_blades(plain, show), show)
        if other.shape.blades:
            best = better(_fitted(other.lamps, best.shape, False, LOOK), other)
    if not best.shape.has_rim:
        best = _with_rim(best, show)
    best = better(best, _fitted(best.lamps, replace(best.shape, glow=0.3), True, LOOK))
    if best.shape.has_rim or best.has_glow:
        best = _fitted(best.lamps, replace(best.shape, exact=best.shape.has_rim), best.has_glow, POLISH)
    return best, found - compared + len(round_one) - len(lamps)


def _with_blades(fit: ShapeFit, show: Progress) -> ShapeFit:
    """The fit with blades besides, if that is better, without the lamps that do not follow it."""
    fit = _fitted(_rescaled(_followers(fit, 0.12), fit.shape), fit.shape, False, LOOK)
    likely = likely_blades(fit)
    shapes = [replace(fit.shape, blades=n, rotation=turn, curvature=c) for n, turn, c in likely]
    tried = [_fitted(fit.lamps, shape, False, LOOK) for shape in show(shapes, "blades", len(shapes))]
    best = better(fit, min(tried, key=lambda each: each.costs.sum()))
    return _fitted(_rescaled(_followers(best, 0.08), best.shape), best.shape, False, POLISH)


def _with_rim(fit: ShapeFit, show: Progress) -> ShapeFit:
    """The fit with a rim besides, if that is better."""
    rims = [replace(fit.shape, has_rim=True, strength=a, radius=b) for a, b in ((0.4, 0.95), (0.9, 1.1))]
    tried = [_fitted(fit.lamps, rim, False, LOOK) for rim in show(rims, "rims", len(rims))]
    return better(fit, min(tried, key=lambda each: each.costs.sum()))


def _followers(fit: ShapeFit, most: float) -> list[Lamp]:
    """The lamps that the shape explains about as well as the others; at least half of them."""
    left = np.array([misfit(lamp, fit.shape) for lamp in fit.lamps])
    bound = max(2.5 * float(np.median(left)), most)
    return [lamp for lamp, value in zip(fit.lamps, left, strict=True) if value <= bound]


def _chosen(lamps: list[Lamp], most: int) -> list[Lamp]:
    """At most `most`: those farthest from the picture's middle, which show the rims, and the brightest others."""
    if len(lamps) <= most:
        return lamps
    ranked = sorted(lamps, key=lambda lamp: -lamp.distance)
    far, others = ranked[: most // 2], ranked[most // 2 :]
    bright = sorted(others, key=lambda lamp: -lamp.light / lamp.scale)[: most - len(far)]
    return sorted(far + bright, key=lambda lamp: (float(lamp.state[1]), float(lamp.state[0])))


def _rescaled(lamps: list[Lamp], shape: Shape) -> list[Lamp]:
    for lamp in lamps:
        lamp.rescale(shape)
    return lamps


def _fitted(lamps: list[Lamp], shape: Shape, has_glow: bool, rounds: int) -> ShapeFit:
    """A fit of copies of the lamps, from where they stand."""
    own = [copy.copy(lamp) for lamp in lamps]
    for lamp in own:
        lamp.state = lamp.state.copy()
    return ShapeFit(
        joint_fit(own, shape, shape.free(has_glow), rounds, FINE if rounds == POLISH else ROUGH), own, has_glow
    )


def better(simple: ShapeFit, rich: ShapeFit) -> ShapeFit:
    """The richer fit where its gain over the lamps is surely no chance, else the simple one."""
    count = len(simple.costs)
    # in squares, which the far lamps of a rim decide, or in shares, in which bright lamps are no louder than dark ones
    sure = _is_sure(simple.costs - rich.costs, 20.0 / count) or _is_sure(np.log(simple.costs / rich.costs), 8.0 / count)
    return rich if sure and rich.costs.sum() < (1 - WORTH) * simple.costs.sum() else simple


def _is_sure(gains: Float64Array, more: float) -> bool:
    """Whether the mean gain is SURE and `more` standard errors above nothing: few lamps may agree by chance."""
    if len(gains) < 2:
        return False
    mean = float(gains.mean())
    error = max(float(gains.std(ddof=1)), 0.05 * abs(mean)) / math.sqrt(len(gains))
    return mean > (SURE + more) * error


def likely_blades(fit: ShapeFit) -> list[tuple[int, float, float]]:
    """The most likely numbers of blades with a rotation and a curvature to start from, the likeliest first.

    The residuals along the outlines say how much farther out the boundary lies in each direction (a step of least
    squares for a radius that depends on the angle); its strongest harmonics are the candidates.
    """
    push, weight = np.zeros(ANGLES), np.zeros(ANGLES)
    for lamp in fit.lamps:
        state = lamp.state.copy()
        state[2] += 0.004
        slope = (lamp.model(fit.shape, state) - lamp.model(fit.shape)) / 0.004 / lamp.scale
        residual = lamp.residual(fit.shape)
        trust = 1 / (1 + (residual / CAUCHY) ** 2)
        far_x, far_y = lamp.grid.x - lamp.state[0], lamp.grid.y - lamp.state[1]
        rho = np.hypot(far_x, far_y) / lamp.radius
        near = np.abs(rho - 1) < 0.25
        turn = np.arctan2(far_y * lamp.grid.side, far_x * lamp.grid.side)
        index = np.floor((turn / (2 * math.pi) % 1) * ANGLES).astype(np.int64) % ANGLES
        push += np.bincount(index[near], (slope * residual * trust)[near], ANGLES)
        weight += np.bincount(index[near], (slope * slope * trust)[near], ANGLES)
    angles = 2 * math.pi * (np.arange(ANGLES) + 0.5) / ANGLES
    outline = push / np.maximum(weight, 1e-9 + 0.02 * weight.mean())
    found = []
    for n in BLADES:
        wave = complex((outline * weight * np.exp(-1j * n * angles)).sum() / weight.sum())
        # of a polygon: (1 - curvature) times the first harmonic of cos(a)/cos(phi), about 0.4*(1 - cos(a))
        curvature = 1 - 2 * abs(wave) / (0.4 * (1 - math.cos(math.pi / n)))
        found.append((abs(wave), n, -np.angle(wave) / n, min(max(curvature, 0.0), 0.95)))
    found.sort(key=lambda each: -each[0])
    return [(n, float(turn), float(curvature)) for _, n, turn, curvature in found[:TRIED]]


def misfit(lamp: Lamp, shape: Shape) -> float:
    """Root mean square of what the spot leaves unexplained, over the light of the lamp."""
    left = lamp.residual(shape) * lamp.scale
    return float(np.sqrt(np.mean(left * left))) / max(
        1e-6, lamp.light * float(spot(shape, lamp.state, lamp.grid).max())
    )

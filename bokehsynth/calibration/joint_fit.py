"""Least squares over all lamps at once: what they share, and the place, radius and light of each.

Levenberg and Marquardt's steps; the parameters of one lamp are eliminated before those that are shared are solved for
(a Schur complement), so that the cost grows with the number of lamps only. Pixels that no spot explains count less
(Cauchy's weights).
"""

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from bokehsynth.calibration.spot_model import SIGMAS, Grid, Shape, spot

Float64Array = npt.NDArray[np.float64]

CLIPPED = 0.94
"""Linear light from which a pixel counts as clipped: 248 of 255, since JPEG and noise move white."""
SLOPE = 20.0
"""Pixels over which a slope of light is counted."""
ROUGH, FINE = 3e-4, 1e-6
"""Share of the cost that a round must save for another one to follow: to choose by, and to measure by."""
CAUCHY = 2.5
"""Residuals, in robust standard deviations, at which a pixel's weight is a half."""
STEPS = {"rotation": 0.01, "curvature": 0.02, "strength": 0.01, "radius": 0.01, "edge": 0.02, "glow": 0.02}  # fmt: skip
PRIOR = {"rotation": 3.0, "curvature": 1.0, "strength": 2.0, "radius": 1.0, "edge": 2.0, "glow": 2.0}
"""Standard deviations of what is known beforehand: so weak that only parameters without data feel them."""


@dataclass(eq=False)
class Lamp:
    """One lamp: its pixels in one channel, and where the fit stands."""

    grid: Grid
    values: Float64Array
    """Linear light [N] of its brightest channel that is not clipped."""
    state: Float64Array
    """x, y, log radius, log sigma, light of the lamp, light of the background, its slopes to the right and down, and
    those of the lamp's light: rims take light from one side, and what corrects a lens's fall-off gives it back."""
    scale: float = 0.02
    """Robust standard deviation of a residual, linear light."""
    clipped: bool = False
    colors: Float64Array = field(default_factory=lambda: np.zeros((0, 3)))
    """Linear light [N, 3] of the same pixels."""
    channel: int = 1
    """The one that `values` are of."""

    @property
    def radius(self) -> float:
        """Blur radius in pixels of the fitted picture."""
        return math.exp(self.state[2])

    @property
    def light(self) -> float:
        """Linear light of the lamp in its middle."""
        return float(self.state[4])

    @property
    def distance(self) -> float:
        """Distance from the picture's middle, in half-diagonals."""
        centre = self.grid.centre
        return math.hypot(self.state[0] - centre[0], self.state[1] - centre[1]) / self.grid.half_diagonal

    def model(self, shape: Shape, state: Float64Array | None = None) -> Float64Array:
        """The light [N] that the fit expects."""
        at = self.state if state is None else state
        x, y = (self.grid.x - at[0]) / SLOPE, (self.grid.y - at[1]) / SLOPE
        light = at[4] + at[8] * x + at[9] * y
        return np.minimum(light * spot(shape, at, self.grid) + at[5] + at[6] * x + at[7] * y, CLIPPED)

    def residual(self, shape: Shape, state: Float64Array | None = None) -> Float64Array:
        """Measured minus expected light, in robust standard deviations."""
        return (np.minimum(self.values, CLIPPED) - self.model(shape, state)) / self.scale

    def rescale(self, shape: Shape) -> None:
        """Set the robust standard deviation from the present residuals; at least 0.3 % of the lamp's light."""
        spread = 1.4826 * float(np.median(np.abs(self.residual(shape)))) * self.scale
        self.scale = max(spread, 0.003 * abs(self.light), 5e-4)


@dataclass(eq=False)
class Normal:
    """The normal equations of one lamp, for its own parameters and the shared ones."""

    shared: Float64Array
    mixed: Float64Array
    own: Float64Array
    pull_shared: Float64Array
    pull_own: Float64Array


def cost_of(lamp: Lamp, shape: Shape, state: Float64Array | None = None) -> float:
    """Cauchy's cost of one lamp, in squared standard deviations."""
    return float((CAUCHY**2) * np.log1p((lamp.residual(shape, state) / CAUCHY) ** 2).sum())


def prior_cost(shape: Shape, start: Shape, names: list[str]) -> float:
    """Cost of leaving the place where a parameter began."""
    return sum(((getattr(shape, name) - getattr(start, name)) / PRIOR[name]) ** 2 for name in names)


def normal_equations(lamp: Lamp, shape: Shape, names: list[str]) -> Normal:
    """Linearise the model of one lamp where it stands."""
    base, residual = lamp.model(shape), lamp.residual(shape)
    weight = 1 / (1 + (residual / CAUCHY) ** 2)
    live = base < CLIPPED
    shared = []
    for name in names:
        step = STEPS[name]
        if getattr(shape.moved([name], np.array([step])), name) == getattr(shape, name):
            step = -step
        other = shape.moved([name], np.array([step]))
        shared.append((lamp.model(other) - base) / step)
    own = []
    for i, step in enumerate((0.05, 0.05, 0.002, 0.03)):
        state = lamp.state.copy()
        state[i] += step
        own.append((lamp.model(shape, state) - base) / step)
    if lamp.clipped:  # a soft edge and a small radius look like a sharp edge and a large one
        own[3] = np.zeros_like(base)
    x, y = (lamp.grid.x - lamp.state[0]) / SLOPE, (lamp.grid.y - lamp.state[1]) / SLOPE
    light = spot(shape, lamp.state, lamp.grid)
    own += [np.where(live, column, 0.0) for column in (light, np.ones_like(base), x, y, light * x, light * y)]
    js = np.array(shared).reshape(len(names), len(base)) / lamp.scale
    jo = np.array(own) / lamp.scale
    ws, wo = js * weight, jo * weight
    return Normal(ws @ js.T, ws @ jo.T, wo @ jo.T, ws @ residual, wo @ residual)


def joint_fit(lamps: list[Lamp], shape: Shape, names: list[str], rounds: int, least: float) -> Shape:
    """Fit the shared parameters `names` and every lamp, from where they stand; the lamps are moved in place.

    Ends after `rounds`, or when one saves less than the share `least` of the cost.
    """
    start, damping = shape, 1e-3
    cost = sum(cost_of(lamp, shape) for lamp in lamps)
    for _ in range(rounds):
        normals = [normal_equations(lamp, shape, names) for lamp in lamps]
        improved = False
        for _attempt in range(6):
            step, own = _solve(normals, shape, start, names, damping)
            tried = shape.moved(names, step)
            states = [_moved(lamp, change) for lamp, change in zip(lamps, own, strict=True)]
            total = prior_cost(tried, start, names)
            total += sum(cost_of(lamp, tried, state) for lamp, state in zip(lamps, states, strict=True))
            if total < cost:
                improved = True
                break
            damping *= 6
        if not improved:
            break
        gain, shape, cost = cost - total, tried, total
        for lamp, state in zip(lamps, states, strict=True):
            lamp.state = state
        damping = max(damping / 6, 1e-7)
        if gain < least * cost:
            break
    return shape


def _moved(lamp: Lamp, change: Float64Array) -> Float64Array:
    """The lamp's state after a step, with bounds that keep it a lamp."""
    change = change.copy()
    change[:2] = np.clip(change[:2], -0.3 * lamp.radius, 0.3 * lamp.radius)
    change[2:4] = np.clip(change[2:4], -0.15, 0.15)
    state = lamp.state + change
    state[3] = np.clip(state[3], *np.log(SIGMAS))
    state[4] = np.clip(state[4], 1e-3, 8.0)
    return state


def _solve(
    normals: list[Normal], shape: Shape, start: Shape, names: list[str], damping: float
) -> tuple[Float64Array, list[Float64Array]]:
    """The step of the shared parameters and those of each lamp."""
    prior = np.array([1 / PRIOR[name] ** 2 for name in names])
    away = np.array([getattr(start, name) - getattr(shape, name) for name in names])
    total = np.diag(prior)
    pull = prior * away
    factors = []
    for each in normals:
        own = each.own + np.diag(damping * np.diag(each.own) + 1e-9)
        inverse = np.linalg.inv(own)
        factors.append(inverse)
        total = total + each.shared + np.diag(damping * np.diag(each.shared)) - each.mixed @ inverse @ each.mixed.T
        pull = pull + each.pull_shared - each.mixed @ inverse @ each.pull_own
    step = np.linalg.solve(total, pull) if names else np.zeros(0)
    own_steps = [
        inverse @ (each.pull_own - each.mixed.T @ step) for each, inverse in zip(normals, factors, strict=True)
    ]
    return step, own_steps


def standard_errors(lamps: list[Lamp], shape: Shape, names: list[str]) -> dict[str, float]:
    """Standard errors of the shared parameters, from the scatter between lamps (a sandwich with the lamps as clusters).

    Pixels of one lamp share their faults (texture, JPEG's blocks); lamps do not.
    """
    prior = np.array([1 / PRIOR[name] ** 2 for name in names])
    total, scatter = np.diag(prior), np.zeros((len(names), len(names)))
    for lamp in lamps:
        each = normal_equations(lamp, shape, names)
        inverse = np.linalg.inv(each.own + 1e-9 * np.eye(len(each.own)))
        total = total + each.shared - each.mixed @ inverse @ each.mixed.T
        pull = each.pull_shared - each.mixed @ inverse @ each.pull_own
        scatter += np.outer(pull, pull)
    inverse = np.linalg.inv(total)
    small = len(lamps) / max(1, len(lamps) - 1)  # of few lamps the scatter is seen too small
    variances = np.diag(inverse @ (scatter * small) @ inverse) + np.diag(inverse)
    return {name: math.sqrt(max(0.0, float(value))) for name, value in zip(names, variances, strict=True)}


def radius_error(lamp: Lamp, shape: Shape) -> float:
    """Relative standard error of one lamp's radius, the shared parameters given; neighbours' noise is correlated."""
    each = normal_equations(lamp, shape, [])
    inverse = np.linalg.inv(each.own + 1e-9 * np.eye(len(each.own)))
    return 3 * math.sqrt(max(0.0, float(inverse[2, 2])))

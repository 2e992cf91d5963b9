"""The contract of an aperture, checked on any class: `bs.check_aperture(MyLens())`.

Also from a shell, with the name that a recipe would use: `python -m bokehsynth.aperture_check package.module:MyLens`.
"""

import math
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bokehsynth.errors import UsageError, user_error
from bokehsynth.optics import Aperture, Lens, Plane
from bokehsynth.optics.layer import Layer
from bokehsynth.rendering import render
from bokehsynth.rendering.aperture.lens_points import check_weights, needs_field_table, vogel_points
from bokehsynth.rendering.aperture.outline import CELL, signed_area, trace_outline

Array = npt.NDArray[Any]
Float64Array = npt.NDArray[np.float64]

RMS, LARGEST, BIAS = 0.003, 0.02, 1e-4
"""How far cpu and reference may differ, white being 1: over the picture (root mean square), at the worst pixel, in the
mean. Both sample one lens by different rays; worst of 13 apertures: 0.0021, 0.015 (a star 3 % wide), 5e-5 (a ring 3 %
wide). Wrong tables are farther off: a mirrored triangle 0.031, 0.16; red and blue swapped 0.016, 0.10; weights that
are forgotten 0.008, 0.05; a hexagon turned by 30 degrees 0.0033, 0.015."""

_SIZE = (48, 64)
_RAYS = {"cpu": 3000, "reference": 800}  # a second; the question is whether it is the same lens, not the noise
_CORNER = np.array([3.0, 2.0]) / math.hypot(3, 2)  # field position h of the lower right corner of a 3:2 picture
_HINT = {
    "inside": "return one bool per point, e.g. np.hypot(s[:, 0], s[:, 1]) <= 1",
    "weight": "return one number per point, or three for R, G, B",
    "pupil": "return (centre, radius), e.g. 0.5 * h, 1.0, or a list of such pairs",
    "aberration": "return a shift (x, y) in pixels per point, e.g. 2.0 * s, or three for R, G, B",
}


@dataclass(frozen=True)
class LensReport:
    """What `check_aperture` found out; `print` it."""

    name: str
    area: float
    """Area of the opening, as a share of the unit disc."""
    centroid: tuple[float, float]
    """Centroid of the light, (x, y) in lens units, without the pupil."""
    transmission: tuple[float, float, float]
    """Share of the light that the pupil passes at the centre, right edge and lower right corner of a 3:2 picture."""
    depends_on_field: bool
    weighted: bool
    tinted: bool
    fine_detail: bool
    """Parts of the opening are narrower than the grid its outline is traced on, and some are missed."""
    cpu: str
    """How the cpu backend compares with the reference, or why it does not render this lens."""

    def __str__(self) -> str:
        """One fact per line."""
        light = "tinted" if self.tinted else "weighted" if self.weighted else "even"
        x, y = (round(value, 3) + 0.0 for value in self.centroid)  # + 0.0: no "-0.000"
        lines = {
            "opening": f"{self.area:.1%} of the disc" + (", finer in parts than tables can hold" * self.fine_detail),
            "light": f"{light}, centroid ({x:+.3f}, {y:+.3f})",
            "field": "changes over the picture" if self.depends_on_field else "the same all over the picture",
            "passes": "{:.0%} at the centre, {:.0%} at the edge, {:.0%} in the corner".format(*self.transmission),
            "cpu": self.cpu,
        }
        return "\n".join([f"{self.name}: keeps the contract", *(f"  {key:8} {text}" for key, text in lines.items())])


def check_aperture(aperture: Aperture) -> LensReport:
    """Try an aperture as every backend will use it; a second or two.

    Its methods must take any number of points (also 0 and 1), answer for each point alone, give the same answer twice
    and leave their input as it is; the shapes and ranges are those of `Aperture`. Then a small scene is rendered by
    `cpu` and by `reference` and must be the same picture within RMS, LARGEST and BIAS.

    Raises UsageError that names the rule that is broken, the value seen, and the way out.
    """
    if not isinstance(aperture, Aperture):
        is_class = isinstance(aperture, type) and issubclass(aperture, Aperture)
        fix = f"pass an object: {aperture.__name__}(...)" if is_class else "derive it from bokehsynth.Aperture"
        raise UsageError(f"check_aperture needs an Aperture, got {aperture!r}; {fix}")
    if not (math.isfinite(aperture.extent) and aperture.extent > 0):
        raise UsageError(f"{_where(aperture, 'extent')} must be a finite number > 0, got {aperture.extent!r}")
    points = aperture.extent * np.concatenate([np.zeros((1, 2)), vogel_points(16_384)])
    inside = _per_point(aperture, "inside", (points,), [()])
    if inside.dtype != np.bool_:
        raise UsageError(f"{_where(aperture, 'inside')} must return bool [N], got {inside.dtype}; {_HINT['inside']}")
    by_table = needs_field_table(aperture)
    area = inside.mean() * aperture.extent**2 if by_table else signed_area(trace_outline(aperture)) / math.pi
    points = points[inside]
    field = np.resize(_field().reshape(-1, 2), points.shape)
    _per_point(aperture, "weight", (points, field) if aperture.weight_depends_on_field else (points,), [(), (3,)])
    check_weights(aperture, points, field)
    weights = check_weights(aperture, points)
    if weights.sum() == 0:
        raise UsageError(
            f"{_where(aperture, 'weight')} is 0 at all {len(points)} open lens points: no light gets through"
        )
    light = weights.mean(axis=1)
    passed = [_passed(aperture, h, points) / light.sum() for h in (np.zeros(2), _CORNER * [1, 0], _CORNER)]
    if passed[0] == 0:
        raise UsageError(f"{_where(aperture, 'pupil')} blocks every lens point at the picture's centre, h = (0, 0)")
    shift = _per_point(aperture, "aberration", (points, field), [(2,), (3, 2)])
    if not np.isfinite(shift).all():
        raise UsageError(f"{_where(aperture, 'aberration')} must return finite pixels, got NaN or infinity")
    return LensReport(
        name=type(aperture).__name__,
        area=area,
        centroid=(float(light @ points[:, 0] / light.sum()), float(light @ points[:, 1] / light.sum())),
        transmission=(passed[0], passed[1], passed[2]),
        depends_on_field=aperture.depends_on_field,
        weighted=bool(np.ptp(light) > 0),
        tinted=bool((weights != weights[:, :1]).any()),
        fine_detail=bool(not by_table and abs(area - inside.mean()) > CELL / 2),
        cpu=_compare_backends(aperture),
    )


def _where(aperture: Aperture, method: str) -> str:
    return f"{type(aperture).__name__}.{method}"


def _ask(aperture: Aperture, method: str, *arrays: Array) -> Any:
    """The method's answer, asked twice; UsageError if it raises, writes into its input or answers differently."""
    where, shapes = _where(aperture, method), " and ".join(str(array.shape) for array in arrays)
    answers: list[bytes] = []
    for _ in range(2):
        given = [array.copy() for array in arrays]
        try:
            answer = getattr(aperture, method)(*given)
            discs = answer if method == "pupil" and isinstance(answer, list) else [answer]
            parts = [part for disc in discs for part in (disc if isinstance(disc, tuple) else (disc,))]
            answers.append(b"".join(np.asarray(part).tobytes() for part in parts))
        except BaseException as raised:  # a class from outside may raise anything
            error = user_error(raised)
            raise UsageError(
                f"{where} must take any number of points, but raised {type(error).__name__} for shape {shapes}: "
                f"{error}; {_HINT[method]}"
            ) from error
        if not all(np.array_equal(a, b) for a, b in zip(given, arrays, strict=True)):
            raise UsageError(f"{where} must not change its input; work on a copy (s - c, not s -= c)")
    if answers[0] != answers[1]:
        raise UsageError(f"{where} must answer the same when asked again; use no random numbers and keep no state")
    return answer


def _per_point(aperture: Aperture, method: str, arrays: tuple[Array, ...], tails: list[tuple[int, ...]]) -> Array:
    """Answers [N, *tail] for many points, after asking also for none, and for some of them alone."""
    where, count = _where(aperture, method), len(arrays[0])

    def ask(*some: Array) -> Array:
        answer, n = np.asarray(_ask(aperture, method, *some)), len(some[0])
        if answer.shape not in {(n, *tail) for tail in tails}:
            rule = " or ".join(str(["N", *tail]).replace("'", "") for tail in tails)
            raise UsageError(f"{where} must return {rule}, got shape {answer.shape} for N = {n}; {_HINT[method]}")
        return answer

    many = ask(*arrays)
    ask(*(array[:0] for array in arrays))
    for i in range(0, count, max(1, count // 64)):
        alone = ask(*(array[i : i + 1] for array in arrays))
        if not np.allclose(alone[0], many[i], rtol=1e-9, atol=1e-12, equal_nan=True):  # SIMD may differ by an ulp
            raise UsageError(
                f"{where} must not depend on which points are asked together: at {arrays[0][i]} it is {many[i]} among "
                f"{count} points and {alone[0]} alone; do not sort, count or normalise over the batch"
            )
    return many


def _passed(aperture: Aperture, h: Array, points: Float64Array) -> float:
    """Light within the pupil at field position h [2], after checking the pupil for several shapes."""
    for field in (_field(), _field()[0], h):
        answer = _ask(aperture, "pupil", field)
        discs = answer if isinstance(answer, list) and answer else [answer]
        for disc in discs:
            _check_disc(_where(aperture, "pupil"), disc, field)
    light = check_weights(aperture, points, np.broadcast_to(h, points.shape)).mean(axis=1)
    for centre, radius in discs:
        light = light * (np.hypot(*(points - centre).T) <= radius)
    return float(light.sum())


def _check_disc(where: str, disc: Any, field: Array) -> None:
    """UsageError unless a disc of a pupil is a finite centre of the field's shape and a radius."""
    if not (isinstance(disc, tuple) and len(disc) == 2):
        raise UsageError(f"{where} must return (centre, radius), got {type(disc).__name__}; {_HINT['pupil']}")
    centre, radius = np.asarray(disc[0]), disc[1]
    if centre.shape != field.shape or not np.isfinite(centre).all():
        found = f"shape {centre.shape}" if centre.shape != field.shape else "NaN or infinity"
        raise UsageError(f"{where} must return a finite centre of h's shape {field.shape}, got {found}")
    if np.ndim(radius) != 0 or not radius > 0:  # also false for NaN; math.inf is no pupil at all
        raise UsageError(f"{where} must return one radius > 0, got {radius!r}; {_HINT['pupil']}")


def _field() -> Float64Array:
    """Field positions h [5, 7, 2] over a 3:2 picture."""
    x, y = np.meshgrid(np.linspace(-1, 1, 7), np.linspace(-1, 1, 5))
    return np.stack([x, y], axis=-1) * _CORNER


def _compare_backends(aperture: Aperture) -> str:
    """One line: how cpu and reference compare; UsageError if they draw different pictures."""
    layers, lens, margin = _scene(aperture)
    try:
        drawn = render(layers, lens, margin, "cpu", _RAYS["cpu"]).bokeh.astype(np.float64)
    except UsageError as error:
        return f"not rendered: {error}"
    difference = drawn - render(layers, lens, margin, "reference", _RAYS["reference"]).bokeh
    rms, largest = float(np.sqrt(np.square(difference).mean())), float(np.abs(difference).max())
    bias = float(np.abs(difference.mean(axis=(0, 1))).max())
    found = f"rms {rms:.2g} (allowed {RMS:g}), largest {largest:.2g} ({LARGEST:g}), bias {bias:.2g} ({BIAS:g})"
    if not (rms <= RMS and largest <= LARGEST and bias <= BIAS):  # also for NaN
        raise UsageError(
            f"{type(aperture).__name__} is not the same lens on cpu and reference: {found} of white; a detail of "
            f"`inside` or `weight` is too fine for the cpu's tables, or the object was changed after a first render"
        )
    return f"as the reference: {found}"


def _scene(aperture: Aperture) -> tuple[list[Layer], Lens, int]:
    """A disc before the focus, a tilted wall of soft lights behind it."""
    lens, planes = Lens(16.0, 0.5, aperture), [Plane(0.9), Plane(0.1, 8e-4, -4e-4)]
    margin = lens.margin(planes, _SIZE[1], _SIZE[0])
    y, x = np.mgrid[: _SIZE[0] + 2 * margin, : _SIZE[1] + 2 * margin].astype(np.float64)
    x, y = x - x.mean(), y - y.mean()
    subject = np.clip(9.0 - np.hypot(x + 14, y - 6), 0, 1)
    wall = np.stack([0.3 + 0.2 * np.sin(0.31 * x + phase) * np.cos(0.23 * y + phase) for phase in range(3)], axis=-1)
    for at in ((12, -10), (20, 13), (-22, -14)):
        wall += 2.0 * np.exp(-((x - at[0]) ** 2 + (y - at[1]) ** 2) / 4.5)[..., None]
    black = np.full(wall.shape, 0.05)
    return [Layer(black, subject, planes[0]), Layer(wall, np.ones(x.shape), planes[1])], lens, margin


def main() -> None:
    """Check the `package.module:Class` of the command line; exit code 2 if it does not keep the contract."""
    from bokehsynth.scene.aperture_spec import build_aperture

    try:
        if len(sys.argv) != 2:
            raise UsageError("use: python -m bokehsynth.aperture_check package.module:Class")
        print(check_aperture(build_aperture(sys.argv[1])))  # not as a recipe: recipes may refuse what renders well
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()

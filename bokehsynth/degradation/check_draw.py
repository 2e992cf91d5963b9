"""Checks that a recorded degradation is one that the chain of a recipe can draw: a record may be a stranger's."""

from collections.abc import Mapping
from typing import Any

from bokehsynth.degradation.draw import SMALL_SINC
from bokehsynth.degradation.spec import Blur, CustomStep, Degradation, Final, Jpeg, Noise, Resize
from bokehsynth.errors import DataError

_SLACK = 1e-9


def check_degradation_draw(degradation: Degradation, draw: Mapping[str, Any]) -> None:
    """DataError, naming step and number, unless `degradation` can draw `draw`: kinds, families, sizes, all bounds."""
    steps = draw.get("steps")
    if draw.get("scale") != degradation.scale or draw.get("upscale") not in degradation.upscale:
        raise DataError(f"scale {draw.get('scale')!r:.40} or upscale {draw.get('upscale')!r:.40} is not the recipe's")
    if not isinstance(steps, list) or len(steps) != len(degradation.steps):
        raise DataError(f"must have {len(degradation.steps)} degradation steps, as the recipe has")
    for place, (step, record) in enumerate(zip(degradation.steps, steps, strict=True)):
        if not isinstance(record, dict) or record.get("kind") != step.kind:
            raise DataError(f"degradation step {place} must be {step.kind}, as in the recipe")
        try:
            _check_step(step, _Record(record, f"degradation step {place} ({step.kind})"))
        except KeyError as error:
            raise DataError(f"degradation step {place} ({step.kind}) has no {error}") from None


class _Record:
    """The numbers of one step, each checked when it is asked for."""

    def __init__(self, record: Mapping[str, Any], where: str) -> None:
        self.record, self.where = record, where

    def number(self, name: str, bounds: tuple[float, float], kind: tuple[type, ...] = (int, float)) -> None:
        value = self.record[name]
        wide = 0 if kind == (int,) else _SLACK * max(1.0, *map(abs, bounds))
        if type(value) not in kind or not bounds[0] - wide <= value <= bounds[1] + wide:
            raise DataError(f"{self.where}: {name} must lie in {bounds[0]:g}..{bounds[1]:g}, got {value!r:.40}")

    def one_of(self, name: str, options: Any) -> Any:
        value = self.record[name]
        if isinstance(value, list | dict) or value not in options:
            raise DataError(f"{self.where}: {name} must be one of {', '.join(map(str, options))}, got {value!r:.40}")
        return value

    def part(self, name: str) -> "_Record | None":
        value = self.record[name]
        if value is not None and not isinstance(value, dict):
            raise DataError(f"{self.where}: {name} must be an object, got {value!r:.40}")
        return None if value is None else _Record(value, self.where)


def _check_step(step: Any, record: _Record) -> None:
    match step:
        case Blur():
            if (kernel := record.part("kernel")) is not None:
                _check_kernel(step, kernel)
        case Resize():
            record.number("factor", step.range)
            record.one_of("mode", step.modes)
            record.one_of("relative_to", (step.relative_to,))
        case Noise():
            family = record.one_of("family", (None, "gaussian", "poisson"))
            if family is not None:
                bounds = step.sigma if family == "gaussian" else step.poisson_scale
                record.number("sigma" if family == "gaussian" else "scale", bounds)
                record.one_of("gray", (False, True))
                record.number("seed", (0, 2**63 - 1), (int,))
        case Jpeg():
            if record.record["quality"] is not None:
                record.number("quality", step.quality, (int,))
        case Final():
            record.one_of("mode", step.modes)
            record.number("quality", step.quality, (int,))
            record.one_of("jpeg_first", (False, True))
            if (kernel := record.part("kernel")) is not None:
                kernel.one_of("family", ("sinc",))
                kernel.one_of("size", range(step.size[0], step.size[1] + 1, 2))
                kernel.number("omega", step.omega)
        case CustomStep():
            record.one_of("path", (step.path,))
            if record.part("params") is None:
                raise DataError(f"{record.where}: has no params")


def _check_kernel(step: Blur, kernel: _Record) -> None:
    families = [name for name, weight in step.kernels.model_dump().items() if weight > 0]
    family = kernel.one_of("family", [*families, "sinc"])
    size = kernel.one_of("size", range(step.size[0], step.size[1] + 1, 2))
    if family == "sinc":
        kernel.number("omega", step.omega_small if size < SMALL_SINC else step.omega)
        return
    for name in ("sigma_x", "sigma_y"):
        kernel.number(name, step.sigma)
    kernel.number("rotation", (min(0.0, step.rotation[0]), max(0.0, step.rotation[1])))
    if family.startswith("generalized"):
        kernel.number("beta", step.beta_generalized)
    elif family.startswith("plateau"):
        kernel.number("beta", step.beta_plateau)

"""What every part of a recipe is made of: strict models and distributions."""

import math
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from bokehsynth import rng as randomness


class Spec(BaseModel):
    """Base of all recipe sections: unknown keys, wrong types and NaN are errors; docstrings are the schema's text."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
    )


class Constant(Spec):
    """Always the same number; a plain number in the recipe means this."""

    kind: Literal["constant"] = "constant"
    value: float


class Uniform(Spec):
    """Evenly between `low` and `high`."""

    kind: Literal["uniform"]
    low: float
    high: float

    @model_validator(mode="after")
    def _ordered(self) -> "Uniform":
        return _check_order(self)


class LogUniform(Spec):
    """Evenly in the logarithm between `low` > 0 and `high`."""

    kind: Literal["loguniform"]
    low: Annotated[float, Field(gt=0)]
    high: float

    @model_validator(mode="after")
    def _ordered(self) -> "LogUniform":
        return _check_order(self)


class Normal(Spec):
    """A bell around `mean` with standard deviation `sigma`, drawn again (by inversion) within `low`..`high`."""

    kind: Literal["normal"]
    mean: float
    sigma: Annotated[float, Field(gt=0)]
    low: float
    high: float

    @model_validator(mode="after")
    def _ordered(self) -> "Normal":
        return _check_order(self)


class Choice(Spec):
    """One of `values`, evenly or by `weights`."""

    kind: Literal["choice"]
    values: Annotated[list[float], Field(min_length=1)]
    weights: list[Annotated[float, Field(ge=0)]] | None = None

    @model_validator(mode="after")
    def _matching(self) -> "Choice":
        if self.weights is not None and (len(self.weights) != len(self.values) or sum(self.weights) <= 0):
            raise ValueError(f"needs one weight per value and a positive sum; got {len(self.weights)} weights")
        return self


class Sometimes(Spec):
    """A draw from `value` with the given probability, the number `otherwise` else."""

    kind: Literal["sometimes"]
    probability: Annotated[float, Field(ge=0, le=1)]
    value: "Distribution"
    otherwise: float


def _number_as_constant(value: Any) -> Any:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return {"kind": "constant", "value": value}
    return value


Distribution = Annotated[
    Constant | Uniform | LogUniform | Normal | Choice | Sometimes,
    Field(discriminator="kind"),
    BeforeValidator(_number_as_constant),
]
"""A plain number, or a mapping with `kind`: constant, uniform, loguniform, normal, choice, sometimes."""

Sometimes.model_rebuild()


def draw(distribution: Distribution, rng: np.random.Generator) -> float:
    """One number; every kind but `sometimes` consumes exactly one random number (`sometimes` one more)."""
    match distribution:
        case Constant(value=value):
            rng.random()
            return value
        case Uniform(low=low, high=high):
            return randomness.uniform(rng, low, high)
        case LogUniform(low=low, high=high):
            return math.exp(randomness.uniform(rng, math.log(low), math.log(high)))
        case Normal(mean=mean, sigma=sigma, low=low, high=high):
            return _truncated_normal(float(rng.random()), mean, sigma, low, high)
        case Choice(values=values, weights=weights):
            return randomness.pick(rng, values, weights)
        case Sometimes(probability=probability, value=value, otherwise=otherwise):
            happens = randomness.chance(rng, probability)
            number = draw(value, rng)
            return number if happens else otherwise


def bounds(distribution: Distribution) -> tuple[float, float]:
    """Smallest and largest number that `draw` can return."""
    match distribution:
        case Constant(value=value):
            return value, value
        case Choice(values=values):
            return min(values), max(values)
        case Sometimes(value=value, otherwise=otherwise):
            low, high = bounds(value)
            return min(low, otherwise), max(high, otherwise)
        case _:
            return distribution.low, distribution.high


def check_bounds(name: str, distribution: Distribution, low: float, high: float) -> None:
    """ValueError unless everything the distribution can draw lies in low..high."""
    least, most = bounds(distribution)
    if least < low or most > high:
        raise ValueError(f"{name} must stay within {low:g}..{high:g}; this can draw {least:g}..{most:g}")


def _check_order(spec: Any) -> Any:
    if spec.low > spec.high:
        raise ValueError(f"low must not exceed high, got {spec.low:g} > {spec.high:g}")
    return spec


def _truncated_normal(u: float, mean: float, sigma: float, low: float, high: float) -> float:
    """Inverse of the truncated normal's distribution function at u, by bisection on erf (no library's stream)."""

    def cdf(x: float) -> float:
        return 0.5 * (1 + math.erf((x - mean) / (sigma * math.sqrt(2))))

    target = cdf(low) + u * (cdf(high) - cdf(low))
    a, b = low, high
    for _ in range(60):
        middle = (a + b) / 2
        a, b = (middle, b) if cdf(middle) < target else (a, middle)
    return (a + b) / 2

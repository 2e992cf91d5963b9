"""What every part of a recipe is made of: strict models and distributions."""

import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)
from typing_extensions import Self

from bokehsynth import rng as randomness


class Spec(BaseModel):
    """Base of all recipe sections: unknown keys, wrong types and NaN are errors; docstrings are the schema's text."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        use_attribute_docstrings=True,
        allow_inf_nan=False,
        defer_build=True,  # once, within the section that is read; a worker, which gets the recipe read, builds none
    )

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Copy with some fields replaced; values cached from the old fields are dropped."""
        copy = super().model_copy(update=update, deep=deep)
        for name in [name for name in copy.__dict__ if name not in type(self).model_fields]:
            del copy.__dict__[name]
        return copy


class GrownSpec(Spec):
    """Base of sections with keys that 0.4.0 did not know: these are left out where they are not used."""

    absent_unused: ClassVar[tuple[str, ...]] = ()
    """Keys that are not written while they are None, so that recipes of 0.4.0 keep their bytes."""

    @model_serializer(mode="wrap")
    def _without_unused(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """All keys but the new ones that are not used."""
        return {
            key: value for key, value in serialize(self).items() if key not in self.absent_unused or value is not None
        }


class Constant(Spec):
    """Always the same number; a plain number in the recipe means this."""

    kind: Literal["constant"] = "constant"
    value: float
    """The number."""


class _Ordered(Spec):
    @model_validator(mode="after")
    def _low_first(self: Any) -> Any:
        if self.low > self.high:
            raise ValueError(f"low must not exceed high, got {self.low:g} > {self.high:g}")
        return self


class Uniform(_Ordered):
    """Evenly between `low` and `high`."""

    kind: Literal["uniform"]
    low: float
    """Smallest number."""
    high: float
    """Largest number (excluded)."""


class LogUniform(_Ordered):
    """Evenly in the logarithm between `low` > 0 and `high`."""

    kind: Literal["loguniform"]
    low: Annotated[float, Field(gt=0)]
    """Smallest number, above 0."""
    high: float
    """Largest number."""


class Normal(_Ordered):
    """A bell around `mean` with standard deviation `sigma`, cut off at `low` and `high`."""

    kind: Literal["normal"]
    mean: float
    """Middle of the bell."""
    sigma: Annotated[float, Field(gt=0)]
    """Standard deviation of the uncut bell."""
    low: float
    """Smallest number."""
    high: float
    """Largest number."""


class Choice(Spec):
    """One of `values`, evenly or by `weights`."""

    kind: Literal["choice"]
    values: Annotated[list[float], Field(min_length=1)]
    """The numbers to choose from."""
    weights: list[Annotated[float, Field(ge=0)]] | None = None
    """One per value, any scale; evenly without."""

    @model_validator(mode="after")
    def _matching(self) -> "Choice":
        if self.weights is not None and (len(self.weights) != len(self.values) or sum(self.weights) <= 0):
            raise ValueError(f"needs one weight per value and a positive sum; got {len(self.weights)} weights")
        return self


class Sometimes(Spec):
    """A draw from `value` with the given probability, the number `otherwise` else."""

    kind: Literal["sometimes"]
    probability: Annotated[float, Field(ge=0, le=1)]
    """How often `value` is drawn."""
    value: "Distribution"
    """What is drawn then: a number or a distribution."""
    otherwise: float
    """The number at all other times."""


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


def sample(distribution: Distribution, rng: np.random.Generator) -> float:
    """Draw one number; every kind but `sometimes` consumes exactly one random number (`sometimes` one more)."""
    match distribution:
        case Constant(value=value):
            rng.random()
            return value
        case Uniform(low=low, high=high):
            return randomness.uniform(rng, low, high)
        case LogUniform(low=low, high=high):
            number = math.exp(randomness.uniform(rng, math.log(low), math.log(high)))
            return min(max(number, low), high)  # exp(log(x)) may miss x by a rounding
        case Normal(mean=mean, sigma=sigma, low=low, high=high):
            return _truncated_normal(float(rng.random()), mean, sigma, low, high)
        case Choice(values=values, weights=weights):
            return randomness.pick(rng, values, weights)
        case Sometimes(probability=probability, value=value, otherwise=otherwise):
            happens = randomness.chance(rng, probability)
            number = sample(value, rng)
            return number if happens else otherwise


def bounds(distribution: Distribution) -> tuple[float, float]:
    """Return the smallest and largest number that `sample` can return."""
    match distribution:
        case Constant(value=value):
            return value, value
        case Choice(values=values, weights=weights):
            possible = [value for i, value in enumerate(values) if weights is None or weights[i] > 0]
            return min(possible), max(possible)
        case Sometimes(probability=probability, value=value, otherwise=otherwise):
            if probability == 0:
                return otherwise, otherwise
            low, high = bounds(value)
            return (low, high) if probability == 1 else (min(low, otherwise), max(high, otherwise))
        case _:
            return distribution.low, distribution.high


def within(low: float, high: float) -> AfterValidator:
    """Validate that all that can be drawn lies in low..high: `Annotated[Distribution, within(low, high)]`."""

    def check(distribution: Distribution) -> Distribution:
        least, most = bounds(distribution)
        if least < low or most > high:
            raise ValueError(f"must stay within {low:g}..{high:g}; this can draw {least:g}..{most:g}")
        return distribution

    return AfterValidator(check)


def _truncated_normal(u: float, mean: float, sigma: float, low: float, high: float) -> float:
    """Invert the cut bell's distribution function at u, by bisection (no library's, whose stream may change).

    Where most of the range lies right of the mean it is mirrored: only the left tail keeps its digits.
    """
    mirror = low + high > 2 * mean
    left, right = (2 * mean - high, 2 * mean - low) if mirror else (low, high)

    def cdf(x: float) -> float:
        return 0.5 * math.erfc((mean - x) / (sigma * math.sqrt(2)))

    target = cdf(left) + (1 - u if mirror else u) * (cdf(right) - cdf(left))
    a, b = left, right
    for _ in range(80):
        middle = (a + b) / 2
        a, b = (middle, b) if cdf(middle) < target else (a, middle)
    number = 2 * mean - (a + b) / 2 if mirror else (a + b) / 2
    return min(max(number, low), high)

"""The recipe's settings for folders of photographed pairs."""

from typing import Annotated

from pydantic import Field, field_validator

from bokehsynth.config.distributions import Spec


class PairChecks(Spec):
    """What the two photographs of a pair must have in common; a pair that has not is quarantined."""

    max_shift: Annotated[float, Field(ge=0, le=0.5)] = 0.004
    """How far the subject may lie from its place, as a share of the shorter side; 1.5 px are always allowed."""
    max_stops: Annotated[float, Field(ge=0, le=10)] = 0.75
    """How many stops the subject may be lighter or darker, in any channel."""
    min_likeness: Annotated[float, Field(ge=-1, le=1)] = 0.8
    """Least correlation of the subject's log luminance: below, they are not two pictures of one thing."""


class PairPatterns(Spec):
    """File names of a folder of pairs, relative to the source, `{name}` standing for the pair's name."""

    aif: str
    """All in focus, e.g. `{name}_f16.jpg`."""
    bokeh: str
    """Through the lens, e.g. `{name}_f1_8.jpg`."""
    disparity: str | None = None
    """Map of relative inverse depth of any scale, bright = near; PNG, TIFF, EXR or NPY."""
    mask: str | None = None
    """White where the subject is in focus."""

    @field_validator("aif", "bokeh", "disparity", "mask")
    @classmethod
    def _named_once(cls, value: str | None) -> str | None:
        if value is not None and value.count("{name}") != 1:
            raise ValueError(f"needs {{name}} exactly once, as in {{name}}_f16.jpg; got {value!r}")
        return value

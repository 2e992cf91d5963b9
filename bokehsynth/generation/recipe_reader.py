"""A recipe read as a data set: its samples are rendered when they are read."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from bokehsynth.errors import DataError
from bokehsynth.generation.plan import all_plans
from bokehsynth.pipeline import make_sample
from bokehsynth.recipe import Recipe
from bokehsynth.rendering import resolve_device
from bokehsynth.schema import FIELDS, Sample, fields_read
from bokehsynth.shards.iteration import SampleReader


class RecipeReader(SampleReader):
    """The samples of one split of a recipe, in the shards that it would have: the same order for the same seed."""

    def __init__(self, recipe: Recipe, split: str, fields: Sequence[str] | None = None, backend: str = "auto") -> None:
        plans = [plan for plan in all_plans(recipe) if plan.split == split]
        if not plans:
            raise DataError(f"no split {split!r} in this recipe; it has {', '.join(recipe.splits)}")
        super().__init__(split, plans, recipe.identity)
        self.recipe = recipe
        self.backend = recipe.device_for(backend, resolve_device(backend))
        """Where samples are rendered: chosen once, as a loader worker might find another device, with other pixels."""
        self.fields = fields_read(recipe.shards.fields if fields is None else fields, recipe.shards.fields)
        """Names of the arrays that each sample will hold."""
        unknown = [name for name in self.fields if name not in recipe.shards.fields]
        if unknown:
            stored = ", ".join(name for name in FIELDS if name in recipe.shards.fields)
            raise DataError(f"recipe {recipe.name} does not make {', '.join(unknown)}; it has {stored}")

    def read(self, index: int) -> Sample:
        """Sample `index`, rendered; IndexError unless it is 0 or above, and there."""
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)} in split {self.split}")
        sample = make_sample(self.recipe, index, self.split, self.backend)
        return replace(sample, arrays={name: sample.arrays[name] for name in self.fields})

    def meta(self, index: int) -> dict[str, Any]:
        """The record of a sample, which has to be rendered for it."""
        return dict(self.read(index).meta)

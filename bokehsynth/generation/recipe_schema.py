"""schema.json of a data set: as this version writes it, or as an earlier one did."""

import ast
import functools
import inspect
import json
import sys
from typing import Any

from bokehsynth.assets.spec import SOURCE_LISTS
from bokehsynth.files import pretty_json, sha256_bytes
from bokehsynth.recipe import Recipe

_EARLIER = {"cd9be82590cd1e607e5cf684318b8f919ca733c9c8d29959398605ce958c3c53": "0.4.0"}
"""sha256 of what released versions wrote, and the first of them. A set that one of them began keeps its own."""


def recipe_schema() -> dict[str, Any]:
    """The JSON schema of a recipe, with the docstrings as descriptions, also under `python -OO`."""
    if sys.flags.optimize >= 2:
        _restore_docstrings()
    return Recipe.model_json_schema()


@functools.cache
def schema_text() -> str:
    """The schema as this version writes it."""
    return pretty_json(recipe_schema())


def _restore_docstrings() -> None:
    """Read the docstrings of our classes from their sources: `python -OO` drops them."""
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == "bokehsynth" and getattr(module, "__file__", None):
            for node in ast.parse(inspect.getsource(module)).body:
                if isinstance(node, ast.ClassDef) and (text := ast.get_docstring(node, clean=False)):
                    getattr(module, node.name).__doc__ = text


def is_schema(text: str, recipe: Recipe) -> bool:
    """Whether `text` is the schema of this version, or of an earlier one that has every key the recipe uses."""
    if text == schema_text():
        return True
    if sha256_bytes(text) not in _EARLIER:
        return False
    schema = json.loads(text)
    known = schema["$defs"]
    sources = [source for name in SOURCE_LISTS for source in getattr(recipe.assets, name)]
    return recipe.model_dump(mode="json").keys() <= schema["properties"].keys() and all(
        part.model_dump(mode="json").keys() <= known[type(part).__name__]["properties"].keys()
        for part in [recipe.lens, recipe.scene, *sources]
    )

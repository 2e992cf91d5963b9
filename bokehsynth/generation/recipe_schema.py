"""schema.json of a data set: as this version writes it, or as an earlier one did."""

import json

from bokehsynth.files import pretty_json, sha256_bytes
from bokehsynth.recipe import Recipe

_EARLIER = {"cd9be82590cd1e607e5cf684318b8f919ca733c9c8d29959398605ce958c3c53": "0.4.0"}
"""sha256 of what released versions wrote, and the first of them. A set that one of them began keeps its own."""


def schema_text() -> str:
    """The schema as this version writes it."""
    return pretty_json(Recipe.model_json_schema())


def is_schema(text: str, recipe: Recipe) -> bool:
    """Whether `text` is the schema of this version, or of an earlier one that has every key of the recipe's lens."""
    if text == schema_text():
        return True
    if sha256_bytes(text) not in _EARLIER:
        return False
    known = json.loads(text)["$defs"]["LensSpec"]["properties"].keys()
    return bool(recipe.lens.model_dump(mode="json").keys() <= known)

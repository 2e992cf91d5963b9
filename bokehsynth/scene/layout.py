"""Layouts of one's own: a class that says where the layers of a scene stand, its contract and checks of its answer."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Protocol

import numpy as np
from pydantic import Field, ValidationError, model_validator

from bokehsynth.assets.catalogue import Asset
from bokehsynth.config.distributions import Spec
from bokehsynth.config.user_code import check_class_path, is_refused, load_instance, source_of
from bokehsynth.errors import UsageError

LIMITS: dict[str, tuple[float, float]] = {
    "exposure": (-6.0, 6.0), "scale": (0.05, 4.0), "rotation": (-180.0, 180.0), "x": (-1.0, 2.0), "bottom": (-1.0, 3.0),
    "zoom": (1.0, 2.0), "u": (0.0, 1.0), "v": (0.0, 1.0),
}  # fmt: skip
"""What a layout may say of a layer, least and most."""


def _limited(name: str) -> Any:
    return Field(ge=LIMITS[name][0], le=LIMITS[name][1])


@dataclass(frozen=True, kw_only=True)
class SceneAssets:
    """What a layout is given: the pictures of a scene, and the size of the sample."""

    background: Asset
    foregrounds: tuple[Asset, ...]
    """In the order in which they were drawn."""
    height: int
    width: int
    """Pixels."""


class SceneLayout(Protocol):
    """What a class named as `scene.layout` offers. It is made without arguments; it needs no base class.

    class Row:
        def place(self, rng, scene):
            count = len(scene.foregrounds)
            row = [{"x": (i + 0.5) / count, "disparity": 0.9 - 0.1 * i} for i in range(count)]
            return {"background": {"disparity": 0.1}, "foregrounds": row}
    """

    def place(self, rng: np.random.Generator, scene: SceneAssets) -> dict[str, Any]:
        """Where the layers stand, by what `rng` draws and nothing else.

        `background` and one of `foregrounds` for each of `scene.foregrounds`, in this order, are dicts with the
        `disparity` at the picture's centre and any of `tilt`, `tilt_angle` (0 without) and of the numbers of a draw:
        `flip`, `exposure`, of a foreground `scale`, `rotation`, `x`, `bottom`, of the background `zoom`, `u`, `v`. What
        is left out is as the recipe draws it.
        """
        ...


class LayerPlace(Spec):
    """What a layout says of a layer; None for what it leaves to the recipe."""

    disparity: Annotated[float, Field(ge=0, le=1)]
    """At the picture's centre."""
    tilt: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Disparity difference across the picture along `tilt_angle`, degrees clockwise from +x."""
    tilt_angle: float = 0.0
    flip: bool | None = None
    exposure: Annotated[float | None, _limited("exposure")] = None

    @model_validator(mode="after")
    def _in_front_of_infinity(self) -> "LayerPlace":
        low, high = self.disparity - self.tilt / 2, self.disparity + self.tilt / 2
        if low < 0 or high > 1:
            raise ValueError(f"disparity and tilt must stay within 0..1 over the picture; this is {low:g}..{high:g}")
        return self

    @property
    def given(self) -> dict[str, Any]:
        """The numbers of a draw that it says."""
        planes = {"disparity", "tilt", "tilt_angle"}
        return {key: value for key, value in self.model_dump(exclude=planes).items() if value is not None}


class ForegroundPlace(LayerPlace):
    """What a layout says of a cut-out."""

    scale: Annotated[float | None, _limited("scale")] = None
    rotation: Annotated[float | None, _limited("rotation")] = None
    x: Annotated[float | None, _limited("x")] = None
    bottom: Annotated[float | None, _limited("bottom")] = None


class BackgroundPlace(LayerPlace):
    """What a layout says of the landscape."""

    zoom: Annotated[float | None, _limited("zoom")] = None
    u: Annotated[float | None, _limited("u")] = None
    v: Annotated[float | None, _limited("v")] = None


class ScenePlaces(Spec):
    """The answer of a layout."""

    background: BackgroundPlace
    foregrounds: list[ForegroundPlace]


def check_layout(path: str) -> str:
    """Return `path` if it names a layout, or one that must not be imported here; else a ValueError (for pydantic)."""
    if not is_refused(check_class_path(path)):
        load_layout(path)
    return path


def load_layout(path: str) -> SceneLayout:
    """Make an instance of the class; a UsageError says what is missing."""
    layout: SceneLayout = load_instance(path, "scene layout", ("place",))
    return layout


def layout_source(path: str) -> str:
    """The source of the module of the class at `path`: its identity in a data set."""
    return source_of(load_layout(path), path)


def places_of(path: str, rng: np.random.Generator, scene: SceneAssets) -> ScenePlaces:
    """The answer of the class at `path`, checked; a UsageError names what is wrong with it."""
    answer = load_layout(path).place(rng, scene)
    try:
        places = ScenePlaces.model_validate(_plain(answer))
    except ValidationError as error:
        fault = error.errors(include_url=False, include_context=False)[0]
        where, message = ".".join(map(str, fault["loc"])), fault["msg"].removeprefix("Value error, ")
        raise UsageError(
            f"scene layout {path!r}: place() returned {where or 'no such dict'}: {message} (got {fault['input']!r:.80})"
        ) from None
    if len(places.foregrounds) != len(scene.foregrounds):
        raise UsageError(
            f"scene layout {path!r}: place() must return {len(scene.foregrounds)} foregrounds, one for each picture; "
            f"got {len(places.foregrounds)}"
        )
    return places


def _plain(value: Any) -> Any:
    """NumPy's numbers as Python's."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value

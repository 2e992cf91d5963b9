"""A scene: drawn as plain numbers (`draw_scene`), then composed into layers on one canvas (`compose`).

There are three kinds: cut-outs in layers, a photograph, a pair of photographs.
"""

from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag

from bokehsynth.assets.catalogue import Catalogue, Kind
from bokehsynth.assets.load.store import AssetStore
from bokehsynth.rng import Stage, stream
from bokehsynth.scene.camera import MetricCamera, SceneLens
from bokehsynth.scene.compose import NO_MORE, compose_layers
from bokehsynth.scene.composed_scene import ComposedScene
from bokehsynth.scene.draw import SceneDraw, draw_layers
from bokehsynth.scene.lens_spec import LensSpec, read_aperture
from bokehsynth.scene.more_pictures import MorePictures
from bokehsynth.scene.pair import PairDraw, PairSpec, compose_pair, draw_pair
from bokehsynth.scene.photo import PhotoDraw, PhotoSpec, compose_photo, draw_photo
from bokehsynth.scene.spec import SceneSpec

__all__ = [
    "AnyDraw", "AnySpec", "ComposedScene", "LensSpec", "MorePictures", "PairDraw", "PhotoDraw", "SceneDraw",
    "SceneLens", "SceneSpec", "compose", "draw_scene", "kinds_of_assets", "read_aperture",
]  # fmt: skip


def _kind_of(value: Any) -> Any:
    """Layers, where a recipe does not say."""
    return value.get("kind", "layers") if isinstance(value, dict) else getattr(value, "kind", "layers")


AnySpec = Annotated[
    Annotated[SceneSpec, Tag("layers")] | Annotated[PhotoSpec, Tag("photo")] | Annotated[PairSpec, Tag("pair")],
    Discriminator(_kind_of),
]
AnyDraw = Annotated[SceneDraw | PhotoDraw | PairDraw, Field(discriminator="kind")]


def kinds_of_assets(spec: AnySpec) -> tuple[Kind, ...]:
    """What a kind of scene is made of."""
    match spec:
        case PhotoSpec():
            return ("photo",)
        case PairSpec():
            return ("pair",)
        case _:
            return ("foreground", "background")


def draw_scene(
    spec: AnySpec, size: tuple[int, int] | None, catalogue: Catalogue, seed: int, split: str, index: int,
    attempt: int = 0, camera: MetricCamera | None = None,
) -> AnyDraw:  # fmt: skip
    """Draw scene `index` of a split; `size` is (height, width), or None for each picture's own (photo and pair).

    `camera` is what layers are seen through where the recipe has one.
    """
    rng = stream(seed, split, Stage.ASSETS, index, attempt)
    match spec:
        case PhotoSpec():
            return draw_photo(spec, size, catalogue.pool("photo", split), index, rng)
        case PairSpec():
            return draw_pair(spec, size, catalogue.pool("pair", split), index, rng)
        case _:
            assert size is not None, "a recipe of layers has a size"
            return draw_layers(spec, size, catalogue, seed, split, index, attempt, camera)


def compose(draw: AnyDraw, store: AssetStore, lens: SceneLens, more: MorePictures = NO_MORE) -> ComposedScene:
    """Load the pictures of a drawn scene and build what the renderer takes, and what was photographed.

    `more` says which further pictures are taken of layers.
    """
    match draw:
        case PhotoDraw():
            return compose_photo(draw, store, lens.aperture)
        case PairDraw():
            return compose_pair(draw, store, lens.aperture)
        case _:
            return compose_layers(draw, store, lens, more)

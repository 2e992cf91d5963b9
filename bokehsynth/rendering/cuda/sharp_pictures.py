"""All-in-focus pictures, which do not depend on the lens: made once for all views of a scene."""

from typing import Any, NamedTuple
from weakref import WeakKeyDictionary, ref

from bokehsynth.optics.layer import Layer
from bokehsynth.rendering.types import Encode, RenderInput


class _Kept(NamedTuple):
    layers: "tuple[ref[Layer], ...]"
    margin: int
    pictures: dict[Encode | None, Any]
    """By what encoded them; None: linear."""


class SharpPictures:
    """The sharp pictures of scenes whose layers live: of each nearest layer the scene that was last rendered."""

    def __init__(self) -> None:
        self._kept: WeakKeyDictionary[Layer, _Kept] = WeakKeyDictionary()

    def find(self, scene: RenderInput, encode: Encode | None) -> Any | None:
        """The picture of these very layers at this margin, if it was made."""
        kept = self._kept.get(scene.layers[0])
        return kept.pictures.get(encode) if kept is not None and _is_of(kept, scene) else None

    def clear(self) -> None:
        """Let go of all pictures."""
        self._kept.clear()

    def keep(self, scene: RenderInput, encode: Encode | None, picture: Any) -> None:
        """Keep a picture for as long as its nearest layer lives, or another scene with that layer is rendered.

        It is read-only from here on: a caller that wrote to it would change what later calls return.
        """
        if picture is not None:
            picture.setflags(write=False)
        kept = self._kept.get(scene.layers[0])
        if kept is None or not _is_of(kept, scene):
            kept = _Kept(tuple(ref(layer) for layer in scene.layers), scene.margin, {})
            self._kept[scene.layers[0]] = kept
        kept.pictures[encode] = picture


def _is_of(kept: _Kept, scene: RenderInput) -> bool:
    layers = tuple(found() for found in kept.layers)
    return (
        kept.margin == scene.margin
        and len(layers) == len(scene.layers)
        and all(one is other for one, other in zip(layers, scene.layers, strict=True))
    )

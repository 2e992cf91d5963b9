"""What every kind of scene is composed into: layers in front of a lens, and pictures captured rather than rendered."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from bokehsynth.color import FloatArray
from bokehsynth.optics import Lens
from bokehsynth.optics.layer import Layer


@dataclass(frozen=True, eq=False, kw_only=True)
class ComposedScene:
    """A scene ready for the renderer: `render(layers, lens, margin)`."""

    layers: list[Layer]
    """Near to far, the background last."""
    lens: Lens
    margin: int
    notes: dict[str, Any] = field(default_factory=dict)
    """What composing found out (enlargements, light matching, fitted lenses), JSON-able; it is stored with the draw."""
    captured: FloatArray | None = None
    """A photograph of the scene through its lens, [H, W, 3] linear: it takes the place of the render."""
    mask: FloatArray | None = None
    """Where the picture is in focus, [H, W] in 0..1, from a file; without one, it follows from the defocus."""
    pictures: dict[str, "ComposedScene"] = field(default_factory=dict)
    """The same layers through other lenses, by the field that holds their picture."""

    def with_pictures(self, names: Sequence[str]) -> list["ComposedScene"]:
        """The scene, and then the same layers through the lens of each named picture."""
        return [self, *(self.pictures[name] for name in names)]


def disparity_seen_at(pixel: tuple[int, int], layers: Sequence[Layer], margin: int) -> float:
    """Disparity at pixel (x, y) of the picture of the layer at which the accumulated alpha reaches 0.5."""
    x, y = pixel
    height, width = (side - 2 * margin for side in layers[0].shape)
    disparities = [float(layer.disparity.at(x - (width - 1) / 2, y - (height - 1) / 2)) for layer in layers]
    through, disparity = 1.0, 0.0
    for place in sorted(range(len(layers)), key=lambda i: -disparities[i]):  # layers may cross
        disparity = disparities[place]
        through *= 1 - float(layers[place].alpha[margin + y, margin + x])
        if through <= 0.5:
            break
    return disparity

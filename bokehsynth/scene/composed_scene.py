"""What every kind of scene becomes: layers in front of a lens, and what was photographed rather than rendered."""

from dataclasses import dataclass, field
from typing import Any

from bokehsynth.color import FloatArray
from bokehsynth.optics import Lens
from bokehsynth.optics.layer import Layer


@dataclass(frozen=True, eq=False, kw_only=True)
class Composition:
    """A scene ready to be photographed: `render(layers, lens, margin)`."""

    layers: list[Layer]
    """Near to far, the background last."""
    lens: Lens
    margin: int
    facts: dict[str, Any] = field(default_factory=dict)
    """What only composing could find out (enlargements, light matching, fitted lenses), JSON-able."""
    photograph: FloatArray | None = None
    """A real photograph of the scene through its lens, [H, W, 3] linear, where there is one: it takes the place of the
    render."""
    mask: FloatArray | None = None
    """Where the picture is in focus, [H, W] in 0..1, as somebody marked it; without, it follows from the defocus."""

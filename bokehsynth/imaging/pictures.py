"""The two kinds of picture a scene is made of, in linear light."""

from dataclasses import dataclass

from bokehsynth.color import FloatArray


@dataclass(frozen=True)
class Cutout:
    """A matted foreground: straight (not premultiplied) linear colour and its alpha.

    A subject that is cut off by a side of its picture touches that side; the scene places it against that side.
    """

    color: FloatArray
    """[H, W, 3], linear light, meaningful also where alpha is small (no dark fringe)."""
    alpha: FloatArray
    """[H, W] in 0..1."""


@dataclass(frozen=True)
class Landscape:
    """A background picture, sharp everywhere."""

    color: FloatArray
    """[H, W, 3], linear light; 1.0 is display white, lights may be a thousand times as bright."""
    highlights: FloatArray | None = None
    """[H, W, 3], recovered light of lamps that the file clipped at white, part of `color`; None where there is none."""

"""The person of a portrait: measures and colours that face, hair and clothes share."""

from dataclasses import dataclass

import numpy as np

from bokehsynth.procedural.foregrounds.curves import mirrored
from bokehsynth.procedural.foregrounds.light import Light
from bokehsynth.procedural.toolkit import Points, smoothstep

EYE_Y, NOSE_Y, MOUTH_Y = 0.06, 0.44, 0.67
EYE_X, EYE_HALF = 0.315, 0.150
"""Where features sit on a face that spans about -1..1 in height."""


@dataclass(frozen=True)
class Face:
    """One person. The face spans about -1..1 in height; `turn` shifts the features sideways."""

    skin: Points
    blush: Points
    iris: Points
    hair: Points
    masculine: bool
    turn: float
    width: float
    jaw: float
    """0 pointed .. 1 square."""
    smile: float
    brow: float
    glasses: bool
    beard: bool
    light: Light

    def at(self, x: float, y: float) -> Points:
        """A feature's place on the turned head."""
        return np.array([x * (1 - 0.35 * abs(self.turn) - 0.5 * self.turn * x) + self.turn, y])

    def outline(self) -> Points:
        """The head without hair."""
        jaw = 0.36 + 0.10 * self.jaw + 0.07 * self.masculine
        knots = [(0.0, -1.02), (0.40, -0.95), (0.66, -0.66), (self.width, -0.15), (self.width * 0.985, 0.20),
                 (self.width * 0.88, 0.55), (jaw, 0.88), (0.17, 1.03), (0.0, 1.05)]  # fmt: skip
        shape = mirrored(knots)
        shape[:, 0] += 0.35 * self.turn * smoothstep(0.1, 1.0, shape[:, 1])
        return shape

"""A street seen along its axis: metres to unit coordinates and back.

X runs right, Y up from the ground, Z along the street; the two rows of houses stand at X = -half and X = +half.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bokehsynth.procedural.backgrounds.painting import Frame
from bokehsynth.procedural.toolkit import FloatArray, Points

NEAREST = 2.2
"""Nothing nearer than this, in metres, is projected."""


@dataclass(frozen=True)
class Camera:
    """Where the street is seen from."""

    vanishing: tuple[float, float]
    """The street's far end, in unit coordinates."""
    focal: float
    """Focal length in unit coordinates."""
    eye: float
    """Height of the eye above the ground, metres."""
    half: float
    """Half the distance between the rows of houses, metres."""

    def project(self, x: npt.ArrayLike, y: npt.ArrayLike, z: npt.ArrayLike) -> Points:
        """Points [..., 2] in unit coordinates."""
        near = self.focal / np.maximum(np.asarray(z, np.float64), NEAREST)
        right, up = np.asarray(x, np.float64) * near, (np.asarray(y, np.float64) - self.eye) * near
        points = np.empty((*np.broadcast(right, up).shape, 2))
        points[..., 0] = self.vanishing[0] + right
        points[..., 1] = self.vanishing[1] - up
        return points

    def wall(self, side: float, points: Points, out: npt.ArrayLike = 0.0) -> Points:
        """Points [..., 2] = (z, y) on the houses of a side (-1 left, +1 right), `out` metres into the street."""
        return self.project(side * (self.half - np.asarray(out)), points[..., 1], points[..., 0])

    def ground(self, points: Points) -> Points:
        """Points [..., 2] = (x, z) on the ground."""
        return self.project(points[..., 0], 0.0, points[..., 1])

    def ground_map(self, frame: Frame) -> tuple[FloatArray, FloatArray]:
        """Map the pixels below the vanishing point: X [h, W] and Z [h, 1] of the ground."""
        below = frame.y[int(np.ceil(self.vanishing[1] * frame.size)) :] - np.float32(self.vanishing[1])
        z = np.float32(self.focal * self.eye) / np.maximum(below, np.float32(1e-4))
        return (frame.x - np.float32(self.vanishing[0])) * z / np.float32(self.focal), z

    def wall_map(self, frame: Frame) -> tuple[FloatArray, FloatArray]:
        """Map all pixels as if they belonged to the wall of their side: Z [1, W] and Y [H, W]."""
        off = np.maximum(np.abs(frame.x - np.float32(self.vanishing[0])), np.float32(0.004))
        z = np.float32(self.focal * self.half) / off
        return z, np.float32(self.eye) + (np.float32(self.vanishing[1]) - frame.y) * z / np.float32(self.focal)

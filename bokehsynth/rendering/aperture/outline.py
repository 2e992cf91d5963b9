"""The boundary of an aperture's opening, traced from its `inside` alone."""

import numpy as np
import numpy.typing as npt

from bokehsynth.errors import UsageError
from bokehsynth.optics import Aperture
from bokehsynth.rendering.aperture.lens_points import check_inside
from bokehsynth.rendering.types import Float64Array, IntArray

BoolArray = npt.NDArray[np.bool_]

CELLS = 384
"""Cells per side of the grid: what is narrower than a cell (`CELL`, 1/188 of the radius) can be missed."""

_HALF_WIDTH = 1.02  # beyond the disc on all sides, so that every outline is closed
CELL = 2 * _HALF_WIDTH / CELLS
_BISECTIONS = 23  # CELL / 2^23 = 6e-10

# A cell's corners, in turn from the top left: a b c d; its sides: top ab, right bc, bottom dc, left ad.
# Case 1 a + 2 b + 4 c + 8 d (open corners) -> sides where a segment begins and ends, the opening on its right hand
# as seen on the screen. Cases 5 and 10, two opposite corners, have a second segment.
_TOP, _RIGHT, _BOTTOM, _LEFT = range(4)
_SEGMENT = np.array(
    [
        (_TOP, _TOP), (_TOP, _LEFT), (_RIGHT, _TOP), (_RIGHT, _LEFT),
        (_BOTTOM, _RIGHT), (_TOP, _LEFT), (_BOTTOM, _TOP), (_BOTTOM, _LEFT),
        (_LEFT, _BOTTOM), (_TOP, _BOTTOM), (_RIGHT, _TOP), (_RIGHT, _BOTTOM),
        (_LEFT, _RIGHT), (_TOP, _RIGHT), (_LEFT, _TOP), (_TOP, _TOP),
    ]
)  # fmt: skip
_SECOND = {5: (_BOTTOM, _RIGHT), 10: (_LEFT, _BOTTOM)}


def trace_outline(aperture: Aperture) -> Float64Array:
    """Directed segments (x0, y0, x1, y1) of the polygons that bound the opening {|s| <= 1 and inside(s)}, [V, 4].

    Lens units, x right, y down. Walking along a segment the opening lies on the right hand as seen on the screen, so
    the outer boundary runs clockwise there and holes run the other way; `signed_area` is the opening's area, > 0.
    The polygons are closed (an end is bit for bit another segment's start); segments are in no order along them.

    Marching squares (Lorensen & Cline 1987, in the plane) on a grid of CELLS x CELLS; each crossing of a grid line is
    found by bisection to 1e-9, so the outline is a polygon inscribed in the boundary with chords of about one CELL:
    the disc's area comes out 5e-6 too small (relative), and a corner loses up to CELL^2 / 2. The pupil, which
    belongs to the field, is not asked. `inside` is asked only for points of the disc.

    Raises UsageError for an aperture that lets no light through or whose `inside` does not return bool [N].
    """
    line = (np.arange(CELLS + 1) - CELLS / 2) * CELL  # symmetric to the bit
    x, y = np.meshgrid(line, line)
    nodes = np.stack([x.ravel(), y.ravel()], axis=1)
    opened = _open(aperture, nodes).reshape(x.shape)
    if not opened.any():
        raise UsageError(f"{type(aperture).__name__} lets no light through: `inside` accepted no lens point of a grid")
    across, down = opened[:, 1:] != opened[:, :-1], opened[1:] != opened[:-1]  # along grid lines of y, of x
    number = np.arange(nodes.shape[0]).reshape(x.shape)
    ends = np.concatenate(
        [
            np.stack([number[:, :-1][across], number[:, 1:][across]], axis=1),
            np.stack([number[:-1][down], number[1:][down]], axis=1),
        ]
    )
    crossings = _bisect(aperture, nodes[ends], opened.ravel()[ends[:, 0]])
    start, end = _join(opened, across, down)
    segments = np.concatenate([crossings[start], crossings[end]], axis=1)
    return np.ascontiguousarray(segments[(segments[:, :2] != segments[:, 2:]).any(axis=1)])


def simplify_outline(segments: Float64Array, tolerance: float) -> Float64Array:
    """The same polygons with fewer vertices, all of them of the outline [V, 4], off by `tolerance` at most."""
    following = {tuple(segment[:2]): tuple(segment[2:]) for segment in segments}
    found: list[Float64Array] = []
    while following:
        first = next(iter(following))
        chain = [first]
        while chain[-1] in following:
            chain.append(following.pop(chain[-1]))
        points = np.array(chain)
        keep, start = [0], 0
        while start < len(points) - 1:
            stop = start + 1
            while stop < len(points) - 1 and _deviation(points[start : stop + 2]) <= tolerance:
                stop += 1
            keep.append(stop)
            start = stop
        corners = points[keep]
        found.append(np.concatenate([corners[:-1], corners[1:]], axis=1))
    return np.ascontiguousarray(np.concatenate(found))


def _deviation(points: Float64Array) -> float:
    """Largest distance of points [N, 2] from the line through the first and the last."""
    along = points[-1] - points[0]
    length = float(np.hypot(*along))
    away = points - points[0]
    if length == 0:
        return float(np.hypot(*away.T).max())
    return float(np.abs(away[:, 0] * along[1] - away[:, 1] * along[0]).max()) / length


def signed_area(segments: Float64Array) -> float:
    """Area enclosed by directed segments (x0, y0, x1, y1) of closed polygons, holes subtracted (shoelace)."""
    x0, y0, x1, y1 = segments.T
    return float((x0 * y1 - x1 * y0).sum() / 2)


def _join(opened: BoolArray, across: BoolArray, down: BoolArray) -> tuple[IntArray, IntArray]:
    """Numbers of the crossings at which segments start and end; first all crossings `across`, then all `down`."""
    first_down = np.count_nonzero(across)
    number_across = np.cumsum(across).reshape(across.shape) - 1
    number_down = np.cumsum(down).reshape(down.shape) - 1 + first_down
    bits = opened.astype(np.int64)
    case = bits[:-1, :-1] + 2 * bits[:-1, 1:] + 4 * bits[1:, 1:] + 8 * bits[1:, :-1]
    j, i = np.nonzero((case > 0) & (case < 15))
    case = case[j, i]
    sides = np.stack([number_across[j, i], number_down[j, i + 1], number_across[j + 1, i], number_down[j, i]], axis=1)
    chosen = np.take_along_axis(sides, _SEGMENT[case], axis=1)
    saddles = [sides[case == which][:, pair] for which, pair in _SECOND.items()]
    chosen = np.concatenate([chosen, *saddles])
    return chosen[:, 0], chosen[:, 1]


def _bisect(aperture: Aperture, ends: Float64Array, first_open: BoolArray) -> Float64Array:
    """Where the opening begins between two points of which one is open: ends [E, 2, 2] -> [E, 2]."""
    bright = np.where(first_open[:, None], ends[:, 0], ends[:, 1])
    dark = np.where(first_open[:, None], ends[:, 1], ends[:, 0])
    for _ in range(_BISECTIONS):
        middle = (bright + dark) / 2
        is_open = _open(aperture, middle)[:, None]
        bright, dark = np.where(is_open, middle, bright), np.where(is_open, dark, middle)
    return (bright + dark) / 2


def _open(aperture: Aperture, s: Float64Array) -> BoolArray:
    """|s| <= 1 and inside(s), bool [N]; a lens point outside the disc is closed, and `inside` is not called for it."""
    result = np.einsum("ij,ij->i", s, s) <= 1.0
    result[result] = check_inside(aperture, s[result])
    return result

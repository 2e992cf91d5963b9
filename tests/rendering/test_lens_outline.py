"""The outline of an opening: area, holes, turn, closure, and openings that touch the rim or are hardly there.

Tolerances say the worst value seen here (x86-64, NumPy 2.4) and lie a little above it.
"""

import math
from collections import Counter

import numpy as np
import pytest

import bokehsynth as bs
from bokehsynth.errors import UsageError
from bokehsynth.rendering.aperture.outline import CELL, CELLS, signed_area, trace_outline
from bokehsynth.rendering.aperture.tables import LensTables


def opening(accepts, name="Opening"):
    """An aperture from a function of (x, y)."""
    return type(name, (bs.Aperture,), {"inside": lambda self, s: accepts(s[:, 0], s[:, 1])})()


def polygon_area(blades):
    return blades / 2 * math.sin(2 * math.pi / blades)


def lengths(segments):
    return np.hypot(segments[:, 2] - segments[:, 0], segments[:, 3] - segments[:, 1])


def loops(segments):
    """The closed polygons, each [M, 2], put together from their directed segments."""
    following = {tuple(segment[:2]): tuple(segment[2:]) for segment in segments}
    assert len(following) == len(segments), "no two segments start at one point"
    found = []
    while following:
        first = point = next(iter(following))
        loop = []
        while point in following:
            loop.append(point)
            point = following.pop(point)
        assert point == first, "closed"
        found.append(np.array(loop))
    return found


def enclosed(loop):
    return signed_area(np.concatenate([loop, np.roll(loop, -1, axis=0)], axis=1))


# ------------------------------------------------------------------------------------------------------------- areas


@pytest.mark.parametrize(
    ("aperture", "area", "tolerance"),
    [
        (bs.Disc(), math.pi, 5e-6),  # worst 4.6e-6: chords of one cell under the arc
        (bs.Ring(0.5), 0.75 * math.pi, 5e-6),  # worst 2.2e-9: the hole's chords make up for the rim's
        (bs.Ring(0.9), 0.19 * math.pi, 5e-6),  # worst 1.4e-6
        (bs.CatEye(0.7), math.pi, 5e-6),  # the pupil belongs to the field
        (bs.Polygon(5, 0.3, 1.0), math.pi, 5e-6),  # curvature 1 is the disc
        *[(bs.Polygon(n, turn), polygon_area(n), 2.8e-5) for n in (3, 4, 5, 7, 9) for turn in (0.0, 0.3, 1.0)],
        # worst 2.6e-5: a sharp corner in the middle of a cell is cut off
    ],
    ids=repr,
)
def test_the_area_is_the_closed_form(aperture, area, tolerance):
    assert signed_area(trace_outline(aperture)) == pytest.approx(area, rel=tolerance)


def test_an_opening_that_fills_the_disc_and_more_is_the_disc():
    """`inside` is not asked beyond the unit disc, whatever it would say there."""

    def accepts(x, y):
        assert np.hypot(x, y).max(initial=0) <= 1 + 1e-15
        return np.ones(len(x), bool)

    np.testing.assert_array_equal(trace_outline(opening(accepts)), trace_outline(bs.Disc()))


def test_corners_of_an_outline_lie_on_the_boundary():
    """Bisected to 1e-9, so every vertex does, not only on average."""
    radius = np.hypot(*trace_outline(bs.Disc())[:, :2].T)
    assert np.abs(radius - 1).max() < 5e-10  # worst 3.2e-10
    x, y = trace_outline(bs.Polygon(4, math.pi / 4))[:, :2].T  # sides parallel to the axes
    assert np.abs(np.maximum(np.abs(x), np.abs(y)) - math.sqrt(0.5)).max() < CELL, "corners are cut by one cell"
    on_a_side = np.minimum(np.abs(np.abs(x) - math.sqrt(0.5)), np.abs(np.abs(y) - math.sqrt(0.5)))
    assert on_a_side.max() < 5e-10


# ------------------------------------------------------------------------------------------------- turn, holes, closure

HOLES = opening(
    lambda x, y: (np.hypot(x - 0.4, y) > 0.25) & (np.hypot(x + 0.35, y + 0.3) > 0.15) & (np.hypot(x, y) <= 0.9)
)


def test_two_holes_are_two_loops_that_turn_the_other_way():
    areas = sorted(enclosed(loop) for loop in loops(trace_outline(HOLES)))
    assert areas == pytest.approx([-math.pi * 0.25**2, -math.pi * 0.15**2, math.pi * 0.81], rel=3e-4)  # worst 2.0e-4
    assert signed_area(trace_outline(HOLES)) == pytest.approx(math.pi * (0.81 - 0.0625 - 0.0225), rel=1e-5)


def test_separate_parts_are_separate_loops():
    two = opening(lambda x, y: (np.abs(np.abs(x) - 0.5) < 0.2) & (np.abs(y) < 0.3))
    areas = [enclosed(loop) for loop in loops(trace_outline(two))]
    assert areas == pytest.approx([0.24, 0.24], rel=1e-4)


CHEQUERED = opening(lambda x, y: np.sin(40 * x) * np.sin(40 * y) > 0)  # saddles: cells with two opposite open corners


@pytest.mark.parametrize(
    ("aperture", "wrong"),
    [(bs.Disc(), 0), (bs.Ring(0.3), 0), (bs.Polygon(5, 0.2), 0.005), (HOLES, 0), (CHEQUERED, 0.05)],
    ids=["disc", "ring", "pentagon", "holes", "chequered"],
)
def test_the_opening_lies_on_the_right_hand_and_every_polygon_is_closed(aperture, wrong):
    """Right-hand normal of (dx, dy) with y down: (-dy, dx). `wrong`: share of segments in cells that hold a corner."""
    segments = trace_outline(aperture)
    assert Counter(map(tuple, segments[:, :2])) == Counter(map(tuple, segments[:, 2:]))
    length = lengths(segments)
    assert length.min() > 0
    assert length.max() < 1.5 * CELL
    assert segments.flags.c_contiguous
    assert segments.dtype == np.float64
    straight = segments[length > CELL / 2]
    middle, along = (straight[:, :2] + straight[:, 2:]) / 2, straight[:, 2:] - straight[:, :2]
    right = np.stack([-along[:, 1], along[:, 0]], axis=1) / lengths(straight)[:, None]

    def lit(s):
        return (np.hypot(*s.T) <= 1) & aperture.inside(s)

    step = 0.15 * CELL
    assert (~lit(middle + step * right)).mean() <= wrong
    assert lit(middle - step * right).mean() <= wrong


def test_an_opening_that_touches_the_rim_is_cut_by_it():
    """A half disc and a strip through both rims: straight sides end on the circle, which closes them."""
    half = opening(lambda x, y: x > 0.1)
    segment = math.acos(0.1) - 0.1 * math.sqrt(1 - 0.01)
    (loop,) = loops(trace_outline(half))
    assert enclosed(loop) == pytest.approx(segment, rel=1e-5)  # worst 6e-6
    assert loop[:, 0].min() == pytest.approx(0.1, abs=1e-9)
    assert np.hypot(*loop.T).max() <= 1 + 1e-9
    strip = opening(lambda x, y: np.abs(y) <= 0.2)
    area = 2 * (math.asin(0.2) + 0.2 * math.sqrt(0.96))
    assert signed_area(trace_outline(strip)) == pytest.approx(area, rel=3e-5)  # worst 2.2e-5


def test_the_image_is_not_mirrored_or_turned():
    """Centroid of an off-centre disc from the segments: x to the right, y down."""
    x0, y0, x1, y1 = trace_outline(opening(lambda x, y: np.hypot(x - 0.5, y + 0.25) < 0.3)).T
    cross = x0 * y1 - x1 * y0
    centroid = ((x0 + x1) * cross).sum() / 3 / cross.sum(), ((y0 + y1) * cross).sum() / 3 / cross.sum()
    assert centroid == pytest.approx((0.5, -0.25), abs=1e-6)


# ------------------------------------------------------------------------------------------------------------ the rest


def test_the_same_aperture_gives_the_same_bytes():
    assert trace_outline(HOLES).tobytes() == trace_outline(HOLES).tobytes()


def test_a_symmetric_opening_has_a_symmetric_outline():
    points = {tuple(point) for point in trace_outline(bs.Ring(0.4))[:, :2] + 0.0}
    for mirror in ([-1, 1], [1, -1], [-1, -1]):
        assert {tuple(np.array(point) * mirror + 0.0) for point in points} == points


def test_an_opening_smaller_than_a_cell_may_be_missed_and_says_so_when_nothing_is_left():
    assert CELLS * CELL > 2
    with pytest.raises(UsageError, match="Speck lets no light through"):
        trace_outline(opening(lambda x, y: np.hypot(x - 0.0026, y - 0.0026) < 0.001, "Speck"))


@pytest.mark.parametrize(
    ("inside", "message"),
    [
        (lambda self, s: np.zeros(len(s), bool), "Wrong lets no light through"),
        (lambda self, s: np.hypot(*s.T) > 1, "Wrong lets no light through"),
        (lambda self, s: np.ones(len(s)), r"Wrong\.inside must return bool \[N\], got float64"),
        (lambda self, s: np.ones((len(s), 1), bool), r"Wrong\.inside must return bool \[N\], got bool \(\d+, 1\)"),
        (lambda self, s: np.True_, r"Wrong\.inside must return bool \[N\], got bool \(\)"),
    ],
)
def test_an_opening_without_light_or_sense(inside, message):
    with pytest.raises(UsageError, match=message):
        trace_outline(type("Wrong", (bs.Aperture,), {"inside": inside})())


def test_sets_of_rays_are_few():
    """Scenes of many blur radii share them: a set of all sides of its own for each would take 158 MB of a lens."""
    tables = LensTables(bs.Disc())
    sets = {id(tables.ray_sets_by_size(largest)): tables.ray_sets_by_size(largest) for largest in range(32, 66, 2)}
    assert len(sets) == 8
    assert all(len(tables.ray_sets_by_size(largest).spans) > largest for largest in (32, 40, 64))

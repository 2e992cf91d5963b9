"""From a scene's numbers to layers: synthetic pictures in an asset store of the test's own."""

import dataclasses
import math

import numpy as np
import pytest

import bokehsynth as bs
from bokehsynth.color import LUMINANCE
from bokehsynth.files import canonical_json
from bokehsynth.imaging.pictures import Cutout, Landscape
from bokehsynth.scene import SceneLens, compose, place
from bokehsynth.scene.draw import BackgroundDraw, FocusDraw, ForegroundDraw, SceneDraw
from bokehsynth.scene.place import ENLARGE_MAX, place_cutout, show_landscape, touching_sides

COLOR = np.array([0.9, 0.5, 0.2], np.float32)


def disc(size=200, radius=0.4, color=(1.0, 1.0, 1.0)) -> Cutout:
    """A disc on transparent black: the worst colour to leak in where alpha is soft."""
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    alpha = np.clip(radius * size - np.hypot(x, y) + 0.5, 0, 1).astype(np.float32)
    return Cutout(np.where(alpha[..., None] > 0, np.float32(color), np.float32(0)), alpha)


def block(*sides, size=(120, 90), inset=20, color=COLOR) -> Cutout:
    """An opaque block that reaches exactly the named sides of its picture."""
    alpha = np.zeros(size, np.float32)
    top, left = 0 if "top" in sides else inset, 0 if "left" in sides else inset
    bottom, right = (size[i] if side in sides else size[i] - inset for i, side in enumerate(("bottom", "right")))
    alpha[top:bottom, left:right] = 1
    return Cutout(np.broadcast_to(np.asarray(color, np.float32), (*size, 3)).copy(), alpha)


def ramp(size=(300, 400), low=0.1, high=0.9) -> Landscape:
    """Red grows to the right, green downwards, blue is constant."""
    color = np.empty((*size, 3), np.float32)
    color[..., 0] = np.linspace(low, high, size[1])
    color[..., 1] = np.linspace(low, high, size[0])[:, None]
    color[..., 2] = 0.5
    return Landscape(color)


class TestStore:
    """Gives the pictures it was made with, and remembers what size was asked for."""

    __test__ = False

    def __init__(self, **pictures) -> None:
        self.pictures, self.asked = pictures, {}

    def cutout(self, asset_id, longer_side):
        self.asked[asset_id] = longer_side
        return self.pictures[asset_id]

    def landscape(self, asset_id, shorter_side):
        self.asked[asset_id] = shorter_side
        return self.pictures[asset_id]


def background(**changes) -> BackgroundDraw:
    given = {"asset": "land", "flip": False, "exposure": 0.0, "zoom": 1.0, "u": 0.5, "v": 0.5, "plane": bs.Plane(0.1)}
    return BackgroundDraw(**(given | changes))


def foreground(**changes) -> ForegroundDraw:
    given = {"asset": "cut", "flip": False, "exposure": 0.0, "scale": 0.8, "rotation": 0.0, "x": 0.5, "bottom": 0.9}
    return ForegroundDraw(**(given | {"plane": bs.Plane(0.7)} | changes))


def scene(*foregrounds, **changes) -> SceneDraw:
    given = {
        "height": 96,
        "width": 128,
        "background": background(),
        "foregrounds": list(foregrounds),
        "focus": FocusDraw(on="disparity", disparity=0.1),
        "blur": 12.0,
        "blur_is": "K",
        "highlight_boost": 1.0,
        "light_match": 0.0,
    }
    return SceneDraw(**(given | changes))


def composed(draw, **pictures):
    store = TestStore(**({"land": ramp(), "cut": disc()} | pictures))
    return compose(draw, store, SceneLens())


# --- canvas, margin, lens


@pytest.mark.parametrize("blur_is", ["K", "largest_radius"])
@pytest.mark.parametrize("focus", [FocusDraw(on="disparity", disparity=0.0), FocusDraw(on="pixel", x=64, y=40)])
@pytest.mark.parametrize("gradient", [0.0, 0.002])
def test_canvas_is_the_picture_and_its_margins_and_the_renderer_takes_it(blur_is, focus, gradient):
    near, far = foreground(plane=bs.Plane(0.8, gradient, 0)), foreground(plane=bs.Plane(0.5), x=0.2)
    back = background(plane=bs.Plane(0.2, 0, gradient))
    result = composed(scene(near, far, background=back, focus=focus, blur_is=blur_is))
    assert len(result.layers) == 3
    for layer in result.layers:
        assert layer.shape == (96 + 2 * result.margin, 128 + 2 * result.margin)
    assert [layer.disparity for layer in result.layers] == [near.plane, far.plane, back.plane]
    frames = bs.render(result.layers, result.lens, result.margin, "cpu")
    assert frames.bokeh.shape == (96, 128, 3)
    assert np.isfinite(frames.bokeh).all()
    assert frames.coverage.min() == pytest.approx(1, abs=1e-6)  # the background reaches every ray
    assert np.isfinite(frames.all_in_focus).all()


def test_margin_is_not_wasteful():
    result = composed(scene(foreground()))
    needed = result.lens.margin([layer.disparity for layer in result.layers], 128, 96)
    assert result.margin == needed


def test_lens_has_the_drawn_numbers():
    lens = composed(scene(foreground(), blur=9.5)).lens
    assert (lens.blur, lens.focus) == (9.5, 0.1)
    lens = composed(scene(foreground(), blur=9.0, blur_is="largest_radius")).lens
    assert lens.blur * (0.7 - 0.1) == pytest.approx(9.0)


def test_blur_zero_needs_no_special_case():
    result = composed(scene(foreground(), blur=0.0))
    frames = bs.render(result.layers, result.lens, result.margin, "reference", samples=4)
    assert np.array_equal(frames.bokeh, frames.all_in_focus)


# --- focus


def test_focus_at_a_pixel_is_on_what_is_seen_there():
    """The disc covers the middle of the picture; its corner shows the background."""
    near, back = bs.Plane(0.7, 0.001, 0), bs.Plane(0.2, 0, 0.002)
    cut, land = foreground(plane=near, x=0.5, bottom=0.9), background(plane=back)
    for (x, y), plane in (((64, 48), near), ((70, 40), near), ((2, 3), back), ((127, 95), back)):
        result = composed(scene(cut, background=land, focus=FocusDraw(on="pixel", x=x, y=y)))
        assert result.lens.focus == pytest.approx(plane.at(x - 63.5, y - 47.5), abs=1e-12)
        frames = bs.render(result.layers, result.lens, result.margin)
        assert frames.defocus[y, x] == pytest.approx(0, abs=1e-4)


def test_focus_at_a_pixel_looks_through_thin_layers():
    """Two veils of alpha 0.3 leave 0.49 of the light: the second one is what is seen."""
    veil = Cutout(np.ones((50, 50, 3), np.float32), np.full((50, 50), 0.3, np.float32))
    first, second = (foreground(plane=bs.Plane(d), scale=1.2, bottom=1.1) for d in (0.8, 0.5))
    pixel = FocusDraw(on="pixel", x=64, y=48)
    assert composed(scene(first, focus=pixel), cut=veil).lens.focus == 0.1
    assert composed(scene(first, second, focus=pixel), cut=veil).lens.focus == 0.5


# --- cut-outs


def bounding_box(alpha, level=0.5):
    rows, columns = np.flatnonzero((alpha > level).any(axis=1)), np.flatnonzero((alpha > level).any(axis=0))
    return rows[0], rows[-1] + 1, columns[0], columns[-1] + 1


@pytest.mark.parametrize("scale", [0.3, 0.8, 1.7])
@pytest.mark.parametrize("picture", [(96, 128), (128, 96)])
@pytest.mark.parametrize("size", [60, 200])
def test_a_circle_stays_a_circle_of_the_drawn_size(scale, picture, size):
    draw = foreground(scale=scale, x=0.5, bottom=0.5 + scale / 2)  # its middle in the picture's
    _, alpha = place_cutout(disc(size), draw, *picture, margin=80)
    top, bottom, left, right = bounding_box(alpha)
    diameter = 0.8 * scale * min(picture)
    assert abs((bottom - top) - (right - left)) <= 1
    assert bottom - top == pytest.approx(diameter, abs=2)  # half a pixel at each edge, twice rounded
    assert alpha.sum() == pytest.approx(np.pi * diameter**2 / 4, rel=0.05)


@pytest.mark.parametrize("rotation", [-8.0, 8.0, 45.0, 90.0])
def test_rotation_is_clockwise_and_keeps_area(rotation):
    bar = np.zeros((160, 160), np.float32)
    bar[70:90, 20:140] = 1
    cutout = Cutout(np.ones((160, 160, 3), np.float32), bar)
    _, alpha = place_cutout(cutout, foreground(scale=1.25, rotation=rotation, bottom=1.125), 128, 128, margin=40)
    y, x = np.nonzero(alpha > 0.5)
    main = np.linalg.eigh(np.cov(x, y))[1][:, 1]
    angle = np.degrees(np.arctan2(main[1], main[0]))  # y points down: clockwise is positive
    assert abs((angle - rotation + 90) % 180 - 90) < 1
    assert alpha.sum() == pytest.approx(bar.sum(), rel=0.01)


@pytest.mark.parametrize("rotation", [0.0, 7.0, -33.0])
@pytest.mark.parametrize("scale", [0.25, 0.9, 1.4])
@pytest.mark.parametrize("size", [48, 200])
def test_no_fringe_dark_or_bright(rotation, scale, size):
    """A white disc on transparent black stays white wherever it is seen, enlarged, reduced or turned."""
    color, alpha = place_cutout(disc(size), foreground(scale=scale, rotation=rotation), 128, 128, margin=10)
    seen = alpha > 0.02
    assert seen.any()
    # Straight-alpha resampling would give 0.5 at the edge. Float rounding of a division by alpha is 1e-5 at most.
    assert color[seen].min() > 0.999
    assert color[seen].max() < 1.001
    assert alpha.min() >= 0
    assert alpha.max() <= 1


def test_color_of_a_cutout_is_kept():
    color, alpha = place_cutout(disc(200, color=COLOR), foreground(scale=0.5, rotation=5.0), 128, 128, margin=0)
    np.testing.assert_allclose(color[alpha > 0.99], np.broadcast_to(COLOR, color[alpha > 0.99].shape), atol=1e-3)


def test_lights_on_a_cutout_keep_their_power():
    cutout = disc(200, color=(8.0, 4.0, 2.0))
    color, alpha = place_cutout(cutout, foreground(scale=0.5), 128, 128, margin=0)
    np.testing.assert_allclose(color[alpha > 0.99].mean(axis=0), (8, 4, 2), rtol=1e-3)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize(("x", "bottom"), [(0.1, 0.88), (0.5, 1.12), (0.9, 1.0)])
@pytest.mark.parametrize("scale", [0.55, 0.95, 2.5])
@pytest.mark.parametrize("margin", [0, 7, 60])
@pytest.mark.parametrize(
    "sides",
    [("bottom",), ("left",), ("right",), ("top",), ("bottom", "left"), ("bottom", "right"), ("left", "right"),
     ("top", "bottom"), ("top", "left"), ("bottom", "left", "right"), ("top", "left", "right"),
     ("top", "bottom", "left"), ("top", "bottom", "left", "right")],
    ids="-".join,
)  # fmt: skip
def test_a_cut_side_is_never_seen(sides, margin, scale, x, bottom, flip):
    """Where the frame cuts a subject off, the subject reaches the canvas's side (or lies beyond it)."""
    draw = foreground(flip=flip, x=x, bottom=bottom, scale=scale)
    _, alpha = place_cutout(block(*sides), draw, 96, 128, margin)
    mirrored = {"left": "right", "right": "left"} if flip else {}
    edges = {"left": alpha[:, 0], "right": alpha[:, -1], "top": alpha[0], "bottom": alpha[-1]}
    for side in sides:
        assert edges[mirrored.get(side, side)].max() > 0.5, side
    if len(sides) == 4:
        assert alpha.min() > 0.99


def test_cut_subjects_are_not_turned():
    straight = place_cutout(block("bottom"), foreground(), 96, 128, 10)[1]
    turned = place_cutout(block("bottom"), foreground(rotation=8.0), 96, 128, 10)[1]
    assert np.array_equal(straight, turned)


def test_flip_mirrors():
    left = place_cutout(block("left"), foreground(), 96, 128, 10)[1]
    right = place_cutout(block("left"), foreground(flip=True), 96, 128, 10)[1]
    np.testing.assert_allclose(left[:, ::-1], right, atol=1e-5)  # OpenCV sums an area from left to right


def test_touching_sides():
    assert touching_sides(disc().alpha) == frozenset()
    for sides in ((), ("bottom",), ("left", "right"), ("top", "bottom", "left", "right")):
        assert touching_sides(block(*sides).alpha) == frozenset(sides)
    stray = block("bottom").alpha.copy()
    stray[:, 0][:3] = 1  # a hair's width on a side is no cut
    assert touching_sides(stray) == {"bottom"}
    twig = np.zeros((200, 200), np.float32)
    twig[90:94] = 1  # but what touches nothing else hangs by it
    twig[:, 100:] = 0
    assert touching_sides(twig) == {"left"}
    twig[91:] = 0
    assert touching_sides(twig) == frozenset()


@pytest.mark.parametrize("flip", [False, True])
def test_a_cutout_stands_where_it_was_drawn(flip):
    _, alpha = place_cutout(disc(), foreground(x=0.25, bottom=0.75, scale=0.5, flip=flip), 100, 200, margin=30)
    top, bottom, left, right = bounding_box(alpha)
    assert (left + right) / 2 - 30 == pytest.approx(0.25 * 200, abs=1)
    assert bottom - 30 == pytest.approx(0.75 * 100 - 0.1 * 50, abs=1)  # the disc ends 0.1 of its picture above the edge
    assert top < bottom


def test_a_cutout_beyond_the_canvas_is_an_empty_layer_not_an_error():
    color, alpha = place_cutout(disc(50), foreground(x=0.5, bottom=-3.0, scale=0.2), 64, 64, margin=4)
    assert not alpha.any()
    assert np.isfinite(color).all()


# --- backgrounds


@pytest.mark.parametrize(
    ("size", "zoom", "enlarged"),
    [
        ((300, 400), 1.0, 1.0),  # reduced
        ((96, 128), 1.0, 1.0),  # as it is
        ((96, 128), 1.25, 1.0),  # never enlarged for the sake of zoom
        ((64, 85), 1.0, 1.506),  # 128 / 85
        ((48, 64), 1.0, 2.0),
        ((30, 40), 1.0, 2.0),  # and mirrored
        ((7, 5), 1.25, 2.0),
        ((500, 40), 1.0, 2.0),
    ],
)
@pytest.mark.parametrize("flip", [False, True])
def test_landscape_covers_the_canvas_and_its_enlargement_is_bounded(size, zoom, enlarged, flip):
    picture = ramp(size).color
    shown, factor = show_landscape(picture, background(zoom=zoom, flip=flip, u=0.3, v=0.8), 96, 128)
    assert shown.shape == (96, 128, 3)
    assert shown.dtype == np.float32
    assert factor == pytest.approx(enlarged, rel=0.01)
    assert factor <= ENLARGE_MAX == 2.0
    # Every pixel comes from the picture: no black borders, no colours of its own (cubic rings by a few percent).
    assert shown.min() > 0.1 - 0.05
    assert shown.max() < 0.9 + 0.05


def test_what_a_small_landscape_lacks_is_mirrored():
    rng = np.random.default_rng(0)
    picture = rng.uniform(0.2, 0.8, (20, 30, 3)).astype(np.float32)
    shown, factor = show_landscape(picture, background(), 80, 60)
    assert factor == 2
    # 40 x 60 enlarged, in the middle of 80 rows; row 20 and row 59 are its first and last.
    for beyond in range(1, 20):
        np.testing.assert_array_equal(shown[20 - beyond], shown[20 + beyond])
        np.testing.assert_array_equal(shown[59 + beyond], shown[59 - beyond])


def test_landscape_keeps_its_aspect():
    """A disc drawn into a landscape is a disc on the canvas."""
    color = np.repeat(disc(240, radius=0.2).alpha[..., None], 3, axis=2)
    wide = np.pad(color, ((0, 0), (80, 80), (0, 0)))
    shown, _ = show_landscape(wide, background(), 120, 130)
    top, bottom, left, right = bounding_box(shown[..., 0])
    assert abs((bottom - top) - (right - left)) <= 1


def test_flip_and_place_of_a_landscape():
    picture = ramp((96, 256)).color
    first = show_landscape(picture, background(u=0.0), 96, 128)[0]
    last = show_landscape(picture, background(u=1.0), 96, 128)[0]
    np.testing.assert_allclose(first, picture[:, :128], atol=1e-6)
    np.testing.assert_allclose(last, picture[:, 128:], atol=1e-6)
    flipped = show_landscape(picture, background(u=0.0, flip=True), 96, 128)[0]
    np.testing.assert_allclose(flipped, picture[:, :127:-1], atol=1e-6)


def test_enlargement_is_recorded():
    result = composed(scene(foreground()), land=ramp((40, 50)))
    assert result.notes["background_enlarged"] == 2.0
    assert composed(scene(foreground())).notes["background_enlarged"] == 1.0
    canonical_json(result.notes)


def test_pictures_are_asked_for_large_enough():
    store = TestStore(land=ramp((300, 400)), cut=disc())
    result = compose(scene(foreground(scale=0.7)), store, SceneLens())
    canvas = result.layers[0].shape
    assert store.asked["cut"] >= round(0.7 * 96)
    assert store.asked["land"] >= max(canvas[0], canvas[1] * 3 // 4)


def test_a_cutout_that_covers_the_canvas_is_not_enlarged_from_a_small_one():
    """A fence is scaled up to the canvas's width, so it must be asked for at that size, or all-in-focus is soft."""

    class Exact(TestStore):
        def cutout(self, asset_id, longer_side):
            self.asked.setdefault(asset_id, []).append(longer_side)
            return block("left", "right", "top", "bottom", size=(longer_side, longer_side))

    store = Exact(land=ramp())
    result = compose(scene(foreground(scale=0.55)), store, SceneLens())
    # The store's pictures are square here; a margin of 1 px for rounding.
    assert max(store.asked["cut"]) >= max(result.layers[0].shape) - 1


# --- light


def test_lamps_get_their_light_back_and_nothing_else_does():
    lamps = np.zeros((300, 400, 3), np.float32)
    lamps[140:160, 190:210] = 0.5
    land = Landscape(np.full((300, 400, 3), 0.9, np.float32), lamps)
    cut = block(size=(100, 100), color=(1.0, 1.0, 1.0))
    boosted = composed(scene(foreground(), highlight_boost=6.0), land=land, cut=cut)
    plain = composed(scene(foreground()), land=land, cut=cut)
    # Reduced by area averaging, which keeps the patch's middle as it is: its own light and five times its lamp's.
    assert boosted.layers[1].color.max() == pytest.approx(0.9 + 5 * 0.5, rel=1e-4)
    assert boosted.layers[1].color.min() == pytest.approx(0.9, rel=1e-4)
    assert plain.layers[1].color.max() == pytest.approx(0.9, rel=1e-4)
    np.testing.assert_array_equal(boosted.layers[0].color, plain.layers[0].color)


def test_exposure_is_in_stops():
    plain = composed(scene(foreground()))
    brighter = composed(scene(foreground(exposure=1.0), background=background(exposure=-1.0)))
    np.testing.assert_allclose(brighter.layers[0].color, 2 * plain.layers[0].color, rtol=1e-6)
    np.testing.assert_allclose(brighter.layers[1].color, plain.layers[1].color / 2, rtol=1e-6)


@pytest.mark.parametrize("strength", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("stops", [-6.0, -1.0, 0.0, 1.0, 6.0])
def test_light_matching_goes_part_of_the_way_within_two_stops(strength, stops):
    """`stops`: how much brighter the background is."""
    cut = disc(color=(0.2, 0.2, 0.2))
    land = Landscape(np.full((300, 400, 3), 0.2 * 2**stops, np.float32))
    result = composed(scene(foreground(), light_match=strength), land=land, cut=cut)
    ((gain, *others),) = result.notes["light_gains"]
    assert others == pytest.approx([gain, gain], rel=1e-5), "grey light has no tint"
    assert 2.0**-2 <= gain <= 2.0
    if abs(strength * stops) <= 1 and 0.2 * 2**stops <= 1:  # brighter than white counts as white
        # The disc's soft rim darkens nothing: only where alpha is at least one half is measured.
        assert gain == pytest.approx(2 ** (strength * stops), rel=0.02)
    solid = result.layers[0].alpha > 0.99
    assert result.layers[0].color[solid].mean() == pytest.approx(0.2 * gain, rel=0.01)


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
def test_the_tint_of_the_background_falls_on_the_cutout_by_half_the_strength(strength):
    tint = np.array([1.3, 1.0, 0.7])
    light = 0.3 * tint / (tint @ LUMINANCE)  # luminance 0.3, as the grey cut-out
    land = Landscape(np.broadcast_to(light.astype(np.float32), (300, 400, 3)).copy())
    result = composed(scene(foreground(), light_match=strength), land=land, cut=disc(color=(0.3, 0.3, 0.3)))
    (gains,) = result.notes["light_gains"]
    expected = 2 ** np.clip(strength / 2 * np.log2(light / 0.3), -0.5, 0.5)
    assert gains == pytest.approx(list(expected), rel=0.02)


def test_light_matching_of_nothing_to_see_is_harmless():
    empty = Cutout(np.zeros((40, 40, 3), np.float32), np.zeros((40, 40), np.float32))
    black = Landscape(np.zeros((300, 400, 3), np.float32))
    result = composed(scene(foreground(), light_match=1.0), cut=empty, land=black)
    assert np.isfinite(result.notes["light_gains"]).all()
    frames = bs.render(result.layers, result.lens, result.margin)
    assert np.array_equal(frames.bokeh, np.zeros_like(frames.bokeh))


def test_light_of_a_small_cutout_is_its_own():
    """A matte of a few pixels is not judged by the black around it."""
    cut = disc(400, radius=0.02, color=(0.4, 0.4, 0.4))
    land = Landscape(np.full((300, 400, 3), 0.4, np.float32))
    result = composed(scene(foreground(scale=1.0), light_match=1.0), cut=cut, land=land)
    assert result.notes["light_gains"][0] == pytest.approx([1.0, 1.0, 1.0], rel=0.05)
    assert float(LUMINANCE @ np.full(3, 0.4, np.float32)) == pytest.approx(0.4, rel=1e-5)


# --- determinism


def test_same_draw_same_layers():
    draw = scene(foreground(rotation=4.0), foreground(plane=bs.Plane(0.4), x=0.2, flip=True), light_match=0.5)
    one, other = composed(draw), composed(dataclasses.replace(draw))
    for left, right in zip(one.layers, other.layers, strict=True):
        assert left.color.tobytes() == right.color.tobytes()
        assert left.alpha.tobytes() == right.alpha.tobytes()
    assert (one.lens, one.margin, one.notes) == (other.lens, other.margin, other.notes)


def test_pictures_of_the_assets_are_not_changed():
    land, cut = ramp(), disc()
    before = land.color.copy(), cut.color.copy(), cut.alpha.copy()
    composed(scene(foreground(exposure=1.0), highlight_boost=5.0, light_match=1.0), land=land, cut=cut)
    assert all(np.array_equal(a, b) for a, b in zip(before, (land.color, cut.color, cut.alpha), strict=True))


def test_no_foregrounds():
    result = composed(scene())
    assert len(result.layers) == 1
    assert result.notes["light_gains"] == []
    assert (result.layers[0].alpha == 1).all()


def placed_plainly(cutout: Cutout, draw: ForegroundDraw, height: int, width: int, margin: int) -> list[np.ndarray]:
    """What `place_cutout` promises, one whole array after the other; for cut-outs that touch no side."""
    premultiplied = np.dstack([cutout.color * cutout.alpha[..., None], cutout.alpha])
    premultiplied = np.ascontiguousarray(premultiplied[:, ::-1]) if draw.flip else premultiplied
    h, w = premultiplied.shape[:2]
    factor = math.ceil(draw.scale * min(height, width)) / max(h, w)
    sized = place._rotate(place._resize(premultiplied, round(h * factor), round(w * factor)), draw.rotation)
    h, w = sized.shape[:2]
    beside = 2 * max(h, w)
    canvas = np.zeros((height + 2 * (margin + beside), width + 2 * (margin + beside), 4), np.float32)
    top, left = round(margin + draw.bottom * height - h), round(margin + draw.x * width - w / 2)
    canvas[beside + top : beside + top + h, beside + left : beside + left + w] = sized
    canvas = canvas[beside:-beside, beside:-beside]
    color = np.maximum(canvas[..., :3], 0) / np.maximum(canvas[..., 3:], 1e-4)
    return [color, np.clip(canvas[..., 3], np.float32(0), np.float32(1))]


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize(
    ("scale", "rotation", "x", "bottom"),
    [(0.8, 0.0, 0.5, 0.9), (1.1, 7.0, 0.1, 1.2), (2.0, -12.0, 0.9, 0.3), (0.3, 3.0, 1.1, 0.2), (0.3, 0.0, 0.5, -0.3)],
    ids=["inside", "over a corner", "enlarged", "over a side", "beside the canvas"],
)
def test_placing_is_plain_arithmetic_to_the_last_bit(flip, scale, rotation, x, bottom):
    rng = np.random.RandomState(5)
    alpha = np.clip(rng.normal(0.5, 0.6, (90, 70)), 0, 1).astype(np.float32)
    alpha[:2] = alpha[-2:] = alpha[:, :2] = alpha[:, -2:] = 0
    cutout = Cutout((4 * rng.rand(90, 70, 3) ** 3).astype(np.float32), alpha)
    draw = foreground(flip=flip, scale=scale, rotation=rotation, x=x, bottom=bottom)
    found, plain = place_cutout(cutout, draw, 64, 80, 10), placed_plainly(cutout, draw, 64, 80, 10)
    assert [array.tobytes() for array in found] == [array.tobytes() for array in plain]
    assert found[1].any() == (bottom > 0)

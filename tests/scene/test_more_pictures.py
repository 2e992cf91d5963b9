"""Further pictures of one scene: which lens each has, and how far its rays go."""

import weakref

import numpy as np
import pytest
from PIL import Image

import bokehsynth as bs
from bokehsynth.errors import RecipeError, UsageError
from bokehsynth.generation import replay
from bokehsynth.generation.provenance import PIXELS, PIXELS_OF_HALVES, describe_machine
from bokehsynth.generation.replay import TEXEL
from bokehsynth.imaging.drawing import INK, blank, write_text
from bokehsynth.optics import Lens
from bokehsynth.pipeline import sample_from_draw
from bokehsynth.rendering import render
from bokehsynth.sample_draw import canvas_margin, draw_sample
from bokehsynth.scene.draw import STEEPEST
from bokehsynth.schema import DEFAULT_FIELDS

CAMERA = "camera: {focal_length_mm: 50, f_number: 2, near_m: 1.0%s}"
NO_BLUR = ["scene.blur={kind: uniform, low: 0.0, high: 32.0}", "scene.blur_is=K"]  # as in a recipe without either
DUAL = "views={kind: dual_pixel}"


def recipe(*lines):
    return bs.load_recipe("quickstart", ["size=32", "samples={train: 8}", *lines])


@pytest.mark.parametrize("more", ["source={focus: 0.9}", "views={kind: focal_stack, focus: [0, 0.9]}"])
def test_k_found_for_one_focus_does_not_blur_without_bound_at_another(more):
    made = recipe(more, "scene.foregrounds=0", "scene.blur=32")
    margins = [canvas_margin(made, draw_sample(made, index)) for index in range(8)]
    assert max(margins) <= made.radius_bound / (1 - STEEPEST) + 3  # rounded up, and two texels to interpolate


def test_a_stack_through_one_lens_has_one_k():
    made = recipe("views={kind: focal_stack, focus: [0, 0.5, 1]}", "scene.blur=32")
    meta = bs.make_sample(made, 2, backend="cpu").meta
    assert len(set(meta["view_blur"])) == 1
    assert meta["view_blur"][0] < meta["blur"]  # as this one's hq is focused nearer than the farthest plane


def test_two_sweeps_pair_every_opening_with_every_other():
    lists = ["lens={order: sweep, aperture: [disc, 'polygon:5']}"]
    made = recipe(*lists, "source={lens: {order: sweep, aperture: [disc, 'ring:0.5']}}", "samples={train: 4}")
    draws = [draw_sample(made, index) for index in range(4)]
    assert [(draw.aperture, draw.source.aperture) for draw in draws] == [(0, 0), (1, 0), (0, 1), (1, 1)]
    assert draws[0].scene == draws[1].scene != draws[2].scene


@pytest.mark.parametrize(("views", "part"), [
    ("ring:0.45", "view_22 of ring:0.45 gets no light"), ("ring:0.38", "view_22 of ring:0.38 gets almost no light"),
    ("polygon:3", "view_00 of polygon:3 gets no light"),
])  # fmt: skip
def test_parts_without_light_are_refused_before_anything_is_made(views, part):
    with pytest.raises(RecipeError, match=f"{part}.*lower count or raise softness"):
        recipe("views={kind: sub_apertures, count: 5}", f"lens.aperture=[disc, '{views}']")
    recipe("views={kind: sub_apertures, count: 3}", f"lens.aperture=[disc, '{views}']")


def test_pictures_of_an_opening_are_looked_at_once_they_are_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    picture = np.zeros((64, 64), np.uint8)
    picture[16:48, 2:8] = 255
    Image.fromarray(picture).save("left.png")
    with pytest.raises(RecipeError, match=r"right of image:left.png gets no light"):
        recipe(DUAL, "lens.aperture=image:left.png")


def test_views_of_a_camera_have_its_k_at_their_own_focus():
    made = recipe("views={kind: focal_stack, focus: [0.2, 1.0]}", f"lens={{{CAMERA % ''}}}", *NO_BLUR)
    meta = bs.make_sample(made, 0, backend="cpu").meta
    for blur, focus in zip(meta["view_blur"], meta["view_focus"], strict=True):
        camera = Lens.from_camera(
            focal_length_mm=50, f_number=2, focus_distance_m=1 / focus, sensor_width_mm=36, image_width_px=32, near_m=1
        )
        assert blur == pytest.approx(camera.blur)


@pytest.mark.parametrize(("more", "word"), [
    ("views={kind: focal_stack, count: 3}", "leave lens's focus_m out"),
    ("source={focus: layer}", "focus_m of lens"),
])  # fmt: skip
def test_a_camera_with_a_distance_in_focus_is_not_focused_elsewhere(more, word):
    with pytest.raises(RecipeError, match=word):
        recipe(more, f"lens={{{CAMERA % ', focus_m: 3.0'}}}", *NO_BLUR)


def test_the_lens_of_the_source_counts_for_the_revision_of_pixels():
    assert describe_machine("cpu", recipe("source={lens: 'cat_eye:0.8'}"))["pixels"] == PIXELS
    assert "pixels" not in describe_machine("cpu", recipe("source={lens: 'polygon:5'}"))


def test_halves_are_at_a_revision_of_their_own():
    """Pictures through halves were no shares of the whole's before; those of other views are what they were."""
    halves, others = "views={kind: dual_pixel}", "views={kind: focal_stack, count: 3}"
    assert describe_machine("cpu", recipe(halves))["pixels"] == PIXELS_OF_HALVES < PIXELS
    assert describe_machine("cpu", recipe(halves, "lens.aperture=cat_eye:0.8"))["pixels"] == PIXELS
    assert "pixels" not in describe_machine("cpu", recipe(others))


@pytest.mark.parametrize("section", ["lens", "source.lens"])
def test_files_of_a_lens_stay_beside_the_recipe_unless_set_names_them(section, tmp_path, monkeypatch):
    beside, here = tmp_path / "beside", tmp_path / "here"
    for level, folder in ((255, beside), (128, here)):
        folder.mkdir()
        Image.fromarray(np.full((16, 16), level, np.uint8)).save(folder / "iris.png")
    (beside / "mine.yaml").write_text(
        "name: mine\nsize: 32\nsamples: {train: 1}\nassets: {foregrounds: [procedural], backgrounds: [procedural]}\n"
        "lens: {aperture: {kind: image, file: iris.png}}\nsource: {lens: {aperture: {kind: image, file: iris.png}}}\n"
    )
    monkeypatch.chdir(here)

    def pictures(*overrides):
        made = bs.load_recipe(beside / "mine.yaml", overrides)
        return {name: lens.aperture.data for name, lens in zip(("lens", "source.lens"), made.lenses, strict=True)}

    unset = pictures()
    assert pictures(f"{section}.order=sweep", "source.focus=layer", "lens.aperture.kind=image") == unset
    moved = pictures(f"{section}.aperture=image:iris.png")
    assert {name for name in moved if moved[name] != unset[name]} == {section}
    assert (
        pictures(f"{section}.aperture.file=iris.png") == pictures(f"{section}={{aperture: 'image:iris.png'}}") == moved
    )


def test_fields_that_are_given_are_stored_even_if_they_are_the_default_ones():
    source = "source={focus: layer}"
    assert recipe(source).shards.fields == [*DEFAULT_FIELDS, "source"]
    given = recipe(source, f"shards.fields=[{', '.join(DEFAULT_FIELDS)}]")
    assert given.shards.fields == list(DEFAULT_FIELDS)
    assert given.more_pictures == ["source"]  # lq starts from it all the same
    with pytest.raises(RecipeError, match="stores none of the views"):
        recipe(DUAL, f"shards.fields=[{', '.join(DEFAULT_FIELDS)}]")


def test_no_set_is_begun_that_readers_would_refuse():
    with pytest.raises(RecipeError, match=r"readers take at most 1.6; name fewer of the views"):
        recipe("views={kind: sub_apertures, count: 5}", "size=5000")
    recipe("views={kind: sub_apertures, count: 5}", "size=5000", "shards.fields=[view_22]")


def test_frames_of_one_picture_are_gone_before_the_next_is_made():
    made = recipe("views={kind: sub_apertures, count: 2}", "source={focus: layer}")
    alive = []

    def render_scene(scene):
        assert sum(frames() is not None for frames in alive) <= 1  # those of hq
        frames = render(scene.layers, scene.lens, scene.margin, "cpu")
        alive.append(weakref.ref(frames))
        return frames

    sample = sample_from_draw(made, draw_sample(made, 0), render_scene)
    assert len(alive) == 6 == 1 + len(made.more_pictures)
    assert {"source", "view_00", "view_11"} < set(sample.arrays)


def test_replay_of_strangers_counts_further_pictures(monkeypatch):
    made = recipe("views={kind: sub_apertures, count: 2}", "scene.blur=0")
    draw = draw_sample(made, 0)
    margin, layers = canvas_margin(made, draw), len(draw.scene.planes)
    canvas = (32 + 2 * margin) ** 2 * layers * TEXEL
    monkeypatch.setattr(replay, "LAYER_BYTES", canvas + 32 * 32 * 3 * 4)
    replay.check_size(made, draw, "train-000000000")
    monkeypatch.setattr(replay, "LAYER_BYTES", canvas + 32 * 32 * 3 * 4 - 1)
    with pytest.raises(UsageError, match="and 4 further pictures take"):
        replay.check_size(made, draw, "train-000000000")


def test_a_long_text_costs_no_more_than_a_sheet_is_wide():
    short = write_text(blank(24, 200), [(0, 0, "W" * 200, 13, INK)])
    drawn = []

    class Pen:
        def text(self, place, text, **how):
            drawn.append(text)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bokehsynth.imaging.drawing.ImageDraw.Draw", lambda canvas: Pen())
        write_text(blank(24, 200), [(0, 0, "W" * 200_000, 13, INK)])
    assert drawn == ["W" * 200]
    np.testing.assert_array_equal(write_text(blank(24, 200), [(0, 0, "W" * 200_000, 13, INK)]), short)

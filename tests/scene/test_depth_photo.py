"""Photographs with a disparity map: surfaces, slices, and what becomes of edges, rims and lamps."""

import numpy as np
import pytest

import bokehsynth as bs
from bokehsynth.assets.load.highlights import recover_lamps
from bokehsynth.scene.depth_photo import cut_photo, slice_levels
from bokehsynth.scene.depth_surfaces import separate_surfaces

SIZE = (96, 128)
NEAR, FAR = 0.9, 0.1


def two_planes(edge: float = 60.3) -> tuple[np.ndarray, np.ndarray]:
    """A red wall on the left before a grey one, the mixed pixel between them as a camera sees it; and its map."""
    x = np.arange(SIZE[1])
    alpha = np.clip(edge - x + 0.5, 0, 1)[None, :, None].repeat(SIZE[0], axis=0)
    photo = alpha * [0.6, 0.1, 0.05] + (1 - alpha) * [0.4, 0.4, 0.4]
    disparity = np.where(alpha[..., 0] > 0.5, NEAR, FAR)
    return photo.astype(np.float32), disparity.astype(np.float32)


def dark_subject(step: float, size: tuple[int, int] = (16, 48)) -> tuple[np.ndarray, np.ndarray]:
    """A dark subject at 0.5 in the middle columns, before a bright wall `step` behind it; the map spans 0..1."""
    x = np.arange(size[1])
    inside = np.broadcast_to(abs(x - (size[1] - 1) / 2) < size[1] / 4, size)
    photo = np.where(inside, 0.05, 0.8)[..., None].repeat(3, axis=2)
    disparity = np.where(inside, 0.5, 0.5 - step)
    disparity[0, [0, -1]] = 0, 1
    return photo.astype(np.float32), disparity.astype(np.float32)


def seen(photo: np.ndarray, disparity: np.ndarray, lens: bs.Lens) -> np.ndarray:
    return cut_photo(photo, disparity, [lens]).render(lens, "cpu").bokeh


def test_surfaces_mix_to_the_photograph() -> None:
    photo, disparity = two_planes()
    surfaces = separate_surfaces(photo, disparity, 20)
    alpha = surfaces.alpha[..., None]
    mixed = np.where(surfaces.hidden[..., None], alpha * surfaces.color + (1 - alpha) * surfaces.hidden_color, photo)
    np.testing.assert_allclose(mixed, photo, atol=1e-5)
    assert abs(surfaces.alpha[48, 60] - 0.8) < 0.15  # the wall's share, which the map calls 1; 0.7: judged in sRGB
    np.testing.assert_allclose(surfaces.hidden_color[48, 50], [0.4] * 3, atol=0.02)
    assert not surfaces.hidden[48, 30]
    assert surfaces.hidden_disparity[48, 50] == pytest.approx(FAR)


def test_what_is_in_front_becomes_transparent_at_its_rim() -> None:
    """The rim of a near edge is the integral of the disc across it, before a wall that is as sharp as it was."""
    photo, disparity = two_planes()
    photo[40:44, 70:90] = 0.02
    radius = 10.0
    lens = bs.Lens(radius / (NEAR - FAR), FAR)
    made = seen(photo, disparity, lens)
    np.testing.assert_allclose(made[:, 72:], photo[:, 72:], atol=2e-3)  # beyond the rim nothing has changed
    t = (np.arange(51, 70) - 60.3 + 0.5 - 0.5) / radius
    share = (np.arccos(t) - t * np.sqrt(1 - t * t)) / np.pi
    expected = share * 0.05 + (1 - share) * 0.4
    np.testing.assert_allclose(made[20, 51:70, 2], expected, atol=0.05)  # worst 0.039: the matte is off by a tenth


def test_a_sharp_subject_keeps_its_edge_and_lends_no_light() -> None:
    photo, disparity = two_planes()
    made = seen(photo, disparity, bs.Lens(20, NEAR))
    np.testing.assert_allclose(made[:, :60], photo[:, :60], atol=2e-3)
    np.testing.assert_allclose(made[:, 62:], photo[:, 62:], atol=5e-3)  # no red in the grey wall


@pytest.mark.parametrize("step", [0.12, 0.16, 0.18, 0.21, 0.24])
def test_nothing_shines_through_whatever_lies_how_far_behind(step: float) -> None:
    """The middle of a sharp subject stays dark, and so does what is out of focus where its blur does not reach."""
    photo, disparity = dark_subject(step)
    sharp = seen(photo, disparity, bs.Lens(24, 0.5))
    assert sharp[4:, 17:31].max() < 0.06  # 0.23 where a wall 0.16 behind was hidden by two thirds; 0.0501 now
    blurred = seen(photo, disparity, bs.Lens(24, 0.5 - step))
    assert blurred[8:, 20:28].max() < 0.06


class WidePupil(bs.Disc):
    """A disc whose rays go half as far again."""

    extent = 1.5


def test_what_rays_past_the_rim_reach_is_not_opaque() -> None:
    photo, disparity = dark_subject(0.5)
    blur = 10.0
    for aperture, reach in ((bs.Disc(), 5 + 1.5), (WidePupil(), 7.5 + 1.5)):
        lens = bs.Lens(blur, 0, aperture)
        cut = cut_photo(photo, disparity, [lens])
        solid = cut._solid(lens, np.abs(disparity) * np.float32(blur))[8, 12:24] > 0  # from the subject's left rim
        assert int(solid.argmax()) == pytest.approx(reach, abs=1), aperture


def test_a_smooth_ramp_has_no_seams_and_nothing_shines_through() -> None:
    """Black ground that comes nearer stays black, and white stays white, beside a bright edge."""
    ramp = np.linspace(0.2, 0.8, SIZE[0], dtype=np.float32)[:, None].repeat(SIZE[1], axis=1)
    ramp[:, 100:] = 0
    photo = np.zeros((*SIZE, 3), np.float32)
    photo[:, 100:] = 0.8
    made = seen(photo, ramp, bs.Lens(14, 0.5))
    assert made[:, :85].max() < 2e-3
    white = np.full_like(photo, 0.5)
    np.testing.assert_allclose(seen(white, ramp, bs.Lens(14, 0.5)), white, atol=1e-4)


@pytest.mark.parametrize("aperture", [bs.Ring(0.5), bs.CatEye(0.9), bs.Polygon(5)], ids=["ring", "cat_eye", "polygon"])
def test_a_lamp_draws_the_aperture(aperture: bs.Aperture) -> None:
    photo = np.zeros((*SIZE, 3), np.float32)
    photo[20, 20] = 400
    disparity = np.full(SIZE, FAR, np.float32)
    disparity[70:] = NEAR
    lens = bs.Lens(15, NEAR, aperture)
    canvas = np.pad(photo, ((15, 15), (15, 15), (0, 0)))
    alone = bs.render([bs.Layer(canvas, np.ones(canvas.shape[:2]), bs.Plane(FAR))], lens, 15, backend="cpu").bokeh
    np.testing.assert_allclose(seen(photo, disparity, lens)[2:50], alone[2:50], atol=0.02)


def test_falloff_darkens_as_the_renderer_does() -> None:
    white = np.ones((*SIZE, 3), np.float32)
    lens = bs.Lens(15, NEAR, bs.CatEye(0.9), falloff=True)
    canvas = np.ones((SIZE[0] + 30, SIZE[1] + 30, 3), np.float32)
    expected = bs.render([bs.Layer(canvas, canvas[..., 0], bs.Plane(FAR))], lens, 15, backend="cpu").bokeh
    assert expected.min() < 0.9
    np.testing.assert_allclose(seen(white, np.full(SIZE, FAR, np.float32), lens), expected, atol=1e-5)


def test_levels_are_dense_in_focus_and_reach_both_ends() -> None:
    levels = slice_levels(60, (0.3, 0.3), (0.0, 1.0))
    assert levels[[0, -1]].tolist() == [0, 1]
    assert np.float32(0.3) in levels
    gaps = np.diff(levels)
    assert 0 < gaps.min() <= gaps.max() <= 0.0401
    assert gaps[np.searchsorted(levels, 0.31)] == pytest.approx(1 / 60, abs=1e-4)


def test_falloff_of_a_flat_map_in_focus() -> None:
    """A lens that asks for no canvas beyond the photograph still darkens its corners."""
    white, lens = np.ones((16, 24, 3), np.float32), bs.Lens(24, 0, bs.CatEye(0.9), falloff=True)
    left = cut_photo(white, np.zeros((16, 24), np.float32), [lens])._falloff(lens, "cpu")
    assert left[0, 0].max() < 0.9 < left[8, 12].min()


@pytest.mark.parametrize("blur", [0, 1, 8, 24, 30, 60, 100, 4096])
def test_levels_are_strictly_ascending_whatever_the_focus(blur: float) -> None:
    """Sums of steps miss the ends by rounding, and a focus may lie beside one."""
    ranges = [(round(i / 100, 2),) * 2 for i in range(101)]
    ranges += [(0.2, 0.6), (0.5, 0.50000001), (0.5, 0.5 + 1e-6), (0.0, 1.0), (1e-9, 1e-9), (0.3, 0.1 + 0.2)]
    for focuses in ranges:
        levels = slice_levels(blur, focuses, (0.0, 1.0))
        assert np.diff(levels).min() > 0, focuses
        assert abs(levels[[0, -1]] - [0, 1]).max() < 5e-4, focuses
        assert abs(levels - np.float32(focuses[0])).min() < 1e-6, focuses


def test_a_focus_beside_a_level_renders() -> None:
    """0.44 at K = 24 is one of those whose steps ended beside 0."""
    wall = np.full((16, 24, 3), 0.3, np.float32)
    ramp = np.linspace(0, 1, 24, dtype=np.float32)[None].repeat(16, axis=0)
    np.testing.assert_allclose(seen(wall, ramp, bs.Lens(24, 0.44)), wall, atol=1e-4)


@pytest.mark.parametrize("size", [(16, 16), (17, 40)])
@pytest.mark.parametrize("blur", [0.0, 0.3, 100.0])
def test_flat_and_noisy_maps_of_any_size(size: tuple[int, int], blur: float) -> None:
    """A flat wall stays what it is under any map and blur; no pixel is left without light."""
    rng = np.random.default_rng(1)
    wall = np.full((*size, 3), 0.3, np.float32)
    for disparity in (np.zeros(size, np.float32), rng.random(size, np.float32)):
        np.testing.assert_allclose(seen(wall, disparity, bs.Lens(blur, 0.5)), wall, atol=1e-3)


def test_a_pull_with_a_huge_blur_has_a_bounded_number_of_slices() -> None:
    assert len(slice_levels(4096, (0.0, 1.0), (0.0, 1.0))) <= 257


@pytest.mark.parametrize(("size", "blur"), [((5000, 9000), 24.0), ((16, 24), 8192.0)])
def test_what_takes_too_much_memory_is_refused_before_it_is_taken(size: tuple[int, int], blur: float) -> None:
    photo, disparity = np.broadcast_to(np.float32(0), (*size, 3)), np.broadcast_to(np.float32(1), size)
    with pytest.raises(bs.UsageError, match=r"takes about \d+\.\d GB of memory, more than 10 GB"):
        cut_photo(photo, disparity, [bs.Lens(blur, 0.0)])


def test_lamps_are_what_all_channels_clip_in_the_dark() -> None:
    """A blue lake that one channel clips is as bright as it looks, and so is a white wall."""
    night = np.full((256, 384, 3), 0.01, np.float32)
    night[40:44, 50:54] = 1
    night[150:220, 20:200] = [0.1, 0.3, 1.0]
    lamps = recover_lamps(night)
    assert lamps is not None
    assert lamps[41, 51].min() > 0.25
    assert lamps[150:].max() == 0
    night[:, 200:] = 1
    wall = recover_lamps(night)
    assert wall is None or wall[:, 260:].max() < 1e-3

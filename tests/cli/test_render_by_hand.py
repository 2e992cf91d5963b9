"""`bokehsynth render`: cut-outs and a background, or a photograph and its map, given by hand."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from support import photo_folders as folders

import bokehsynth as bs
from bokehsynth.cli.render import render as command
from bokehsynth.color import encode_8bit
from bokehsynth.imaging.write_image import check_name, save_color, save_map


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """wall.png, near.png and middle.png (cut-outs), depth.png, no.png without transparency."""
    root = tmp_path_factory.mktemp("hand")
    folders.save(root / "wall.png", folders.photo(1, 80, 120))
    folders.save(root / "near.png", folders.cutout(2, 60, 50))
    folders.save(root / "middle.png", folders.cutout(3, 60, 50))
    ramp = np.linspace(0, 65535, 120).astype(np.uint16)[None].repeat(80, axis=0)
    folders.save(root / "depth.png", ramp)
    return root


def run(*arguments: object) -> str:
    done = CliRunner().invoke(command, [str(a) for a in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def fails(*arguments: object) -> str:
    result = CliRunner().invoke(command, [str(a) for a in arguments])
    assert isinstance(result.exception, bs.BokehsynthError), result.output
    assert result.exception.exit_code == 2
    return str(result.exception)


def test_what_is_in_focus_is_the_file_and_the_rest_is_blurred(files: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.png"
    text = run("--background", files / "wall.png", "--foreground", f"{files / 'near.png'}:0.8,scale=0.6", "--blur", 20,
               "--out", out, "--maps")  # fmt: skip
    assert "focus 0.800, largest radius 16.0 px" in text
    made, aif = folders.load(out), folders.load(tmp_path / "out_aif.png")
    defocus = cv2.imread(str(tmp_path / "out_defocus.png"), cv2.IMREAD_UNCHANGED)
    disparity = cv2.imread(str(tmp_path / "out_disparity.png"), cv2.IMREAD_UNCHANGED)
    subject = cv2.erode((disparity > 40000).astype(np.uint8), np.ones((5, 5))) > 0
    assert set(np.unique(defocus)) == {0, 1600}
    assert set(np.unique(disparity)) == {0, round(0.8 * 65535)}
    assert subject.sum() > 300
    np.testing.assert_array_equal(made[subject], aif[subject])
    assert made[:, :30].std() < 0.8 * aif[:, :30].std()
    np.testing.assert_array_equal(aif[:5], folders.load(files / "wall.png")[:5])  # the background keeps its framing


def test_no_blur_is_the_composite_bit_for_bit(files: Path, tmp_path: Path) -> None:
    run("--background", files / "wall.png", "--blur", 0, "--out", tmp_path / "o.png")
    np.testing.assert_array_equal(folders.load(tmp_path / "o.png"), folders.load(files / "wall.png"))


def test_the_nearer_covers_the_farther_whatever_the_order(files: Path, tmp_path: Path) -> None:
    near, middle = f"{files / 'near.png'}:0.9,x=0.5", f"{files / 'middle.png'}:0.4,x=0.6"
    for name, first, second in (("a", near, middle), ("b", middle, near)):
        run("--background", files / "wall.png", "--foreground", first, "--foreground", second, "--focus", 0.9,
            "--out", tmp_path / f"{name}.png")  # fmt: skip
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_focus_at_a_pixel(files: Path, tmp_path: Path) -> None:
    common = (
        "--background",
        files / "wall.png",
        "--foreground",
        f"{files / 'near.png'}:0.8",
        "--out",
        tmp_path / "o.png",
    )
    assert "focus 0.800" in run(*common, "--focus-at", "60,60")
    assert "focus 0.100" in run(*common, "--focus-at", "3,3", "--background-disparity", 0.1)
    assert "outside the picture of 120 x 80" in fails(*common, "--focus-at", "120,3")


def test_a_tilted_background_begins_at_nothing(files: Path, tmp_path: Path) -> None:
    run("--background", files / "wall.png", "--tilt", 0.4, "--blur", 0, "--out", tmp_path / "o.png", "--maps")
    disparity = cv2.imread(str(tmp_path / "o_disparity.png"), cv2.IMREAD_UNCHANGED)
    assert disparity[0].max() == 0
    assert disparity[-1].min() == round(0.4 * 65535)


def test_tilt_is_seen_in_the_map(files: Path, tmp_path: Path) -> None:
    run("--background", files / "wall.png", "--background-disparity", 0.3, "--tilt", "0.2:90", "--focus", 0.3,
        "--out", tmp_path / "o.npy", "--maps")  # fmt: skip
    disparity = np.load(tmp_path / "o_disparity.npy")
    np.testing.assert_allclose(disparity[[0, -1], 7], [0.2, 0.4], atol=1e-6)
    np.testing.assert_allclose(np.load(tmp_path / "o_defocus.npy"), 24 * np.abs(disparity - 0.3), atol=1e-5)


def test_blur_does_not_move_what_a_side_cuts_off(files: Path, tmp_path: Path) -> None:
    """In focus, a cut-out looks the same whatever the blur of the rest asks for beyond the borders."""
    cut = folders.cutout(2, 60, 50)
    cut[-12:, :, 3] = 255  # its lower side cuts it off
    folders.save(tmp_path / "cut.png", cut)
    for blur in (2, 40):
        run("--background", files / "wall.png", "--foreground", f"{tmp_path / 'cut.png'}:0.9,x=0.4", "--focus", 0.9,
            "--blur", blur, "--out", tmp_path / f"{blur}.npy", "--maps")  # fmt: skip
    np.testing.assert_array_equal(np.load(tmp_path / "2_aif.npy"), np.load(tmp_path / "40_aif.npy"))
    assert np.load(tmp_path / "40_disparity.npy")[-1].max() == np.float32(0.9)


def test_a_pull_is_its_pictures_one_after_the_other(files: Path, tmp_path: Path) -> None:
    """The first and the last frame of a focus pull are the pictures of these lenses, in GIF's colours."""
    import imageio.v2 as imageio

    common = ("--photo", files / "wall.png", "--disparity", files / "depth.png", "--size", "61x41")
    assert "3 frames" in run(*common, "--focus", "0.1..0.9", "--blur", 8, "--frames", 3, "--out", tmp_path / "a.gif")
    run(*common, "--focus", 0.9, "--blur", 8, "--out", tmp_path / "last.png")
    shown = np.array([np.asarray(frame)[..., :3] for frame in imageio.mimread(tmp_path / "a.gif")])
    assert shown.shape == (3, 41, 61, 3)
    last = folders.load(tmp_path / "last.png").astype(int)
    assert np.abs(shown[2] - last).mean() < 3 < np.abs(shown[0] - last).mean()
    run(*common, "--focus", 0.5, "--blur", "0..9", "--frames", 2, "--out", tmp_path / "b.mp4")
    assert [np.asarray(f).shape for f in imageio.get_reader(tmp_path / "b.mp4")] == [(40, 60, 3)] * 2
    for arguments, words in (
        (("--focus", "0.1..0.9", "--out", tmp_path / "o.png"), "end in .gif or .mp4"),
        (("--focus", "0..1", "--fps", 60, "--out", tmp_path / "o.gif"), "at most 50 frames per second, got 60"),
        (("--focus", "0..1", "--bits", 16, "--out", tmp_path / "o.gif"), "--bits belong to a PNG"),
        (("--focus", 0, "--fps", 8, "--out", tmp_path / "o.png"), "--fps needs what changes"),
        (("--focus", "0..1", "--out", tmp_path), "end in .gif or .mp4"),
        (("--focus", "0.1", "--out", tmp_path / "o.gif"), "must end in .png"),
        (("--focus", "0..2", "--out", tmp_path / "o.gif"), "0..1, got 0..2"),
        (("--focus", "0..1", "--frames", 1, "--out", tmp_path / "o.gif"), "2..1000, got 1"),
        (("--focus", "0..x", "--out", tmp_path / "o.gif"), "A..B for a pull; got '0..x'"),
        (("--focus", 1, "--frames", 3, "--out", tmp_path / "o.png"), "needs what changes"),
    ):
        assert words in fails(*common, *arguments)


def test_a_pull_that_cannot_be_written_is_told_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import imageio_ffmpeg

    def no_program() -> str:
        raise RuntimeError("No ffmpeg exe could be found")

    pull = ("--photo", tmp_path / "gone.jpg", "--disparity", tmp_path / "gone.png", "--focus", "0..1", "--out")
    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", no_program)
    assert "MP4 needs imageio with ffmpeg" in fails(*pull, tmp_path / "o.mp4")
    (tmp_path / "o.gif").mkdir()
    assert "is a folder" in fails(*pull, tmp_path / "o.gif")
    refused = CliRunner().invoke(command, [str(a) for a in (*pull, "/proc/o.gif")])
    assert isinstance(refused.exception, bs.StorageError), refused.output


def test_maps_that_do_not_fit_are_told_before_the_first_file(files: Path, tmp_path: Path) -> None:
    wide = ("--background", files / "wall.png", "--size", "16x16", "--focus", 1, "--blur", 700)
    assert "o_defocus.png: 700 does not fit 16 bits" in fails(*wide, "--out", tmp_path / "o.png", "--maps")
    assert not list(tmp_path.iterdir())


def test_without_blur_a_photograph_by_night_is_its_file(files: Path, tmp_path: Path) -> None:
    """Lamps are brighter only in what is blurred."""
    night = np.full((80, 120, 3), 30, np.uint8)
    night[40:42, 50:52] = 235
    night[20:22, 30:32] = 255
    folders.save(tmp_path / "night.png", night)
    common = ("--photo", tmp_path / "night.png", "--disparity", files / "depth.png", "--focus", 1, "--maps", "--out")
    run(*common, tmp_path / "o.png", "--blur", 0)
    run(*common, tmp_path / "far.png", "--blur", 6)
    run(*common, tmp_path / "dim.png", "--blur", 6, "--boost", 1)
    for name in ("o", "o_aif", "far_aif"):
        np.testing.assert_array_equal(folders.load(tmp_path / f"{name}.png"), night)
    assert folders.load(tmp_path / "far.png").max() > 1.5 * folders.load(tmp_path / "dim.png").max()


@pytest.mark.long  # a prescription's tables take ten seconds to trace
def test_a_photo_through_a_prescription(files: Path, tmp_path: Path) -> None:
    common = ("--photo", files / "wall.png", "--disparity", files / "depth.png", "--focus", 0.5, "--size", "48x32")
    out = tmp_path / "o.png"
    assert "focus 0.500" in run(*common, "--prescription", "tessar-1903-f5.5", "--near-m", 1, "--out", out)
    assert folders.load(out).shape == (32, 48, 3)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--prescription", "tessar-1903-f5.5"), "needs --near-m"),
        (("--prescription", "tessar-1903-f5.5", "--near-m", 1, "--blur", 3), "has its own blur"),
        (("--f-number", 4), "belongs to a --prescription"),
        (("--prescription", "tessar-1903-f5.5", "--near-m", 0), "--near-m must be above 0"),
        (("--prescription", "tesar", "--near-m", 1), "no lens is named 'tesar'"),
    ],
)
def test_mistakes_with_a_prescription_are_told(files: Path, arguments: tuple[object, ...], words: str) -> None:
    common = ("--photo", files / "wall.png", "--disparity", files / "depth.png", "--focus", 0.5)
    assert words in fails(*common, *arguments, "--out", files / "o.png")


def test_photo_with_a_map_is_blurred_by_it(files: Path, tmp_path: Path) -> None:
    """The map's scale does not matter; where it equals the focus, the photograph stays."""
    out = tmp_path / "o.exr"
    run("--photo", files / "wall.png", "--disparity", files / "depth.png", "--focus-at", "60,40", "--blur", 12,
        "--out", out, "--maps")  # fmt: skip
    import OpenEXR

    def channels(name: str) -> np.ndarray:
        held = OpenEXR.File(str(tmp_path / name)).channels()
        return next(iter(held.values())).pixels

    photo = bs.srgb_to_linear(folders.load(files / "wall.png"))
    np.testing.assert_allclose(channels("o_aif.exr"), photo, atol=1e-6)
    disparity, defocus, made = channels("o_disparity.exr"), channels("o_defocus.exr"), channels("o.exr")
    np.testing.assert_allclose(disparity[5], np.linspace(0, 1, 120), atol=1e-3)
    np.testing.assert_allclose(defocus, 12 * np.abs(disparity - disparity[40, 60]), atol=1e-4)
    error = np.abs(made - photo).mean(axis=(0, 2))
    assert error[58:63].max() < 0.3 * error[[0, 1, -2, -1]].min()


def test_a_map_may_have_any_scale_and_offset_at_any_size(files: Path, tmp_path: Path) -> None:
    """Two planes stay two planes, without a rim beside their edge, and values below 0 are values."""
    plane = np.where(np.arange(60) < 30, 1.0, 3.0)[None].repeat(40, axis=0).astype(np.float32)
    for name, values in (("positive", plane), ("negative", plane - 7)):
        np.save(tmp_path / f"{name}.npy", values)
        run("--photo", files / "wall.png", "--disparity", tmp_path / f"{name}.npy", "--focus", 1, "--blur", 0,
            "--size", "240x160", "--out", tmp_path / "o.npy", "--maps")  # fmt: skip
        disparity = np.load(tmp_path / "o_disparity.npy")
        assert (disparity[:, :115] == 0).all(), name
        assert (disparity[:, 125:] == 1).all(), name


def test_linear_light_has_no_lamps_to_boost(files: Path, tmp_path: Path) -> None:
    night = np.full((80, 120, 3), 0.01, np.float32)
    night[40:42, 50:52] = 1
    arguments = ("--disparity", files / "depth.png", "--focus", 0.5, "--blur", 0, "--out", tmp_path / "o.npy")
    save_color(tmp_path / "night.exr", night)
    run("--photo", tmp_path / "night.exr", *arguments)
    np.testing.assert_array_equal(np.load(tmp_path / "o.npy"), night)


def test_aperture_and_size(files: Path, tmp_path: Path) -> None:
    """--size covers and keeps the middle; every short text of an aperture is understood."""
    for number, aperture in enumerate(("disc", "polygon:5,rotation=0.3", "ring:0.6", "bokehsynth.lenses:Heart")):
        run("--background", files / "wall.png", "--size", "64x48", "--focus", 1, "--blur", 9, "--aperture", aperture,
            "--out", tmp_path / f"{number}.png")  # fmt: skip
    pictures = [folders.load(tmp_path / f"{number}.png") for number in range(4)]
    assert pictures[0].shape == (48, 64, 3)
    assert len({picture.tobytes() for picture in pictures}) == 4


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--out", "o.png"], "either --background"),
        (["--background", "wall.png", "--photo", "wall.png", "--out", "o.png"], "either --background"),
        (["--photo", "wall.png", "--out", "o.png"], "belong together"),
        (["--photo", "wall.png", "--disparity", "depth.png", "--out", "o.png"], "needs --focus D or --focus-at"),
        (["--photo", "wall.png", "--disparity", "depth.png", "--foreground", "near.png:1", "--out", "o.png"], "--fore"),
        (["--background", "gone.png", "--out", "o.png"], "gone.png"),
        (["--background", "wall.png", "--out", "o.jpg"], "must end in .png, .exr, .npy"),
        (["--background", "wall.png", "--out", "no/where/o.png"], "there is no folder"),
        (["--background", "wall.png", "--foreground", "near.png", "--out", "o.png"], "FILE:DISPARITY"),
        (["--background", "wall.png", "--foreground", "near.png:1.2", "--out", "o.png"], "0..1, got 1.2"),
        (["--background", "wall.png", "--foreground", "near.png:0.5,z=3", "--out", "o.png"], "unknown 'z'; known are"),
        (["--background", "wall.png", "--foreground", "near.png:0.5,x=left", "--out", "o.png"], "must be a number"),
        (["--background", "wall.png", "--foreground", "wall.png:0.5", "--out", "o.png"], "without transparency"),
        (["--background", "wall.png", "--focus", "0.2", "--focus-at", "1,1", "--out", "o.png"], "not both"),
        (["--background", "wall.png", "--focus", "7", "--out", "o.png"], "--focus must lie in 0..1"),
        (["--background", "wall.png", "--focus-at", "1", "--out", "o.png"], "X,Y in pixels"),
        (["--background", "wall.png", "--size", "big", "--out", "o.png"], "WIDTHxHEIGHT"),
        (["--background", "wall.png", "--size", "1x1", "--out", "o.png"], "16..16384"),
        (["--background", "wall.png", "--tilt", "steep", "--out", "o.png"], "T or T:ANGLE"),
        (
            ["--background", "wall.png", "--background-disparity", "0", "--tilt", "0.4", "--out", "o.png"],
            "reaches a disparity of -0.2",
        ),
        (["--background", "wall.png", "--foreground", "near.png:0.5,scale=nan", "--out", "o.png"], "scale must be"),
        (["--background", "wall.png", "--foreground", "near.png:0.5,scale=-1", "--out", "o.png"], "scale must be"),
        (["--background", "wall.png", "--foreground", "near.png:0.5,x=nan", "--out", "o.png"], "x must be finite"),
        (["--background", "wall.png", "--boost", "nan", "--out", "o.png"], "--boost must be"),
        (["--background", "near.png", "--out", "o.png"], "has transparent parts"),
        (["--background", "wall.png", "--aperture", "star", "--out", "o.png"], "aperture 'star': use disc"),
        (["--background", "wall.png", "--aperture", "polygon:2", "--out", "o.png"], "polygon:2"),
        (["--background", "wall.png", "--blur", "-3", "--out", "o.png"], "--blur must stay within 0..4096 px, got -3"),
    ],
)  # fmt: skip
def test_mistakes_are_told(files: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: str) -> None:
    monkeypatch.chdir(files)
    assert words in fails(*arguments)
    assert not (files / "o.png").exists()


def test_saved_pictures_read_back(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    light = rng.uniform(0, 1.5, (6, 9, 3)).astype(np.float32)
    save_color(tmp_path / "8.png", light)
    np.testing.assert_array_equal(folders.load(tmp_path / "8.png"), encode_8bit(light))
    save_color(tmp_path / "16.png", light, bits=16)
    deep = cv2.imread(str(tmp_path / "16.png"), cv2.IMREAD_UNCHANGED)[..., ::-1]
    assert deep.dtype == np.uint16
    np.testing.assert_allclose(deep / 65535, bs.linear_to_srgb(np.minimum(light, 1)), atol=1e-5)
    save_color(tmp_path / "l.npy", light)
    np.testing.assert_array_equal(np.load(tmp_path / "l.npy"), light)
    with pytest.raises(bs.UsageError, match="does not fit 16 bits"):
        save_map(tmp_path / "m.png", np.full((3, 3), 700.0), 100)
    with pytest.raises(bs.UsageError, match="must end in"):
        check_name(tmp_path / "x.tif")

"""The degradation by itself: what it accepts, what it draws, what it does."""

import json
import pickle
import sys
import textwrap

import cv2
import numpy as np
import pytest
import scipy.special
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, TypeAdapter

from bokehsynth.degradation import DegradationSpec, apply_degradation, degrade, draw_degradation, resolve
from bokehsynth.degradation.apply import as_float, compress, convolve, resize, to_bytes
from bokehsynth.degradation.kernels import bessel_j1, gaussian, make_kernel, plateau, separate, sinc, trim
from bokehsynth.degradation.noise import poisson_counts
from bokehsynth.degradation.spec import PRESETS, Blur, CustomStep, Final, Noise, Resize
from bokehsynth.errors import UsageError
from bokehsynth.rng import from_seed

PI = np.pi
EVERY_STEP = [
    {"kind": "blur", "sinc": 0.0, "sigma": [1.5, 3]},
    {"kind": "blur", "sinc": 1.0, "omega": [0.7, 1.5], "omega_small": [1.1, 1.5]},
    {"kind": "resize", "up": 1, "down": 0, "keep": 0, "range": [1, 1.5]},
    {"kind": "resize", "up": 0, "down": 1, "keep": 0},
    {"kind": "noise", "gaussian": 1.0, "sigma": [5, 30]},
    {"kind": "noise", "gaussian": 0.0, "poisson_scale": [0.5, 3]},
    {"kind": "jpeg", "quality": [30, 60]},
    {"kind": "final", "scale": 2},
]


def picture(height=64, width=96, seed=0):
    coarse = from_seed(seed).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


# --- kernels


def test_bessel_j1_equals_scipy():
    x = np.linspace(0, 200, 20001)
    assert np.abs(bessel_j1(x) - scipy.special.j1(x)).max() < 1e-13  # worst seen 2.1e-15


@pytest.mark.parametrize("size", [3, 7, 21, 63])
def test_kernels_sum_to_one_and_are_symmetric(size):
    for kernel in (gaussian(size, 2.0, 0.7, 0.4), plateau(size, 2.0, 0.7, 0.4, 1.3), sinc(size, 1.4)):
        assert kernel.dtype == np.float32
        assert kernel.sum() == pytest.approx(1, abs=1e-6)
        np.testing.assert_allclose(kernel, kernel[::-1, ::-1], atol=1e-9)


def test_rotation_turns_the_long_axis_from_x_towards_y():
    kernel = gaussian(21, 3.0, 0.5, PI / 2)
    assert kernel[15, 10] > 100 * kernel[10, 15]


def test_trim_keeps_all_that_matters():
    kernel = gaussian(21, 0.8, 0.8, 0.0)
    cut = trim(kernel)
    assert cut.shape[0] < 13
    assert np.abs(kernel).sum() - np.abs(cut).sum() < 1e-7
    wide = plateau(21, 3.0, 3.0, 0.0, 1.0)
    assert trim(wide).shape == wide.shape
    padded = np.pad(sinc(7, 2.0), 7)
    np.testing.assert_array_equal(trim(padded), sinc(7, 2.0))


def test_only_unrotated_gaussians_are_separated():
    row, column = separate(gaussian(15, 1.7, 1.7, 0.0))
    np.testing.assert_allclose(np.outer(column, row), gaussian(15, 1.7, 1.7, 0.0), atol=1e-8)
    assert separate(gaussian(15, 1.7, 0.9, 0.5)) is None
    assert separate(plateau(15, 1.7, 1.7, 0.0, 1.5)) is None
    assert separate(sinc(15, 2.0)) is None


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (5, 2), (9, 30), (40, 40)])
def test_convolution_mirrors_small_pictures_as_often_as_needed(shape):
    image = from_seed(1).random((*shape, 3), dtype=np.float32)
    for kernel in (plateau(21, 3.0, 1.0, 0.5, 1.0), gaussian(21, 3.0, 3.0, 0.0), sinc(9, 1.5)):
        reach = kernel.shape[0] // 2
        padded = np.pad(image.astype(np.float64), ((reach, reach), (reach, reach), (0, 0)), mode="reflect")
        expected = sum(kernel[y, x] * padded[y : y + shape[0], x : x + shape[1]] for y, x in np.ndindex(*kernel.shape))
        np.testing.assert_allclose(convolve(image, kernel), expected, atol=2e-6)


# --- Poisson counts


@pytest.mark.parametrize("vals", [1, 2, 32, 256])
def test_poisson_counts_are_poisson(vals):
    levels = np.repeat(np.array([0, 1, 17, 128, 255], np.uint8)[:, None], 40000, axis=1)
    counts = poisson_counts(levels, vals, from_seed(2))
    for level, drawn in zip(levels[:, 0], counts, strict=True):
        mean = level / 255 * vals
        assert drawn.mean() == pytest.approx(mean, abs=4.5 * (mean / 40000) ** 0.5)
        assert drawn.var() == pytest.approx(mean, abs=4.5 * ((mean + 2 * mean**2) / 40000) ** 0.5)
        k = np.arange(0, int(mean + 8 * mean**0.5) + 8)
        cdf = scipy.special.pdtr(k, mean)
        seen = np.searchsorted(np.sort(drawn), k, side="right") / 40000
        assert np.abs(seen - cdf).max() < 2 / 40000**0.5  # Kolmogorov: exceeded by chance in 1 of 1500


def test_poisson_noise_of_a_flat_picture_has_one_photon_at_white():
    flat = np.full((64, 64, 3), 128, np.uint8)
    draw = {"scale": 1, "upscale": "bicubic", "steps": [noise_record("poisson", scale=0.1)]}
    error = apply_degradation(flat, draw).lq / 255.0 - 128 / 255
    assert error.std() == pytest.approx(0.1 * (128 / 255) ** 0.5, rel=0.05)


def noise_record(family, **numbers):
    return {"kind": "noise", "family": family, "gray": False, "seed": 5} | numbers


# --- specs


def test_preset_has_the_numbers_of_real_esrgan():
    blur1, resize1, noise1, jpeg1, blur2, resize2, noise2, final = PRESETS["real-esrgan"].steps
    for blur in (blur1, blur2):
        weights = [0.45, 0.25, 0.12, 0.03, 0.12, 0.03]
        assert list(blur.kernels.model_dump().values()) == weights
        assert (blur.sinc, blur.size, blur.rotation) == (0.1, (7, 21), (-PI, PI))
        assert (blur.beta_generalized, blur.beta_plateau) == ((0.5, 4), (1, 2))
        assert (blur.omega, blur.omega_small) == ((PI / 5, PI), (PI / 3, PI))
    assert (blur1.probability, blur1.sigma, blur2.probability, blur2.sigma) == (1, (0.2, 3), 0.8, (0.2, 1.5))
    assert (resize1.up, resize1.down, resize1.keep, resize1.range) == (0.2, 0.7, 0.1, (0.15, 1.5))
    assert (resize2.up, resize2.down, resize2.keep, resize2.range) == (0.3, 0.4, 0.3, (0.3, 1.2))
    assert (resize1.relative_to, resize2.relative_to) == ("current", "native")
    assert (noise1.sigma, noise1.poisson_scale, noise2.sigma, noise2.poisson_scale) == (
        (1, 30), (0.05, 3), (1, 25), (0.05, 2.5),
    )  # fmt: skip
    for noise in (noise1, noise2):
        assert (noise.probability, noise.gaussian, noise.gray) == (1, 0.5, 0.4)
    assert (jpeg1.probability, jpeg1.quality, final.quality) == (1, (30, 95), (30, 95))
    assert (final.scale, final.sinc, final.size, final.omega, final.jpeg_first) == (4, 0.8, (7, 21), (PI / 3, PI), 0.5)
    for step in (resize1, resize2, final):
        assert step.modes == ("area", "bilinear", "bicubic")
    assert final.upscale == ("area", "bilinear", "bicubic")
    assert resolve("real-esrgan").scale == 4


def test_preset_can_be_written_as_a_list():
    written = [json.loads(step.model_dump_json()) for step in PRESETS["real-esrgan"].steps]
    assert resolve(written) == PRESETS["real-esrgan"]
    assert resolve(list(PRESETS["real-esrgan"].steps)) == PRESETS["real-esrgan"]


def test_a_recipe_model_can_hold_a_spec_and_describe_it(isp):
    class Recipe(BaseModel):
        model_config = ConfigDict(extra="forbid", strict=True)
        degradation: DegradationSpec = "real-esrgan"

    recipe = Recipe.model_validate({"degradation": [{"kind": "jpeg"}, "my_isp:Exposure", {"kind": "final"}]})
    assert [type(item).__name__ for item in recipe.degradation] == ["Jpeg", "str", "Final"]
    assert resolve(recipe.degradation).steps[1] == CustomStep(path="my_isp:Exposure")
    assert resolve(Recipe().degradation) is PRESETS["real-esrgan"]
    assert pickle.loads(pickle.dumps(resolve(recipe.degradation))) == resolve(recipe.degradation)
    schema = json.dumps(TypeAdapter(DegradationSpec).json_schema())
    assert "Cut-off of the sinc kernel, radians per pixel." in schema


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("real-esrgn", r"must be real-esrgan, none, package.module:Class or a list of steps, got 'real-esrgn'"),
        (7, r"degradation: .*string.*got 7"),
        ([{"kind": "blurr"}], r"degradation\.0: .*'blurr'.*'blur', 'resize'"),
        ([{"kind": "jpeg"}, {"kind": "blur", "sgma": [1, 2]}], r"degradation\.1\.blur\.sgma: Extra inputs"),
        ([{"kind": "blur", "sigma": [3, 1]}], r"sigma: must be \[low, high\] with low <= high, got \[3"),
        ([{"kind": "blur", "sigma": ["1", 2]}], r"sigma\.0: .*number.*got '1'"),
        ([{"kind": "blur", "sigma": [0, 2]}], r"sigma\.0: .*greater than 0"),
        ([{"kind": "blur", "sigma": [1, 2, 3]}], r"sigma: .*2 items"),
        ([{"kind": "blur", "sigma": [1, float("nan")]}], r"sigma\.1: .*finite"),
        ([{"kind": "blur", "size": [8, 21]}], r"size: kernel sizes are odd, got \[8, 21\]"),
        ([{"kind": "blur", "kernels": {}}], r"at least one kernel weight must be positive"),
        ([{"kind": "blur", "kernels": {"iso": -1}}], r"kernels\.iso: .*greater than or equal to 0"),
        ([{"kind": "blur", "beta_plateau": [1.5, 2]}], r"with low <= 1 <= high, got \[1\.5"),
        ([{"kind": "resize", "range": [1.1, 2]}], r"with low <= 1 <= high"),
        ([{"kind": "resize", "up": 0, "down": 0, "keep": 0}], r"one of up, down, keep must be positive"),
        ([{"kind": "resize", "modes": []}], r"modes: .*at least 1"),
        ([{"kind": "resize", "modes": ["area", "area"]}], r"names a mode twice"),
        ([{"kind": "noise", "probability": 1.5}], r"probability: .*less than or equal to 1"),
        ([{"kind": "noise", "gray": True}], r"gray: .*number.*got True"),
        ([{"kind": "jpeg", "quality": [0, 90]}], r"quality\.0: .*greater than or equal to 1"),
        ([{"kind": "jpeg", "quality": [30.5, 90]}], r"quality\.0: .*integer"),
        ([{"kind": "final"}, {"kind": "jpeg"}], r"`final` may only be the last step"),
        ([{"kind": "custom", "path": "no colon"}], r"must be written as package.module:Class, got 'no colon'"),
        (["nocolon"], r"degradation\.0: must be written as package.module:Class, got 'nocolon'"),
    ],
)
def test_a_wrong_spec_says_where_and_why(spec, message):
    with pytest.raises(UsageError, match=message):
        resolve(spec)


# --- draws


@pytest.mark.parametrize("spec", ["real-esrgan", EVERY_STEP])
def test_a_draw_survives_json_and_gives_the_same_pixels(spec):
    image = picture()
    for seed in range(25):
        draw = draw_degradation(resolve(spec), from_seed(seed))
        again = json.loads(json.dumps(draw))
        assert again == draw == draw_degradation(resolve(spec), from_seed(seed))
        first, second = apply_degradation(image, draw), apply_degradation(image.copy(), again)
        np.testing.assert_array_equal(first.lq, second.lq)
        np.testing.assert_array_equal(first.lq_native, second.lq_native)
        np.testing.assert_array_equal(degrade(image, again), first.lq)
        np.testing.assert_array_equal(degrade(image, spec, seed), first.lq)


def test_draws_have_the_stated_probabilities():
    n = 2000
    steps = [draw_degradation(resolve("real-esrgan"), from_seed(seed))["steps"] for seed in range(n)]
    kernels = [s[0]["kernel"] for s in steps]
    other = [k for k in kernels if k["family"] != "sinc"]
    ups = [s[1]["factor"] for s in steps]
    events = {
        "sinc": (0.1, [k["family"] == "sinc" for k in kernels]),
        "blur2": (0.8, [s[4]["kernel"] is not None for s in steps]),
        "up": (0.2, [f > 1 for f in ups]),
        "keep": (0.1, [f == 1 for f in ups]),
        "gaussian": (0.5, [s[2]["family"] == "gaussian" for s in steps]),
        "gray": (0.4, [s[6]["gray"] for s in steps]),
        "final sinc": (0.8, [s[7]["kernel"] is not None for s in steps]),
        "jpeg first": (0.5, [s[7]["jpeg_first"] for s in steps]),
        "low quality": (33 / 66, [s[3]["quality"] < 63 for s in steps]),
        "size 7": (1 / 8, [k["size"] == 7 for k in kernels]),
        "beta 1": (0.5, [k["beta"] == 1 for k in other if k["family"].startswith("plateau")]),
    }
    for family, probability in Blur().kernels.model_dump().items():
        events[family] = (probability, [k["family"] == family for k in other])
    for mode in Final().modes:
        events[mode] = (1 / 3, [s[1]["mode"] == mode for s in steps])
    for name, (probability, seen) in events.items():
        error = (probability * (1 - probability) / len(seen)) ** 0.5
        assert abs(np.mean(seen) - probability) < 4 * error, name
    upscale = [draw_degradation(resolve("real-esrgan"), from_seed(seed))["upscale"] for seed in range(300)]
    assert set(upscale) == {"area", "bilinear", "bicubic"}
    assert len({s[2]["seed"] for s in steps}) == n


def test_drawn_numbers_stay_in_their_ranges():
    for seed in range(500):
        for step in draw_degradation(resolve(EVERY_STEP), from_seed(seed))["steps"]:
            kernel = step.get("kernel")
            if kernel and kernel["family"] != "sinc":
                assert 1.5 <= kernel["sigma_x"] < 3
                assert kernel["family"].endswith("aniso") or kernel["sigma_y"] == kernel["sigma_x"]
            if kernel:
                assert kernel["size"] % 2 == 1
                assert 7 <= kernel["size"] <= 21
            if step["kind"] == "jpeg":
                assert 30 <= step["quality"] <= 60


# --- pixels


@pytest.mark.parametrize("place", range(len(EVERY_STEP)))
def test_every_step_does_something(place):
    image = picture()
    for seed in range(5):
        draw = draw_degradation(resolve([EVERY_STEP[place]]), from_seed(seed))
        change = np.abs(apply_degradation(image, draw).lq.astype(int) - image)
        assert change.mean() > 0.1  # enlarging and back loses least: 0.19
        assert (change > 0).mean() > 0.1


def test_every_family_and_order_matters():
    image = picture()
    base = {"kind": "blur", "kernel": {"size": 13, "sigma_x": 2.5, "sigma_y": 0.8, "rotation": 0.4, "beta": 1.9}}
    results = []
    for family in ("aniso", "generalized_aniso", "plateau_aniso"):
        step = {"kind": "blur", "kernel": base["kernel"] | {"family": family}}
        results.append(apply_degradation(image, {"scale": 1, "upscale": "area", "steps": [step]}).lq)
    sinc_kernel = {"family": "sinc", "size": 9, "omega": 1.4}
    for first in (True, False):
        for kernel in (None, sinc_kernel):
            step = {"kind": "final", "mode": "bicubic", "kernel": kernel, "quality": 40, "jpeg_first": first}
            results.append(apply_degradation(image, {"scale": 4, "upscale": "area", "steps": [step]}).lq)
    for mode in ("bilinear", "bicubic"):
        results.append(apply_degradation(image, {"scale": 4, "upscale": mode, "steps": [step]}).lq)
    assert len({result.tobytes() for result in results}) == len(results)


@pytest.mark.parametrize("kernel", [None, {"family": "sinc", "size": 9, "omega": 1.4}])
def test_the_final_step_filters_at_the_native_size_and_compresses_first_or_last(kernel):
    """Real-ESRGAN's two orders: JPEG, resize, sinc; or resize, sinc, JPEG."""
    image = picture()

    def to_native(values):
        small = resize(values, (16, 24), "bicubic")
        return small if kernel is None else convolve(small, make_kernel(kernel))

    expected = {
        True: to_native(compress(as_float(image), 40)),
        False: compress(to_native(as_float(image)), 40),
    }
    for first, values in expected.items():
        step = {"kind": "final", "mode": "bicubic", "kernel": kernel, "quality": 40, "jpeg_first": first}
        degraded = apply_degradation(image, {"scale": 4, "upscale": "area", "steps": [step]})
        np.testing.assert_array_equal(degraded.lq_native, to_bytes(values))


def test_skipped_steps_leave_the_picture_alone():
    off = [{"kind": kind, "probability": 0} for kind in ("blur", "noise", "jpeg")]
    keep = {"kind": "resize", "up": 0, "down": 0, "keep": 1}
    image = picture()
    np.testing.assert_array_equal(degrade(image, [*off, keep], 3), image)


def test_none_returns_the_picture():
    image = picture()
    degraded = apply_degradation(image, draw_degradation(resolve("none"), from_seed(0)))
    np.testing.assert_array_equal(degraded.lq, image)
    np.testing.assert_array_equal(degraded.lq_native, image)
    np.testing.assert_array_equal(degrade(image, "none"), image)
    np.testing.assert_array_equal(degrade(np.arange(256, dtype=np.uint8)[None], "none")[0, :, 1], np.arange(256))


def test_lq_is_lq_native_enlarged_by_the_drawn_mode():
    image = picture(66, 101)
    for seed in range(6):
        draw = draw_degradation(resolve("real-esrgan"), from_seed(seed))
        degraded = apply_degradation(image, draw)
        assert degraded.lq_native.shape == (16, 25, 3)
        enlarged = resize(as_float(degraded.lq_native), (66, 101), draw["upscale"])
        np.testing.assert_allclose(degraded.lq, np.clip(enlarged * 255, 0, 255), atol=0.51)


def test_the_picture_stays_where_it_is():
    """Lq and hq must be aligned: a symmetric picture stays symmetric through every resize of the chain."""
    half = picture(64, 32)
    image = np.concatenate([half, half[:, ::-1]], axis=1)
    for seed in range(10):
        steps = [s for s in EVERY_STEP if s["kind"] == "resize"]
        lq = degrade(image, [*steps, {"kind": "resize", "relative_to": "native"}], seed).astype(int)
        assert np.abs(lq - lq[:, ::-1]).max() <= 1


def test_the_input_is_not_written_to():
    for image in (picture(), as_float(picture())):
        before = image.copy()
        degrade(image, EVERY_STEP)
        apply_degradation(image, draw_degradation(resolve([{"kind": "noise"}]), from_seed(1)))
        np.testing.assert_array_equal(image, before)


def test_gray_noise_is_the_same_in_all_channels():
    flat = np.full((32, 32, 3), 100, np.uint8)
    for gaussian_share in (0, 1):
        lq = degrade(flat, [{"kind": "noise", "gray": 1, "gaussian": gaussian_share, "poisson_scale": [0.1, 0.2]}])
        assert lq.std() > 0.5
        np.testing.assert_array_equal(lq[..., 0], lq[..., 2])


@settings(max_examples=120, deadline=None)
@given(st.integers(1, 80), st.integers(1, 80), st.integers(0, 2**40), st.sampled_from(["real-esrgan", "steps"]))
def test_any_size_and_seed_works(height, width, seed, which):
    spec = EVERY_STEP if which == "steps" else which
    image = from_seed(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)
    degradation = resolve(spec)
    degraded = apply_degradation(image, draw_degradation(degradation, from_seed(seed)))
    assert degraded.lq.shape == image.shape
    assert degraded.lq.dtype == degraded.lq_native.dtype == np.uint8
    scale = degradation.scale
    assert degraded.lq_native.shape == (max(1, height // scale), max(1, width // scale), 3)


@pytest.mark.parametrize("level", [0, 255])
def test_black_and_white_do_not_overflow(level):
    flat = np.full((40, 40, 3), level, np.uint8)
    steps = [{"kind": "blur", "sinc": 1.0}, {"kind": "resize"}, {"kind": "jpeg"}, {"kind": "final"}]
    for seed in range(10):
        assert np.abs(degrade(flat, steps, seed).astype(int) - level).max() <= 1


# --- the public function


def test_dtypes_mean_the_same_picture():
    image = picture()
    expected = degrade(image, seed=4)
    wide = image.astype(np.uint16) * 257
    for same in (wide, image / 255.0, (image / 255.0).astype(np.float32)):
        assert (
            np.abs(degrade(same, seed=4).astype(int) - expected).max() <= 1
            or np.mean(degrade(same, seed=4) != expected) < 0.01
        )
    grey = image[..., 0]
    np.testing.assert_array_equal(degrade(grey, seed=4), degrade(np.repeat(grey[..., None], 3, axis=2), seed=4))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([[1]],), r"image must be a NumPy array, got list"),
        ((np.zeros((4, 4, 4), np.uint8),), r"alpha channel \[4, 4, 4\]"),
        ((np.zeros((4, 0, 3), np.uint8),), r"H, W >= 1, got \[4, 0, 3\]"),
        ((np.zeros((4, 4, 2), np.uint8),), r"\[H, W, 3\].*got \[4, 4, 2\]"),
        ((np.zeros((4, 4, 3), np.int32),), r"uint8, uint16 or float, got int32"),
        ((np.full((4, 4, 3), 2.0),), r"in 0\.\.1, got 2\.\.2"),
        ((np.full((4, 4, 3), np.nan),), r"in 0\.\.1, got nan"),
        ((np.zeros((4, 4, 3), np.uint8), "none", -1), r"seed must be an integer >= 0, got -1"),
        ((np.zeros((4, 4, 3), np.uint8), "none", 1.5), r"seed must be an integer >= 0, got 1\.5"),
        ((np.zeros((4, 4, 3), np.uint8), {"steps": []}), r"needs scale, upscale"),
        ((np.zeros((4, 4, 3), np.uint8), {"scale": 1, "upscale": "area", "steps": [{"kind": "x"}]}), r"kind 'x'"),
        (
            (np.zeros((4, 4, 3), np.uint8), {"scale": 1, "upscale": "area", "steps": [{"kind": "noise"}]}),
            r"step 0 \(noise\) has no or a wrong 'family'",
        ),
    ],
)
def test_the_door_says_what_is_wrong(arguments, message):
    with pytest.raises(UsageError, match=message):
        degrade(*arguments)


def test_unknown_backend_is_refused():
    with pytest.raises(UsageError, match=r"opencv or basicsr, got 'torch'"):
        degrade(picture(), backend="torch")


def test_apply_checks_its_picture():
    draw = draw_degradation(resolve("none"), from_seed(0))
    with pytest.raises(UsageError, match=r"uint8 or float32, got float64"):
        apply_degradation(np.zeros((4, 4, 3)), draw)
    with pytest.raises(UsageError, match=r"must be \[H, W, 3\]"):
        apply_degradation(np.zeros((4, 4), np.uint8), draw)


def test_unknown_kernel_family_is_refused():
    with pytest.raises(UsageError, match=r"kernel family 'box'"):
        make_kernel({"family": "box", "size": 7, "sigma_x": 1, "sigma_y": 1, "rotation": 0})


# --- steps of one's own


@pytest.fixture
def isp(tmp_path, monkeypatch):
    (tmp_path / "my_isp.py").write_text(
        textwrap.dedent(
            """
            import numpy as np

            class Exposure:
                def draw(self, rng):
                    return {"gain": 0.25 + 0.25 * float(rng.random())}

                def apply(self, image, params):
                    assert image.dtype == np.float32 and image.min() >= 0 and image.max() <= 1
                    return image[::2] * params["gain"]

            class NoApply:
                def draw(self, rng):
                    return {}

            class NeedsArguments(Exposure):
                def __init__(self, camera):
                    pass

            class TupleDraw(Exposure):
                def draw(self, rng):
                    return {"gain": (1, 2)}

            class Grey(Exposure):
                def apply(self, image, params):
                    return image[..., 0]

            class NotFinite(Exposure):
                def apply(self, image, params):
                    return image / 0 * 0

            value = 3
            """
        )
    )
    (tmp_path / "broken_isp.py").write_text("raise RuntimeError('no camera')")
    monkeypatch.syspath_prepend(tmp_path)
    yield "my_isp"
    sys.modules.pop("my_isp", None)


def test_a_custom_step_works_in_a_list_and_alone(isp):
    image = picture()
    for spec in (f"{isp}:Exposure", [f"{isp}:Exposure"], [{"kind": "custom", "path": f"{isp}:Exposure"}]):
        draw = json.loads(json.dumps(draw_degradation(resolve(spec), from_seed(1))))
        degraded = apply_degradation(image, draw)
        assert degraded.lq_native.shape == (32, 96, 3)
        assert degraded.lq.shape == image.shape
        gain = draw["steps"][0]["params"]["gain"]
        np.testing.assert_allclose(degraded.lq_native, image[::2] * gain, atol=0.51)
    chain = [{"kind": "resize", "modes": ["bicubic"]}, f"{isp}:Exposure", {"kind": "final"}]
    assert degrade(image, chain, 2).mean() < 0.6 * image.mean()


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("no_such_module:Exposure", r"'no_such_module:Exposure': cannot import module 'no_such_module'"),
        ("broken_isp:Exposure", r"cannot import module 'broken_isp' \(RuntimeError: no camera\)"),
        ("my_isp:Missing", r"'my_isp:Missing': module 'my_isp' has no class 'Missing'"),
        ("my_isp:value", r"has no class 'value'"),
        ("my_isp:NoApply", r"'my_isp:NoApply': the class has no method apply"),
        ("my_isp:NeedsArguments", r"cannot be made without arguments"),
        ("my_isp:TupleDraw", r"draw\(\) must return a dict that survives JSON, got \{'gain': \(1, 2\)\}"),
        ("my_isp:Grey", r"apply\(\) must return float \[h, w, 3\], got float32 \[64, 96\]"),
        ("my_isp:NotFinite", r"apply\(\) returned values that are not finite"),
    ],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.usefixtures("isp")
def test_a_wrong_custom_step_says_what_is_missing(path, message):
    with pytest.raises(UsageError, match=message):
        degrade(picture(), path)


def test_spec_models_stand_alone():
    assert resolve([Noise(gaussian=1.0), Resize()]).steps[0].gaussian == 1.0
    with pytest.raises(ValueError, match="frozen"):
        Noise().gaussian = 0.3

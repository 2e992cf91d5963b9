"""Our degradation beside basicsr's and Real-ESRGAN's own numbers (fixtures/make_degrade_fixtures.py made them).

The last tests need basicsr itself and are skipped without it; everything else runs from the fixtures.
"""

import importlib.util
import json
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from bokehsynth.degradation import apply_degradation, degrade, draw_degradation, resolve
from bokehsynth.degradation.apply import as_float, compress, convolve, resize
from bokehsynth.degradation.kernels import make_kernel
from bokehsynth.degradation.noise import gaussian_noise, poisson_noise
from bokehsynth.errors import UsageError
from bokehsynth.rng import from_seed

FIXTURES = Path(__file__).parents[1] / "fixtures"
KERNELS = np.load(FIXTURES / "degrade_kernels.npz")
RECORDS = json.loads(str(KERNELS["about"]))["records"]
ARRAYS = np.load(FIXTURES / "degrade_statistics.npz")
ABOUT = json.loads(str(ARRAYS["about"]))
STATISTICS = ABOUT["statistics"]
PICTURE = ARRAYS["picture"]
PATCH = as_float(PICTURE[25:49, 60:92])
DRAWS = 3000

needs_basicsr = pytest.mark.skipif(
    not (importlib.util.find_spec("basicsr") and importlib.util.find_spec("torch")), reason="basicsr is not installed"
)


def test_fixtures_say_where_they_come_from():
    assert ABOUT["versions"]["basicsr"] == "1.4.2"
    assert ABOUT["command"].endswith("make_degrade_fixtures.py")


@pytest.mark.parametrize("place", range(len(RECORDS)), ids=lambda p: f"{RECORDS[p]['family']}-{RECORDS[p]['size']}")
def test_kernel_equals_basicsr(place):
    # Worst difference seen over all records and 1,000 drawn kernels: 0.
    difference = np.abs(make_kernel(RECORDS[place]) - KERNELS[f"kernel_{place}"])
    assert difference.max() <= 1e-6


def test_every_family_is_among_the_fixtures():
    assert len({record["family"] for record in RECORDS}) == 7
    assert len(RECORDS) >= 30


def test_the_kernel_comparison_can_fail():
    record = RECORDS[6] | {"rotation": RECORDS[6]["rotation"] * 1.001}
    assert np.abs(make_kernel(record) - KERNELS["kernel_6"]).max() > 1e-6


@pytest.mark.parametrize("name", [name for name in ARRAYS.files if name.startswith("filtered_")])
def test_blur_equals_basicsr_up_to_the_border(name):
    ours = convolve(PATCH, make_kernel(RECORDS[int(name.split("_")[1])]))
    assert np.abs(ours - ARRAYS[name]).max() < 1.5e-6  # worst seen 4.8e-7, and 1.4e-6 over 120 drawn kernels


@pytest.mark.parametrize("name", [name for name in ARRAYS.files if name.startswith("resized_")])
def test_resize_equals_torch(name):
    _, mode, height, width = name.split("_")
    ours = resize(PATCH, (int(height), int(width)), mode)
    assert np.abs(ours - ARRAYS[name]).max() < 4e-6  # worst seen 7e-7 here, 3.8e-6 over 86 drawn resizes


def noise_case(row):
    return f"{row['family']}-{row['strength']}-{'gray' if row['gray'] else 'color'}-{row['levels']}"


@pytest.mark.parametrize("row", STATISTICS["noise"], ids=noise_case)
def test_noise_has_basicsr_statistics(row):
    step = 256 // row["levels"]
    picture = PICTURE // step * step
    make = {"gaussian": gaussian_noise, "poisson": poisson_noise}[row["family"]]
    rng = from_seed(1)
    fields = np.stack(
        [np.broadcast_to(make(as_float(picture), row["strength"], row["gray"], rng), picture.shape) for _ in range(16)]
    )
    flat = fields.reshape(-1, 3).astype(np.float64)
    # A std of n samples errs by sqrt(1 / 2n) on either side (a little more where Poisson tails are long).
    np.testing.assert_allclose(flat.std(axis=0), row["std"], rtol=5 * (1 / len(flat)) ** 0.5)
    assert np.abs(flat.mean(axis=0) - row["mean"]).max() < 5 * max(row["std"]) * (2 / len(flat)) ** 0.5
    assert np.corrcoef(flat[:, 0], flat[:, 1])[0, 1] == pytest.approx(row["correlation"], abs=0.01)
    luminance = picture.astype(np.float64).mean(axis=2)
    quarter = np.searchsorted(np.quantile(luminance, [0.25, 0.5, 0.75]), luminance)
    for part, expected in enumerate(row["std_by_quarter"]):
        chosen = fields[:, quarter == part]
        independent = chosen.size / (3 if row["gray"] else 1)
        assert chosen.std() == pytest.approx(expected, rel=5 * (1 / independent) ** 0.5)


@pytest.mark.parametrize("quality", ["30", "50", "70", "95"])
def test_jpeg_loses_as_much_as_diffjpeg(quality):
    original = as_float(PICTURE)
    gray = np.repeat(original[..., 1:2], 3, axis=2)
    error, gray_error = compress(original, int(quality)) - original, compress(gray, int(quality)) - gray
    parts = {"rgb": error, "luma": error @ np.array([0.299, 0.587, 0.114]), "gray": gray_error}
    psnr = {name: -10 * np.log10((part**2).mean()) for name, part in parts.items()}
    theirs = STATISTICS["jpeg"][quality]
    # Worst seen 0.09 dB (grey) and 0.36 dB (luma) up to quality 70. At 95 our rounding to 8 bit, which DiffJPEG leaves
    # out, costs 0.9 and 2.6 dB of more than 50.
    limits = (1.0, 2.7) if quality == "95" else (0.1, 0.4)
    assert psnr["gray"] == pytest.approx(theirs["gray"], abs=limits[0])
    assert psnr["luma"] == pytest.approx(theirs["luma"], abs=limits[1])
    # libjpeg interpolates the halved chroma, DiffJPEG repeats it: on this very colourful picture ours keeps 0.6 (30)
    # to 3.5 dB (95) more.
    assert theirs["rgb"] <= psnr["rgb"] <= theirs["rgb"] + 3.6


def kernel_shape(kernel):
    offset = np.arange(kernel.shape[0]) - kernel.shape[0] // 2
    kernel = kernel.astype(np.float64)
    return {
        "area": 1 / (kernel**2).sum(),
        "centre": kernel[len(offset) // 2, len(offset) // 2],
        "smallest": kernel.min(),
        "var_x": (kernel * offset[None, :] ** 2).sum(),
        "cov": (kernel * offset[None, :] * offset[:, None]).sum(),
    }


@pytest.fixture(scope="module")
def our_draws():
    """The same quantities as the fixture's, from `draw_degradation` with the preset."""
    degradation, pulse = resolve("real-esrgan"), np.pad(np.ones((1, 1), np.float32), 10)
    rows = defaultdict(list)
    for seed in range(DRAWS):
        steps = draw_degradation(degradation, from_seed(seed))["steps"]
        for stage, (blur, resized, noise, _) in enumerate((steps[:4], (*steps[4:7], None)), 1):
            rows[f"factor{stage}"].append(resized["factor"])
            rows[f"mode{stage}"].append(["area", "bilinear", "bicubic"].index(resized["mode"]))
            rows[f"gaussian{stage}"].append(noise["family"] == "gaussian")
            rows[f"gray{stage}"].append(noise["gray"])
            strength = noise["sigma" if noise["family"] == "gaussian" else "scale"]
            rows[f"{noise['family']}{stage}_strength"].append(strength)
            if blur["kernel"] is not None:
                kernel = make_kernel(blur["kernel"])
                padded = np.pad(kernel, (21 - kernel.shape[0]) // 2)
                for name, value in kernel_shape(padded).items():
                    rows[f"kernel{stage}_{name}"].append(value)
        final = steps[7]
        kernel = pulse if final["kernel"] is None else make_kernel(final["kernel"])
        for name, value in kernel_shape(np.pad(kernel, (21 - kernel.shape[0]) // 2)).items():
            rows[f"sinc_kernel_{name}"].append(value)
        rows["blur2"].append(steps[4]["kernel"] is not None)
        rows["quality1"].append(steps[3]["quality"])
        rows["quality2"].append(final["quality"])
        rows["mode3"].append(["area", "bilinear", "bicubic"].index(final["mode"]))
        rows["jpeg_first"].append(final["jpeg_first"])
    return {name: np.array(values, dtype=np.float64) for name, values in rows.items()}


@pytest.mark.parametrize("name", sorted(STATISTICS["draws"]))
def test_draws_follow_real_esrgan_distribution(name, our_draws):
    theirs, ours = STATISTICS["draws"][name], our_draws[name]
    points = np.array(theirs["points"])
    if name.startswith("quality"):  # they draw a real number, we the integer that libjpeg takes
        ours = ours + np.linspace(-0.5, 0.5, len(ours))
    shares = np.array([(ours <= point + 1e-5).mean() for point in points])
    expected = np.array(theirs["shares"])
    error = np.sqrt(expected * (1 - expected) * (1 / theirs["drawn"] + 1 / len(ours)))
    # 4 standard errors for ~400 comparisons; the integer quality shifts its ends by half a level in 65.
    slack = 0.008 if name.startswith("quality") else 1e-9
    assert np.all(np.abs(shares - expected) <= 4 * error + slack)


def test_how_often_a_noise_strength_is_drawn(our_draws):
    for name in ("gaussian1_strength", "poisson2_strength"):
        theirs = STATISTICS["draws"][name]
        assert len(our_draws[name]) / DRAWS == pytest.approx(theirs["drawn"] / theirs["of"], abs=0.04)


@pytest.mark.skipif(importlib.util.find_spec("basicsr") is not None, reason="basicsr is installed")
def test_basicsr_backend_says_how_to_install_it():
    with pytest.raises(UsageError, match=r"basicsr.*pip install --no-deps --no-build-isolation basicsr==1\.4\.2"):
        degrade(PICTURE, backend="basicsr")


@needs_basicsr
def test_basicsr_backend_leaves_the_process_as_it_was():
    state = np.geterr()
    assert degrade(PICTURE, seed=3, backend="basicsr").shape == PICTURE.shape
    assert np.geterr() == state
    assert not any(name.startswith(("basicsr", "torchvision")) for name in sys.modules)


@needs_basicsr
def test_basicsr_backend_degrades_as_much_as_ours():
    import torch

    from bokehsynth.degradation.basicsr_backend import apply_with_basicsr

    state = torch.random.get_rng_state()
    losses = []
    for seed in range(60):
        draw = draw_degradation(resolve("real-esrgan"), from_seed(seed))
        pair = (apply_degradation(PICTURE, draw).lq, apply_with_basicsr(PICTURE, draw).lq)
        losses.append([10 * np.log10(65025 / ((lq.astype(np.float64) - PICTURE) ** 2).mean()) for lq in pair])
    ours, theirs = np.mean(losses, axis=0)
    assert ours == pytest.approx(theirs, abs=0.35)  # seen: 0.33 dB, from the chroma of JPEG (see above)
    assert torch.equal(state, torch.random.get_rng_state())

"""The metrics of `magicbokeh evaluate`: equal to other libraries' where those have them, and right in closed cases."""

import tracemalloc

import numpy as np
import pytest
import torch
from support.evaluated import make_set, worse

import bokehsynth as bs
from bokehsynth import DataError, Lens, UsageError
from magicbokeh.data.augment import classical_bokeh
from magicbokeh.evaluation.bootstrap import LEVEL, interval
from magicbokeh.evaluation.imagenet import load_features, weight_file
from magicbokeh.evaluation.metrics import ALL, OFFLINE, MetricSuite
from magicbokeh.evaluation.perceptual import FeatureDistance, _share, flip, frechet_distance
from magicbokeh.evaluation.pixel_metrics import BlurRadius, edge_energy, psnr, ssim
from magicbokeh.evaluation.real_esrgan import RealEsrgan, read_ncnn, restore
from magicbokeh.evaluation.sets import item_of

torch.set_num_threads(1)
WHOLE = {"all": None}


@pytest.fixture(scope="module")
def items(tmp_path_factory):
    dataset = make_set(tmp_path_factory.mktemp("metrics") / "set")
    return [item_of(sample) for sample in bs.open_dataset(dataset, "val")]


@pytest.fixture(scope="module")
def cat():
    from skimage import data

    return data.chelsea()[:240, 100:340]


@pytest.mark.parametrize("how", ["blurred", "noisy", "shifted"])
def test_psnr_and_ssim_are_those_of_scikit_image(cat, how):
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    found = worse(cat, how)
    assert psnr(found, cat, WHOLE)["all"] == pytest.approx(peak_signal_noise_ratio(cat, found), abs=1e-9)
    theirs = structural_similarity(
        cat, found, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, channel_axis=2
    )
    assert ssim(found, cat, WHOLE)["all"] == pytest.approx(theirs, abs=1e-9)  # seen: 5e-12


def test_flip_is_its_library_s(cat):
    from flip_evaluator import evaluate

    found = worse(cat, "noisy")
    mask = np.zeros(cat.shape[:2], bool)
    mask[:, :100] = True
    ours = flip(found, cat, {"all": None, "in focus": mask, "out of focus": ~mask})
    theirs = evaluate(*(one.astype(np.float32) / 255 for one in (cat, found)), "LDR")[1]
    assert ours["all"] == pytest.approx(theirs, rel=1e-5)
    assert mask.mean() * ours["in focus"] + (~mask).mean() * ours["out of focus"] == pytest.approx(ours["all"])


def test_a_part_is_scored_by_its_own_pixels(cat):
    mask = np.zeros(cat.shape[:2], bool)
    mask[:120] = True
    found = cat.copy()
    found[120:] = worse(cat, "noisy")[120:]
    parts = {"in focus": mask, "out of focus": ~mask}
    assert psnr(found, cat, parts)["in focus"] == 100
    assert psnr(found, cat, parts)["out of focus"] == pytest.approx(psnr(found[120:], cat[120:], WHOLE)["all"])


# --- closed cases


def test_every_metric_ranks_the_truth_first(items):
    """Blurred, noisy and shifted pictures are worse on every metric; but for two that are blind to one of these."""
    suite = MetricSuite(OFFLINE)
    assert [metric.name for metric in suite.metrics if metric.missing] == []
    scores = {
        how: [suite.measure(worse(item.target, how), item) for item in items]
        for how in ("truth", "blurred", "noisy", "shifted")
    }
    blind = {("edge energy", "shifted"), ("blur error", "noisy")}
    for metric in suite.metrics:
        for split in ("all", "in focus", "out of focus"):
            numbers = {how: _badness(metric, split, found) for how, found in scores.items()}
            if numbers["truth"] is None:
                continue
            for how in ("blurred", "noisy", "shifted"):
                if (metric.name, how) in blind:  # energies stay to 10 %, radii to 0.3 px: borders, rounding
                    assert numbers[how] == pytest.approx(numbers["truth"], abs=0.3), (metric.name, split, how)
                else:
                    assert numbers[how] > numbers["truth"], (metric.name, split, how)


def _badness(metric, split, found):
    if metric.of_set:
        return frechet_distance(
            np.stack([one.features[split] for one in found]), np.stack([one.target_features[split] for one in found])
        )
    values = [one.values[metric.name][split] for one in found if split in one.values[metric.name]]
    if not values:
        return None
    mean = float(np.mean(values))
    return {"higher": -mean, "lower": mean, "nearest 1": abs(np.log(max(mean, 1e-9)))}[metric.better]


def test_edge_energy_is_the_square_of_contrast(cat):
    soft = np.rint(cat * 0.5).astype(np.uint8)
    assert edge_energy(soft, cat, WHOLE)["all"] == pytest.approx(0.25, rel=0.02)  # seen: 0.2507, by rounding
    assert edge_energy(cat, cat, WHOLE)["all"] == 1


@pytest.mark.parametrize(("noise", "tolerance"), [(0, 0.06), (25, 0.1)])  # seen: 0.04, 0.07
def test_the_blur_radius_is_found(items, noise, tolerance):
    item, measured = items[0], BlurRadius()
    assert item.scene is not None
    mask = item.parts()["out of focus"]
    for factor in (0.5, 1.0, 1.4):
        lens = Lens(blur=factor * item.scene.blur, focus=item.scene.focus)
        found = classical_bokeh(item.scene.aif, item.scene.disparity, lens)
        found = np.clip(found + np.random.default_rng(3).normal(0, noise, found.shape), 0, 255).astype(np.uint8)
        assert measured.factor(found, item, mask) == pytest.approx(factor, abs=tolerance)
        wanted = abs(factor - measured.factor(item.target, item, mask)) * item.scene.defocus[mask].mean()
        assert measured.error(found, item)["out of focus"] == pytest.approx(wanted, abs=8 * tolerance)


def test_no_picture_has_less_blur_error_than_the_truth(items):
    """The renders that blur is measured by lack what layers hide: the truth is measured by them too, and has 0."""
    for item in items:
        assert BlurRadius().error(item.target, item)["out of focus"] == 0


# --- features


def test_the_network_knows_a_cat(cat):
    """The last stage and the classifier, written out, on our features: ImageNet's cats are 281 to 285."""
    weights = torch.load(weight_file(), weights_only=True)

    def layer(hidden, convolution, norm, active=True):
        kernel = weights[f"{convolution}.weight"]
        hidden = torch.conv2d(
            hidden, kernel, padding=kernel.shape[-1] // 2, groups=len(kernel) if kernel.shape[1] == 1 else 1
        )
        state = [weights[f"{norm}.{name}"] for name in ("running_mean", "running_var", "weight", "bias")]
        hidden = torch.nn.functional.batch_norm(hidden, *state, eps=1e-3)
        return hidden.clamp(0, 6) if active else hidden

    picture = torch.from_numpy(np.ascontiguousarray(cat[8:232, 8:232].transpose(2, 0, 1))).float()[None] / 255
    hidden = load_features()(picture)[-1]
    hidden = layer(hidden, "_blocks.15._expand_conv", "_blocks.15._bn0")
    hidden = layer(hidden, "_blocks.15._depthwise_conv", "_blocks.15._bn1")
    hidden = layer(hidden, "_blocks.15._project_conv", "_blocks.15._bn2", active=False)
    hidden = layer(hidden, "_conv_head", "_bn1").mean((2, 3))
    scores = hidden @ weights["_fc.weight"].T + weights["_fc.bias"]
    assert 281 <= int(scores.argmax()) <= 285


@pytest.mark.parametrize("size", [(64, 96), (70, 101)])
def test_features_of_any_size(size):
    found = load_features()(torch.rand(1, 3, *size))
    assert [one.shape[2:] for one in found] == [tuple(-(-side // 2**level) for side in size) for level in range(1, 6)]


def test_equal_pictures_have_distance_zero_and_equal_sets_too(items):
    suite = FeatureDistance(load_features())
    item = items[0]
    distance, ours, truth = suite.compare(item.key, item.target, item.target, item.parts())
    assert set(distance) == {"all", "in focus", "out of focus"}
    assert set(distance.values()) == {0.0}
    assert all((ours[split] == truth[split]).all() for split in ours)


def test_the_frechet_distance_is_the_formula_s():
    """By scipy's matrix root where covariances have full rank; with few samples of many numbers it stays exact."""
    from scipy.linalg import sqrtm

    rng = np.random.default_rng(0)
    one, two = rng.normal(size=(60, 5)), 1 + rng.normal(size=(70, 5)) @ rng.normal(size=(5, 5))
    covariances = [np.cov(values.T) for values in (one, two)]
    root = sqrtm(covariances[0] @ covariances[1]).real
    wanted = ((one.mean(0) - two.mean(0)) ** 2).sum() + np.trace(covariances[0] + covariances[1] - 2 * root)
    assert frechet_distance(one, two) == pytest.approx(wanted, rel=1e-9)
    wide = rng.normal(size=(4, 300))
    assert frechet_distance(wide, wide + 2) == pytest.approx(4 * 300, rel=1e-9)  # the same covariance, moved by 2


def test_the_interval_is_the_percentile_bootstrap_s():
    from scipy.stats import bootstrap

    values = np.random.default_rng(5).gamma(2.0, size=24)
    ours = interval(list(values))
    theirs = bootstrap((values,), np.mean, n_resamples=20000, method="percentile", rng=0).confidence_interval
    assert ours is not None
    assert (ours.mean, ours.count) == (pytest.approx(values.mean()), 24)
    assert ours.low == pytest.approx(theirs.low, abs=0.03)  # 2000 resamples of sd 0.2: seen 0.01
    assert ours.high == pytest.approx(theirs.high, abs=0.03)
    assert interval([]) is None
    alone = interval([2.0])
    assert alone is not None
    assert (alone.low, alone.mean, alone.high) == (2, 2, 2)


def test_resamples_are_drawn_in_blocks_and_are_those_of_one_draw():
    values = np.random.default_rng(5).gamma(2.0, size=3000)
    tracemalloc.start()
    ours = interval(list(values))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 32 << 20  # seen: 17 MB; all at once are 96
    rng = np.random.default_rng(0)
    means = values[rng.integers(0, 3000, size=(2000, 3000))].mean(axis=1)
    assert ours is not None
    assert (ours.low, ours.high) == tuple(np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]))


def test_a_part_weighs_the_places_of_its_own_pixels():
    """Of 70 x 101 px, the 32 x 32 in the corner are one place of the coarsest map, and all of the next 2 x 2."""
    mask = np.zeros((70, 101), bool)
    mask[:32, :32] = True
    coarse = _share(mask, torch.zeros(1, 1, 3, 4), 5)[0, 0]
    assert (coarse[0, 0], coarse.sum()) == (1, 1)
    fine = _share(mask, torch.zeros(1, 1, 5, 7), 4)[0, 0]
    assert (fine[:2, :2] == 0.25).all()
    assert fine.sum() == 1


def test_an_unknown_metric_is_named_and_a_missing_one_has_a_reason():
    with pytest.raises(UsageError, match=r"--metrics: PSNRR: unknown; there are PSNR"):
        MetricSuite(["PSNRR"])
    suite = MetricSuite(ALL)
    reasons = {metric.name: metric.missing for metric in suite.metrics}
    assert "Inception" in reasons["FID"]
    for name in ("LPIPS", "MUSIQ"):
        assert "pyiqa" in reasons[name]


# --- Real-ESRGAN's weights


def _write_ncnn(folder, network, half):
    """ncnn's two files of a network, each convolution in float16 or float32."""
    lines, data = ["7767517", "1 1"], b""
    for place, one in enumerate(module for module in network.modules() if isinstance(module, torch.nn.Conv2d)):
        weight, bias = one.weight.detach().numpy(), one.bias.detach().numpy()
        lines.append(f"Convolution c{place} 1 1 a b 0={len(bias)} 1=3 4=1 5=1 6={weight.size}")
        numbers = weight.astype("<f2" if half else "<f4").tobytes()
        mark = (0x01306B47 if half else 0).to_bytes(4, "little")
        data += mark + numbers + bytes(-len(numbers) % 4) + bias.astype("<f4").tobytes()
    (folder / "a.param").write_text("\n".join(lines))
    (folder / "a.bin").write_bytes(data)
    return folder / "a.param", folder / "a.bin"


@pytest.mark.parametrize("half", [True, False])
def test_ncnn_weights_come_back(tmp_path, half):
    torch.manual_seed(0)
    written, read = RealEsrgan(width=5, growth=3, blocks=1), RealEsrgan(width=5, growth=3, blocks=1)
    read_ncnn(read, *_write_ncnn(tmp_path, written, half))
    for name, value in written.state_dict().items():
        wanted = value.half().float() if half and name.endswith("weight") else value
        assert torch.equal(read.state_dict()[name], wanted), name
    picture = np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)
    assert restore(read.eval(), picture, None).shape == picture.shape


def test_damaged_ncnn_weights_are_refused(tmp_path):
    network = RealEsrgan(width=5, growth=3, blocks=1)
    text, weights = _write_ncnn(tmp_path, network, half=True)
    whole = weights.read_bytes()
    for damaged in (whole[:-4], whole + b"1234", b"abcd" + whole[4:]):
        weights.write_bytes(damaged)
        with pytest.raises(DataError, match=r"a\.bin: "):
            read_ncnn(network, text, weights)
    with pytest.raises(DataError, match=r"a\.param: its convolutions are not"):
        read_ncnn(RealEsrgan(width=6, growth=3, blocks=1), text, weights)


def test_tiles_meet_without_a_seam():
    """A tile's margin is wider than what three convolutions see, so tiling changes nothing."""
    from magicbokeh.evaluation import real_esrgan

    torch.manual_seed(0)
    network = RealEsrgan(width=4, growth=2, blocks=0).eval()
    picture = torch.rand(1, 3, 40, 230)
    with torch.no_grad():
        assert torch.allclose(real_esrgan._by_tiles(network, picture), network(picture), atol=1e-6)

"""The small depth network: its shapes, its weights from ImageNet's, how it is saved, trained and found."""

import json
import shutil

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from support.magic_toys import TOY, toy_networks

from bokehsynth import DataError, UsageError
from magicbokeh import MagicBokehPipeline
from magicbokeh.conversion.imagenet import read_imagenet_encoder
from magicbokeh.data.loader import Batch
from magicbokeh.inference import depth as depth_module
from magicbokeh.inference import model_source
from magicbokeh.inference.depth import follow_edges, load_depth_model
from magicbokeh.inference.infer import InferOptions, export_model, taken_by_default
from magicbokeh.model.lite_depth import LiteDepthNetwork, encoder_from_imagenet
from magicbokeh.recipe import DepthStage, load_train_recipe
from magicbokeh.training.depth_distillation import DepthLoss, network_input
from magicbokeh.training.initial_models import build_initial_models, copy_depth_model
from magicbokeh.training.run import train

WEIGHTS = "diffusion_pytorch_model.safetensors"


def tiny(seed: int = 0) -> LiteDepthNetwork:
    torch.manual_seed(seed)
    sizes = {"channels": (8, 8, 8, 8, 8, 8, 8), "repeats": (1, 2, 1, 1, 1, 1), "decoder_channels": (8, 8, 8, 8)}
    return LiteDepthNetwork(side=64, **sizes).eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A pipeline folder with the network in it."""
    path = tmp_path_factory.mktemp("lite") / "model"
    MagicBokehPipeline.from_networks(toy_networks(), TOY, tiny()).save_pretrained(path)
    return path


def imagenet_weights() -> dict[str, torch.Tensor]:
    """Weights of the published names and shapes, with batch normalisations that are not the identity."""
    generator, found = torch.Generator().manual_seed(1), {}

    def add(convolution, norm, *shape):
        found[f"{convolution}.weight"] = torch.randn(shape, generator=generator) / shape[1] ** 0.5
        for leaf in ("weight", "bias", "running_mean", "running_var"):
            found[f"{norm}.{leaf}"] = torch.rand(shape[0], generator=generator) + 0.5

    add("_conv_stem", "_bn0", 32, 3, 3, 3)
    entering, number = 32, 0
    for width, count, kernel in zip((16, 24, 40, 80, 112, 192), (1, 2, 2, 3, 3, 4), (3, 3, 5, 3, 5, 5), strict=True):
        for _ in range(count):
            name, inside = f"_blocks.{number}", entering * (1 if number == 0 else 6)
            if number:
                add(f"{name}._expand_conv", f"{name}._bn0", inside, entering, 1, 1)
            add(f"{name}._depthwise_conv", f"{name}._bn1", inside, 1, kernel, kernel)
            add(f"{name}._project_conv", f"{name}._bn2", width, inside, 1, 1)
            entering, number = width, number + 1
    return found


def test_folded_weights_are_convolution_and_batch_norm():
    """The first two blocks written out with torch's batch normalisation, padded as TensorFlow pads."""
    weights, network = imagenet_weights(), LiteDepthNetwork()
    network.backbone.load_state_dict(encoder_from_imagenet(weights))
    picture = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(2)) * 2 - 1

    def norm(hidden, name):
        mean, var = weights[f"{name}.running_mean"], weights[f"{name}.running_var"]
        return torch.nn.functional.batch_norm(
            hidden, mean, var, weights[f"{name}.weight"], weights[f"{name}.bias"], eps=1e-3
        )

    def convolve(hidden, name, **options):
        return torch.nn.functional.conv2d(hidden, weights[f"{name}.weight"], **options)

    hidden = torch.nn.functional.pad(picture, (0, 1, 0, 1))
    hidden = norm(convolve(hidden, "_conv_stem", stride=2), "_bn0").clamp(0, 6)
    hidden = norm(convolve(hidden, "_blocks.0._depthwise_conv", padding=1, groups=32), "_blocks.0._bn1").clamp(0, 6)
    first = norm(convolve(hidden, "_blocks.0._project_conv"), "_blocks.0._bn2")
    with torch.no_grad():
        features = network.backbone(picture)
    assert (features[0] - first).abs().max() < 1e-5 * first.abs().max()  # 2.6e-7 seen
    sides = [(16, 32), (24, 16), (40, 8), (112, 4), (192, 2)]
    assert [tuple(one.shape[1:]) for one in features] == [(width, side, side) for width, side in sides]


def test_only_the_known_file_is_read(tmp_path):
    (tmp_path / "weights.pth").write_bytes(b"a pickle")
    with pytest.raises(DataError, match=r"only that file is read"):
        read_imagenet_encoder(tmp_path / "weights.pth")


def test_a_pipeline_keeps_it_to_the_bit(folder):
    pipe = MagicBokehPipeline.from_pretrained(folder)
    picture = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        wanted = tiny()(picture).predicted_depth
        assert torch.equal(pipe.depth_estimator(picture).predicted_depth, wanted)
        assert torch.equal(load_depth_model(folder)(picture).predicted_depth, wanted)
        assert torch.equal(copy_depth_model(pipe.depth_estimator)(picture).predicted_depth, wanted)
    assert wanted.shape == (2, 32, 48)
    disparity = pipe.disparity(np.random.default_rng(0).random((70, 131, 3), np.float32))
    assert disparity.shape == (70, 131)
    assert (disparity.min(), disparity.max()) == (0, 1)


def test_without_a_network_of_its_own_a_pipeline_takes_the_packaged_one(folder, monkeypatch):
    monkeypatch.setattr(model_source, "PACKAGED_MODEL", folder)
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("a connection"))
    pipe = MagicBokehPipeline.from_networks(toy_networks(), TOY)
    picture = np.random.default_rng(0).random((70, 131, 3), np.float32)
    assert np.array_equal(pipe.disparity(picture), MagicBokehPipeline.from_pretrained(folder).disparity(picture))


def test_it_travels_with_an_exported_model_in_half_precision(folder, tmp_path, monkeypatch):
    MagicBokehPipeline.from_networks(toy_networks(), TOY).save_pretrained(tmp_path / "alone")
    found = export_model(str(tmp_path / "alone"), tmp_path / "both", "float16", depth_model=str(folder))
    picture = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(6))
    with torch.no_grad():
        halved = load_depth_model(found)(picture).predicted_depth
        assert (halved - tiny()(picture).predicted_depth).abs().max() < 2e-3  # 2.4e-4 seen
    assert {value.dtype for value in load_file(found / "depth_estimator" / WEIGHTS).values()} == {torch.float16}
    named = InferOptions(model=str(tmp_path / "alone"))
    for place, lines in ((tmp_path / "none", 0), (folder, 1)):
        monkeypatch.setattr(model_source, "PACKAGED_MODEL", place)
        assert len(taken_by_default(named)) == lines
    assert taken_by_default(InferOptions(model=str(found))) == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"side": 10**9}, "side must be"),
        ({"channels": [10**9] * 7}, "channels each must be"),
        ({"repeats": [1]}, "repeats must be a list of 6"),
        ({"auto_map": {"AutoModel": "evil.X"}}, "unknown auto_map"),
        ({"decoder_channels": [8, 8, 8, 16]}, "cannot be opened"),
    ],
)
def test_configurations_that_are_none(folder, tmp_path, change, says):
    place = tmp_path / "depth"
    place.mkdir()
    content = json.loads((folder / "depth_estimator" / "config.json").read_text()) | change
    (place / "config.json").write_text(json.dumps(content))
    save_file(
        load_file(next((folder / "depth_estimator").glob("*.safetensors"))),
        place / "diffusion_pytorch_model.safetensors",
    )
    with pytest.raises(DataError, match=says):
        load_depth_model(place)


def test_weights_must_be_exactly_its_own(folder, tmp_path):
    place = tmp_path / "depth"
    place.mkdir()
    (place / "config.json").write_bytes((folder / "depth_estimator" / "config.json").read_bytes())
    tensors = load_file(folder / "depth_estimator" / WEIGHTS)
    del tensors["head.bias"]
    save_file(tensors, place / WEIGHTS)
    with pytest.raises(DataError, match=r"1 missing \(head.bias\)"):
        load_depth_model(place)


def batch_of(count: int = 2) -> Batch:
    """Scenes of one bright square, which is near; LQ is the clean picture under noise."""
    generator = torch.Generator().manual_seed(4)
    aif, disparity = torch.full((count, 3, 96, 96), -0.5), torch.full((count, 1, 96, 96), 0.1)
    for place in range(count):
        aif[place, :, 24 : 60 + place, 20:70], disparity[place, :, 24 : 60 + place, 20:70] = 0.8, 0.8
    lq = (aif + 0.3 * torch.randn(aif.shape, generator=generator)).clamp(-1, 1)
    keys = [f"train-{index:09d}" for index in range(count)]
    return Batch(lq, aif, aif, torch.zeros_like(disparity), disparity, keys)


def test_it_learns_exact_disparity_and_a_student_its_teachers():
    """On two scenes the error falls; then a student on LQ comes closer to the teacher on the clean picture."""
    batch, teacher = batch_of(), tiny(5).train()
    assert network_input(batch.aif, teacher).shape == (2, 3, 64, 64)
    losses = descend(teacher, DepthLoss(DepthStage(stage="depth", steps=1, network="lite", clean=1.0)), batch, 30)
    assert losses[-1] < 0.5 * losses[0]  # 0.26 of it seen
    student = copy_depth_model(teacher)
    stage = DepthStage(stage="depth", steps=1, teacher="run", clean=0.0)
    losses = descend(student, DepthLoss(stage, copy_depth_model(teacher)), batch, 20)
    assert losses[-1] < 0.7 * losses[0]  # 0.48 of it seen


def descend(network, loss, batch, steps):
    optimizer, found = torch.optim.Adam(network.parameters(), 3e-3), []
    for _ in range(steps):
        value = sum(loss(network, batch).values())
        found.append(float(value.detach()))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    return found


def test_a_coarse_map_takes_the_edges_of_the_picture():
    """A square on a dark ground, its disparity given at an eighth of the size: its border is found to the pixel."""
    picture, exact = np.full((256, 320, 3), 0.2, np.float32), np.full((256, 320), 0.1, np.float32)
    picture[83:190, 71:214], exact[83:190, 71:214] = 0.7, 0.8
    coarse = cv2.resize(exact, (40, 32), interpolation=cv2.INTER_AREA)
    small = cv2.resize(picture, (160, 128), interpolation=cv2.INTER_AREA)
    found = follow_edges(coarse, small, picture)
    plain = cv2.resize(coarse, (320, 256), interpolation=cv2.INTER_LINEAR)
    wrong = [int(((one > 0.45) != (exact > 0.45)).sum()) for one in (found, plain)]
    assert wrong[0] <= 20 < wrong[1]  # 0 and 399 seen
    assert np.abs(found - exact).mean() < np.abs(plain - exact).mean()
    flat = follow_edges(np.full((16, 20), 0.3, np.float32), small, picture)
    assert np.abs(flat - 0.3).max() < 1e-4, "what is flat stays flat, whatever the picture shows"


def test_an_index_that_names_another_network_is_refused(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "model")
    index = tmp_path / "model" / "model_index.json"
    content = json.loads(index.read_text())
    content["depth_estimator"] = ["transformers", "DepthAnythingForDepthEstimation"]
    index.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"is DepthAnythingForDepthEstimation, and its config\.json that of another"):
        MagicBokehPipeline.from_pretrained(tmp_path / "model")


def test_a_run_whose_depth_stage_has_not_come_has_no_depth_network(tmp_path):
    """Its checkpoints hold the network as it was initialised."""
    best = tmp_path / "checkpoints" / "best"
    (best / "pipeline" / "depth_estimator").mkdir(parents=True)
    (best / "state.json").write_text(json.dumps({"format": 1, "stage": 0, "global_step": 2, "files": {}}))
    (tmp_path / "run.json").write_text(json.dumps({"recipe": {"stages": [{"stage": "sr"}, {"stage": "depth"}]}}))
    with pytest.raises(UsageError, match="its stage `depth` has not been validated yet"):
        load_depth_model(tmp_path)


def test_a_missing_teacher_is_no_repository(monkeypatch):
    monkeypatch.setattr(depth_module, "fetch", lambda *_: pytest.fail("a connection"))
    with pytest.raises(UsageError, match="run-depth is neither on this machine"):
        load_depth_model("run-depth")


def test_what_a_depth_network_starts_from_is_checked_before_anything_is_made(tmp_path):
    recipe = load_train_recipe("small-depth", [f"stages.0.encoder={tmp_path / 'missing.pth'}"])
    with pytest.raises((UsageError, DataError), match=r"missing\.pth"):
        train(recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_network_that_init_brings_is_not_replaced(folder):
    recipe = load_train_recipe("small-depth", ["model={preset: toy}", "data.crop=64"])
    with pytest.raises(UsageError, match="--init brings a depth network; leave network and encoder out"):
        build_initial_models(recipe, folder, 8.0, 64)

"""Numbers that are none, files that were changed, disks that are full: each is named, and nothing is half done."""

import contextlib
import json
import resource
import shutil
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from support.magic_toys import TOY, toy_networks, write_base, write_official
from support.train_toys import mini, write_mini

from bokehsynth import DataError, StorageError
from magicbokeh import MagicBokehPipeline
from magicbokeh.cli import main
from magicbokeh.data.sources import fetch_dataset
from magicbokeh.inference.infer import export_model
from magicbokeh.model.networks import BokehUNet
from magicbokeh.training.run import train
from magicbokeh.training.trainer import StageTrainer

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def finished(tmp_path_factory, mini_shards):
    """A run of one stage; tests must not change it."""
    folder = tmp_path_factory.mktemp("finished")
    train(short(folder, mini_shards), folder / "run")
    return folder / "run"


def short(folder, shards):
    recipe = mini(folder / "mini.yaml", shards)
    return recipe.model_copy(update={"stages": recipe.stages[:1]})


@pytest.fixture
def copy(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "run")


@pytest.fixture
def console(tmp_path, monkeypatch, capfd):
    """The console script in this process, at work in `tmp_path`: (exit code, standard error)."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["magicbokeh", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_info:
            main()
        return exit_info.value.code, capfd.readouterr().err

    return run


def poison(path, name):
    tensors = load_file(path)
    tensors[name].view(-1)[0] = float("nan")
    path.unlink()  # it may be linked to another checkpoint
    save_file(tensors, path, metadata={"format": "pt"})


# --- NaN


@pytest.mark.parametrize(("part", "name"), [("unet", "conv_in.base_layer.bias"), ("vae", "decoder.conv_in.bias")])
def test_nan_weights_give_no_picture(tmp_path, console, part, name):
    MagicBokehPipeline.from_networks(toy_networks(), TOY).save_pretrained(tmp_path / "model")
    poison(tmp_path / "model" / part / WEIGHTS, name)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(tmp_path / "photo.png")
    code, err = console("infer", "photo.png", "--model", "model", "--blur", "0", "--out", "out", "--device", "cpu")
    assert code == 1
    assert "the network gives NaN or infinity" in err
    assert err.count("\n") == 1
    assert list((tmp_path / "out").iterdir()) == []
    with pytest.raises(DataError, match=rf"{part}: {name} holds NaN"):
        export_model(str(tmp_path / "model"), tmp_path / "exported")
    assert not (tmp_path / "exported").exists()


def test_init_refuses_nan(tmp_path, mini_shards, copy):
    pipeline = copy / "checkpoints" / "last" / "pipeline"
    shutil.copytree(pipeline, tmp_path / "model")
    poison(tmp_path / "model" / "vae" / WEIGHTS, "decoder.conv_in.bias")
    with pytest.raises(DataError, match=r"decoder\.conv_in\.bias holds NaN"):
        train(short(tmp_path, mini_shards), tmp_path / "other", init=tmp_path / "model")


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_validation_does_not_score_what_is_not_finite(tmp_path, mini_shards, monkeypatch, value):
    forward = BokehUNet.forward
    monkeypatch.setattr(BokehUNet, "forward", lambda self, *all: forward(self, *all) + (0 if self.training else value))
    with monkeypatch.context() as patched:  # the losses over the val split come before the scores
        patched.setattr(StageTrainer, "record_validation_losses", lambda self: None)
        with pytest.raises(DataError, match="validation of bokeh: the network gives NaN or infinity for val-"):
            train(short(tmp_path, mini_shards), tmp_path / "run")
    assert not list((tmp_path / "run" / "sheets").iterdir())
    with pytest.raises(DataError, match="loss of phase from_scratch over the val split is"):
        train(short(tmp_path, mini_shards), tmp_path / "other")


def test_infinity_is_not_clamped_away(tmp_path, monkeypatch):
    """An infinite latent decodes to a picture of black and white; the check comes before."""
    monkeypatch.setattr(BokehUNet, "forward", lambda self, latent, *_: latent + torch.inf)
    pipe = MagicBokehPipeline.from_networks(toy_networks(), TOY)
    with pytest.raises(DataError, match="NaN or infinity"):
        pipe(np.zeros((64, 64, 3), np.uint8), blur=0)


# --- changed checkpoints


@pytest.mark.parametrize("checkpoint", ["last", "step-000002"])
def test_export_and_init_compare_digests(copy, tmp_path, mini_shards, checkpoint):
    path = copy / "checkpoints" / checkpoint / "pipeline" / "vae" / WEIGHTS
    data = bytearray(path.read_bytes())
    data[-4096:] = bytes(4096)
    path.unlink()
    path.write_bytes(data)
    with pytest.raises(DataError, match=rf"{checkpoint}: damaged or missing: pipeline/vae/{WEIGHTS}"):
        export_model(str(copy), tmp_path / "model", checkpoint=checkpoint)
    assert not (tmp_path / "model").exists()
    if checkpoint == "last":
        with pytest.raises(DataError, match="damaged or missing"):
            train(short(tmp_path, mini_shards), tmp_path / "other", init=copy)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('{"a":' * 100_000 + "1" + "}" * 100_000, "nested"),
        ("[]", "JSON object"),
        ('{"format": 1, "global_step": "x", "files": {}}', "global_step"),
        ('{"format": 1, "global_step": 1, "files": 3}', "global_step"),
    ],
)
def test_states_that_are_none(copy, tmp_path, content, says):
    (copy / "checkpoints" / "last" / "state.json").unlink()
    (copy / "checkpoints" / "last" / "state.json").write_text(content)
    with pytest.raises(DataError, match=rf"state\.json: .*{says}"):
        export_model(str(copy), tmp_path / "model")


def test_a_run_record_that_is_none(copy, tmp_path, mini_shards):
    (copy / "run.json").write_text('{"a":' * 100_000 + "1" + "}" * 100_000)
    with pytest.raises(DataError, match=r"run\.json: is nested .*begin anew"):
        train(short(tmp_path, mini_shards), copy, resume=True)


# --- full disks


@contextlib.contextmanager
def room_for(size):
    """No file can be written that is larger than `size` bytes: what a full disk or quota answers."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_full_disk_at_a_checkpoint(tmp_path, console, mini_shards):
    write_mini(tmp_path / "mini.yaml", mini_shards)
    with room_for(600_000):
        code, err = console("train", "mini.yaml", "--out", "run", "--quiet", "--resume")
    assert code == 4, err
    assert "run/checkpoints: the weights cannot be written" in err
    assert "Traceback" not in err
    assert list((tmp_path / "run" / "checkpoints").iterdir()) == []


def test_a_full_disk_at_export_and_convert(tmp_path, console, copy):
    networks = toy_networks()
    write_base(tmp_path / "base", networks)
    write_official(tmp_path / "lora.pkl", networks)
    lines = {
        "model": ["export", copy, "model"],
        "converted": ["convert", "--base", "base", "--lora", "lora.pkl", "--out", "converted"],
    }
    before = sorted(tmp_path.iterdir())
    for name, line in lines.items():
        with room_for(600_000):
            code, err = console(*line)
        assert code == 4, err
        assert f"{name}: the weights cannot be written" in err
        assert "Traceback" not in err
    assert sorted(tmp_path.iterdir()) == before


def test_any_error_of_safetensors_at_a_checkpoint(tmp_path, mini_shards, monkeypatch):
    def full(*_, **__):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(StorageError, match="No space left on device"):
        train(short(tmp_path, mini_shards), tmp_path / "run")
    assert list((tmp_path / "run" / "checkpoints").iterdir()) == []


def test_a_full_disk_at_a_photo(tmp_path, console):
    MagicBokehPipeline.from_networks(toy_networks(), TOY).save_pretrained(tmp_path / "model")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(tmp_path / "photo.png")
    np.save(tmp_path / "map.npy", np.random.default_rng(0).random((64, 64)))
    line = ["infer", "photo.png", "--model", "model", "--out", "out", "--device", "cpu"]
    with room_for(2000):
        code, err = console(*line, "--blur", "0")
    assert code == 4, err
    assert "out/photo.png: File too large" in err
    with room_for(15_000):
        code, err = console(*line, "--blur", "9", "--depth", "map.npy", "--maps")
    assert code == 4, err
    assert "out/photo.defocus.npy: File too large" in err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["photo.png"]


# --- data sets behind a URL


@pytest.mark.parametrize("splits", [{"../../x": {"counts": [1]}}, {"/etc": {"counts": [1]}}, [], {"train": 3}, "x"])
def test_splits_of_a_url_do_not_become_paths(tmp_path, splits):
    source = tmp_path / "source"
    source.mkdir()
    (source / "dataset.json").write_text(json.dumps({"splits": splits}))
    with pytest.raises(DataError, match="is not the description"):
        fetch_dataset(source.as_uri(), tmp_path / "cache")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source"]

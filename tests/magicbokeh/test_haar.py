"""The Haar codec: orthonormal, exact, without weights; models with it are saved, opened, merged and tiled."""

import json

import numpy as np
import pytest
import torch
from support.magic_toys import TOY, toy_input, toy_networks

from bokehsynth import DataError, UsageError
from magicbokeh import MagicBokehPipeline, ModelConfig, build_networks
from magicbokeh.inference.infer import export_model
from magicbokeh.model.haar import HaarCodec
from magicbokeh.training.initial_models import load_saved_models

HAAR = ModelConfig.small(
    sample_size=16,
    block_out_channels=(16, 16, 32),
    heads=(0, 0, 2),
    map_channels=(8, 8, 8),
    sr_rank=4,
    bokeh_rank=4,
    focus_threshold=0.4,
)  # 64 px tiles


def pictures(height=64, width=96):
    return torch.rand((2, 3, height, width), generator=torch.Generator().manual_seed(3)) * 2 - 1


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_pictures_come_back_to_the_rounding_of_float32(levels):
    codec, given = HaarCodec(levels, 0.25), pictures()
    latent = codec.encode(given)
    assert latent.shape == (2, 3 * 4**levels, 64 >> levels, 96 >> levels)
    assert (codec.latent_channels, codec.scale) == (3 * 4**levels, 2**levels)
    assert float((codec.decode(latent) - given).abs().max()) <= 3e-7  # worst seen 1.2e-7, one unit at 1
    whole = codec.decode(codec.encode(given.round().double()))
    assert torch.equal(whole, given.round().double())  # powers of two only: whole numbers lose nothing


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_the_transform_is_orthonormal(levels):
    """Every picture of one pixel becomes a latent of length one, and two of them stay orthogonal."""
    side = 2**levels
    codec = HaarCodec(levels, 1.0)
    basis = torch.eye(3 * side * side).view(-1, 3, side, side)
    latents = codec.encode(basis).flatten(1)
    assert torch.allclose(latents @ latents.T, torch.eye(3 * side * side), atol=1e-6)
    assert torch.allclose(codec.decode(latents.view(-1, 3 * side * side, 1, 1)), basis, atol=1e-6)


def test_the_first_channels_are_means():
    codec, given = HaarCodec(2, 0.25), pictures()
    means = torch.nn.functional.avg_pool2d(given, 4)
    assert torch.allclose(codec.encode(given)[:, :3], means, atol=1e-6)
    flat = codec.encode(torch.full((1, 3, 8, 8), 0.5))
    assert torch.equal(flat[:, 3:], torch.zeros_like(flat[:, 3:]))


def test_an_untrained_model_returns_its_input():
    lq, defocus, _ = toy_input()
    found = build_networks(HAAR, 0).restore(lq, defocus)
    assert torch.allclose(found.image, lq, atol=1e-6)
    assert found.latent.shape == (1, 48, 16, 16)


@pytest.mark.parametrize(("config", "fix"), [(HAAR, "none"), (TOY, "focus")])
def test_colour_is_left_alone_where_the_codec_loses_nothing(config, fix):
    pipe = MagicBokehPipeline.from_networks(toy_networks(config), config)
    photo = np.random.default_rng(2).random((64, 64, 3), np.float32)
    found, named = (pipe(photo, blur=0, output_type="np", **call).images[0] for call in ({}, {"color": fix}))
    assert np.array_equal(found, named)
    assert not np.array_equal(found, pipe(photo, blur=0, output_type="np", color="wavelet").images[0])


def test_a_saved_model_opens_as_it_was_and_holds_no_weights_of_the_codec(tmp_path):
    pipe = MagicBokehPipeline.from_networks(toy_networks(HAAR), HAAR)
    pipe.save_pretrained(tmp_path / "model")
    assert [path.name for path in (tmp_path / "model" / "vae").iterdir()] == ["config.json"]
    again = MagicBokehPipeline.from_pretrained(tmp_path / "model")
    lq, defocus, _ = toy_input(height=32, width=48)  # sides are multiples of 16 here
    expected = pipe.forward_tensors(lq, defocus).image
    assert torch.equal(again.forward_tensors(lq, defocus).image, expected)
    models, config = load_saved_models(tmp_path / "model")
    assert config == HAAR
    assert torch.equal(models.networks.restore(lq, defocus).image, expected)
    export_model(str(tmp_path / "model"), tmp_path / "small", "float16")
    fused = MagicBokehPipeline.from_pretrained(tmp_path / "small")
    assert fused.unet.config.sr_rank == 0
    assert float((fused.forward_tensors(lq, defocus).image - expected).abs().max()) < 0.02  # worst seen 0.004: float16


def test_the_attention_of_the_coarsest_block_is_masked():
    """Tokens in focus see nothing of what is out of focus through the bokeh LoRA, and the mask has an effect."""
    networks = toy_networks(HAAR)
    lq, defocus, _ = toy_input()
    regions = networks.regions(defocus, networks.vae.encode(lq))
    assert (4, 4) in regions
    assert len(networks.unet.focus_layers()) == 2
    latent = networks.vae.encode(lq)
    assert not torch.equal(networks.unet(latent, None, regions), networks.unet(latent, None, None))


def test_a_photo_of_any_size_is_tiled_by_the_codecs_scale():
    pipe = MagicBokehPipeline.from_networks(build_networks(HAAR, 0), HAAR)
    photo = np.random.default_rng(0).random((75, 131, 3)).astype(np.float32)
    depth = np.linspace(0, 1, 131, dtype=np.float32)[None].repeat(75, 0)
    found = pipe(photo, focus=0.5, blur=8.0, depth=depth, work_size="full", color="none", output_type="np")
    assert found.images[0].shape == (75, 131, 3)
    assert float(np.abs(found.images[0] - photo).max()) < 1e-5  # untrained: nothing but codec and tiles


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"latent_channels": 4}, "latent_channels: 48 with codec haar and haar_levels 2"),
        ({"haar_levels": 3}, "latent_channels: 192"),
        ({"haar_levels": 3, "latent_channels": 192}, r"map_channels: 4 numbers.*1/8"),
        ({"vae_rank": 4}, "vae_rank: 0 with codec haar"),
        ({"codec": "fourier"}, "codec: vae or haar"),
    ],
)
def test_sizes_that_do_not_fit_the_codec_are_named(changes, says):
    with pytest.raises(UsageError, match=says):
        ModelConfig.small(**changes)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"levels": 40}, "levels must be an integer from 1 to 4"),
        ({"scaling_factor": 0}, "scaling_factor must be"),
        ({"code": "x"}, "unknown code"),
        ({"_class_name": "BokehVAE"}, "_class_name must be HaarCodec"),
    ],
)
def test_a_strange_codec_is_refused(tmp_path, changes, says):
    MagicBokehPipeline.from_networks(build_networks(HAAR, 0), HAAR).save_pretrained(tmp_path / "model")
    path = tmp_path / "model" / "vae" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(DataError, match=says):
        MagicBokehPipeline.from_pretrained(tmp_path / "model")

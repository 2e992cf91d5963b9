"""Initial weights: what networks reconstruct before any step and what their layers pass; and what tells learning."""

import numpy as np
import pytest
import torch

import bokehsynth as bs
from bokehsynth import UsageError
from magicbokeh.model.bundle import build_networks
from magicbokeh.model.config import ModelConfig
from magicbokeh.model.init import init_cancelling_unet, init_haar_vae, init_map_embedding, zero_init_residuals
from magicbokeh.training.metrics_log import LossHistory, summary_table

SIZES = ModelConfig.toy(
    latent_channels=48, vae_block_out_channels=(16, 32, 48, 64), vae_norm_groups=1, block_out_channels=(112, 32),
    heads=(4, 4), layers_per_block=1,
)  # fmt: skip


def decibels(found, target):
    return float(-10 * ((found - target) / 2).square().mean().log10())


@torch.no_grad()
def test_an_autoencoder_reconstructs_pictures_before_its_first_step(mini_shards):
    aif = np.stack([sample.aif for sample in bs.open_dataset(mini_shards, "train")])
    pictures = torch.from_numpy(aif).permute(0, 3, 1, 2).float() / 127.5 - 1
    vae = build_networks(SIZES, 0).vae
    zero_init_residuals(vae)
    random = decibels(vae(pictures), pictures)
    init_haar_vae(vae)
    ours = decibels(vae(pictures), pictures)
    assert random < 13
    assert ours > random + 6
    # Brightness survives the norms: a lighter grey comes out lighter by nearly as much.
    greys = torch.stack([torch.full((3, 64, 64), level) for level in (-0.5, 0.0, 0.5)])
    levels = vae(greys)[..., 8:-8, 8:-8].mean((1, 2, 3))
    assert torch.allclose(levels.diff(), torch.full((2,), 0.5), atol=0.15)
    # Halfway to equal variance: those of orthonormal wavelets differ by far more.
    spread = vae.encode(pictures).std((0, 2, 3))
    assert float(spread.max() / spread.min()) < 40


def test_an_autoencoder_with_one_channel_per_norm_group_is_refused():
    with pytest.raises(UsageError, match=r"vae_norm_groups: 8 groups leave 8 channels fewer than two each"):
        init_haar_vae(build_networks(ModelConfig.toy(vae_norm_groups=8), 0).vae)


@torch.no_grad()
def test_a_cancelling_unet_starts_at_zero_and_passes_residuals():
    networks = build_networks(SIZES, 0)
    latent = torch.randn((2, 48, 8, 8), generator=torch.Generator().manual_seed(0))
    init_cancelling_unet(networks.unet)
    assert float(networks.unet(latent).abs().max()) < 1e-5
    skips = [torch.zeros_like(skip) for skip in networks.controlnet(latent, torch.zeros((2, 1, 64, 64)))]
    outputs = []
    for channel in range(56):
        skips[0].zero_()
        skips[0][:, channel] = torch.randn((2, 8, 8), generator=torch.Generator().manual_seed(channel))
        outputs.append(networks.unet(latent, skips).flatten())
    values = torch.linalg.svdvals(torch.stack(outputs))
    assert float(values[47] / values[0]) > 0.1  # in every direction of the latents
    for layer in networks.unet.focus_layers():
        torch.nn.init.normal_(layer.processor.to_out_lora[1].weight, std=0.1)
    assert float(networks.unet(latent).abs().mean()) > 1e-3  # and what the bokeh LoRA will add


@torch.no_grad()
def test_the_map_embedding_keeps_the_map_and_the_outputs_stay_zero():
    controlnet = build_networks(SIZES, 0).controlnet
    ramp = torch.linspace(0, 1, 64).expand(1, 1, 64, 64)
    deviations = [controlnet.controlnet_cond_embedding((2 * ramp - 1).expand(-1, 3, -1, -1)).std()]
    init_map_embedding(controlnet)
    deviations.append(controlnet.controlnet_cond_embedding((2 * ramp - 1).expand(-1, 3, -1, -1)).std())
    assert float(deviations[0]) < 0.01 < 0.1 < float(deviations[1])
    assert not any(skip.any() for skip in controlnet(torch.ones((1, 48, 8, 8)), ramp))


# --- what tells learning


def losses_of(*validation, train=(0.3, 0.2)):
    losses = LossHistory(1)
    for loss in train:
        losses.add("sr", loss)
    for loss in validation:
        losses.add_validation("sr", loss)
    return losses


@pytest.mark.parametrize(
    ("losses", "fell"),
    [
        (losses_of(0.5, 0.4), True),
        (losses_of(0.5, 0.4, train=(0.2, 0.3)), True),
        (losses_of(0.4, 0.5), False),  # the training loss fell: other samples came
        (losses_of(0.4, 0.3, 0.4), False),
        (losses_of(0.4), False),
        (losses_of(0.4, float("nan")), False),
        (losses_of(), False),
    ],
)
def test_only_the_same_samples_before_and_after_tell_whether_a_loss_fell(losses, fell):
    again = LossHistory(1, losses.record())
    assert again.fell("sr") == fell
    assert again.summary()["sr"]["fell"] == fell
    assert ("DID NOT FALL" in "\n".join(summary_table(again, {}))) != fell

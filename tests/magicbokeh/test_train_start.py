"""Initial weights: what their layers pass; and what tells learning."""

import pytest
import torch

from magicbokeh.model.bundle import build_networks
from magicbokeh.model.config import ModelConfig
from magicbokeh.model.init import init_map_embedding
from magicbokeh.training.metrics_log import LossHistory, summary_table


@torch.no_grad()
def test_the_map_embedding_keeps_the_map_and_the_outputs_stay_zero():
    controlnet = build_networks(ModelConfig.toy(), 0).controlnet
    ramp = torch.linspace(0, 1, 64).expand(1, 1, 64, 64)
    deviations = [controlnet.controlnet_cond_embedding((2 * ramp - 1).expand(-1, 3, -1, -1)).std()]
    init_map_embedding(controlnet)
    deviations.append(controlnet.controlnet_cond_embedding((2 * ramp - 1).expand(-1, 3, -1, -1)).std())
    assert float(deviations[0]) < 0.01 < 0.1 < float(deviations[1])
    assert not any(skip.any() for skip in controlnet(torch.ones((1, 4, 8, 8)), ramp))


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

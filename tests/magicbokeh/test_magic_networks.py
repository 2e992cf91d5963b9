"""The networks against the official numbers, the official formulation at full depth, and their own shortcuts."""

import dataclasses
import json
import sys
import types
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file
from support.magic_toys import TOY, merged_state, official_content, reference, replaced, toy_input, toy_networks
from torch.utils.flop_counter import FlopCounterMode

from bokehsynth import UsageError
from magicbokeh import ModelConfig, build_networks
from magicbokeh.conversion.official import kept_by_pruning, sr_tensor_name
from magicbokeh.model import attention as attention_module
from magicbokeh.model.attention import (
    Regions,
    regions_by_size,
    segmented_attention,
    varlen_attention,
    varlen_kernel,
)
from magicbokeh.model.networks import unet_lora_targets, vae_lora_targets

FIXTURES = Path(__file__).parents[1] / "fixtures"


def worst(found, wanted):
    return float((found - wanted).abs().max())


@pytest.fixture(scope="module")
def networks():
    return toy_networks()


# --- the official numbers


def test_the_official_activations():
    """Weights and activations of the official release at the network's outermost blocks, where most tokens attend.

    The deeper blocks are random here; the official activations at their edge take the place of what they give.
    """
    excerpt = load_file(FIXTURES / "magic_excerpt.safetensors")
    case = {key.removeprefix("case."): value for key, value in excerpt.items() if key.startswith("case.")}
    sizes = {"sample_size": 32, "vae_block_out_channels": (8, 8, 8, 8), "vae_norm_groups": 8}
    networks = build_networks(replaced(**sizes), 0)
    for name in ("unet", "controlnet"):
        part = getattr(networks, name)
        own = {key.removeprefix(f"{name}."): value for key, value in excerpt.items() if key.startswith(f"{name}.")}
        assert not part.load_state_dict(own, strict=False).unexpected_keys
    latent, defocus = case["latent"], case["defocus01"]
    networks.controlnet.controlnet_cond_embedding = Constant(case["cond_embedding"])
    with torch.no_grad():
        residuals = networks.controlnet(latent, defocus)
        for index in range(4):  # worst seen 1.5e-6
            assert worst(residuals[index], case[f"residual.{index}"]) <= 3e-6
        networks.unet.up_blocks[2].forward = lambda *_, **__: case["unet.up_blocks.2"]
        eps = networks.unet(latent, residuals, networks.regions(defocus, latent))
    assert worst(eps, case["eps"]) <= 6e-6  # worst seen 2.9e-6
    assert worst(networks.step.x0(latent, eps), case["x0"]) <= 9e-5  # worst seen 4.5e-5
    assert 0.05 < networks.regions(defocus, latent)[32, 32].in_focus[0] / 1024 < 0.95  # both regions are there


class Constant(torch.nn.Module):
    """Returns a constant."""

    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, *_, **__):
        return self.value


def test_the_excerpt_names_its_source():
    with safe_open(FIXTURES / "magic_excerpt.safetensors", "pt") as file:
        assert "random weights" in file.metadata()["from"]


# --- the official formulation, at full depth


@pytest.mark.parametrize("noisy", [False, True])
@pytest.mark.parametrize("size", [(64, 64), (128, 64)])
def test_equals_stock_diffusers_with_the_dense_mask(networks, noisy, size):
    lq, defocus, noise = toy_input(2, *size)
    noise = noise if noisy else None
    with torch.no_grad():
        found = networks.restore(lq, defocus, noise)
        wanted = reference(networks, TOY, lq, defocus, noise)
        assert worst(found.latent, wanted["latent"]) <= 1e-5
        assert worst(found.eps, wanted["eps"]) <= 2e-5
        assert worst(found.x0, wanted["x0"]) <= 3e-4
        assert worst(found.image, wanted["image"]) <= 5e-5


def test_a_batch_equals_its_samples(networks):
    lq, defocus, noise = toy_input(3)
    with torch.no_grad():
        together = networks.restore(lq, defocus, noise)
        for index in range(3):
            one = slice(index, index + 1)
            alone = networks.restore(lq[one], defocus[one], noise[one])
            assert worst(together.eps[one], alone.eps) <= 1e-5
            assert worst(together.image[one], alone.image) <= 5e-5


def test_merged_equals_unmerged(networks):
    lq, defocus, noise = toy_input(2)
    fused = toy_networks()
    before = sum(value.numel() for value in fused.unet.parameters())
    fused.fuse()
    with torch.no_grad():
        wanted, found = networks.restore(lq, defocus, noise), fused.restore(lq, defocus, noise)
        assert worst(found.eps, wanted.eps) <= 2e-5
        assert worst(found.image, wanted.image) <= 5e-5
    names = set(fused.unet.state_dict()) | set(fused.vae.state_dict()) | set(fused.controlnet.state_dict())
    assert not [name for name in names if "lora_A" in name or "base_layer" in name or "time_emb" in name]
    assert sum(value.numel() for value in fused.unet.parameters()) < before
    assert fused.unet.config.sr_rank == fused.vae.config.vae_rank == 0
    fused.fuse()  # a second time changes nothing


def test_zero_blur_is_the_super_resolution_path(networks):
    """All in one region: both paths attend everywhere, and the map the ControlNet sees is that of the SR training."""
    lq, defocus, _ = toy_input()
    with torch.no_grad():
        latent = networks.vae.encode(lq)
        residuals = networks.controlnet(latent, torch.zeros_like(defocus))
        plain = networks.unet(latent, residuals)
        assert worst(networks.restore(lq, torch.zeros_like(defocus)).eps, plain) == 0


def test_the_second_stage_starts_where_the_first_ended():
    """With fresh ControlNet and bokeh LoRA the network is the one without them."""
    fresh = build_networks(TOY, 3)
    lq, defocus, _ = toy_input()
    stage_one = build_networks(replaced(bokeh_rank=0), 3)
    stage_one.unet.load_state_dict(
        {name: value for name, value in fresh.unet.state_dict().items() if ".processor." not in name}
    )
    stage_one.vae.load_state_dict(fresh.vae.state_dict())
    with torch.no_grad():
        latent = fresh.vae.encode(lq)
        assert worst(fresh.restore(lq, defocus).eps, stage_one.unet(latent)) == 0


def test_residual_prediction_starts_at_the_latent():
    networks = build_networks(replaced(prediction="residual"), 0)
    lq, defocus, _ = toy_input()
    with torch.no_grad():
        found = networks.restore(lq, defocus)
        assert torch.equal(found.x0, found.latent)
        eps = build_networks(TOY, 0)
        eps.unet.conv_out.base_layer.weight.zero_()
        eps.unet.conv_out.base_layer.bias.zero_()
        found = eps.restore(lq, defocus)
        assert float((found.x0 / found.latent).median()) == pytest.approx(14.65, abs=0.01)


def test_the_picture_is_decoded_when_first_read(networks):
    lq, defocus, _ = toy_input()
    calls = []

    def decode(x0):
        calls.append(x0.shape)
        return networks.decode(x0)

    with torch.no_grad():
        found = networks.restore(lq, defocus, decode=decode)
        assert found.x0.dtype == torch.float32
        assert len(found.residuals) == 12
        assert not calls
        image = found.image
        assert image.shape == lq.shape
        assert found.image is image
        assert found["image"] is image  # by name too, as in 0.4.0
        assert found["latent"] is found.latent
        assert len(calls) == 1


def test_the_seed_decides_the_weights():
    states = [build_networks(TOY, seed).unet.conv_in.base_layer.weight for seed in (1, 1, 2)]
    torch.manual_seed(0)
    before = torch.get_rng_state()
    build_networks(TOY, 5)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


@pytest.mark.parametrize(
    ("lq", "defocus", "says"),
    [
        ((1, 3, 60, 64), (1, 1, 60, 64), "multiples of 64"),
        ((1, 4, 64, 64), (1, 1, 64, 64), "B, 3, H, W"),
        ((2, 3, 64, 64), (1, 1, 64, 64), "to go with lq"),
    ],
)
def test_wrong_tensors_are_named(networks, lq, defocus, says):
    with pytest.raises(UsageError, match=says):
        networks.restore(torch.zeros(lq), torch.zeros(defocus))


@pytest.mark.parametrize(
    "changes", [{"heads": (1, 2)}, {"prediction": "v"}, {"sr_rank": -1}, {"alpha_bar": 1.0}, {"blur_reference": 0}]
)
def test_impossible_configurations_are_refused(changes):
    with pytest.raises(UsageError):
        replaced(**changes)


# --- segments


def dense(query, key, value, labels):
    mask = labels[:, None, :, None] == labels[:, None, None, :]
    return torch.nn.functional.scaled_dot_product_attention(query, key, value, mask)


def loop_kernel(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k):
    """What torch's varlen attention computes, segment by segment, under the same calling convention."""
    assert cu_seq_q.dtype == torch.int32
    assert int((cu_seq_q[1:] - cu_seq_q[:-1]).max()) <= max_q
    out = torch.empty_like(query)
    for start, end in zip(cu_seq_q[:-1].tolist(), cu_seq_q[1:].tolist(), strict=True):
        q, k, v = (part[start:end].transpose(0, 1) for part in (query, key, value))
        out[start:end] = torch.nn.functional.scaled_dot_product_attention(q, k, v).transpose(0, 1)
    return out


label_rows = st.integers(1, 40).flatmap(
    lambda n: st.lists(st.lists(st.booleans(), min_size=n, max_size=n), min_size=1, max_size=3)
)


@given(label_rows)
def test_two_segments_equal_the_dense_mask(rows):
    labels = torch.tensor(rows)
    noise = torch.Generator().manual_seed(labels.numel())
    query, key, value = (torch.randn((*labels.shape, 2, 4), generator=noise).transpose(1, 2) for _ in range(3))
    wanted = dense(query, key, value, labels)
    regions = Regions.from_labels(labels)
    assert worst(segmented_attention(query, key, value, regions), wanted) <= 3e-6
    assert worst(varlen_attention(query, key, value, regions, loop_kernel), wanted) <= 3e-6


@pytest.mark.parametrize(("threshold", "in_focus"), [(0.0, 32), (1.0, 64)])
def test_a_defocus_equal_to_the_threshold_is_in_focus(networks, threshold, in_focus):
    """Maps hold exactly 0 in focus and exactly 1 beyond the reference: a threshold of 1 means one region."""
    defocus = torch.zeros((1, 1, 64, 64))
    defocus[..., 32:] = 1
    regions = dataclasses.replace(networks, focus_threshold=threshold).regions(defocus, torch.zeros((1, 4, 8, 8)))
    assert regions[8, 8].in_focus == (in_focus,)


@pytest.mark.parametrize("focused", [0, 1, 15, 16])
def test_single_labels_and_single_tokens(focused):
    labels = torch.zeros((1, 16), dtype=torch.bool)
    labels[0, torch.randperm(16, generator=torch.Generator().manual_seed(1))[:focused]] = True
    query, key, value = torch.randn((3, 1, 2, 16, 4), generator=torch.Generator().manual_seed(2))
    regions = Regions.from_labels(labels)
    assert regions.single == (focused in (0, 16))
    assert worst(segmented_attention(query, key, value, regions), dense(query, key, value, labels)) <= 3e-6


def test_a_token_takes_the_label_of_its_top_left_pixel():
    focus = torch.zeros((1, 1, 64, 128), dtype=torch.bool)
    focus[0, 0, 8, 24] = True  # token (1, 3) of 8 x 16; at half that, pixel (8, 24) is in no corner
    found = regions_by_size(focus, (8, 16), 3)
    assert set(found) == {(8, 16), (4, 8), (2, 4)}
    assert found[8, 16].in_focus == (1,)
    assert int(found[8, 16].order[0, 0]) == 1 * 16 + 3
    assert found[4, 8].in_focus == (0,)


def test_the_host_waits_once_for_the_counts_of_all_resolutions(monkeypatch):
    focus = torch.rand((2, 1, 64, 128), generator=torch.Generator().manual_seed(5)) < 0.4
    waits, tolist = [], torch.Tensor.tolist
    monkeypatch.setattr(torch.Tensor, "tolist", lambda self: [waits.append(1), tolist(self)][1])
    found = regions_by_size(focus, (16, 32), 3)
    assert not waits
    counts = {size: regions.in_focus for size, regions in found.items()}
    assert len(waits) == 1
    assert counts == {size: tuple(tolist(regions.counts)) for size, regions in found.items()}
    assert regions_by_size(focus, (16, 32), 0) == {}


@pytest.mark.parametrize(
    ("capability", "dim", "dtype", "taken"),
    [
        ((9, 0), 64, torch.float16, True),
        ((8, 0), 256, torch.bfloat16, True),
        ((8, 6), 8, torch.float16, True),
        ((7, 5), 64, torch.float16, False),  # a T4: no flash attention
        ((9, 0), 512, torch.float16, False),
        ((9, 0), 60, torch.float16, False),
        ((9, 0), 64, torch.float32, False),
    ],
)
def test_flash_attention_is_asked_for_only_where_it_works(monkeypatch, capability, dim, dtype, taken):
    """Elsewhere the two segments, which give the same numbers, instead of torch's refusal."""
    varlen = types.ModuleType("torch.nn.attention.varlen")
    varlen.varlen_attn = loop_kernel
    monkeypatch.setitem(sys.modules, "torch.nn.attention.varlen", varlen)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    query = types.SimpleNamespace(is_cuda=True, dtype=dtype, shape=(1, 5, 100, dim), device="cuda:0")
    assert varlen_kernel(query) is (loop_kernel if taken else None)


def test_a_forward_pass_never_waits_for_the_device(monkeypatch):
    """On the meta device no number can be read; where flash attention works, none is asked for. Gradients as well."""
    kernel = lambda query, *_: query.clone()  # noqa: E731
    monkeypatch.setattr(attention_module, "varlen_kernel", lambda query: kernel)
    with torch.device("meta"):
        networks = build_networks(TOY)
        lq, defocus = torch.empty((2, 3, 64, 64)), torch.empty((2, 1, 64, 64))
        found = networks.restore(lq, defocus)
        found.x0.sum().backward()
    assert found.x0.device.type == "meta"
    assert sum(value.grad is not None for value in networks.unet.parameters()) > 0


@pytest.mark.parametrize("focused", [0, 5, 16])
def test_segments_of_a_batch_are_bounded_on_the_device(focused):
    labels = torch.arange(16).expand(2, 16) < torch.tensor([[focused], [3]])
    regions = Regions.from_labels(labels)
    assert regions.segment_ends.dtype == torch.int32
    assert regions.segment_ends.tolist() == [0, focused, 16, 19, 32]
    assert regions.in_focus == (focused, 3)
    assert regions.sorted_rows.tolist() == list(range(32)), "those in focus come first already"


def test_varlen_on_the_gpu():
    """torch's own kernel; where there is no CUDA device the same code runs above on a stand-in for it."""
    query = torch.zeros((1, 2, 16, 8), dtype=torch.float16)
    if not torch.cuda.is_available():
        assert varlen_kernel(query) is None
        return
    noise = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn((2, 5, 256, 64), generator=noise).cuda().half() for _ in range(3))
    labels = (torch.rand((2, 256), generator=noise) < 0.3).cuda()
    wanted = dense(query.float(), key.float(), value.float(), labels)
    assert worst(segmented_attention(query, key, value, Regions.from_labels(labels)).float(), wanted) <= 5e-3


# --- the real sizes, on the meta device


@pytest.fixture(scope="module")
def real():
    with torch.device("meta"):
        return build_networks(ModelConfig.sd21(sr_rank=4, vae_rank=4, bokeh_rank=8))


def test_the_real_network_has_the_official_number_of_parameters():
    with torch.device("meta"):
        bare = build_networks(ModelConfig.sd21(sr_rank=0, vae_rank=0, bokeh_rank=0))
    count = {name: sum(p.numel() for p in getattr(bare, name).parameters()) for name in ("unet", "controlnet", "vae")}
    assert count == {"unet": 723_742_084, "controlnet": 247_105_040, "vae": 83_653_863}


def test_loras_have_the_official_number_of_parameters(real):
    sizes = {name: value.numel() for name, value in real.unet.state_dict().items()}
    assert sum(size for name, size in sizes.items() if ".processor." in name) == 53_760 * 8
    assert sum(size for name, size in sizes.items() if ".lora_" in name) == pytest.approx(3.29e6, rel=2e-3)
    vae = {name: value.numel() for name, value in real.vae.state_dict().items() if ".lora_" in name}
    assert len(vae) == 64
    assert sum(vae.values()) == pytest.approx(0.37e6, rel=2e-2)


def test_every_official_name_has_its_place(real):
    """All 366 + 64 + 72 + 250 tensors of the official file at its real depth."""
    names = json.loads((FIXTURES / "magic_official_names.json").read_text())
    official = [
        f"{module}.lora_{half}.default_{side}.weight"
        for side in ("encoder", "decoder")
        for module in names[f"unet_lora_{side}_modules"]
        for half in "AB"
    ] + ["conv_in.base_layer.weight", "conv_in.base_layer.bias"]
    assert len(official) == 366
    own = set(real.unet.state_dict())
    loras = {name for name in own if ".lora_" in name} | {"conv_in.base_layer.weight", "conv_in.base_layer.bias"}
    assert {sr_tensor_name(name) for name in official} == loras
    processors = {
        f"up_blocks.{block}.attentions.{layer}.transformer_blocks.0.attn1.processor.to_{part}_lora.{half}.weight"
        for block in (1, 2, 3)
        for layer in range(3)
        for part in ("q", "k", "v", "out")
        for half in (0, 1)
    }
    assert {name for name in own if ".processor." in name} == processors
    assert len(processors) == 72
    assert len(real.controlnet.state_dict()) == 250
    assert len([name for name in real.vae.state_dict() if ".lora_" in name]) == 64


def test_targets_are_the_official_ones():
    names = json.loads((FIXTURES / "magic_official_names.json").read_text())
    with torch.device("meta"):
        bare = build_networks(ModelConfig.sd21(sr_rank=0, vae_rank=0))
    assert set(unet_lora_targets(bare.unet)) == {name for part in names.values() for name in part}
    targets = vae_lora_targets(bare.vae)
    assert len(targets) == 32
    assert "quant_conv" in targets
    assert not [name for name in targets if name.startswith(("decoder", "post_quant"))]


def test_the_whole_base_fits_after_pruning(real):
    """Every tensor of diffusers' own SD2.1 UNet that is left after pruning has its place, and no place is empty."""
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        stock = UNet2DConditionModel(
            block_out_channels=(320, 640, 1280, 1280),
            attention_head_dim=(5, 10, 20, 20),
            cross_attention_dim=1024,
            use_linear_projection=True,
        )
    kept = {name for name in stock.state_dict() if kept_by_pruning(name)}
    own = {name.replace(".base_layer.", ".") for name in real.unet.state_dict() if ".lora_" not in name}
    assert kept == {name for name in own if ".processor." not in name}


def gflop(call):
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops() / 1e9


def test_work_of_one_tile():
    """torch's own count at 512 px, beside the numbers of the spec."""
    with torch.device("meta"), torch.no_grad():
        bare = build_networks(ModelConfig.sd21(sr_rank=0, vae_rank=0, bokeh_rank=0))
        picture, defocus = torch.empty(1, 3, 512, 512), torch.empty(1, 1, 512, 512)
        latent = torch.empty(1, 4, 64, 64)
        found = {
            "encode": gflop(lambda: bare.vae.encode(picture)),
            "decode": gflop(lambda: bare.vae.decode(latent)),
            "unet": gflop(lambda: bare.unet(latent)),
            "controlnet": gflop(lambda: bare.controlnet(latent, defocus)),
        }
    spec = {"encode": 1116.7, "decode": 2514.5, "unet": 759.8, "controlnet": 258.4}
    assert found == pytest.approx(spec, rel=2e-3)


def test_merged_state_of_the_reference_is_not_ours():
    """The reference merges by its own formula: at rank 4 and alpha 8 it changes the weights."""
    networks = toy_networks()
    merged = merged_state(networks.unet, TOY.sr_alpha, TOY.sr_rank)
    assert not torch.equal(merged["conv_out.weight"], networks.unet.conv_out.base_layer.weight)
    assert len(official_content(networks)["state_dict_unet"]) == 366

"""Small networks in which every branch does something, files in the official layout made of them, and the network once
more on stock diffusers: the reference of the tests.
"""

import copy
import dataclasses
import os
import sys
import types
from contextlib import contextmanager
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read when huggingface_hub is imported; no test needs a network

import torch
import torch.nn.functional as F  # noqa: N812
from diffusers import AutoencoderKL, ControlNetModel, DDPMScheduler, UNet2DConditionModel

from magicbokeh import ModelConfig, build_networks
from magicbokeh.model.lora import ADAPTER

torch.set_num_threads(1)

TOY = ModelConfig.toy(prediction="eps", blur_reference=32.0, bokeh_alpha=1.0)
"""The official conventions at toy size."""


def toy_networks(config=TOY, seed=0):
    """Networks with noise where training starts at zero, so that every branch shows in the result."""
    networks = build_networks(config, seed)
    noise = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for part in (networks.unet, networks.controlnet, networks.vae):
            part.eval()
            for value in part.parameters():
                if not value.any():
                    value.copy_(0.1 * torch.randn(value.shape, generator=noise))
    return networks


def toy_input(batch=1, height=64, width=64, seed=5):
    """lq, defocus with both kinds of region, latent noise."""
    noise = torch.Generator().manual_seed(seed)
    lq = torch.rand((batch, 3, height, width), generator=noise) * 2 - 1
    x = torch.linspace(-1, 1, width)[None, None, None]
    y = torch.linspace(-1, 1, height)[None, None, :, None]
    centre = torch.rand((batch, 1, 1, 1), generator=noise) - 0.5
    defocus = ((x - centre) ** 2 + (y + centre) ** 2).sqrt().clamp(0, 1)
    return lq, defocus, torch.randn((batch, 4, height // 8, width // 8), generator=noise)


# --- the reference


def stock_unet(config, whole):
    """diffusers' UNet of these sizes, with text attention and, if `whole`, the mid block."""
    c = config
    return UNet2DConditionModel(
        sample_size=c.sample_size,
        block_out_channels=c.block_out_channels,
        attention_head_dim=c.heads,
        cross_attention_dim=32,
        norm_num_groups=c.norm_groups,
        use_linear_projection=True,
        mid_block_type="UNetMidBlock2DCrossAttn" if whole else None,
    )


def stock_vae(config):
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=config.vae_block_out_channels,
        layers_per_block=config.vae_layers_per_block,
        norm_num_groups=config.vae_norm_groups,
        scaling_factor=config.scaling_factor,
    )


def merged_state(model, alpha, rank):
    """The state dict with every LoRA added to its weight by the formula, without peft; base names."""
    state = model.state_dict()
    merged = {}
    for name, base in state.items():
        if ".lora_" in name or ".processor." in name:
            continue
        value = base
        plain = name.replace(".base_layer.", ".")
        low = name.replace(".base_layer.weight", f".lora_A.{ADAPTER}.weight")
        if low != name:
            a, b = state[low], state[low.replace("lora_A", "lora_B")]
            spec = "or,rihw->oihw" if a.ndim == 4 else "or,ri->oi"
            value = value + alpha / rank * torch.einsum(spec, b[:, :, 0, 0] if b.ndim == 4 else b, a)
        merged[plain] = value
    return merged


class DenseFocusProcessor:
    """The official attention written out: scores, a mask of 0 and -100, softmax; one mask per sample."""

    def __init__(self, loras, labels):
        self.loras, self.labels = loras, labels

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, **_):
        def low(name):
            return self.loras[name](hidden_states if name != "to_out_lora" else out2) * self.loras.scale

        q, k, v = attn.to_q(hidden_states), attn.to_k(hidden_states), attn.to_v(hidden_states)
        out1 = self.attend(attn, q, k, v, None)
        focus = self.labels[hidden_states.shape[1]]
        mask = torch.where(focus[:, :, None] == focus[:, None, :], 0.0, -100.0)
        out2 = self.attend(attn, q + low("to_q_lora"), k + low("to_k_lora"), v + low("to_v_lora"), mask)
        return attn.to_out[0](out1) + low("to_out_lora")

    @staticmethod
    def attend(attn, q, k, v, mask):
        q, k, v = (attn.head_to_batch_dim(part) for part in (q, k, v))
        scores = torch.baddbmm(torch.zeros(1), q, k.transpose(1, 2), beta=0, alpha=attn.scale)
        if mask is not None:
            scores = scores + mask.repeat_interleave(attn.heads, 0)
        return attn.batch_to_head_dim(scores.softmax(-1) @ v)


class _Loras(dict):
    scale = 1.0


@torch.no_grad()
def reference(networks, config, lq, defocus, noise=None):
    """latent, eps, x0, image by stock diffusers modules, merged by hand, with the dense mask."""
    unet = stock_unet(config, whole=False)
    for module in unet.modules():
        if hasattr(module, "attn2"):
            module.attn2 = module.norm2 = None
    unet.load_state_dict(merged_state(networks.unet, config.sr_alpha, config.sr_rank))
    control = ControlNetModel(
        block_out_channels=config.block_out_channels,
        attention_head_dim=config.heads,
        cross_attention_dim=32,
        norm_num_groups=config.norm_groups,
        use_linear_projection=True,
        conditioning_embedding_out_channels=(16, 32, 96, 256),
    )
    for module in control.modules():
        if hasattr(module, "attn2"):
            module.attn2 = module.norm2 = None
    control.mid_block = None
    assert not control.load_state_dict(networks.controlnet.state_dict(), strict=False).unexpected_keys
    vae = stock_vae(config)
    vae.load_state_dict(merged_state(networks.vae, config.vae_alpha, config.vae_rank))

    focus = (defocus <= config.focus_threshold).float()
    labels = {}
    for level in range(3):
        side = (lq.shape[2] // 8 >> level, lq.shape[3] // 8 >> level)
        labels[side[0] * side[1]] = F.interpolate(focus, size=side, mode="nearest").flatten(1)
    own = dict(networks.unet.named_modules())
    for name, module in unet.named_modules():
        if name.startswith("up_blocks") and name.endswith("attn1"):
            loras = _Loras(own[f"{name}.processor"].named_children())
            loras.scale = config.bokeh_alpha / config.bokeh_rank
            module.set_processor(DenseFocusProcessor(loras, labels))

    found = vae.encode(lq).latent_dist
    latent = (found.mode() if noise is None else found.mean + found.std * noise) * config.scaling_factor
    residuals, _ = control(
        latent, 999, None, (defocus * 2 - 1).repeat(1, 3, 1, 1), return_dict=False
    )  # the mid residual belongs to a block that is not there
    eps = unet(
        latent, 999, None, down_block_additional_residuals=residuals, mid_block_additional_residual=torch.zeros(1)
    ).sample
    alpha = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear").alphas_cumprod[999]
    x0 = (latent - (1 - alpha) ** 0.5 * eps) / alpha**0.5
    return {"latent": latent, "eps": eps, "x0": x0, "image": vae.decode(x0 / config.scaling_factor).sample.clamp(-1, 1)}


# --- files


def write_base(folder: Path, networks, config=TOY, whole=True) -> Path:
    """A Stable Diffusion folder whose weights, after pruning, are those of the networks."""
    unet = stock_unet(config, whole)
    state = unet.state_dict()
    state.update(plain_names(networks.unet))
    if not whole:
        state = {name: value for name, value in state.items() if ".attn2." not in name and ".norm2." not in name}
        state |= plain_names(networks.unet)
        from safetensors.torch import save_file

        (folder / "unet").mkdir(parents=True)
        unet.save_config(folder / "unet")
        save_file(state, folder / "unet" / "diffusion_pytorch_model.safetensors")
    else:
        unet.load_state_dict(state)
        unet.save_pretrained(folder / "unet")
    vae = stock_vae(config)
    vae.load_state_dict(plain_names(networks.vae))
    vae.save_pretrained(folder / "vae")
    return folder


def plain_names(model):
    """The base's weights under the base's names."""
    return {
        name.replace(".base_layer.", "."): value.clone()
        for name, value in model.state_dict().items()
        if ".lora_" not in name and ".processor." not in name
    }


def official_content(networks, config=TOY):
    """The dict of lora.pkl, its ControlNet a module whose class says `models.controlnet`."""
    unet, vae = networks.unet.state_dict(), networks.vae.state_dict()

    def adapter(name):
        side = "default_encoder" if name.startswith(("down_blocks", "conv_in")) else "default_decoder"
        return name.replace(f".{ADAPTER}.", f".{side}.")

    state = {adapter(name): value for name, value in unet.items() if ".lora_" in name}
    state |= {name: value for name, value in unet.items() if name.startswith("conv_in.base_layer.")}
    return {
        "rank_unet": config.sr_rank,
        "rank_vae": config.vae_rank,
        "state_dict_attn": config.bokeh_rank,
        "unet_lora_encoder_modules": ["conv_in"],
        "unet_lora_decoder_modules": ["conv_out"],
        "vae_lora_encoder_modules": ["quant_conv", "quant_conv"],
        "state_dict_unet": state,
        "state_dict_vae": {
            name.replace(f".{ADAPTER}.", ".default_encoder."): value for name, value in vae.items() if ".lora_" in name
        },
        "processor_state_dict": {name: value for name, value in unet.items() if ".processor." in name},
        "controlnet": networks.controlnet,
    }


@contextmanager
def official_classes(content):
    """While open, the ControlNet's class is one of a module `models.controlnet`, as in the official files."""
    control = copy.deepcopy(content["controlnet"])
    kind = type("ControlNetModel", (torch.nn.Module,), {"__module__": "models.controlnet"})
    home = types.ModuleType("models.controlnet")
    home.ControlNetModel = kind
    kept = {name: sys.modules.get(name) for name in ("models", "models.controlnet")}
    sys.modules["models"], sys.modules["models.controlnet"] = types.ModuleType("models"), home
    try:
        control.__class__ = kind
        yield content | {"controlnet": control}
    finally:
        for name, module in kept.items():
            sys.modules.pop(name)
            if module is not None:
                sys.modules[name] = module


def write_official(path: Path, networks, config=TOY, change=None) -> Path:
    """lora.pkl; `change` may alter its dict first."""
    content = official_content(networks, config)
    with official_classes(content) as ready:
        if change is not None:
            change(ready)
        torch.save(ready, path)
    return path


def replaced(config=TOY, **changes):
    return dataclasses.replace(config, **changes)

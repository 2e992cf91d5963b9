"""Convert the official MagicBokeh files to a pipeline folder of safetensors, without executing anything of them."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bokehsynth import BokehsynthError, DataError, UsageError
from magicbokeh.conversion.depth import depth_from_official
from magicbokeh.conversion.safe_pickle import float_tensors, module_tensors, read_checkpoint
from magicbokeh.conversion.tensor_unpickler import ClassStub
from magicbokeh.given_files import check_size, read_json
from magicbokeh.inference.pipeline import MagicBokehPipeline
from magicbokeh.model.bundle import Networks, build_networks
from magicbokeh.model.config import BOUNDS, SD_ALPHA_BAR, Bound, ModelConfig
from magicbokeh.model.folder_files import MAX_WEIGHTS, shard_files
from magicbokeh.model.lora import ADAPTER
from magicbokeh.model.safetensors_io import (
    Tensors,
    check_new_folder,
    load_strictly,
    sha256_of,
    under_base_layers,
    write_folder,
)

OFFICIAL_SR_ALPHA = 8.0
"""peft's default, which the official training never set: the scale is 8/rank."""
OFFICIAL_BOKEH_ALPHA = 1.0
"""The bokeh LoRA's own convention: the scale is 1/rank."""

_OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
"""Names of the VAE's attention before diffusers 0.15, still in most copies of Stable Diffusion."""


@dataclass(frozen=True)
class OfficialWeights:
    """The content of lora.pkl under names that say what it is."""

    unet: Tensors
    vae: Tensors
    bokeh: Tensors
    controlnet: Tensors
    sr_rank: int
    vae_rank: int
    bokeh_rank: int


def convert_official(base: str | Path, lora: str | Path, out: str | Path, depth: str | Path | None = None) -> Path:
    """Write the pipeline folder `out` (float32, LoRAs not merged) and return it.

    `base`: a Stable Diffusion 2.1-base folder with unet/ and vae/ (config.json and safetensors; the UNet may be whole
    or already pruned), scheduler/ if there. `lora`: the official lora.pkl. `depth`: the official DAdepth.pth.
    UsageError, DataError or StorageError name the file and the rule it breaks; `out` is then not created.
    """
    base, lora, out = Path(base), Path(lora), Path(out)
    check_new_folder(out)
    official = read_official(lora)
    try:
        config = base_config(base, official)
        networks = build_on_meta(config)
    except (BokehsynthError, MemoryError, ImportError):
        raise
    except Exception as error:  # sizes that do not go together may raise anything
        raise UsageError(f"{base}: its config.json files describe no network that can be built ({error})") from error
    _load_all(networks, base, official, lora)
    estimator = None if depth is None else depth_from_official(Path(depth))
    pipeline = MagicBokehPipeline.from_networks(networks, config, depth_estimator=estimator)
    sources = [lora] if depth is None else [lora, Path(depth)]
    write_folder(out, lambda folder: _write(pipeline, folder, official, sources))
    return out


def _write(pipeline: MagicBokehPipeline, folder: Path, official: OfficialWeights, sources: Iterable[Path]) -> None:
    pipeline.save_pretrained(folder)
    record = {
        "sources": {path.name: sha256_of(path) for path in sources},
        "ranks": {"sr": official.sr_rank, "vae": official.vae_rank, "bokeh": official.bokeh_rank},
        "alphas": {"sr": OFFICIAL_SR_ALPHA, "vae": OFFICIAL_SR_ALPHA, "bokeh": OFFICIAL_BOKEH_ALPHA},
    }
    (folder / "conversion.json").write_text(json.dumps(record, indent=2, sort_keys=True) + "\n")


# --- the official file


def read_official(path: Path) -> OfficialWeights:
    """Read lora.pkl; DataError names the key that is missing or of the wrong type."""
    content = read_checkpoint(path)
    if not isinstance(content, dict):
        raise DataError(f"{path}: must hold a dict of the official layout, not a {type(content).__name__}")

    def require(key: str, kind: type, what: str) -> Any:
        value = content.get(key)
        if not isinstance(value, kind) or isinstance(value, bool):
            raise DataError(f"{path}: {key!r} must be {what}, it is {'missing' if value is None else type(value)}")
        return value

    def rank(key: str) -> int:
        value: int = require(key, int, "a rank, 1 to 1024")
        if not 1 <= value <= 1024:
            raise DataError(f"{path}: {key!r} must be a rank, 1 to 1024, it is {value}")
        return value

    def tensors(key: str) -> Tensors:
        return float_tensors(require(key, dict, "a dict of tensors"), path, key)

    control = content.get("controlnet")
    if isinstance(control, ClassStub):
        control = module_tensors(control, path)
    if not isinstance(control, dict) or not control:
        raise DataError(f"{path}: 'controlnet' must be a pickled network or its state dict")
    return OfficialWeights(
        unet=tensors("state_dict_unet"),
        vae=tensors("state_dict_vae"),
        bokeh=tensors("processor_state_dict"),
        controlnet=float_tensors(control, path, "controlnet"),
        sr_rank=rank("rank_unet"),
        vae_rank=rank("rank_vae"),
        bokeh_rank=rank("state_dict_attn"),  # an integer, in spite of its official name
    )


def sr_tensor_name(official: str) -> str:
    """Our name of an official LoRA tensor; the adapters of the official UNet are one here."""
    for adapter in ("default_encoder", "default_decoder", "default_others"):
        official = official.replace(f".{adapter}.", f".{ADAPTER}.")
    return official


# --- the base


def base_config(base: Path, official: OfficialWeights) -> ModelConfig:
    """The sizes of the networks from the base's config files and the official ranks."""
    return ModelConfig(
        **base_sizes(base),
        sr_rank=official.sr_rank,
        sr_alpha=OFFICIAL_SR_ALPHA,
        vae_rank=official.vae_rank,
        vae_alpha=OFFICIAL_SR_ALPHA,
        bokeh_rank=official.bokeh_rank,
        bokeh_alpha=OFFICIAL_BOKEH_ALPHA,
    )


def base_sizes(base: Path) -> dict[str, Any]:
    """The fields of ModelConfig that a Stable Diffusion folder determines; UsageError where it is none."""
    unet, vae = _json(base / "unet" / "config.json"), _json(base / "vae" / "config.json")
    heads = unet.get("num_attention_heads") or unet.get("attention_head_dim", 8)
    channels = unet.get("block_out_channels")
    if not vae.get("block_out_channels"):
        raise UsageError(f"{base}/vae/config.json: must describe the VAE of Stable Diffusion 2.1-base")
    if not channels or unet.get("class_embed_type") or unet.get("dual_cross_attention"):
        raise UsageError(f"{base}/unet/config.json: must describe a Stable Diffusion 2.1-base UNet")
    blocks = len(channels) if isinstance(channels, list) else 1
    found = {
        "sample_size": unet.get("sample_size") or 64,
        "block_out_channels": channels,
        "heads": heads if isinstance(heads, list) else [heads] * blocks,
        "layers_per_block": unet.get("layers_per_block", 2),
        "norm_groups": unet.get("norm_num_groups", 32),
        "norm_eps": unet.get("norm_eps", 1e-5),
        "latent_channels": vae.get("latent_channels", 4),
        "vae_block_out_channels": vae["block_out_channels"],
        "vae_layers_per_block": vae.get("layers_per_block", 1),
        "vae_norm_groups": vae.get("norm_num_groups", 32),
        "scaling_factor": vae.get("scaling_factor", 0.18215),
    }
    for name, value in found.items():
        if fault := BOUNDS[name].fault(value):
            part = "vae" if name.startswith("vae") or name in ("latent_channels", "scaling_factor") else "unet"
            raise UsageError(f"{base}/{part}/config.json: {name.removeprefix('vae_')} {fault}, not {value!r:.100}")
    return {
        **{name: tuple(value) if isinstance(value, list) else value for name, value in found.items()},
        "use_linear_projection": bool(unet.get("use_linear_projection", False)),
        "upcast_attention": bool(unet.get("upcast_attention") or False),
        "alpha_bar": _alpha_bar(base / "scheduler" / "scheduler_config.json"),
    }


def _alpha_bar(path: Path) -> float:
    """The share of signal variance at step 999 of the base's schedule; Stable Diffusion's where the base has none."""
    if not path.is_file():
        return SD_ALPHA_BAR
    schedule = _json(path)
    target = schedule.get("prediction_type", "epsilon")
    if target != "epsilon":
        raise UsageError(f"{path}: prediction_type must be epsilon, as in SD2.1-base, not {target!r:.100}")
    kind, steps = schedule.get("beta_schedule", "scaled_linear"), schedule.get("num_train_timesteps", 1000)
    if kind != "scaled_linear" or steps != 1000:
        raise UsageError(
            f"{path}: must be 1000 steps of scaled_linear, as in SD2.1-base, not {steps!r:.100} of {kind!r:.100}"
        )
    ends = schedule.get("beta_start", 0.00085), schedule.get("beta_end", 0.012)
    for name, value in zip(("beta_start", "beta_end"), ends, strict=True):
        if fault := Bound(0, 1, whole=False).fault(value):
            raise UsageError(f"{path}: {name} {fault}, not {value!r:.100}")
    betas = torch.linspace(ends[0] ** 0.5, ends[1] ** 0.5, steps, dtype=torch.float32) ** 2
    return float((1 - betas).cumprod(0)[-1])


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UsageError(
            f"{path}: cannot be read; --base must be a folder of Stable Diffusion 2.1-base with unet/ and vae/"
        )
    return read_json(path)


def base_tensors(folder: Path) -> Tensors:
    """Read all tensors of a diffusers folder, from one safetensors file or several."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    index = folder / "diffusion_pytorch_model.safetensors.index.json"
    if index.is_file():
        files = shard_files(index)
    elif (folder / "diffusion_pytorch_model.safetensors").is_file():
        files = [folder / "diffusion_pytorch_model.safetensors"]
    else:
        files = sorted(folder.glob("*.safetensors"))
    if len(files) > 1 and not index.is_file():
        names = ", ".join(file.name for file in files)
        raise UsageError(f"{folder}: which of {names}? Keep one, as diffusion_pytorch_model.safetensors")
    if not files:
        raise UsageError(
            f"{folder}: holds no *.safetensors; .bin and .ckpt are pickles and are not read: download the safetensors"
        )
    found: Tensors = {}
    for file in files:
        check_size(file, MAX_WEIGHTS)
        try:
            found |= {name: value.float() for name, value in load_file(file).items()}
        except (SafetensorError, OSError) as error:
            raise DataError(f"{file}: damaged or incomplete ({error}); fetch it again") from None
    for name, value in found.items():
        if not torch.isfinite(value).all():
            raise DataError(f"{folder}: {name} holds NaN or infinity; fetch the base again")
    return found


def kept_by_pruning(name: str) -> bool:
    """Whether a tensor of the whole UNet remains after pruning."""
    text_norm = ".transformer_blocks." in name and ".norm2." in name
    return not (name.startswith("mid_block.") or ".attn2." in name or text_norm)


def current_vae_tensor(name: str, value: Tensor) -> tuple[str, Tensor]:
    """A VAE tensor under the current name and shape."""
    parts = name.split(".")
    if "attentions" in parts and parts[-2] in _OLD_ATTENTION:
        parts[-2] = _OLD_ATTENTION[parts[-2]]
    if "attentions" in parts and value.ndim == 4 and value.shape[2:] == (1, 1):  # 1x1 convolutions in old files
        value = value[:, :, 0, 0]
    return ".".join(parts), value


def base_unet_tensors(base: Path, unet: nn.Module) -> Tensors:
    """The base's UNet tensors that remain after pruning, under their names in `unet`."""
    kept = {name: value for name, value in base_tensors(base / "unet").items() if kept_by_pruning(name)}
    return under_base_layers(unet, kept)


def base_vae_tensors(base: Path, vae: nn.Module) -> Tensors:
    """The base's VAE tensors under their names in `vae`."""
    current = dict(current_vae_tensor(name, value) for name, value in base_tensors(base / "vae").items())
    return under_base_layers(vae, current)


# --- base and official weights combined


def build_on_meta(config: ModelConfig) -> Networks:
    """Build the networks on the meta device, without memory for their weights."""
    with torch.device("meta"):
        return build_networks(config)


def _load_all(networks: Networks, base: Path, official: OfficialWeights, lora: Path) -> None:
    unet = base_unet_tensors(base, networks.unet)
    unet |= {sr_tensor_name(name): value for name, value in official.unet.items()} | official.bokeh
    vae = base_vae_tensors(base, networks.vae)
    vae |= {sr_tensor_name(name): value for name, value in official.vae.items()}
    load_strictly(networks.unet, unet, f"UNet ({base} with {lora})")
    load_strictly(networks.vae, vae, f"VAE ({base} with {lora})")
    load_strictly(networks.controlnet, official.controlnet, f"ControlNet ({lora})")

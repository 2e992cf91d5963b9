"""Converts Depth Anything V2 from its authors' names (DAdepth.pth) to the transformers model."""

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bokehsynth import DataError
from magicbokeh.conversion.safe_pickle import float_tensors, read_checkpoint
from magicbokeh.model.safetensors_io import load_strictly

_STAGES = {12: (3, 6, 9, 12), 24: (5, 12, 18, 24), 40: (10, 20, 30, 40)}
"""Layers whose features the head reads, counted from 1, by the number of encoder layers."""

_RENAME = [
    (r"^pretrained\.cls_token$", "backbone.embeddings.cls_token"),
    (r"^pretrained\.mask_token$", "backbone.embeddings.mask_token"),
    (r"^pretrained\.pos_embed$", "backbone.embeddings.position_embeddings"),
    (r"^pretrained\.patch_embed\.proj\.", "backbone.embeddings.patch_embeddings.projection."),
    (r"^pretrained\.norm\.", "backbone.layernorm."),
    (r"^pretrained\.blocks\.(\d+)\.ls([12])\.gamma$", r"backbone.encoder.layer.\1.layer_scale\2.lambda1"),
    (r"^pretrained\.blocks\.(\d+)\.attn\.proj\.", r"backbone.encoder.layer.\1.attention.output.dense."),
    (r"^pretrained\.blocks\.(\d+)\.", r"backbone.encoder.layer.\1."),
    (r"^depth_head\.projects\.(\d)\.", r"neck.reassemble_stage.layers.\1.projection."),
    (r"^depth_head\.resize_layers\.(\d)\.", r"neck.reassemble_stage.layers.\1.resize."),
    (r"\.resConfUnit([12])\.conv([12])\.", r".residual_layer\1.convolution\2."),
    (r"\.out_conv\.", ".projection."),
    (r"^depth_head\.scratch\.output_conv1\.", "head.conv1."),
    (r"^depth_head\.scratch\.output_conv2\.0\.", "head.conv2."),
    (r"^depth_head\.scratch\.output_conv2\.2\.", "head.conv3."),
]


def depth_from_official(path: Path) -> Any:
    """Load `path` into the transformers model, whose size follows from the weights; DataError where they do not fit."""
    content = read_checkpoint(path)
    if isinstance(content, dict) and isinstance(content.get("model"), dict):
        content = content["model"]
    if not isinstance(content, dict):
        raise DataError(f"{path}: must hold the state dict of Depth Anything V2, alone or under 'model'")
    tensors = {name.removeprefix("module."): value for name, value in float_tensors(content, path, "model").items()}
    from transformers import DepthAnythingForDepthEstimation

    try:
        config = _config(tensors)
        with torch.device("meta"):
            model = DepthAnythingForDepthEstimation(config)
    except KeyError as error:
        raise DataError(f"{path}: is not a Depth Anything V2 checkpoint ({error} is missing)") from None
    except Exception as error:  # sizes that do not go together may raise anything
        raise DataError(
            f"{path}: is not a Depth Anything V2 checkpoint ({type(error).__name__}: {str(error)[:200]})"
        ) from error
    named = rename_tensors(tensors)
    if "backbone.encoder.layer.0.attention.q_proj.weight" in model.state_dict():  # transformers 5
        named = {_name_in_5(name): value for name, value in named.items()}
    load_strictly(model, named, f"depth model ({path})")
    return model.eval()


def rename_tensors(official: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename tensors to transformers' names; the joint q, k, v projection is split in three."""
    found = {}
    for name, value in official.items():
        joint = re.fullmatch(r"pretrained\.blocks\.(\d+)\.attn\.qkv\.(weight|bias)", name)
        if joint:
            for part, third in zip(("query", "key", "value"), value.chunk(3), strict=True):
                found[f"backbone.encoder.layer.{joint[1]}.attention.attention.{part}.{joint[2]}"] = third
            continue
        # transformers numbers the fusion stages from the coarsest, the authors from the finest.
        new = re.sub(r"^depth_head\.scratch\.layer(\d)_rn\.", lambda m: f"neck.convs.{int(m[1]) - 1}.", name)
        new = re.sub(
            r"^depth_head\.scratch\.refinenet(\d)\.", lambda m: f"neck.fusion_stage.layers.{4 - int(m[1])}.", new
        )
        for pattern, replacement in _RENAME:
            new = re.sub(pattern, replacement, new)
        found[new] = value
    return found


def _name_in_5(name: str) -> str:
    """Rename DINOv2's attention to the names of transformers 5: q_proj, k_proj, v_proj and o_proj."""
    name = re.sub(r"\.attention\.attention\.(q|k|v)[a-z]+\.", r".attention.\1_proj.", name)
    return name.replace(".attention.output.dense.", ".attention.o_proj.")


def _config(tensors: dict[str, Tensor]) -> Any:
    from transformers import DepthAnythingConfig, Dinov2Config

    hidden = tensors["pretrained.cls_token"].shape[-1]
    patch = tensors["pretrained.patch_embed.proj.weight"].shape[-1]
    side = round((tensors["pretrained.pos_embed"].shape[1] - 1) ** 0.5)
    layers = 1 + max(int(m[1]) for name in tensors if (m := re.match(r"pretrained\.blocks\.(\d+)\.", name)))
    if layers not in _STAGES:
        raise KeyError(f"an encoder of 12, 24 or 40 layers (it has {layers})")
    backbone = Dinov2Config(
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=max(1, hidden // 64),
        image_size=side * patch,
        patch_size=patch,
        mlp_ratio=tensors["pretrained.blocks.0.mlp.fc1.weight"].shape[0] // hidden,
        out_features=[f"stage{stage}" for stage in _STAGES[layers]],
        reshape_hidden_states=False,
        apply_layernorm=True,
    )
    fusion = tensors["depth_head.scratch.layer1_rn.weight"].shape[0]
    return DepthAnythingConfig(
        backbone_config=backbone,
        patch_size=patch,
        reassemble_hidden_size=hidden,
        neck_hidden_sizes=[tensors[f"depth_head.projects.{index}.weight"].shape[0] for index in range(4)],
        fusion_hidden_size=fusion,
        head_hidden_size=tensors["depth_head.scratch.output_conv2.0.weight"].shape[0],
    )

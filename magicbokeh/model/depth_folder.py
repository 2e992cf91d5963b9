"""The configuration of a Depth Anything V2 folder: the fields that are used, each within its bounds, and no others."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bokehsynth import DataError, UsageError
from magicbokeh.given_files import read_json
from magicbokeh.model.config import Bound
from magicbokeh.model.folder_files import check_entries, check_weights

_DEPTH_NUMBERS = {
    "patch_size": Bound(1, 64),
    "reassemble_hidden_size": Bound(1, 4096),
    "reassemble_factors": Bound(0.125, 8, whole=False, entries=(1, 6)),
    "neck_hidden_sizes": Bound(1, 4096, entries=(1, 6)),
    "fusion_hidden_size": Bound(1, 4096),
    "head_in_index": Bound(-6, 6),
    "head_hidden_size": Bound(1, 4096),
    "initializer_range": Bound(0, 10, whole=False),
    "max_depth": Bound(0, 1e6, whole=False),
}
_BACKBONE_NUMBERS = {
    "hidden_size": Bound(1, 4096),
    "num_hidden_layers": Bound(1, 64),
    "num_attention_heads": Bound(1, 256),
    "mlp_ratio": Bound(1, 16, whole=False),
    "image_size": Bound(8, 4096),
    "patch_size": Bound(1, 64),
    "num_channels": Bound(3, 3),
    "layer_norm_eps": Bound(0, 1, whole=False),
    "layerscale_value": Bound(-1e3, 1e3, whole=False),
    "drop_path_rate": Bound(0, 1, whole=False),
    "hidden_dropout_prob": Bound(0, 1, whole=False),
    "attention_probs_dropout_prob": Bound(0, 1, whole=False),
    "initializer_range": Bound(0, 10, whole=False),
    "out_indices": Bound(-64, 64, entries=(1, 6)),
}
_BACKBONE_FLAGS = ("qkv_bias", "use_swiglu_ffn", "use_mask_token", "apply_layernorm", "reshape_hidden_states")
_ACTIVATIONS = ("gelu", "gelu_new", "gelu_pytorch_tanh", "relu", "silu", "swish", "quick_gelu")
_STAGES = {"stem", *(f"stage{number}" for number in range(1, 65))}
_DTYPES = ("float32", "float16", "bfloat16", None)
_MAX_TOKENS = 1 << 15
"""Patches of the largest picture; the official models have 37 x 37."""
_ELSEWHERE = ("auto_map", "quantization_config", "backbone", "use_timm_backbone", "use_pretrained_backbone")
"""Fields by which transformers would load code, or weights from elsewhere."""


def check_depth_folder(folder: Path) -> dict[str, Any]:
    """Check the folder of a Depth Anything V2 model; returns the fields of its configuration that are used."""
    if not (folder / "config.json").is_file():
        raise UsageError(f"{folder}: holds no depth model in transformers' layout (config.json, *.safetensors)")
    check_entries(folder)
    file = folder / "config.json"
    content = read_json(file)
    backbone = content.get("backbone_config")
    if content.get("model_type") != "depth_anything" or not isinstance(backbone, dict):
        raise DataError(f"{file}: must describe a Depth Anything model with its backbone_config")
    if backbone.get("model_type") != "dinov2":
        raise DataError(f"{file}: the backbone must be dinov2, not {backbone.get('model_type')!r:.100}")
    for part in (content, backbone):
        loaded = [name for name in _ELSEWHERE if part.get(name)]
        if loaded:
            raise DataError(f"{file}: {', '.join(loaded)}: nothing is loaded from elsewhere")
    used = _depth_fields(file, content, _DEPTH_NUMBERS, ())
    if "depth_estimation_type" in content:
        used["depth_estimation_type"] = _one_of(file, content, "depth_estimation_type", ("relative", "metric"))
    inner = _depth_fields(file, backbone, _BACKBONE_NUMBERS, _BACKBONE_FLAGS)
    if "hidden_act" in backbone:
        inner["hidden_act"] = _one_of(file, backbone, "hidden_act", _ACTIVATIONS)
    if "out_features" in backbone:
        stages = backbone["out_features"]
        if not isinstance(stages, list) or not 1 <= len(stages) <= 6 or any(str(one) not in _STAGES for one in stages):
            raise DataError(f"{file}: out_features must name 1 to 6 stages, not {stages!r:.100}")
        inner["out_features"] = stages
    side = int(inner.get("image_size", 224)) // int(inner.get("patch_size", 16))
    if side * side > _MAX_TOKENS:
        raise DataError(f"{file}: image_size / patch_size: {side} x {side} patches; at most {_MAX_TOKENS} in all")
    check_weights(folder)
    return {**used, "backbone_config": {"model_type": "dinov2", **inner}}


def _depth_fields(
    file: Path, content: Mapping[str, Any], numbers: Mapping[str, Bound], flags: tuple[str, ...]
) -> dict[str, Any]:
    """The fields of a depth configuration that are used, each checked; transformers' own notes are left out."""
    used = {}
    for name, bound in numbers.items():
        if content.get(name) is not None:
            if fault := bound.fault(content[name]):
                raise DataError(f"{file}: {name} {fault}, not {content[name]!r:.100}")
            used[name] = content[name]
    for name in flags:
        if name in content:
            if not isinstance(content[name], bool):
                raise DataError(f"{file}: {name} must be true or false, not {content[name]!r:.100}")
            used[name] = content[name]
    for name in ("dtype", "torch_dtype"):
        if name in content:
            used[name] = _one_of(file, content, name, _DTYPES)
    return used


def _one_of(file: Path, content: Mapping[str, Any], name: str, allowed: tuple[Any, ...]) -> Any:
    if not any(content[name] == value for value in allowed):
        listed = ", ".join(str(value) for value in allowed)
        raise DataError(f"{file}: {name} must be one of {listed}, not {content[name]!r:.100}")
    return content[name]

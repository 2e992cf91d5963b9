"""What a model folder may hold, checked before diffusers or transformers sees it: a folder brings numbers, never code.

model_index.json     the components, each of exactly the class that this package saves
unet/ controlnet/ vae/ depth_estimator/
    config.json      the fields of that class, each within its bounds
    *.safetensors    the weights; no other file of weights (none of the Haar codec, which has no weights)
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bokehsynth import DataError, UsageError
from magicbokeh.given_files import read_json
from magicbokeh.model.config import BOUNDS, LITE_BOUNDS
from magicbokeh.model.depth_folder import check_depth_folder
from magicbokeh.model.folder_files import check_entries, check_weights

INDEX = "model_index.json"
PIPELINE = "MagicBokehPipeline"
COMPONENTS: dict[str, list[list[str | None]]] = {
    "unet": [["magicbokeh.model", "BokehUNet"]],
    "controlnet": [["magicbokeh.model", "DefocusControlNet"]],
    "vae": [["magicbokeh.model", "BokehVAE"], ["magicbokeh.model", "HaarCodec"]],
    "depth_estimator": [
        ["transformers", "DepthAnythingForDepthEstimation"],
        ["magicbokeh.model", "LiteDepthNetwork"],
        [None, None],
    ],
}
"""The (library, class) pairs that `save_pretrained` writes, today and in 0.4.0."""

_SIZES = ("latent_channels", "block_out_channels", "layers_per_block", "norm_groups")
_UNET_SIZES = (*_SIZES, "heads", "norm_eps")
_FLAG = "must be true or false"
_FIELDS: dict[str, tuple[dict[str, str], tuple[str, ...]]] = {
    "BokehUNet": (
        {name: name for name in (*_UNET_SIZES, "sample_size", "sr_rank", "sr_alpha", "bokeh_rank", "bokeh_alpha")},
        ("use_linear_projection", "upcast_attention", "attention_in_last", "time_folded"),
    ),
    "DefocusControlNet": (
        {name: name for name in (*_UNET_SIZES, "map_channels")},
        ("use_linear_projection", "upcast_attention", "attention_in_last", "time_folded"),
    ),
    "BokehVAE": (
        {
            "latent_channels": "latent_channels",
            "block_out_channels": "vae_block_out_channels",
            "layers_per_block": "vae_layers_per_block",
            "norm_groups": "vae_norm_groups",
            "scaling_factor": "scaling_factor",
            "vae_rank": "vae_rank",
            "vae_alpha": "vae_alpha",
        },
        (),
    ),
    "HaarCodec": ({"levels": "haar_levels", "scaling_factor": "scaling_factor"}, ()),
    "LiteDepthNetwork": (
        {name: f"lite_{name}" for name in ("side", "channels", "repeats", "decoder_channels")},
        (),
    ),
}
"""By class: its numbers with their names in BOUNDS, and its flags."""
_PIPELINE_NUMBERS = ("alpha_bar", "blur_reference", "focus_threshold")
_NOTES = ("_diffusers_version", "_name_or_path")
"""What diffusers adds to its JSON files; nothing follows from it."""


def check_pipeline_folder(folder: Path) -> None:
    """Check a pipeline folder. UsageError where it is none, DataError where it holds what ours do not."""
    if not folder.is_dir():
        raise UsageError(f"{folder}: is no folder; make one with `magicbokeh convert`")
    index = folder / INDEX
    if not index.is_file():
        raise UsageError(f"{folder}: is no pipeline folder, it has no {INDEX}; make one with `magicbokeh convert`")
    check_entries(folder)
    content = read_json(index)
    if content.get("_class_name") != PIPELINE:
        raise UsageError(f"{folder}: is the folder of another pipeline; make one with `magicbokeh convert`")
    _check_index(index, content)
    for name in COMPONENTS:
        if content.get(name, [None, None]) == [None, None]:
            continue
        if name == "depth_estimator":
            lite = is_lite_depth(folder / name)
            if lite != (content[name][1] == "LiteDepthNetwork"):
                raise DataError(f"{index}: {name} is {content[name][1]}, and its config.json that of another network")
            (check_lite_depth_folder if lite else check_depth_folder)(folder / name)
        else:
            check_component(folder / name, str(content[name][1]))


def is_lite_depth(folder: Path) -> bool:
    """Whether a folder holds the small depth network rather than a Depth Anything model."""
    file = folder / "config.json"
    return file.is_file() and read_json(file).get("_class_name") == "LiteDepthNetwork"


def check_lite_depth_folder(folder: Path) -> None:
    """Check the folder of the small depth network; DataError where it holds what ours do not."""
    check_entries(folder)
    check_component(folder, "LiteDepthNetwork")


def _check_index(index: Path, content: Mapping[str, Any]) -> None:
    for name, pairs in COMPONENTS.items():
        if content.get(name, [None, None] if name == "depth_estimator" else None) not in pairs:
            names = " or ".join(str(pair) for pair in pairs)
            raise DataError(
                f"{index}: {name} must be {names}, not {content.get(name)!r:.200}; classes of others are not loaded"
            )
    known = {*COMPONENTS, *_PIPELINE_NUMBERS, *_NOTES, "_class_name", "prediction"}
    _check_known(index, content, known)
    _check_numbers(index, content, {name: name for name in _PIPELINE_NUMBERS})
    if content.get("prediction", "eps") not in ("eps", "residual"):
        raise DataError(f"{index}: prediction must be eps or residual, not {content['prediction']!r:.100}")


def check_component(folder: Path, kind: str) -> None:
    """Check the folder of one of our networks, of class `kind`: its configuration and files."""
    file, content = folder / "config.json", read_json(folder / "config.json")
    numbers, flags = _FIELDS[kind]
    _check_known(file, content, {*numbers, *flags, *_NOTES, "_class_name"})
    if content.get("_class_name") != kind:
        raise DataError(f"{file}: _class_name must be {kind}, not {content.get('_class_name')!r:.100}")
    _check_numbers(file, content, numbers)
    for name in flags:
        if not isinstance(content.get(name, False), bool):
            raise DataError(f"{file}: {name} {_FLAG}, not {content[name]!r:.100}")
    if kind != "HaarCodec":
        check_weights(folder)


def _check_known(file: Path, content: Mapping[str, Any], known: set[str]) -> None:
    unknown = sorted(content.keys() - known)
    if unknown:
        raise DataError(f"{file}: unknown {', '.join(unknown)[:200]}; this package neither writes nor reads that")


def _check_numbers(file: Path, content: Mapping[str, Any], names: Mapping[str, str]) -> None:
    for name, bound in names.items():
        if name in content and (fault := {**BOUNDS, **LITE_BOUNDS}[bound].fault(content[name])):
            raise DataError(f"{file}: {name} {fault}, not {content[name]!r:.100}")

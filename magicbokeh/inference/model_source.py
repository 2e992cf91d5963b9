"""Where a model comes from: repositories of the hub, and what holds for every source."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from bokehsynth import DataError, UsageError
from magicbokeh.given_files import read_json
from magicbokeh.model.checkpoint_files import SavedCheckpoint, check_files, read_state

HUB_OPTIONS = ("cache_dir", "force_download", "local_files_only", "proxies", "revision", "token")
PIPELINE_FILES = ("model_index.json", "*/config.json", "*.safetensors", "*.safetensors.index.json")
DEPTH_FILES = ("config.json", "*.safetensors", "*.safetensors.index.json")
"""All that is fetched of a repository."""

PACKAGED_MODEL = Path(__file__).resolve().parents[1] / "models" / "small"
"""The pipeline folder that comes with the package."""


def packaged_model() -> Path:
    """The pipeline folder of the packaged model; UsageError where this copy of the package has none."""
    if not (PACKAGED_MODEL / "model_index.json").is_file():
        raise UsageError(
            f"--model: this copy of magicbokeh comes without a model ({PACKAGED_MODEL}); give --model FOLDER, made by "
            "`magicbokeh convert` or `export`, or train one: `magicbokeh train small --out RUN`"
        )
    return PACKAGED_MODEL


def saved_depth(source: Path) -> Path:
    """The folder of the depth network that a run or a pipeline holds; any other `source` is returned unchanged."""
    if (source / "run.json").is_file():
        best = source / "checkpoints" / "best"
        if not (best / "pipeline" / "depth_estimator").is_dir():
            raise UsageError(f"{source}: this run has no depth network yet; a stage `depth` trains one")
        state = read_state(best)
        stages = [stage["stage"] for stage in read_json(source / "run.json")["recipe"]["stages"]]
        if "depth" in stages and state["stage"] < stages.index("depth"):  # so far as it was initialised
            raise UsageError(f"{source}: its stage `depth` has not been validated yet; let the run go on first")
        check_files(SavedCheckpoint(best, state))
        return best / "pipeline" / "depth_estimator"
    inside = source / "depth_estimator"
    return inside if inside.is_dir() else source


def packaged_depth() -> Path | None:
    """The folder of the packaged depth network; None where this copy of the package has none."""
    folder = PACKAGED_MODEL / "depth_estimator"
    return folder if (folder / "config.json").is_file() else None


def fetch(repository: str, files: Sequence[str], otherwise: str, **options: Any) -> Path:
    """The folder of a repository in the hub's cache, downloaded where it is not there.

    UsageError, `otherwise` with the reason, where it cannot be had; `options` are those of the hub.
    """
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(repository, allow_patterns=list(files), **options))
    except (OSError, ValueError) as error:
        raise UsageError(f"{otherwise} ({first_line(error)})") from None


def first_line(error: Exception) -> str:
    """The first line of a library's message, cut short."""
    return str(error).strip().partition("\n")[0][:300]


def check_finite_weights(pipe: Any, source: Any) -> None:
    """DataError where a weight of a pipeline is NaN or infinity; `source` is named in the message."""
    for part in ("unet", "controlnet", "vae", "depth_estimator"):
        module = getattr(pipe, part)
        for name, value in module.state_dict().items() if module is not None else ():
            if not torch.isfinite(value).all():
                raise DataError(f"{source}: {part}: {name} holds NaN or infinity; fetch the model or train it again")

"""The smallest training run that has everything: four stages, two micro-batches a step, a checkpoint at every step."""

import json
import os
import sys
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from safetensors.torch import load_file

from magicbokeh.recipe import TrainRecipe, load_train_recipe

DATA = ["name=mini", "size=64", "samples.train=8", "samples.val=2"]

MINI = """\
name: mini
seed: 3
model: {{preset: toy, block_out_channels: [16, 16, 32], heads: [2, 2, 2], layers_per_block: 1, sr_rank: 2,
  bokeh_rank: 2}}
data: {{source: {source}, workers: {workers}, corruption: {{}}}}
stages:
  - {{stage: from_scratch, steps: 2, batch: 1, accumulation: 2, sharp: 0, lr: 2e-3}}
  - {{stage: sr, steps: 3, batch: 1, accumulation: 2, lr: 1e-3, loss: {{perceptual: edges}}}}
  - {{stage: alternate, steps: 4, batch: 1, accumulation: 2, lr: 1e-3, sr_lr: 1e-3, loss: {{perceptual: edges}}}}
  - {{stage: depth, steps: 2, batch: 1, accumulation: 2, head_lr: 1e-3}}
compute: {{threads: 1, device: cpu}}
validation: {{every: 100, samples: 2}}
checkpoints: {{every: 1, last: 2}}
log_every: 2
"""


def write_mini(path: Path, shards: Path | None, workers: int = 0) -> Path:
    """A recipe file that reads `shards`, or renders the same samples."""
    source = {"recipe": "quickstart", "set": DATA} if shards is None else {"shards": str(shards)}
    path.write_text(MINI.format(source=json.dumps(source), workers=workers))
    return path


def mini(path: Path, shards: Path | None, *changes: str, workers: int = 0) -> TrainRecipe:
    return load_train_recipe(write_mini(path, shards, workers), changes)


def weights(run: Path, checkpoint: str = "last") -> dict[str, torch.Tensor]:
    """Every tensor of a checkpoint's networks, `part/name`."""
    found = {}
    for file in sorted((run / "checkpoints" / checkpoint / "pipeline").glob("*/*.safetensors")):
        found |= {f"{file.parent.name}/{name}": value for name, value in load_file(file).items()}
    return found


def same_files(one: Path, other: Path) -> None:
    """Both folders hold the same bytes under the same names."""
    names = [sorted(p.relative_to(folder) for p in folder.rglob("*") if p.is_file()) for folder in (one, other)]
    assert names[0] == names[1]
    different = [str(name) for name in names[0] if (one / name).read_bytes() != (other / name).read_bytes()]
    assert different == []


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "magicbokeh", *map(str, arguments)]

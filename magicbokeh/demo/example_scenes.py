"""Pictures to try the model on: scenes of the embedded pictures, degraded as the training data's."""

from pathlib import Path

import cv2

from bokehsynth import load_recipe, make_sample

_INDICES = (0, 3, 5, 9, 12)
_SIZE = 384


def write_examples(folder: Path, count: int = len(_INDICES)) -> list[Path]:
    """Write some scenes as PNG into `folder`; the first call compiles the renderer, which takes seconds."""
    recipe = load_recipe("quickstart", [f"size={_SIZE}"])
    found = []
    for index in _INDICES[:count]:
        path = folder / f"scene-{index:02d}.png"
        cv2.imwrite(str(path), make_sample(recipe, index).lq[..., ::-1])
        found.append(path)
    return found

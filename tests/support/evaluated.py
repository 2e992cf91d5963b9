"""A small generated set, and pictures of it that are worse in a known way."""

from pathlib import Path

import cv2
import numpy as np

import bokehsynth as bs
from support.small_set import make_small_set

RECIPE = """\
name: evaluated
seed: 2
samples: {train: 0, val: 2}
size: 96
scene: {foregrounds: 1, blur: {kind: uniform, low: 5, high: 8}, blur_is: largest_radius, focus: 0.9}
shards: {samples: 4}
"""


def make_set(root: Path) -> Path:
    return make_small_set(root, RECIPE).root


def worse(picture, how: str):
    """The picture blurred, with noise, moved by three pixels, or as it is."""
    if how == "blurred":
        return cv2.GaussianBlur(picture, (0, 0), 3)
    if how == "noisy":
        noise = np.random.default_rng(1).normal(0, 20, picture.shape)
        return np.clip(picture + noise, 0, 255).round().astype(np.uint8)
    if how == "shifted":
        return np.roll(picture, 3, axis=1)
    assert how == "truth"
    return picture


def write_pictures(folder: Path, dataset: Path, how: str) -> Path:
    """The targets of a set, made worse, as another program's pictures under the samples' keys."""
    folder.mkdir(parents=True)
    for sample in bs.open_dataset(dataset, "val", ["hq"]):
        cv2.imwrite(str(folder / f"{sample.key}.png"), worse(sample.hq, how)[..., ::-1])
    return folder

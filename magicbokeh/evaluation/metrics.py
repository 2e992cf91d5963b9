"""The list of metrics: what each is called, which way is better, and what it needs."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, Literal

import numpy as np
import torch

from bokehsynth import BokehsynthError, UsageError
from magicbokeh.evaluation import imagenet, perceptual, pixel_metrics
from magicbokeh.evaluation.items import ByteArray, FloatArray, Item

Better = Literal["higher", "lower", "nearest 1"]


@dataclass(frozen=True)
class Metric:
    """One metric as the tables show it."""

    name: str
    better: Better
    digits: int = 4
    missing: str | None = None
    """Why its cells are empty."""
    of_set: bool = False
    """One number of all pictures together, not a mean over them."""


PSNR = Metric("PSNR", "higher", 2)
SSIM = Metric("SSIM", "higher")
EDGE_ENERGY = Metric("edge energy", "nearest 1", 3)
BLUR_ERROR = Metric("blur error", "lower", 2)
FLIP = Metric("FLIP", "lower")
FEATURE_DISTANCE = Metric("EffNet distance", "lower")
FRECHET = Metric("FD-EffNet", "lower", 2, of_set=True)
_PYIQA: dict[str, tuple[str, Better, bool]] = {
    "LPIPS": ("lpips-vgg", "lower", True),
    "DISTS": ("dists", "lower", True),
    "NIQE": ("niqe", "lower", False),
    "MANIQA": ("maniqa", "higher", False),
    "MUSIQ": ("musiq", "higher", False),
    "CLIPIQA": ("clipiqa", "higher", False),
}
"""By name: pyiqa's name, which way is better, whether it needs the truth."""
_FID = "FID"
OFFLINE = ("PSNR", "SSIM", "edge energy", "blur error", "FLIP", "EffNet distance", "FD-EffNet")
ALL = (*OFFLINE, *_PYIQA, _FID)


@dataclass
class Measurements:
    """Numbers of one picture, and features for set-level metrics."""

    values: dict[str, dict[str, float]] = field(default_factory=dict)
    features: dict[str, FloatArray] = field(default_factory=dict)
    target_features: dict[str, FloatArray] = field(default_factory=dict)


class MetricSuite:
    """The chosen metrics, with what they need loaded once."""

    def __init__(self, names: Sequence[str]) -> None:
        known = {name.lower(): name for name in ALL}
        if unknown := [name for name in names if name.lower() not in known]:
            raise UsageError(f"--metrics: {', '.join(unknown)}: unknown; there are {', '.join(ALL)}")
        self.chosen = [name for name in ALL if name.lower() in {word.lower() for word in names}]
        self._pyiqa: dict[str, Callable[[ByteArray, ByteArray], float]] = {}
        self._blur = pixel_metrics.BlurRadius()
        self._distance: perceptual.FeatureDistance | None = None
        self.metrics = [self._prepare(name) for name in self.chosen]

    def measure(self, found: ByteArray, item: Item) -> Measurements:
        """All numbers of one picture. A metric that gives NaN or infinity has no number."""
        parts, done = item.parts(), Measurements()
        closed: dict[str, Callable[[], dict[str, float]]] = {
            "PSNR": lambda: pixel_metrics.psnr(found, item.target, parts),
            "SSIM": lambda: pixel_metrics.ssim(found, item.target, parts),
            "edge energy": lambda: pixel_metrics.edge_energy(found, item.target, parts),
            "blur error": lambda: self._blur.error(found, item),
            "FLIP": lambda: perceptual.flip(found, item.target, parts),
        }
        there = {metric.name for metric in self.metrics if metric.missing is None}
        for name in self.chosen:
            if name in closed and name in there:
                done.values[name] = closed[name]()
            elif name in self._pyiqa:
                done.values[name] = {"all": self._pyiqa[name](found, item.target)}
        if self._distance is not None:
            distance, done.features, done.target_features = self._distance.compare(item.key, found, item.target, parts)
            if FEATURE_DISTANCE.name in self.chosen:
                done.values[FEATURE_DISTANCE.name] = distance
        done.values = {
            name: {part: value for part, value in split.items() if math.isfinite(value)}
            for name, split in done.values.items()
        }
        return done

    def _prepare(self, name: str) -> Metric:
        if name in _PYIQA:
            return self._prepare_pyiqa(name)
        if name == _FID:
            return Metric(_FID, "lower", 2, "needs Inception's weights, which no package ships; see FD-EffNet", True)
        found = {one.name: one for one in (PSNR, SSIM, EDGE_ENERGY, BLUR_ERROR, FLIP, FEATURE_DISTANCE, FRECHET)}[name]
        if found is FLIP and find_spec("flip_evaluator") is None:
            return _missing(found, "not installed: pip install flip-evaluator")
        if found in (FEATURE_DISTANCE, FRECHET) and self._distance is None:
            try:
                self._distance = perceptual.FeatureDistance(imagenet.load_features())
            except BokehsynthError as error:
                return _missing(found, str(error))
        return found

    def _prepare_pyiqa(self, name: str) -> Metric:
        """One of pyiqa's, if that and its weights are there or can be fetched by it."""
        word, better, needs_target = _PYIQA[name]
        try:
            import pyiqa

            network: Any = pyiqa.create_metric(word, device="cpu")
        except ImportError as error:
            return Metric(name, better, missing=f"pyiqa is not installed ({str(error).splitlines()[0]})")
        except Exception as error:  # a download that fails raises what its library raises
            first = (str(error).splitlines() or [""])[0][:120]
            return Metric(name, better, missing=f"pyiqa cannot load it ({type(error).__name__}: {first})")

        def value(found: ByteArray, target: ByteArray) -> float:
            pictures = [_tensor(found), _tensor(target)] if needs_target else [_tensor(found)]
            with torch.no_grad():
                return float(network(*pictures))

        self._pyiqa[name] = value
        return Metric(name, better)


def _missing(metric: Metric, reason: str) -> Metric:
    return Metric(metric.name, metric.better, metric.digits, reason, metric.of_set)


def _tensor(picture: ByteArray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1))).float().div_(255)[None]

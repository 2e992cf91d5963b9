"""Depth networks compared: on clear photographs and on degraded ones, by the usual errors of aligned disparity."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bokehsynth import UsageError, degrade
from magicbokeh.evaluation.cost import measure
from magicbokeh.evaluation.depth_sets import DepthItem, DepthSet
from magicbokeh.evaluation.items import ByteArray, FloatArray, Values
from magicbokeh.evaluation.methods import MethodOptions
from magicbokeh.evaluation.metrics import Metric
from magicbokeh.evaluation.store import Store
from magicbokeh.inference.depth import estimate_disparity, load_depth_model, read_map
from magicbokeh.inference.infer import check_device

ABS_REL, DELTA1, RMSE = (
    Metric("AbsRel", "lower"),
    Metric("delta1", "higher"),
    Metric("RMSE", "lower", 3),
)
DEPTH_METRICS = (ABS_REL, DELTA1, RMSE)
_MAPS = (".npy", ".png", ".tif", ".tiff")


@dataclass(frozen=True)
class DepthMethod:
    """What gives the disparity of a photograph; `split` is degraded or clear."""

    name: str
    run: Callable[[DepthItem, ByteArray, str], FloatArray]
    identity: str
    about: str
    is_measured: bool = True


def parse_depth_methods(words: Sequence[str], options: MethodOptions, items: DepthSet) -> list[DepthMethod]:
    """The methods that a command line names: flat, a depth network's folder, NAME=FOLDER of a network or of maps."""
    parts = [part.strip() for word in words for part in word.split(",") if part.strip()]
    methods = [_parse(part, options, items) for part in parts]
    names = [method.name for method in methods]
    if not methods or len(set(names)) < len(names):
        raise UsageError("--methods: name at least one, each once: flat, a depth network's folder, NAME=FOLDER")
    return methods


def _parse(part: str, options: MethodOptions, items: DepthSet) -> DepthMethod:
    if part == "flat":
        about = "the same disparity everywhere, the best one: what any network must beat"
        return DepthMethod("flat", lambda item, *_: np.ones(item.metres.shape, np.float32), "flat", about, False)
    if part in ("lq", "classical", "two-stage"):
        raise UsageError(f"--methods: {part} makes pictures; a depth set takes flat, DEPTH or NAME=FOLDER")
    name, equals, folder = part.partition("=")
    path = Path(folder if equals else part)
    if equals and (path / "degraded").is_dir():
        return _maps(name, path, items)
    word = ("cuda" if torch.cuda.is_available() else "cpu") if options.device == "auto" else options.device
    device = check_device(word)
    model = load_depth_model(str(path)).to(device)

    def run(item: DepthItem, picture: ByteArray, split: str) -> FloatArray:
        return estimate_disparity(model, picture.astype(np.float32) / np.float32(255), device)

    return DepthMethod(name if equals else path.name, run, _digest(model), f"the depth network {path.name}")


def _digest(model: Any) -> str:
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode() + value.detach().cpu().contiguous().float().numpy().tobytes())
    return digest.hexdigest()


def _maps(name: str, folder: Path, items: DepthSet) -> DepthMethod:
    """Disparity maps (bright = near) of another program: degraded/KEY.npy and clear/KEY.npy, or grey pictures."""
    files = {}
    for split in ("degraded", "clear"):
        there = {path.stem: path for path in sorted((folder / split).glob("*")) if path.suffix.lower() in _MAPS}
        if missing := [key for key, *_ in items.pairs if key not in there]:
            raise UsageError(f"--methods: {name}: {folder / split} holds no map of {missing[0]}: {missing[0]}.npy")
        files[split] = there

    def run(item: DepthItem, picture: ByteArray, split: str) -> FloatArray:
        return read_map(files[split][item.key], (picture.shape[0], picture.shape[1]))

    stats = [(str(path), path.stat().st_mtime_ns) for there in files.values() for path in there.values()]
    identity = hashlib.sha256(repr(stats).encode()).hexdigest()
    return DepthMethod(name, run, identity, f"disparity maps of {folder.name}", is_measured=False)


def degraded(item: DepthItem) -> ByteArray:
    """The photograph under the paper's degradation, drawn from its key."""
    return degrade(item.picture, "real-esrgan", int(hashlib.sha256(item.key.encode()).hexdigest()[:8], 16))


def measure_depth(
    items: DepthSet, methods: Sequence[DepthMethod], store: Store, step: Callable[[], None]
) -> dict[str, dict[str, Values]]:
    """The values of every method on every photograph, by method and key; `step` is called after each."""
    table: dict[str, dict[str, Values]] = {method.name: {} for method in methods}
    warm: set[str] = set()
    for item in items:
        pictures = {"degraded": degraded(item), "clear": item.picture}
        store.write_picture("degraded", item.key, pictures["degraded"])
        for method in methods:
            values = store.read(method.name, method.identity, item.key)
            if values is None:
                values = _measure(item, pictures, method, method.name in warm)
                store.write(method.name, method.identity, item.key, values)
                warm.add(method.name)
            table[method.name][item.key] = values
            step()
    return table


def _measure(item: DepthItem, pictures: Mapping[str, ByteArray], method: DepthMethod, is_warm: bool) -> Values:
    found: dict[str, dict[str, float]] = {metric.name: {} for metric in DEPTH_METRICS}
    seconds, memory, flops = None, None, None
    for split, picture in pictures.items():
        count = method.is_measured and not is_warm
        cost = measure(lambda one=picture, which=split: method.run(item, one, which), _on_cuda(), count)  # type: ignore[misc]
        if method.is_measured:
            seconds, memory, flops = cost.seconds, cost.memory if is_warm else None, cost.flops
        for name, value in depth_errors(cost.result, item).items():
            found[name][split] = value
    for values in found.values():
        if len(values) == len(pictures):
            values["average"] = float(np.mean(list(values.values())))
    return Values(found, seconds=seconds, memory=memory, flops=flops, warm=is_warm)


def _on_cuda() -> bool:
    return bool(torch.cuda.is_available())


def depth_errors(disparity: FloatArray, item: DepthItem) -> dict[str, float]:
    """Errors of a disparity map after the best scale and shift (Ranftl et al. 2020): relative networks have neither.

    a d + b is fitted to 1 / metres by least squares over the scored pixels; depth is its inverse, up to the farthest
    metre that counts. AbsRel = mean |z' - z| / z; delta1 = share of max(z' / z, z / z') < 1.25; RMSE in metres.
    """
    if int(item.scored.sum()) < 10:
        return {}
    truth = item.metres[item.scored].astype(np.float64)
    given = disparity[item.scored].astype(np.float64)
    design = np.stack([given, np.ones_like(given)], axis=1)
    fit = np.linalg.lstsq(design, 1 / truth, rcond=None)[0]
    depth = 1 / np.clip(design @ fit, 1 / item.farthest, None)
    ratio = np.maximum(depth / truth, truth / depth)
    return {
        ABS_REL.name: float((np.abs(depth - truth) / truth).mean()),
        DELTA1.name: float((ratio < 1.25).mean()),
        RMSE.name: float(np.sqrt(((depth - truth) ** 2).mean())),
    }

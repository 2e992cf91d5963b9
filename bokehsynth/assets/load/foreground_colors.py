"""Foreground colours under soft alpha, by estimation and inpainting."""

import importlib.util
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from bokehsynth.color import FloatArray, brightest, linear_to_srgb, srgb_to_linear
from bokehsynth.imaging.inpaint import push_pull

TRUSTED = 1e-3
"""Alpha up to which a black pixel counts as blanked, and above which an estimate is used."""


def foreground_colors(color: FloatArray, alpha: FloatArray, state: str) -> FloatArray:
    """Straight colour [H, W, 3] in linear light with the old background removed, defined everywhere.

    `state` is what the file holds under soft alpha: `photographed` (colour is estimated), `straight`, `premultiplied`
    (the caller has divided already). Where alpha is nearly 0, colour continues that of the subject nearby, so that
    resampling draws no dark fringe.
    """
    if state == "photographed" and ((alpha > 0.02) & (alpha < 0.98)).any():
        color = estimate_foreground(color, alpha)
    return extend_colors(color, alpha)


def estimate_foreground(color: FloatArray, alpha: FloatArray) -> FloatArray:
    """Foreground colour by multi-level estimation (pymatting) from a photograph [H, W, 3] and its matte [H, W].

    Deterministic: it runs in one thread and in a fixed order. Mattes, drawn by hand or by a network, are made on sRGB
    values as if those were mixed, so the colours are separated in that encoding. Files may be blank around the matte;
    there the colour is inpainted first, or black would be taken for the old background.
    """
    bright = np.float32(max(1.0, float(color.max())))
    encoded = linear_to_srgb(color / bright)
    blank = (alpha <= TRUSTED) & (brightest(color) <= 0)
    if blank.any():
        encoded = _extended(encoded, (~blank).astype(np.float32))
    estimate = _estimator()
    with _exclusive():
        found = estimate(encoded, alpha.astype(np.float32, copy=False))
    result = color.copy()
    soft = (alpha < 0.995) & (alpha > TRUSTED)
    result[soft] = srgb_to_linear(np.asarray(found, np.float32)[soft]) * bright
    return result


def extend_colors(color: FloatArray, alpha: FloatArray) -> FloatArray:
    """The colour, with that of the subject continued to where alpha is nearly 0."""
    weight = (alpha > 0.02).astype(np.float32)
    if weight.all():
        return color
    return np.where(weight[..., None] > 0, color, _extended(color, weight * alpha))


def _extended(color: FloatArray, weight: FloatArray) -> FloatArray:
    """Colours near the subject count in full from a quarter of a cell, so that its outline fades slowly."""
    return push_pull(color, weight, trust=4, extent=min)


Estimator = Callable[[npt.NDArray[Any], npt.NDArray[Any]], npt.NDArray[Any]]


def warm_up() -> None:
    """Compile the kernel once for all processes that share Numba's cache."""
    _estimator()


_KERNEL_LOCK = threading.Lock()


def _exclusive() -> AbstractContextManager[Any]:
    """A lock where one is needed: Numba's `workqueue` aborts the process if two threads run parallel kernels."""
    import numba

    try:
        safe = numba.threading_layer() in {"omp", "tbb"}  # type: ignore[attr-defined]
    except ValueError:  # not chosen before the first parallel kernel runs
        safe = False
    return nullcontext() if safe else _KERNEL_LOCK


@cache
def _estimator() -> Estimator:
    """`pymatting.estimate_foreground_ml`, its module loaded by itself.

    `import pymatting` compiles all its kernels: forty seconds, thirty-eight of them for kernels not used here.
    """
    package = importlib.util.find_spec("pymatting")
    places = package.submodule_search_locations if package is not None else None
    if not places:
        raise ModuleNotFoundError("pymatting is not installed: pip install pymatting")
    return _load(Path(places[0], "foreground", "estimate_foreground_ml.py")).estimate_foreground_ml


_LOAD_LOCK = threading.Lock()
"""Held while the module is executed: until then it lacks what another thread would ask it for."""


def _load(path: Path) -> ModuleType:
    """The module at `path`, known to Python by its own name: Numba imports that when it reads the kernels' cache."""
    from bokehsynth.numba_cache import ensure_cache_place

    name = f"pymatting.foreground.{path.stem}"
    with _LOAD_LOCK:
        if name in sys.modules:
            return sys.modules[name]
        ensure_cache_place(path.parent)
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
        return module

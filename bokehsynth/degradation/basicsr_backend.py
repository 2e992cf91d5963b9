"""Applies degradation draws with basicsr's own functions on torch: an optional backend, and the oracle of ours.

basicsr 1.4.2 cannot be imported beside a current torchvision, and its package pulls in everything it has. Only three
of its files are needed, and they import nothing of basicsr: they are executed from where they are installed, under
private names, with a stand-in for the one torchvision function that moved. What they would change for the whole
process is undone: NumPy's error state, torch's random state, and the stand-in itself.
"""

import functools
import importlib
import importlib.util
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from bokehsynth.color import ByteArray, FloatArray
from bokehsynth.degradation.apply import Degraded, Operations, Size, as_float, run_steps, to_bytes
from bokehsynth.degradation.draw import DegradationDraw, Record
from bokehsynth.degradation.noise import REC601
from bokehsynth.errors import UsageError

INSTALL = "pip install 'torch>=2.4,<2.14' scipy && pip install --no-deps --no-build-isolation basicsr==1.4.2"
_MOVED = "torchvision.transforms.functional_tensor"


def apply_with_basicsr(image: ByteArray | FloatArray, draw: DegradationDraw | Mapping[str, Any]) -> Degraded:
    """Do as `apply_degradation` by basicsr: same kernels, sizes and noise parameters, other noise fields.

    Noise comes from torch's generator, JPEG from DiffJPEG (no 8-bit rounding), and `area` follows torch's adaptive
    pooling. UsageError as there, and if basicsr or torch is not installed, or a picture is smaller than half a kernel.
    """
    load()
    lq_native = to_bytes(run_steps(as_float(image), draw, BASICSR))
    size = (image.shape[0], image.shape[1])
    return Degraded(lq=to_bytes(_resize(as_float(lq_native), size, draw["upscale"])), lq_native=lq_native)


class Basicsr:
    """basicsr's three modules and torch, loaded once."""

    def __init__(self) -> None:
        spec = importlib.util.find_spec("basicsr")
        if spec is None or not spec.submodule_search_locations:
            raise UsageError(f"degrade: backend basicsr is not installed; {INSTALL}")
        root = Path(next(iter(spec.submodule_search_locations)))
        try:
            torch = importlib.import_module("torch")
            before = sys.modules.get(_MOVED)
            sys.modules[_MOVED] = _stand_in()
            try:
                with np.errstate():  # degradations.py calls np.seterr; leaving the block restores the state
                    self.degradations = _execute(root / "data" / "degradations.py")
                    self.diffjpeg = _execute(root / "utils" / "diffjpeg.py")
                    self.filters = _execute(root / "utils" / "img_process_util.py")
            finally:
                del sys.modules[_MOVED]
                if before is not None:
                    sys.modules[_MOVED] = before
        except (ImportError, OSError) as error:
            raise UsageError(f"degrade: backend basicsr cannot be loaded ({error}); {INSTALL}") from error
        self.torch: Any = torch
        self.compressor = self.diffjpeg.DiffJPEG(differentiable=False)


_LOCK = threading.RLock()
"""Loading replaces a module for a moment, and torch has one generator for all threads."""


@functools.lru_cache(maxsize=1)
def load() -> Basicsr:
    """Load basicsr's functions once; a UsageError with the line to type if they are not installed."""
    with _LOCK:
        return Basicsr()


def basicsr_kernel(record: Record) -> FloatArray:
    """Make the recorded kernel by basicsr, float32 [size, size]."""
    made = load().degradations
    family, size = record["family"], record["size"]
    with np.errstate(divide="ignore", invalid="ignore"):  # the sinc's centre is 0/0 until it is overwritten
        if family == "sinc":
            return np.asarray(made.circular_lowpass_kernel(record["omega"], size), dtype=np.float32)
        ellipse = (size, record["sigma_x"], record["sigma_y"], record["rotation"])
        round_ = not family.endswith("aniso")
        if family in {"iso", "aniso"}:
            kernel = made.bivariate_Gaussian(*ellipse, isotropic=round_)
        elif family.startswith("generalized"):
            kernel = made.bivariate_generalized_Gaussian(*ellipse, record["beta"], isotropic=round_)
        else:
            kernel = made.bivariate_plateau(*ellipse, record["beta"], isotropic=round_)
    return np.asarray(kernel, dtype=np.float32)


def _add_noise(image: FloatArray, step: Record) -> FloatArray:
    basicsr = load()
    gray = float(step["gray"])
    with _LOCK, basicsr.torch.no_grad(), basicsr.torch.random.fork_rng(devices=[]):
        basicsr.torch.manual_seed(step["seed"])
        if step["family"] == "gaussian":
            noisy = basicsr.degradations.add_gaussian_noise_pt(_to_torch(image), step["sigma"], gray)
        else:
            noisy = basicsr.degradations.add_poisson_noise_pt(_to_torch(image), step["scale"], gray_noise=gray)
    return _from_torch(noisy)


def _convolve(image: FloatArray, kernel: FloatArray) -> FloatArray:
    reach = kernel.shape[0] // 2
    if min(image.shape[:2]) <= reach:
        size = f"{image.shape[1]}x{image.shape[0]}"
        raise UsageError(f"degrade: backend basicsr needs sides above {reach} pixels for this blur, got {size}")
    basicsr = load()
    with basicsr.torch.no_grad():
        return _from_torch(basicsr.filters.filter2D(_to_torch(image), basicsr.torch.from_numpy(kernel)[None]))


def _resize(image: FloatArray, size: Size, mode: str) -> FloatArray:
    if image.shape[:2] == size:
        return image
    return _from_torch(load().torch.nn.functional.interpolate(_to_torch(image), size=size, mode=mode))


def _compress(image: FloatArray, quality: int) -> FloatArray:
    basicsr = load()
    with basicsr.torch.no_grad():
        # DiffJPEG overwrites the tensor of qualities that it is given, so it gets one of its own.
        own = basicsr.torch.tensor([float(quality)])
        return _from_torch(basicsr.compressor(_to_torch(np.clip(image, np.float32(0), np.float32(1))), quality=own))


def _to_torch(image: FloatArray) -> Any:
    return load().torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None]


def _from_torch(batch: Any) -> FloatArray:
    return np.ascontiguousarray(batch[0].numpy().transpose(1, 2, 0), dtype=np.float32)


def _execute(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"_bokehsynth_basicsr_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _stand_in() -> ModuleType:
    def rgb_to_grayscale(image: Any, num_output_channels: int = 1) -> Any:
        red, green, blue = image.unbind(dim=-3)
        return (REC601[0] * red + REC601[1] * green + REC601[2] * blue).unsqueeze(dim=-3)

    module = ModuleType(_MOVED)
    module.rgb_to_grayscale = rgb_to_grayscale  # type: ignore[attr-defined]
    return module


BASICSR = Operations(basicsr_kernel, _convolve, _resize, _add_noise, _compress)

"""Blur kernels of Real-ESRGAN's chain, as pure functions of their parameters.

All are functions of q = v^T S^-1 v, v the offset (x right, y down) from the kernel's centre in pixels and S the
covariance of an ellipse with standard deviations sigma_x, sigma_y, turned by `rotation`:

    gaussian      exp(-q / 2)
    generalized   exp(-q^beta / 2)        Pascal et al. 2013, arXiv:1302.6498
    plateau       1 / (1 + q^beta)
    sinc          omega J1(omega r) / (2 pi r): the ideal circular low-pass, cut off at omega radians per pixel

Computed in float64, divided by their sum, returned as float32 [size, size]. For equal parameters they equal
basicsr's kernels to 1e-6 (tests/degradation/test_degrade_parity.py).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from bokehsynth.color import FloatArray
from bokehsynth.errors import UsageError

DoubleArray = npt.NDArray[np.float64]


def gaussian(size: int, sigma_x: float, sigma_y: float, rotation: float) -> FloatArray:
    """Elliptic Gaussian, float32 [size, size]; sigmas in pixels, rotation in radians."""
    return _normalized(np.exp(-0.5 * _quadratic(size, sigma_x, sigma_y, rotation)))


def generalized(size: int, sigma_x: float, sigma_y: float, rotation: float, beta: float) -> FloatArray:
    """Generalized Gaussian, float32 [size, size]; beta 1 is `gaussian`, less is peaked, more is flat."""
    return _normalized(np.exp(-0.5 * _quadratic(size, sigma_x, sigma_y, rotation) ** beta))


def plateau(size: int, sigma_x: float, sigma_y: float, rotation: float, beta: float) -> FloatArray:
    """Plateau kernel, float32 [size, size]; falls as 1 / distance^(2 beta)."""
    return _normalized(1 / (1 + _quadratic(size, sigma_x, sigma_y, rotation) ** beta))


def sinc(size: int, omega: float) -> FloatArray:
    """Circular low-pass, float32 [size, size], negative in places; omega in radians per pixel, 0 < omega <= pi."""
    half = size // 2
    x = np.arange(-half, half + 1)
    # Radii repeat: a 21 x 21 kernel has 441 taps and 54 distances.
    squares, place = np.unique(x[None, :] ** 2 + x[:, None] ** 2, return_inverse=True)
    radius = np.sqrt(squares.astype(np.float64))
    value = np.empty_like(radius)
    value[0] = omega**2 / (4 * np.pi)  # the limit at r = 0
    value[1:] = omega * bessel_j1(omega * radius[1:]) / (2 * np.pi * radius[1:])
    return _normalized(value[place].reshape(size, size))


def make_kernel(record: Mapping[str, Any]) -> FloatArray:
    """Make the kernel that a draw recorded: `family`, `size` and the family's own parameters."""
    family, size = record["family"], record["size"]
    if family == "sinc":
        return sinc(size, record["omega"])
    ellipse = (record["sigma_x"], record["sigma_y"], record["rotation"])
    if family in {"iso", "aniso"}:
        return gaussian(size, *ellipse)
    if family in {"generalized_iso", "generalized_aniso"}:
        return generalized(size, *ellipse, record["beta"])
    if family in {"plateau_iso", "plateau_aniso"}:
        return plateau(size, *ellipse, record["beta"])
    raise UsageError(f"degradation draw: unknown kernel family {family!r}")


def bessel_j1(x: DoubleArray) -> DoubleArray:
    """Bessel function J1 of x >= 0, within 1e-14 of scipy's for x up to 200.

    Bessel's integral J1(x) = 2/pi * (integral of sin(t) sin(x sin t) over 0..pi/2) by the midpoint rule. The
    integrand is smooth and periodic, so n nodes err by about J_{4n-1}(x), which vanishes once 4n exceeds x by some
    sixty.
    """
    nodes = int(np.max(x, initial=0.0) / 4) + 24
    sines = np.sin((np.arange(nodes) + 0.5) * (np.pi / (2 * nodes)))
    result: DoubleArray = np.mean(sines * np.sin(np.multiply.outer(x, sines)), axis=-1)
    return result


def trim(kernel: FloatArray, loss: float = 1e-7) -> FloatArray:
    """Cut the rings of a kernel's border that weigh less than `loss` together (sum of magnitudes).

    Narrow kernels on large grids are mostly zeros: cut, they convolve several times faster, and no pixel in 0..1
    moves by more than `loss`, far below the 1/255 that the chain ends with.
    """
    weights = np.abs(kernel)
    centre = kernel.shape[0] // 2
    x = np.abs(np.arange(-centre, centre + 1))
    ring = np.maximum(x[None, :], x[:, None])
    outside = np.cumsum(np.bincount(ring.ravel(), weights.ravel())[::-1])[::-1]  # outside[r]: weight of rings >= r
    radius = int(np.count_nonzero(outside > loss)) - 1
    cut = centre - max(radius, 0)
    return kernel[cut : kernel.shape[0] - cut, cut : kernel.shape[1] - cut]


def separate(kernel: FloatArray) -> tuple[FloatArray, FloatArray] | None:
    """Return (row, column) whose outer product is the kernel to float32 rounding; None unless an unrotated Gaussian.

    A separated kernel convolves in 2k instead of k^2 operations per pixel.
    """
    row, column = kernel.sum(axis=0), kernel.sum(axis=1)
    apart = np.abs(np.outer(column, row / max(float(kernel.sum()), 1e-6)) - kernel).sum()
    return (row, column) if apart < 3e-7 else None


def _quadratic(size: int, sigma_x: float, sigma_y: float, rotation: float) -> DoubleArray:
    # q in the ellipse's own axes: turn the offset back by the rotation, divide by the sigmas.
    half = size // 2
    offset = np.arange(-half, half + 1, dtype=np.float64)
    x, y = offset[None, :], offset[:, None]
    along = (np.cos(rotation) * x + np.sin(rotation) * y) / sigma_x
    across = (-np.sin(rotation) * x + np.cos(rotation) * y) / sigma_y
    return np.asarray(along**2 + across**2)


def _normalized(kernel: DoubleArray) -> FloatArray:
    return (kernel / kernel.sum()).astype(np.float32)

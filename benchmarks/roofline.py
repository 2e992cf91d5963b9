"""How fast could it be? What this core reads from its L1 cache and multiplies, and what a frame needs of it.

Filtering is one load per multiply-add: the loads bound it, not the arithmetic (the core can do two of the latter per
load that straddles a cache line, as nearly every shifted load does). So the bound of a frame is its loads over the
measured loads per second. Memory does not matter: a row band of a layer stays in L2, the whole scene in L3.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numba
import numpy as np

import bokehsynth as bs

FLOATS = 2048
"""Array length of the micro-benchmarks: 8 KiB, so that two arrays fill half of the smallest L1 in use (32 KiB)."""

TAPS, DEPTH = 8, 32


@dataclass(frozen=True)
class Core:
    """Measured rates of one thread, in 1e9 per second."""

    taps: float
    """Shifted float32 loads, each feeding one multiply-add: eight taps of a row filter per output."""
    triad: float
    """Elements of out = a + w * b: two loads, one multiply-add, one store each."""
    fma: float
    """Multiply-adds on registers."""

    def lines(self) -> list[str]:
        """For the head of a table."""
        return [
            f"One thread, float32, in L1: {self.taps:.0f} G shifted loads/s, each with a multiply-add; triad "
            f"{self.triad:.0f} G elements/s (two loads, one store each); {self.fma:.0f} G multiply-adds/s on registers."
        ]


def measure() -> Core:
    """Run the micro-benchmarks: the best of several runs each, since anything else on the machine only slows them."""
    a, b = np.random.default_rng(0).random((2, FLOATS), np.float32)
    out = np.zeros(FLOATS - TAPS, np.float32)
    check(a, b, out)
    return Core(
        taps=_rate(lambda n: _filter(a, out, n), len(out) * TAPS),
        triad=_rate(lambda n: _triad(a, b, out, n), len(out)),
        fma=_rate(lambda n: _polynomial(a, out, n), len(out) * DEPTH),
    )


def check(a: np.ndarray, b: np.ndarray, out: np.ndarray) -> None:
    """The loops that are timed compute what they say."""
    _filter(a, out, 1)
    assert np.allclose(out, sum(a[k : k + len(out)] * (0.1 * k) for k in range(TAPS)), rtol=1e-5)
    _triad(a, b, out, 1)
    assert np.allclose(out, a[: len(out)] + 0.5 * b[: len(out)], rtol=1e-6)
    _polynomial(a, out, 1)
    assert np.allclose(out, sum(a[: len(out)].astype(float) ** k for k in range(DEPTH // 4 + 1)), rtol=1e-4)


def _rate(run: Callable[[int], None], operations: int) -> float:
    """G operations per second: nine runs of about 1e7 operations, the fastest."""
    repeats = max(1, 10_000_000 // operations)
    run(repeats)
    seconds = []
    for _ in range(9):
        start = time.perf_counter()
        run(repeats)
        seconds.append(time.perf_counter() - start)
    return repeats * operations / min(seconds) / 1e9


# The weights change from round to round, so that the compiler cannot drop a round whose result is overwritten.


@numba.njit(fastmath={"contract"}, error_model="numpy")
def _filter(a, out, rounds):
    n = len(out)
    s0, s1, s2, s3 = a[:n], a[1 : n + 1], a[2 : n + 2], a[3 : n + 3]
    s4, s5, s6, s7 = a[4 : n + 4], a[5 : n + 5], a[6 : n + 6], a[7 : n + 7]
    for k in range(rounds):
        w = np.float32(0.1 + k * 1e-6)
        w2, w3, w4, w5, w6, w7 = (
            w * np.float32(2), w * np.float32(3), w * np.float32(4), w * np.float32(5), w * np.float32(6),
            w * np.float32(7),
        )  # fmt: skip
        w0 = np.float32(k) * np.float32(1e-6)
        for i in range(n):
            left = w0 * s0[i] + w * s1[i] + w2 * s2[i] + w3 * s3[i]
            out[i] = left + (w4 * s4[i] + w5 * s5[i] + w6 * s6[i] + w7 * s7[i])


@numba.njit(fastmath={"contract"}, error_model="numpy")
def _triad(a, b, out, rounds):
    n = len(out)
    a, b = a[:n], b[:n]
    for k in range(rounds):
        w = np.float32(0.5 + k * 1e-6)
        for i in range(n):
            out[i] = a[i] + w * b[i]


@numba.njit(fastmath={"contract"}, error_model="numpy")
def _polynomial(a, out, rounds):
    n = len(out)
    a = a[:n]
    for k in range(rounds):
        c0 = np.float32(0.1 + k * 1e-6)
        c1, c2, c3 = c0 + c0, c0 * np.float32(3), c0 * np.float32(4)
        for i in range(n):
            x = a[i]
            y0, y1, y2, y3 = c0, c1, c2, c3  # four chains: a multiply-add takes four cycles, and two start in each
            for _ in range(DEPTH // 4):
                y0, y1, y2, y3 = y0 * x + c0, y1 * x + c1, y2 * x + c2, y3 * x + c3
            out[i] = y0 + y1 + y2 + y3


def loads_per_texel(radius: float) -> float:
    """Fewest loads per pixel and channel that filter with a flat disc of this radius.

    Taps: the disc's area and the texels its rim touches, pi r^2 + 4 r. Runs: two ends of a prefix sum for each of the
    2 r + 1 rows, and the rim, whose texels are not covered fully, about 15.5 r taps (counted: 62 at r = 4, 480 at 31).
    A layer in focus is copied.
    """
    if radius == 0:
        return 1.0
    return min(math.pi * radius**2 + 4 * radius, 2 * (2 * radius + 1) + 15.5 * radius)


def bound_ms(layers: Sequence[bs.Layer], lens: bs.Lens, margin: int, core: Core) -> float:
    """L1 bound in milliseconds of blurring each layer of a frame once, where it can be seen, at its mean radius.

    Seen means: alpha > 0 somewhere within the radius, and no nearer layer opaque throughout its own. Three channels
    for an opaque layer, four for a matte. Not counted: whatever joins the layers (rays where two mattes vary
    together), slopes of tilted kernels, prefix sums, tables, the other pictures. A lower bound, then, of this method.
    """
    height, width = (n - 2 * margin for n in layers[0].shape)
    hidden, loads = np.zeros(layers[0].shape, bool), 0.0
    for layer in layers:
        radius = float(np.mean([lens.radius(d) for d in (layer.disparity.d, *layer.disparity.corners(width, height))]))
        reach = math.ceil(radius)
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
        seen = (cv2.dilate((layer.alpha > 0).astype(np.uint8), disc) > 0) & ~hidden
        channels = 3 if layer.alpha.min() == 1 else 4
        loads += seen[margin : margin + height, margin : margin + width].sum() * channels * loads_per_texel(radius)
        hidden |= cv2.erode((layer.alpha == 1).astype(np.uint8), disc) > 0
    return float(1e3 * loads / (core.taps * 1e9))

"""Gaussian and Poisson noise fields, as Real-ESRGAN defines them."""

import functools

import numpy as np
import numpy.typing as npt

from bokehsynth.color import ByteArray, FloatArray

REC601 = (0.2989, 0.587, 0.114)
"""Weights of R, G, B in the grey picture that grey Poisson noise is counted on (Real-ESRGAN, torchvision)."""

_BUCKET_BITS = 10


def gaussian_noise(image: FloatArray, sigma: float, gray: bool, rng: np.random.Generator) -> FloatArray:
    """Noise of standard deviation `sigma`/255, float32 [h, w, 3], or [h, w, 1] if `gray`."""
    shape = (*image.shape[:2], 1 if gray else 3)
    return rng.standard_normal(shape, dtype=np.float32) * np.float32(sigma / 255)


def poisson_noise(image: FloatArray, scale: float, gray: bool, rng: np.random.Generator) -> FloatArray:
    """`scale` times the error of counting photons, float32 [h, w, 3], or [h, w, 1] if `gray`.

    The picture is rounded to 8 bit; white counts `vals` photons on average, `vals` being the number of distinct levels
    in the picture, rounded up to a power of two. So a flat picture has vals = 1 and very strong noise: this is
    Real-ESRGAN's rule.
    """
    if gray:
        red, green, blue = (image[..., channel] * np.float32(REC601[channel]) for channel in range(3))
        image = (red + green + blue)[..., None]
    levels = (np.clip(image, np.float32(0), np.float32(1)) * np.float32(255) + np.float32(0.5)).astype(np.uint8)
    distinct = int(np.count_nonzero(np.bincount(levels.ravel(), minlength=256)))
    vals = 1 << (distinct - 1).bit_length()
    counts = poisson_counts(levels, vals, rng)
    noise = counts.astype(np.float32) * np.float32(scale / vals)
    noise -= levels * np.float32(scale / 255)
    return noise


def poisson_counts(levels: ByteArray, vals: int, rng: np.random.Generator) -> npt.NDArray[np.int32]:
    """Poisson counts of mean `levels / 255 * vals`, int32 of the same shape; exact to 2^-32 in probability.

    Inversion of the distribution function: one 32-bit number per pixel, whose upper bits look up the smallest count
    it can mean (`_tables`), and a search from there. Three times faster than NumPy's sampler, which cannot know that
    there are no more than 256 means.
    """
    start, below = _tables(vals)
    draws = rng.integers(0, 1 << 32, size=levels.size, dtype=np.uint32)
    row = levels.ravel().astype(np.int32)
    counts = start.ravel()[(row << _BUCKET_BITS) + (draws >> (32 - _BUCKET_BITS)).astype(np.int32)]
    width = below.shape[1]
    place = row * width + counts
    flat = below.ravel()
    open_ = np.flatnonzero(draws > flat[place])
    while open_.size:
        place[open_] += 1
        open_ = open_[draws[open_] > flat[place[open_]]]
    result: npt.NDArray[np.int32] = place - row * width
    return result.reshape(levels.shape)


@functools.lru_cache(maxsize=9)  # vals is a power of two up to 256
def _tables(vals: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.uint32]]:
    # below[level, k]: the largest 32-bit number that still means k or fewer photons.
    # start[level, b]: the smallest count that any number with upper bits b can mean.
    mean = np.arange(256)[:, None] * (vals / 255)
    count = np.arange(int(vals + 7 * vals**0.5) + 24)
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(count[1:]))])
    log_mean = np.log(np.maximum(mean, 1e-300))
    below_float = np.cumsum(np.exp(count * log_mean - mean - log_factorial), axis=1)
    below = np.clip(np.rint(below_float * 2.0**32) - 1, 0, 2**32 - 1).astype(np.uint32)
    below[:, -1] = 2**32 - 1  # the last count takes the rest, so that the search ends
    bucket = np.arange(1 << _BUCKET_BITS, dtype=np.uint32) << (32 - _BUCKET_BITS)
    start = np.stack([np.searchsorted(row, bucket, side="left") for row in below]).astype(np.int32)
    return start, below

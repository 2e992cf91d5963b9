"""Train or val, asset by asset: by hashed content, what looks alike together; what was placed is never moved."""

import base64
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bokehsynth.assets.index.measure import THUMB
from bokehsynth.files import sha256_bytes

BITS_APART = 30
"""Of 128: pictures whose dHashes differ in more are not alike."""
SAME_THUMBS = 0.92
"""Correlation of the thumbnails above which pictures with near dHashes are one picture.

Copies of ten photographs (mirrored, a third as large, JPEG 30, a quarter as large and JPEG 10, lightened, cropped by
3 %) differ in up to 13 bits and correlate by 0.939 and more; different photographs differ in 38 and more and correlate
by up to 0.72, different pictures of one embedded family by up to 0.89.
"""
SAME_ASPECT = 1.15


@dataclass(frozen=True, kw_only=True)
class SplitCandidate:
    """What placing an asset needs to know of it."""

    sha256: str
    known_split: str | None = None
    """The side it was given before."""
    dhash: str | None = None
    """None where nothing can look like it (procedural pictures)."""
    thumb: str = ""
    aspect: float = 1.0


@dataclass(frozen=True)
class SplitDecision:
    """The side of an asset, or what keeps it from having one."""

    side: str | None
    """train or val; None for an asset that looks like one of each."""
    like: str | None = None
    """The sha256 of the asset whose side it follows, or collides with."""


def hash_position(sha256: str) -> float:
    """A number in [0, 1) from a content hash, hashed again so that it says nothing about the content."""
    return int(sha256_bytes(f"split:{sha256}")[:13], 16) / 16**13


def assign_splits(assets: Iterable[SplitCandidate], val_fraction: float) -> dict[str, SplitDecision]:
    """A side for every asset, by sha256.

    Those that have a side keep it. A new one goes where the assets that look like it are; if it is like none, it is val
    when the hash of its sha256 falls below `val_fraction`. One that is like an asset of train and like one of val gets
    no side: it would show either what the other holds. Order does not matter: known ones come first, then by sha256.
    """
    placed: dict[str, SplitDecision] = {}
    crowd = _NearDuplicates()
    for asset in sorted(assets, key=lambda asset: (asset.known_split is None, asset.sha256)):
        alike = [(sha, placed[sha].side) for sha in crowd.like(asset)]
        sides = {side for _, side in alike}
        wanted = asset.known_split or (alike[0][1] if alike else None)
        if wanted is None:
            wanted = "val" if hash_position(asset.sha256) < val_fraction else "train"
        if sides - {wanted}:
            placed[asset.sha256] = SplitDecision(None, next(sha for sha, side in alike if side != wanted))
            continue
        placed[asset.sha256] = SplitDecision(wanted, alike[0][0] if alike else None)
        crowd.add(asset)
    return placed


def near_duplicate(one: SplitCandidate, other: SplitCandidate) -> bool:
    """Whether two pictures are the same one, mirrored, resized, recompressed, a little cropped or lightened."""
    crowd = _NearDuplicates()
    crowd.add(one)
    return bool(crowd.like(other))


class _NearDuplicates:
    """The assets placed so far, ready to be compared with."""

    def __init__(self) -> None:
        self._members: list[SplitCandidate] = []
        self._hashes = np.empty((64, 16), np.uint8)

    def add(self, asset: SplitCandidate) -> None:
        """One more to compare with."""
        if asset.dhash is None:
            return
        if len(self._members) == len(self._hashes):
            self._hashes = np.concatenate([self._hashes, np.empty_like(self._hashes)])
        self._hashes[len(self._members)] = np.frombuffer(bytes.fromhex(asset.dhash), np.uint8)
        self._members.append(asset)

    def like(self, asset: SplitCandidate) -> list[str]:
        """The sha256 of every member that looks like an asset."""
        if asset.dhash is None or not self._members:
            return []
        bits = np.unpackbits(np.frombuffer(bytes.fromhex(asset.dhash), np.uint8))
        near: set[int] = set()
        for turned in (bits, _mirrored(bits)):
            apart = _POPULATION[self._hashes[: len(self._members)] ^ np.packbits(turned)].sum(axis=1)
            near |= set(np.flatnonzero(apart <= BITS_APART).tolist())
        return [self._members[i].sha256 for i in sorted(near) if _same(asset, self._members[i])]


def _mirrored(bits: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The dHash of the picture mirrored left to right: comparisons across turn round, those down change places."""
    across, down = bits[:64].reshape(8, 8), bits[64:].reshape(8, 8)
    return np.concatenate([1 - across[:, ::-1].ravel(), down[:, ::-1].ravel()])


def _same(one: SplitCandidate, other: SplitCandidate) -> bool:
    ratio = one.aspect / other.aspect
    if not 1 / SAME_ASPECT < ratio < SAME_ASPECT:
        return False
    a, b = _thumb(one.thumb), _thumb(other.thumb)
    return max(_correlation(a, b), _correlation(a[:, ::-1], b)) > SAME_THUMBS


def _thumb(text: str) -> npt.NDArray[np.float64]:
    return np.frombuffer(base64.b64decode(text), np.uint8).reshape(THUMB, THUMB).astype(np.float64)


def _correlation(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> float:
    a, b = a - a.mean(), b - b.mean()
    norm = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / norm if norm > 0 else float(np.allclose(a, b))


_POPULATION = np.array([bin(byte).count("1") for byte in range(256)], np.uint16)

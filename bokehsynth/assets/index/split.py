"""Assign assets to train or val by hashed content: near duplicates together, decided assets never moved."""

import base64
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bokehsynth.assets.index.measure import THUMB
from bokehsynth.files import sha256_bytes

BITS_APART = 30
"""Pictures whose dHashes differ in more of their 128 bits are not near duplicates."""
SAME_THUMBS = 0.92
"""Correlation of the thumbnails above which pictures with near dHashes are one picture.

Copies of ten photographs (mirrored, a third as large, JPEG 30, a quarter as large and JPEG 10, lightened, cropped by
3 %) differ in up to 13 bits and correlate by 0.939 and more; different photographs differ in 38 and more and correlate
by up to 0.72, different pictures of one embedded family by up to 0.89.
"""
SAME_ASPECT = 1.15


@dataclass(frozen=True, kw_only=True)
class SplitCandidate:
    """What is needed to assign an asset."""

    sha256: str
    known_split: str | None = None
    """The split it was assigned before."""
    dhash: str | None = None
    """None where there are no near duplicates (procedural pictures)."""
    thumb: str = ""
    aspect: float = 1.0


@dataclass(frozen=True)
class SplitDecision:
    """The split of an asset, or the reason for having none."""

    split: str | None
    """train or val; None for a near duplicate of one of each."""
    like: str | None = None
    """The sha256 of the asset whose split it follows, or conflicts with."""


def hash_position(sha256: str) -> float:
    """A number in [0, 1) from a content hash, hashed again so that it says nothing about the content."""
    return int(sha256_bytes(f"split:{sha256}")[:13], 16) / 16**13


def split_without_duplicates(asset: SplitCandidate, val_fraction: float) -> str:
    """The split of an asset that looks like no other: the known one, else by its hash."""
    return asset.known_split or ("val" if hash_position(asset.sha256) < val_fraction else "train")


def order_of_decision(asset: SplitCandidate) -> tuple[bool, str]:
    """Known assets come first."""
    return asset.known_split is None, asset.sha256


def assign_splits(assets: Iterable[SplitCandidate], val_fraction: float) -> dict[str, SplitDecision]:
    """A decision for every asset, by sha256.

    Assets with a known split keep it. A new one follows its near duplicates; without any it is val when the hash of its
    sha256 falls below `val_fraction`. A near duplicate of one asset of train and one of val gets no split, since it
    would leak one into the other. Order does not matter: known assets come first, then by sha256.
    """
    decided: dict[str, SplitDecision] = {}
    assigned = _NearDuplicates()
    for asset in sorted(assets, key=order_of_decision):
        alike = [(sha, decided[sha].split) for sha in assigned.of(asset)]
        wanted = asset.known_split or (alike[0][1] if alike else None) or split_without_duplicates(asset, val_fraction)
        conflict = next((sha for sha, split in alike if split != wanted), None)
        if conflict is not None:
            decided[asset.sha256] = SplitDecision(None, conflict)
            continue
        decided[asset.sha256] = SplitDecision(wanted, alike[0][0] if alike else None)
        assigned.add(asset)
    return decided


class _NearDuplicates:
    """Look-up of near duplicates among the assets added so far."""

    def __init__(self) -> None:
        self._members: list[SplitCandidate] = []
        self._hashes = np.empty((2, 64), np.uint64)
        """The two halves of each member's dHash, with room for more."""

    def add(self, asset: SplitCandidate) -> None:
        """Add an asset to compare with."""
        if asset.dhash is None:
            return
        if len(self._members) == self._hashes.shape[1]:
            self._hashes = np.concatenate([self._hashes, np.empty_like(self._hashes)], axis=1)
        self._hashes[:, len(self._members)] = np.frombuffer(bytes.fromhex(asset.dhash), np.uint64)
        self._members.append(asset)

    def of(self, asset: SplitCandidate) -> list[str]:
        """The sha256 of every near duplicate of an asset."""
        if asset.dhash is None or not self._members:
            return []
        bits = np.unpackbits(np.frombuffer(bytes.fromhex(asset.dhash), np.uint8))
        near: set[int] = set()
        for oriented in (bits, _mirrored(bits)):
            first, second = np.packbits(oriented).view(np.uint64)
            known = self._hashes[:, : len(self._members)]
            distance = _bit_count(known[0] ^ first) + _bit_count(known[1] ^ second)  # at most 128: fits 8 bits
            near |= set(np.flatnonzero(distance <= BITS_APART).tolist())
        return [self._members[i].sha256 for i in sorted(near) if _same_picture(asset, self._members[i])]


def _mirrored(bits: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The dHash of the picture mirrored left to right: horizontal comparisons invert, vertical ones change places."""
    across, down = bits[:64].reshape(8, 8), bits[64:].reshape(8, 8)
    return np.concatenate([1 - across[:, ::-1].ravel(), down[:, ::-1].ravel()])


def _same_picture(one: SplitCandidate, other: SplitCandidate) -> bool:
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


_SET_BITS = np.array([number.bit_count() for number in range(1 << 16)], np.uint8)


def _bit_count(numbers: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint8]:
    """How many bits of each number are 1."""
    if hasattr(np, "bitwise_count"):  # from NumPy 2 on
        return np.asarray(np.bitwise_count(numbers), np.uint8)
    parts = _SET_BITS[numbers.view(np.uint16).reshape(-1, 4)]
    return np.asarray(parts[:, 0] + parts[:, 1] + parts[:, 2] + parts[:, 3], np.uint8)

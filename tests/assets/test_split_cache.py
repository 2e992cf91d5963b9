"""Splits of large folders: exact near-duplicate search, and decisions that are recalled and not trusted blindly."""

import base64
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bokehsynth.assets.index import split, split_cache
from bokehsynth.assets.index.split import SplitCandidate, assign_splits
from bokehsynth.assets.index.split_cache import decide_or_recall


def _candidates(count: int) -> list[SplitCandidate]:
    """Noise; every tenth looks like the one before it, and two known ones of both splits look like a third."""
    rng = np.random.default_rng(3)
    found: list[SplitCandidate] = []
    for i in range(count):
        if i % 10 == 9:
            found.append(replace(found[-1], sha256=f"{rng.integers(2**60):064x}"))
            continue
        dhash, thumb = rng.integers(0, 256, 16, np.uint8), rng.integers(0, 256, 576, np.uint8)
        found.append(
            SplitCandidate(
                sha256=f"{rng.integers(2**60):064x}", dhash=dhash.tobytes().hex(),
                thumb=base64.b64encode(thumb.tobytes()).decode(),
            )
        )  # fmt: skip
    first = found[0]
    known = [replace(first, sha256=f"{i:064x}", known_split=name) for i, name in enumerate(("train", "val"))]
    return [*found, known[0], replace(known[1], thumb=found[1].thumb, dhash=found[1].dhash)]


def test_bits_are_counted_alike_by_every_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = np.random.default_rng(1).integers(0, 2**64, 1000, np.uint64)
    expected = [int(number).bit_count() for number in numbers]
    assert split._bit_count(numbers).tolist() == expected
    monkeypatch.delattr(np, "bitwise_count", raising=False)
    assert split._bit_count(numbers).tolist() == expected


def test_decisions_are_recalled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(split_cache, "KEPT_FROM", 100)
    candidates = _candidates(200)
    decided = assign_splits(candidates, 0.05)
    assert any(one.like is not None for one in decided.values())
    assert decide_or_recall(candidates, 0.05) == decided
    (kept,) = (tmp_path / "bokehsynth" / "splits").iterdir()
    with monkeypatch.context() as patch:
        patch.setattr(split_cache, "assign_splits", None)
        assert decide_or_recall(list(reversed(candidates)), 0.05) == decided
    for changed in (candidates[1:], [replace(candidates[0], known_split="val"), *candidates[1:]]):
        assert decide_or_recall(changed, 0.05) == assign_splits(changed, 0.05)
    assert decide_or_recall(candidates, 0.1) == assign_splits(candidates, 0.1)
    known = candidates[0].sha256
    for damage in (
        "", "[]", '{"a": 1}', '{"a": ["elsewhere", null]}', '{"a": ["train"]}', '{"a": [[], null]}',
        f'{{"{known}": ["train", "zz"]}}', f'{{"{known}": ["train", "{known}"]}}',
        f'{{"zz": ["train", "{known}"]}}', f'{{"{known}": [{{}}, 1]}}',
    ):  # fmt: skip
        kept.write_text(damage)
        assert decide_or_recall(candidates, 0.05) == decided, damage


def test_small_folders_leave_no_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    candidates = _candidates(100)
    assert decide_or_recall(candidates, 0.05) == assign_splits(candidates, 0.05)
    assert not any(tmp_path.iterdir())

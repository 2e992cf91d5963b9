"""Pictures and maps given to `degrade` and `render`: headers are looked at before anything is decoded or allocated."""

import os
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from support.hostile import jpeg, npy, png, sparse, tiff

import bokehsynth as bs
from bokehsynth.cli import main


def fifo(path: Path) -> Path:
    os.mkfifo(path)
    return path


def link(path: Path) -> Path:
    path.symlink_to("/dev/zero")
    return path


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


HOSTILE = {
    "bomb.png": (lambda path: png(path, 30_000, 30_000), "more than 64 million pixels"),
    "large.jpg": (lambda path: jpeg(path, 65_500, 65_500), "more pixels than can be trusted"),
    "large.tif": (lambda path: tiff(path, 1 << 30, 1 << 30), "more than 64 million pixels"),
    "empty.png": (lambda path: written(path, b""), "is empty"),
    "text.png": (lambda path: written(path, b"not a picture"), "is no picture"),
    "pipe.png": (fifo, "a FIFO, not a file"),
    "zero.png": (link, "a device, not a file"),
    "holes.png": (lambda path: sparse(path, 1 << 40), "are read"),
    "missing.png": (lambda path: path, "No such file"),
}


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["bokehsynth", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        main()
    return end.value.code


@pytest.mark.parametrize("name", HOSTILE)
def test_degrade_refuses_in_one_line(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make, words = HOSTILE[name]
    path = make(tmp_path / name)
    assert run(monkeypatch, "degrade", path, tmp_path / "out.png") == 2
    said = capsys.readouterr().err.strip()
    assert words in said
    assert str(path) in said
    assert len(said.splitlines()) == 1
    assert not (tmp_path / "out.png").exists()


@pytest.mark.parametrize("kind", ["8", "16", "grey"])
def test_degrade_takes_the_stored_numbers(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = np.random.default_rng(0).integers(0, 65536, (20, 30, 3), np.uint16)
    if kind != "16":
        picture = (picture >> 8).astype(np.uint8)
    if kind == "grey":
        picture = picture[..., :1].repeat(3, axis=2)
    cv2.imwrite(str(tmp_path / "in.png"), picture[..., 0] if kind == "grey" else picture[..., ::-1])
    assert run(monkeypatch, "degrade", tmp_path / "in.png", tmp_path / "out.png", "--seed", 5) == 0
    assert (cv2.imread(str(tmp_path / "out.png"))[..., ::-1] == bs.degrade(picture, seed=5)).all()


def test_a_transparent_picture_is_not_degraded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cv2.imwrite(str(tmp_path / "in.png"), np.zeros((20, 30, 4), np.uint8))
    assert run(monkeypatch, "degrade", tmp_path / "in.png", tmp_path / "out.png") == 2
    assert "transparent" in capsys.readouterr().err


def test_a_map_of_any_shape_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cv2.imwrite(str(tmp_path / "photo.png"), np.zeros((20, 30, 3), np.uint8))
    npy(tmp_path / "map.npy", (200_000, 100_000))
    line = ["--photo", tmp_path / "photo.png", "--disparity", tmp_path / "map.npy", "--focus", 0.5, "--blur", 3]
    assert run(monkeypatch, "render", *line, "--out", tmp_path / "out.png") == 2
    said = capsys.readouterr().err.strip()
    assert "more than 64 million pixels" in said
    assert len(said.splitlines()) == 1

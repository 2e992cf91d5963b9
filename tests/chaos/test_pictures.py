"""Forty pictures that are broken, hostile or no pictures: each named with its reason, and the rest goes on."""

import io
import json
import os
import random
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from harness import ended, quarantine, run, start, until
from PIL import Image

import bokehsynth as bs

RECIPE = """\
name: hostile
samples: {{train: 6}}
size: 48
assets:
  root: {root}
  foregrounds: [procedural/fur, cutouts]
  backgrounds: [landscapes]
scene: {{foregrounds: 1}}
shards: {{samples: 3}}
"""


def picture(seed: int, channels: int = 3, size: int = 96) -> np.ndarray:
    """Sharp, and like no other."""
    noise = np.random.default_rng(seed).integers(0, 256, (size // 4, size // 4, channels), np.uint8)
    return cv2.resize(noise, (size, size), interpolation=cv2.INTER_NEAREST)


def encoded(seed: int, suffix: str) -> bytes:
    return cv2.imencode(suffix, picture(seed))[1].tobytes()


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few kilobytes that says it is this large."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(3 * width + 1) * min(height, 20), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def frames(count: int, kind: str) -> bytes:
    stream = io.BytesIO()
    pictures = [Image.fromarray(picture(50 + i)) for i in range(count)]
    pictures[0].save(stream, kind, save_all=True, append_images=pictures[1:])
    return stream.getvalue()


def flipped(data: bytes, dice: random.Random, first: int) -> bytes:
    damaged = bytearray(data)
    damaged[dice.randrange(first, len(data) - 20)] ^= 1 << dice.randrange(8)
    return bytes(damaged)


def lay_out(root: Path) -> dict[str, set[str]]:
    """Good pictures, and forty others with the reasons that may be given for each."""
    land, cut = root / "landscapes", root / "cutouts"
    land.mkdir(parents=True)
    cut.mkdir()
    for i in range(5):
        (land / f"good-{i}.png").write_bytes(encoded(i, ".png"))
    (land / "gut-\u00e9-\U0001f98a \u202e\n.jpg").write_bytes(encoded(9, ".jpg"))
    (land / ("l" * 250 + ".png")).write_bytes(encoded(10, ".png"))
    matte = picture(11, 4)
    matte[..., 3] = cv2.circle(np.zeros((96, 96), np.uint8), (48, 48), 30, 255, -1)
    (cut / "good.png").write_bytes(cv2.imencode(".png", matte)[1].tobytes())

    dice = random.Random(7)
    bad: dict[str, bytes] = {}
    reasons: dict[str, set[str]] = {}

    def add(name: str, data: bytes, *why: str) -> None:
        bad[name], reasons[name] = data, set(why)

    for suffix, count in ((".png", 7), (".jpg", 7), (".webp", 4), (".tif", 2)):
        data = encoded(20, suffix)
        for i in range(count):
            cut_at = dice.randrange(len(data) // 8, len(data) - 40)
            add(f"cut-{i}{suffix}", data[:cut_at], "truncated", "corrupt")
    for i in range(4):
        add(f"flipped-{i}.png", flipped(encoded(21 + i, ".png"), dice, 60), "corrupt", "truncated")
    add("empty.png", b"", "truncated", "unsupported_format", "corrupt")
    add("words.png", b"no picture at all\n" * 50, "unsupported_format")
    add("page.jpg", b"<html><body>404</body></html>", "unsupported_format")
    add("magic.png", b"\x89PNG\r\n\x1a\n" + random.Random(1).randbytes(500), "corrupt", "truncated")
    add("declared.png", bomb(50_000, 50_000), "too_large")
    add("bomb.png", bomb(12_000, 12_000), "too_large")
    add("dot.png", cv2.imencode(".png", picture(30)[:1, :1])[1].tobytes(), "too_small")
    add("strip.png", cv2.imencode(".png", np.tile(picture(31)[:20], (1, 12, 1)))[1].tobytes(), "too_small")
    add("moving.webp", frames(3, "WEBP"), "animated")
    add("moving.png", frames(3, "GIF"), "unsupported_format", "animated")
    add("old.bmp", encoded(32, ".bmp"), "unsupported_format")
    for name, data in bad.items():
        (land / name).write_bytes(data)
    os.mkfifo(land / "pipe.png")
    (land / "folder.png").mkdir()
    (land / "nowhere.png").symlink_to("gone.png")
    (land / "loop.png").symlink_to("loop.png")
    (land / "outside.png").symlink_to("/etc/hostname")
    reasons |= {"pipe.png": {"not_a_file"}, "folder.png": {"not_a_file"}, "nowhere.png": {"missing"}}
    reasons |= {"loop.png": {"missing"}, "outside.png": {"outside_root"}}
    (cut / "opaque.jpg").write_bytes(encoded(33, ".jpg"))
    empty = picture(34, 4)
    empty[..., 3] = 0
    (cut / "nothing.png").write_bytes(cv2.imencode(".png", empty)[1].tobytes())
    return reasons | {"opaque.jpg": {"no_matte"}, "nothing.png": {"empty_matte"}}


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, set[str]]]:
    root = tmp_path_factory.mktemp("hostile")
    expected = lay_out(root / "pictures")
    (root / "hostile.yaml").write_text(RECIPE.format(root=root / "pictures"))
    return root / "hostile.yaml", expected


def test_forty_malformed_pictures_are_named_and_the_rest_is_whole(
    hostile: tuple[Path, dict[str, set[str]]], tmp_path: Path
) -> None:
    recipe, expected = hostile
    assert len(expected) >= 40 - 2
    out = tmp_path / "set"
    done = run("generate", recipe, "--out", out, "--workers", 2)
    assert done.returncode == 3, done.stderr
    assert "Traceback" not in done.stderr
    assert f"{len(expected)} files in quarantine" in done.stderr
    listed = {entry["name"]: entry for entry in quarantine(out)}
    assert listed.keys() == expected.keys()
    for name, entry in listed.items():
        assert entry["reason"] in expected[name], entry
        assert len(entry["message"]) > 5
        assert str(recipe.parent) not in entry["message"], "the list is the same wherever the pictures lie"
    assert run("verify", out).returncode == 0
    assets = [json.loads(line) for line in (out / "assets.jsonl").read_text().splitlines()]
    photographed = {asset["file"] for asset in assets if "file" in asset}
    assert len(photographed) == 8
    assert not photographed & expected.keys()
    assert len(bs.open_dataset(out)) == 6
    again = run("generate", recipe, "--out", out)
    assert (again.returncode, "nothing to do" in again.stdout) == (3, True)


@pytest.mark.long
def test_a_picture_that_changes_under_a_run_stops_it(tmp_path: Path) -> None:
    """Between two runs: the set was begun with other assets. Within one: the worker that reads it says so."""
    land = tmp_path / "pictures" / "landscapes"
    land.mkdir(parents=True)
    for i in range(2):
        (land / f"{i}.png").write_bytes(encoded(60 + i, ".png"))
    mine = tmp_path / "mine.yaml"
    words = RECIPE.format(root=tmp_path / "pictures").replace(", cutouts", "").replace("train: 6", "train: 12")
    mine.write_text(words + 'degradation: ["chaos_faults:Fault"]\n')
    process = start("generate", mine, "--out", tmp_path / "set", "--workers", 1, FAULT="slow:1")
    until(lambda: list((tmp_path / "set").glob(".bokehsynth/tmp/*.crashes")), process)
    for i in range(2):
        (land / f"{i}.png").write_bytes(encoded(70 + i, ".png"))
    said = ended(process)
    if process.returncode != 0:  # it had not read both before
        assert process.returncode == 2, said
        assert "an asset changed under a running recipe" in said
    assert quarantine(tmp_path / "set") == []
    done = run("generate", mine, "--out", tmp_path / "set")
    assert done.returncode == 2, done.stderr
    assert "assets_digest" in done.stderr


def test_too_few_pictures_are_said_before_anything_is_made(tmp_path: Path) -> None:
    land = tmp_path / "landscapes"
    land.mkdir()
    recipe = tmp_path / "few.yaml"
    recipe.write_text(RECIPE.format(root=tmp_path).replace(", cutouts", "").replace("train: 6", "train: 6, val: 2"))
    for pictures in (0, 1):
        if pictures:
            (land / "only.png").write_bytes(encoded(1, ".png"))
        done = run("generate", recipe, "--out", tmp_path / "out")
        assert done.returncode == 2, done.stderr
        assert "background" in done.stderr
        assert not (tmp_path / "out").exists()


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_hundreds_of_pictures_fuzzed_from_good_ones(tmp_path: Path) -> None:
    """Whatever is in them, the run ends with 0 or 3, and no reason is an accident."""
    land, dice = tmp_path / "landscapes", random.Random(3)
    land.mkdir()
    for i in range(4):
        (land / f"good-{i}.png").write_bytes(encoded(i, ".png"))
    for i in range(400):
        suffix = dice.choice([".png", ".jpg", ".webp", ".tif"])
        data = bytearray(encoded(100 + i % 20, suffix))
        for _ in range(dice.choice([1, 3, 40])):
            data[dice.randrange(len(data))] = dice.randrange(256)
        (land / f"fuzz-{i}{suffix}").write_bytes(data[: dice.randrange(1, len(data) + 1)] if i % 3 else data)
    recipe = tmp_path / "fuzz.yaml"
    recipe.write_text(RECIPE.format(root=tmp_path).replace(", cutouts", "").replace("train: 6", "train: 60"))
    done = run("generate", recipe, "--out", tmp_path / "set")
    assert done.returncode == 3, done.stderr
    reasons = [entry["reason"] for entry in quarantine(tmp_path / "set")]
    assert len(reasons) > 200
    plain = {"truncated", "corrupt", "too_large", "too_small", "unsupported_format"}
    assert set(reasons) <= plain | {"animated", "blurred", "has_alpha", "not_finite"}
    assert run("verify", tmp_path / "set").returncode == 0

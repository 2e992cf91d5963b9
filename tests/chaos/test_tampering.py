"""A finished set that is altered: verify names it, verify --fix and the same line mend it, to the byte."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from harness import assert_same, events, promised_files, run


def flip_a_byte(out: Path) -> None:
    path = out / "train/train-000001.tar"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut_at_a_member(out: Path) -> None:
    path = out / "train/train-000001.tar"
    path.write_bytes(path.read_bytes()[: 512 * (path.stat().st_size // 1024)])


def delete_a_marker(out: Path) -> None:
    (out / ".bokehsynth/train/train-000001.done.json").unlink()


def alter_a_marker(out: Path) -> None:
    path = out / ".bokehsynth/train/train-000001.done.json"
    path.write_text(path.read_text().replace('"n": 3', '"n": 2'))


def delete_a_shard(out: Path) -> None:
    (out / "train/train-000001.tar").unlink()


def swap_two_shards(out: Path) -> None:
    one, two, other = (out / f"train/{name}" for name in ("train-000001.tar", "train-000002.tar", "x"))
    one.rename(other)
    two.rename(one)
    other.rename(two)


def double_a_shard(out: Path) -> None:
    shutil.copyfile(out / "train/train-000001.tar", out / "train/train-000002.tar")


def damage_an_index(out: Path) -> None:
    path = out / ".bokehsynth/train/train-000001.idx"
    path.write_text(path.read_text().replace("1", "2", 5))


def edit_the_recipe(out: Path) -> None:
    path = out / "recipe.yaml"
    path.write_text(path.read_text().replace("seed: 68", "seed: 69"))


def edit_the_assets(out: Path) -> None:
    path = out / "assets.jsonl"
    path.write_text(path.read_text().replace("Apache-2.0", "CC0", 1))


def empty_the_description(out: Path) -> None:
    (out / "dataset.json").write_text("{}")


def rename_the_set(out: Path) -> None:
    path = out / "dataset.json"
    path.write_text(path.read_text().replace('"name": "chaos"', '"name": "other"'))


def alter_a_field(out: Path) -> None:
    record = json.loads((out / "dataset.json").read_text())
    record["fields"]["defocus"]["about"] = "something else"
    (out / "dataset.json").write_text(json.dumps(record, sort_keys=True, indent=2) + "\n")


def alter_the_identity(out: Path) -> None:
    path = out / ".bokehsynth/identity.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"assets_digest": "0" * 64}))


def lose_the_machine(out: Path) -> None:
    (out / ".bokehsynth/machine.json").unlink()


def invent_extensions(out: Path) -> None:
    (out / ".bokehsynth/extensions.json").write_text('[{"train": 5, "val": 1}]')


def invent_a_quarantine(out: Path) -> None:
    entry = {"kind": "sample", "split": "train", "index": 3, "attempt": 0, "reason": "black", "message": "x"}
    (out / "quarantine.jsonl").write_text(json.dumps(entry) + "\n")


MENDED_BY_A_NEW_SHARD = [
    flip_a_byte,
    cut_at_a_member,
    delete_a_shard,
    swap_two_shards,
    double_a_shard,
]
MENDED_FROM_THE_TAR = [delete_a_marker, alter_a_marker, damage_an_index]
SHORT = {swap_two_shards}
BESIDE_THE_SHARDS = [
    edit_the_assets,
    empty_the_description,
    rename_the_set,
    alter_a_field,
    alter_the_identity,
    lose_the_machine,
    invent_extensions,
    invent_a_quarantine,
]


def in_ci(tampers: list[Callable[[Path], None]], short: "set[Callable[[Path], None]]") -> list[object]:
    return [
        pytest.param(tamper, id=tamper.__name__, marks=[] if tamper in short else pytest.mark.long)
        for tamper in tampers
    ]


@pytest.mark.parametrize("tamper", in_ci(MENDED_BY_A_NEW_SHARD, SHORT))
def test_damage_is_found_and_just_that_shard_made_again(
    tamper: Callable[[Path], None], recipe: Path, clean: Path, tmp_path: Path
) -> None:
    out = tmp_path / "set"
    shutil.copytree(clean, out)
    tamper(out)
    damaged = {"train-000001"} | ({"train-000002"} if tamper in {swap_two_shards, double_a_shard} else set())
    before = len(events(out, "committed"))
    found = run("verify", out)
    assert found.returncode == 1, found.stdout
    assert "train-000001" in found.stdout + found.stderr or "train shard 1" in found.stdout
    assert run("verify", out, "--fix").returncode == 1
    done = run("generate", recipe, "--out", out)
    assert done.returncode == 0, done.stderr
    again = {event["shard"] for event in events(out, "committed")[before:]}
    assert again <= damaged | {"train-000002"}
    assert again
    assert_same(out, clean)
    assert run("verify", out).returncode == 0


@pytest.mark.parametrize("tamper", in_ci(MENDED_FROM_THE_TAR, set()))
def test_what_follows_from_a_tar_is_written_anew_and_no_shard_made_again(
    tamper: Callable[[Path], None], recipe: Path, clean: Path, tmp_path: Path
) -> None:
    out = tmp_path / "set"
    shutil.copytree(clean, out)
    tamper(out)
    before = len(events(out, "committed"))
    assert run("verify", out).returncode == 1
    mended = run("verify", out, "--fix")
    assert mended.returncode == 1
    assert "nothing has to be made anew" in mended.stderr
    assert run("verify", out).returncode == 0
    assert run("generate", recipe, "--out", out).returncode == 0
    assert len(events(out, "committed")) == before
    assert_same(out, clean)


@pytest.mark.parametrize("tamper", in_ci(BESIDE_THE_SHARDS, set()))
def test_files_beside_the_shards_are_written_anew(
    tamper: Callable[[Path], None], recipe: Path, clean: Path, tmp_path: Path
) -> None:
    out = tmp_path / "set"
    shutil.copytree(clean, out)
    before = len(events(out, "committed"))
    tamper(out)
    assert run("verify", out).returncode == 1
    assert run("verify", out, "--fix").returncode == 1
    assert run("generate", recipe, "--out", out).returncode == 0
    assert len(events(out, "committed")) == before
    assert_same(out, clean)


def test_an_edited_recipe_is_found_and_nothing_goes_on_from_it(recipe: Path, clean: Path, tmp_path: Path) -> None:
    out = tmp_path / "set"
    shutil.copytree(clean, out)
    edit_the_recipe(out)
    kept = promised_files(out)
    found = run("verify", out)
    assert found.returncode == 1
    assert "recipe.yaml: is not the recipe the shards were made with" in found.stdout
    done = run("generate", recipe, "--out", out)
    assert done.returncode == 2
    assert "seed: 69 -> 68" in done.stderr
    assert promised_files(out) == kept

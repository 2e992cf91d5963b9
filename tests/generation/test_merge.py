"""Merging: ranges of a set that were made apart become the bytes of one run; anything that is no part is refused."""

import json
import shutil
from pathlib import Path

import pytest
from support.promised import promised_files

import bokehsynth as bs
from bokehsynth.errors import ChangedError, DataError, StorageError, UsageError
from bokehsynth.files import pretty_json
from bokehsynth.generation import disk_space
from bokehsynth.generation.merge import merge
from bokehsynth.generation.quarantine import QuarantinedDraw, write_shard_list
from bokehsynth.generation.verify import verify
from bokehsynth.shards import Layout
from bokehsynth.shards.marker import committed_plans
from bokehsynth.untrusted_files import read_json

RECIPE = ["samples={train: 5, val: 1}", "size=32", "shards.samples=2", "scene.blur=4"]
WHOLE = ["train-000000", "train-000001", "train-000002", "val-000000"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("merge") / "whole"
    bs.generate(bs.load_recipe("quickstart", RECIPE), out)
    return out


@pytest.fixture
def copies(whole: Path, tmp_path: Path) -> Path:
    """The set as two runs of `--shards 0/2` and `1/2` leave it in folders of their own."""
    for name, lacks in (("a", WHOLE[2:]), ("b", WHOLE[:2])):
        shutil.copytree(whole, tmp_path / name)
        layout = Layout(tmp_path / name)
        for path in (layout.dataset, layout.card, layout.preview):
            path.unlink()
        for split in ("train", "val"):
            for plan in committed_plans(layout, split):
                if plan.name in lacks:
                    for path in (layout.marker(plan), layout.index(plan), layout.tar(plan)):
                        path.unlink()
    return tmp_path


def shards(path: Path) -> list[str]:
    layout = Layout(path)
    return [plan.name for split in ("train", "val") for plan in committed_plans(layout, split)]


def test_parts_become_the_bytes_of_one_run(copies: Path, whole: Path) -> None:
    result = merge(copies / "a", [copies / "b"])
    assert (result.copied, result.missing) == (2, ())
    assert result.finished is not None
    assert result.finished.complete
    assert promised_files(copies / "a") == promised_files(whole)
    assert merge(copies / "a", [copies / "b"]).copied == 0


def test_what_no_part_has_is_named(copies: Path) -> None:
    layout = Layout(copies / "b")
    layout.marker(committed_plans(layout, "val")[0]).unlink()
    result = merge(copies / "a", [copies / "b"])
    assert (result.copied, result.missing, result.finished) == (1, ("val-000000",), None)
    assert shards(copies / "a") == WHOLE[:3]


def test_a_damaged_part_is_refused_and_what_was_copied_stays(copies: Path) -> None:
    layout = Layout(copies / "b")
    tar = layout.tar(committed_plans(layout, "val")[0])
    data = bytearray(tar.read_bytes())
    data[700] ^= 1  # in the first member
    tar.write_bytes(data)
    with pytest.raises(DataError, match="is not what its marker says"):
        merge(copies / "a", [copies / "b"])
    assert shards(copies / "a") == WHOLE[:3]
    assert not list((copies / "a").rglob("*.tmp*"))


def test_other_sets_are_no_parts(copies: Path, tmp_path: Path) -> None:
    identity = Layout(copies / "b").identity
    text = identity.read_text()
    identity.write_text(pretty_json(json.loads(text) | {"recipe_digest": "0" * 64}))
    with pytest.raises(ChangedError, match="recipe_digest"):
        merge(copies / "a", [copies / "b"])
    identity.write_text(text)
    with pytest.raises(UsageError, match="is the set itself"):
        merge(copies / "a", [copies / "a"])
    (tmp_path / "empty").mkdir()
    for out, part in (("empty", "b"), ("a", "empty"), ("a", "none")):
        with pytest.raises(UsageError, match="no data set was begun here"):
            merge(tmp_path / out, [tmp_path / part])
    machines = Layout(copies / "b").machines
    record = read_json(machines)
    record[0]["opencv"] = "0.1"
    machines.write_text(pretty_json(record))
    with pytest.raises(ChangedError, match="--allow-mixed"):
        merge(copies / "a", [copies / "b"])
    assert merge(copies / "a", [copies / "b"], allow_mixed=True).finished is not None


def test_two_parts_with_other_bytes_of_one_shard_are_named(copies: Path) -> None:
    shutil.copytree(copies / "b", copies / "c")
    layout = Layout(copies / "c")
    marker = layout.marker(committed_plans(layout, "val")[0])
    record = read_json(marker)
    marker.write_text(pretty_json(record | {"sha256": "0" * 64}))
    with pytest.raises(ChangedError, match=r"c: val-000000 has other bytes than in .*b"):
        merge(copies / "a", [copies / "b", copies / "c"])


def test_a_part_brings_its_quarantine_and_a_run_here_leaves_nothing(copies: Path, whole: Path) -> None:
    layout = Layout(copies / "a")
    plan = committed_plans(Layout(copies / "b"), "val")[0]
    write_shard_list(layout, plan, [QuarantinedDraw("val", 0, 0, "killed", "of a run that never came to its end")])
    left = layout.staging / f"{plan.name}.tar.tmp-1"
    left.write_bytes(b"x")
    assert merge(copies / "a", [copies / "b", copies / "b"]).copied == 2
    assert not left.exists()
    assert verify(copies / "a").faults == []
    assert promised_files(copies / "a") == promised_files(whole)


def test_a_part_without_its_machines_is_of_another_kind(copies: Path) -> None:
    Layout(copies / "b").machines.unlink()
    with pytest.raises(ChangedError, match="the record of the machines that made it, is missing"):
        merge(copies / "a", [copies / "b"])


def test_a_part_that_claims_a_thousand_million_samples_is_only_compared(copies: Path) -> None:
    recipe = copies / "b" / "recipe.yaml"
    text = recipe.read_text()
    recipe.write_text(text.replace("train: 5", "train: 999999999"))
    assert recipe.read_text() != text
    with pytest.raises(ChangedError, match=r"samples\.train: 5 -> 999999999"):
        merge(copies / "a", [copies / "b"])


def test_a_disk_without_room_is_said_before_anything_is_copied(copies: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk_space, "_free", lambda path: 10.0)
    with pytest.raises(StorageError, match="too full"):
        merge(copies / "a", [copies / "b"])
    assert shards(copies / "a") == WHOLE[:2]

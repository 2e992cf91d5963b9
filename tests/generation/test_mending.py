"""`verify --fix`: what follows from the tars is written anew; `dataset.json` goes only where it can be made again."""

import importlib
import json
import os
import shutil
from pathlib import Path

import pytest
from support.hostile_sets import change_members
from support.shard_samples import tree
from support.small_set import make_small_set

import bokehsynth as bs
from bokehsynth.files import change_file
from bokehsynth.generation.extend import extend
from bokehsynth.generation.generate import finalize
from bokehsynth.generation.plan import read_extensions
from bokehsynth.generation.quarantine import QuarantinedDraw, write_shard_list
from bokehsynth.generation.verify import verify
from bokehsynth.shards import Layout, ShardPlan

FIRST = ShardPlan("train", 0, 0, 2)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_small_set(tmp_path_factory.mktemp("good") / "set").root


@pytest.fixture
def copied(good: Path, tmp_path: Path) -> Layout:
    """A whole copy."""
    shutil.copytree(good, tmp_path / "set")
    return Layout(tmp_path / "set")


@pytest.fixture
def bare(copied: Layout) -> Layout:
    """A copy without hidden folders, as `cp -r set/* copy` makes it."""
    shutil.rmtree(copied.hidden)
    return copied


def files(root: Path) -> dict[str, bytes]:
    """Every file but the lock."""
    return {name: data for name, data in tree(root).items() if name != ".bokehsynth/run.lock"}


def test_a_set_without_its_hidden_folder_says_so_everywhere(bare: Layout, good: Path) -> None:
    before = files(bare.root)
    recipe = bs.load_recipe(good.with_suffix(".yaml"))
    for use in (
        lambda: bs.open_dataset(bare.root),
        lambda: finalize(bare.root),
        lambda: extend(bare.root, 8),
        lambda: bs.generate(recipe, bare.root),
    ):
        with pytest.raises(bs.DataError, match=r"copied without hidden folders.*verify --fix"):
            use()
    report = verify(bare.root)
    assert "copied without hidden folders" in report.faults[0].message
    assert files(bare.root) == before


def test_its_markers_indices_and_records_are_rebuilt_from_the_tars(bare: Layout, good: Path) -> None:
    report = verify(bare.root, fix=True)
    assert report.mended
    assert files(bare.root) == files(good)
    assert verify(bare.root).ok
    assert len(bs.open_dataset(bare.root)) == 3


def test_without_decoding_nothing_is_rebuilt_and_nothing_deleted(bare: Layout) -> None:
    before = files(bare.root)
    report = verify(bare.root, decode=0, fix=True)
    assert not report.ok
    assert not report.mended
    after = files(bare.root)
    assert {name: after.get(name) for name in before} == before
    assert set(after) - set(before) <= {".bokehsynth/machine.json"}


def test_altered_tars_are_not_confirmed_and_keep_dataset_json(copied: Layout) -> None:
    record = copied.dataset.read_bytes()
    pictures = {}

    def swap(name: str, data: bytes) -> list[tuple[str, bytes]]:
        """The clean picture under the name of the degraded one: whole, of the right size, and another set."""
        if name.endswith(".aif.png"):
            pictures["aif"] = data
        return [(name, pictures["aif"] if name.endswith(".lq.png") else data)]

    change_members(copied, swap)
    copied.dataset.write_bytes(record)
    shutil.rmtree(copied.hidden)
    report = verify(copied.root, fix=True)
    assert not report.mended
    assert any("a tar was altered" in fault.message for fault in report.faults)
    assert copied.dataset.read_bytes() == record
    assert not list(copied.split_markers("train").glob("*"))
    assert [path.name for path in copied.split_markers("val").glob("*.json")] == ["val-000000.done.json"]


def test_a_damaged_tar_keeps_dataset_json_where_nothing_else_tells_what_it_was(bare: Layout) -> None:
    path = bare.tar(FIRST)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    report = verify(bare.root, fix=True)
    assert not report.mended
    assert bare.dataset.is_file()
    assert path.read_bytes() == data


@pytest.mark.parametrize("kind", ["index", "marker"])
def test_a_lost_file_of_a_shard_is_rewritten_alone(kind: str, copied: Layout, good: Path) -> None:
    getattr(copied, kind)(FIRST).unlink()
    times = {path: path.stat().st_mtime_ns for path in copied.root.rglob("*.tar")} | {
        copied.dataset: copied.dataset.stat().st_mtime_ns
    }
    assert verify(copied.root, fix=True).mended
    assert files(copied.root) == files(good)
    assert times == {path: path.stat().st_mtime_ns for path in times}


def test_quarantined_draws_come_back_from_the_list_of_the_set(copied: Layout) -> None:
    """The shard's own list is lost with the folder; the set's list has its lines."""
    draw = QuarantinedDraw("train", 1, 0, "killed", "its worker was killed by it")
    write_shard_list(copied, FIRST, [draw])
    kept = copied.shard_quarantine(FIRST).read_bytes()
    copied.quarantine.write_bytes(kept)
    shutil.rmtree(copied.hidden)
    verify(copied.root, fix=True)
    assert copied.shard_quarantine(FIRST).read_bytes() == kept


def test_a_damaged_shard_still_loses_its_marker(copied: Layout) -> None:
    path = copied.tar(FIRST)
    path.write_bytes(path.read_bytes()[:-512])
    copied.index(ShardPlan("train", 1, 2, 1)).unlink()
    report = verify(copied.root, fix=True)
    assert not report.mended
    assert not copied.marker(FIRST).exists()
    assert copied.marker(ShardPlan("train", 1, 2, 1)).exists()
    assert copied.index(ShardPlan("train", 1, 2, 1)).exists()
    assert not copied.dataset.exists()


def test_what_a_run_writes_meanwhile_is_not_deleted(copied: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run completes the set between the look and the lock."""
    module = importlib.import_module("bokehsynth.generation.verify")
    look, record = module.verify_dataset, copied.dataset.read_bytes()
    copied.dataset.unlink()

    def and_a_run_ends(*arguments: object, **options: object) -> object:
        report = look(*arguments, **options)
        copied.dataset.write_bytes(record)
        return report

    monkeypatch.setattr(module, "verify_dataset", and_a_run_ends)
    with pytest.raises(bs.LockedError, match="written while the set was verified"):
        verify(copied.root, fix=True)
    assert copied.dataset.read_bytes() == record


@pytest.mark.long
def test_an_extended_set_is_rebuilt_with_its_record_of_extensions(copied: Layout) -> None:
    assert extend(copied.root, 8).complete
    before = files(copied.root)
    shutil.rmtree(copied.hidden)
    assert verify(copied.root, fix=True).mended
    after = files(copied.root)
    assert [name for name in before if before[name] != after.get(name)] == []


@pytest.mark.timeout(60)
def test_a_dataset_json_that_cannot_be_read_to_its_end_is_replaced_unread(copied: Layout, good: Path) -> None:
    """A stranger's set may have a FIFO there, or a link to a device that never ends."""
    whole = copied.dataset.read_bytes()
    copied.dataset.unlink()
    os.mkfifo(copied.dataset)
    assert finalize(copied.root).complete
    assert copied.dataset.read_bytes() == whole
    os.mkfifo(copied.root / "pipe")
    with pytest.raises(bs.DataError, match="pipe: is no regular file"):
        change_file(copied.root / "pipe", lambda old: b"new")


@pytest.mark.parametrize("text", ["[]", '[{"train":2,"val":1}]'])
def test_a_record_of_extensions_may_be_written_otherwise(copied: Layout, text: str, monkeypatch) -> None:
    copied.extensions.write_text(text)
    monkeypatch.setattr("bokehsynth.generation.extend.check_shard_boundaries", lambda layout, plans: None)
    monkeypatch.setattr("bokehsynth.generation.extend.uncommitted", lambda layout, plans, identity: [])
    monkeypatch.setattr("bokehsynth.generation.extend.run_generation", lambda recipe, layout, options: recipe)
    assert extend(copied.root, 8).count("train") == 6
    assert read_extensions(copied) == [*json.loads(text), {"train": 3, "val": 1}]

"""A set has the PNG bytes of one encoder: sets of 0.4.0 go on with OpenCV's, whatever works on them."""

import importlib
import json
import shutil
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from support.promised import promised_files
from support.small_set import machine_of_0_4_0, make_small_set

import bokehsynth as bs
from bokehsynth.errors import ChangedError, UsageError
from bokehsynth.files import pretty_json
from bokehsynth.generation.dataset_files import check_output_dir, write_root_files
from bokehsynth.generation.engines import NodeCheck
from bokehsynth.generation.generate import finalize
from bokehsynth.generation.machine_record import as_in_set, devices_of, machines_of, record_machine
from bokehsynth.generation.merge import merge
from bokehsynth.generation.plan import all_plans
from bokehsynth.generation.provenance import describe_machine, pixel_facts, png_encoder, with_encoder_of
from bokehsynth.generation.verify import verify
from bokehsynth.shards import Layout, encode_png, encode_png_opencv
from bokehsynth.shards.marker import committed_plans, read_marker

runs = importlib.import_module("bokehsynth.generation.generate")


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One recipe as 0.4.0 made it, `old`, and as it is made now, `new`."""
    root = tmp_path_factory.mktemp("encoders")
    make_small_set(root / "old", machine=machine_of_0_4_0())
    make_small_set(root / "new")
    return root


def lose(layout: Layout, split: str, number: int) -> None:
    plan = committed_plans(layout, split)[number]
    for path in (layout.marker(plan), layout.index(plan), layout.tar(plan)):
        path.unlink()


def test_both_encoders_are_whole_sets_of_the_same_pixels(sets: Path) -> None:
    old, new = Layout(sets / "old"), Layout(sets / "new")
    for layout in (old, new):
        assert verify(layout.root).faults == []
    for plan in committed_plans(old, "train"):
        before, after = read_marker(old, plan), read_marker(new, plan)
        assert before.pixels_sha256 == after.pixels_sha256
        assert before.sha256 != after.sha256
    roots = [json.loads(layout.dataset.read_text())["pixels_root"] for layout in (old, new)]
    assert roots[0] == roots[1]


def test_a_set_of_0_4_0_that_is_gone_on_with_and_mended_keeps_its_bytes(sets: Path, tmp_path: Path) -> None:
    """One shard was never made, another one is damaged, and the record of machines is lost."""
    layout = Layout(tmp_path / "set")
    shutil.copytree(sets / "old", layout.root)
    before = promised_files(layout.root)
    lose(layout, "val", 0)
    tar = layout.tar(committed_plans(layout, "train")[0])
    data = bytearray(tar.read_bytes())
    data[len(data) // 2] ^= 1
    tar.chmod(0o644)
    tar.write_bytes(data)
    layout.machines.unlink()  # dataset.json names the machine as well
    assert verify(layout.root, fix=True).faults
    assert bs.generate(sets / "old.yaml", layout.root, workers=1).made == 3
    assert promised_files(layout.root) == before
    assert verify(layout.root).faults == []
    assert machines_of(layout) == machines_of(Layout(sets / "old"))


def test_parts_of_two_encoders_are_merged_only_if_that_is_allowed(sets: Path, tmp_path: Path) -> None:
    for name in ("old", "new"):
        shutil.copytree(sets / name, tmp_path / name)
    old, new = Layout(tmp_path / "old"), Layout(tmp_path / "new")
    lose(old, "val", 0)
    with pytest.raises(ChangedError, match=r"(?s)isal: null -> \".*--allow-mixed"):
        merge(tmp_path / "old", [tmp_path / "new"])
    marker = new.marker(committed_plans(new, "train")[1])
    text = marker.read_text()
    marker.write_text(pretty_json(json.loads(text) | {"pixels_sha256": "0" * 64}))
    with pytest.raises(ChangedError, match=r"new: train-000001 has other pixels than in .*old"):
        merge(tmp_path / "old", [tmp_path / "new"], allow_mixed=True)
    marker.write_text(text)
    finished = merge(tmp_path / "old", [tmp_path / "new"], allow_mixed=True).finished
    assert finished is not None
    assert finished.complete
    assert verify(tmp_path / "old").faults == []
    record = json.loads((tmp_path / "old" / "dataset.json").read_text())
    assert ["isal" in machine for machine in record["made_with"]["mixed"]] == [False, True]
    assert record["pixels_root"] == json.loads((sets / "new" / "dataset.json").read_text())["pixels_root"]


def test_where_no_record_tells_the_machine_only_an_empty_set_is_gone_on_with(sets: Path, tmp_path: Path) -> None:
    layout, other = Layout(tmp_path / "set"), Layout(tmp_path / "other")
    for copied in (layout, other):
        shutil.copytree(sets / "old", copied.root)
    layout.dataset.unlink()
    layout.machines.unlink()
    recipe, here = bs.load_recipe(sets / "old.yaml"), describe_machine("cpu")
    with pytest.raises(ChangedError, match=r"machine\.json, the record of .* is missing.*--allow-mixed"):
        check_output_dir(layout, recipe, here, allow_mixed=False)
    with pytest.raises(ChangedError, match=r"set: machine\.json, the record of .* is missing.*--allow-mixed"):
        merge(layout.root, [other.root])
    assert check_output_dir(layout, recipe, here, allow_mixed=True)
    for split in ("train", "val"):
        for _ in committed_plans(layout, split):
            lose(layout, split, 0)
    assert check_output_dir(layout, recipe, here, allow_mixed=False)


def test_a_lost_record_of_machines_is_that_of_the_description(sets: Path, tmp_path: Path) -> None:
    layout = Layout(tmp_path / "set")
    shutil.copytree(sets / "old", layout.root)
    layout.machines.unlink()
    old, recipe = machine_of_0_4_0(), bs.load_recipe(sets / "old.yaml")
    assert devices_of(layout) == ["cpu"]
    assert as_in_set(layout, describe_machine("cpu")) == old
    with pytest.raises(ChangedError, match=r'numpy: ".*" -> "9"'):
        check_output_dir(layout, recipe, {**describe_machine("cpu"), "numpy": "9"}, allow_mixed=False)
    other = {**old, "numpy": "9"}
    record_machine(layout, other)
    assert machines_of(layout) == [old, other]


@pytest.mark.parametrize("begun", ["by 0.4.0", "with another isal"])
def test_a_run_follows_the_machine_that_began_the_set_meanwhile(
    sets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, begun: str
) -> None:
    """In a bucket between its look at the place and its own record, elsewhere before it has the lock."""
    recipe, layout = bs.load_recipe(sets / "new.yaml"), Layout(tmp_path / "set")
    first = machine_of_0_4_0() if begun == "by 0.4.0" else {**describe_machine("cpu"), "isal": "1.0"}
    checked = runs.check_output_dir

    def then_the_other(*args: Any, **more: Any) -> bool:
        found = checked(*args, **more)
        if "formats" in more:
            write_root_files(layout, recipe, all_plans(recipe), first)
        return found

    def task(*_: object, encode_png: object, **__: object) -> None:
        raise RuntimeError(f"made by {encode_png.__name__}")

    monkeypatch.setattr(runs, "check_output_dir", then_the_other)
    monkeypatch.setattr(runs, "ShardTask", task)
    error, words = (RuntimeError, "encode_png_opencv") if begun == "by 0.4.0" else (ChangedError, r'isal: "1\.0" ->')
    with pytest.raises(error, match=words):
        bs.generate(recipe, layout.root, workers=1)
    assert machines_of(layout) == [first]


def test_a_set_without_a_png_member_does_not_depend_on_isal() -> None:
    """Maps are always PNG."""
    webp = ["shards.codec=webp", "shards.fields=[hq, lq]"]
    assert "isal" not in describe_machine("cpu", bs.load_recipe("quickstart", webp))
    assert "isal" in describe_machine("cpu", bs.load_recipe("quickstart", webp[:1]))


def test_a_missing_encoder_is_told_before_anything_is_made(
    sets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = metadata.version

    def version(name: str) -> str:
        if name == "isal":
            raise metadata.PackageNotFoundError(name)
        return real(name)

    recipe = bs.load_recipe(sets / "old.yaml")
    check = NodeCheck(machine_of_0_4_0(), recipe.identity, allow_mixed=False, lock=True)
    monkeypatch.setattr(metadata, "version", version)
    for call in (
        lambda: bs.generate(recipe, tmp_path / "set", workers=1),
        lambda: finalize(sets / "old"),
        lambda: merge(sets / "old", [sets / "new"]),
    ):
        with pytest.raises(UsageError, match=r"^isal is not installed.*: pip install isal$"):
            call()
    with pytest.raises(ChangedError, match=r"^node .*: isal is not installed"):
        check(Layout(sets / "old"), recipe, "cpu")
    assert not (tmp_path / "set").exists()


def test_a_node_goes_on_with_the_encoder_of_the_run(sets: Path) -> None:
    recipe, layout = bs.load_recipe(sets / "old.yaml"), Layout(sets / "old")
    check = NodeCheck(machine_of_0_4_0(), recipe.identity, allow_mixed=False, lock=True)
    check(layout, recipe, "cpu")
    with pytest.raises(ChangedError, match=r'isal: "1\.0" ->'):
        replace(check, machine={**check.machine, "isal": "1.0"})(layout, recipe, "cpu")


def test_the_record_with_which_a_set_was_begun_decides_on_the_encoder() -> None:
    here, old = describe_machine("cpu"), machine_of_0_4_0()
    assert png_encoder(with_encoder_of(old, here)) is encode_png_opencv
    assert png_encoder(with_encoder_of({**here, "isal": "1.0"}, here)) is encode_png
    assert pixel_facts(here, old) != pixel_facts(old, here)
    assert pixel_facts(here, {**here, "isal": "1.0"}) != pixel_facts({**here, "isal": "1.0"}, here)

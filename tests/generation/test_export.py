"""Exports: what is written is what the shards hold, an interrupted one goes on, nothing is written over."""

import io
import itertools
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from support.shard_samples import make_dataset

import bokehsynth as bs
from bokehsynth.cli import cli
from bokehsynth.generation.export.create import create, new_file
from bokehsynth.generation.export.run import export_dataset
from bokehsynth.schema import ShardSpec
from bokehsynth.shards import Layout

FIELDS = ["lq", "hq", "defocus", "hq16"]
LAST = {
    "folder": "train/hq/train-000000003.webp",
    "parquet": "data/train-00001-of-00003.parquet",
    "mds": "train/shard.00001.mds",
}
BEFORE = {
    "folder": "train/hq/train-000000002.webp",
    "parquet": "data/train-00000-of-00003.parquet",
    "mds": "train/shard.00000.mds",
}


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    """Five samples of train in shards of two, and one of val."""
    spec = ShardSpec(samples=2, codec="webp", fields=FIELDS)
    return make_dataset(tmp_path_factory.mktemp("export") / "set", {"train": 5, "val": 1}, spec)


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def samples_of(layout: Layout) -> list[bs.Sample]:
    return [sample for split in ("train", "val") for sample in bs.open_dataset(layout.root, split)]


def test_folders_hold_the_members(layout: Layout, tmp_path: Path) -> None:
    assert export_dataset(layout.root, tmp_path / "out", "folder") == 6
    files = files_of(tmp_path / "out")
    suffixes = {"lq": "webp", "hq": "webp", "defocus": "png", "hq16": "png", "json": "json"}
    expected = {
        f"{sample.meta['split']}/{name}/{sample.key}.{suffix}" for sample in samples_of(layout)
        for name, suffix in suffixes.items()
    }  # fmt: skip
    assert files.keys() == expected | {"export.json", "dataset.json"}
    for sample in samples_of(layout):
        for name in ("lq", "hq"):
            data = files[f"{sample.meta['split']}/{name}/{sample.key}.webp"]
            assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), sample[name])
        assert json.loads(files[f"{sample.meta['split']}/json/{sample.key}.json"]) == sample.meta


def test_parquet_is_what_hugging_face_reads(layout: Layout, tmp_path: Path) -> None:
    import datasets

    out = tmp_path / "out"
    assert export_dataset(layout.root, out, "parquet") == 6
    names = {path.name for path in (out / "data").iterdir()}
    train = {f"train-0000{shard}-of-00003.parquet" for shard in range(3)}
    assert names == train | {"validation-00000-of-00001.parquet"}
    loaded = datasets.load_dataset(str(out), cache_dir=str(tmp_path / "cache"))
    rows = [*loaded["train"], *loaded["validation"]]
    assert [row["key"] for row in rows] == [sample.key for sample in samples_of(layout)]
    for row, sample in zip(rows, samples_of(layout), strict=True):
        for name in ("lq", "hq"):
            assert np.array_equal(np.asarray(row[name]), sample[name])
        counts = np.asarray(row["defocus"])
        assert np.array_equal(counts.astype(np.float32) * np.float32(row["defocus_scale"]), sample.defocus)
        assert {key: row[key] for key in sample.meta} == sample.meta
        assert row["hq16"].startswith(b"\x89PNG")


MDS_TYPES = {
    "bytes": bytes,
    "str": lambda data: data.decode(),
    "int": lambda data: int(np.frombuffer(data, "<i8")[0]),
    "float64": lambda data: float(np.frombuffer(data, "<f8")[0]),
    "json": json.loads,
    "png": lambda data: np.asarray(Image.open(io.BytesIO(data))),
}


def mds_samples(folder: Path) -> Iterator[dict[str, object]]:
    """What MosaicML's reader finds, after its description of the format."""
    index = json.loads((folder / "index.json").read_text())
    assert index["version"] == 2
    for shard in index["shards"]:
        assert (shard["format"], shard["version"], shard["compression"], shard["hashes"]) == ("mds", 2, None, [])
        assert shard["zip_data"] is None
        assert shard["column_names"] == sorted(shard["column_names"])
        data = (folder / shard["raw_data"]["basename"]).read_bytes()
        assert len(data) == shard["raw_data"]["bytes"]
        (count,) = np.frombuffer(data[:4], "<u4")
        assert count == shard["samples"]
        offsets = np.frombuffer(data[4 : 4 * (count + 2)], "<u4")
        config = json.loads(data[4 * (count + 2) : offsets[0]])
        assert config == {name: shard[name] for name in config}
        assert offsets[-1] == len(data)
        for start, end in itertools.pairwise(offsets):
            place, sizes = start, []
            for size in shard["column_sizes"]:
                sizes.append(size or np.frombuffer(data[place : place + 4], "<u4")[0])
                place += 0 if size else 4
            sample = {}
            for name, kind, size in zip(shard["column_names"], shard["column_encodings"], sizes, strict=True):
                sample[name] = MDS_TYPES[kind](data[place : place + size])
                place += size
            assert place == end
            yield sample


def test_mds_is_what_streaming_reads(layout: Layout, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert export_dataset(layout.root, out, "mds") == 6
    rows = [row for split in ("train", "val") for row in mds_samples(out / split)]
    assert [row["key"] for row in rows] == [sample.key for sample in samples_of(layout)]
    for row, sample in zip(rows, samples_of(layout), strict=True):
        for name in ("lq", "hq"):
            assert np.array_equal(row[name], sample[name])
        assert np.array_equal(row["defocus"].astype(np.float32) * np.float32(row["defocus_scale"]), sample.defocus)
        assert {key: row[key] for key in sample.meta} == sample.meta
        assert row["hq16"].startswith(b"\x89PNG")
    bad = bytearray((out / LAST["mds"]).read_bytes())
    for place in (3, 4, bad.index(b"column"), bad.index(b"RIFF") + 60, len(bad) - 1):
        changed = bytearray(bad)
        changed[place] ^= 1
        (out / LAST["mds"]).write_bytes(changed)
        with pytest.raises(bs.ChangedError, match="is there and is not train-000001"):
            export_dataset(layout.root, out, "mds")


def test_a_shard_that_is_too_large_for_mds_is_refused(
    layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bokehsynth.generation.export.mds.MAX_SHARD", 1000)
    with pytest.raises(bs.UsageError, match=r"train-000000: takes .* a shard in MDS has at most 1,000"):
        export_dataset(layout.root, tmp_path / "out", "mds")
    assert not list((tmp_path / "out/train").iterdir())


def test_samples_are_written_in_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow.parquet as pq

    from bokehsynth.generation.export import parquet

    monkeypatch.setattr(parquet, "ROWS", 2)
    made = make_dataset(tmp_path / "set", {"train": 5}, ShardSpec(samples=5, fields=["lq"]))
    export_dataset(made.root, tmp_path / "out", "parquet")
    found = pq.ParquetFile(tmp_path / "out/data/train-00000-of-00001.parquet")
    assert [found.metadata.row_group(place).num_rows for place in range(found.num_row_groups)] == [2, 2, 1]
    assert found.read().column("index").to_pylist() == list(range(5))
    size = found.read_row_group(0).nbytes // 2
    for most, groups in ((3 * size // 2, [1, 1, 1, 1, 1]), (1, [1, 1, 1, 1, 1]), (3 * size, [2, 2, 1])):
        monkeypatch.setattr(parquet, "GROUP_BYTES", most)
        export_dataset(made.root, tmp_path / f"{most}", "parquet")
        found = pq.ParquetFile(tmp_path / f"{most}" / "data/train-00000-of-00001.parquet")
        assert [found.metadata.row_group(place).num_rows for place in range(found.num_row_groups)] == groups


def test_a_byte_that_changed_in_a_parquet_is_found(layout: Layout, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export_dataset(layout.root, out, "parquet")
    path = out / LAST["parquet"]
    good = path.read_bytes()
    places = [good.index(b"RIFF") + 60, good.rindex(b"IDAT") + 10, good.index(b"train-"), good.index(b"asset-")]
    for place in [*places, good.rindex(b"shard_sha256") + 20, good.rindex(b"_type")]:
        bad = bytearray(good)
        bad[place] ^= 1
        path.write_bytes(bad)
        with pytest.raises(bs.ChangedError, match="is there and is not"):
            export_dataset(layout.root, out, "parquet")
        assert path.read_bytes() == bad


@pytest.mark.parametrize("form", ["folder", "parquet", "mds"])
def test_an_interrupted_export_goes_on(form: str, layout: Layout, tmp_path: Path) -> None:
    export_dataset(layout.root, tmp_path / "whole", form)
    whole = files_of(tmp_path / "whole")
    export_dataset(layout.root, tmp_path / "out", form)
    data = [name for name in whole if name.startswith(("train", "data"))]
    for name in data[1::2]:
        (tmp_path / "out" / name).unlink()
    (tmp_path / "out" / data[1]).with_name(f".{Path(data[1]).name}.tmp-1-2").write_bytes(b"half")
    kept = {name: (tmp_path / "out" / name).stat().st_mtime_ns for name in data[::2]}
    assert export_dataset(layout.root, tmp_path / "out", form) == 6
    assert files_of(tmp_path / "out") == whole
    assert {name: (tmp_path / "out" / name).stat().st_mtime_ns for name in data[::2]} == kept


@pytest.mark.parametrize("form", ["folder", "parquet", "mds"])
def test_nothing_is_written_over(form: str, layout: Layout, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export_dataset(layout.root, out, form)
    path = out / LAST[form]
    good, other = path.read_bytes(), (out / BEFORE[form]).read_bytes()
    for content in (b"mine", b"", other, good[:-1]):
        path.write_bytes(content)
        with pytest.raises(bs.ChangedError, match=f"{path.name}: is there and "):
            export_dataset(layout.root, out, form)
        assert path.read_bytes() == content
    path.write_bytes(good)
    assert export_dataset(layout.root, out, form) == 6


def test_a_folder_that_is_something_else_is_left_alone(layout: Layout, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("mine")
    for place in (tmp_path / "mine", layout.root):
        with pytest.raises(bs.ChangedError, match="is not empty and no export"):
            export_dataset(layout.root, place, "folder")
    assert files_of(tmp_path / "mine") == {"file": b"mine"}
    export_dataset(layout.root, tmp_path / "out", "folder")
    with pytest.raises(bs.ChangedError, match="another data set or form"):
        export_dataset(layout.root, tmp_path / "out", "parquet")
    other = make_dataset(tmp_path / "other", {"train": 2}, ShardSpec(samples=2, fields=["lq"]))
    with pytest.raises(bs.ChangedError, match="another data set or form"):
        export_dataset(other.root, tmp_path / "out", "folder")
    with pytest.raises(bs.StorageError, match="is not a directory"):
        export_dataset(layout.root, tmp_path / "mine" / "file", "folder")


@pytest.mark.parametrize("form", ["folder", "parquet", "mds"])
def test_a_damaged_shard_is_not_exported(form: str, layout: Layout, tmp_path: Path) -> None:
    shutil.copytree(layout.root, tmp_path / "set")
    tar = tmp_path / "set/train/train-000001.tar"
    data = bytearray(tar.read_bytes())
    data[data.index(b"RIFF") + 60] ^= 1  # a WebP has no checksum
    tar.write_bytes(data)
    with pytest.raises(bs.DataError, match="its bytes are not those that were committed"):
        export_dataset(tmp_path / "set", tmp_path / "out", form)
    assert not [name for name in files_of(tmp_path / "out") if "000002" in name or "00001-of" in name]


def test_a_file_takes_its_name_only_if_that_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    with new_file(path) as file:
        file.write(b"slower")
        path.write_bytes(b"faster")  # as another export may
    assert path.read_bytes() == b"faster"
    with pytest.raises(ZeroDivisionError), new_file(tmp_path / "other") as file:
        file.write(bytes([1 // 0]))
    create(path, b"faster")
    for other in (b"slower", b"", b"longer than that"):
        with pytest.raises(bs.ChangedError):
            create(path, other)
    for there in (tmp_path / "nowhere", path):
        (tmp_path / "link").symlink_to(there)
        with pytest.raises(bs.ChangedError):
            create(tmp_path / "link", b"faster")
        (tmp_path / "link").unlink()

    def no_links(*paths: object) -> None:
        raise PermissionError("no links here")

    monkeypatch.setattr(os, "link", no_links)
    create(tmp_path / "third", b"x")
    assert files_of(tmp_path) == {"file": b"faster", "third": b"x"}


@pytest.mark.parametrize("form", ["folder", "parquet", "mds"])
def test_bytes_are_on_the_disk_before_a_file_has_its_name(
    form: str, layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced, link, fsync = [], os.link, os.fsync

    def note_sync(handle: int) -> None:
        fsync(handle)
        synced.append(os.fstat(handle).st_ino)

    def check_then_link(tmp: Path, path: Path) -> None:
        assert os.stat(tmp).st_ino in synced
        link(tmp, path)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(os, "link", check_then_link)
    export_dataset(layout.root, tmp_path / "out", form)
    folders = {path.parent for path in (tmp_path / "out").rglob("*") if path.is_file()} - {tmp_path / "out"}
    assert folders
    assert {folder.stat().st_ino for folder in folders} <= set(synced)


@pytest.mark.parametrize(
    ("form", "place"), [("folder", "train"), ("folder", "train/hq"), ("parquet", "data"), ("mds", "val")]
)
def test_links_in_the_folder_are_not_followed(form: str, place: str, layout: Layout, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export_dataset(layout.root, out, form)
    shutil.rmtree(out / place)
    (tmp_path / "elsewhere").mkdir()
    (out / place).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(bs.ChangedError, match=f"{place}: is there and is no folder"):
        export_dataset(layout.root, out, form)
    assert not list((tmp_path / "elsewhere").iterdir())
    (out / place).unlink()
    (out / place).write_text("mine")
    with pytest.raises(bs.ChangedError, match=f"{place}: is there and is no folder"):
        export_dataset(layout.root, out, form)


def test_a_data_set_is_left_as_it_is(layout: Layout, tmp_path: Path) -> None:
    before = files_of(layout.root)
    (tmp_path / "link").symlink_to(layout.root)
    for place in (layout.root / "export", tmp_path / "link" / "export", layout.root / "train" / "files"):
        with pytest.raises(bs.UsageError, match="lies in the data set"):
            export_dataset(layout.root, place, "folder")
    assert files_of(layout.root) == before


@pytest.mark.parametrize("form", ["folder", "parquet", "mds"])
def test_an_export_that_ends_leaves_alone_what_another_one_writes(form: str, layout: Layout, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export_dataset(layout.root, out, form)
    whole = files_of(out)
    (out / LAST[form]).unlink()
    (out / LAST[form]).with_name(".killed.tmp-1-2").write_bytes(b"half")
    path = (out / LAST[form]).with_name("another.png")

    def other(shards, name, total):
        """One more export of the same, while this one writes a file."""
        if name == "train":
            with new_file(path) as file:
                file.write(b"whole")
                assert export_dataset(layout.root, out, form) == 6
        return shards

    assert export_dataset(layout.root, out, form, other) == 6
    assert path.read_bytes() == b"whole"
    path.unlink()
    assert files_of(out) == whole  # the last one has swept


def test_only_temporary_names_of_an_export_are_swept(layout: Layout, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "mine.tmp-x").mkdir(parents=True)
    (out / "mine.tmp-x" / ".note.tmp-1").write_text("mine")
    with pytest.raises(bs.ChangedError, match="is not empty and no export"):
        export_dataset(layout.root, out, "folder")
    shutil.move(out / "mine.tmp-x", tmp_path / "mine")
    (out / ".export.json.tmp-1-2").write_text("half")
    export_dataset(layout.root, out, "folder")
    assert not (out / ".export.json.tmp-1-2").exists()
    shutil.move(tmp_path / "mine", out / "mine")
    export_dataset(layout.root, out, "folder")
    assert (out / "mine" / ".note.tmp-1").read_text() == "mine"


def test_the_command(layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line = ["export", str(layout.root), "--to", "folder", "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(cli, line)
    assert (done.exit_code, done.output) == (0, f"{tmp_path / 'out'}: 6 samples as folder\n")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(bs.UsageError, match=r"needs pyarrow: pip install 'bokehsynth\[parquet\]'"):
        export_dataset(layout.root, tmp_path / "rows", "parquet")
    assert not (tmp_path / "rows").exists()

"""Writing, committing and verifying shards."""

import contextlib
import dataclasses
import hashlib
import io
import json
import struct
import subprocess
import sys
import tarfile
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.shard_samples import (
    IDENTITY,
    make_dataset,
    make_meta,
    make_sample,
    same,
    samples_of,
    tree,
    write_dataset_files,
)

from bokehsynth.errors import DataError, StorageError, UsageError
from bokehsynth.schema import (
    DEFAULT_FIELDS,
    FIELDS,
    FORMAT_VERSION,
    LAYER_FIELDS,
    META_TYPES,
    OPTIONAL_META_TYPES,
    VIEW_FIELDS,
    Sample,
    ShardSpec,
)
from bokehsynth.shards import codec
from bokehsynth.shards.layout import Layout, sweep_temporaries
from bokehsynth.shards.marker import ShardMarker, check_shard, committed_plans, find_shard
from bokehsynth.shards.plan import ShardPlan, plan_shards
from bokehsynth.shards.tar import RECORD, TarWriter, index_text, iter_tar, parse_index, tar_header
from bokehsynth.shards.verify import verify_dataset
from bokehsynth.shards.writer import write_shard

SPEC = ShardSpec(samples=4)
PLAN = ShardPlan("train", 0, 0, 4)


@pytest.fixture
def written(tmp_path):
    layout = Layout(tmp_path / "set")
    return layout, write_shard(layout, PLAN, samples_of(PLAN), SPEC, IDENTITY)


# ---- codec


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    index=st.integers(0, 999),
    webp=st.booleans(),
    fields=st.lists(st.sampled_from(list(FIELDS)), min_size=1, unique=True),
)
def test_sample_survives_encoding_exactly(height, width, index, webp, fields):
    spec = ShardSpec(codec="webp" if webp else "png", fields=fields)
    sample = make_sample("val", index, height, width, fields)
    members = codec.encode_sample(sample, spec)
    back = codec.decode_sample(sample.key, members)
    assert list(members) == sorted(members) == codec.member_names(spec)
    assert same(back, sample)
    assert codec.pixels_digest(back) == codec.pixels_digest(sample)


def test_large_pictures_are_turned_to_rgb_in_strips(monkeypatch):
    """Of 7 rows and of one at a time; 16 bits, too."""
    fields = ["lq", "hq16"]
    sample = make_sample("val", 3, 40, 30, fields)
    members = codec.encode_sample(sample, ShardSpec(fields=fields))
    for strip in (7 * 30 * 3, 1):
        monkeypatch.setattr(codec, "_STRIP", strip)
        assert same(codec.decode_sample(sample.key, members), sample)


def test_a_sample_is_decoded_within_bounds(monkeypatch):
    """40 x 30 px of color, map and 16-bit color: 3, 4 and 6 bytes each."""
    fields = ["lq", "defocus", "hq16"]
    sample = make_sample("val", 3, 40, 30, fields)
    members = codec.encode_sample(sample, ShardSpec(fields=fields))
    monkeypatch.setattr(codec, "MAX_DECODED", 40 * 30 * 13)
    assert same(codec.decode_sample(sample.key, members), sample)
    monkeypatch.setattr(codec, "MAX_DECODED", 40 * 30 * 13 - 1)
    with pytest.raises(DataError, match=r"30 x 40 px in 3 fields are .*name fewer fields"):
        codec.decode_sample(sample.key, members)
    assert codec.decode_sample(sample.key, members, fields=["lq", "hq16"]).arrays.keys() == {"lq", "hq16"}


def test_colour_order_is_rgb():
    red = make_sample("train", 0)
    red.arrays["lq"][:] = (255, 0, 0)
    from PIL import Image

    for name in ("png", "webp"):
        data = codec.encode_sample(red, ShardSpec(codec=name))[f"lq.{name}"]
        assert Image.open(io.BytesIO(data)).convert("RGB").getpixel((3, 3)) == (255, 0, 0)


def test_digest_does_not_hang_on_the_encoder_but_on_every_number():
    sample = make_sample("train", 3)
    digest = codec.pixels_digest(sample)
    for spec in (ShardSpec(codec="png"), ShardSpec(codec="webp")):
        assert codec.pixels_digest(codec.decode_sample(sample.key, codec.encode_sample(sample, spec))) == digest
    whole = tuple(FIELDS)
    digest = codec.pixels_digest(make_sample("train", 3, fields=whole))
    for name in whole:
        other = make_sample("train", 3, fields=whole)
        other.arrays[name].flat[5] = 0 if other.arrays[name].flat[5] else other.arrays[name].flat[-1]
        assert codec.pixels_digest(other) != digest, name
    assert codec.pixels_digest(replace(sample, meta={**sample.meta, "blur": 1.5})) != digest


def broken(**changes):
    sample = make_sample("train", 1)
    meta = {**sample.meta, **changes.pop("meta", {})}
    return Sample(changes.pop("key", sample.key), meta, {**sample.arrays, **changes})


@pytest.mark.parametrize(
    ("sample", "words"),
    [
        (broken(key="train-1"), "key"),
        (broken(key="val-000000001"), "key"),
        (broken(meta={"blur": 1}), "blur must be float"),
        (broken(meta={"focus": float("nan")}), "focus"),
        (broken(meta={"seed": 2**63}), "64 bits"),
        (broken(meta={"assets": []}), "assets"),
        (broken(meta={"assets": [1]}), "assets"),
        (broken(meta={"width": 18}), "must be uint8"),
        (broken(lq=np.zeros((13, 17), np.uint8)), "must be uint8"),
        (broken(hq=np.zeros((13, 17, 3), np.float32)), "must be uint8"),
        (broken(defocus=np.zeros((13, 17), np.float64)), "must be float32"),
        (broken(defocus=np.full((13, 17), 0.123456, np.float32)), "16-bit steps"),
        (broken(defocus=np.full((13, 17), 24.1, np.float32)), "outside"),
        (broken(disparity=np.full((13, 17), np.inf, np.float32)), "outside"),
        (broken(mask=np.zeros((13, 17), np.uint8)), "mask"),
    ],
)
def test_a_sample_against_the_format_is_refused(sample, words):
    with pytest.raises(DataError, match=words):
        codec.encode_sample(sample, SPEC)


def test_a_sample_must_hold_exactly_the_fields_of_the_recipe():
    with pytest.raises(DataError, match="the recipe stores"):
        codec.encode_sample(make_sample("train", 0), ShardSpec(fields=["lq", "hq"]))
    with pytest.raises(DataError, match="the recipe stores"):
        codec.encode_sample(make_sample("train", 0, fields=["lq"]), ShardSpec(fields=["lq", "hq"]))


def test_damaged_members_are_named():
    sample = make_sample("train", 0)
    members = codec.encode_sample(sample, SPEC)
    for name, data in members.items():
        if name.endswith(".png"):
            with pytest.raises(DataError, match=f"{sample.key}.{name}"):
                codec.decode_sample(sample.key, {**members, name: data[: len(data) // 2]})
            flipped = bytearray(data)
            flipped[len(data) // 2] ^= 16
            with pytest.raises(DataError, match=name):
                codec.decode_sample(sample.key, {**members, name: bytes(flipped)})
    with pytest.raises(DataError, match="'lq'"):
        codec.decode_sample(sample.key, {k: v for k, v in members.items() if k != "lq.png"}, fields=["lq"])
    with pytest.raises(DataError, match="no member 'json'"):
        codec.decode_sample(sample.key, {k: v for k, v in members.items() if k != "json"})
    with pytest.raises(DataError, match="JSON"):
        codec.decode_sample(sample.key, {**members, "json": b"{"})
    with pytest.raises(DataError, match="unknown"):
        codec.decode_sample(sample.key, {**members, "depth.png": b""})
    with pytest.raises(DataError, match="must be uint8"):  # a map where a colour picture belongs
        codec.decode_sample(sample.key, {**members, "lq.png": members["defocus.png"]})


# ---- tar


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.from_regex(r"[a-z0-9-]{1,40}\.[a-z.]{1,20}", fullmatch=True), st.binary(max_size=1500))))
def test_archives_are_read_back_by_us_and_by_the_standard_library(members):
    stream = io.BytesIO()
    writer = TarWriter(stream)
    for name, payload in members:
        writer.add(name, payload)
    writer.close()
    data = stream.getvalue()
    assert len(data) == writer.size
    assert len(data) % RECORD == 0
    assert [(entry.name, payload) for entry, payload in iter_tar(io.BytesIO(data).read, "x")] == members
    assert [data[entry.offset : entry.offset + entry.size] for entry in writer.entries] == [p for _, p in members]
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        found = [(info, archive.extractfile(info).read()) for info in archive]
    assert [(info.name, payload) for info, payload in found] == members
    for info, _ in found:
        owner = (info.mtime, info.uid, info.gid, info.uname, info.gname)
        assert (*owner, info.mode, info.type) == (0, 0, 0, "", "", 0o444, tarfile.REGTYPE)


def test_headers_are_those_of_the_format():
    info = tarfile.TarInfo("train-000000000.lq.png")
    info.size, info.mode = 12345, 0o444
    ours, theirs = tar_header(info.name, info.size), info.tobuf(tarfile.USTAR_FORMAT)
    # They differ only where Python versions differ: the device numbers of a regular file (and so the checksum).
    assert ours[:148] == theirs[:148]
    assert ours[156:329] == theirs[156:329]
    for name in ("", "x" * 101, "é.png"):
        with pytest.raises(DataError, match="ASCII"):
            tar_header(name, 1)
    with pytest.raises(DataError, match="format ends"):
        tar_header("big", 8**11)


def test_every_truncation_and_every_flipped_header_bit_is_noticed():
    stream = io.BytesIO()
    writer = TarWriter(stream)
    writer.add("train-000000000.a", b"x" * 700)
    writer.add("train-000000000.b", b"")
    writer.close()
    data = stream.getvalue()
    assert len(list(iter_tar(io.BytesIO(data).read, "x"))) == 2
    for end in [*range(0, len(data), 256), len(data) - 1]:
        with pytest.raises(DataError, match="truncated"):
            list(iter_tar(io.BytesIO(data[:end]).read, "x"))
    for position in [*range(512), *range(512 + 700, 2048, 7), *range(2048, len(data), 97)]:
        flipped = bytearray(data)
        flipped[position] ^= 1
        with pytest.raises(DataError, match=r"damaged|padding"):
            list(iter_tar(io.BytesIO(bytes(flipped)).read, "x"))
    with pytest.raises(DataError, match="follows the end"):
        list(iter_tar(io.BytesIO(data + bytes(512)).read, "x"))


def test_an_index_with_gaps_or_garbage_is_refused(written):
    layout, _ = written
    text = layout.index(PLAN).read_text()
    assert index_text(entry for sample in parse_index(text, "x") for entry in sample) == text
    lines = text.splitlines(keepends=True)
    for bad in (
        "",
        "v1.1 4\n" + "".join(lines[1:]),
        "".join(lines[:-1]),
        text.replace(" 512 ", " 1024 ", 1),
        text + "a b",
    ):
        with pytest.raises(DataError, match="x:"):
            parse_index(bad, "x")


# ---- one shard


def test_plans_cover_a_split_and_extensions_never_fill_a_short_shard():
    plans = plan_shards("train", 10, 4)
    assert plans == [ShardPlan("train", 0, 0, 4), ShardPlan("train", 1, 4, 4), ShardPlan("train", 2, 8, 2)]
    longer = plan_shards("train", 15, 4, before=plans)
    assert longer == [*plans, ShardPlan("train", 3, 10, 4), ShardPlan("train", 4, 14, 1)]
    assert plan_shards("val", 0, 4) == []
    with pytest.raises(UsageError, match="never shrink"):
        plan_shards("train", 9, 4, before=plans)


def test_two_writes_give_the_same_tree_and_nothing_else_is_left(tmp_path):
    first, second = make_dataset(tmp_path / "a"), make_dataset(tmp_path / "b")
    assert tree(first.root) == tree(second.root)
    shards = [f"train-00000{n}" for n in range(3)]
    assert sorted(path.name for path in first.split("train").iterdir()) == [f"{name}.tar" for name in shards]
    expected = {f"{split}/{name}.tar" for split, name in [("val", "val-000000"), *(("train", name) for name in shards)]}
    expected |= {f".bokehsynth/{path[:-4]}{end}" for path in expected for end in (".done.json", ".idx")}
    assert set(tree(first.root)) == expected | {"dataset.json", "README.md"}
    for name, data in tree(first.root).items():
        assert str(tmp_path).encode() not in data, name


def test_a_shard_and_its_marker_say_the_same(written):
    layout, marker = written
    assert check_shard(layout, PLAN, IDENTITY) == marker
    assert committed_plans(layout, "train") == [PLAN]
    assert (marker.first_key, marker.last_key) == ("train-000000000", "train-000000003")
    with tarfile.open(layout.tar(PLAN)) as archive:
        names = archive.getnames()
    members = ["aif.png", "defocus.png", "disparity.png", "hq.png", "json", "lq.png"]
    assert names == [f"{key}.{member}" for key in PLAN.keys for member in members]
    assert marker.members == members


def test_the_index_points_at_the_payloads(written):
    layout, _ = written
    data = layout.tar(PLAN).read_bytes()
    head, *lines = layout.index(PLAN).read_text().splitlines()
    assert head == "v1.2 4"
    for number, line in enumerate(lines):
        words = line.split(" ")
        expected = codec.encode_sample(make_sample("train", number), SPEC)
        for ext, offset, size, name in zip(*(words[n::4] for n in range(4)), strict=True):
            assert name == f"train-{number:09d}.{ext}"
            assert int(offset) % 512 == 0
            assert data[int(offset) :][: int(size)] == expected.pop(ext)
        assert not expected


def test_pixel_digest_of_a_shard_is_free_of_the_codec(tmp_path):
    png = write_shard(Layout(tmp_path / "png"), PLAN, samples_of(PLAN), SPEC, IDENTITY)
    webp = write_shard(Layout(tmp_path / "webp"), PLAN, samples_of(PLAN), ShardSpec(samples=4, codec="webp"), IDENTITY)
    assert png.pixels_sha256 == webp.pixels_sha256
    assert png.sha256 != webp.sha256


class Interrupted(BaseException):
    pass


def failing(error):
    yield make_sample("train", 0)
    yield make_sample("train", 1)
    raise error


@pytest.mark.parametrize(
    ("samples", "error"),
    [
        (lambda: failing(RuntimeError("boom")), RuntimeError),
        (lambda: failing(Interrupted()), Interrupted),
        (lambda: failing(OSError(2, "an asset vanished")), OSError),
        (lambda: failing(StopIteration), RuntimeError),
        (lambda: [make_sample("train", n) for n in range(3)], DataError),
        (lambda: [make_sample("train", n) for n in range(5)], DataError),
        (lambda: [make_sample("train", n) for n in (0, 2, 1, 3)], DataError),
        (lambda: [make_sample("val", n) for n in range(4)], DataError),
        (lambda: [make_sample("train", n, fields=["lq"]) for n in range(4)], DataError),
    ],
)
def test_a_shard_that_fails_leaves_nothing(tmp_path, samples, error):
    layout = Layout(tmp_path)
    with pytest.raises(error) as caught:
        write_shard(layout, PLAN, samples(), SPEC, IDENTITY)
    assert not isinstance(caught.value, StorageError)
    assert tree(tmp_path) == {}
    assert find_shard(layout, PLAN) is None


def test_a_failed_remake_keeps_the_shard_that_was_there(written):
    layout, marker = written
    before = tree(layout.root)
    with pytest.raises(RuntimeError):
        write_shard(layout, PLAN, failing(RuntimeError()), SPEC, IDENTITY)
    assert tree(layout.root) == before
    assert find_shard(layout, PLAN, IDENTITY) == marker


def test_samples_of_another_recipe_are_refused(tmp_path):
    with pytest.raises(DataError, match="recipe_digest"):
        write_shard(Layout(tmp_path), PLAN, samples_of(PLAN), SPEC, {**IDENTITY, "recipe_digest": "00"})


def test_a_refusing_file_system_is_a_storage_error(tmp_path):
    (tmp_path / "train").write_text("a file where a folder belongs")
    with pytest.raises(StorageError, match="train"):
        write_shard(Layout(tmp_path), PLAN, samples_of(PLAN), SPEC, IDENTITY)
    other = Layout(tmp_path / "other")
    other.tar(PLAN).mkdir(parents=True)
    with pytest.raises(StorageError, match=r"train-000000\.tar"):
        write_shard(other, PLAN, samples_of(PLAN), SPEC, IDENTITY)
    assert tree(other.root) == {}


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
sys.path.insert(0, {here!r})
from support.shard_samples import IDENTITY, samples_of
from bokehsynth.errors import StorageError
from bokehsynth.schema import ShardSpec
from bokehsynth.shards.marker import Layout, ShardPlan
from bokehsynth.shards.writer import write_shard
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
plan = ShardPlan("train", 0, 0, 4)
try:
    write_shard(Layout(Path({root!r})), plan, samples_of(plan, height=64, width=64), ShardSpec(samples=4), IDENTITY)
except StorageError as error:
    assert "free some room" in str(error), error
    sys.exit(4)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no RLIMIT_FSIZE on Windows")
@pytest.mark.parametrize("limit", [0, 5000, 200_000])
def test_a_full_disk_leaves_nothing_half_written(tmp_path, limit):
    here = str(Path(__file__).parents[1])
    script = FULL_DISK.format(here=here, root=str(tmp_path), limit=limit)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 4, done.stderr
    assert tree(tmp_path) == {}


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {here!r})
from support.shard_samples import IDENTITY, make_sample
from bokehsynth.schema import ShardSpec
from bokehsynth.shards.marker import Layout, ShardPlan
from bokehsynth.shards.writer import write_shard
def die():
    os.kill(os.getpid(), signal.SIGKILL)
def samples():
    for index in range(4):
        if index == 2 and {step} == 0:
            die()
        yield make_sample("train", index)
calls, replace = [], os.replace
def dying_replace(source, target):
    calls.append(target)
    if len(calls) == {step}:
        die()
    replace(source, target)
os.replace = dying_replace
write_shard(Layout(Path({root!r})), ShardPlan("train", 0, 0, 4), samples(), ShardSpec(samples=4), IDENTITY)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL on Windows")
@pytest.mark.parametrize("step", [0, 1, 2, 3], ids=["second sample", "tar", "index", "marker"])
def test_a_kill_at_any_step_leaves_no_shard_and_the_next_run_makes_it(written, tmp_path, step):
    clean, marker = written
    layout = Layout(tmp_path / "killed")
    script = KILLED.format(here=str(Path(__file__).parents[1]), root=str(layout.root), step=step)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == -9, done.stderr
    assert find_shard(layout, PLAN) is None
    visible = [path.name for path in layout.split("train").iterdir()]
    assert visible == (["train-000000.tar"] if step > 1 else [])
    assert len(sweep_temporaries(layout, [PLAN])) == 1
    assert write_shard(layout, PLAN, samples_of(PLAN), SPEC, IDENTITY) == marker
    assert tree(layout.root) == tree(clean.root)


def test_an_old_marker_never_stands_beside_a_new_tar(written, monkeypatch):
    layout, _ = written

    def no_index(*args):
        raise Interrupted

    monkeypatch.setattr("bokehsynth.shards.writer.commit_file", no_index)
    with pytest.raises(Interrupted):
        write_shard(layout, PLAN, samples_of(PLAN), SPEC, IDENTITY)
    assert layout.tar(PLAN).exists()
    assert find_shard(layout, PLAN) is None


def test_sweeping_takes_only_dead_leftovers_of_the_given_shards(written):
    layout, marker = written
    kept = tree(layout.root)
    mine = [layout.staging / "train-000000.tar.tmp-1-2", layout.split_markers("train") / ".train-000000.idx.tmp-1-2"]
    theirs = [layout.staging / "train-000007.tar.tmp-1-2", layout.root / ".dataset.json.tmp-1-2"]
    for path in mine + theirs:
        path.write_bytes(b"half")
    assert sweep_temporaries(layout, [PLAN]) == mine
    assert all(path.exists() for path in theirs)
    for path in theirs:
        path.unlink()
    assert tree(layout.root) == kept
    assert find_shard(layout, PLAN) == marker
    assert sweep_temporaries(Layout(layout.root / "nowhere"), [PLAN]) == []


def edit_marker(layout, plan, **changes):
    path = layout.marker(plan)
    path.write_text(json.dumps(json.loads(path.read_text()) | changes, sort_keys=True, indent=2) + "\n")


def cut(path, size):
    path.write_bytes(path.read_bytes()[:size])


INVALID = {
    "no marker": lambda layout: layout.marker(PLAN).unlink(),
    "empty marker": lambda layout: layout.marker(PLAN).write_text(""),
    "no tar": lambda layout: layout.tar(PLAN).unlink(),
    "no index": lambda layout: layout.index(PLAN).unlink(),
    "short tar": lambda layout: cut(layout.tar(PLAN), 1024),
    "other plan": lambda layout: edit_marker(layout, PLAN, n=3, last_key="train-000000002"),
    "other keys": lambda layout: edit_marker(layout, PLAN, last_key="train-000000009"),
    "other format": lambda layout: edit_marker(layout, PLAN, format=2),
    "other type": lambda layout: edit_marker(layout, PLAN, bytes="1"),
    "true is no 1": lambda layout: edit_marker(layout, PLAN, format=True),
    "extra key": lambda layout: edit_marker(layout, PLAN, host="me"),
    "other identity": lambda layout: edit_marker(layout, PLAN, identity={**IDENTITY, "device": "cuda"}),
    "not canonical": lambda layout: layout.marker(PLAN).write_text(layout.marker(PLAN).read_text() + " "),
    "a list": lambda layout: layout.marker(PLAN).write_text("[]"),
    "binary": lambda layout: layout.marker(PLAN).write_bytes(b"\xff\xfe"),
}


@pytest.mark.parametrize("fault", INVALID)
def test_a_shard_exists_only_with_a_valid_marker(written, fault):
    layout, marker = written
    assert find_shard(layout, PLAN, IDENTITY) == marker
    INVALID[fault](layout)
    with pytest.raises(DataError, match="train-000000"):
        check_shard(layout, PLAN, IDENTITY)
    assert find_shard(layout, PLAN, IDENTITY) is None


# ---- verify


def change_sample(layout, shard, change):
    """Rewrite a shard with changed members and a marker that fits the new bytes: only the content can give it away."""
    plan = check_shard(layout, ShardPlan("train", shard, shard * 4, 4)).plan
    stream = io.BytesIO()
    writer = TarWriter(stream)
    with open(layout.tar(plan), "rb") as file:
        for entry, payload in iter_tar(file.read, "x"):
            for name, data in change(entry.name, payload):
                writer.add(name, data)
    writer.close()
    layout.tar(plan).write_bytes(stream.getvalue())
    layout.index(plan).write_text(index_text(writer.entries))
    edit_marker(layout, plan, bytes=writer.size, sha256=writer.sha256)


def flip(path, position):
    data = bytearray(path.read_bytes())
    data[position] ^= 4
    path.write_bytes(bytes(data))


def swap(left, right):
    a, b = left.read_bytes(), right.read_bytes()
    left.write_bytes(b)
    right.write_bytes(a)


def swap_shards(layout, with_markers):
    plans = [ShardPlan("train", 0, 0, 4), ShardPlan("train", 1, 4, 4)]
    for path in (layout.tar, *((layout.marker, layout.index) if with_markers else ())):
        swap(path(plans[0]), path(plans[1]))


def foreign(name, payload):
    """Another value under an unchanged type: only the pixel digest can tell."""
    if name == "train-000000005.json":
        return [(name, payload.replace(b'"blur":5.0', b'"blur":6.0'))]
    return [(name, payload)]


def other_recipe(name, payload):
    return [(name, payload.replace(b"abab", b"abba", 1) if name.endswith(".json") else payload)]


SECOND = ShardPlan("train", 1, 4, 4)
MEMBER_END = 512 + 1024  # first header and payload of a toy shard: see the assertion in the test

TAMPER = {
    "byte in a payload": (lambda x: flip(x.tar(SECOND), 600), {"sha256", "sample"}),
    "byte in a header": (lambda x: flip(x.tar(SECOND), 3), {"sha256", "tar"}),
    "byte in the end blocks": (lambda x: flip(x.tar(SECOND), -9), {"sha256", "tar"}),
    "cut at a block": (lambda x: cut(x.tar(SECOND), 5 * 512), {"size", "sha256", "tar", "count"}),
    "cut after a member": (lambda x: cut(x.tar(SECOND), MEMBER_END), {"size", "sha256", "tar", "count"}),
    "cut end blocks": (lambda x: cut(x.tar(SECOND), x.tar(SECOND).stat().st_size - 512), {"size", "sha256", "tar"}),
    "empty tar": (lambda x: cut(x.tar(SECOND), 0), {"size", "sha256", "tar", "count"}),
    "appended": (lambda x: x.tar(SECOND).write_bytes(x.tar(SECOND).read_bytes() + b"x"), {"size", "sha256", "tar"}),
    "no marker": (lambda x: x.marker(SECOND).unlink(), {"marker"}),
    "no tar": (lambda x: x.tar(SECOND).unlink(), {"missing"}),
    "no index": (lambda x: x.index(SECOND).unlink(), {"index"}),
    "index edited": (lambda x: flip(x.index(SECOND), 12), {"index"}),
    "swapped tars": (lambda x: swap_shards(x, False), {"sha256", "key", "index"}),
    "swapped shards": (lambda x: swap_shards(x, True), {"marker", "key"}),
    "copied shard": (lambda x: x.tar(SECOND).write_bytes(x.tar(PLAN).read_bytes()), {"key", "sha256", "duplicate"}),
    "marker: sha256": (lambda x: edit_marker(x, SECOND, sha256="0" * 64), {"sha256", "dataset"}),
    "marker: pixels": (lambda x: edit_marker(x, SECOND, pixels_sha256="0" * 64), {"pixels", "dataset"}),
    "marker: bytes": (lambda x: edit_marker(x, SECOND, bytes=1), {"size", "dataset"}),
    "marker: n": (lambda x: edit_marker(x, SECOND, n=3, last_key="train-000000006"), {"marker", "dataset"}),
    "marker: members": (lambda x: edit_marker(x, SECOND, members=["json"]), {"members", "dataset"}),
    "marker: device": (lambda x: edit_marker(x, SECOND, identity={**IDENTITY, "device": "gpu"}), {"marker"}),
    "marker: space": (lambda x: x.marker(SECOND).write_text(x.marker(SECOND).read_text() + " "), {"marker"}),
    "metadata value": (lambda x: change_sample(x, 1, foreign), {"pixels"}),
    "metadata digest": (lambda x: change_sample(x, 1, other_recipe), {"sample"}),
    "member renamed": (
        lambda x: change_sample(x, 1, lambda n, p: [(n.replace("lq.", "lr."), p)]),
        {"members", "sample"},
    ),
    "member dropped": (lambda x: change_sample(x, 1, lambda n, p: [(n, p)] * (n[-5:] != "q.png")), {"members"}),
    "member doubled": (lambda x: change_sample(x, 1, lambda n, p: [(n, p)] * 2), {"members"}),
    "sample dropped": (lambda x: change_sample(x, 1, lambda n, p: [(n, p)] * ("005." not in n)), {"key", "count"}),
    "stray file": (lambda x: (x.split("train") / "notes.txt").write_text(""), {"stray"}),
    "stray tar": (lambda x: (x.split("val") / "val-000001.tar").write_bytes(b""), {"stray"}),
    "dataset.json gone": (lambda x: x.dataset.unlink(), {"unfinished"}),
    "dataset.json cut": (lambda x: cut(x.dataset, 100), {"dataset"}),
    "dataset.json samples": (
        lambda x: x.dataset.write_text(x.dataset.read_text().replace('es": 10', 'es": 11')),
        {"dataset"},
    ),
    "dataset.json scale": (
        lambda x: x.dataset.write_text(x.dataset.read_text().replace('"scale": 0.0003', '"scale": 0.0004')),
        {"dataset"},
    ),
}


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    layout = make_dataset(tmp_path_factory.mktemp("pristine"))
    return tree(layout.root)


@pytest.mark.parametrize("tamper", TAMPER)
def test_verify_finds_every_tamper_and_deletes_nothing(tmp_path, pristine, tamper):
    for name, data in pristine.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    layout = Layout(tmp_path)
    assert verify_dataset(tmp_path).faults == []
    assert verify_dataset(tmp_path, shards="1/3").faults == []
    assert parse_index(layout.index(SECOND).read_text(), "x")[0][1].offset == MEMBER_END + 512
    act, kinds = TAMPER[tamper]
    act(layout)
    before = tree(tmp_path)
    report = verify_dataset(tmp_path, workers=2)
    found = {fault.kind for fault in report.faults}
    assert kinds <= found, report.faults
    assert not report.ok
    assert tree(tmp_path) == before
    ranges = [verify_dataset(tmp_path, shards=f"{i}/3") for i in range(3)]
    assert kinds <= {fault.kind for part in ranges for fault in part.faults}
    assert {shard for part in ranges for shard in part.broken()} == set(report.broken())
    assert sum(part.samples for part in ranges) == report.samples
    if kinds == {"dataset"}:
        assert report.broken() == [], "no shard is broken by what stands beside it"
    if kinds & {"sha256", "tar", "pixels", "marker"}:
        assert ("train", 1) in report.broken()
        assert {("train", 2), ("val", 0)}.isdisjoint(report.broken())


def test_verify_finds_any_flipped_bit_of_shards_markers_and_indices(tmp_path, pristine):
    rng = np.random.default_rng(0)
    for name, data in pristine.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    names = [name for name in pristine if name not in {"README.md", "dataset.json"}]
    for _ in range(40):
        path = tmp_path / names[rng.integers(len(names))]
        whole = bytearray(path.read_bytes())
        position, bit = int(rng.integers(len(whole))), int(rng.integers(8))
        whole[position] ^= 1 << bit
        path.write_bytes(bytes(whole))
        assert not verify_dataset(tmp_path).ok, (path, position, bit)
        whole[position] ^= 1 << bit
        path.write_bytes(bytes(whole))
    assert verify_dataset(tmp_path).ok


@pytest.mark.parametrize(
    "text",
    ["", "null", "[]", "{}", '{"format": 1}', '{"format": 1, "identity": {}, "fields": {}, "splits": {"train": 3}}'],
)
def test_verify_survives_any_dataset_json(tmp_path, text):
    layout = make_dataset(tmp_path)
    layout.dataset.write_text(text)
    assert "dataset" in {fault.kind for fault in verify_dataset(tmp_path).faults}


def test_verify_counts_what_it_saw(tmp_path):
    make_dataset(tmp_path)
    report = verify_dataset(tmp_path, decode=0.5)
    assert (report.ok, report.shards, report.samples, report.decoded) == (True, 4, 13, 2 + 2 + 1 + 2)
    assert report.bytes == sum(path.stat().st_size for path in tmp_path.rglob("*.tar"))
    assert sorted(report.attempts) == [("train", 0), ("train", 1), ("train", 2), ("val", 0)]
    assert verify_dataset(tmp_path, decode=0).decoded == 0
    with pytest.raises(UsageError, match="share"):
        verify_dataset(tmp_path, decode=2)
    with pytest.raises(DataError, match="no such"):
        verify_dataset(tmp_path / "none")


def test_a_damaged_archive_is_still_hashed_to_its_end(tmp_path):
    layout = make_dataset(tmp_path)
    flip(layout.tar(SECOND), 3)
    report = verify_dataset(tmp_path)
    assert {fault.kind for fault in report.faults} == {"tar", "sha256", "count", "index"}
    digest = hashlib.sha256(layout.tar(SECOND).read_bytes()).hexdigest()
    assert any(digest in fault.message for fault in report.faults)


def test_an_unfinished_extension_is_named(tmp_path):
    layout = make_dataset(tmp_path)
    more = plan_shards("train", 12, 4, before=plan_shards("train", 10, 4))[-1]
    write_shard(layout, more, samples_of(more), SPEC, IDENTITY)
    assert [fault.kind for fault in verify_dataset(tmp_path).faults] == ["unfinished"]


# ---- the files of the whole set


def test_dataset_files_wait_for_every_shard_and_follow_from_the_markers(tmp_path):
    layout = make_dataset(tmp_path)
    plans = {"train": plan_shards("train", 10, 4), "val": plan_shards("val", 3, 4)}
    before = tree(tmp_path)
    layout.dataset.unlink()
    layout.card.unlink()
    write_dataset_files(layout, plans)
    assert tree(tmp_path) == before
    layout.dataset.unlink()
    with pytest.raises(DataError, match="another device"):
        write_dataset_files(layout, plans, {**IDENTITY, "device": "cuda"})
    layout.marker(plans["train"][2]).unlink()
    with pytest.raises(DataError, match="train-000002"):
        write_dataset_files(layout, plans)
    with pytest.raises(DataError, match="without any shard"):
        write_dataset_files(layout, {"train": []})
    assert not layout.dataset.exists()


def test_dataset_json_tells_how_to_read(tmp_path):
    record = json.loads(make_dataset(tmp_path).dataset.read_text())
    train = record["splits"]["train"]
    assert (train["samples"], train["shards"], train["counts"]) == (10, 3, [4, 4, 2])
    assert train["urls"] == "train/train-{000000..000002}.tar"
    assert record["splits"]["val"]["urls"] == "val/val-000000.tar"
    assert record["fields"]["defocus"]["scale"] == make_meta("train", 0, 1, 1)["defocus_scale"]
    assert {item["member"] for item in record["fields"].values()} == {f"{name}.png" for name in DEFAULT_FIELDS}


def test_the_document_names_every_key_and_member():
    text = (Path(__file__).parents[2] / "docs/dataset-format.md").read_text()
    marker_keys = [item.name for item in dataclasses.fields(ShardMarker)]
    stacks = {name for name in VIEW_FIELDS if name[-1].isdigit()} - {"hq_00", "hq_01"}  # `view_YX.png` in words
    stacks |= LAYER_FIELDS.keys() - {"matte_00", "color_00"}
    keys = [*META_TYPES, *(name for group in OPTIONAL_META_TYPES for name in group)]
    members = [codec.member_name(name, "png") for name in FIELDS.keys() - stacks]
    for name in [*keys, *marker_keys, *members, "view_YX.png"]:
        assert f"`{name}`" in text, name
    assert f"version {FORMAT_VERSION}" in text.splitlines()[0]


def test_shards_with_other_members_cannot_be_one_data_set(tmp_path):
    layout = Layout(tmp_path)
    plans = plan_shards("train", 8, 4)
    write_shard(layout, plans[0], samples_of(plans[0]), SPEC, IDENTITY)
    write_shard(layout, plans[1], samples_of(plans[1]), ShardSpec(samples=4, codec="webp"), IDENTITY)
    with pytest.raises(DataError, match="same members"):
        write_dataset_files(layout, {"train": plans})


def test_shards_of_which_nothing_is_there_are_counted_after_the_first_hundred(tmp_path):
    layout = make_dataset(tmp_path)
    record = json.loads(layout.dataset.read_text())
    record["splits"]["train"]["counts"] += [4] * 500
    layout.dataset.write_text(json.dumps(record))
    report = verify_dataset(tmp_path)
    assert len({fault.shard for fault in report.faults if fault.kind == "missing"} - {None}) == 100
    more = [fault.message for fault in report.faults if fault.kind == "missing" and fault.shard is None]
    assert len(more) == 1
    assert "400 more shards are counted and not there, the last train-000502" in more[0]


def test_a_png_whose_checksums_hide_another_stream_is_refused_or_the_picture():
    picture = np.random.default_rng(1).integers(0, 99, (24, 20, 3)).astype(np.uint8)
    header = codec.encode_png(picture)[:33]
    lines = b"".join(b"\0" + row.tobytes() for row in picture)
    stream = zlib.compress(lines)
    streams = {
        "good": stream, "long": zlib.compress(lines + b"more"), "with a tail": stream + b"more",
        "short": stream[: len(stream) // 2], "too few lines": zlib.compress(lines[:-61]), "none": b"",
        "no stream": b"abc" * 50, "wrong sum": stream[:-1] + bytes([stream[-1] ^ 1]),
        "no such filter": zlib.compress(b"\x09" + lines[1:]),
    }  # fmt: skip
    taken = []
    for name, data in streams.items():
        chunks = [(b"IDAT", data), (b"IEND", b"")]
        parts = [struct.pack(">I", len(d)) + kind + d + struct.pack(">I", zlib.crc32(kind + d)) for kind, d in chunks]
        member = header + b"".join(parts)
        with contextlib.suppress(DataError):
            decoded = codec.decode_image(member, codec.read_form(member, "png", "key.hq.png"), "key.hq.png")
            taken.append(name)
            assert np.array_equal(decoded, picture)
    assert "good" in taken
    assert set(taken) <= {"good", "long", "with a tail"}


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_libpng_says_nothing_of_a_damaged_picture(dtype, capfd):
    picture = np.random.default_rng(1).integers(0, 99, (24, 20, 3)[: 3 if dtype is np.uint8 else 2]).astype(dtype)
    whole = codec.encode_png(picture)
    for place in range(8, len(whole), 7):
        damaged = whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :]
        for data in (damaged, whole[:place]):
            with pytest.raises(DataError, match=r"train-000000003\.hq\.png"):
                codec.decode_image(data, codec.read_form(data, "png", "train-000000003.hq.png"), "?")
    assert capfd.readouterr() == ("", "")
    assert np.array_equal(codec.decode_image(whole, codec.read_form(whole, "png", "x"), "x"), picture)

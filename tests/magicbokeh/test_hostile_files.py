"""Pickles, photographs and maps of strangers: refused by name, in bounded time and memory, or read as they are."""

import io
import os
import pickle
import struct
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from support import hostile

from bokehsynth import AssetError, BokehsynthError, DataError, UsageError
from magicbokeh.conversion.depth import depth_from_official
from magicbokeh.conversion.official import read_official
from magicbokeh.conversion.safe_pickle import module_tensors, read_checkpoint
from magicbokeh.conversion.tensor_unpickler import ClassStub
from magicbokeh.inference.depth import read_map
from magicbokeh.inference.photo import open_photo


def outcome(read, path):
    """The message of a refusal; the path itself where the file is read."""
    try:
        read(path)
    except BokehsynthError as error:
        return str(error)
    return str(path)


# --- pickles


def archive(path, program, **records):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("x/data.pkl", program)
        for name, data in records.items():
            file.writestr(f"x/data/{name.strip('_')}", data)
    return path


def word(text):
    return b"X" + struct.pack("<I", len(text)) + text.encode()


STORAGE = b"(" + word("storage") + b"ctorch\nFloatStorage\n" + word("0") + word("cpu") + b"K\x04tQ"
REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n"
TENSOR = REBUILD + b"(" + STORAGE + b"K\x00K\x04\x85K\x01\x85\x89ccollections\nOrderedDict\n)RtR"
FOUR = np.arange(4, dtype="<f4").tobytes()
STUB = b"cmodels.controlnet\nNet\n)R"

PROGRAMS = {
    "state of a tensor": (TENSOR + b"(" + STORAGE + b"K\0J\0\0\0\x7f\x85K\1\x85tb.", "the state of a Tensor"),
    "state of a function": (REBUILD + b"}" + word("__defaults__") + b"K\x01sb.", "sets the state of a function"),
    "slots of a function": (REBUILD + b"N}" + word("__defaults__") + b"K\x01s\x86b.", "sets the state of a function"),
    "state of a class": (b"cmodels.controlnet\nNet\n}" + word("state") + b"K\x01sb.", "sets the state of a type"),
    "state of a list": (b"]}b.", "sets the state of a list"),
    "state of a set": (b"\x8f}b.", "sets the state of a set"),
    "state of a storage": (STORAGE + b"}b.", "sets the state of a Tensor"),
    "call of a stub's object": (STUB + b")R.", "calls something"),
    "call of a tensor": (TENSOR + b")R.", "calls something"),
    "call of a method": (b"cmodels.controlnet\nNet.__init__\n)R.", "asks for"),
    "new object of a function": (REBUILD + b")\x81.", "impossible|cannot be followed"),
    "arguments of a dict": (b"ccollections\nOrderedDict\n(]tR.", "made of arguments"),
    "set of lists": (b"c__builtin__\nset\n(](]etR.", "a set of something else"),
    "set of a tensor": (b"c__builtin__\nset\n(" + TENSOR + b"tR.", "a set of something else"),
    "key that is nested": (b"}" + b")" + b"\x85" * 200_000 + b"Ns.", "keys are neither"),
    "member that is nested": (b"\x8f(" + b")" + b"\x85" * 200_000 + b"\x90.", "a set of something else"),
    "append to a stub": (STUB + b"Na.", "no list"),
    "items of a list": (b"]" + word("a") + b"Ns.", "keys are neither"),
    "item of a tensor": (TENSOR + b"K\x00K\x01s.", "keys are neither"),
    "byte array of 2**62": (b"\x96" + struct.pack("<Q", 2**62) + b".", "cannot be followed"),
    "text of 2**62": (b"\x8d" + struct.pack("<Q", 2**62) + b"a.", "cannot be followed"),
    "memo of 2**32": (b"Nr\xff\xff\xff\xff.", None),
    "instance": (b"(cos\nsystem\n" + word("true") + b"o.", r"asks for os\.system"),
    "old instance": (b"(" + word("true") + b"ios\nsystem\n.", "cannot be followed"),
    "extension": (b"\x82\x01.", "cannot be followed"),
    "long integer": (b"\x8b" + struct.pack("<i", 5000) + b"\x7f" * 5000 + b".", "cannot be followed"),
    "nothing": (b"", "cannot be followed"),
    "empty stack": (b".", "cannot be followed"),
    "no storage": (b"(" + word("module") + b"NNNNtQ.", "no storage"),
    "negative count": (STORAGE.replace(b"K\x04t", b"J\xff\xff\xff\xfft") + b".", "no storage"),
    "count": (STORAGE.replace(b"K\x04t", b"J\x00\x00\x00\x7ft") + b".", "its tensor needs"),
    "stride": (TENSOR.replace(b"K\x01\x85", b"J\x00\x00\x00\x7f\x85") + b".", "reaches beyond"),
    "dimensions": (TENSOR.replace(b"K\x04\x85", b"(" + b"K\x01" * 99 + b"t") + b".", "impossible shape"),
    "size that is no tuple": (TENSOR.replace(b"K\x04\x85", b"]") + b".", "something else than a storage"),
    "parameter of a list": (b"ctorch._utils\n_rebuild_parameter\n(]tR.", "no tensor"),
}  # fmt: skip


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_that_mean_harm(tmp_path, name):
    program, says = PROGRAMS[name]
    path = archive(tmp_path / "x.pkl", b"\x80\x02" + program, _0=FOUR)
    before = torch.Tensor.__setstate__, read_checkpoint.__defaults__
    if says is None:
        assert read_checkpoint(path) is None
    else:
        with pytest.raises(DataError, match=says):
            read_checkpoint(path)
    assert before == (torch.Tensor.__setstate__, read_checkpoint.__defaults__)


def test_the_programs_above_are_well_formed(tmp_path):
    """What they start from is read: they are refused for what they add."""
    path = archive(tmp_path / "x.pkl", b"\x80\x02" + TENSOR + b".", _0=FOUR)
    assert torch.equal(read_checkpoint(path), torch.arange(4.0))
    stub = read_checkpoint(archive(tmp_path / "y.pkl", b"\x80\x02" + STUB + b"}" + word("a") + b"K\x01sb."))
    assert isinstance(stub, ClassStub)
    assert stub.state == {"a": 1}


def test_sparse_and_irregular_files(tmp_path):
    with pytest.raises(DataError, match="at most"):
        read_checkpoint(hostile.sparse(tmp_path / "large.pkl", 1 << 40, b"PK\x03\x04"))
    with pytest.raises(DataError, match="holes"):
        read_checkpoint(hostile.sparse(tmp_path / "holes.pkl", 4 << 30, b"PK\x03\x04"))
    os.mkfifo(tmp_path / "pipe.pkl")
    with pytest.raises(UsageError, match="is a pipe"):
        read_checkpoint(tmp_path / "pipe.pkl")
    with pytest.raises(UsageError, match="is a folder"):
        read_checkpoint(tmp_path)
    with pytest.raises(UsageError, match="device"):
        read_checkpoint("/dev/zero")
    with pytest.raises(UsageError, match="too long"):
        read_checkpoint(tmp_path / ("a" * 300))
    with pytest.raises(UsageError, match="no such file"):
        read_checkpoint(f"{tmp_path}/a\0b")


@pytest.mark.parametrize("flag", [1, 1 << 5])
def test_archives_that_zipfile_cannot_follow(tmp_path, flag):
    """Encryption, patches: named, whatever zipfile makes of them."""
    path = archive(tmp_path / "x.pkl", b"\x80\x02N.")
    data = bytearray(path.read_bytes())
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = data.index(mark) + place
        data[start : start + 2] = struct.pack("<H", flag)
    path.write_bytes(data)
    with pytest.raises(DataError, match="refused"):
        read_checkpoint(path)


def stub(**state):
    made = ClassStub()
    made.state = state
    return made


def test_networks_that_hold_themselves(tmp_path):
    tensor = torch.ones(1)
    inner = stub(_parameters={"weight": tensor}, _buffers=None, _modules="none")
    assert list(module_tensors(stub(_modules={"a": inner}, _parameters=3), tmp_path)) == ["a.weight"]
    loop = stub(_modules={})
    loop.state["_modules"]["a"] = loop
    with pytest.raises(DataError, match="holds itself"):
        module_tensors(loop, tmp_path)
    wide = inner
    for _ in range(40):  # 2**40 ways to the same tensor
        wide = stub(_modules={"a": wide, "b": wide})
    with pytest.raises(DataError, match="holds itself"):
        module_tensors(wide, tmp_path)


def test_names_that_share_a_storage_are_bounded(tmp_path):
    shared = torch.zeros(100_000, dtype=torch.float16)
    torch.save({f"t{number}": shared for number in range(1000)}, tmp_path / "x.pth")
    with pytest.raises(DataError, match="more than such a file has numbers"):
        depth_from_official(tmp_path / "x.pth")


ZERO_WIDTH = {
    "pretrained.cls_token": torch.zeros(1, 1, 0),
    "pretrained.patch_embed.proj.weight": torch.zeros(0, 3, 14, 14),
    "pretrained.pos_embed": torch.zeros(1, 2, 0),
    "pretrained.blocks.11.mlp.fc1.weight": torch.zeros(4, 0),
    "pretrained.blocks.0.mlp.fc1.weight": torch.zeros(4, 0),
    "depth_head.scratch.layer1_rn.weight": torch.zeros(4, 1),
}
NO_DEPTH_MODELS = {
    "list": [],
    "empty": {"model": {}},
    "number": {"a": 1},
    "empty token": {"pretrained.cls_token": torch.zeros(0)},
    "key": {1: torch.ones(1)},
    "integers": {"a": torch.ones(1).int()},
    "NaN": {"a": torch.full((1,), torch.nan)},
    "zero width": ZERO_WIDTH,
}


@pytest.mark.parametrize("content", NO_DEPTH_MODELS.values(), ids=NO_DEPTH_MODELS)
def test_depth_files_that_are_none(tmp_path, content):
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(DataError, match=str(tmp_path)):
        depth_from_official(tmp_path / "x.pth")


@pytest.fixture(scope="module")
def small_checkpoint(tmp_path_factory):
    """A checkpoint with everything that the official one has, some kilobytes."""
    path = tmp_path_factory.mktemp("small") / "x.pkl"
    tensor = torch.arange(6.0).reshape(2, 3)
    module = torch.nn.Linear(2, 2)
    content = {"rank_unet": 4, "state_dict_unet": OrderedDict(a=tensor, b=tensor.T), "names": ["a", "b"], "s": {1, 2}}
    torch.save({**content, "parameter": module.weight, "half": tensor.half()}, path)
    with zipfile.ZipFile(path) as file:
        return {name: file.read(name) for name in file.namelist()}


@settings(max_examples=400)
@given(st.data())
def test_any_bytes_of_a_pickle(small_checkpoint, tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "any.pkl"
    name = next(name for name in small_checkpoint if name.endswith("data.pkl"))
    program = bytearray(small_checkpoint[name])
    for _ in range(data.draw(st.integers(1, 6))):
        place, byte = data.draw(st.integers(0, len(program) - 1)), data.draw(st.integers(0, 255))
        if data.draw(st.booleans()):
            program[place] = byte
        else:
            program.insert(place, byte)
    with zipfile.ZipFile(path, "w") as file:
        for other, content in (small_checkpoint | {name: bytes(program)}).items():
            file.writestr(other, content)
    for read in (read_checkpoint, read_official, depth_from_official):
        assert str(path) in outcome(read, path)


CODES = b"().0NQRabcdehjlopqrstux]}\x80\x81\x85\x86\x87\x88\x89\x8a\x8f\x90\x93\x94\x95"
PIECES = [b"K\x01", word("a"), REBUILD, STORAGE, TENSOR, STUB, b"ccollections\nOrderedDict\n"]


@settings(max_examples=200)
@given(st.lists(st.sampled_from([bytes([code]) for code in CODES]) | st.sampled_from(PIECES), max_size=30))
def test_any_instructions(tmp_path_factory, program):
    path = archive(tmp_path_factory.getbasetemp() / "any2.pkl", b"\x80\x02" + b"".join(program) + b".", _0=FOUR)
    assert str(path) in outcome(read_checkpoint, path)


@settings(max_examples=150)
@given(st.data())
def test_any_bytes_of_an_archive(small_checkpoint, tmp_path_factory, data):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, content in small_checkpoint.items():
            file.writestr(name, content)
    raw = bytearray(buffer.getvalue())
    tail = raw.index(b"PK\x01\x02")
    for _ in range(data.draw(st.integers(1, 5))):
        place = data.draw(st.integers(0, 60) | st.integers(tail, len(raw) - 1))
        raw[place] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "any3.pkl"
    path.write_bytes(raw)
    assert str(path) in outcome(read_checkpoint, path)


# --- photographs and maps


def bombs(folder):
    """Pictures that promise more than they hold."""
    return [
        hostile.png(folder / "grey.png", 30000, 30000),
        hostile.png(folder / "deep.png", 60000, 60000, depth=16, kind=6),
        hostile.png(folder / "wide.png", 2**31 - 1, 1),
        hostile.png(folder / "zero.png", 0, 100),
        hostile.jpeg(folder / "large.jpg", 65500, 65500),
        hostile.many_scans(folder / "scans.jpg"),
        hostile.tiff(folder / "deep.tif", 60000, 60000),
        hostile.tiff(folder / "most.tif", 2**31 - 1, 2**31 - 1),
        hostile.tiff(folder / "tiles.tif", 64, 64, more=[(322, 4, 1, 2**30), (323, 4, 1, 2**30)]),
        hostile.tiff(folder / "jpeg-inside.tif", 64, 64, compression=6),
        hostile.tiff(folder / "fax.tif", 64, 64, compression=3),
        hostile.tiff(folder / "samples.tif", 64, 64, samples=60000),
        hostile.tiff(folder / "short.tif", 12000, 12000, compression=8),
        hostile.sparse(folder / "holes.png", 1 << 40, b"\x89PNG\r\n\x1a\n"),
        hostile.sparse(folder / "holes.tif", 1 << 30, b"II*\0\x08\0\0\0"),
    ]


def hostile_maps(folder):
    return [
        hostile.npy(folder / "huge.npy", (200_000, 200_000)),
        hostile.npy(folder / "overflow.npy", (2**40, 2**40)),
        hostile.npy(folder / "negative.npy", (-1, 10)),
        hostile.npy(folder / "objects.npy", (10, 1), kind="|O"),
        hostile.npy(folder / "scalar.npy", ()),
        hostile.npy(folder / "many.npy", (1,) * 30),
        hostile.npy(folder / "second.npy", (200_000, 200_000), version=2),
        hostile.npy(folder / "zero.npy", (0, 10)),
        hostile.sparse(folder / "holes.npy", 1 << 40, b"\x93NUMPY\1\0"),
        *bombs(folder),
    ]


def open_map(path):
    """For the process that watches: a map for a photo of any size."""
    read_map(path, (64, 64))


def refused(rows):
    for path, (found, seconds, memory) in rows.items():
        assert found.split(":")[0] in ("AssetError", "DataError", "UsageError"), (path.name, found)
        assert str(path) in found
        assert seconds < hostile.MOST_SECONDS, path.name
        assert memory < hostile.MOST_MEMORY, path.name


@pytest.mark.timeout(250)
def test_pictures_that_are_bombs(tmp_path):
    refused(hostile.read_all("magicbokeh.inference.photo:open_photo", bombs(tmp_path), 4 << 30))


@pytest.mark.timeout(250)
def test_maps_that_are_bombs(tmp_path, monkeypatch):
    folder = str(os.path.dirname(__file__))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([folder, os.path.dirname(folder)]))
    refused(hostile.read_all("test_hostile_files:open_map", hostile_maps(tmp_path), 12 << 30))


def test_formats_that_are_not_read(tmp_path):
    """A decoder that no photograph needs is one that a stranger can aim at."""
    picture = Image.fromarray(np.zeros((64, 64, 3), np.uint8))
    for kind in ("JPEG2000", "TGA", "PCX", "SGI", "ICO", "DDS", "PDF", "EPS"):
        picture.save(tmp_path / "picture.jpg", kind)
        for read in (open_photo, lambda path: read_map(path, (64, 64))):
            with pytest.raises(AssetError, match="is not a picture that can be read"):
                read(tmp_path / "picture.jpg")


@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "long"])
def test_what_is_no_file(tmp_path, kind):
    os.mkfifo(tmp_path / "pipe")
    path = {"pipe": tmp_path / "pipe", "folder": tmp_path, "device": "/dev/zero", "long": tmp_path / ("a" * 300)}[kind]
    says = {"pipe": "is a pipe", "folder": "is a folder", "device": "is a pipe, socket or device", "long": "too long"}
    for read in (open_photo, lambda path: read_map(path, (64, 64))):
        with pytest.raises(UsageError, match=says[kind]):
            read(path)


def test_a_strip_does_not_become_gigabytes():
    from types import SimpleNamespace

    from magicbokeh.inference.depth import estimate_disparity

    seen = []

    def model(pixels):
        seen.append(pixels.shape)
        return SimpleNamespace(predicted_depth=pixels.mean(1))

    model.config = SimpleNamespace(backbone_config=SimpleNamespace(patch_size=14, image_size=518))
    model.dtype = torch.float32
    estimate_disparity(model, np.random.default_rng(0).random((16, 20_000, 3), np.float32), torch.device("cpu"))
    assert seen[0][2] * seen[0][3] < 20 * 518 * 518
    estimate_disparity(model, np.random.default_rng(0).random((30, 400, 3), np.float32), torch.device("cpu"))
    assert seen[1][2] == 518


def encoded(kind):
    buffer = io.BytesIO()
    rng = np.random.default_rng(0)
    if kind == "deep":
        import cv2

        return cv2.imencode(".png", rng.integers(0, 65536, (20, 24, 3), np.uint16))[1].tobytes()
    if kind == "deep tiff":
        import cv2

        return cv2.imencode(".tif", rng.integers(0, 65536, (20, 24, 3), np.uint16))[1].tobytes()
    if kind == "npy":
        np.save(buffer, rng.random((20, 24)))
    else:
        Image.fromarray(rng.integers(0, 256, (20, 24, 3), np.uint8)).save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP", "GIF", "BMP", "PPM", "deep", "deep tiff", "npy"])
@settings(max_examples=60)
@given(data=st.data())
def test_any_bytes_of_a_picture(tmp_path_factory, kind, data):
    path = tmp_path_factory.getbasetemp() / ("any.npy" if kind == "npy" else "any.picture")
    raw = bytearray(encoded(kind))
    for _ in range(data.draw(st.integers(1, 5))):
        place = data.draw(st.integers(0, min(len(raw), 200) - 1) | st.integers(0, len(raw) - 1))
        raw[place] = data.draw(st.integers(0, 255))
    path.write_bytes(raw[: data.draw(st.integers(1, len(raw)))] if data.draw(st.booleans()) else raw)
    for read in (open_photo, lambda path: read_map(path, (20, 24))):
        assert str(path) in outcome(read, path)


def test_pickles_are_not_read_by_pickle():
    """The module of the reader in C is not used: it would build what it is told to."""
    from magicbokeh.conversion.tensor_unpickler import TensorUnpickler

    assert not issubclass(TensorUnpickler, pickle.Unpickler)
    assert pickle.INST[0] not in TensorUnpickler.dispatch
    assert pickle.BYTEARRAY8[0] not in TensorUnpickler.dispatch

"""The .cu file itself: both sides see the same structs and numbers, and NVIDIA's compiler takes it for every GPU.

What the kernels compute is tested by `test_cuda_pictures.py` and by every module marked `kernels`.
"""

import ctypes
import re
import sys

import numpy as np
import pytest
from support import compile_count, nvrtc
from support.kernels_on_cpu import HostDevice, library

import bokehsynth as bs
from bokehsynth.rendering import PATHS
from bokehsynth.rendering.cuda import device as cuda_device
from bokehsynth.rendering.cuda import structs
from bokehsynth.rendering.cuda.layer_cache import LayerCache

KERNELS = (
    "pack",
    "block_bounds",
    "fold_rays",
    "integrate_chords",
    "normalise_chords",
    "measure_columns",
    "plan_tiles",
    "composite_tiles",
    "trace_rays",
    *(f"add_control_variate_{layers}{sets}" for layers in (2, 3, 4) for sets in ("", "_rgb")),
    "encode_pictures",
    "trace_all",
)
SOURCE = (cuda_device.KERNELS / "bokeh.cu").read_text(encoding="utf-8")

with_nvrtc = pytest.mark.skipif(sys.platform != "linux", reason="the wheel of NVRTC is for Linux")


# ------------------------------------------------------------------ one meaning on both sides


@pytest.mark.parametrize("name", structs.STRUCTS)
def test_structs_lie_in_memory_as_numpy_has_them(name):
    struct = structs.STRUCTS[name]
    expected = [struct.itemsize, *(struct.fields[field][1] for field in struct.names)]
    beyond = 2**64 - 1  # to see that C++ measures as many fields as NumPy has
    found = (ctypes.c_size_t * (len(expected) + 1))(*[beyond] * (len(expected) + 1))
    getattr(library(), f"measure_{name}")(found)
    assert list(found) == [*expected, beyond]


@pytest.mark.parametrize("name", structs.STRUCTS)
def test_fields_stand_in_the_order_of_their_declaration(name):
    """Offsets alone would not see two names of one type swapped: the declaration in scene.cuh is read."""
    text = (cuda_device.KERNELS / "scene.cuh").read_text(encoding="utf-8")
    body = re.search(rf"struct {name} {{\n(.*?)\n}};", text, re.DOTALL).group(1)
    declared = []
    for line in re.sub(r"//.*", "", body).split(";"):
        kind, _, names = line.strip().removeprefix("const ").partition(" ")
        kind = "unsigned " + names.split()[0] if kind == "unsigned" else kind
        names = names.partition(" ")[2] if kind.startswith("unsigned") else names
        for field in filter(None, names.split(",")):
            pointer = kind.endswith("*") or "*" in field
            declared.append((re.match(r"\W*(\w+)", field).group(1), "pointer" if pointer else kind))
    struct = structs.STRUCTS[name]
    names_of = {"u8": "pointer", "f8": "double", "f4": "float", "i4": "int", "u4": "unsigned int"}
    described = [
        (field, names_of.get(struct[field].str[1:], "unsigned char" if struct[field].base == np.uint8 else "?"))
        for field in struct.names
    ]
    assert described == declared


def test_numbers_are_the_same():
    found = (ctypes.c_int * 12)()
    library().measure_constants(found)
    *numbers, copy, taps, together, rays = found
    paths = [copy, taps, together, rays]
    expected = [structs.MAX_LAYERS, structs.TILE_W, structs.ROWS, structs.BLOCK, structs.WARPS, structs.LINES]
    assert numbers == [*expected, structs.LINES_RGB, structs.MOST_PLANES]
    assert [PATHS[path] for path in paths] == ["copy", "taps", "together", "rays"]
    assert struct_of_bits(), "one bit per layer"


def struct_of_bits():
    """Whether a tile's sets of layers hold the most layers there may be."""
    return all(8 * structs.TILE[field].itemsize >= structs.MAX_LAYERS for field in ("sharp", "opaque"))


# ------------------------------------------------------------------ what stands in for a GPU


def run_kernel(name, blocks, table):
    """Launch a kernel of the host's library, one thread a block."""
    HostDevice(library()).launch(name, (blocks, 1, 1), (1, 1, 1), table)


def test_numbers_below_1e_38_are_flushed_as_cupy_compiles():
    """And NumPy's own are left alone."""
    color, alpha = np.full((1, 1, 3), 0.5, np.float32), np.full((1, 1), 1e-40, np.float32)
    device = HostDevice(library())
    cache = LayerCache(device)
    layer = bs.Layer(color, alpha, bs.Plane(0.5))
    cache.upload([layer])
    assert cache.layer(layer).texels[0, 0].tolist()[:3] == [0, 0, 0]
    assert np.float32(1e-40) * np.float32(0.5) > 0


@pytest.mark.skipif(sys.platform != "linux", reason="sections with ends are ELF's")
def test_shared_memory_holds_nothing_of_the_last_block():
    found = np.zeros(3, np.uint32)
    run_kernel("read_before_writing", 3, np.array([found.ctypes.data], np.uint64))
    assert found.tolist() == [0xA5A5A5A5] * 3


# ------------------------------------------------------------------ NVIDIA's compiler


def complaints(log):
    """What the compiler said beyond that a GPU is old, and beyond what ptxas was asked for."""
    return [line for line in log.splitlines() if "prior to '<compute/sm>_" not in line and not line.startswith("ptxas")]


def compile_for(architecture, source=SOURCE):
    ours = [*cuda_device.compile_options(), f"--gpu-architecture=sm_{architecture}", "--ptxas-options=-v"]
    options = [*ours, *nvrtc.FROM_CUPY]
    return nvrtc.compile_to_cubin(source, options)


@with_nvrtc
@pytest.mark.parametrize(
    "which",
    ["sm_90", *(pytest.param(x, marks=pytest.mark.long) for x in ("oldest", "sm_80", "sm_86", "sm_89", "newest"))],
)
def test_the_kernels_compile_without_a_word(which):
    numbers = nvrtc.supported()
    ends = {"oldest": numbers[0], "newest": numbers[-1]}
    made = compile_for(ends[which] if which in ends else int(which.removeprefix("sm_")))
    assert made.succeeded, made.log
    assert list(filter(None, complaints(made.log))) == []
    assert set(re.findall(rb"\0\.text\.(\w+)\0", made.cubin)) == {name.encode() for name in KERNELS}
    assert sorted(re.findall(r"Compiling entry function '(\w+)'", made.log)) == sorted(KERNELS)
    spilled = re.findall(r"(\d+) bytes spill stores, (\d+) bytes spill loads", made.log)
    if which.startswith("sm_"):
        assert spilled == [("0", "0")] * len(KERNELS)
    assert sum(int(size) for each in spilled for size in each) <= 16  # 8 and 8 in one kernel, for sm_50


@with_nvrtc
def test_errors_and_warnings_are_told_with_their_lines():
    """That silence means something."""
    broken = SOURCE
    for old, new in [
        ("if (ray < node.count)", "if (ray < node.rays)"),
        ("float light[OWN][3], through[OWN];", "float light[OWN][3], through[OWN]; int idle;"),
    ]:
        assert broken.count(old) == 1
        broken = broken.replace(old, new)
    made = compile_for(90, broken)
    assert not made.succeeded
    assert made.cubin == b""
    for where, words in [("node.rays", 'error: class "Node" has no member "rays"'), ("int idle", "warning #")]:
        line = broken[: broken.index(where)].count("\n") + 1
        assert any(f"bokeh.cu({line})" in said and words in said for said in complaints(made.log)), made.log


def test_compilations_are_counted_without_cupys_question_for_the_version(monkeypatch):
    """What `test_cuda_gpu.py` runs on a GPU, with stand-ins for NVRTC's program and the device."""

    class Program:
        def __init__(self, source):
            self.src = source

        def compile(self):
            return "cubin"

    compiled = compile_count.note_compilations(Program)
    assert [Program(source).compile() for source in ("", "kernels")] == ["cubin"] * 2
    assert compiled == ["kernels"]
    device = HostDevice(library())
    monkeypatch.setattr(cuda_device, "the_device", lambda: device)
    compile_count.render_by_every_kernel()
    assert set(device.launched) >= {"pack", "fold_rays", "composite_tiles", "trace_rays"}


def test_the_compilers_options_know_every_file(tmp_path, monkeypatch):
    """CuPy's cache goes by options and source: a header that changes must change them."""
    before = cuda_device.compile_options()
    for path in cuda_device.KERNELS.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr(cuda_device, "KERNELS", tmp_path)
    assert cuda_device.compile_options()[-1] == before[-1]
    with (tmp_path / "scene.cuh").open("a", encoding="utf-8") as file:
        file.write("// Changed.\n")
    assert cuda_device.compile_options()[-1] != before[-1]
    assert "--fmad=false" in before, "both compilers give the same bits"

"""On a real GPU: `pytest -m gpu --require-gpu`. The modules marked `kernels` use it as well, where there is one.

    compute-sanitizer --tool memcheck python -m pytest -n0 -m gpu --require-gpu tests/cuda/test_cuda_gpu.py -k sanitizer

and the same with `--tool racecheck`, `initcheck` and `synccheck`: one small batch that goes every way there is.
"""

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from support.apertures import APERTURES, PUPILS
from support.compare import assert_alike
from support.cuda_pictures import CONVERGED, TRAINING, arriving, light, smooth_scene, various_scenes
from support.height_fields import BATTERY as FIELDS
from support.height_fields import battery_scene as height_field_scene
from support.kernels_on_cpu import HostDevice, library
from support.scenes import BATTERY, Scene, battery_scene

import bokehsynth as bs
from bokehsynth.color import encode_8bit, table_of_8_bits
from bokehsynth.errors import DeviceError
from bokehsynth.rendering.cuda import device as cuda_device
from bokehsynth.rendering.cuda import renderer as cuda
from bokehsynth.rendering.cuda.encoding import encode_on_device
from bokehsynth.rendering.cuda.structs import TILE
from bokehsynth.rendering.types import RenderInput

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="session")
def real_gpu():
    try:
        return cuda_device.Device()
    except DeviceError:
        pytest.skip("no CUDA device")


@pytest.fixture
def gpu(real_gpu, monkeypatch):
    """The GPU, for backend cuda too."""
    monkeypatch.setattr(cuda_device, "the_device", lambda: real_gpu)
    return real_gpu


@pytest.fixture(scope="session")
def host():
    return HostDevice(library())


def render_batch(device, scenes, samples, monkeypatch):
    """Outputs of a batch and what was found out about its tiles, on the host."""
    with monkeypatch.context() as patch:
        patch.setattr(cuda_device, "the_device", lambda: device)
        made = cuda.render_scenes_on_device(
            [RenderInput(scene.layers, scene.lens, scene.margin) for scene in scenes], samples
        )
        return [
            (device.get(one.color), device.get(one.coverage), device.get(one.tiles).view(TILE).reshape(-1))
            for one in made
        ]


def assert_the_same(ours, theirs):
    """To the bit: nothing is contracted that is not written so, and all functions that kernels call round correctly.

    The tile plans are compared first: a tile that goes another way differs in all of its pixels.
    """
    for (color, coverage, tiles), (other_color, other_coverage, other_tiles) in zip(ours, theirs, strict=True):
        for field in ("path", "count", "start", "stop", "sharp", "opaque", "moving", "sorted"):
            np.testing.assert_array_equal(tiles[field], other_tiles[field], err_msg=field)
        np.testing.assert_array_equal(coverage, other_coverage)
        np.testing.assert_array_equal(color, other_color)


# ------------------------------------------------------------------ the same kernels on both


@pytest.mark.parametrize("aperture", [*APERTURES, *PUPILS])
def test_the_gpu_does_what_the_kernels_do_on_the_cpu(gpu, host, monkeypatch, aperture):
    scenes = [battery_scene(name, aperture={**APERTURES, **PUPILS}[aperture]) for name in BATTERY]
    for samples in (None, 300):
        assert_the_same(*(render_batch(device, scenes, samples, monkeypatch) for device in (gpu, host)))


def test_so_it_does_with_height_fields(gpu, host, monkeypatch):
    scenes = [height_field_scene(name) for name in FIELDS]
    assert_the_same(*(render_batch(device, scenes, None, monkeypatch) for device in (gpu, host)))


def test_pictures_are_encoded_as_on_the_host(gpu):
    """Round every step of the code, beyond its ends, and of more bytes than the page-locked buffer first had."""
    table = table_of_8_bits()
    near = np.concatenate([table.steps[:-1], np.nextafter(table.steps[:-1], 0), np.array([-1, 0, 1e-40, 1, 9])])
    pictures = [np.resize(near.astype(np.float32), (*size, 3)) for size in ((20, 13), (700, 900))]
    made = encode_on_device(cuda.cache_of(gpu), [gpu.put(picture) for picture in pictures], table)
    for codes, picture in zip(made, pictures, strict=True):
        np.testing.assert_array_equal(codes, encode_8bit(picture))
        np.testing.assert_array_equal(gpu.get(gpu.put(picture)), picture)
    assert encode_on_device(cuda.cache_of(gpu), [gpu.put(pictures[0] / np.float32(0))], table) == [None]


@pytest.mark.parametrize("name", BATTERY)
def test_brute_force_too(gpu, host, monkeypatch, name):
    scene = battery_scene(name)
    made = []
    for device in (gpu, host):
        monkeypatch.setattr(cuda_device, "the_device", lambda device=device: device)
        made.append(cuda.brute_force(RenderInput(scene.layers, scene.lens, scene.margin), 24))
    np.testing.assert_array_equal(made[0].color, made[1].color)
    np.testing.assert_array_equal(made[0].coverage, made[1].coverage)


# ------------------------------------------------------------------ the other renderers


@pytest.mark.parametrize("name", BATTERY)
def test_agreement_with_brute_force_and_cpu(gpu, name):
    scene, band = smooth_scene(name)
    brute = cuda.brute_force(RenderInput(scene.layers, scene.lens, scene.margin), 100)
    actual = light(scene.render("cuda", 3000))
    assert_alike(actual, arriving(brute.color, brute.coverage), band, CONVERGED)
    assert_alike(actual, light(scene.render("cpu", 3000)), band, replace(CONVERGED, inside=5.5e-5))
    assert_alike(light(scene.render("cuda")), light(scene.render("cpu")), band, TRAINING["disc"])


def large_scene(side=1000):
    """More than a few blocks of threads, all paths: the numbers of tiles and texels are none of any block's."""
    rng = np.random.default_rng(5)
    planes = [bs.Plane(0.9), bs.Plane(0.5), bs.Plane(0.3, 2e-4, 1e-4), bs.Plane(0.3, -2e-4, 1e-4)]
    lens = bs.Lens(40.0, 0.5, bs.Polygon(6))
    margin = lens.margin(planes, side + 7, side)
    shape = (side + 2 * margin, side + 7 + 2 * margin)
    layers = []
    for i, plane in enumerate(planes):
        blocks = np.kron(rng.random((1 + shape[0] // 90, 1 + shape[1] // 90)) < 0.3, np.ones((90, 90)))
        alpha = np.ones(shape) if i == 3 else blocks[: shape[0], : shape[1]]
        layers.append(bs.Layer(rng.random((*shape, 3)), alpha, plane))
    return Scene(tuple(layers), lens, margin)


def test_a_large_picture(gpu, host, monkeypatch):
    ours, theirs = (render_batch(device, [large_scene(250)], None, monkeypatch) for device in (gpu, host))
    assert set(ours[0][2]["path"]) == {0, 1, 3, 4}
    assert_the_same(ours, theirs)
    big = large_scene()
    first, second = (render_batch(gpu, [big, big], None, monkeypatch) for _ in range(2))
    assert_the_same(first[:1], first[1:])
    assert_the_same(first, second)


# ------------------------------------------------------------------ what only a device shows


def test_a_batch_is_each_alone(gpu, monkeypatch):
    scenes = various_scenes()
    together = render_batch(gpu, scenes, None, monkeypatch)
    assert_the_same(together, [render_batch(gpu, [scene], None, monkeypatch)[0] for scene in scenes])


def test_torch_takes_the_pictures_as_they_lie(gpu):
    torch = pytest.importorskip("torch", reason="no torch for this device")
    if not torch.cuda.is_available():
        pytest.skip("no torch for this device")
    scene = battery_scene("tilted")
    made = cuda.render_scenes_on_device([RenderInput(scene.layers, scene.lens, scene.margin)])[0]
    color = torch.from_dlpack(made.color)
    assert color.device.type == "cuda"
    assert color.data_ptr() == gpu.address(made.color), "no copy"
    np.testing.assert_array_equal(color.cpu().numpy(), gpu.get(made.color))


def test_memory_that_runs_out_is_told(gpu):
    with pytest.raises(gpu.out_of_memory):
        gpu.empty((2**50,), np.uint8)


def test_one_compile_per_process(gpu, tmp_path):
    """And none where CuPy's cache on disk has it."""
    found = []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-m", "support.compile_count"],
            env={**os.environ, "CUPY_CACHE_DIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True, text=True, check=False, timeout=240,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        found.append(int(done.stdout))
    assert found == [1, 0]


def test_description_says_what_pixels_depend_on(gpu):
    described = gpu.description()
    assert all(isinstance(value, str) and value for value in described.values())
    assert {"gpu", "compute_capability", "nvrtc"} <= set(described)


@pytest.fixture
def exact_allocations(gpu):
    """Each array in memory of its own: CuPy's pool rounds sizes up and hands blocks on, which hides overruns."""
    import cupy

    cupy.get_default_memory_pool().free_all_blocks()
    cupy.cuda.set_allocator(None)
    yield
    cupy.cuda.set_allocator(cupy.get_default_memory_pool().malloc)


@pytest.mark.usefixtures("exact_allocations")
def test_for_the_sanitizer(gpu, monkeypatch):
    """Every kernel and every way of a tile, small: compute-sanitizer slows things down a hundredfold."""
    scenes = [*various_scenes(), height_field_scene("hills through planes", (13, 21))]
    made = render_batch(gpu, scenes, 64, monkeypatch)
    assert {int(path) for _, _, tiles in made for path in tiles["path"]} == {0, 1, 3, 4}
    for color, coverage, _ in made:
        assert np.isfinite(color).all()
        assert np.isfinite(coverage).all()
    render_input = RenderInput(scenes[0].layers, scenes[0].lens, scenes[0].margin)
    assert np.isfinite(cuda.brute_force(render_input, 4).color).all()

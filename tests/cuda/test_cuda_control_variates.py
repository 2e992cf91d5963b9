"""The ray kernels made for so many planes: which tiles they take, and that they add what `trace_rays` adds."""

import numpy as np
import pytest
from support.apertures import APERTURES
from support.kernels_on_cpu import HostDevice, library

import bokehsynth as bs
from bokehsynth.rendering import PATHS
from bokehsynth.rendering.cuda import device as cuda_device
from bokehsynth.rendering.cuda import renderer as cuda
from bokehsynth.rendering.cuda.structs import LINES, LINES_RGB, ROWS, TILE
from bokehsynth.rendering.types import RenderInput

TOGETHER = PATHS.index("together")

pytestmark = pytest.mark.kernels


class GeneralKernel(HostDevice):
    """Sends every tile with rays to `trace_rays`, whatever `plan_tiles` says."""

    batch = None

    def launch(self, kernel, *more):
        super().launch(kernel, *more)
        if kernel == "plan_tiles":
            for made in self.batch.outputs:
                made.tiles.view(TILE)["planes"] = 0


def mattes(count, aperture, size=(24, 40), tilt=2e-3, blur=9.0):
    """So many layers over one another, all but the last full of holes; every second one tilted."""
    rng = np.random.default_rng(count)
    planes = [bs.Plane(0.9 - 0.15 * n, tilt * (n % 2), -tilt * (n % 2) / 2) for n in range(count)]
    lens = bs.Lens(blur, 0.2, APERTURES[aperture])
    margin = lens.margin(planes, *size)
    shape = tuple(side + 2 * margin for side in size)
    layers = []
    for n, plane in enumerate(planes):
        alpha = rng.random(shape, np.float32) * (rng.random(shape) < 0.6)
        layers.append(
            bs.Layer(3 * rng.random((*shape, 3), np.float32), alpha if n < count - 1 else 0 * alpha + 1, plane)
        )
    return RenderInput(tuple(layers), lens, margin)


def made_by(device, scene, monkeypatch):
    """Picture, tiles and launches of a scene on a device."""
    monkeypatch.setattr(cuda_device, "the_device", lambda: device)
    device.batch = batch = cuda.prepare([scene])
    batch.render()
    made = batch.outputs[0]
    return made.color, made.tiles.view(TILE).ravel().copy(), device.launched


@pytest.mark.parametrize("aperture", ["disc", "tinted pentagon"])
@pytest.mark.parametrize("count", [2, 3, 4])
def test_they_add_what_the_general_kernel_adds(count, aperture, monkeypatch):
    scene = mattes(count, aperture)
    color, tiles, launched = made_by(HostDevice(library()), scene, monkeypatch)
    assert (tiles["path"] == TOGETHER).all()
    assert (tiles["planes"] == count).all()
    suffix = "_rgb" if aperture == "tinted pentagon" else ""
    assert [name for name in launched if "control" in name] == [
        f"add_control_variate_{layers}{suffix}" for layers in range(2, count + 1)
    ]
    general, plan, _ = made_by(GeneralKernel(library()), scene, monkeypatch)
    assert not plan["planes"].any()
    np.testing.assert_allclose(color, general, rtol=2e-6, atol=2e-6)


def test_five_layers_and_tiles_cut_by_the_edge_are_left_to_the_general_kernel(monkeypatch):
    device = HostDevice(library())
    assert not made_by(device, mattes(5, "disc"), monkeypatch)[1]["planes"].any()
    height = 2 * ROWS + 3
    tiles = made_by(device, mattes(3, "disc", (height, 40)), monkeypatch)[1].reshape(3, 2)
    assert tiles["planes"].tolist() == [[3, 3], [3, 3], [0, 0]]


def test_hits_beyond_the_canvas_are_left_to_the_general_kernel(monkeypatch):
    scene = mattes(3, "disc")
    cut = tuple(bs.Layer(x.color[2:-2, 2:-2].copy(), x.alpha[2:-2, 2:-2].copy(), x.disparity) for x in scene.layers)
    tiles = made_by(HostDevice(library()), RenderInput(cut, scene.lens, scene.margin - 2), monkeypatch)[1]
    assert (tiles["path"] == TOGETHER).all()
    assert not tiles["planes"].any()


def test_layers_in_focus_keep_their_bits_beside_blurred_ones(monkeypatch):
    """A sharp one before two blurred ones: where it hides them, and where they are empty."""
    scene = mattes(3, "disc", tilt=0.0)
    first, second, last = scene.layers
    alpha = np.zeros_like(first.alpha)
    alpha[:, : alpha.shape[1] // 2] = 1
    sharp = bs.Layer(first.color, alpha, bs.Plane(0.9))
    scene = RenderInput((sharp, second, last), bs.Lens(9.0, 0.9), scene.margin)
    color, tiles, _ = made_by(HostDevice(library()), scene, monkeypatch)
    assert (tiles["planes"] == 3).any()
    width = color.shape[1] // 2
    expected = first.color[scene.margin : -scene.margin, scene.margin : scene.margin + width]
    assert color[:, :width].tobytes() == np.ascontiguousarray(expected).tobytes()


def test_a_thread_does_whole_lines():
    assert ROWS % LINES == ROWS % LINES_RGB == 0

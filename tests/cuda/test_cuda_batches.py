"""Batches on the device: each picture as if it were alone, layers uploaded once, and memory that runs out."""

import gc
import weakref

import numpy as np
import pytest
from support.cuda_pictures import various_scenes
from support.kernels_on_cpu import HostDevice, library
from support.scenes import Scene, battery_scene

import bokehsynth as bs
from bokehsynth.errors import DeviceError, UsageError
from bokehsynth.rendering import render_batch
from bokehsynth.rendering.cuda import device as cuda_device
from bokehsynth.rendering.cuda import renderer as cuda
from bokehsynth.rendering.cuda.footprint_nodes import LARGEST_HALF
from bokehsynth.rendering.cuda.structs import MAX_LAYERS
from bokehsynth.rendering.types import RenderInput

PER_BATCH = ["fold_rays", "measure_columns", "plan_tiles", "composite_tiles", "trace_rays"]
MOST_MORE = 6
"""Kernels of so many planes, one and three sets of weights."""


class CountingDevice(HostDevice):
    """A `HostDevice` that notes what was brought to it."""

    def __init__(self, largest=None):
        super().__init__(library(), largest)
        self.puts, self.gets = [], []

    def get(self, array):
        self.gets.append(array.shape)
        return super().get(array)

    def put(self, array):
        self.puts.append(array.shape)
        return super().put(array)


@pytest.fixture
def device(monkeypatch):
    """A device of this test's own, with nothing on it."""
    made = CountingDevice()
    monkeypatch.setattr(cuda_device, "the_device", lambda: made)
    return made


def inputs_of(scenes):
    return [RenderInput(scene.layers, scene.lens, scene.margin) for scene in scenes]


def same(output, other):
    return all(
        getattr(output, name).tobytes() == getattr(other, name).tobytes() for name in ("color", "coverage", "paths")
    )


# ------------------------------------------------------------------ as if it were alone


def test_a_batch_in_any_order_is_each_scene_alone_to_the_bit(device):
    inputs = inputs_of(various_scenes())
    alone = [cuda.render_scene(scene, None) for scene in inputs]
    assert [a.color.shape[:2] for a in alone] == [(scene.height, scene.width) for scene in inputs]
    assert len({a.color.tobytes() for a in alone}) == len(alone)
    order = np.random.default_rng(1).permutation(len(inputs))
    for batch in (range(len(inputs)), order, [3, 3, 0]):
        for made, k in zip(cuda.render_scenes([inputs[k] for k in batch]), batch, strict=True):
            assert same(made, alone[k]), k


def test_two_runs_give_the_same_bits():
    """Also where nothing is on the device yet, and layers are new objects."""
    with pytest.MonkeyPatch.context() as patch:
        runs = []
        for _ in range(2):
            patch.setattr(cuda_device, "the_device", lambda made=CountingDevice(): made)  # noqa: B008
            runs.append(cuda.render_scenes(inputs_of(various_scenes()), 100))
    assert all(same(*pair) for pair in zip(*runs, strict=True))


def test_render_batch_is_render(device):
    scenes = various_scenes()
    made = render_batch(scenes, "cuda")
    launched = len(device.launched)
    for scene, frames in zip(scenes, made, strict=True):
        expected = scene.render("cuda")
        for name in ("bokeh", "coverage", "all_in_focus", "disparity", "defocus", "transmission", "paths"):
            assert getattr(frames, name).tobytes() == getattr(expected, name).tobytes(), name
    assert launched <= 2 * len(PER_BATCH) + MOST_MORE + 2, "one batch through lenses, one through pinholes"
    assert render_batch([], "cuda") == []


def test_render_batch_on_the_cpu_is_render():
    scenes = various_scenes()[:2]
    for scene, frames in zip(scenes, render_batch(scenes, "cpu", 50), strict=True):
        assert frames.bokeh.tobytes() == scene.render("cpu", 50).bokeh.tobytes()


# ------------------------------------------------------------------ what is done how often


def test_launches_do_not_grow_with_the_batch(device):
    inputs = inputs_of(various_scenes())
    cuda.render_scenes(inputs)
    most = list(device.launched)
    assert most[: len(PER_BATCH) + 2] == ["pack", "block_bounds", *PER_BATCH]
    assert len(set(most)) == len(most) <= len(PER_BATCH) + MOST_MORE + 2, "each once"
    device.launched.clear()
    cuda.render_scenes(inputs[:1])
    assert device.launched[: len(PER_BATCH)] == PER_BATCH, "nothing is packed again"
    assert set(device.launched) <= set(most)
    assert len(set(device.launched)) == len(device.launched)


def test_a_layer_is_uploaded_once_and_let_go_with_the_object(device):
    scene = battery_scene("three frontal")
    canvas = scene.layers[0].shape
    cuda.render_scenes(inputs_of([scene, scene]))
    assert device.puts.count((*canvas, 3)) == device.puts.count(canvas) == 3
    device.puts.clear()
    moved = bs.Layer(scene.layers[0].color, scene.layers[0].alpha, bs.Plane(0.8))
    cuda.render_scene(inputs_of([Scene((moved, *scene.layers[1:]), scene.lens, scene.margin)])[0], None)
    assert device.puts.count((*canvas, 3)) == device.puts.count(canvas) == 1
    cache = cuda.cache_of(device)
    assert len(cache._layers) == 4
    del scene, moved
    gc.collect()
    assert len(cache._layers) == 0


def test_the_tables_of_a_batch_are_three_uploads(device):
    """Of layers, of footprints and of scenes; there was one more for each scene."""
    scenes = inputs_of(battery_scene("tilted") for _ in range(6))
    cuda.render_scenes(scenes)
    for count in (1, 6):
        device.puts.clear()
        cuda.render_scenes(scenes[:count])
        assert len(device.puts) == 3


def test_pinholes_share_their_one_ray(device):
    """Every picture of a batch has an all-in-focus one beside it, each of the same single grid."""
    scene = battery_scene("three frontal")
    pinholes = [each.all_in_focus() for each in inputs_of([scene] * 5)]
    cuda.render_scenes(pinholes, 1)
    rays = len(cuda.ray_set(pinholes[0], 1).points)
    assert device.puts.count((rays, 2)) == 1
    device.puts.clear()
    cuda.render_scenes(pinholes, 1)
    assert device.puts.count((rays, 2)) == 0


def test_only_pictures_come_back_from_a_batch(device):
    """Coverage and paths of a sample were 2.2 of 8.5 MB, and nothing read them."""
    scenes = [battery_scene("three frontal"), battery_scene("tilted")]
    first, second = render_batch(scenes, "cuda")
    for frames in (first, second):
        assert frames.bokeh.shape == frames.all_in_focus.shape
    assert [shape for shape in device.gets if len(shape) != 3] == []
    assert len(device.gets) == 4
    assert first.coverage.tobytes() == scenes[0].render("cuda").coverage.tobytes()


def test_exposures_can_stay_on_the_device(device):
    inputs = inputs_of(various_scenes()[:3])
    for made, expected in zip(cuda.render_scenes_on_device(inputs), cuda.render_scenes(inputs), strict=True):
        assert np.array_equal(device.get(made.color), expected.color)
        assert np.array_equal(np.from_dlpack(made.color), expected.color)
        assert np.array_equal(device.get(made.coverage), expected.coverage)


# ------------------------------------------------------------------ memory


class Tracked(np.ndarray):
    """That can be weakly referred to."""


class TightDevice(CountingDevice):
    """Holds so many bytes in all, as a GPU does."""

    def __init__(self, total):
        super().__init__()
        self.total, self.held, self.most = total, [], 0

    def zeros(self, shape, dtype):
        array = np.zeros(shape, dtype).view(Tracked)
        self.held = [there for there in self.held if there() is not None]
        needed = array.nbytes + sum(there().nbytes for there in self.held)
        if needed > self.total:
            raise self.out_of_memory(f"{needed} bytes asked for, {self.total} there")
        self.held.append(weakref.ref(array))
        self.most = max(self.most, needed)
        return array


def in_memory_for(count, inputs, monkeypatch):
    """A device that holds so many of these inputs at once and not a byte more."""
    gc.collect()
    spacious = TightDevice(10**12)
    monkeypatch.setattr(cuda_device, "the_device", lambda: spacious)
    cuda.render_scenes(inputs[:count])
    tight = TightDevice(spacious.most)
    monkeypatch.setattr(cuda_device, "the_device", lambda: tight)
    return tight


KEPT = "layers kept from earlier batches are let go"
HALF_OF_SIX, HALF_OF_THREE = "a batch of 6 is halved to 3", "a batch of 3 is halved to 2"


@pytest.mark.parametrize(
    ("fits", "said"),
    [
        (6, []),
        (5, [HALF_OF_SIX, f"9 {KEPT}"]),
        (
            2,
            [
                HALF_OF_SIX,
                "a batch of 3 is halved to 2",
                f"6 {KEPT}",
                f"3 {KEPT}",
                "a batch of 3 is halved to 2",
                f"6 {KEPT}",
            ],
        ),
    ],
)
def test_a_batch_that_does_not_fit_is_halved_and_says_so(monkeypatch, caplog, device, fits, said):
    """Six frames of one lens, in memory for some of them."""
    inputs = inputs_of([battery_scene("tilted") for _ in range(6)])
    expected = cuda.render_scenes(inputs)
    tight = in_memory_for(fits, inputs, monkeypatch)
    caplog.clear()
    made = cuda.render_scenes(inputs)
    assert [record.getMessage() for record in caplog.records] == [f"out of GPU memory: {words}" for words in said]
    assert {record.levelname for record in caplog.records} <= {"WARNING"}
    assert all(same(*pair) for pair in zip(made, expected, strict=True))
    assert tight.most <= tight.total


def test_layers_that_others_still_hold_make_room(monkeypatch, device):
    """Many scenes kept alive do not make one frame count as too large."""
    inputs = inputs_of([battery_scene("tilted") for _ in range(4)])
    in_memory_for(1, inputs, monkeypatch)
    made = [cuda.render_scene(scene, None) for scene in inputs]
    assert all(same(other, made[0]) for other in made[1:])


def test_a_frame_that_does_not_fit_alone_is_refused_with_the_way_out(monkeypatch):
    monkeypatch.setattr(cuda_device, "the_device", lambda made=CountingDevice(largest=20_000): made)  # noqa: B008
    with pytest.raises(DeviceError, match=r"one frame of 45 x 61 px with 3 layers.*make it smaller.*--device cpu"):
        battery_scene("tilted").render("cuda").bokeh  # noqa: B018


# ------------------------------------------------------------------ what these kernels cannot do


class Shifted(bs.Disc):
    """Every ray lands 3 px further right."""

    def aberration(self, s, h):
        return np.broadcast_to([3.0, 0.0], s.shape)


def plain(count, plane, lens, side=8):
    margin = lens.margin([plane], side, side)
    canvas = np.ones((side + 2 * margin, side + 2 * margin, 3), np.float32)
    return Scene((bs.Layer(canvas, canvas[..., 0], plane),) * count, lens, margin)


def test_as_many_layers_as_tiles_hold(device):
    lens = bs.Lens(4.0, 0.5)
    np.testing.assert_allclose(plain(MAX_LAYERS, bs.Plane(0.9), lens).render("cuda").bokeh, 1, rtol=1e-6)
    with pytest.raises(UsageError, match=r"at most 32 layers, got 33; use backend='cpu'"):
        plain(MAX_LAYERS + 1, bs.Plane(0.9), lens).render("cuda").bokeh  # noqa: B018


def test_as_large_a_radius_as_is_staged(device):
    largest = bs.Lens(2.0 * (LARGEST_HALF - 2), 0.5)
    # two million weights, each far below what float32 resolves in their sum: worst 7.9e-6
    np.testing.assert_allclose(plain(1, bs.Plane(1.0), largest, 4).render("cuda", 100).bokeh, 1, rtol=1e-5)
    with pytest.raises(UsageError, match=r"a blur radius of 767 px is too large for cuda.*use cpu"):
        plain(1, bs.Plane(1.0), bs.Lens(2.0 * LARGEST_HALF, 0.5), 4).render("cuda", 100).bokeh  # noqa: B018


def test_rays_that_land_elsewhere_need_the_cpu(device):
    scene = plain(1, bs.Plane(0.9), bs.Lens(4.0, 0.5, Shifted()))
    with pytest.raises(UsageError, match=r"Shifted has an aberration, which cuda does not render"):
        scene.render("cuda").bokeh  # noqa: B018
    assert (scene.render("cuda").all_in_focus == 1).all()

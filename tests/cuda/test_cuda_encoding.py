"""8-bit pictures from the device, sharp pictures made once, and the buffer that everything comes through."""

import gc
import logging
import weakref
from types import SimpleNamespace

import numpy as np
import pytest
from support.cuda_pictures import various_scenes
from support.kernels_on_cpu import HostDevice, library
from support.scenes import Scene, battery_scene

import bokehsynth as bs
from bokehsynth.color import encode_8bit, encode_16bit, table_of_8_bits
from bokehsynth.errors import UnsoundError
from bokehsynth.rendering import render_batch
from bokehsynth.rendering.cuda import device as cuda_device
from bokehsynth.rendering.cuda import pinned_buffer
from bokehsynth.rendering.cuda import renderer as cuda
from bokehsynth.rendering.cuda.encoding import encode_on_device
from bokehsynth.rendering.cuda.pinned_buffer import PinnedBuffer


class FetchingDevice(HostDevice):
    """Notes the size of what is fetched."""

    def __init__(self):
        super().__init__(library())
        self.fetched = []

    def get(self, array):
        self.fetched.append(array.nbytes)
        return super().get(array)


@pytest.fixture
def device(monkeypatch):
    """A device of this test's own, with nothing on it."""
    made = FetchingDevice()
    monkeypatch.setattr(cuda_device, "the_device", lambda: made)
    return made


def codes_of(device, *pictures):
    arrays = [device.put(np.asarray(each, np.float32)) for each in pictures]
    return encode_on_device(cuda.cache_of(device), arrays, table_of_8_bits())


# ------------------------------------------------------------------ the codes


def test_the_codes_are_those_of_the_host_to_the_bit(device):
    """Round every step, at the ends, beyond them, and of pictures of any size in one batch."""
    steps = table_of_8_bits().steps[:-1]
    near = np.concatenate([steps, np.nextafter(steps, 0), np.nextafter(steps, 2)])
    odd = np.array([0, -0.0, 1, np.nextafter(np.float32(1), 2), -1, 5, 1e-40, -1e-40, 3.4e38, -3.4e38], np.float32)
    rng = np.random.default_rng(1)
    pictures = [
        np.resize(np.concatenate([near, odd]), (17, 16, 3)),
        np.exp(rng.uniform(-12, 1, (64, 61, 3))).astype(np.float32),
        rng.random((1, 1, 3), np.float32),
    ]
    for made, picture in zip(codes_of(device, *pictures), pictures, strict=True):
        assert made.dtype == np.uint8
        assert np.array_equal(made, encode_8bit(picture))
    assert encode_on_device(cuda.cache_of(device), [], table_of_8_bits()) == []


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_has_no_codes_and_others_have(device, value):
    picture = np.full((3, 5, 3), 0.25, np.float32)
    damaged = picture.copy()
    damaged[2, 4, 1] = value
    first, second, third = codes_of(device, picture, damaged, picture)
    assert second is None
    assert np.array_equal(first, encode_8bit(picture))
    assert np.array_equal(third, first)


# ------------------------------------------------------------------ encoded batches


def test_an_encoded_batch_is_what_the_host_encodes(device):
    scenes = various_scenes()[:6]
    made, linear = render_batch(scenes, "cuda", codes=table_of_8_bits()), render_batch(scenes, "cuda")
    for encoded, frames in zip(made, linear, strict=True):
        assert np.array_equal(encoded.bokeh_by(encode_8bit), encode_8bit(frames.bokeh))
        assert np.array_equal(encoded.all_in_focus_by(encode_8bit), encode_8bit(frames.all_in_focus))
        assert np.array_equal(encoded.view_by(encode_8bit, half=False), frames.bokeh_by(encode_8bit))
    assert np.array_equal(made[0].bokeh, linear[0].bokeh)
    assert np.array_equal(made[0].bokeh_by(encode_16bit), encode_16bit(linear[0].bokeh)), "no codes of another kind"


def test_a_quarter_of_the_bytes_comes_back_by_two_copies(device):
    scenes = [battery_scene("three frontal"), battery_scene("tilted")]
    render_batch(scenes, "cuda", codes=table_of_8_bits())
    encoded = list(device.fetched)
    device.fetched.clear()
    cuda.cache_of(device).clear()
    render_batch(scenes, "cuda")
    assert len(encoded) == 2
    assert sum(encoded) <= sum(device.fetched) / 4 + 2048


def test_a_picture_that_is_not_finite_says_so_when_it_is_read(device):
    scene = battery_scene("three frontal")
    last = bs.Layer(scene.layers[-1].color.copy(), scene.layers[-1].alpha, scene.layers[-1].disparity)
    last.color[30:32, 30:32] = np.nan  # which no layer is made with
    damaged = Scene((*scene.layers[:-1], last), scene.lens, scene.margin)
    bad, good = render_batch([damaged, scene], "cuda", codes=table_of_8_bits())
    with pytest.raises(UnsoundError, match="not finite"):
        _ = bad.bokeh_by(encode_8bit)
    assert good.bokeh_by(encode_8bit).shape == good.bokeh.shape


# ------------------------------------------------------------------ sharp pictures


LENSES = [bs.Lens(4.0, 0.2), bs.Lens(3.0, 0.7), bs.Lens(0.0, 0.4), bs.Lens(4.0, 0.55, bs.Polygon(5))]


@pytest.mark.parametrize("encoded", [False, True])
def test_views_share_one_sharp_picture(device, encoded):
    scene = battery_scene("three frontal")
    views = [Scene(scene.layers, lens, scene.margin) for lens in LENSES]
    codes = table_of_8_bits() if encoded else None
    made = render_batch(views, "cuda", codes=codes)
    pictures = [frames.all_in_focus_by(encode_8bit) if encoded else frames.all_in_focus for frames in made]
    assert all(picture is pictures[0] for picture in pictures)
    launched = len(device.launched)
    again = render_batch([views[1]], "cuda", codes=codes)[0]
    assert (again.all_in_focus_by(encode_8bit) if encoded else again.all_in_focus) is pictures[0]
    assert device.launched[launched:].count("plan_tiles") == 1, "the one through the lens"
    for view in views:
        alone = bs.render(view.layers, view.lens, view.margin, "cuda")
        assert np.array_equal(pictures[0], alone.all_in_focus_by(encode_8bit) if encoded else alone.all_in_focus)


def test_a_sharp_picture_is_of_these_layers_at_this_margin(device):
    scene = battery_scene("three frontal")
    first = render_batch([scene], "cuda")[0].all_in_focus
    other = Scene((scene.layers[0], *scene.layers[2:]), scene.lens, scene.margin)
    assert not np.array_equal(render_batch([other], "cuda")[0].all_in_focus, first)
    wider = Scene(scene.layers, bs.Lens(0.0, 0.5), scene.margin - 1)
    assert render_batch([wider], "cuda")[0].all_in_focus.shape != first.shape


def test_sharp_pictures_go_with_their_layers(device):
    scene = battery_scene("three frontal")
    render_batch([scene], "cuda")
    kept = cuda.cache_of(device).sharp._kept
    assert len(kept) == 1
    del scene
    gc.collect()
    assert len(kept) == 0


@pytest.mark.parametrize("encoded", [False, True])
def test_what_calls_share_cannot_be_written_to(device, encoded):
    scene = battery_scene("three frontal")
    codes = table_of_8_bits() if encoded else None

    def sharp():
        frames = render_batch([scene], "cuda", codes=codes)[0]
        return frames.all_in_focus_by(encode_8bit) if encoded else frames.all_in_focus

    first = sharp()
    before = first.copy()
    with pytest.raises(ValueError, match="read-only"):
        first *= 0
    assert np.array_equal(sharp(), before)


def test_clearing_lets_go_of_sharp_pictures_too(device):
    scene = battery_scene("three frontal")
    first = render_batch([scene], "cuda")[0].all_in_focus
    cuda.cache_of(device).clear()
    assert len(cuda.cache_of(device).sharp._kept) == 0
    again = render_batch([scene], "cuda")[0].all_in_focus
    assert again is not first
    assert np.array_equal(again, first)


# ------------------------------------------------------------------ the buffer


class KeepingPool:
    """CuPy's pool of page-locked memory: what is freed stays locked, for requests of the same size."""

    def __init__(self):
        self.free, self.locked, self.most = [], 0, 0

    def alloc_pinned_memory(self, size):
        if size in self.free:
            self.free.remove(size)
        else:
            self.locked += size
            self.most = max(self.most, self.locked)
        memory = PooledBytes(size)
        weakref.finalize(memory, self.free.append, size)
        return memory

    def free_all_blocks(self):
        self.locked -= sum(self.free)
        self.free.clear()


class PooledBytes(bytearray):
    """Bytes whose end is noticed."""


def test_no_more_is_page_locked_than_the_buffer_has():
    pool = KeepingPool()
    device = cuda_device.Device.__new__(cuda_device.Device)  # without a GPU
    device._cupy = SimpleNamespace(cuda=pool, get_default_pinned_memory_pool=lambda: pool)
    buffer = PinnedBuffer(device._page_locked, (MemoryError,))
    source = np.zeros(64 << 10, np.uint8)
    for size in (1 << 10, 2 << 10, 5 << 10, 16 << 10, 64 << 10):
        buffer.fetch(source[:size], size, lambda part, out: np.copyto(out, part))
        assert pool.locked == buffer.size == size
    assert pool.most == 64 << 10


def test_the_buffer_grows_to_its_bound_and_larger_things_come_in_pieces(monkeypatch):
    monkeypatch.setattr(pinned_buffer, "LARGEST", 1000)
    asked, read = [], []

    def allocate(size):
        asked.append(size)
        return np.empty(size, np.uint8)

    def copy(part, out):
        read.append(len(part))
        out[:] = part

    buffer = PinnedBuffer(allocate, (MemoryError,))
    source = np.random.default_rng(0).integers(0, 256, 2500).astype(np.uint8)
    for size in (0, 300, 200, 700, 2500):
        assert np.array_equal(buffer.fetch(source[:size], size, copy), source[:size])
    assert asked == [300, 700, 1000]
    assert read == [300, 200, 700, 1000, 1000, 500]
    assert buffer.size == 1000


def test_where_no_page_locked_memory_is_granted_it_is_said_once(caplog):
    def allocate(size):
        raise MemoryError("the system's limit")

    buffer = PinnedBuffer(allocate, (MemoryError,))
    source = np.arange(100, dtype=np.uint8)
    with caplog.at_level(logging.WARNING, "bokehsynth"):
        for size in (50, 100):
            found = buffer.fetch(source[:size], size, lambda part, out: np.copyto(out, part))
            assert np.array_equal(found, source[:size])
    assert [record.message for record in caplog.records] == [
        "no page-locked memory of 0 MB (the system's limit): pictures are fetched more slowly"
    ]

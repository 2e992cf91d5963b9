"""Batches in flight on two streams give the pictures of one at a time, however late the streams run."""

import gc
from functools import lru_cache

import numpy as np
import pytest
from support.kernels_on_cpu import HostDevice, library
from support.lazy_device import LazyDevice

import bokehsynth as bs
from bokehsynth.color import table_of_8_bits
from bokehsynth.rendering import begin_batch
from bokehsynth.rendering.cuda import device as cuda_device
from bokehsynth.rendering.cuda import lanes
from bokehsynth.rendering.cuda.lanes import Lanes, Part
from bokehsynth.rendering.cuda.layer_cache import LayerCache
from bokehsynth.rendering.types import RenderInput

pytestmark = pytest.mark.kernels

FLIGHTS = 4


def flights_of_scenes():
    """Of each flight its scenes, anew: half of them have layers of the flight before, which then are let go."""
    noise, margin, shape = np.random.default_rng(4), 9, (9 + 18, 34 + 18)

    def layers():
        return tuple(
            bs.Layer(noise.random((*shape, 3), np.float32), alpha.astype(np.float32), plane)
            for alpha, plane in ((noise.random(shape), bs.Plane(0.8, 1e-3)), (np.ones(shape), bs.Plane(0.3)))
        )

    before = layers()
    for number in range(FLIGHTS):
        new = layers()
        lens = bs.Lens(5.0 + number, 0.5, bs.Disc() if number % 2 else bs.Polygon(5 + number))
        yield [RenderInput(before, lens, margin), RenderInput(new, lens, margin)]
        before = new


@lru_cache
def one_at_a_time(encoded):
    table = table_of_8_bits() if encoded else None
    cache, found = LayerCache(HostDevice(library())), []
    for scenes in flights_of_scenes():
        found += Lanes(cache).start(parts(scenes), table).land()
    return found


def parts(scenes):
    return [Part(scenes, None), Part([scene.all_in_focus() for scene in scenes], 1)]


def two_at_a_time(device, encoded, after_start=lambda flight: None, others_first=lambda number: True):
    table, found, flying = table_of_8_bits() if encoded else None, [], None
    made = Lanes(LayerCache(device))
    for number, scenes in enumerate(flights_of_scenes()):
        device.others_first = others_first(number)
        started = made.start(parts(scenes), table)
        del scenes
        after_start(started)
        gc.collect()
        if flying is not None:
            found += flying.land()
        flying = started
    return found + flying.land()


def same(made, other):
    return all(
        np.array_equal(a, b)
        for ones, others in zip(made, other, strict=True)
        for a, b in zip(ones, others, strict=True)
    )


def odd(number):
    """Streams wait until they must, and overtake the other in every second flight."""
    return number % 2 == 1


@pytest.mark.parametrize(
    ("encoded", "others_first"),
    [
        (True, odd),
        *(pytest.param(*case, marks=pytest.mark.long) for case in ((True, lambda number: True), (False, odd))),
    ],
)
def test_pictures_are_those_of_one_batch_at_a_time(encoded, others_first):
    made = two_at_a_time(LazyDevice(library()), encoded, others_first=others_first)
    assert same(made, one_at_a_time(encoded))


def test_a_wait_that_is_missing_would_be_seen(monkeypatch):
    monkeypatch.setattr(LazyDevice, "wait", lambda self, stream, event: None)
    assert not same(two_at_a_time(LazyDevice(library()), True), one_at_a_time(True))


def test_memory_that_is_given_back_too_early_would_be_seen():
    def forget(flight):
        for batch in flight.batches:
            batch._keep.clear()
            batch.scenes = []

    even = two_at_a_time(LazyDevice(library()), True, forget, lambda number: not odd(number))
    assert not same(even, one_at_a_time(True)) or not same(
        two_at_a_time(LazyDevice(library()), True, forget, odd), one_at_a_time(True)
    )


def test_what_a_batch_left_on_the_device_before_it_failed_is_waited_for(monkeypatch):
    """Memory runs out after its layers and tables went up: the next batch uses those, from the other lane."""
    device, encoding = LazyDevice(library()), lanes.Encoding

    def full(*what):
        encoding(*what)
        raise FullError("no room")

    scenes, made = next(flights_of_scenes()), Lanes(LayerCache(device))
    device.others_first = False
    monkeypatch.setattr(lanes, "Encoding", full)
    with pytest.raises(FullError):
        made.start(parts(scenes), table_of_8_bits())
    monkeypatch.setattr(lanes, "Encoding", encoding)
    assert same(made.start(parts(scenes), table_of_8_bits()).land(), one_at_a_time(True)[:2])


class FullError(Exception):
    """As CuPy's, where there is no memory."""


def test_begun_batches_are_what_render_batch_gives(monkeypatch):
    """Also one for which there is no memory, which is made as ever."""
    device = HostDevice(library())
    device.out_of_memory = FullError
    monkeypatch.setattr(cuda_device, "the_device", lambda: device)
    codes, full = table_of_8_bits(), []
    encoding = lanes.Encoding

    def cramped(*what):
        if full:
            raise FullError("no room")
        return encoding(*what)

    monkeypatch.setattr(lanes, "Encoding", cramped)
    flying, found = [], []
    for scenes in flights_of_scenes():
        dark = RenderInput(scenes[1].layers, bs.Lens(0.0, 0.5), scenes[1].margin)
        flying.append(([*scenes, dark], begin_batch([*scenes, dark], "cuda", codes)))
        full.append(True)
        if len(flying) == 2:
            found.append(flying.pop(0))
    for scenes, fetch in [*found, *flying]:
        for made, scene in zip(fetch(), scenes, strict=True):
            expected = bs.render(scene.layers, scene.lens, scene.margin, "cuda")
            assert np.array_equal(made.bokeh_by(codes.encode), codes.encode(expected.bokeh))
            assert np.array_equal(made.all_in_focus_by(codes.encode), codes.encode(expected.all_in_focus))

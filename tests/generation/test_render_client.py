"""A worker's side of the process that renders, and what passes between them; that process is a thread here."""

import logging
import os
import pickle
import socket
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import bokehsynth as bs
from bokehsynth.color import table_of_8_bits
from bokehsynth.errors import DeviceError, UsageError
from bokehsynth.generation import render_client, render_server, scene_slot, shared_scene
from bokehsynth.generation.plan import all_plans
from bokehsynth.generation.render_client import RenderClient
from bokehsynth.generation.render_server import RenderServer
from bokehsynth.generation.shard_task import ShardTask
from bokehsynth.generation.shared_scene import SharedMemory
from bokehsynth.optics import HeightField, halves_of
from bokehsynth.rendering.types import RenderInput
from bokehsynth.shards import Layout
from bokehsynth.workers import companion

CODES = table_of_8_bits()


class Bomb:
    """Does something when it is unpickled."""

    fell = False

    def __reduce__(self) -> tuple:
        return setattr, (Bomb, "fell", True)


class EndedError(BaseException):
    """Ends the thread as a kill ends a process."""


class Renderers:
    """Threads, one after the other, that serve as the process would; `fate(scenes)` may raise EndedError."""

    def __init__(self) -> None:
        self.listener = socket.socket(socket.AF_UNIX)
        name = f"bokehsynth-test-{os.getpid()}-{id(self)}"
        self.listener.bind(f"\0{name}")
        self.listener.listen()
        self.address = {companion.ADDRESS: name, companion.KEY: "05" * companion.KEY_BYTES}
        self.batches: list[list[float]] = []
        """Blurs of the scenes of each."""
        self.fate: Callable[[list], None] = lambda scenes: None
        self.unusable: Exception | None = None
        self.closed = False
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while not self.closed:
            service = render_server._Service(RenderServer("cpu", CODES, 4), self.listener, self.unusable)
            self.service = service
            logging.getLogger("bokehsynth").removeHandler(service.warnings)  # here they are the client's as well
            service._begin = lambda batch, service=service: self._begin(service, batch)
            try:
                service.run()
            except EndedError:
                for link in service.clients:
                    link.close()

    def _begin(self, service: render_server._Service, batch: list) -> object:
        scenes = [client.scene(request) for client, request in batch]
        self.batches.append([scene.lens.blur for scene in scenes])
        self.fate(scenes)
        return render_server._Service._begin(service, batch)


@pytest.fixture
def renderers(monkeypatch: pytest.MonkeyPatch) -> Iterator[Renderers]:
    made = Renderers()
    for name, value in made.address.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(render_server, "user_error", raise_ended)
    monkeypatch.setattr(render_client, "SIGN_SECONDS", 0.01)
    yield made
    made.closed = True


def stranger(renderers: Renderers, said: bytes) -> Connection:
    """A connection that begins with other bytes than the key, framed as a message would be."""
    ours = socket.socket(socket.AF_UNIX)
    ours.connect("\0" + renderers.address[companion.ADDRESS])
    link = Connection(ours.detach())
    if said:
        link.send_bytes(said)
    return link


def raise_ended(raised: BaseException) -> Exception:
    """A thread that is to end as a process would does."""
    if isinstance(raised, EndedError):
        raise raised
    return bs.errors.user_error(raised)  # type: ignore[no-any-return, attr-defined]


def scene(blur: float, seed: int = 0, field: bool = False, layers: list[bs.Layer] | None = None) -> SimpleNamespace:
    """Two layers of 24 x 32 px behind a lens of that blur; the nearer one may be a height field."""
    noise, shape, margin = np.random.default_rng(seed), (24 + 24, 32 + 24), 12
    near = np.full(shape, 0.8, np.float32)
    near[:, ::3] = 0.7
    made = layers or [
        bs.Layer(
            noise.random((*shape, 3), np.float32), noise.random(shape, np.float32), near if field else bs.Plane(0.8)
        ),
        bs.Layer(noise.random((*shape, 3), np.float32), np.ones(shape, np.float32), bs.Plane(0.2, 1e-4)),
    ]
    return SimpleNamespace(layers=made, lens=bs.Lens(blur, 0.5, bs.Polygon(6)), margin=margin)


def large_scene() -> SimpleNamespace:
    """One layer of 3 MB."""
    shape = (400, 500)
    layer = bs.Layer(np.ones((*shape, 3), np.float32), np.ones(shape, np.float32), bs.Plane(0.5))
    return SimpleNamespace(layers=[layer], lens=bs.Lens(2.0, 0.4), margin=12)


def same(made: list, scenes: list) -> None:
    for frames, one in zip(made, scenes, strict=True):
        plain = bs.render(one.layers, one.lens, one.margin, "cpu")
        assert np.array_equal(frames.bokeh_by(CODES.encode), CODES.encode(plain.bokeh))
        assert np.array_equal(frames.all_in_focus_by(CODES.encode), CODES.encode(plain.all_in_focus))
        for name in ("defocus", "disparity"):
            assert np.array_equal(getattr(frames, name), getattr(plain, name)), name


def test_what_comes_back_is_what_render_makes(renderers: Renderers) -> None:
    client = RenderClient()
    scenes = [scene(4.0), scene(6.0, 1, field=True), scene(0.0, 2)]
    same(client.render(scenes, CODES), scenes)
    linear = client.render(scenes[:1], None)
    assert np.array_equal(linear[0].bokeh, bs.render(scenes[0].layers, scenes[0].lens, 12, "cpu").bokeh)
    output = client._output(RenderInput(tuple(scenes[1].layers), scenes[1].lens, 12), None)  # as frames.coverage has it
    plain = bs.render(scenes[1].layers, scenes[1].lens, 12, "cpu")
    assert np.array_equal(output.color, plain.bokeh)
    assert np.array_equal(output.coverage, plain.coverage)
    halves = [(scenes[0].layers, bs.Lens(4.0, 0.5, half), 12) for half in halves_of(bs.Disc())]
    parts = client.render([SimpleNamespace(layers=what[0], lens=what[1], margin=12) for what in halves], None)
    for half, what in zip(parts, halves, strict=True):
        plain = bs.render(*what, "cpu")
        for name in ("bokeh", "part_light", "of_half", "all_in_focus"):
            assert np.array_equal(getattr(half, name), getattr(plain, name)), name
    more = [scene(5.0, layers=scenes[0].layers), scene(3.0, 3)]
    same(client.render(more, CODES), more)


def test_layers_are_copied_once_for_all_views_and_stay_the_same_objects(
    renderers: Renderers, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, ...]] = []
    renderers.fate = lambda scenes: seen.append(tuple(map(id, scenes[0].layers)))
    copies, write = [], scene_slot.write_layers
    monkeypatch.setattr(scene_slot, "write_layers", lambda *what: copies.append(write(*what)))
    client, first = RenderClient(), scene(4.0)
    for blur in (4.0, 5.0, 0.0, 6.0):
        client.render([scene(blur, layers=first.layers)], CODES)
    assert len(copies) == 1
    assert len(set(seen)) == 1
    client.render([scene(4.0, 7)], CODES)
    assert len(copies) == 2


def test_one_that_ends_over_a_batch_costs_nothing(renderers: Renderers, caplog: pytest.LogCaptureFixture) -> None:
    """What it had begun is rendered again, scene by scene."""
    left = 2

    def end_twice(scenes: list) -> None:
        nonlocal left
        if left == 2 and len(scenes) == 1:
            time.sleep(0.5)  # the first may come alone: the others are there after it
        if len(scenes) > 1 or left == 1:
            left -= 1
            raise EndedError

    renderers.fate = end_twice
    scenes = [scene(4.0), scene(5.0, 1), scene(6.0, 2)]
    with caplog.at_level(logging.WARNING, "bokehsynth"):
        made = RenderClient().render(scenes, CODES)
    renderers.fate = lambda scenes: None
    assert caplog.text.count("the process that renders has ended") == 2
    sizes = [len(batch) for batch in renderers.batches]
    assert sizes.count(1) == len(sizes) - 1, "one batch of several, and then scene by scene"
    assert sizes.index(max(sizes)) <= 1
    same(made, scenes)


def test_a_scene_that_ends_them_is_told_apart_from_the_others(renderers: Renderers) -> None:
    """Its worker ends, as if it had lost its own device; another worker's scenes of the same batches are made."""

    def fate(scenes: list) -> None:
        if any(one.lens.blur == 5.0 for one in scenes):
            raise EndedError

    renderers.fate = fate
    innocent: list = []
    theirs = [scene(4.0, 1), scene(4.0, 2)]
    other = threading.Thread(target=lambda: innocent.extend(RenderClient().render(theirs, CODES)))
    other.start()
    client = RenderClient()
    with pytest.raises(DeviceError, match="ended the process that renders again and again, rendered alone") as error:
        client.render([scene(4.0, 3), scene(5.0, 4), scene(6.0, 5)], CODES)
    assert error.value.lost
    other.join(20)
    same(innocent, theirs)


def test_a_suspect_is_alone_from_the_start_and_its_first_end_is_its_fault(renderers: Renderers) -> None:
    def fate(scenes: list) -> None:
        raise EndedError

    renderers.fate = fate
    with pytest.raises(DeviceError, match="again and again") as error:
        RenderClient().render([scene(4.0)], CODES, suspect=True)
    assert error.value.lost
    assert renderers.batches == [[4.0]]


def test_signs_of_life_stop_for_a_scene_that_has_ended_one_already(renderers: Renderers) -> None:
    """While the process is slow, or being replaced, its workers are not to blame; a scene that hangs it is."""
    signs: list[str] = []
    go = threading.Event()
    ended = 0

    def fate(scenes: list) -> None:
        nonlocal ended
        before = len(signs)
        go.wait(0.3)
        if ended < 2:  # with others, and then alone
            assert len(signs) > before + 5
            ended += 1
            raise EndedError
        assert len(signs) <= before + 1

    renderers.fate = fate
    one = [scene(4.0)]
    same(RenderClient().render(one, CODES, lambda: signs.append("alive")), one)


def test_frames_that_are_asked_for_more_say_that_their_worker_lives(renderers: Renderers) -> None:
    """Also another thread of the worker does, which waits for them; a suspect's end over them is its fault."""
    signs: list[str] = []
    go = threading.Event()
    client = RenderClient()
    (frames,) = client.render([scene(4.0)], None, lambda: signs.append("sample"))
    (suspect,) = client.render([scene(5.0)], None, suspect=True)
    renderers.fate = lambda scenes: go.wait(0.3) and None
    sample = threading.Thread(target=lambda: frames.coverage)
    sample.start()
    same(client.render([scene(6.0)], CODES, lambda: signs.append("main")), [scene(6.0)])
    sample.join()
    assert signs.count("sample") > 5
    assert signs.count("main") > 5

    def fate(scenes: list) -> None:
        raise EndedError

    renderers.fate = fate
    with pytest.raises(DeviceError, match="again and again"):
        _ = suspect.coverage


def test_strangers_are_not_read_and_keep_nobody_waiting(
    renderers: Renderers, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One says nothing; one sends a pickle and no key; one of this run sends what cannot be unpickled."""
    silent = stranger(renderers, b"")
    pickled = stranger(renderers, pickle.dumps(Bomb()))
    broken = companion.connect()
    broken.recv()
    broken.send_bytes(b"no pickle")
    same(RenderClient().render([scene(4.0)], CODES), [scene(4.0)])
    assert not Bomb.fell
    with pytest.raises((EOFError, ConnectionError)):
        pickled.recv()
    assert "cannot read a message (UnpicklingError" in broken.recv()[1]
    with pytest.raises((EOFError, ConnectionError)):
        broken.recv()
    silent.close()


def test_what_cannot_be_sent_is_not_sent_for_ever(renderers: Renderers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(render_client, "MOST_LOST", 3)
    monkeypatch.setattr(render_server._Service, "_take", lambda self, client, message: 1 / 0)
    with pytest.raises(DeviceError, match="ended 3 times before it began a scene") as error:
        RenderClient().render([scene(4.0)], CODES)
    assert error.value.lost


def test_layers_are_kept_up_to_a_number_of_bytes(renderers: Renderers, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that were asked for longest ago go first; a view of them has the same pictures all the same."""
    one = scene(4.0)
    each = 2 * 20 * one.layers[0].shape[0] * one.layers[0].shape[1]
    seen: list[tuple[int, int]] = []

    def fate(scenes: list) -> None:
        seen.append((len(renderers.service.kept._kept), renderers.service.kept.bytes))

    renderers.fate = fate
    client = RenderClient()
    client.render([one], CODES)
    renderers.service.kept.most = 2 * each
    others = [scene(4.0, number) for number in (1, 2, 3)]
    same(client.render(others, CODES), others)
    again = [scene(5.0, layers=one.layers)]
    same(client.render(again, CODES), again)
    assert seen[0] == (1, each)
    assert seen[-1] == (2, 2 * each)
    client._hang_up()
    RenderClient().render([scene(6.0)], CODES)
    assert seen[-1] == (1, each), "what a worker had goes with it"


def test_a_scene_that_cannot_be_rendered_fails_alone_and_says_why(renderers: Renderers) -> None:
    client, good = RenderClient(), scene(4.0)
    wrong = SimpleNamespace(layers=good.layers, lens=bs.Lens(400.0, 0.5), margin=12)
    with pytest.raises(UsageError, match="margin 12 px is too small"):
        client.render([good, wrong], CODES)
    same(client.render([good], CODES), [good])


def test_a_device_that_is_not_there_is_the_answer_to_every_worker(
    renderers: Renderers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(renderers, "unusable", DeviceError("no such device"))
    renderers.fate = lambda scenes: (_ for _ in ()).throw(EndedError())
    client = RenderClient()
    with pytest.raises(DeviceError, match="no such device"):
        client.render([scene(4.0)], CODES)  # ends the first, which was asked before
    with pytest.raises(DeviceError, match="no such device"):
        RenderClient().prepare()


def test_who_waits_for_a_process_to_start_says_so_and_does_not_end_for_its_device(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The task of a worker does it: a device that was lost in the other process is no reason to replace this one."""
    reports: list[int] = []
    unusable = DeviceError("no such device")
    unusable.lost = True
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"\0{tmp_path.name}-{os.getpid()}")
    listener.listen()
    monkeypatch.setenv(companion.ADDRESS, f"{tmp_path.name}-{os.getpid()}")
    monkeypatch.setenv(companion.KEY, "05" * companion.KEY_BYTES)
    monkeypatch.setattr(render_client, "SIGN_SECONDS", 0.01)
    monkeypatch.setattr("bokehsynth.generation.shard_task.the_client", RenderClient)

    def serve_late() -> None:
        while len(reports) < 5:
            time.sleep(0.01)
        render_server._Service(RenderServer("cpu", CODES, 4), listener, unusable).run()

    threading.Thread(target=serve_late, daemon=True).start()
    recipe = bs.load_recipe("quickstart")
    task = ShardTask(recipe, Layout(tmp_path), "cuda", served=True)
    task.prepare()
    assert not reports
    with pytest.raises(DeviceError, match="no such device") as error:
        task(next(iter(all_plans(recipe))), reports.append)
    assert not error.value.lost
    assert reports[:5] == [0] * 5


def test_memory_that_is_not_there_is_refused_before_it_is_taken(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with monkeypatch.context() as little:
        little.setattr(shared_scene, "free_memory", lambda: 2 << 20)
        little.setattr(os, "memfd_create", None)
        with pytest.raises(MemoryError, match="3 MB of shared memory are needed for a scene, and 2 MB are free"):
            SharedMemory.create(3 << 20)
        with caplog.at_level(logging.WARNING, "bokehsynth"), pytest.raises(MemoryError):
            RenderClient().render([large_scene()], CODES)
    assert "MB are free" in caplog.text, "its process could not say it later"
    memory, descriptor = SharedMemory.create(1 << 12)
    with pytest.raises(bs.BokehsynthError, match="lies outside 4096 bytes"):
        memory.array(4096 - 8, (3,), np.float32)
    with pytest.raises(bs.BokehsynthError, match="should have 8192"):
        SharedMemory(descriptor, 8192)
    os.close(descriptor)


def test_a_height_field_passes_as_one(renderers: Renderers) -> None:
    kinds: list[type] = []
    renderers.fate = lambda scenes: kinds.extend(type(layer.disparity) for layer in scenes[0].layers)
    RenderClient().render([scene(4.0, field=True)], CODES)
    assert kinds == [HeightField, bs.Plane]

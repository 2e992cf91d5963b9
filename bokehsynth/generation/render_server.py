"""The process that renders for all workers of a device: their scenes, in batches, from and to shared memory.

Composing processes need no device then, and one context serves all of them. A worker that ends takes nothing with it
but its own scenes; when this process ends, another one is started (`workers.companion`), and the workers hand it what
they still wait for (`render_client`).
"""

import faulthandler
import logging
import os
import resource
import socket
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import connection, reduction
from multiprocessing.connection import Connection
from typing import Any

from bokehsynth.errors import user_error
from bokehsynth.generation.kept_layers import KeptLayers
from bokehsynth.generation.render_messages import RESULTS, MemoryNote, SceneRequest
from bokehsynth.generation.shared_scene import SharedMemory, lens_at, result_arrays
from bokehsynth.rendering import begin_batch, is_lazy, render_output
from bokehsynth.rendering.types import CodeTable, RenderInput
from bokehsynth.workers.companion import accept, is_of_this_run
from bokehsynth.workers.events import is_fatal_to_worker
from bokehsynth.workers.worker import DEVICE_LOST, OUT_OF_MEMORY, picklable_error

RENDER_SECONDS = 200.0
"""Limit of one batch, which takes milliseconds: a device that hangs is given up with its process. It is above the least
limit of a worker, 20 s, however often that has been doubled, so that a scene that hangs is found by its worker's."""


@dataclass(eq=False)
class _Client:
    """A worker, seen from here."""

    link: "Connection[Any, Any]"
    kept: KeptLayers
    memory: dict[int, SharedMemory] = field(default_factory=dict)
    proven: bool = False
    """Whether it has shown that it is of this run: until then, nothing of it is unpickled."""

    def tell(self, *message: Any) -> None:
        """Send a message; a worker that is gone is noticed when it is listened to."""
        with suppress(OSError):
            self.link.send(message)

    def scene(self, request: SceneRequest) -> RenderInput:
        """The scene that is asked for: its layers are the same objects as those of its other views."""
        there = request.scene
        layers = self.kept.get((self, request.slot), request, self.memory[request.slot])
        return RenderInput(layers, lens_at(there), there.margin)

    def close(self) -> None:
        """Let go of all that it has here."""
        for slot in self.memory:
            self.kept.drop((self, slot))
        self.link.close()


Waiting = tuple[_Client, SceneRequest]
Flight = tuple[list[Waiting], Callable[[], list[tuple[Any, Any]]]]
"""A batch on its way, and what fetches its pictures."""


@dataclass(frozen=True)
class RenderServer:
    """What the process needs to know; picklable, the `serve` of a `workers.companion.Companion`."""

    device: str
    codes: CodeTable | None
    batch: int
    """Scenes that are rendered together, at most."""
    seconds: float = RENDER_SECONDS
    """Limit of one batch; the process ends itself, with a trace on stderr, when it takes longer."""

    def __call__(self, listener: socket.socket, ready: Callable[[], None]) -> None:
        """Serve until the run ends this process."""
        unusable = self._prepare()
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # each worker takes a few
        ready()
        _Service(self, listener, unusable, ready).run()

    def _prepare(self) -> Exception | None:
        """Load the device's kernels; what that raises is the answer to every worker."""
        try:
            if self.device == "cuda":
                from bokehsynth.rendering.cuda import renderer as cuda

                cuda.warm_up()
        except Exception as error:
            return picklable_error(error)
        return None


class _Service:
    """The state of a running process."""

    def __init__(
        self,
        settings: RenderServer,
        listener: socket.socket,
        unusable: Exception | None,
        answered: Callable[[], None] = lambda: None,
    ) -> None:
        """`answered` is called when a worker has got what it waited for."""
        self.settings, self.listener, self.unusable, self.answered = settings, listener, unusable, answered
        self.kept = KeptLayers()
        self.clients: dict[Connection[Any, Any], _Client] = {}
        self.waiting: deque[Waiting] = deque()
        self.warnings = _Collector()
        logging.getLogger("bokehsynth").addHandler(self.warnings)

    def run(self) -> None:
        """Listen and render; while a batch is on the device, the next one is sent there."""
        flying: Flight | None = None
        while True:
            self._listen(wait=flying is None)
            batch = self._next_batch()
            alone = bool(batch) and batch[0][1].alone
            if flying is not None and alone:
                self._land(flying)
                flying = None
            started = self._start(batch) if batch else None
            if flying is not None:
                self._land(flying)
            if started is not None and alone:
                self._land(started)
                started = None
            flying = started

    def _listen(self, wait: bool) -> None:
        """Take all messages that are there; wait for one only if there is nothing to render."""
        while found := connection.wait([self.listener, *self.clients], None if wait and not self.waiting else 0):
            for readable in found:
                if isinstance(readable, Connection):
                    self._receive(self.clients[readable])
                elif (link := accept(self.listener)) is not None:
                    self.clients[link] = _Client(link, self.kept)

    def _receive(self, client: _Client) -> None:
        """Take a message; a client of another run, one that has ended, and one that cannot be read are let go."""
        try:
            if client.proven:
                self._take(client, client.link.recv())
                return
            client.proven = is_of_this_run(client.link)
            if client.proven:
                client.tell("hello", self.unusable)
                return
        except (EOFError, OSError):  # it has ended: nothing of it is wanted any more
            pass
        except Exception as error:
            client.tell("warning", f"the process that renders cannot read a message ({type(error).__name__}: {error})")
        del self.clients[client.link]
        client.close()
        self.waiting = deque(each for each in self.waiting if each[0] is not client)

    def _take(self, client: _Client, message: Any) -> None:
        if isinstance(message, MemoryNote):
            descriptor = reduction.recv_handle(client.link)
            self.kept.drop((client, message.slot))
            client.memory[message.slot] = _mapped(descriptor, message.size)
            os.close(descriptor)
        else:
            self.waiting.append((client, message))

    def _next_batch(self) -> list[Waiting]:
        """The first scenes that wait, all of one kind; one that must be alone is."""
        batch: list[Waiting] = []
        while self.waiting and len(batch) < self.settings.batch:
            request = self.waiting[0][1]
            if batch and (request.alone or request.alike != batch[0][1].alike):
                break
            batch.append(self.waiting.popleft())
            if request.alone:
                break
        return batch

    def _start(self, batch: list[Waiting]) -> "Flight | None":
        """Send a batch to the device; None if that failed, and is answered."""
        for client in {client for client, _ in batch}:
            numbers = [request.number for one, request in batch if one is client]
            client.tell("begun", numbers, batch[0][1].alone)
        try:
            with _time_limit(self.settings.seconds):
                return batch, self._begin(batch)
        except BaseException as raised:
            self._failed(batch, raised)
            return None

    def _land(self, flight: "Flight") -> None:
        """Wait for the pictures of a batch, and answer."""
        batch, fetch = flight
        try:
            with _time_limit(self.settings.seconds):
                for (client, request), made in zip(batch, fetch(), strict=True):
                    shapes, kind = RESULTS[request.wanted]
                    places = result_arrays(client.memory[request.slot], request.scene, shapes, kind)
                    for there, picture in zip(places, made, strict=True):
                        if picture is not None:
                            there[...] = picture
        except BaseException as raised:
            self._failed(batch, raised)
            return
        for client, request in batch:
            client.tell("done", request.number)
        self.answered()
        for text in self.warnings.take():
            batch[0][0].tell("warning", text)

    def _failed(self, batch: list[Waiting], raised: BaseException) -> None:
        """Answer for a batch that failed; of several scenes each is made again, to see whose fault it is."""
        error = user_error(raised)
        if is_fatal_to_worker(error):
            batch[0][0].tell("warning", f"the process that renders: {error or type(error).__name__}")
            os._exit(OUT_OF_MEMORY if isinstance(error, MemoryError) else DEVICE_LOST)
        if len(batch) == 1:
            batch[0][0].tell("failed", batch[0][1].number, picklable_error(error))
            self.answered()
            return
        for one in batch:
            if (flight := self._start([one])) is not None:
                self._land(flight)

    def _begin(self, batch: list[Waiting]) -> "Callable[[], list[tuple[Any, Any]]]":
        """Begin what is wanted of scenes that all want the same; None for what nothing asks for here (`is_lazy`)."""
        scenes, wanted, samples = [client.scene(request) for client, request in batch], *batch[0][1].alike
        if wanted == "coverage":
            device = self.settings.device
            return lambda: [(o.color, o.coverage) for o in (render_output(scene, device, samples) for scene in scenes)]
        codes = self.settings.codes if wanted == "codes" else None
        fetch = begin_batch(scenes, self.settings.device, codes)

        def pictures() -> list[tuple[Any, Any]]:
            if codes is not None:
                return [(each.bokeh_by(codes.encode), each.all_in_focus_by(codes.encode)) for each in fetch()]
            pairs = zip(fetch(), scenes, strict=True)
            return [(None if is_lazy(scene) else each.bokeh, each.all_in_focus) for each, scene in pairs]

        return pictures


def _mapped(descriptor: int, size: int) -> SharedMemory:
    """The memory that another process made; where it cannot be mapped, this process ends for want of memory."""
    try:
        return SharedMemory(descriptor, size)
    except OSError:
        os._exit(OUT_OF_MEMORY)


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """End this process, from a thread that no lock of Python's holds up, if the block takes longer."""
    faulthandler.dump_traceback_later(seconds, exit=True, file=2)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


class _Collector(logging.Handler):
    """Keeps warnings until they can be sent."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the message."""
        self._texts.append(record.getMessage())

    def take(self) -> list[str]:
        """What came since the last call."""
        found, self._texts = self._texts, []
        return found

"""A worker's side of the process that renders: hands it scenes, and waits for their pictures.

When that process ends, the next one gets what was still waited for: scenes that it had not begun as they were, those of
the batch that it was rendering one by one. A scene over which it ended twice, alone, is what ends it: then this worker
ends, too, as if the device were its own, and the crash log says which samples it was making.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from bokehsynth.errors import DeviceError
from bokehsynth.generation.render_messages import RESULTS, SceneRequest
from bokehsynth.generation.scene_slot import SceneSlot
from bokehsynth.generation.shared_scene import result_arrays
from bokehsynth.rendering import Scene, frames_made_elsewhere
from bokehsynth.rendering.frames import Frames
from bokehsynth.rendering.types import CodeTable, RenderInput, RenderOutput
from bokehsynth.workers.companion import connect

LOG = logging.getLogger(__name__)

SIGN_SECONDS = 2.0
"""Between two signs of life of a worker that waits for the process that renders."""

MOST_LOST = 50
"""Connections that may end in a row before a scene was begun: then it is what is sent that cannot be read."""

LOSSES = 2
"""Ends of that process over one scene, rendered alone, that make the scene what ends it."""

RETRY_SECONDS = 0.1
"""Pause before a connection is tried again."""

Alive = Callable[[], None]
"""Called again and again while a worker waits by no fault of its own."""


@dataclass(eq=False)
class _Request:
    """A scene that is waited for."""

    slot: SceneSlot
    message: SceneRequest
    sent: bool = False
    begun: bool = False
    begun_alone: bool = False
    losses: int = 0
    unbegun: int = 0
    """Connections in a row that ended before it was begun."""

    def results(self) -> "Iterator[np.ndarray[Any, Any]]":
        """The pictures, in the slot's memory."""
        assert self.slot.memory is not None
        return result_arrays(self.slot.memory, self.message.scene, *RESULTS[self.message.wanted])


class RenderClient:
    """The connection of this process to the one that renders; several threads may use it, one at a time."""

    def __init__(self) -> None:
        self._link: Connection[Any, Any] | None = None
        self._slots: list[SceneSlot] = []
        self._count = 0
        self._turn = threading.Lock()
        self._blamed = False
        """Whether what is waited for is a scene over which a process ended, so that no thread may say it is alive."""

    def prepare(self, alive: Alive = lambda: None) -> None:
        """Wait until there is a process that renders; raise what keeps it from that."""
        try:
            with self._in_turn(alive):
                self._connect(alive)
        except DeviceError as error:
            error.lost = False  # to that process: this one is sound, and another one would be told the same
            raise

    def render(
        self, scenes: Sequence[Scene], codes: CodeTable | None, alive: Alive = lambda: None, suspect: bool = False
    ) -> list[Frames]:
        """Do as `rendering.render_batch` does. DeviceError with `lost` set if a scene ends the process that renders.

        A `suspect` scene is rendered alone from the start, and the first end over it is its fault.
        """
        inputs = [RenderInput(tuple(scene.layers), scene.lens, int(scene.margin)) for scene in scenes]
        made = self._ask(inputs, "linear" if codes is None else "codes", alive, suspect=suspect)
        encode = None if codes is None else codes.encode
        output = partial(self._output, alive=alive, suspect=suspect)  # in any thread, as long as the frames are used
        return [
            frames_made_elsewhere(scene, pictures, encode, output) for scene, pictures in zip(inputs, made, strict=True)
        ]

    def _output(
        self, scene: RenderInput, samples: int | None, alive: Alive = lambda: None, suspect: bool = False
    ) -> RenderOutput:
        """`rendering.render_output` there, for what `Frames` asks beyond the pictures that are made already."""
        ((color, coverage),) = self._ask([scene], "coverage", alive, samples, suspect)
        return RenderOutput(color, coverage)

    @contextmanager
    def _in_turn(self, alive: Alive) -> Iterator[None]:
        """Wait for the other threads; what they wait for is no fault of this one's, unless a scene is to blame."""
        while not self._turn.acquire(timeout=SIGN_SECONDS):
            if not self._blamed:
                alive()
        try:
            yield
        finally:
            self._blamed = False
            self._turn.release()

    def _ask(
        self,
        scenes: Sequence[RenderInput],
        wanted: str,
        alive: Alive,
        samples: int | None = None,
        suspect: bool = False,
    ) -> "list[list[np.ndarray[Any, Any]]]":
        with self._in_turn(alive):
            requests = [self._request(scene, slot, wanted, samples) for scene, slot in self._placed(scenes)]
            if suspect:
                for request in requests:
                    request.message, request.losses = request.message._replace(alone=True), LOSSES - 1
            waiting = {request.message.number: request for request in requests}
            failures: list[Exception] = []
            try:
                while waiting:
                    try:
                        self._exchange(waiting, failures, alive)
                    except (EOFError, OSError):
                        self._lost(waiting)
            except BaseException:
                self._hang_up()  # what is still on its way belongs to nothing
                raise
            if failures:
                raise failures[0]
            return [[array.copy() for array in request.results()] for request in requests]

    def _placed(self, scenes: Sequence[RenderInput]) -> list[tuple[RenderInput, SceneSlot]]:
        """A slot for each scene: the one that holds its layers already, else the one that was used longest ago."""
        while len(self._slots) < len(scenes):
            self._slots.append(SceneSlot(len(self._slots)))
        free = list(self._slots)
        found: dict[int, SceneSlot] = {}
        for number, scene in enumerate(scenes):
            slot = next((slot for slot in free if slot.holds(scene)), None)
            if slot is not None:
                found[number] = slot
                free.remove(slot)
        for number in range(len(scenes)):
            if number not in found:
                found[number] = free.pop(0)
        used = list(found.values())
        self._slots = [slot for slot in self._slots if slot not in used] + used
        return [(scene, found[number]) for number, scene in enumerate(scenes)]

    def _request(self, scene: RenderInput, slot: SceneSlot, wanted: str, samples: int | None) -> _Request:
        self._count += 1
        try:
            there = slot.put(scene, wanted)
        except MemoryError as error:
            LOG.warning("%s", error)  # this process ends, and could not say it later
            raise
        return _Request(slot, SceneRequest(self._count, slot.number, slot.generation, there, wanted, samples, False))

    def _exchange(self, waiting: dict[int, _Request], failures: list[Exception], alive: Alive) -> None:
        """Send what is not sent yet, and take one message. EOFError or OSError if the process that renders ended."""
        link = self._connect(alive)
        for request in waiting.values():
            if not request.sent:
                request.slot.announce(link)
                link.send(request.message)
                request.sent = True
        kind, *values = self._receive(link, waiting.values(), alive)
        if kind == "begun":
            numbers, alone = values
            for number in numbers:
                waiting[number].begun, waiting[number].begun_alone = True, alone
        elif kind == "done":
            del waiting[values[0]]
        elif kind == "failed":
            del waiting[values[0]]
            failures.append(values[1])
        else:
            LOG.warning("%s", values[0])

    def _receive(self, link: "Connection[Any, Any]", waiting: Any, alive: Alive) -> Any:
        """The next message. A scene over which a process ended has to come within this worker's own time limit."""
        self._blamed = any(request.begun_alone and request.losses for request in waiting)
        while not link.poll(SIGN_SECONDS):
            if not self._blamed:
                alive()
        return link.recv()

    def _connect(self, alive: Alive) -> "Connection[Any, Any]":
        """The connection, once the process at its other end is ready; raises what that process failed with."""
        while self._link is None:
            try:
                link = connect()
                _, unusable = self._receive(link, (), alive)
            except (EOFError, OSError):
                alive()
                time.sleep(RETRY_SECONDS)
                continue
            if unusable is not None:
                link.close()
                raise unusable
            self._link = link
        return self._link

    def _lost(self, waiting: dict[int, _Request]) -> None:
        """Get ready to ask another process for what is waited for; a lost DeviceError if that ended two of them."""
        self._hang_up()
        LOG.warning("the process that renders has ended; the next one makes what it had not finished")
        for request in waiting.values():
            request.losses += request.begun_alone
            request.unbegun = 0 if request.begun else request.unbegun + 1
            if request.losses == LOSSES:
                raise _lost_device("a scene ended the process that renders again and again, rendered alone")
            if request.unbegun == MOST_LOST:
                raise _lost_device(f"the process that renders ended {MOST_LOST} times before it began a scene")
            request.message = request.message._replace(alone=request.message.alone or request.begun)
            request.sent = request.begun = request.begun_alone = False

    def _hang_up(self) -> None:
        if self._link is not None:
            self._link.close()
        self._link = None
        for slot in self._slots:
            slot.announced = False


def _lost_device(message: str) -> DeviceError:
    """What ends this worker as if its own device had failed."""
    error = DeviceError(message)
    error.lost = True
    return error


@lru_cache(maxsize=1)
def the_client() -> RenderClient:
    """The client of this process."""
    return RenderClient()

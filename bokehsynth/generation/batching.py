"""How many samples a worker has in the making: one, or so many that a device need not wait for the CPU.

With a window of one, a sample is made from its first step to its last in the caller's thread, then the next. With a
wider one, each sample of the window has a thread, which runs the same code; where that comes to the shot, it hands its
scene over and waits. The caller's thread photographs what has been handed over, as much at a time as is there.
"""

import threading
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

from bokehsynth.errors import DeviceError
from bokehsynth.rendering import Scene
from bokehsynth.rendering.frames import Frames

T = TypeVar("T")
Photographer = Callable[[Sequence[Scene]], list[Frames]]
"""`render.render_batch` for a device: frames of each scene, which do not depend on the others."""

LARGEST_BATCH = 16
BATCH_PIXELS = LARGEST_BATCH * 512 * 512
"""Pixels of the pictures of one batch: larger pictures fill a device in smaller numbers."""


@dataclass(frozen=True)
class Flow:
    """How a worker makes its samples; no byte depends on it."""

    window: int = 1
    """Samples in the making at a time."""
    batch: int = 1
    """Scenes that are photographed together, at most."""
    threads: int = 1
    """Threads that compute at a time, besides the one that photographs."""

    @classmethod
    def for_device(cls, threads: int, pixels: int) -> "Flow":
        """Enough to keep a device busy: all threads at work, a batch on the device, and another one waiting.

        Few threads fill no large batch: a picture takes them a hundred times as long as it takes a device.
        """
        batch = max(1, min(LARGEST_BATCH, BATCH_PIXELS // pixels, 4 * threads))
        return cls(window=threads + 2 * batch, batch=batch, threads=threads)


class _ClosedError(BaseException):
    """Ends a thread whose sample nobody waits for any more; not an Exception, which would be taken for the sample's."""


class Line(Generic[T]):
    """Makes things in order, through a window; used once."""

    def __init__(self, flow: Flow, photographer: Photographer) -> None:
        self.flow = flow
        self._photographer = photographer
        self._asked: SimpleQueue[tuple[Scene, Future[Frames]] | None] = SimpleQueue()
        """Scenes that wait for their shot, and a None whenever something was finished."""
        self._ahead: deque[Future[T]] = deque()
        self._computing = threading.Semaphore(flow.threads)
        self._closing = threading.Lock()
        self._closed = False

    @property
    def ready(self) -> bool:
        """Whether the next one is made already."""
        return bool(self._ahead) and self._ahead[0].done()

    def run(
        self, make: Callable[[int], T], indexes: range, begin: Callable[[range], None] = lambda making: None
    ) -> Generator[T, None, None]:
        """`make(index)` of each index, in order. `make` calls `photograph`; what it raises is raised in its turn.

        `begin(making)` is called before anything of a sample is done, with all indexes that are then in the making.
        Close the iterator if it is not used up: the threads end at their next shot.
        """
        if self.flow.window == 1:
            for index in indexes:
                begin(range(index, index + 1))
                yield make(index)
            return
        pool = ThreadPoolExecutor(self.flow.window, "making")
        try:
            for index in indexes:
                making = range(index, min(index + self.flow.window, indexes.stop))
                begin(making)
                for new in making[len(self._ahead) :]:
                    self._ahead.append(pool.submit(self._make, make, new))
                    self._ahead[-1].add_done_callback(lambda _: self._asked.put(None))
                self._photograph_until(self._ahead[0])
                yield self._ahead.popleft().result()
        finally:
            self._close()
            pool.shutdown(cancel_futures=True)

    def photograph(self, scene: Scene) -> Frames:
        """The frames of a scene: at once in a window of one, else with those of other threads, while this one waits."""
        if self.flow.window == 1:
            return self._photographer([scene])[0]
        shot: Future[Frames] = Future()
        with self._closing:
            if self._closed:
                raise _ClosedError
            self._asked.put((scene, shot))
        self._computing.release()
        try:
            return shot.result()
        finally:
            self._computing.acquire()

    def _make(self, make: Callable[[int], T], index: int) -> T:
        with self._computing:
            return make(index)

    def _photograph_until(self, wanted: "Future[T]") -> None:
        """Photograph whatever is handed over until `wanted` is made."""
        while not wanted.done():
            first = self._asked.get()
            batch = [] if first is None else [first]
            while len(batch) < self.flow.batch and (more := self._next()) is not None:
                batch.append(more)
            try:
                self._shoot(batch)
            finally:
                for _, shot in batch:
                    if not shot.done():  # the camera was left by an interrupt: nobody else would tell who waits
                        shot.set_exception(_ClosedError())

    def _next(self) -> "tuple[Scene, Future[Frames]] | None":
        """The next scene that waits, if there is one."""
        while True:
            try:
                found = self._asked.get_nowait()
            except Empty:
                return None
            if found is not None:
                return found

    def _shoot(self, batch: "list[tuple[Scene, Future[Frames]]]") -> None:
        if not batch:
            return
        try:
            frames = self._photographer([scene for scene, _ in batch])
        except DeviceError as error:
            for _, shot in batch:
                shot.set_exception(error)
        except Exception as error:
            if len(batch) == 1:
                batch[0][1].set_exception(error)
            else:
                for alone in batch:  # to see whose fault it is
                    self._shoot([alone])
        else:
            for (_, shot), made in zip(batch, frames, strict=True):
                shot.set_result(made)

    def _close(self) -> None:
        with self._closing:
            self._closed = True
        while (waiting := self._next()) is not None:
            waiting[1].set_exception(_ClosedError())

"""Makes samples in order through a window, and renders those in flight in batches, so that a GPU need not wait.

With a window of one, a sample is made from its first step to its last in the caller's thread, then the next. With a
wider one, each sample of the window has a thread, which runs the same code; where that comes to rendering, it queues
its scene and waits. The caller's thread renders what is queued, as much at a time as is there.
"""

import threading
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

from bokehsynth.errors import DeviceError, user_error
from bokehsynth.rendering import Scene
from bokehsynth.rendering.frames import Frames

T = TypeVar("T")
BatchRenderer = Callable[[Sequence[Scene]], list[Frames]]
"""`rendering.render_batch` for a device: frames of each scene, which do not depend on the others."""

LARGEST_BATCH = 16
BATCH_PIXELS = LARGEST_BATCH * 512 * 512
"""Pixels of the pictures of one batch: larger pictures fill a device in smaller numbers."""


@dataclass(frozen=True)
class BatchOptions:
    """How a worker makes its samples; no byte depends on it."""

    window: int = 1
    """Samples in flight at a time."""
    batch: int = 1
    """Scenes that are rendered together, at most."""
    threads: int = 1
    """Threads that compute at a time, besides the one that renders."""

    @classmethod
    def for_device(cls, threads: int, pixels: int) -> "BatchOptions":
        """Enough to keep a device busy: all threads at work, a batch on the device, and another one waiting.

        Few threads fill no large batch: a picture takes them a hundred times as long as it takes a device.
        """
        batch = max(1, min(LARGEST_BATCH, BATCH_PIXELS // pixels, 4 * threads))
        return cls(window=threads + 2 * batch, batch=batch, threads=threads)

    @classmethod
    def served(cls, pixels: int) -> "BatchOptions":
        """Options of a worker that only composes, while another process renders one or two of its scenes."""
        batch = 2 if 2 * pixels <= BATCH_PIXELS else 1
        return cls(window=1 + 2 * batch, batch=batch, threads=1)


def batch_of_all(workers: int, pixels: int) -> int:
    """Scenes that a process renders together that does so for so many workers."""
    return max(1, min(LARGEST_BATCH, BATCH_PIXELS // pixels, 2 * workers))


class _ClosedError(BaseException):
    """Ends a thread whose sample is no longer wanted; not an Exception, which would be taken for the sample's."""


class RenderQueue(Generic[T]):
    """Makes things in order, through a window; used once."""

    def __init__(self, options: BatchOptions, render_batch: BatchRenderer) -> None:
        self.options = options
        self._renderer = render_batch
        self._requests: SimpleQueue[tuple[Scene, Future[Frames]] | None] = SimpleQueue()
        """Scenes that wait to be rendered, and a None whenever something was finished."""
        self._in_flight: deque[Future[T]] = deque()
        self._computing = threading.Semaphore(options.threads)
        self._closing = threading.Lock()
        self._closed = False

    @property
    def ready(self) -> bool:
        """Whether the next one is made already."""
        return bool(self._in_flight) and self._in_flight[0].done()

    def run(
        self, make: Callable[[int], T], indexes: range, begin: Callable[[range], None] = lambda in_flight: None
    ) -> Generator[T, None, None]:
        """Yield `make(index)` of each index, in order. `make` calls `render`; what it raises is raised in its turn.

        `begin(in_flight)` is called before anything of a sample is done, with all indexes that are then in flight.
        Close the iterator if it is not used up: the threads end at their next rendering.
        """
        if self.options.window == 1:
            for index in indexes:
                begin(range(index, index + 1))
                yield make(index)
            return
        pool = ThreadPoolExecutor(self.options.window, "samples")
        try:
            for index in indexes:
                in_flight = range(index, min(index + self.options.window, indexes.stop))
                begin(in_flight)
                for new in in_flight[len(self._in_flight) :]:
                    self._in_flight.append(pool.submit(self._make, make, new))
                    self._in_flight[-1].add_done_callback(lambda _: self._requests.put(None))
                self._render_until(self._in_flight[0])
                yield self._in_flight.popleft().result()
        finally:
            with self._closing:
                self._closed = True
            while (waiting := self._next()) is not None:
                waiting[1].set_exception(_ClosedError())
            pool.shutdown(cancel_futures=True)

    def render(self, scene: Scene) -> Frames:
        """The frames of a scene: at once in a window of one, else with those of other threads, while this one waits."""
        if self.options.window == 1:
            return self._renderer([scene])[0]
        frames: Future[Frames] = Future()
        with self._closing:
            if self._closed:
                raise _ClosedError
            self._requests.put((scene, frames))
        self._computing.release()
        try:
            return frames.result()
        finally:
            self._computing.acquire()

    def _make(self, make: Callable[[int], T], index: int) -> T:
        with self._computing:
            return make(index)

    def _render_until(self, wanted: "Future[T]") -> None:
        """Render what is queued until `wanted` is made."""
        while not wanted.done():
            first = self._requests.get()
            batch = [] if first is None else [first]
            while len(batch) < self.options.batch and (more := self._next()) is not None:
                batch.append(more)
            try:
                self._render_batch(batch)
            finally:
                for _, frames in batch:
                    if not frames.done():  # rendering was interrupted: nothing else would wake the threads that wait
                        frames.set_exception(_ClosedError())

    def _next(self) -> "tuple[Scene, Future[Frames]] | None":
        """The next scene that waits, if there is one."""
        while True:
            try:
                found = self._requests.get_nowait()
            except Empty:
                return None
            if found is not None:
                return found

    def _render_batch(self, batch: "list[tuple[Scene, Future[Frames]]]") -> None:
        if not batch:
            return
        try:
            rendered = self._renderer([scene for scene, _ in batch])
        except DeviceError as error:
            for _, frames in batch:
                frames.set_exception(error)
        except BaseException as raised:
            failure = user_error(raised)
            if len(batch) == 1:
                batch[0][1].set_exception(failure)
            else:
                for request in batch:  # each by itself, to see which scene fails
                    self._render_batch([request])
        else:
            for (_, frames), made in zip(batch, rendered, strict=True):
                frames.set_result(made)

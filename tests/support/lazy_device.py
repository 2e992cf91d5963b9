"""A device whose streams run as late, and in as bad an order, as CUDA allows: what is not waited for comes too soon."""

import ctypes
import weakref
from collections import deque
from contextlib import contextmanager

import numpy as np

from support.kernels_on_cpu import HostDevice

FREED = 0xEE


class Event:
    """Comes when its stream gets to it."""

    def __init__(self, stream):
        self.stream, self.come = stream, False

    def __call__(self):
        self.come = True


class LazyDevice(HostDevice):
    """Kernels on the host, in streams.

    What is asked of one waits until something is fetched from the device; then the other streams go first, as far as no
    event holds them up, or wait on, as `others_first` says. Memory that is given back is written over by whatever its
    stream does next, as a pool of memory per stream has it.
    """

    def __init__(self, library):
        super().__init__(library)
        self.streams, self.current, self.owners, self.others_first = [], None, [], True

    def new_stream(self):
        self.streams.append(deque())
        return self.streams[-1]

    @contextmanager
    def on(self, stream):
        before, self.current = self.current, stream
        try:
            yield
        finally:
            self.current = before

    def record(self, stream):
        event = Event(stream)
        stream.append(event)
        return event

    def wait(self, stream, event):
        stream.append(lambda: None if event.come else self._run(event.stream, event))

    def _run(self, stream, until=None):
        """Do what a stream has to do, up to an event at most."""
        while stream and (until is None or not until.come):
            stream.popleft()()

    def _ask(self, stream, step):
        if stream is None:  # the null stream waits for all others
            for each in self.streams:
                self._run(each)
            step()
        else:
            stream.append(step)

    def zeros(self, shape, dtype):
        array = self.empty(shape, dtype)
        address, size = array.ctypes.data, array.nbytes
        self._ask(self.current, lambda: ctypes.memset(address, 0, size))
        return array

    def empty(self, shape, dtype):
        owner = np.zeros(shape, dtype)
        owner.view(np.uint8).fill(0xA5)
        self.owners.append(owner)  # so that whoever comes too late reads no memory of others
        array = owner.view()
        address, size, stream = owner.ctypes.data, owner.nbytes, self.current
        weakref.finalize(array, lambda: self._ask(stream, lambda: ctypes.memset(address, FREED, size)))
        return array

    def put(self, array):
        copy, taken = self.empty(array.shape, array.dtype), np.ascontiguousarray(array).copy()
        address = copy.ctypes.data
        self._ask(self.current, lambda: ctypes.memmove(address, taken.ctypes.data, taken.nbytes))
        return copy

    def launch(self, kernel, grid, block, table):
        address, run = table.ctypes.data, getattr(self.compiled, f"launch_{kernel}")
        sizes = (ctypes.c_uint * 3)(*grid), (ctypes.c_uint * 3)(*block)
        self._ask(self.current, lambda: run(ctypes.c_void_p(address), *sizes))

    def get(self, array):
        for stream in self.streams:
            if stream is not self.current and self.others_first:
                self._run(stream)
        if self.current is not None:
            self._run(self.current)
        return array.copy()

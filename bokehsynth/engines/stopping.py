"""Being told to stop: once, at a moment when it can be done cleanly, and never forgotten."""

import contextlib
import signal
import types
from collections.abc import Iterator

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stopped(BaseException):
    """SIGTERM or SIGINT, raised in the main thread so that workers are ended on the way out."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class _State:
    received: int | None = None
    held = False


_state = _State()


@contextlib.contextmanager
def stop_on_signals() -> Iterator[None]:
    """Within the block the first SIGTERM or SIGINT raises Stopped; what comes while stopping is ignored."""
    before = {number: signal.signal(number, _receive) for number in SIGNALS}
    _state.received = None
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """Signals wait until the block ends: a compiler interrupted in a callback swallows the exception, or hangs."""
    _state.held = True
    try:
        yield
    finally:
        _state.held = False
    check()


def check() -> None:
    """Raise Stopped if a signal has come: also one whose exception got lost in somebody's callback."""
    if _state.received is not None:
        raise Stopped(_state.received)


def _receive(number: int, frame: types.FrameType | None) -> None:
    first = _state.received is None
    if first:
        _state.received = number
    if first and not _state.held:
        raise Stopped(number)

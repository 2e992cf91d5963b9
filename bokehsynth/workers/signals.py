"""SIGTERM and SIGINT: the first one stops cleanly, the second one at once."""

import contextlib
import os
import signal
import time
import types
from collections.abc import Iterator

SIGNALS = (signal.SIGTERM, signal.SIGINT)

DEBOUNCE_SECONDS = 0.1
"""Seconds within which signals count as one: `timeout` and launchers signal a process and then its group."""


class Stopped(BaseException):
    """SIGTERM or SIGINT, raised in the main thread so that workers are ended on the way out."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class _State:
    received: int | None = None
    since = 0.0
    deferred = 0
    exit_message = ""


_state = _State()


@contextlib.contextmanager
def stop_on_signals(exit_message: str = "") -> Iterator[None]:
    """Within the block the first SIGTERM or SIGINT raises Stopped, at once or where `defer_signals` ends.

    A second one ends this process on the spot, with `exit_message` on stderr and the exit code 128 + its number; the
    kernel ends its workers with it.
    """
    before = {number: signal.signal(number, _receive) for number in SIGNALS}
    _state.received, _state.exit_message = None, exit_message
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _state.received = None  # it has been acted upon, or came too late to be


@contextlib.contextmanager
def defer_signals() -> Iterator[None]:
    """Defer Stopped until the block ends well: work in flight is finished, a compiler is not interrupted in a callback
    (where the exception would be swallowed)."""
    _state.deferred += 1
    try:
        yield
    finally:
        _state.deferred -= 1
    check()


def stop_requested() -> bool:
    """Whether a signal has come that was not acted upon yet."""
    return _state.received is not None


def check() -> None:
    """Raise Stopped if a signal has come and no `defer_signals` block is open."""
    if _state.received is not None and not _state.deferred:
        raise Stopped(_state.received)


def _receive(number: int, frame: types.FrameType | None) -> None:
    if _state.received is None:
        _state.received, _state.since = number, time.monotonic()
        check()
    elif time.monotonic() - _state.since > DEBOUNCE_SECONDS:
        with contextlib.suppress(OSError):
            os.write(2, f"\n{_state.exit_message}\n".encode())
        os._exit(128 + number)

"""A process beside the workers: reached by a name, replaced when it ends, ended with the run."""

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator

import pytest

from bokehsynth.errors import BokehsynthError
from bokehsynth.workers.companion import Companion, CompanionProcess, accept, connect


def tell_pid(listener: socket.socket, ready: Callable[[], None]) -> None:
    """Tell whoever connects the number of this process."""
    ready()
    while True:
        link = accept(listener)
        assert link is not None
        link.send(os.getpid())


def end_at_once(listener: socket.socket, ready: Callable[[], None]) -> None:
    os._exit(7)


@pytest.fixture
def companion(monkeypatch: pytest.MonkeyPatch) -> Iterator[CompanionProcess]:
    made = CompanionProcess(Companion(tell_pid))
    for name, value in made.workers_environment.items():
        monkeypatch.setenv(name, value)
    yield made
    made.close()


def test_it_is_replaced_when_it_is_killed_and_who_connects_meanwhile_waits(companion: CompanionProcess) -> None:
    companion.tend()
    first = connect().recv()
    companion.tend()
    os.kill(first, signal.SIGKILL)
    assert companion._process is not None
    companion._process.join()  # what it had taken before would be lost with it
    link = connect()
    companion.tend()
    assert link.recv() != first


def test_it_ends_with_the_run_and_its_name_with_it(companion: CompanionProcess) -> None:
    companion.tend()
    pid = connect().recv()
    companion.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with pytest.raises(ConnectionRefusedError):
        connect()


def test_one_that_cannot_start_ends_the_run() -> None:
    made = CompanionProcess(Companion(end_at_once))

    def tend_for_ever() -> None:
        while True:
            made.tend()
            time.sleep(0.01)

    try:
        with pytest.raises(BokehsynthError, match="ended with code 7 while starting; its message stands above"):
            tend_for_ever()
    finally:
        made.close()


def test_connections_of_other_users_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind("\0bokehsynth-test-of-other-users")
    listener.listen()
    monkeypatch.setenv("BOKEHSYNTH_COMPANION", "bokehsynth-test-of-other-users")
    with connect(), listener, accept(listener) as ours:
        assert ours is not None
    listener = socket.socket(socket.AF_UNIX)
    listener.bind("\0bokehsynth-test-of-other-users")
    listener.listen()
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with connect() as theirs, listener:
        assert accept(listener) is None
        with pytest.raises(EOFError):
            theirs.recv()

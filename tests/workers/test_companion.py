"""A process beside the workers: reached by a name, replaced when it ends, ended with the run."""

import multiprocessing
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator

import pytest

from bokehsynth.errors import BokehsynthError
from bokehsynth.workers import companion as companions
from bokehsynth.workers.companion import Companion, CompanionProcess, accept, connect, is_of_this_run


def tell_pid(listener: socket.socket, ready: Callable[[], None]) -> None:
    """Tell whoever connects the number of this process."""
    ready()
    while True:
        link = accept(listener)
        assert link is not None
        link.send(os.getpid())


def end_at_once(listener: socket.socket, ready: Callable[[], None]) -> None:
    os._exit(7)


def end_when_ready(listener: socket.socket, ready: Callable[[], None]) -> None:
    ready()
    os._exit(137)


def never_be_ready(listener: socket.socket, ready: Callable[[], None]) -> None:
    time.sleep(1000)


def tend_until_it_raises(made: CompanionProcess, message: str) -> None:
    def tend_for_ever() -> None:
        while True:
            made.tend()
            time.sleep(0.01)

    try:
        with pytest.raises(BokehsynthError, match=message):
            tend_for_ever()
    finally:
        made.close()


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
    tend_until_it_raises(made, "ended with code 7 while starting; its message stands above")


def test_one_that_hangs_while_starting_is_ended_and_the_run_with_the_second() -> None:
    made = CompanionProcess(Companion(never_be_ready, starting=0.2))
    tend_until_it_raises(made, r"not ready after 0 s; does its device answer \(nvidia-smi\)\?")
    (warning,) = made.warnings
    assert warning.endswith("ended with signal SIGKILL: it was not ready after 0 s; another one is started")


def test_one_that_ends_before_it_has_served_is_told_of_and_not_replaced_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(companions, "MAX_FAILED_STARTS", 2)
    made = CompanionProcess(Companion(end_when_ready))
    tend_until_it_raises(made, "ended with out of memory, the last of 2 in a row that ended before they had served")
    assert made.warnings == ["the process that serves the workers ended with out of memory; another one is started"]


def test_ends_after_it_has_served_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    made = CompanionProcess(Companion(tell_pid))
    made._reports, ours = multiprocessing.Pipe(duplex=False)
    made._failures = 7
    ours.send(None)
    made._read_reports()
    assert (made._ready, made._failures) == (True, 7)
    ours.send(None)
    made._read_reports()
    assert made._failures == 0
    made.close()


def test_what_serves_often_says_so_once() -> None:
    """A run that does not listen would hold it up as soon as the pipe is full."""
    reports, theirs = multiprocessing.Pipe(duplex=False)
    companions._serve(lambda listener, ready: [ready() for _ in range(5)], None, theirs)  # type: ignore[arg-type]
    theirs.close()
    reports.recv()
    reports.recv()
    with pytest.raises(EOFError):
        reports.recv()


def test_who_does_not_know_the_key_is_a_stranger(monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"bokehsynth-test-of-keys-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"\0{name}")
        listener.listen()
        monkeypatch.setenv("BOKEHSYNTH_COMPANION", name)
        found = []
        for theirs in ("01" * 32, "02" * 32, "01" * 31):
            monkeypatch.setenv("BOKEHSYNTH_COMPANION_KEY", theirs)
            with connect():
                monkeypatch.setenv("BOKEHSYNTH_COMPANION_KEY", "01" * 32)
                with accept(listener) as link:  # type: ignore[union-attr]
                    found.append(is_of_this_run(link))
    assert found == [True, False, False]


def test_connections_that_cannot_be_taken_are_an_error() -> None:
    """What listens would else look again and again."""
    listener = socket.socket(socket.AF_UNIX)
    listener.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        accept(listener)


def test_connections_of_other_users_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind("\0bokehsynth-test-of-other-users")
    listener.listen()
    monkeypatch.setenv("BOKEHSYNTH_COMPANION", "bokehsynth-test-of-other-users")
    monkeypatch.setenv("BOKEHSYNTH_COMPANION_KEY", "01" * 32)
    with connect(), listener, accept(listener) as ours:
        assert ours is not None
    listener = socket.socket(socket.AF_UNIX)
    listener.bind("\0bokehsynth-test-of-other-users")
    listener.listen()
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with connect() as theirs, listener:
        assert accept(listener) is None
        with pytest.raises((EOFError, ConnectionResetError)):  # the latter where what it sent was not read
            theirs.recv()

"""What outlives a run with a Ray cluster of its own is ended: also when the run gets SIGKILL, and nothing else is."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bokehsynth.workers.ray_watchdog import end_cluster, processes_of, watched_cluster

LIVES_ON = 10.0
"""Seconds after which nothing of a killed run may be left."""

AGENT = """
import os, signal, sys, time
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
log = open(sys.argv[1], sys.argv[2])
print(os.getpid(), flush=True)
time.sleep(600)
"""
DRIVER_FILES = (
    "logs/events/event_CORE_WORKER_{}.log",
    "logs/export_events/event_EXPORT_TASK_{}.log",
    "logs/python-core-driver-01000000ffffffffffffffffffffffffffffffffffffffffffffffff_{}.log",
)
"""What a driver of Ray 2.60 has open to write below its cluster's folder, by its process id; a fork inherits them."""

RUN = f"""
import os, subprocess, sys, tempfile, time
from bokehsynth.workers.ray_watchdog import watched_cluster
folder = tempfile.mkdtemp(dir=sys.argv[1])
with watched_cluster(folder):
    log = os.path.join(folder, "agent_1.log")
    line = [sys.executable, "-c", {AGENT!r}, log, "w"]
    agent = subprocess.Popen(line, stdout=subprocess.PIPE, start_new_session=True)
    agent.stdout.readline()
    files = []
    for name in {DRIVER_FILES!r}:
        file = os.path.join(folder, name.format(os.getpid()))
        os.makedirs(os.path.dirname(file), exist_ok=True)
        files.append(open(file, "w"))
    if (child := os.fork()) == 0:
        os.setsid()
        if sys.argv[2] == "leaves":
            sys.exit()
        time.sleep(600)
    if sys.argv[2] == "leaves":
        os.waitpid(child, 0)
    print(agent.pid, os.getpid(), child, flush=True)
    sys.stdin.read(1)
"""


def start_agent(file: Path, mode: str) -> "subprocess.Popen[str]":
    process = subprocess.Popen([sys.executable, "-c", AGENT, file, mode], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    return process


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
    except OSError:
        return False


def start_run(folder: Path, child: str) -> "tuple[subprocess.Popen[str], list[int]]":
    """A run whose fork `stays` or `leaves` the block at once; its process, and the ids of agent, run and fork."""
    run = subprocess.Popen(
        [sys.executable, "-c", RUN, folder, child],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert run.stdout is not None
    return run, [int(word) for word in run.stdout.readline().split()]


@pytest.mark.parametrize("killed", [True, False])
def test_agents_of_a_run_end_with_it_and_its_folder_goes_but_what_it_has_forked_lives(
    tmp_path: Path, killed: bool
) -> None:
    """The whole group of the run is killed: the watchdog is no part of it, and the fork has all that the run had."""
    run, (agent, driver, fork) = start_run(tmp_path, "stays")
    try:
        (folder,) = tmp_path.iterdir()
        assert processes_of(str(folder), driver) == [agent]
        if killed:
            os.killpg(run.pid, signal.SIGTERM)
            os.killpg(run.pid, signal.SIGKILL)
        else:
            assert run.stdin is not None
            run.stdin.write(".")
            run.stdin.flush()
        run.wait()
        deadline = time.monotonic() + LIVES_ON
        while (lives(agent) or folder.exists()) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not folder.exists()
        assert not lives(agent)
        time.sleep(0.5)  # the watchdog looks again, when the names of the fork's files have gone
        assert lives(fork)
    finally:
        os.kill(fork, signal.SIGKILL)
        run.communicate()


def test_a_fork_that_leaves_the_block_ends_nothing(tmp_path: Path) -> None:
    run, (agent, _, _) = start_run(tmp_path, "leaves")
    assert lives(agent)
    assert list(tmp_path.iterdir())
    run.communicate(".")
    assert not lives(agent)


def test_a_run_that_ends_well_ends_its_agents_and_no_other_process(tmp_path: Path) -> None:
    """Neither one that reads their logs, nor another program that has joined the cluster, nor one of another folder."""
    folder, other = tmp_path / "cluster", tmp_path / "cluster2"
    folder.mkdir()
    other.mkdir()
    (folder / "agent.log").touch()
    spared = []
    try:
        with watched_cluster(str(folder)):
            agent = start_agent(folder / "agent.log", "a")
            spared += [
                start_agent(folder / "agent.log", "r"),
                start_agent(folder / "python-core-driver-01_7.log", "w"),
                start_agent(other / "agent.log", "w"),
            ]
        assert agent.wait(timeout=LIVES_ON) == -signal.SIGKILL
        assert not folder.exists()
        time.sleep(0.1)
        assert [process.poll() for process in spared] == [None, None, None]
    finally:
        for process in spared:
            process.kill()
            process.communicate()
        agent.communicate()


def test_a_process_that_ends_while_its_files_are_looked_at_is_not_killed_by_its_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number may be another process's by then."""
    agent, kill, by_number = start_agent(tmp_path / "agent.log", "w"), os.kill, []

    def ends_meanwhile(pid: int, folder: str, driver: int) -> bool:
        if pid == agent.pid:
            kill(pid, signal.SIGKILL)
            agent.communicate()
        return pid == agent.pid

    monkeypatch.setattr("bokehsynth.workers.ray_watchdog._is_of", ends_meanwhile)
    monkeypatch.setattr("os.kill", lambda *call: by_number.append(call))
    assert not end_cluster(str(tmp_path), os.getpid())
    assert not by_number


def test_where_the_kernel_has_no_pidfd_agents_end_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("os.pidfd_open")
    agent = start_agent(tmp_path / "agent.log", "w")
    assert end_cluster(str(tmp_path), os.getpid())
    agent.communicate()
    assert agent.returncode == -signal.SIGKILL

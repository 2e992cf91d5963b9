"""What outlives a run with a Ray cluster of its own is ended: also when the run gets SIGKILL, and nothing else is."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from bokehsynth.workers.ray_watchdog import processes_of, watched_cluster

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
RUN = f"""
import os, subprocess, sys, tempfile
from bokehsynth.workers.ray_watchdog import watched_cluster
folder = tempfile.mkdtemp(dir=sys.argv[1])
with watched_cluster(folder):
    log = os.path.join(folder, "agent.log")
    subprocess.Popen([sys.executable, "-c", {AGENT!r}, log, "w"], start_new_session=True)
    sys.stdin.read(1)
"""


def start_agent(file: Path, mode: str) -> "subprocess.Popen[str]":
    process = subprocess.Popen([sys.executable, "-c", AGENT, file, mode], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    return process


def test_agents_of_a_run_that_was_killed_end_and_their_folder_goes(tmp_path: Path) -> None:
    """The whole group of the run is killed: the watchdog is no part of it."""
    run = subprocess.Popen(
        [sys.executable, "-c", RUN, tmp_path],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert run.stdout is not None
    agent = int(run.stdout.readline())
    (folder,) = tmp_path.iterdir()
    assert processes_of(str(folder)) == [agent]
    os.killpg(run.pid, signal.SIGTERM)
    os.killpg(run.pid, signal.SIGKILL)
    run.communicate()
    deadline = time.monotonic() + LIVES_ON
    while (processes_of(str(folder)) or folder.exists()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not folder.exists()
    assert not processes_of(str(folder))


def test_a_run_that_ends_well_ends_its_agents_and_no_other_process(tmp_path: Path) -> None:
    """Neither one that reads their logs, nor one that has inherited the run's own, nor one of another folder."""
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

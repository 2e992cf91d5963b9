"""Runs in Ray clusters, and what happens to them: nodes that die, samples that kill, the driver killed, signals.

Whatever happens, the bytes are those of an undisturbed local run, and nothing lives on after ten seconds.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import HERE, assert_same, ended, events, kill, markers, quarantine, run, start, torn_shards, until
from support.bucket_trees import tree
from support.ray_clusters import ray_cluster
from support.s3_server import make_bucket, variables

from bokehsynth.stores import ObjectPath

pytestmark = [pytest.mark.long, pytest.mark.timeout(1200)]

LIVES_ON = 10.0
"""Seconds after which no process of a run may be left."""

FORKS = """
import os, sys, time
from bokehsynth.workers.ray_cluster import connected
with connected("local", 1, 0) as ray:
    assert ray.get(ray.remote(lambda: 3).remote()) == 3
    if (child := os.fork()) == 0:
        os.setsid()
        time.sleep(600)
    print(child, flush=True)
    sys.stdin.read(1)
"""
"""A program with a cluster of its own that has forked, as loaders of samples and servers do."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Three nodes of one CPU each, on which every sample takes its time."""
    with ray_cluster(3, PYTHONPATH=str(HERE), FAULT="slow:0.4") as made:
        yield made


def living(mark: str) -> list[int]:
    """The processes whose environment holds a mark."""
    found = []
    for place in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark.encode() in place.read_bytes():
                found.append(int(place.parent.name))
        except OSError:
            continue
    return found


def assert_none_lives(mark: str) -> None:
    deadline = time.monotonic() + LIVES_ON
    while (left := living(mark)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not left, [(Path(f"/proc/{pid}/cmdline").read_bytes()) for pid in left]


def everything() -> dict[int, tuple[int, str]]:
    """Parent and time of start of all processes."""
    found = {}
    for place in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = place.read_text().rpartition(")")[2].split()
            found[int(place.parent.name)] = (int(fields[1]), fields[19])
    return found


def family(root: int) -> set[tuple[int, str]]:
    """A process and all that it has started, each with the time of its start: titles of Ray's hide their marks."""
    stats, found = everything(), {root}
    while more := {pid for pid, (parent, _) in stats.items() if parent in found} - found:
        found |= more
    return {(pid, stats[pid][1]) for pid in found}


def worker_processes() -> set[tuple[int, str]]:
    """Those of runs in clusters of this test, which are no children of a run that joined one."""
    started = {pid: start for pid, (_, start) in everything().items()}
    found = set()
    for pid in living(str(HERE)):
        with contextlib.suppress(OSError):
            if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes() and pid in started:
                found.add((pid, started[pid]))
    return found


def test_a_node_that_is_killed_costs_time_and_no_byte(cluster: Any, recipe: Path, clean: Path, tmp_path: Path) -> None:
    out = tmp_path / "set"
    node = cluster.add_node(num_cpus=1, num_gpus=0, object_store_memory=80 << 20)
    process = start("generate", recipe, "--out", out, "--engine", "ray", "--ray-address", cluster.address)
    until(lambda: len(list(out.glob(".bokehsynth/tmp/*.crashes"))) >= 4, process)  # all four have a shard
    cluster.remove_node(node, allow_graceful=False)
    words = ended(process)
    assert process.returncode == 0, words
    deaths = events(out, "died")
    assert [(death["cause"], death["counted"]) for death in deaths] == [("the end of its Ray worker or node", False)]
    assert_same(out, clean)
    assert "Traceback" not in words
    assert "ray" not in words.lower(), "Ray's own noise"


def test_a_sample_that_kills_is_found_alone(
    recipe: Path, clean: Path, victim: tuple[str, int, float], tmp_path: Path
) -> None:
    """In a cluster of the run's own; the list is that of the local engine."""
    out, local, mark = tmp_path / "set", tmp_path / "local", uuid.uuid4().hex
    fault = f"kill:{victim[2]}"
    done = run("generate", recipe, "--out", out, "--engine", "ray", "--workers", 2, FAULT=fault, MARK=mark)
    assert done.returncode == 3, done.stderr
    entry = quarantine(out)
    assert [(e["split"], e["index"], e["reason"]) for e in entry] == [(victim[0], victim[1], "killed")]
    assert len(events(out, "died")) == 3 + 5
    assert_none_lives(mark)
    assert run("generate", recipe, "--out", local, "--workers", 2, FAULT=fault).returncode == 3
    assert_same(out, local)


@pytest.mark.parametrize("own", [True, False])
def test_a_driver_that_is_killed_leaves_no_worker_and_goes_on(
    own: bool, cluster: Any, recipe: Path, clean: Path, tmp_path: Path
) -> None:
    out, mark = tmp_path / "set", uuid.uuid4().hex
    where = ("--workers", 2) if own else ("--ray-address", cluster.address)
    line = ("generate", recipe, "--out", out, "--engine", "ray", *where)
    process = start(*line, FAULT="slow:0.4", MARK=mark)
    until(lambda: markers(out) and list(out.glob(".bokehsynth/tmp/*.crashes")), process)
    started = family(process.pid) | worker_processes()
    assert len(started) > (9 if own else 1), "the run, its workers, and what else it has started"
    kill(process.pid)
    ended(process)
    time.sleep(LIVES_ON)
    assert not started & {(pid, start) for pid, (_, start) in everything().items()}
    assert torn_shards(out) == []
    written = {path: path.stat().st_mtime_ns for path in out.rglob("*.crashes")}
    time.sleep(1)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.crashes")} == written, "a worker lives on"
    mark = uuid.uuid4().hex
    again = run(*line, MARK=mark)
    assert again.returncode == 0, again.stderr
    assert_same(out, clean)
    assert_none_lives(mark)


def test_a_driver_that_is_killed_goes_on_in_a_bucket(
    s3_port: int, recipe: Path, clean: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = uuid.uuid4().hex
    for name, value in variables(s3_port).items():
        monkeypatch.setenv(name, value)
    make_bucket(s3_port, "driver")
    place = ObjectPath.from_url("s3://driver/set")
    line = ("generate", recipe, "--out", place, "--engine", "ray", "--workers", 2)
    process = start(*line, FAULT="slow:0.4", MARK=mark)
    until((place / ".bokehsynth" / "train").is_dir, process)
    started = family(process.pid)
    kill(process.pid)
    ended(process)
    time.sleep(LIVES_ON)
    assert not started & {(pid, start) for pid, (_, start) in everything().items()}
    again = run(*line, MARK=mark)
    assert again.returncode == 0, again.stderr
    assert tree(place) == tree(clean)
    assert_none_lives(mark)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_lets_shards_in_flight_end(
    number: signal.Signals, code: int, recipe: Path, clean: Path, tmp_path: Path
) -> None:
    """Ctrl-C reaches the whole group, hence also what the run has started."""
    out, mark = tmp_path / "set", uuid.uuid4().hex
    process = start("generate", recipe, "--out", out, "--engine", "ray", "--workers", 1, FAULT="slow:0.5", MARK=mark)
    until((out / ".bokehsynth/tmp/train-000001.crashes").exists, process)
    (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
    words = ended(process)
    assert process.returncode == code, words
    assert 2 <= len(markers(out)) < 5, "the shard in flight is finished, and no other begun"
    assert not events(out, "died")
    assert "To go on: bokehsynth generate" in words
    assert_none_lives(mark)
    assert run("generate", recipe, "--out", out, "--workers", 2).returncode == 0
    assert_same(out, clean)


@pytest.mark.parametrize("killed", [True, False])
def test_what_a_program_has_forked_lives_on_and_its_cluster_does_not(killed: bool) -> None:
    program = subprocess.Popen(
        [sys.executable, "-c", FORKS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert program.stdin is not None
    assert program.stdout is not None
    child = int(program.stdout.readline())
    try:
        started = {process for process in family(program.pid) if process[0] != child}
        birth = everything()[child][1]
        assert len(started) > 6, "the program, and what it has started"
        if killed:
            kill(program.pid)
        else:
            program.stdin.write(".")
            program.stdin.flush()
        program.wait()
        time.sleep(LIVES_ON)
        living = {(pid, start) for pid, (_, start) in everything().items()}
        assert not started & living
        assert (child, birth) in living
    finally:
        os.kill(child, signal.SIGKILL)
        program.communicate()

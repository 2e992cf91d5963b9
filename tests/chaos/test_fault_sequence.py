"""One folder, one fault after the other, and in the end the bytes of a run where nothing happened.

What the other files of this folder try one by one (`pytest -m long tests/chaos`).
"""

import errno
import os
import shlex
import signal
from pathlib import Path

import pytest
from harness import (
    assert_same,
    being_written,
    ended,
    events,
    kill,
    markers,
    run,
    start,
    torn_shards,
    until,
    wait_for_end,
    workers,
    writing,
)


@pytest.mark.long
def test_faults_one_after_the_other(
    recipe: Path, clean: Path, shim: Path, victim: tuple[str, int, float], tmp_path: Path
) -> None:
    out = tmp_path / "a set"
    line = ("generate", recipe, "--out", out, "--workers", 1)

    # The quota is found to be exceeded when a shard that was written well is closed.
    fail = f"close:{errno.EDQUOT}:train-000000.tar.tmp-"
    done = run(*line, LD_PRELOAD=shim, FAIL=fail)
    assert done.returncode == 4, done.stderr
    assert os.strerror(errno.EDQUOT) in done.stderr
    assert "disk full: needed about " in done.stderr
    assert not markers(out)
    assert not being_written(out)

    # SIGKILL of the run while one worker is stopped: no process is left.
    process = start("generate", recipe, "--out", out, "--workers", 2, FAULT="slow:1")
    until(lambda: being_written(out) and len(workers(process.pid)) == 2, process)
    kill(workers(process.pid)[0], signal.SIGSTOP)
    kill(process.pid)
    ended(process)
    wait_for_end(process.pid, seconds=5)
    assert torn_shards(out) == []

    # A second run starts meanwhile; then the whole process group gets SIGTERM.
    process = start(*line, "--grace", 1, FAULT="slow:4")
    until(lambda: writing(out, process.pid), process)
    second = run(*line)
    assert second.returncode == 5, second.stderr
    assert f"process {process.pid} on " in second.stderr
    os.killpg(process.pid, signal.SIGTERM)
    words = ended(process)
    assert process.returncode == 143, words
    assert events(out, "stopped")[-1]["message"] == "SIGTERM"
    assert torn_shards(out) == []
    arguments = shlex.split(words.rpartition("To go on: ")[2].splitlines()[0])
    assert arguments[0] == "bokehsynth"
    wait_for_end(process.pid)
    assert len(markers(out)) < 3

    # The line that it said, under a clock that jumps by a day, its log and its words into the void; one worker is
    # killed, another stops.
    (out / "logs/events.jsonl").unlink()
    (out / "logs/events.jsonl").symlink_to("/dev/full")
    process = start(*arguments[1:], "--workers", 2, "--time-limit", 5, LD_PRELOAD=shim, JUMP=86400, FAULT="slow:0.2")
    assert process.stdout is not None
    process.stdout.close()
    until(lambda: len(workers(process.pid)) == 2 and being_written(out), process)
    kill(workers(process.pid)[0])
    kill(workers(process.pid)[-1], signal.SIGSTOP)
    assert process.stderr is not None
    words = process.stderr.read()
    assert process.wait() == 0, words
    assert words.count("goes on without its log") == 1
    assert_same(out, clean)

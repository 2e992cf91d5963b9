"""Running the installed command and doing things to it from outside."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from support.promised import promised_files, torn_shards

HERE = Path(__file__).parent
COMMAND = str(Path(sys.executable).with_name("bokehsynth"))

RECIPE = """\
name: chaos
seed: 68
samples: {train: 10, val: 2}
size: [48, 64]
scene: {foregrounds: 1, blur: {kind: uniform, low: 100, high: 120}, blur_is: largest_radius}
degradation: ["chaos_faults:Fault"]
shards: {samples: 3}
"""

TIMEOUT = 1100
"""Seconds until a test gives a run up: far more than any needs, on any machine. (pytest's own limit is the shorter one
but for tests that are marked with a longer one.)"""


def environment(**more: object) -> dict[str, str]:
    """This environment with the user's class on PYTHONPATH, and `more`."""
    return {**os.environ, "PYTHONPATH": str(HERE), "NUMBA_NUM_THREADS": "1", **{k: str(v) for k, v in more.items()}}


def run(*arguments: object, prefix: "tuple[object, ...]" = (), **more: object) -> "subprocess.CompletedProcess[str]":
    """Run `bokehsynth arguments` to its end; `more` goes into the environment."""
    return subprocess.run(
        [*map(str, prefix), COMMAND, *map(str, arguments)],
        capture_output=True, text=True, check=False, env=environment(**more), timeout=TIMEOUT, errors="replace",
    )  # fmt: skip


def start(*arguments: object, stdout=subprocess.PIPE, **more: object) -> "subprocess.Popen[str]":
    """Start `bokehsynth arguments` in a session of its own."""
    return subprocess.Popen(
        [COMMAND, *map(str, arguments)], start_new_session=True, stdout=stdout, stderr=subprocess.PIPE, text=True,
        env=environment(**more), errors="replace",
    )  # fmt: skip


def ended(process: "subprocess.Popen[str]") -> str:
    """Wait for the end; what it said on stderr."""
    return process.communicate(timeout=TIMEOUT)[1]


def until(condition: Callable[[], object], process: "subprocess.Popen[str]") -> None:
    """Wait for something to become true while the process runs."""
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert process.poll() is None, ended(process)
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.005)


def crash_logs(out: Path) -> str:
    """The text of all crash logs now; one may be deleted while it is read."""
    words = []
    for path in out.glob(".bokehsynth/tmp/*.crashes"):
        with contextlib.suppress(FileNotFoundError):
            words.append(path.read_text())
    return "\n".join(words)


def markers(out: Path) -> list[Path]:
    return sorted(out.glob(".bokehsynth/*/*.done.json"))


def being_written(out: Path) -> list[Path]:
    return [path for path in out.glob(".bokehsynth/tmp/*.tmp-*") if path.exists() and path.stat().st_size > 0]


def writing(out: Path, group: int) -> list[int]:
    """The workers of a run that have a shard begun on disk; what dead ones left does not count."""
    names = [path.name for path in out.glob(".bokehsynth/tmp/*.tmp-*")]
    return [pid for pid in workers(group) if any(f".tmp-{pid}-" in name for name in names)]


def processes(group: int) -> "Iterator[tuple[int, int, bytes]]":
    """(pid, parent, command line) of the living processes of a group."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[2]) == group and fields[0] != "Z":
                yield int(stat.parent.name), int(fields[1]), (stat.parent / "cmdline").read_bytes()
        except OSError:
            continue


def workers(group: int) -> list[int]:
    """The worker processes of a run (multiprocessing's resource tracker is another child)."""
    return [pid for pid, _, words in processes(group) if b"spawn_main" in words]


def wait_for_end(group: int, seconds: float = 30) -> None:
    """Every process of the group ends by itself."""
    deadline = time.monotonic() + seconds
    while (left := list(processes(group))) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not left


def kill(pid: int, number: int = signal.SIGKILL) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def events(out: Path, kind: str) -> list[dict]:
    lines = (out / "logs/events.jsonl").read_text().splitlines()
    return [event for event in map(json.loads, lines) if event["event"] == kind]


def assert_same(out: Path, clean: Path) -> None:
    """The promised files of `out` are those of `clean`, and nothing of a dead writer is left."""
    assert promised_files(out) == promised_files(clean)
    assert torn_shards(out) == []
    assert not being_written(out)
    assert not list(out.glob(".bokehsynth/tmp/*"))


def quarantine(out: Path) -> list[dict]:
    path = out / "quarantine.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def namespace() -> "list[str] | None":
    """The command that gives a process mounts of its own, or None where that is not allowed."""
    for command in (["unshare", "-m"], ["unshare", "-Urm"]):
        if (
            shutil.which("unshare")
            and subprocess.run([*command, "true"], check=False, capture_output=True).returncode == 0
        ):
            return command
    return None


def with_mounts(script: str, *arguments: object, **more: object) -> "subprocess.CompletedProcess[str]":
    """Run a shell script that may mount file systems; they are gone afterwards. $BOKEHSYNTH is the command."""
    command = namespace()
    assert command
    return subprocess.run(
        [*command, "bash", "-c", script, "bash", *map(str, arguments)], capture_output=True, text=True, check=False,
        env=environment(BOKEHSYNTH=COMMAND, **more), timeout=TIMEOUT, errors="replace",
    )  # fmt: skip

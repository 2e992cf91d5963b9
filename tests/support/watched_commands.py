"""Commands run one after the other in a process that watches: exit code, words, time, memory, what they touch."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_SCRIPT = """
import contextlib, io, json, os, sys, time
allowed = sys.argv[1].split(os.pathsep)
seen = []

def inside(path):
    real = os.path.realpath(os.fsdecode(path))
    compiled = "/__pycache__" in real
    return compiled or any(real == folder or real.startswith(folder + os.sep) for folder in allowed)

def watch(event, given):
    if not watching:
        return
    if event == "exec" and not inside_python(getattr(given[0], "co_filename", "<>")):
        seen.append(f"exec {given[0].co_filename}")
    elif event == "import" and given[0].startswith("stranger"):
        seen.append(f"import {given[0]}")
    elif event == "open" and isinstance(given[0], (str, bytes)):
        writes = given[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND) if given[2] else 0
        if writes and os.fsdecode(given[0]) != os.devnull and not inside(given[0]):
            seen.append(f"open {given[0]!r} {given[1]} {given[2]}")
    elif event in ("os.remove", "os.rename", "os.rmdir", "os.link", "os.symlink", "os.chmod", "os.chown", "os.mkdir",
                   "os.truncate", "os.utime"):
        first = 1 if event in ("os.link", "os.symlink") else 0  # the place that is made, not the one that it is made of
        for path in given[first:2 if event in ("os.rename", "os.link", "os.symlink") else 1]:
            if isinstance(path, int):
                continue  # a file that was opened
            place = os.path.abspath(os.fsdecode(path))  # a link itself, not where it leads
            if not inside(os.path.dirname(place)) and "/__pycache__" not in place:
                seen.append(f"{event} {path!r}")
    elif event in ("os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen", "pty.spawn",
                   "socket.connect", "socket.bind", "webbrowser.open", "shutil.rmtree"):
        seen.append(f"{event} {given[:1]!r}")

python = tuple({os.path.realpath(path) for path in [sys.prefix, sys.base_prefix, sys.argv[2], *sys.path] if path})

def inside_python(name):
    return name.startswith("<") or os.path.realpath(name).startswith(python)

watching = False
sys.addaudithook(watch)
import bokehsynth as bs
from bokehsynth.cli import main
import bokehsynth.generation.verify, bokehsynth.generation.extend, bokehsynth.generation.replay, cv2, PIL.Image

def read(folder):
    try:
        for sample in bs.open_dataset(folder):
            sample.arrays
        return 0
    except bs.BokehsynthError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code

def peak_memory():
    # Bytes. Not ru_maxrss, which begins with the peak of the process that started this one.
    status = open("/proc/self/status").read()
    return int(status.partition("VmHWM:")[2].split()[0]) << 10


for line in sys.stdin:
    arguments = json.loads(line)
    out, err = io.StringIO(), io.StringIO()
    seen.clear()
    begun, watching = time.monotonic(), True
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            if arguments[0] == "open":
                code = read(arguments[1])
            else:
                sys.argv = ["bokehsynth", *arguments]
                main()
                code = "returned"
        except SystemExit as end:
            code = end.code
        except BaseException as error:
            code = f"{type(error).__name__}: {error}"[:300]
    watching = False
    memory = peak_memory()
    row = [code, out.getvalue(), err.getvalue(), list(seen), time.monotonic() - begun, memory]
    print(json.dumps(row), file=sys.__stdout__, flush=True)
"""


@dataclass(frozen=True)
class Watched:
    """What one command did."""

    code: int | str
    """The exit code, or what came out instead of one."""
    out: str
    err: str
    touched: list[str]
    """Audit events that no command may cause by a stranger's files: code, processes, files outside."""
    seconds: float
    memory: int
    """Peak of the process so far, bytes."""


def watch_commands(lines: Sequence[Sequence[object]], allowed: Sequence[Path], timeout: float = 600) -> list[Watched]:
    """Run `bokehsynth line` for each of the lines, or read a set for a line `open FOLDER`, all in one process.

    Files may be written below `allowed` only.
    """
    root = Path(__file__).parents[2]
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, os.pathsep.join(os.path.realpath(path) for path in allowed), str(root)],
        input="".join(json.dumps([str(word) for word in line]) + "\n" for line in lines),
        env=environment, capture_output=True, text=True, check=False, timeout=timeout, errors="replace",
    )  # fmt: skip
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    assert len(rows) == len(lines), f"{lines[len(rows)]} ended the process: {done.returncode} {done.stderr[-2000:]}"
    return [Watched(*row) for row in rows]

"""The day there is a GPU, in one command: every check and measurement that needs one, within a budget of seconds.

    python benchmarks/gpu_session.py --out DIR --budget 530 [--only STAGE]... [--dry [--break STAGE=HOW]...]

Each stage is a process group of its own with a limit, a log and a result; `summary.json` is written anew after each, so
that what was found survives whatever ends the session. A stage begins only if what it is expected to take is left of
the budget; where it fails, a smaller one that stands in its place is tried. Needs the standard library alone: a stage
whose imports are missing fails by itself. `docs/gpu.md` says what else to carry to a bare machine.

`--dry` rehearses on a machine without a GPU: the kernels compiled for the host, toy networks, stand-ins for NVIDIA's
tools. `--break` makes a stage `exit`, `hang` or write `garbage` there.

Exit code 0: every stage did its work; 3: some were left out or replaced; 1: some failed; 130 or 143 after a signal.
"""

import argparse
import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PACKING = 3.0
"""Seconds kept for the report and the archive of logs."""
GRACE = 2.0
"""Seconds between SIGTERM and SIGKILL to a stage that is over its limit."""
KILLED = 4.0
"""Seconds after SIGKILL until a process is given up: one that sleeps in the driver never ends."""


@dataclass(frozen=True)
class Stage:
    """One process of the session; times in seconds."""

    name: str
    command: tuple[str, ...]
    expected: float
    """What it should take: with less left of the budget it is not begun."""
    limit: float
    """What it may take."""
    fallback: tuple[str, ...] = ()
    """Tried once, where the command fails."""
    environment: dict[str, str] = field(default_factory=dict)
    fallback_limit: float | None = None
    """What the fallback may take, where that is not `limit`."""


@dataclass
class Outcome:
    """What became of a stage."""

    name: str
    status: str
    """done, fallback, failed, timeout, unreadable (its result is no JSON), skipped (no time left)."""
    seconds: float = 0.0
    exit_code: int | None = None
    result: Any = None
    note: str = ""
    before: Any = None
    """What a stage had found before its fallback was taken."""


def real_stages() -> list[Stage]:
    """The stages on a GPU, most wanted first."""
    tests = ("-m", "pytest", "-o", "addopts=", "-q", "-m", "gpu or kernels", "--require-gpu")
    gpu = ("tests/cuda/test_cuda_gpu.py",)
    own = ("-m", "benchmarks.gpu_stages")
    checks = "; ".join(
        f"compute-sanitizer --error-exitcode 9 --tool {tool} {shlex.quote(sys.executable)} "
        f'{shlex.join([*tests, "-n0", *gpu, "-k", "sanitizer"])} & jobs="$jobs $!"'
        for tool in ("memcheck", "racecheck", "initcheck", "synccheck")
    )
    wait = 'bad=0; for job in $jobs; do wait "$job" || bad=1; done; exit $bad'
    python = sys.executable
    return [
        Stage("probe", (python, *own, "probe"), 8, 40, (python, *own, "imports")),
        Stage("bits", (python, *tests, "-n", "8", "--dist", "load", *gpu, "-k", "not sanitizer and not agreement"),
              45, 110, (python, *tests, "-n0", "-x", *gpu, "-k", "brute_force")),
        Stage("clocks", (python, *own, "clocks"), 70, 130, (python, *own, "clocks", "--rows", "2")),
        Stage("sanitizer", ("bash", "-c", f"{checks}; {wait}"), 60, 120),
        Stage("profiler", ("bash", "-c", 'ncu --clock-control none --set full -k "regex:add_control|composite_tiles|'
              f'plan_tiles|fold_rays" -c 8 -f -o "$OUT/ncu" {shlex.quote(python)} -m benchmarks.gpu_stages frame && '
              'ncu -i "$OUT/ncu.ncu-rep" --page raw --csv > "$OUT/ncu.csv"'), 40, 80, (python, *own, "frame")),
        Stage("networks", (python, *own, "networks"), 80, 140, (python, *own, "attention")),
        Stage("agreement", (python, *tests, "-n", "12", "--dist", "load", *gpu, "tests/cuda/test_cuda_pictures.py",
              "-k", "agreement or cuda_pictures"), 40, 90),
        Stage("generator", (python, *own, "generator"), 50, 90, (python, *own, "generator", "--rows", "8")),
        Stage("memory", (python, *own, "memory"), 15, 30),
    ]  # fmt: skip


def dry_stages(broken: dict[str, str]) -> list[Stage]:
    """The same ones at toy size, on the CPU; some broken on purpose."""
    small = ("-m", "pytest", "-o", "addopts=", "-q", "-n0", "-p", "support.gpu_stand_in", "tests/cuda/test_cuda_gpu.py")
    tests = {"bits": "brute_force_too and tilted", "agreement": "a_batch_is_each_alone"}
    found = []
    for stage in real_stages():
        command = (sys.executable, *small, "-k", tests[stage.name]) if stage.name in tests else stage.command
        fallback = (sys.executable, *small, "-k", tests[stage.name]) if stage.name in tests else stage.fallback
        if stage.name == "sanitizer":
            command = ("compute-sanitizer", "--tool", "memcheck", sys.executable, "-c", "print('no kernel was run')")
        how = broken.get(stage.name)
        command = command if how is None else (sys.executable, "-m", "benchmarks.gpu_stages", how)
        limit = 3 if how == "hang" else 300  # 134 s of `networks` were seen on a loaded machine
        found.append(Stage(stage.name, command, 2, limit, fallback, {"GPU_SESSION_DRY": "1"}, fallback_limit=120))
    return found


class Session:
    """Runs stages one after the other and keeps the account of them."""

    def __init__(self, out: Path, budget: float, environment: dict[str, str] | None = None) -> None:
        self.out, self.budget, self.environment = out, budget, environment or {}
        self.started = time.monotonic()
        self.outcomes: list[Outcome] = []
        self._running: subprocess.Popen[bytes] | None = None
        (out / "logs").mkdir(parents=True, exist_ok=True)

    @property
    def left(self) -> float:
        """Seconds of the budget that stages may still take, so that one that does not end by itself can be ended."""
        return self.budget - PACKING - GRACE - (time.monotonic() - self.started)

    def run(self, stages: Sequence[Stage]) -> int:
        """Run all stages that the budget allows; returns the exit code."""
        for stage in stages:
            outcome = self._attempt(stage, stage.command, stage.name, stage.limit)
            if outcome.status not in {"done", "skipped"} and stage.fallback and self._running is None:
                limit = stage.limit if stage.fallback_limit is None else stage.fallback_limit
                instead = self._attempt(stage, stage.fallback, f"{stage.name}-fallback", limit)
                outcome.note = f"fallback: {instead.status}"
                if instead.status == "done":
                    outcome.before, outcome.status, outcome.result = outcome.result, "fallback", instead.result
                outcome.seconds += instead.seconds
            self.outcomes.append(outcome)
            self.write()
            if self._running is not None:
                outcome.note = "its process could not be ended: the driver holds it, and no other stage is run"
                self.write()
                return 1
        return exit_code(self.outcomes)

    def _attempt(self, stage: Stage, command: Sequence[str], name: str, limit: float) -> Outcome:
        if self.left < stage.expected:
            return Outcome(stage.name, "skipped", note=f"{self.left:.0f} s left, {stage.expected:.0f} needed")
        result = self.out / "logs" / f"{name}.json"
        result.unlink(missing_ok=True)
        environment = {**os.environ, **self.environment, **stage.environment}
        environment |= {"OUT": str(self.out), "RESULT": str(result), "PYTHONUNBUFFERED": "1"}
        paths = [str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")]
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
        begun = time.monotonic()
        with (self.out / "logs" / f"{name}.log").open("wb") as log:
            log.write(f"$ {shlex.join(command)}\n".encode())
            log.flush()
            try:
                self._running = subprocess.Popen(
                    command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                    start_new_session=True,
                )  # fmt: skip
            except OSError as error:
                return Outcome(stage.name, "failed", note=str(error))
            code, timed_out = self._wait(min(limit, self.left))
        outcome = Outcome(stage.name, "done", round(time.monotonic() - begun, 2), code)
        outcome.status = "timeout" if timed_out else "done" if code == 0 else "failed"
        if result.is_file():  # also of one that failed: it writes after each row
            try:
                outcome.result = json.loads(result.read_text("utf-8"))
            except ValueError as error:
                outcome.status, outcome.note = "unreadable", str(error)
        return outcome

    def _wait(self, limit: float) -> tuple[int, bool]:
        """Exit code of the running stage, and whether it had to be ended; nothing of its group is left."""
        process = self._running
        assert process is not None
        timed_out = False
        try:
            process.wait(limit)
        except subprocess.TimeoutExpired:
            timed_out = True
            self._signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(GRACE)
        self._signal(signal.SIGKILL)  # what it left behind, too
        try:
            code = process.wait(KILLED)
        except subprocess.TimeoutExpired:  # a process that sleeps in the driver
            return -signal.SIGKILL, True
        self._running = None
        return code, timed_out

    def _signal(self, number: int) -> None:
        if self._running is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._running.pid, number)

    def stop(self, number: int, _: Any) -> None:
        """End with what was found so far: a handler of signals."""
        self._signal(signal.SIGKILL)
        self.write(f"ended by {signal.Signals(number).name}")
        os._exit(128 + number)

    def write(self, note: str = "") -> None:
        """Write `summary.json` and `report.md` of the stages so far."""
        seconds = round(time.monotonic() - self.started, 1)
        summary = {
            "seconds": seconds,
            "budget": self.budget,
            "note": note,
            "stages": [asdict(o) for o in self.outcomes],
        }
        for name, text in (("summary.json", json.dumps(summary, indent=1) + "\n"), ("report.md", report(summary))):
            (self.out / f".{name}").write_text(text, "utf-8")
            (self.out / f".{name}").replace(self.out / name)

    def pack(self) -> None:
        """Put the logs into one archive."""
        with tarfile.open(self.out / "logs.tar.gz", "w:gz") as archive:
            archive.add(self.out / "logs", "logs")
        shutil.rmtree(self.out / "logs")


def exit_code(outcomes: Sequence[Outcome]) -> int:
    """0 where all is done, 3 where something was left out or replaced, 1 where something failed."""
    found = {outcome.status for outcome in outcomes}
    return 1 if found & {"failed", "timeout", "unreadable"} else 3 if found & {"skipped", "fallback"} else 0


PREDICTED = {
    "32 near": 0.30, "32 middle": 0.13, "32 far": 0.33, "16 near": 0.14, "16 middle": 0.08, "16 far": 0.13,
    "8 near": 0.07, "8 middle": 0.04, "8 far": 0.11, "2 near": 0.04, "2 middle": 0.03, "2 far": 0.07,
}  # fmt: skip
"""Milliseconds of composite_tiles and the ray kernels a frame of 512 px, in batches of 16, that `benchmarks.gpu_model`
predicts of an H200 from the compiled kernels' instructions."""


def report(summary: dict[str, Any]) -> str:
    """The page: what became of the stages, then what they found."""
    lines = ["# GPU session", "", f"{summary['seconds']} s of {summary['budget']:g}. {summary['note']}".strip(), ""]
    lines += ["| stage | status | s | exit code | note |", "|---|---|---|---|---|"]
    for each in summary["stages"]:
        cells = [each["name"], each["status"], f"{each['seconds']:g}", str(each["exit_code"]), each["note"]]
        lines.append("| " + " | ".join(cells) + " |")
    for each in summary["stages"]:
        if each.get("before") is not None:
            lines += [
                "",
                f"## {each['name']}, before its fallback",
                "",
                "```",
                json.dumps(each["before"], indent=1),
                "```",
            ]
        if each["result"] is None:
            continue
        lines += ["", f"## {each['name']}", ""]
        if each["name"] == "clocks" and isinstance(each["result"], dict):
            lines += _clock_lines(each["result"])
        else:
            lines += ["```", json.dumps(each["result"], indent=1), "```"]
    return "\n".join(lines) + "\n"


def _clock_lines(result: dict[str, Any]) -> list[str]:
    rows = [row for row in result.get("rows", []) if isinstance(row, dict)]
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = ["| K, focus | predicted 16 | " + " | ".join(names) + " |", "|---" * (len(names) + 2) + "|"]
    for row in rows:
        key = str(row.get("scene", ""))
        predicted = PREDICTED.get(key, "")
        lines.append(f"| {key} | {predicted} | " + " | ".join(str(row.get(name, "")) for name in names) + " |")
    return lines


STAND_IN = """#!/bin/bash
# In place of {tool}: runs the Python of its command line, if there is one.
while [ $# -gt 0 ] && [[ "$1" != *python* ]]; do shift; done
[ $# -gt 0 ] && exec "$@"
echo "{tool} stand-in"
"""


def put_stand_ins(folder: Path) -> None:
    """Programs with the names of NVIDIA's, for a dry run."""
    folder.mkdir(parents=True, exist_ok=True)
    for tool in ("nvidia-smi", "ncu", "compute-sanitizer"):
        (folder / tool).write_text(STAND_IN.format(tool=tool))
        (folder / tool).chmod(0o755)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the session that the command line asks for."""
    parser = argparse.ArgumentParser(description="Everything that needs a GPU, within a budget.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--budget", type=float, required=True, help="seconds")
    parser.add_argument("--only", action="append", default=[], metavar="STAGE")
    parser.add_argument("--dry", action="store_true")
    parser.add_argument("--break", dest="broken", action="append", default=[], metavar="STAGE=HOW")
    given = parser.parse_args(arguments)
    if given.broken and not given.dry:
        parser.error("--break belongs to --dry")
    stages = dry_stages(dict(each.split("=", 1) for each in given.broken)) if given.dry else real_stages()
    unknown = set(given.only) - {stage.name for stage in stages}
    if unknown:
        parser.error(f"no stage {', '.join(sorted(unknown))}; there are {', '.join(stage.name for stage in stages)}")
    environment = {}
    if given.dry:
        put_stand_ins(given.out.resolve() / "logs" / "stand-ins")
        environment["PATH"] = f"{given.out.resolve() / 'logs' / 'stand-ins'}{os.pathsep}{os.environ.get('PATH', '')}"
    session = Session(given.out.resolve(), given.budget, environment)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, session.stop)
    code = session.run([stage for stage in stages if not given.only or stage.name in given.only])
    session.pack()
    session.write()
    print((session.out / "report.md").read_text("utf-8"))
    return code


if __name__ == "__main__":
    sys.exit(main())

"""The n-th system call of a kind fails, for n = 1, 2, ... until a run passes.

    LD_PRELOAD=shim.so python fault_sweep.py FOLDER [I/N [CASE ...]]

Each run is the command line in a fork of this process, whose workers are forks, too: the calls are the same, and the
imports are done once. One line of JSON per fault that ended in another way than it may, and a last line that counts
them. With I/N only every N-th fault is tried, beginning with the I-th from 0; with CASEs only theirs. `train` is
`magicbokeh train`: what it promises are its weights, optimiser, records and summary.
"""

import contextlib
import errno
import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import sys
import time
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from support.promised import promised_files, torn_shards

from bokehsynth.cli import main
from bokehsynth.workers import supervisor, worker
from magicbokeh.cli import main as magic_main

RECIPE = """\
name: sweep
seed: 5
samples: {train: 2, val: 0}
size: [24, 32]
scene: {foregrounds: 1, blur: {kind: uniform, low: 1, high: 2}}
degradation: none
shards: {samples: 1, fields: [hq, defocus]}
"""

TRAIN = """\
name: sweep
seed: 5
model: {preset: toy, block_out_channels: [8, 8], heads: [1, 0], layers_per_block: 1, norm_groups: 4,
  vae_block_out_channels: [4, 4, 4], vae_layers_per_block: 1, vae_norm_groups: 4, map_channels: [4, 4, 4],
  sr_rank: 2, bokeh_rank: 2}
data: {source: {shards: SHARDS}, workers: 0, corruption: {}}
stages: [{stage: sr, steps: 2, batch: 1, lr: 1e-3, loss: {perceptual: edges}}]
compute: {threads: 1, device: cpu}
validation: {every: 1, samples: 1}
checkpoints: {every: 1, last: 1}
log_every: 1
"""

ERRNOS = {
    "write": "ENOSPC EIO EDQUOT ESTALE EINTR",
    "short": "ENOSPC",
    "fsync": "EIO ENOSPC EDQUOT ESTALE EINVAL EINTR",
    "rename": "ENOSPC EIO EROFS ESTALE EXDEV",
    "renamed": "ENOENT",
    "mkdir": "ENOSPC EIO EROFS EMLINK",
    "unlink": "EIO EROFS ESTALE",
    "create": "ENOSPC EIO EROFS EMFILE ESTALE EACCES EINTR",
    "read": "EIO EMFILE ESTALE EACCES EINTR",
    "lock": "ENOLCK EIO EACCES ESTALE ENOSYS EINTR",
}
"""By kinds of calls, in the order in which the shim counts them."""

CODES = {"read": {0, 1, 2, 4}}
"""Exit codes that a fault may end in; all others 0 (it did no harm) or 4. What cannot be read may be damage as well."""

TIMEOUT = 120
"""Seconds after which a run counts as hanging."""


PROGRAMS = {"bokehsynth": main, "magicbokeh": magic_main}


def trained_files(run: Path) -> dict[str, str]:
    """Relative path -> sha256 of everything of a training run but its sheets and TensorBoard's curves."""
    paths = [run / "recipe.yaml", run / "run.json", run / "summary.json", *sorted(run.glob("checkpoints/**/*"))]
    return {
        str(path.relative_to(run)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths if path.is_file()
    }


@dataclass(frozen=True)
class Case:
    """A command line, what it begins with, what it is followed by, and what it must make."""

    name: str
    line: tuple[str, ...]
    begin: Callable[[Path], None]
    then: tuple[tuple[str, ...], ...]
    codes: tuple[int, ...]
    """Exit codes of the line without a fault, and where it is run again after one."""
    program: str = "bokehsynth"
    again: tuple[str, ...] = ()
    """What is added to the line where it is run again."""

    def files(self, out: Path) -> dict[str, str]:
        """The hashes of what the command promises to make."""
        return promised_files(out) if self.program == "bokehsynth" else trained_files(out)

    def commands(self) -> list[tuple[tuple[str, ...], tuple[int, ...]]]:
        """What mends a fault: the lines, with the exit codes that they may have."""
        return [((*self.line, *self.again), self.codes), *((line, (0,)) for line in self.then)]


def run(line: tuple[str, ...], words: Path, nth: str = "", program: str = "bokehsynth") -> int:
    """Run a command line in a fork; its exit code, negative where a signal ended it."""
    pid = os.fork()
    if pid == 0:
        handle = os.open(words, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        if program == "bokehsynth":  # it says nothing but the error; a training reports its steps at stdout
            os.dup2(handle, 1)
        else:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(handle, 2)
        os.setsid()
        os.environ["NTH"] = nth
        sys.argv = [program, *line]
        code = 99
        try:
            PROGRAMS[program]()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 98
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    deadline = time.monotonic() + TIMEOUT
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            os.killpg(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return -signal.SIGALRM
        time.sleep(0.002)


class Sweep:
    """The faults of one folder."""

    def __init__(self, folder: Path) -> None:
        self.out, self.words, self.counter = folder / "set", folder / "words", folder / "count"
        self.folder = folder
        self.faults = self.harmless = 0
        self.bad: list[dict[str, object]] = []

    def warm_up(self) -> None:
        """Run the commands in this process once, so that forks find every module imported."""
        (self.folder / "sweep.yaml").write_text(RECIPE)
        out = str(self.folder / "warm")
        all_fields = (
            "--set",
            "samples.val=1",
            "--set",
            "size=64",
            "--set",
            "shards.fields=[lq, aif, hq, defocus, disparity]",
        )
        for line in (
            ("generate", str(self.folder / "sweep.yaml"), "--out", out, "--workers", "1", "--quiet", *all_fields),
            ("verify", out),
            ("extend", out, "--samples", "3", "--workers", "1", "--quiet"), ("finalize", out),
        ):  # fmt: skip
            sys.argv = ["bokehsynth", *line]
            with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.suppress(SystemExit):
                main()
        self.warm_up_training(Path(out))

    def warm_up_training(self, shards: Path) -> None:
        """The same for `magicbokeh train`, on the set that was made."""
        recipe = self.folder / "train.yaml"
        recipe.write_text(TRAIN.replace("SHARDS", json.dumps(str(shards))))
        sys.argv = ["magicbokeh", "train", str(recipe), "--out", str(self.folder / "warm-run"), "--quiet"]
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.suppress(SystemExit):
            magic_main()

    def cases(self) -> Iterator[Case]:
        """The commands, with what each begins from."""
        recipe = self.folder / "sweep.yaml"
        made, out = self.folder / "made", str(self.out)
        generate = ("generate", str(recipe), "--out", out, "--workers", "1", "--quiet")
        assert run(generate, self.words) == 0, self.words.read_text()
        shutil.copytree(self.out, made)

        def damaged(path: Path) -> None:
            shutil.copytree(made, path)
            tar = path / "train/train-000001.tar"
            tar.write_bytes(tar.read_bytes()[:-1024])

        def undescribed(path: Path) -> None:
            shutil.copytree(made, path)
            for name in ("dataset.json", "README.md", "preview.png", "schema.json"):
                (path / name).unlink()

        yield Case("generate", generate, lambda path: None, (), (0,))
        fix = ("verify", out, "--fix", "--workers", "1")
        yield Case("verify --fix", fix, damaged, (generate,), (1, 0))
        yield Case("finalize", ("finalize", out), undescribed, (), (0,))
        extend = ("extend", out, "--samples", "3", "--workers", "1", "--quiet")
        yield Case("extend", extend, lambda path: shutil.copytree(made, path) and None, (), (0,))
        train = ("train", str(self.folder / "train.yaml"), "--out", out, "--quiet")
        yield Case("train", train, lambda path: None, (), (0,), "magicbokeh", ("--resume",))

    def count(self, case: Case) -> tuple[dict[str, int], dict[str, str]]:
        """How many calls of each kind the undisturbed run makes; and the files that there are at the end."""
        self._begin(case)
        assert self._run_with(case, "write", 0, 0) == case.codes[0], self.words.read_text()
        calls = array("I", self.counter.read_bytes())
        for line in case.then:
            assert run(line, self.words) == 0, self.words.read_text()
        return dict(zip(ERRNOS, calls, strict=False)), case.files(self.out)

    def try_fault(self, case: Case, kind: str, name: str, n: int, clean: dict[str, str]) -> None:
        """One fault, and the same line again."""
        self._begin(case)
        code = self._run_with(case, kind, getattr(errno, name), n)
        words = self.words.read_text(errors="replace")
        self.faults += 1
        wrong = self._judge(case, kind, code, words)
        if not case.then and (torn := torn_shards(self.out)):  # else it begins with a damaged one
            wrong.append(f"torn: {torn}")
        done = code == case.codes[0] and not case.then
        if done and case.files(self.out) != clean:
            wrong.append("no error, and other bytes")
        for line, codes in () if done and not wrong else case.commands():
            again = run(line, self.folder / "again", program=case.program)
            if again not in codes:
                wrong.append(f"again: {again}: {(self.folder / 'again').read_text(errors='replace')}")
        made = case.files(self.out)
        if differing := sorted(name for name in {*clean, *made} if clean.get(name) != made.get(name)):
            wrong.append(f"other bytes: {differing}")
        left = [str(path) for path in self.out.rglob("*.tmp-*")]
        if left:
            wrong.append(f"left: {left}")
        self.harmless += code == case.codes[0]
        if wrong:
            fault = f"{case.name}: {kind} {name} {n}"
            self.bad.append({"fault": fault, "code": code, "wrong": wrong, "said": words})
            print(json.dumps(self.bad[-1]), flush=True)

    def _judge(self, case: Case, kind: str, code: int, words: str) -> list[str]:
        wrong = []
        if code not in {*CODES.get(kind, {0, 4}), case.codes[0]}:
            wrong.append(f"exit code {code}")
        if "Traceback" in words or "unexpected" in words:
            wrong.append("traceback")
        errors = [line for line in words.splitlines() if line.startswith("error: ")]
        if code not in {0, case.codes[0]}:
            if len(errors) != 1 or len(words.rstrip("\n").splitlines()) != 1:
                wrong.append("not one line")
            elif str(self.out) not in words:
                wrong.append("no file named")
        return wrong

    def _begin(self, case: Case) -> None:
        shutil.rmtree(self.out, ignore_errors=True)
        case.begin(self.out)
        self.counter.write_bytes(bytes(4 * (len(ERRNOS) + 1)))

    def _run_with(self, case: Case, kind: str, number: int, n: int) -> int:
        return run(case.line, self.words, f"{kind}:{number}:{n}:{self.counter}:{self.out}", case.program)


def main_sweep(folder: Path, part: str, names: list[str]) -> int:
    """Sweep, say what was found, and return 1 if anything was."""
    worker._CONTEXT = multiprocessing.get_context("fork")
    supervisor.SETTLE_SECONDS = 0.0
    begun, sweep, turn = time.monotonic(), Sweep(folder), -1
    first, stride = map(int, part.split("/"))
    sweep.warm_up()
    for case in sweep.cases():
        if names and case.name not in names:
            continue
        calls, clean = sweep.count(case)
        for kind, errors in ERRNOS.items():
            for name in errors.split():
                for n in range(1, calls[kind] + 1):
                    turn += 1
                    if turn % stride == first:
                        sweep.try_fault(case, kind, name, n, clean)
    minutes = (time.monotonic() - begun) / 60
    summary = {"faults": sweep.faults, "harmless": sweep.harmless, "bad": len(sweep.bad), "minutes": round(minutes, 1)}
    print(json.dumps(summary))
    return 1 if sweep.bad else 0


if __name__ == "__main__":
    sys.exit(main_sweep(Path(sys.argv[1]).absolute(), (sys.argv[2:] or ["0/1"])[0], sys.argv[3:]))

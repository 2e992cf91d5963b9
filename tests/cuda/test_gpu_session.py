"""The GPU day, rehearsed: stages that hang, fail, write garbage or find no time left, and what is kept of them."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

FILE = Path(__file__).parents[2] / "benchmarks" / "gpu_session.py"


@pytest.fixture(scope="module")
def session():
    spec = importlib.util.spec_from_file_location("gpu_session", FILE)
    module = importlib.util.module_from_spec(spec)
    sys.modules["gpu_session"] = module  # dataclasses ask for it
    spec.loader.exec_module(module)
    module.GRACE = 0.2
    yield module
    del sys.modules["gpu_session"]


WRITE = "import os, pathlib; pathlib.Path(os.environ['RESULT']).write_text({!r})"


def python(code):
    return (sys.executable, "-c", code)


HANG = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
open(os.environ["RESULT"], "w").write(str(child.pid))
time.sleep(600)
"""


SIGNALLED = """
import importlib.util, signal, sys
from pathlib import Path
spec = importlib.util.spec_from_file_location("gpu_session", {file!r})
sys.modules["gpu_session"] = session = importlib.util.module_from_spec(spec)
spec.loader.exec_module(session)
day = session.Session(Path({out!r}), 300.0)
signal.signal(signal.SIGTERM, day.stop)
day.run([session.Stage("good", {good!r}, 1, 9), session.Stage("hangs", {hangs!r}, 1, 200)])
"""


def stays(pid):
    """Whether a process is still there after it was killed; a zombie is not."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return False
        except OSError:
            return False
        time.sleep(0.02)
    return True


@pytest.mark.skipif(sys.platform != "linux", reason="processes are looked up in /proc")
def test_whatever_a_stage_does_the_others_run_and_all_is_kept(session, tmp_path, monkeypatch):
    written = []
    day = session.Session(tmp_path, 120.0)
    monkeypatch.setattr(day, "write", lambda write=day.write: (write(), written.append(len(day.outcomes))))
    code = day.run(
        [
            session.Stage("good", python(WRITE.format('{"x": 1}')), 1, 60),
            session.Stage("hangs", python(HANG), 1, 1.5),
            session.Stage("fails", python("import sys; print('why'); sys.exit(7)"), 1, 60),
            session.Stage("garbage", python(WRITE.format('{"x": [')), 1, 60),
            session.Stage(
                "replaced", python(WRITE.format("[1]") + "; raise SystemExit(2)"), 1, 60, python(WRITE.format("[2]"))
            ),
            session.Stage("no replacement", python("raise SystemExit(2)"), 1, 60, python("raise SystemExit(3)")),
            session.Stage("not there", ("/no/such/program",), 1, 60),
            session.Stage("long", python("pass"), 1000, 2000),
            session.Stage("last", python("import os; assert os.environ['OUT']"), 1, 60),
        ]
    )
    assert code == 1
    assert written == list(range(1, 10)), "after each stage"
    summary = json.loads((tmp_path / "summary.json").read_text())
    found = {stage["name"]: stage for stage in summary["stages"]}
    assert {name: stage["status"] for name, stage in found.items()} == {
        "good": "done", "hangs": "timeout", "fails": "failed", "garbage": "unreadable", "replaced": "fallback",
        "no replacement": "failed", "not there": "failed", "long": "skipped", "last": "done",
    }  # fmt: skip
    assert (found["good"]["result"], found["replaced"]["result"]) == ({"x": 1}, [2])
    assert found["replaced"]["before"] == [1], "what it had found itself is kept"
    assert "replaced, before its fallback" in (tmp_path / "report.md").read_text()
    assert found["fails"]["exit_code"] == 7
    assert "1000 needed" in found["long"]["note"]
    assert not stays(found["hangs"]["result"]), "a child of the stage that hung"
    assert b"why" in (tmp_path / "logs" / "fails.log").read_bytes()
    day.pack()
    with tarfile.open(tmp_path / "logs.tar.gz") as archive:
        assert "logs/replaced-fallback.log" in archive.getnames()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["logs.tar.gz", "report.md", "summary.json"]


def test_exit_codes_never_lie(session):
    outcome = session.Outcome
    for expected, *statuses in [
        (0, "done", "done"), (3, "done", "skipped"), (3, "fallback"), (1, "done", "timeout"), (1, "skipped", "failed"),
        (1, "unreadable"),
    ]:  # fmt: skip
        assert session.exit_code([outcome("x", status) for status in statuses]) == expected


def test_a_short_budget_runs_what_is_wanted_most(session, tmp_path):
    """20 s: the probe alone, which takes 8."""
    stages = session.real_stages()
    assert [stage.name for stage in stages if stage.expected <= 20 - session.PACKING][:1] == ["probe"]
    assert sum(stage.expected for stage in stages) < 500, "a lent machine has ten minutes for a command"
    assert all(stage.expected < stage.limit for stage in stages)
    day = session.Session(tmp_path, 200.0)
    assert (
        day.run([session.Stage("first", python("pass"), 9, 90), session.Stage("second", python("pass"), 300, 9)]) == 3
    )
    assert [outcome.status for outcome in day.outcomes] == ["done", "skipped"]


class SimulatedStages:
    """In place of `subprocess` and of clocks: each process takes so many seconds, which go by at once."""

    DEVNULL, TimeoutExpired = subprocess.DEVNULL, subprocess.TimeoutExpired

    def __init__(self, session, monkeypatch, seconds_and_code, deaf=False, undead=False):
        self.now, self.started, self.ends = 0.0, [], 0.0
        self.seconds_and_code, self.deaf, self.undead = seconds_and_code, deaf or undead, undead
        monkeypatch.setattr(session, "subprocess", self)
        monkeypatch.setattr(session.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(session.os, "killpg", self.signal)

    def Popen(self, command, **_):  # noqa: N802  # its name there
        seconds, self.code = self.seconds_and_code(command)
        self.started.append(tuple(command))
        self.ends, self.pid = self.now + seconds, 1
        return self

    def wait(self, timeout=None):
        if timeout is not None and self.ends - self.now > timeout:
            self.now += timeout
            raise subprocess.TimeoutExpired("stage", timeout)
        self.now = max(self.now, self.ends)
        return self.code

    def signal(self, _, number):
        if (number == signal.SIGKILL and not self.undead) or not self.deaf:
            self.ends = min(self.ends, self.now)


@pytest.mark.parametrize("budget", [20, 120, 300, 530, 2000])
@pytest.mark.parametrize("stage", ["hangs", "hangs and is deaf", "takes what is expected", "is quick", "fails late"])
def test_the_budget_is_kept_within_5_percent(session, tmp_path, monkeypatch, budget, stage):
    """The real stages, whatever they do: with the report written the session ends in time, and uses what it has."""
    monkeypatch.setattr(session, "GRACE", 2.0)
    stages = session.real_stages()
    expected = {each.command: each.expected for each in stages}
    seconds = {"is quick": lambda _: 1, "fails late": lambda _: 38, "takes what is expected": expected.get}
    takes = seconds.get(stage, lambda _: 1e9)
    code = int("fails" in stage)
    simulated = SimulatedStages(session, monkeypatch, lambda line: (takes(line) or 1, code), "deaf" in stage)
    day = session.Session(tmp_path, budget)
    day.run(stages)
    assert simulated.now + session.PACKING <= 1.05 * budget
    if "hangs" in stage and budget < sum(each.limit for each in stages):
        left = budget - simulated.now
        assert left < max(each.expected for each in stages) + session.PACKING, "what was left was used"
    if stage == "takes what is expected" and budget >= 530:
        assert {outcome.status for outcome in day.outcomes} == {"done"}


def test_a_stage_that_sleeps_in_the_driver_is_given_up(session, tmp_path, monkeypatch):
    stages = session.real_stages()
    simulated = SimulatedStages(session, monkeypatch, lambda _: (1e9, 0), undead=True)
    day = session.Session(tmp_path, 530)
    assert day.run(stages) == 1
    assert len(simulated.started) == len(day.outcomes) == 1, "the GPU is no longer to be had"
    assert "could not be ended" in (tmp_path / "report.md").read_text()
    assert simulated.now + session.PACKING <= 1.05 * 530


def test_every_fallback_is_taken_once(session, tmp_path, monkeypatch):
    stages = session.real_stages()
    fallbacks = [each.fallback for each in stages if each.fallback]
    simulated = SimulatedStages(session, monkeypatch, lambda line: (1, int(line not in fallbacks)))
    day = session.Session(tmp_path, 530)
    assert day.run(stages) == 1, "some have none"
    assert [line for line in simulated.started if line in fallbacks] == fallbacks
    assert len(simulated.started) == len(stages) + len(fallbacks)
    statuses = {outcome.name: outcome.status for outcome in day.outcomes}
    assert statuses == {each.name: "fallback" if each.fallback else "failed" for each in stages}


BARE = """
import sys
class Bare:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"pydantic", "pydantic_core", "ruamel", "webdataset", "braceexpand", "pymatting",
                                      "OpenEXR", "tqdm", "scipy", "PIL", "click", "diffusers", "transformers", "peft",
                                      "accelerate", "safetensors", "psutil", "torchvision"}:
            raise ImportError(f"{name} is not on this machine")
sys.meta_path.insert(0, Bare())
import bokehsynth as bs
import benchmarks.gpu_stages, benchmarks.render_cuda, benchmarks.scenes
import bokehsynth.rendering.cpu.renderer, bokehsynth.rendering.cuda.renderer
print(bs.Lens(4.0, 0.5).margin([bs.Plane(0.9)], 32, 32))
"""


def test_a_bare_machine_can_render(tmp_path):
    """Stages of bits and clocks need NumPy, Numba and OpenCV alone, and CuPy to run."""
    environment = {**os.environ, "PYTHONPATH": str(FILE.parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", BARE], capture_output=True, text=True, check=False, env=environment, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout == "4\n"


def test_predictions_stand_beside_times(session):
    row = {"scene": "32 near", "ours 16": 1.5}
    stage = {"name": "clocks", "status": "done", "seconds": 1, "exit_code": 0, "note": "", "result": {"rows": [row]}}
    page = session.report({"seconds": 1.0, "budget": 9, "note": "", "stages": [stage]})
    assert "| 32 near | 0.3 | 32 near | 1.5 |" in page


@pytest.mark.skipif(sys.platform != "linux", reason="processes are looked up in /proc")
def test_a_signal_ends_the_day_with_what_was_found(session, tmp_path):
    code = SIGNALLED.format(file=str(FILE), out=str(tmp_path), good=python("pass"), hangs=python(HANG))
    process = subprocess.Popen([sys.executable, "-c", code])
    child = tmp_path / "logs" / "hangs.json"
    end = time.monotonic() + 60
    while not (child.is_file() and child.read_text()) and time.monotonic() < end:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 143
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["note"] == "ended by SIGTERM"
    assert [stage["status"] for stage in summary["stages"]] == ["done"]
    assert not stays(int(child.read_text()))


def test_a_short_day_dry(tmp_path):
    """A stage that writes garbage, one that hangs and one as it should be, then a budget that is too small for any."""
    line = [sys.executable, str(FILE), "--dry", "--only", "clocks", "--only", "profiler", "--only", "memory"]
    line += ["--break", "clocks=garbage", "--break", "profiler=hang", "--out", str(tmp_path)]
    done = subprocess.run([*line, "--budget", "300"], capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stdout[-3000:]
    assert statuses_of(tmp_path) == {"clocks": "fallback", "profiler": "fallback", "memory": "done"}
    assert "| 32 near | 0.3 | 32 near |" in done.stdout
    done = subprocess.run([*line, "--budget", "5"], capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert set(statuses_of(tmp_path).values()) == {"skipped"}


@pytest.mark.long
@pytest.mark.timeout(900)
def test_the_whole_day_dry(tmp_path):
    """Every stage's own code at toy size, and every fallback once."""
    broken = {"probe": "exit", "bits": "hang", "clocks": "garbage", "profiler": "exit", "networks": "exit"}
    line = [sys.executable, str(FILE), "--dry", "--budget", "800"]
    whole = subprocess.run([*line, "--out", tmp_path / "whole"], capture_output=True, text=True, check=False)
    statuses = statuses_of(tmp_path / "whole")
    assert whole.returncode == 0, whole.stdout[-3000:]
    assert set(statuses.values()) == {"done"}
    options = [option for name, how in broken.items() for option in ("--break", f"{name}={how}", "--only", name)]
    done = subprocess.run([*line, *options, "--out", tmp_path / "broken"], capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stdout[-3000:]
    assert statuses_of(tmp_path / "broken") == dict.fromkeys(broken, "fallback")


def statuses_of(out):
    return {stage["name"]: stage["status"] for stage in json.loads((out / "summary.json").read_text())["stages"]}


def test_only_a_dry_run_can_be_broken(tmp_path):
    line = [sys.executable, str(FILE), "--out", str(tmp_path / "x"), "--budget", "10"]
    for options, words in (
        (["--break", "probe=exit"], "belongs to --dry"),
        (["--only", "nothing"], "no stage nothing"),
    ):
        done = subprocess.run([*line, *options], capture_output=True, text=True, check=False, env=dict(os.environ))
        assert done.returncode == 2
        assert words in done.stderr
    assert not (tmp_path / "x").exists()

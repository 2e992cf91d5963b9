"""The local engine: every spec has an outcome, whatever its worker does."""

import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.engine_tasks import Work

from bokehsynth.errors import BokehsynthError, DeviceError, StorageError
from bokehsynth.workers import signals, supervisor
from bokehsynth.workers.events import Cancelled, Died, Done, Failed, Progress, WorkerWarning
from bokehsynth.workers.pool import LocalEngine
from bokehsynth.workers.supervisor import SERIAL_AFTER, RunPolicy
from bokehsynth.workers.timeouts import ReportInterval, TimeoutPolicy
from bokehsynth.workers.worker import DEVICE_LOST, OUT_OF_MEMORY, death_kind


def outcomes(events: list[object]) -> dict[object, object]:
    return {e.spec: e.result if isinstance(e, Done) else e.error for e in events if isinstance(e, (Done, Failed))}


def test_every_spec_has_one_outcome_with_its_progress(tmp_path: Path) -> None:
    specs = [("square", n) for n in range(12)]
    events = list(LocalEngine(3).run(Work(tmp_path), specs))
    assert outcomes(events) == {("square", n): n * n for n in range(12)}
    assert sum(e.units for e in events if isinstance(e, Progress)) == 24
    assert all(e.attempts == 1 for e in events if isinstance(e, Done))


def test_what_a_task_raises_arrives_and_is_not_tried_again(tmp_path: Path) -> None:
    events = list(LocalEngine(2).run(Work(tmp_path), [("raise", 7), ("square", 3), ("awkward", 0)]))
    got = outcomes(events)
    assert isinstance(got["raise", 7], StorageError)
    assert "no room for 7" in str(got["raise", 7])
    assert isinstance(got["awkward", 0], BokehsynthError)  # stands in for what cannot travel
    assert "AwkwardError: 12" in str(got["awkward", 0])
    assert got["square", 3] == 9
    failed = next(e for e in events if isinstance(e, Failed) and e.spec == ("raise", 7))
    assert failed.attempts == 1
    assert "engine_tasks.py" in failed.trace


def test_a_killed_worker_costs_one_attempt_and_a_poison_spec_all_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "MAX_ATTEMPTS", 6)
    specs = [("square", 1), ("once", 5), ("poison", 0), ("square", 2), ("square", 4)]
    events = list(LocalEngine(2).run(Work(tmp_path), specs))
    got = outcomes(events)
    assert [got["square", n] for n in (1, 2, 4)] == [1, 4, 16]
    assert got["once", 5] == "survived"
    assert isinstance(got["poison", 0], BokehsynthError)
    assert "SIGKILL" in str(got["poison", 0])
    attempts = {e.spec: e.attempts for e in events if isinstance(e, (Done, Failed))}
    assert attempts["once", 5] == 2
    assert attempts["poison", 0] == 6
    assert sum(e.units for e in events if isinstance(e, Progress) and e.spec == ("once", 5)) == 2, "taken back, redone"


def test_a_worker_that_times_out_is_ended_and_the_others_go_on(tmp_path: Path) -> None:
    engine = LocalEngine(2, RunPolicy(TimeoutPolicy.constant(2.5)))
    events = list(engine.run(Work(tmp_path), [("hang", 9), ("square", 3), ("square", 5)]))
    assert outcomes(events) == {("hang", 9): "survived", ("square", 3): 9, ("square", 5): 25}
    (death,) = [event for event in events if isinstance(event, Died)]
    assert (death.spec, death.kind, death.in_company) == (("hang", 9), "timed_out", False)
    assert death.seconds > 2.4, "the limit, 2.5, less rounding of clocks"
    assert "silence for " in death.cause


def test_memory_that_runs_out_costs_the_worker(tmp_path: Path) -> None:
    events = list(LocalEngine(1).run(Work(tmp_path), [("memory", 1)]))
    assert outcomes(events) == {("memory", 1): "survived"}
    assert [(e.cause, e.kind) for e in events if isinstance(e, Died)] == [("out of memory", "killed")]


def test_a_worker_whose_device_is_lost_is_replaced_and_says_why(tmp_path: Path) -> None:
    events = list(LocalEngine(1).run(Work(tmp_path), [("lost", 1)]))
    assert outcomes(events) == {("lost", 1): "survived"}
    assert [(e.cause, e.kind) for e in events if isinstance(e, Died)] == [("a lost device", "killed")]
    assert [event for event in events if isinstance(event, WorkerWarning)] == [WorkerWarning("device 1 has gone")]


def test_a_task_is_prepared_once_in_each_worker(tmp_path: Path) -> None:
    specs = [("prepared", n) for n in range(5)]
    assert set(outcomes(list(LocalEngine(2).run(Work(tmp_path), specs))).values()) == {"x"}


def test_a_worker_that_cannot_be_prepared_is_no_crash_of_a_spec(tmp_path: Path) -> None:
    """It ends the run with that very error, rather than as a crash for which a spec might be quarantined."""
    (tmp_path / "unusable").touch()
    events = LocalEngine(1).run(Work(tmp_path), [("square", 1), ("square", 2)])
    with pytest.raises(DeviceError, match="before anything is asked") as raised:
        next(events)
    assert "engine_tasks.py" in str(raised.value.__cause__)


def test_memory_that_runs_out_in_preparing_is_a_failed_start_and_no_death_over_a_spec(tmp_path: Path) -> None:
    (tmp_path / "no memory").touch()
    events = list(LocalEngine(1).run(Work(tmp_path), [("square", 3)]))
    assert [(event.result, event.attempts) for event in events if not isinstance(event, Progress)] == [(9, 1)]


def test_what_exit_codes_tell_of_the_cause() -> None:
    crashed = [-signal.SIGSEGV, -signal.SIGABRT, -signal.SIGBUS, 0, 1, 7]
    killed = [-signal.SIGKILL, -signal.SIGTERM, -signal.SIGHUP, -signal.SIGXCPU, OUT_OF_MEMORY, DEVICE_LOST, None]
    assert {death_kind(code) for code in crashed} == {"crashed"}
    assert {death_kind(code) for code in killed} == {"killed"}


def test_deaths_in_company_are_told_apart_and_then_tried_one_at_a_time(tmp_path: Path) -> None:
    """Two specs that kill their workers at the same time: each might be the other's victim, until they are tried in
    turn."""
    specs = [("together", 0), ("together", 1)]
    deaths = [e for e in LocalEngine(2).run(Work(tmp_path), specs) if isinstance(e, Died)]
    assert {spec: [e.attempts for e in deaths if e.spec == spec and e.in_company] for spec in specs} == {
        spec: list(range(1, SERIAL_AFTER + 1)) for spec in specs
    }
    alone = [e for e in deaths if not e.in_company]
    assert [e.attempts for e in alone] == [SERIAL_AFTER + 1, SERIAL_AFTER + 1]
    assert {e.spec for e in alone} == set(specs)


def test_a_death_is_told_only_once_its_engine_has_outlived_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stop that is requested meanwhile, as before a node is taken away, makes it nobody's."""
    monkeypatch.setattr(supervisor, "SETTLE_SECONDS", 1000.0)
    events = []

    def run() -> None:
        for event in LocalEngine(1).run(Work(tmp_path), [("once", 5)]):
            events.append(event)
            if isinstance(event, Progress) and event.units < 0:
                os.kill(os.getpid(), signal.SIGTERM)

    with signals.stop_on_signals(), pytest.raises(signals.Stopped):
        run()
    assert [type(event) for event in events] == [Progress, Progress, Cancelled]


def test_what_the_threads_of_a_task_warn_of_arrives(tmp_path: Path) -> None:
    events = list(LocalEngine(1).run(Work(tmp_path), [("warn", 20)]))
    assert outcomes(events) == {("warn", 20): "survived"}
    warnings = {event.text for event in events if isinstance(event, WorkerWarning)}
    assert warnings == {f"only {n} left of 20" for n in range(20)}
    assert sum(event.units for event in events if isinstance(event, Progress)) == 202


def test_a_replacement_gets_the_environment_of_the_worker_before(tmp_path: Path) -> None:
    """One stays while the other is replaced after each spec: the slot that it left is taken again every time."""
    environments = ({"PLACE": "a"}, {"PLACE": "b"})
    engine = LocalEngine(2, RunPolicy(lifetime=0.0), environments)
    got = outcomes(list(engine.run(Work(tmp_path), [("stay", 3), *(("place", n) for n in range(3))])))
    other = {"a": "b", "b": "a"}[got.pop(("stay", 3))]
    assert set(got.values()) == {other}
    assert "PLACE" not in os.environ


def test_workers_are_replaced_after_their_lifetime(tmp_path: Path) -> None:
    specs = [("pid", n) for n in range(3)]
    kept = outcomes(list(LocalEngine(1).run(Work(tmp_path), specs)))
    assert len(set(kept.values())) == 1
    replaced = outcomes(list(LocalEngine(1, RunPolicy(lifetime=0.0)).run(Work(tmp_path), specs)))
    assert len(set(replaced.values())) == 3


def test_the_limit_follows_the_running_median_and_grows_with_timeouts() -> None:
    interval = ReportInterval(TimeoutPolicy(initial=120, minimum=20, factor=50))
    assert interval.limit(0) == 120
    for seconds in (1.0, 2.0, 100.0):
        interval.add(seconds, 1)
    interval.add(7.0, -5)  # taken back: no measure of anything
    assert interval.median == 2.0
    assert [interval.limit(timeouts) for timeouts in (0, 1, 2, 3, 4, 29)] == [100, 200, 400, 800, 800, 800]
    for _ in range(200):
        interval.add(0.02, 2)
    assert interval.limit(0) == 20
    assert ReportInterval(TimeoutPolicy.constant(3)).limit(1) == 6


def test_workers_are_single_threaded_and_the_parent_is_left_as_it_was(tmp_path: Path) -> None:
    before = dict(os.environ)
    (result,) = outcomes(list(LocalEngine(1).run(Work(tmp_path), [("threads", 0)]))).values()
    assert result == {"NUMBA_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    assert dict(os.environ) == before


def test_closing_the_iterator_ends_the_workers(tmp_path: Path) -> None:
    import multiprocessing

    run = LocalEngine(2).run(Work(tmp_path), [("square", n) for n in range(50)])
    next(run)
    assert multiprocessing.active_children()
    run.close()
    deadline = time.monotonic() + 5
    while multiprocessing.active_children() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert multiprocessing.active_children() == []


def test_a_script_without_main_guard_is_told_so(tmp_path: Path, tiny_recipe: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        f"import bokehsynth as bs\nbs.generate({str(tiny_recipe)!r}, {str(tmp_path / 'x')!r}, workers=1)\n"
    )
    result = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False, timeout=120)
    assert result.returncode != 0
    assert "if __name__ == '__main__':" in result.stderr


@pytest.mark.long
@pytest.mark.parametrize("closed", [True, False])
def test_kernels_compile_where_neither_package_nor_home_can_be_written(tmp_path: Path, closed: bool) -> None:
    """A copy of the package that is read-only, run by a user without a home; workers find the kernels too."""
    import shutil

    import bokehsynth

    source = Path(bokehsynth.__file__).parent
    shutil.copytree(source, tmp_path / "bokehsynth", ignore=shutil.ignore_patterns("__pycache__", "recipes"))
    script = (
        "import os, sys, concurrent.futures.thread, numba, numpy\n"
        "numba.njit(lambda x: x + 1)(1.0)\n"  # what Numba imports lazily may lie where only root can read
        "import bokehsynth.optics.layer, bokehsynth.optics, cv2\n"
        f"if {closed} and os.getuid() == 0: os.setgid(65534); os.setuid(65534)\n"
        "from bokehsynth.rendering.cpu import renderer as cpu\n"
        "cpu.warm_up()\n"
        "print(numba.config.CACHE_DIR or 'own')\n"
    )
    for folder in [tmp_path, *tmp_path.parents]:
        if folder.stat().st_uid == os.getuid() and len(folder.parts) > 2:
            folder.chmod(folder.stat().st_mode | 0o055)
    if closed:
        for folder in (path for path in (tmp_path / "bokehsynth").rglob("*") if path.is_dir()):
            folder.chmod(0o555)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    for name in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME", "HOME"):
        environment.pop(name, None)
    environment["HOME"] = "/proc/nowhere" if closed else str(tmp_path)
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, env=environment, cwd=tmp_path
    )
    assert result.returncode == 0, result.stderr
    assert ("bokehsynth-kernels-" in result.stdout) == closed


def test_a_large_worker_returns_memory_that_is_free_below_an_array_that_stays() -> None:
    script = (
        "import numpy as np; from bokehsynth.workers import worker\n"
        "def resident(): return int(open('/proc/self/statm').read().split()[1]) * 4096 >> 20\n"
        "kept = worker.keep_freed_memory(); before = resident()\n"
        "arrays = [np.ones(24 << 20, np.uint8) for _ in range(8)]; stays = np.ones(1 << 17, np.uint8); del arrays\n"
        "small, freed = worker.return_freed_memory(), resident() - before\n"
        "worker.RETURNED_FROM = 100 << 20\n"
        "print(kept, small, freed, worker.return_freed_memory(), resident() - before)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    kept, small, freed, returned, left = done.stdout.split()
    assert small == "False"
    if kept == "True":
        assert int(freed) > 150, "of 192 MB"
        assert returned == "True"
        assert int(left) < 40


def test_freed_memory_is_kept_unless_the_environment_says_how(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten pictures made and freed in turn take pages from the kernel once, not ten times."""
    script = (
        "import resource, sys; import numpy as np; from bokehsynth.workers.worker import keep_freed_memory\n"
        "kept = keep_freed_memory()\n"
        "def faults(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "def work(): return [np.ones(3 << 18, np.float32) for _ in range(8)]\n"
        "work(); before = faults()\n"
        "for _ in range(10): work()\n"
        "print(kept, faults() - before)"
    )

    def outcome(**variables: str) -> list[str]:
        environment = {**os.environ, **variables}
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment
        )
        return done.stdout.split()

    kept, faults = outcome()
    assert kept == str(sys.platform == "linux" and platform.libc_ver()[0] == "glibc")
    assert kept == "False" or int(faults) < 1000  # 61,000 without
    assert outcome(MALLOC_TRIM_THRESHOLD_="131072")[0] == "False"

"""The local engine: every spec is answered, whatever its worker does."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from engine_tasks import Work

from bokehsynth.engines import Done, Failed, Progress, run_local
from bokehsynth.engines.local import MAX_ATTEMPTS
from bokehsynth.errors import BokehsynthError, StorageError


def answers(events: list[object]) -> dict[object, object]:
    return {e.spec: e.result if isinstance(e, Done) else e.error for e in events if isinstance(e, (Done, Failed))}


def test_every_spec_is_answered_once_with_its_progress(tmp_path: Path) -> None:
    specs = [("square", n) for n in range(12)]
    events = list(run_local(Work(tmp_path), specs, 3))
    assert answers(events) == {("square", n): n * n for n in range(12)}
    assert sum(e.units for e in events if isinstance(e, Progress)) == 24
    assert all(e.attempts == 1 for e in events if isinstance(e, Done))


def test_what_a_task_raises_arrives_and_is_not_tried_again(tmp_path: Path) -> None:
    events = list(run_local(Work(tmp_path), [("raise", 7), ("square", 3), ("awkward", 0)], 2))
    got = answers(events)
    assert isinstance(got["raise", 7], StorageError)
    assert "no room for 7" in str(got["raise", 7])
    assert isinstance(got["awkward", 0], BokehsynthError)  # stands in for what cannot travel
    assert "AwkwardError: 12" in str(got["awkward", 0])
    assert got["square", 3] == 9
    failed = next(e for e in events if isinstance(e, Failed) and e.spec == ("raise", 7))
    assert failed.attempts == 1
    assert "engine_tasks.py" in failed.trace


def test_a_killed_worker_costs_one_attempt_and_a_poison_spec_three(tmp_path: Path) -> None:
    specs = [("square", 1), ("once", 5), ("poison", 0), ("square", 2), ("square", 4)]
    events = list(run_local(Work(tmp_path), specs, 2))
    got = answers(events)
    assert [got["square", n] for n in (1, 2, 4)] == [1, 4, 16]
    assert got["once", 5] == "survived"
    assert isinstance(got["poison", 0], BokehsynthError)
    assert "SIGKILL" in str(got["poison", 0])
    attempts = {e.spec: e.attempts for e in events if isinstance(e, (Done, Failed))}
    assert attempts["once", 5] == 2
    assert attempts["poison", 0] == MAX_ATTEMPTS
    assert sum(e.units for e in events if isinstance(e, Progress) and e.spec == ("once", 5)) == 2, "taken back, redone"


def test_workers_are_single_threaded_and_the_parent_is_left_as_it_was(tmp_path: Path) -> None:
    before = dict(os.environ)
    (result,) = answers(list(run_local(Work(tmp_path), [("threads", 0)], 1))).values()
    assert result == {"NUMBA_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    assert dict(os.environ) == before


def test_closing_the_iterator_ends_the_workers(tmp_path: Path) -> None:
    import multiprocessing

    run = run_local(Work(tmp_path), [("square", n) for n in range(50)], 2)
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


@pytest.mark.parametrize("closed", [True, False])
def test_kernels_compile_where_neither_package_nor_home_can_be_written(tmp_path: Path, closed: bool) -> None:
    """With both of Numba's own places closed the kernels go to the temporary directory, and only then."""
    script = (
        "import sys; from pathlib import Path; from bokehsynth.render import kernel_cache\n"
        f"kernel_cache._writable = lambda place: {not closed}\n"
        "kernel_cache.ensure_cache_place(); import numba; print(numba.config.CACHE_DIR or 'own')\n"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    environment.pop("NUMBA_CACHE_DIR", None)
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment)
    assert (str(tmp_path) in result.stdout) == closed

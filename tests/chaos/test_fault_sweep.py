"""The n-th system call of a kind fails: no torn shard, the right code, one line; and the same line again mends it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from harness import HERE, environment


@pytest.mark.parametrize(
    "stride", [pytest.param(997, id="short"), pytest.param(1, marks=[pytest.mark.long, pytest.mark.timeout(6 * 3600)])]
)
def test_any_call_may_fail(stride: int, shim: Path, tmp_path: Path) -> None:
    """generate, extend, verify --fix, finalize and train; every call with every errno takes hours, so the short form
    strides over them."""
    done = subprocess.run(
        [sys.executable, HERE / "fault_sweep.py", tmp_path, f"0/{stride}"], capture_output=True, text=True, check=False,
        env=environment(LD_PRELOAD=shim, OMP_NUM_THREADS=1),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads(done.stdout.splitlines()[-1])
    print(summary)
    assert summary["bad"] == 0
    assert summary["faults"] > 2000 // stride
    assert summary["harmless"] < summary["faults"], "some must end a run"

"""`pytest --require-gpu`: where there must be a GPU, a test of it that is skipped fails the run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]

SKIPPED = """\
import pytest

@pytest.mark.{mark}
def test_of_a_device():
    pytest.skip({reason!r})
"""


@pytest.mark.parametrize(
    ("mark", "reason", "options", "code", "said"),
    [
        ("gpu", "no CUDA device", [], 0, "1 skipped"),
        (
            "gpu",
            "no CUDA device",
            ["--require-gpu"],
            1,
            "FAILED: --require-gpu, and a test was skipped: no CUDA",
        ),
        ("long", "no CUDA device", ["--require-gpu"], 0, "1 skipped"),
        ("gpu", "no mood", [], 1, "FAILED: skip reason not in tests/allowed_skips.txt: no mood"),
    ],
)
def test_a_skip_of_a_gpus_test(tmp_path, mark, reason, options, code, said):
    for name in ("conftest.py", "allowed_skips.txt"):
        (tmp_path / name).write_bytes((TESTS / name).read_bytes())
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n    gpu\n    long\n", encoding="utf-8")
    (tmp_path / "test_device.py").write_text(SKIPPED.format(mark=mark, reason=reason), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-n0", *options, "."],
        env={**os.environ, "PYTEST_ADDOPTS": ""},
        capture_output=True, text=True, cwd=tmp_path, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stdout
    assert said in done.stdout

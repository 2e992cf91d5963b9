"""What several test files need."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import settings

# The same examples on every run, however slow the machine; `pytest --hypothesis-profile=explore` looks for new ones.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.register_profile("explore", deadline=None, max_examples=1000)
settings.load_profile("repeatable")


def pytest_addoption(parser):
    parser.addoption("--require-gpu", action="store_true", help="a test marked gpu that is skipped fails the run")


@pytest.fixture(autouse=True)
def device_for_kernels(request, monkeypatch):
    """Where a module is marked `kernels`, backend cuda is there: on a GPU, or as the same kernels on the CPU.

    With --require-gpu it must be a GPU.
    """
    if request.node.get_closest_marker("kernels") is None or request.config.getoption("--require-gpu"):
        return
    from support.kernels_on_cpu import the_device_or_kernels_on_cpu

    from bokehsynth.rendering.cuda import device as cuda_device

    render = importlib.import_module("bokehsynth.rendering")  # as an attribute of the package it is the function
    monkeypatch.setattr(cuda_device, "the_device", the_device_or_kernels_on_cpu)
    # uncached: what `auto` is here must not be remembered where the kernels are not there
    monkeypatch.setattr(render, "_best_device", render._best_device.__wrapped__)


@pytest.fixture
def fresh_python(tmp_path):
    """Run code in a new interpreter, away from the repository, and return what it printed, stripped."""

    def run(code: str, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    return run


TINY = """\
name: tiny
seed: 11
samples: {train: 18, val: 5}
size: [64, 80]
scene:
  foregrounds: {kind: choice, values: [0, 1, 2]}
  blur: {kind: uniform, low: 20, high: 60}
  blur_is: largest_radius
shards: {samples: 4}
"""


@pytest.fixture(scope="session")
def tiny_recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe file of 23 small samples in seven shards, two of them short."""
    path = tmp_path_factory.mktemp("recipe") / "tiny.yaml"
    path.write_text(TINY)
    return path


@pytest.fixture(scope="session")
def tiny_dataset(tiny_recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data set of `tiny_recipe`, made by two workers; tests must not change it."""
    import bokehsynth as bs

    out = tmp_path_factory.mktemp("data") / "tiny"
    assert bs.generate(tiny_recipe, out, workers=2).complete
    return out


@pytest.fixture(scope="session")
def mini_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten samples of 64 px in shards, for training; tests must not change them."""
    from support.train_toys import DATA

    import bokehsynth as bs

    out = tmp_path_factory.mktemp("data") / "mini"
    assert bs.generate(bs.load_recipe("quickstart", DATA), out, workers=1).complete
    return out


ALLOWED_SKIPS = Path(__file__).with_name("allowed_skips.txt")
_unlisted: set[str] = set()
_gpu_required = False


def _note_skip(report):
    """Remember skips whose reason is not on the committed list, and of a GPU's tests where there must be one."""
    if report.skipped and isinstance(report.longrepr, tuple):
        allowed = [line for line in ALLOWED_SKIPS.read_text().splitlines() if line and not line.startswith("#")]
        reason = str(report.longrepr[2]).removeprefix("Skipped: ")
        if reason not in allowed:
            _unlisted.add(f"skip reason not in tests/allowed_skips.txt: {reason}")
        if _gpu_required and "gpu" in getattr(report, "keywords", ()):
            _unlisted.add(f"--require-gpu, and a test was skipped: {reason}")


pytest_runtest_logreport = _note_skip
pytest_collectreport = _note_skip


def pytest_configure(config):
    """Reports do not know of the options."""
    global _gpu_required  # noqa: PLW0603
    _gpu_required = config.getoption("--require-gpu")


def pytest_sessionfinish(session, exitstatus):
    """A test that silently never runs is no test: a skip that is not on the list fails the run."""
    if _unlisted and exitstatus == 0:
        session.exitstatus = 1


def pytest_terminal_summary(terminalreporter):
    """Name what made the run fail."""
    for reason in sorted(_unlisted):
        terminalreporter.write_line(f"FAILED: {reason}", red=True)

"""What several test files need."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import settings

# The same examples on every run, however slow the machine; `pytest --hypothesis-profile=explore` looks for new ones.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.register_profile("explore", deadline=None, max_examples=1000)
settings.load_profile("repeatable")


# Of tests that run beside each other, each has a core: threads of torch that wait for one another's core spin, and made
# training several times slower. Before torch is imported, and for the processes that tests start.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_addoption(parser):
    parser.addoption("--require-gpu", action="store_true", help="a test marked gpu that is skipped fails the run")


WARM_UP = """
import sys
import numpy as np
import bokehsynth as bs
from bokehsynth.assets.load import foreground_colors

color, alpha = np.full((40, 40, 3), 0.5, np.float32), np.ones((40, 40), np.float32)
def picture(aperture, *disparities):
    layers = [bs.Layer(color, alpha, disparity) for disparity in disparities]
    bs.render(layers, bs.Lens(6, 0.2, aperture), 8, backend="cpu").bokeh
if sys.argv[1] == "planes":
    from bokehsynth.rendering.cpu import renderer
    renderer.warm_up()
    picture(bs.CatEye(0.5), bs.Plane(0.9), bs.Plane(0.1, 0.001, 0))
else:
    foreground_colors.warm_up()
    picture(bs.Disc(), np.tile(np.linspace(0.1, 0.9, 40, dtype=np.float32), (40, 1)))
"""


def _compile_kernels(config):
    """Compile the slowest kernels once, two processes at a time, before every process of a run does it for itself."""
    if getattr(config.option, "numprocesses", None) and not hasattr(config, "workerinput"):
        for process in [subprocess.Popen([sys.executable, "-c", WARM_UP, what]) for what in ("planes", "others")]:
            assert process.wait() == 0, "kernels cannot be compiled"


@pytest.fixture(autouse=True, scope="session")
def no_kept_pictures():
    """Pictures are made anew, also in processes that tests start: a test that is about keeping them says so."""
    os.environ["BOKEHSYNTH_PICTURE_CACHE"] = "off"


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


@pytest.fixture(scope="session")
def s3_port():
    """The port of an S3 server, one for the whole run of the tests in a process."""
    from support.s3_server import s3_server

    with s3_server() as port:
        yield port


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
    _compile_kernels(config)


def pytest_sessionfinish(session, exitstatus):
    """A test that silently never runs is no test: a skip that is not on the list fails the run."""
    if _unlisted and exitstatus == 0:
        session.exitstatus = 1


def pytest_terminal_summary(terminalreporter):
    """Name what made the run fail."""
    for reason in sorted(_unlisted):
        terminalreporter.write_line(f"FAILED: {reason}", red=True)

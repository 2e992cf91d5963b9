"""The same bytes for any number of threads and on any processor: nothing is reordered and nothing is fused."""

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest
from support.scenes import BATTERY, Scene, battery_scene, enough, matte, sheet, texture

import bokehsynth as bs
from bokehsynth.rendering import PATHS

TIMEOUT_S = 240
"""Time limit of a subprocess that has to compile every kernel on a busy machine."""


class Uneven(bs.Disc):
    """An aperture that passes more on the right, and no two channels alike."""

    def weight(self, s):
        return np.stack([1 + 0.5 * s[:, 0], 0.3 + s[:, 1] ** 2, np.full(len(s), 0.7)], axis=1)


def wide_scene():
    """A scene with kernels with prefix sums before and behind the focus, and tap by tap where the slope crosses it."""
    size, lens = (40, 96), bs.Lens(20.0, 0.5)
    planes = [bs.Plane(0.95), bs.Plane(0.5, 1.5e-2, 2e-3)]
    margin = enough(planes, lens, size)
    layers = (
        sheet(size, margin, texture(size, margin, 1, lights=3), matte(size, margin, 2), planes[0]),
        sheet(size, margin, texture(size, margin, 3, lights=3), 1.0, planes[1]),
    )
    return Scene(layers, lens, margin)


SCENES = {
    "tilted": lambda: battery_scene("tilted"),
    "three frontal": lambda: battery_scene("three frontal"),
    "crossing": lambda: battery_scene("crossing"),
    "wider than a tile": lambda: battery_scene("wider than a tile"),
    "weighted": lambda: battery_scene("tilted", aperture=Uneven()),
    "polygon": lambda: battery_scene("steep ground", aperture=bs.Polygon(5, 0.3)),
    "both sides of the focus": wide_scene,
}


def digests():
    """SHA-256 of picture and coverage of every scene, one `name hash` a line."""
    lines = []
    for name, make in SCENES.items():
        frames = make().render()
        digest = hashlib.sha256(frames.bokeh.tobytes() + frames.coverage.tobytes() + frames.disparity.tobytes())
        lines.append(f"{name} {digest.hexdigest()}")
    return "\n".join(lines)


def digests_elsewhere(**environment):
    """The same from another process."""
    done = subprocess.run(
        [sys.executable, "-c", "import test_render_bytes; print(test_render_bytes.digests())"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([os.path.dirname(__file__), *sys.path]), **environment},
        capture_output=True, text=True, check=False, timeout=TIMEOUT_S,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def expected():
    return digests()


def test_the_scenes_take_every_path_but_copy():
    found = set()
    for make in SCENES.values():
        found |= set(np.unique(make().render().paths).tolist())
    assert {PATHS[i] for i in found} >= {"taps", "runs", "together", "rays"}
    assert set(SCENES) & set(BATTERY)


@pytest.mark.parametrize("threads", [1, 2])
def test_the_number_of_threads_does_not_show(threads, expected):
    assert digests_elsewhere(NUMBA_NUM_THREADS=str(threads)) == expected


@pytest.mark.long  # it compiles every kernel anew
@pytest.mark.timeout(TIMEOUT_S + 60)
def test_the_processor_does_not_show(tmp_path, expected):
    """Kernels compiled for the plainest processor of this kind: narrow registers and no fused operation to be had."""
    plain = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": "", "NUMBA_CACHE_DIR": str(tmp_path)}
    assert digests_elsewhere(NUMBA_NUM_THREADS="1", **plain) == expected
    assert any(tmp_path.rglob("*.nbc")), "compiled here, not loaded from another cache"

"""Compiled kernels on disk outlive the version of the package that wrote them."""

import os
import subprocess
import sys

KERNEL = """
import arguments
from bokehsynth.rendering.jit import kernel

@kernel
def twice(pair):
    return 2 * pair.x

print(twice(getattr(arguments, "NAME")(21.0)), sum(twice.stats.cache_hits.values()))
"""
ARGUMENTS = """
from typing import NamedTuple

class NAME(NamedTuple):
    x: float
"""


def call_kernel(folder, name):
    """Result and cache hits of a kernel in `folder` whose argument is a named tuple of that name."""
    (folder / "arguments.py").write_text(ARGUMENTS.replace("NAME", name))
    code = KERNEL.replace("NAME", name)
    path = folder / "kernels.py"
    if not path.exists() or path.read_text() != code:
        path.write_text(code)
    os.utime(path, (1e9, 1e9))
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(folder / "cache"), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, path], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_a_cache_that_names_a_class_that_is_gone_is_made_anew(tmp_path):
    assert call_kernel(tmp_path, "Before") == ["42.0", "0"]
    assert call_kernel(tmp_path, "Before") == ["42.0", "1"]
    assert call_kernel(tmp_path, "Later") == ["42.0", "0"]
    assert call_kernel(tmp_path, "Later") == ["42.0", "1"]

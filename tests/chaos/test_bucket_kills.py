"""Two machines make one set in a bucket and are killed, again and again, at any moment, while a reader looks on."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.bucket_trees import tree
from support.s3_server import Fault, FaultProxy, make_bucket, s3_server, variables
from support.small_set import RECIPE, make_small_set

from bokehsynth.stores import ObjectPath

pytestmark = [pytest.mark.long, pytest.mark.timeout(3600)]

KILLS = 100
TESTS = Path(__file__).parents[1]


@pytest.mark.parametrize("faults", [False, True], ids=["plain", "faults"])
def test_a_hundred_kills_leave_the_bytes_of_one_run(tmp_path, monkeypatch, faults):
    local = make_small_set(tmp_path / "local", RECIPE)
    with s3_server() as port:
        make_bucket(port, "kills")
        proxy = FaultProxy(port)
        if faults:
            kinds = ("drop", "500", "409", "refuse", "slow")
            proxy.faults = [Fault("*", "", kind, times=10**6, every=23 + 8 * i) for i, kind in enumerate(kinds)]
        env = {**os.environ, **variables(proxy.port), "PYTHONPATH": str(TESTS)}
        runs = [sys.executable, "-m", "support.bucket_runs"]
        recipe = str(tmp_path / "local.yaml")
        reader = subprocess.Popen(
            [*runs, "look", recipe, "kills"], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        try:
            killed = subprocess.run(
                [*runs, "kills", recipe, "kills", str(KILLS), "7"], env=env, capture_output=True, text=True, check=False
            )
        finally:
            seen, _ = reader.communicate("\n")
        assert killed.returncode == 0, killed.stderr
        assert "torn" not in seen
        assert int(seen.split()[-1]) > 0
        for name, value in variables(port).items():
            monkeypatch.setenv(name, value)
        urls = killed.stdout.split()
        assert urls
        for url in urls:
            assert tree(ObjectPath.from_url(url)) == tree(local.root), url
        proxy.close()

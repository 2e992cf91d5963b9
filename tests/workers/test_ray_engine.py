"""The Ray engine, in one cluster for all tests: the outcomes, events and bytes of the local one, and no noise."""

import importlib
import os
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.bucket_trees import tree
from support.engine_tasks import Work
from support.promised import promised_files
from support.ray_clusters import ray_cluster
from support.s3_server import make_bucket, variables

import bokehsynth as bs
from bokehsynth.errors import StorageError, UsageError
from bokehsynth.stores import ObjectPath
from bokehsynth.workers import ray_cluster as ray_cluster_module
from bokehsynth.workers.events import Died, Done, Failed, Progress
from bokehsynth.workers.ray_cluster import connected, joins_cluster
from bokehsynth.workers.ray_engine import RayEngine


@pytest.fixture(scope="module")
def address(s3_port: int) -> Iterator[str]:
    """A cluster of one node, which knows the S3 server."""
    with ray_cluster(1, cpus=2, **variables(s3_port)) as cluster:
        yield cluster.address


def test_outcomes_deaths_and_progress_are_those_of_the_local_engine(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Also with modules of the same names in the working directory, which Ray itself would import first.

    The processes work in that directory, since a data set may have a relative path.
    """
    trap = tmp_path / "here"
    trap.mkdir()
    for name in ("bokehsynth.py", "numpy.py", "support.py"):
        (trap / name).write_text("raise SystemExit(f'{__file__} was imported')\n")
    monkeypatch.chdir(trap)
    specs = [("square", 3), ("once", 5), ("raise", 7), ("memory", 1), ("threads", 0), ("folder", 0)]
    engine = RayEngine(None, address=address)
    events = list(engine.run(Work(tmp_path), specs))
    got = {e.spec: e.result if isinstance(e, Done) else e.error for e in events if isinstance(e, (Done, Failed))}
    assert got["square", 3] == 9
    assert got["once", 5] == got["memory", 1] == "survived"
    assert isinstance(got["raise", 7], StorageError)
    assert got["folder", 0] == str(trap)
    assert got["threads", 0] == {"NUMBA_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    deaths = {event.spec: (event.cause, event.kind) for event in events if isinstance(event, Died)}
    assert deaths == {("once", 5): ("signal SIGKILL", "killed"), ("memory", 1): ("out of memory", "killed")}
    attempts = {e.spec: e.attempts for e in events if isinstance(e, (Done, Failed))}
    assert attempts == {**dict.fromkeys(specs, 1), ("once", 5): 2, ("memory", 1): 2}
    assert sum(event.units for event in events if isinstance(event, Progress)) == 2 * len(specs)
    assert capfd.readouterr() == ("", "")


@pytest.mark.long
def test_a_set_has_the_bytes_of_the_local_engine(
    address: str, tiny_recipe: Path, tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under a relative path, which workers elsewhere have to understand."""
    monkeypatch.chdir(tmp_path)
    done = bs.generate(tiny_recipe, "set", engine="ray", ray_address=address, workers=2)
    assert done.complete
    assert promised_files(tmp_path / "set") == promised_files(tiny_dataset)


def test_a_shard_in_a_bucket_has_the_bytes_of_one_in_a_folder(
    address: str, s3_port: int, tiny_recipe: Path, tiny_dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The node has the credentials in its own environment: a run hands none to its workers."""
    for name, value in variables(s3_port).items():
        monkeypatch.setenv(name, value)
    make_bucket(s3_port, "ray")
    place = ObjectPath.from_url("s3://ray/set")
    done = bs.generate(tiny_recipe, str(place), engine="ray", ray_address=address, workers=1, shards="1/7")
    assert done.made == 4
    made, local = tree(place), tree(tiny_dataset)
    assert len([name for name in made if "train-000001." in name]) == 3
    assert made == {name: local[name] for name in made}


def test_a_worker_that_cannot_start_says_where_its_message_is(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a class that no node can import."""
    (tmp_path / "only_here.py").write_text("class Task:\n    def __call__(self, spec, report):\n        pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    task = importlib.import_module("only_here").Task()
    words = rf"its message stands on node {socket.gethostname()} in /.*worker-.*\.err: ModuleNotFoundError: .*only_here"
    with pytest.raises(UsageError, match=words):
        list(RayEngine(1, address=address).run(task, [1]))


def test_a_connection_that_is_there_is_used_from_any_thread_and_not_swapped(address: str, tmp_path: Path) -> None:
    """Not even the main thread's handlers of signals are needed."""
    got: list[Any] = []

    def run() -> None:
        with connected(address, 1, 0):
            assert joins_cluster(None)
            with pytest.raises(UsageError, match=r"is connected to the Ray cluster at .* already"):
                next(RayEngine(1, address="10.0.0.1:6379").run(Work(tmp_path), [("square", 1)]))
            got.extend(RayEngine(1).run(Work(tmp_path), [("square", 5)]))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert [event.result for event in got if isinstance(event, Done)] == [25]
    assert not joins_cluster(None)


def test_a_cluster_of_ones_own_asks_for_a_token_and_leaves_no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray._private.authentication.authentication_utils import is_token_auth_enabled

    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    with ray_cluster_module._token():
        assert os.environ["RAY_AUTH_MODE"] == "token"
        assert len(os.environ["RAY_AUTH_TOKEN"]) == 64
        assert is_token_auth_enabled()
    assert not {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN"} & os.environ.keys()
    assert not is_token_auth_enabled()
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with ray_cluster_module._token():
        assert os.environ["RAY_AUTH_MODE"] == "disabled"
        assert "RAY_AUTH_TOKEN" not in os.environ


def test_a_cluster_without_tokens_cannot_follow_one_with_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_cluster_module, "_modes", set())
    for mode in ("disabled", "token", "token"):
        monkeypatch.setenv("RAY_AUTH_MODE", mode)
        ray_cluster_module._check_one_mode()
    monkeypatch.delenv("RAY_AUTH_MODE")
    with pytest.raises(UsageError, match="use another one"):
        ray_cluster_module._check_one_mode()


@pytest.mark.parametrize(
    ("place", "words"),
    [("127.0.0.1:1", "no Ray cluster can be joined at 127.0.0.1:1: .*refused"), ("ray://head:10001", "ray job submit")],
)
def test_a_cluster_that_is_not_there_is_a_line(place: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=words):
        next(RayEngine(1, address=place).run(Work(tmp_path), [("square", 1)]))


def test_without_ray_the_extra_is_named(
    tiny_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from bokehsynth import cli

    monkeypatch.setitem(sys.modules, "ray", None)
    line = ["bokehsynth", "generate", str(tiny_recipe), "--out", str(tmp_path / "set")]
    monkeypatch.setattr(sys, "argv", [*line, "--engine", "ray"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    (words,) = capsys.readouterr().err.splitlines()
    assert "pip install 'bokehsynth[ray]'" in words
    assert not (tmp_path / "set").exists()
    monkeypatch.setattr(sys, "argv", [*line, "--ray-address", "auto"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    assert "is for --engine ray" in capsys.readouterr().err

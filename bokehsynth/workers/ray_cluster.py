"""Connects to a Ray cluster, or starts one on this machine for the length of a run; keeps Ray off the terminal."""

import contextlib
import logging
import os
import secrets
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from typing import Any

from bokehsynth.errors import UsageError, printable
from bokehsynth.workers.ray_watchdog import watched_cluster
from bokehsynth.workers.signals import SIGNALS

OBJECT_STORE = 80 << 20
"""Bytes of the object store of a cluster that is started here: the task, and messages of some hundred bytes."""

MOST_TEMPORARY = 20
"""Characters of a folder for temporary files under which Ray's sockets still have names short enough (107)."""

CONNECT_SECONDS = 10.0
"""How long the head of a cluster may take to answer a connection."""

_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",  # Ray would send statistics over the network
    "RAY_SCHEDULER_EVENTS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # else a warning, and the behaviour that is to come
    "RAY_worker_niceness": "0",  # of a cluster started here: else its workers give way to all other processes
}


def import_ray() -> Any:
    """The module `ray`; a UsageError that names the extra where it is not installed."""
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError as error:
        raise UsageError(
            f"engine ray needs Ray, which cannot be imported ({error}); pip install 'bokehsynth[ray]', or use --engine "
            "local"
        ) from None
    return ray


def cluster_address(address: str | None) -> str | None:
    """The address of the cluster to join: the one given, else RAY_ADDRESS as Ray's own programs take it.

    None where a cluster is to be started here: without either, and for `local`. UsageError for a Ray Client's address.
    """
    found = address or os.environ.get("RAY_ADDRESS") or "local"
    if "://" in found:
        raise UsageError(
            f"{printable(found)[:200]}: is an address of Ray's client, which cannot follow a run; start the line on a "
            "node of the cluster (`ray job submit`), with --ray-address auto"
        )
    return None if found == "local" else found


def joins_cluster(address: str | None) -> bool:
    """Whether a run finds its cluster there: by an address, or since this program is connected to one already."""
    ray = sys.modules.get("ray")
    return cluster_address(address) is not None or (ray is not None and ray.is_initialized())


@contextlib.contextmanager
def connected(address: str | None, cpus: int, gpus: int) -> Iterator[Any]:
    """Yield `ray`, connected to the cluster at `cluster_address`, or to one started with these resources for the block.

    A connection that the calling program has already is used and left open. UsageError if there is no such cluster,
    it is not the one connected to, or it cannot be joined (another version of Ray or Python).
    """
    ray = import_ray()
    if ray.is_initialized():
        _check_same_cluster(address, ray.get_runtime_context().gcs_address)
        yield ray
        return
    address = cluster_address(address)
    if address is not None:
        _check_address(address)
    with contextlib.ExitStack() as stack:
        options: dict[str, Any] = {"address": address}
        if address is None:
            stack.enter_context(_token())
            options = {
                "address": "local", "num_cpus": cpus, "num_gpus": gpus, "object_store_memory": OBJECT_STORE,
                "include_dashboard": False, **stack.enter_context(_temporary_folder()),
            }  # fmt: skip
        _check_one_mode()
        quiet = {"log_to_driver": False, "logging_level": logging.CRITICAL}
        stack.callback(ray.shutdown)  # also one that was started in part
        with _own_signals():
            try:
                ray.init(**options, **quiet, job_config=_job_config())
            except (ConnectionError, RuntimeError, ValueError, OSError, TimeoutError) as error:
                where = f"no Ray cluster can be joined at {address}" if address else "Ray cannot be started here"
                raise UsageError(f"{where}: {' '.join(str(error).split())[:500]}") from None
        stack.enter_context(_without_reports())
        yield ray


def _check_address(address: str) -> None:
    """UsageError for a place where nothing listens, which Ray itself would ask for minutes."""
    host, colon, port = address.rpartition(":")
    if colon and port.isdecimal():
        try:
            socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
        except (OSError, OverflowError) as error:
            raise UsageError(f"no Ray cluster can be joined at {address}: {error}") from None


def _check_same_cluster(asked: str | None, connected_to: str) -> None:
    """UsageError if an address was asked for, and this program is connected to another."""

    def resolved(address: str) -> str:
        host, _, port = address.rpartition(":")
        with contextlib.suppress(OSError):
            host = socket.gethostbyname(host)
        return f"{host}:{port}"

    if asked not in {None, "", "auto"} and (asked == "local" or resolved(str(asked)) != resolved(connected_to)):
        raise UsageError(
            f"Ray address {asked!r:.100}: this program is connected to the Ray cluster at {connected_to} already; "
            "leave the address out to use that one, or call ray.shutdown() first"
        )


_modes: set[str] = set()
"""RAY_AUTH_MODE of the clusters of this process."""


def _check_one_mode() -> None:
    """UsageError for a cluster without tokens after one with them: Ray's core asks for them as long as a process lives.

    The cluster's calls would be refused: it would take the owner of its workers for gone, and end them.
    """
    mode = "token" if os.environ.get("RAY_AUTH_MODE", "").lower() == "token" else "disabled"
    if mode != "token" and "token" in _modes:
        raise UsageError(
            "this process has run a Ray cluster with token authentication, as one that is started for a run has, and "
            "this cluster has none (RAY_AUTH_MODE); Ray cannot go back within a process: use another one"
        )
    _modes.add(mode)


@cache
def _own_token() -> str:
    """The secret of clusters of this process; Ray keeps the first one that it reads."""
    return secrets.token_hex(32)


@contextlib.contextmanager
def _token() -> Iterator[None]:
    """Within the block a cluster that is started obeys only processes that know a secret of this one.

    Whatever can reach the ports of a cluster without one may run any code as its user. The secret is in the environment
    of its processes alone, no file. Variables of these names that are set decide.
    """
    if "RAY_AUTH_MODE" in os.environ:
        yield
        return
    added = {"RAY_AUTH_MODE": "token"}
    if not {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys():
        added["RAY_AUTH_TOKEN"] = _own_token()
    os.environ.update(added)
    _read_variables()
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)
        _read_variables()


def _read_variables() -> None:
    """Have Ray read its variables again, as it does itself where it turns tokens on: it may have read them before."""
    import_module("ray._raylet").Config.initialize("")


def _job_config() -> Any:
    """A job whose workers import nothing from the directories of the caller and its script, which Ray puts first.

    A file there would replace a module of the same name; PYTHONPATH of the nodes says where classes of one's own lie.
    """
    from ray.job_config import JobConfig

    class Job(JobConfig):
        def _runtime_env_has_working_dir(self) -> bool:
            return True  # the one case in which Ray leaves those directories out

    return Job()


@contextlib.contextmanager
def _temporary_folder() -> Iterator[dict[str, str]]:
    """The option for a folder of Ray's logs and sockets that goes with the cluster, where names are short enough."""
    base = next((base for base in (tempfile.gettempdir(), "/tmp") if _is_short(base)), None)
    if base is None:
        yield {}
        return
    folder = os.path.realpath(tempfile.mkdtemp(prefix="bsray-", dir=base))
    with watched_cluster(folder):
        yield {"_temp_dir": folder}


def _is_short(base: str) -> bool:
    return len(os.path.realpath(base)) <= MOST_TEMPORARY and os.access(base, os.W_OK | os.X_OK)


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Keep this process's handlers in spite of Ray's, and Ctrl-C, which reaches the whole group, from Ray's processes.

    Those that are started in the block inherit what is blocked. SIGTERM is left to them: with it Ray's reaper ends them
    once this process is gone.
    """
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():  # in another one Ray sets none, and none can be set
            for number, handler in handlers.items():
                signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


@contextlib.contextmanager
def _without_reports() -> Iterator[None]:
    """Keep what Ray's daemons say of dead workers off stdout: the run itself tells of them, and nothing else stops it.

    `log_to_driver=False` stops the workers' lines, not these; Ray has no public switch for them.
    """
    from ray._private import worker

    name = "print_to_stdstream"
    before = getattr(worker, name, None)
    setattr(worker, name, lambda *arguments, **options: None)
    try:
        yield
    finally:
        setattr(worker, name, before)

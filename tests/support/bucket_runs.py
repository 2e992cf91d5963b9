"""Runs that are killed while they make a set in a bucket, and a reader that looks on; started by tests/chaos.

    python -m support.bucket_runs kills RECIPE BUCKET KILLS SEED     two machines at a time; prints each finished set
    python -m support.bucket_runs look RECIPE BUCKET                 reads whatever is committed, until stdin speaks

Everything is loaded once; each run is a fork that ends by SIGKILL. A fork may use buckets, since its parent has not.
"""

import hashlib
import os
import random
import select
import signal
import sys
import time
import traceback
from pathlib import Path

from bokehsynth.errors import DataError
from bokehsynth.generation.generate import GenerateOptions, generate
from bokehsynth.generation.plan import all_plans
from bokehsynth.pipeline import make_sample
from bokehsynth.recipe import load_recipe
from bokehsynth.shards import Layout, find_shard, open_dataset
from bokehsynth.stores import ObjectPath
from bokehsynth.untrusted_files import open_regular
from bokehsynth.workers.events import Done

LONGEST = 6.0
"""Seconds after which a run is killed at the latest."""


class EngineHere:
    """Runs the tasks of a run in this process."""

    workers = 1

    def run(self, task, specs):
        for spec in specs:
            yield Done(spec, task(spec, lambda units: None), 1, 0.1)


def start(recipe: str, url: str, machine: str) -> int:
    """Fork a run; its process id. It exits with 0 once the set is complete."""
    if (pid := os.fork()) == 0:
        os.environ["XDG_CACHE_HOME"] = machine
        code = 1
        try:
            code = 0 if generate(recipe, url, device="cpu").complete else 3
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return pid


def kills(recipe: str, bucket: str, count: int, seed: int) -> None:
    """Kill runs at random moments; whenever a set is complete, print its URL and begin another one."""
    GenerateOptions.make_engine = lambda self, allocation: EngineHere()  # type: ignore[method-assign,return-value]
    loaded = load_recipe(recipe)
    make_sample(loaded, 0, "train", "cpu")
    chance, done, number = random.Random(seed), 0, 0
    machines = [str(Path(recipe).parent / name) for name in ("alpha", "beta")]
    while done < count:
        url = f"s3://{bucket}/set-{number}"
        runs = [start(recipe, url, machine) for machine in machines]
        end = time.monotonic() + chance.uniform(0, LONGEST)
        complete = False
        while time.monotonic() < end and not complete:
            time.sleep(0.02)
            for pid in list(runs):
                found, status = os.waitpid(pid, os.WNOHANG)
                if found:
                    runs.remove(pid)
                    complete |= os.waitstatus_to_exitcode(status) == 0
                    assert os.waitstatus_to_exitcode(status) == 0, f"a run ended with {status}"
        for pid in runs:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            done += 1
        if complete:
            print(url, flush=True)
            number += 1
    if not complete:
        assert start_and_wait(recipe, url, machines[0]), f"{url}: the run after the last kill did not end well"
        print(url, flush=True)


def start_and_wait(recipe: str, url: str, machine: str) -> bool:
    """Let a run go to its end."""
    return os.waitstatus_to_exitcode(os.waitpid(start(recipe, url, machine), 0)[1]) == 0


def look(recipe: str, bucket: str) -> None:
    """Read every committed shard and every set that says it is whole; print what is torn, and a count at the end."""
    plans, looks, number = all_plans(load_recipe(recipe)), 0, 0
    while not select.select([sys.stdin], [], [], 0)[0]:
        root = ObjectPath.from_url(f"s3://{bucket}/set-{number}")
        layout = Layout(root)
        for plan in plans:
            marker = find_shard(layout, plan)
            if marker is None:
                continue
            looks += 1
            with open_regular(layout.tar(plan)) as file:
                if hashlib.sha256(file.read()).hexdigest() != marker.sha256:
                    print(f"torn: {layout.tar(plan)}", flush=True)
        if layout.dataset.is_file():
            try:
                for split in ("train", "val"):
                    looks += len(list(open_dataset(root, split)))
            except DataError as error:
                print(f"torn: {error}", flush=True)
        if (ObjectPath.from_url(f"s3://{bucket}/set-{number + 1}") / ".bokehsynth").is_dir():
            number += 1
    print(f"looked {looks}", flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "kills":
        kills(sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
    else:
        look(sys.argv[2], sys.argv[3])

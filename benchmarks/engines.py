"""Samples per second of a Ray cluster's workers, and of workers that write to S3, beside as many of the local engine.

PYTHONPATH=tests python -m benchmarks.engines [--size 384] [--samples 64] [--shard 8] [--workers 2] [--rounds 3]

All three make the same set in turn. Ray's cluster is there for its own runs alone; the S3 server is moto's, on this
machine, and shares its CPUs. The rate is that of the median shard, from being handed out to its result, times the
workers; the first shard of each worker, which loads the kernels, is left out. The whole time has their starts, too.
"""

import argparse
import contextlib
import json
import os
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import bokehsynth as bs
from benchmarks.machine import machine_lines
from bokehsynth.files import data_path, files_in, sha256_bytes
from bokehsynth.stores import StoredPath

RECIPE = """\
name: benchmark
seed: 3
samples: {{train: {samples}}}
size: {size}
scene:
  foregrounds: 2
  blur: {{kind: uniform, low: 0, high: 32}}
shards: {{samples: {shard}}}
"""


def main() -> None:
    """Make the same set in all ways in turn, compare the bytes, and print the table."""
    from support.s3_server import make_bucket, s3_server, variables

    from bokehsynth.workers.ray_cluster import connected

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=384)
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--shard", type=int, default=8, help="samples in a shard")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    found: dict[str, list[tuple[float, float]]] = {"local": [], "ray": [], "s3": []}
    with TemporaryDirectory() as folder, s3_server() as port:
        make_bucket(port, "benchmark")
        os.environ.update(variables(port))
        path = Path(folder) / "benchmark.yaml"
        path.write_text(RECIPE.format(size=asked.size, samples=asked.samples, shard=asked.shard))
        bs.make_sample(bs.load_recipe(path), 0, backend="cpu")  # compiles the kernels, where they are not
        tars: dict[str, bytes] = {}
        for number in range(asked.rounds):
            for way in [*found][number % 3 :] + [*found][: number % 3]:
                place = f"s3://benchmark/{number}" if way == "s3" else str(Path(folder) / f"{way}{number}")
                cluster = connected(None, asked.workers, 0) if way == "ray" else contextlib.nullcontext()
                with cluster:
                    begun = time.perf_counter()
                    bs.generate(path, place, engine="ray" if way == "ray" else "local", workers=asked.workers)
                    whole = time.perf_counter() - begun
                made = {tar.name: sha256_bytes(read_bytes(tar)) for tar in files_in(data_path(place) / "train")}
                assert made == (tars := tars or made), "the bytes differ"
                found[way].append((rate(data_path(place), asked.shard, asked.workers), whole))
                print(f"round {number} {way}: {found[way][-1][0]:.3f} samples/s, {whole:.1f} s", flush=True)
    report(found)


def rate(out: StoredPath, shard: int, workers: int) -> float:
    """Samples per second of all workers, from the times of full shards in the event log."""
    (log,) = files_in(out / "logs", "events*.jsonl")
    events = [json.loads(line) for line in read_bytes(log).splitlines()]
    seconds = [event["seconds"] for event in events if event["event"] == "committed" and event["samples"] == shard]
    return shard * workers / statistics.median(seconds[workers:])


def read_bytes(path: StoredPath) -> bytes:
    """All of a file."""
    return path.read_bytes() if isinstance(path, Path) else path.read_bytes(1 << 30)


def report(found: dict[str, list[Any]]) -> None:
    """Print the medians and the ratio."""
    for line in machine_lines("PYTHONPATH=tests python -m benchmarks.engines"):
        print(line)
    print("\n| way | samples/s, median | whole run, s |\n|---|---|---|")
    for way, runs in found.items():
        rates, wholes = zip(*runs, strict=True)
        print(f"| {way} | {statistics.median(rates):.3f} | {statistics.median(wholes):.1f} |")
    for way in ("ray", "s3"):
        ratios = [there[0] / local[0] for there, local in zip(found[way], found["local"], strict=True)]
        each = ", ".join(f"{ratio:.2f}" for ratio in ratios)
        print(f"\n{way} / local, round by round: {each}; median {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()

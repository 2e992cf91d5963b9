"""Samples per second of a Ray cluster's workers beside as many of the local engine, interleaved.

python -m benchmarks.engines [--size 384] [--samples 64] [--shard 8] [--workers 2] [--rounds 3]

The rate is that of the median shard, from being handed out to its result, times the workers; the first shard of each
worker, which loads the kernels, is left out. The whole time has starts, too: of workers, not of the cluster.
"""

import argparse
import json
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.machine import machine_lines

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
    """Make the same set by both engines in turn, compare the bytes, and print the table."""
    import bokehsynth as bs
    from bokehsynth.workers.ray_cluster import connected

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=384)
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--shard", type=int, default=8, help="samples in a shard")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    found: dict[str, list[tuple[float, float]]] = {"local": [], "ray": []}
    with TemporaryDirectory() as folder, connected(None, asked.workers, 0):
        path = Path(folder) / "benchmark.yaml"
        path.write_text(RECIPE.format(size=asked.size, samples=asked.samples, shard=asked.shard))
        tars: dict[str, bytes] = {}
        for number in range(asked.rounds):
            for engine in ("local", "ray") if number % 2 == 0 else ("ray", "local"):
                out = Path(folder) / f"{engine}{number}"
                begun = time.perf_counter()
                bs.generate(path, out, engine=engine, workers=asked.workers)
                whole = time.perf_counter() - begun
                made = {tar.name: tar.read_bytes() for tar in out.glob("train/*.tar")}
                assert made == (tars := tars or made), "the engines' bytes differ"
                found[engine].append((rate(out, asked.shard, asked.workers), whole))
                print(f"round {number} {engine}: {found[engine][-1][0]:.3f} samples/s, {whole:.1f} s", flush=True)
    report(found)


def rate(out: Path, shard: int, workers: int) -> float:
    """Samples per second of all workers, from the times of full shards in the event log."""
    events = [json.loads(line) for line in (out / "logs/events.jsonl").read_text().splitlines()]
    seconds = [event["seconds"] for event in events if event["event"] == "committed" and event["samples"] == shard]
    return shard * workers / statistics.median(seconds[workers:])


def report(found: dict[str, list[Any]]) -> None:
    """Print the medians and the ratio."""
    for line in machine_lines("python -m benchmarks.engines"):
        print(line)
    print("\n| engine | samples/s, median | whole run, s |\n|---|---|---|")
    for engine, runs in found.items():
        rates, wholes = zip(*runs, strict=True)
        print(f"| {engine} | {statistics.median(rates):.3f} | {statistics.median(wholes):.1f} |")
    ratios = [ray[0] / local[0] for ray, local in zip(found["ray"], found["local"], strict=True)]
    print(f"\nray / local, round by round: {', '.join(f'{ratio:.2f}' for ratio in ratios)}; "
          f"median {statistics.median(ratios):.2f}")  # fmt: skip


if __name__ == "__main__":
    main()

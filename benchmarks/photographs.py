"""Samples per second of one core from photographs: a cold first shard, the next one, and where the time goes.

python -m benchmarks.photographs --foregrounds FOLDER --backgrounds FOLDER [--size 512] [--samples 24]
"""

import argparse
import io
import os
import statistics
import time
from collections import defaultdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.machine import machine_lines

RECIPE = """\
name: photographs
seed: 1
samples: {{train: {samples}}}
size: {size}
assets: {{foregrounds: ["{foregrounds}"], backgrounds: ["{backgrounds}"]}}
scene:
  foregrounds: 2
  blur: {{kind: uniform, low: 0, high: 32}}
  highlight_boost: {{kind: loguniform, low: 10, high: 100}}
"""
STAGES = ("draw", "compose", "render", "degrade", "encode", "write")


def main() -> None:
    """Index, then time every stage of every sample in this process, one thread, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--foregrounds", type=Path, required=True)
    parser.add_argument("--backgrounds", type=Path, required=True)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--samples", type=int, default=24)
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        path = Path(folder) / "recipe.yaml"
        names = {"foregrounds": options.foregrounds.absolute(), "backgrounds": options.backgrounds.absolute()}
        path.write_text(RECIPE.format(size=options.size, samples=3 * options.samples, **names))
        report(path, options.size, options.samples)


def report(path: Path, size: int, samples: int) -> None:
    """The tables."""
    import bokehsynth as bs
    from benchmarks.generator import check_stages_make_the_product
    from bokehsynth import pipeline
    from bokehsynth.assets.load import foreground_colors
    from bokehsynth.assets.load.store import AssetStore

    start = time.perf_counter()
    recipe = bs.load_recipe(path)
    assets = len(recipe.catalogue.assets)
    indexed = time.perf_counter() - start
    check_stages_make_the_product(path)
    foreground_colors.warm_up()
    pipeline.ASSET_STORE = AssetStore()  # what a new worker has: nothing
    seconds = [time_shard(recipe, shard * samples, samples) for shard in range(3)]
    print("\n".join(machine_lines("python -m benchmarks.photographs")))
    print(
        f"\n{size} px, two foregrounds, blur 0..32 px at 512, five PNG fields, one thread, CPU time, {samples} a shard;"
    )
    print(f"{assets} photographs, indexed in {indexed:.1f} s (from the index where there is one)\n")
    print("| stage | cold first shard, mean ms | second | third |\n|---|---|---|---|")
    totals = [sum(statistics.mean(shard[stage]) for stage in STAGES) for shard in seconds]
    for stage in STAGES:
        print(f"| {stage} | " + " | ".join(f"{1e3 * statistics.mean(shard[stage]):.1f}" for shard in seconds) + " |")
    print("| **all** | " + " | ".join(f"{1e3 * total:.1f}" for total in totals) + " |")
    print("| **samples/s per core** | " + " | ".join(f"**{1 / total:.2f}**" for total in totals) + " |")
    codecs(recipe)


def time_shard(recipe: Any, first: int, samples: int) -> dict[str, list[float]]:
    """Seconds of every stage for every sample of a shard."""
    from benchmarks.generator import stages_of
    from bokehsynth.shards.codec import encode_sample
    from bokehsynth.shards.tar import TarWriter

    seconds: dict[str, list[float]] = defaultdict(list)

    def timed(name: str, work: Any) -> Any:
        start = time.process_time()
        result = work()
        seconds[name].append(time.process_time() - start)
        return result

    for index in range(first, first + samples):
        sample = stages_of(recipe, index, timed)
        members = timed("encode", lambda sample=sample: encode_sample(sample, recipe.shards))
        tar = TarWriter(io.BytesIO())
        timed("write", lambda tar=tar, m=members, k=sample.key: [tar.add(f"{k}.{n}", data) for n, data in m.items()])
    return seconds


def codecs(recipe: Any, count: int = 6) -> None:
    """What the three colour pictures of a sample cost in PNG as stored, WebP, and JPEG XL if its plug-in is there."""
    import bokehsynth as bs
    from bokehsynth.shards.codec import encode_png, encode_webp

    samples = [bs.make_sample(recipe, index, backend="cpu") for index in range(count)]
    pictures = [sample[name] for sample in samples for name in ("lq", "hq", "aif")]
    encoders = {"png (stored)": encode_png, "webp, lossless": encode_webp} | _jpeg_xl()
    print("\n| colour codec | ms per sample | kB per sample |\n|---|---|---|")
    for name, encode in encoders.items():
        start = time.process_time()
        size = sum(len(encode(picture)) for picture in pictures)
        took = time.process_time() - start
        print(f"| {name} | {1e3 * took / count:.1f} | {size / count / 1e3:.0f} |")


def _jpeg_xl() -> dict[str, Any]:
    try:
        import pillow_jxl  # noqa: F401  # registers the format
        from PIL import Image
    except ImportError:
        return {}

    def encode(effort: int, picture: Any) -> bytes:
        stream = io.BytesIO()
        Image.fromarray(picture).save(stream, "JXL", lossless=True, effort=effort, num_threads=1)
        return stream.getvalue()

    return {f"jpeg xl, lossless, effort {n}": (lambda picture, n=n: encode(n, picture)) for n in (1, 3)}


if __name__ == "__main__":
    os.environ.setdefault("NUMBA_NUM_THREADS", "1")
    import cv2

    cv2.setNumThreads(1)
    main()

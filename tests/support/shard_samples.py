"""Small made-up samples and data sets for the tests of bokehsynth.shards."""

from pathlib import Path

import numpy as np

from bokehsynth.files import canonical_json
from bokehsynth.schema import DEFAULT_FIELDS, FIELDS, FORMAT_VERSION, Sample, ShardSpec, dequantize_map, sample_key
from bokehsynth.shards.dataset import describe_dataset, write_dataset_json
from bokehsynth.shards.layout import Layout
from bokehsynth.shards.plan import plan_shards
from bokehsynth.shards.writer import write_shard

IDENTITY = {"recipe_digest": "ab" * 32, "assets_digest": "cd" * 32, "lens_digest": "ef" * 32, "device": "cpu"}
IDENTITY["degradation_digest"] = "01" * 32
SCALES = {"defocus": 24 / 65535, "disparity": 1 / 65535, "mask": 1 / 65535}

# Shapes that differ from sample to sample, as the record of a scene does.
DRAWS = [{"scene": {"layers": [1, 2.5]}}, {"scene": None}, {"scene": [], "lens": {"blades": 6}}, {}, {"scene": "text"}]


def make_meta(split: str, index: int, height: int, width: int) -> dict:
    return {
        "format": FORMAT_VERSION,
        "index": index,
        "split": split,
        "seed": 7,
        "attempt": 0,
        "width": width,
        "height": height,
        "blur": float(index),
        "focus": 0.5,
        "radius_max": 3.25,
        "aperture": "disc",
        "defocus_scale": SCALES["defocus"],
        "disparity_scale": SCALES["disparity"],
        "assets": [f"asset-{number}" for number in range(1 + index % 3)],
        "recipe_digest": IDENTITY["recipe_digest"],
        "assets_digest": IDENTITY["assets_digest"],
        "lens_digest": IDENTITY["lens_digest"],
        "degradation_digest": IDENTITY["degradation_digest"],
        "draw": canonical_json(DRAWS[index % len(DRAWS)]),
    }


def make_sample(split: str, index: int, height: int = 13, width: int = 17, fields=DEFAULT_FIELDS) -> Sample:
    rng = np.random.default_rng([index, len(split)])
    arrays = {}
    for name in fields:
        if FIELDS[name].kind == "color":
            size = (height // 4 + 1, width // 4 + 1) if FIELDS[name].own_size else (height, width)
            arrays[name] = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        elif FIELDS[name].kind == "color16":
            arrays[name] = rng.integers(0, 65536, (height, width, 3), dtype=np.uint16)
        else:
            counts = rng.integers(0, 65536, (height, width), dtype=np.uint16)
            counts.flat[0], counts.flat[-1] = 0, 65535
            arrays[name] = dequantize_map(counts, SCALES.get(name, 1 / 65535))
    return Sample(sample_key(split, index), make_meta(split, index, height, width), arrays)


def samples_of(plan, **options):
    return (make_sample(plan.split, index, **options) for index in range(plan.first, plan.first + plan.count))


def write_dataset_files(layout: Layout, plans: dict, identity: dict = IDENTITY, name: str = "toy: one") -> dict:
    """Describe a data set of these shards per split, and write its card and `dataset.json`."""
    record = describe_dataset(layout, [p for shards in plans.values() for p in shards], name, identity, {})
    write_dataset_json(layout, record)
    return record


def make_dataset(root: Path, splits=None, spec: ShardSpec | None = None) -> Layout:
    """A finished data set: by default 10 train samples in shards of 4, 4, 2 and 3 val samples in one shard."""
    layout, spec = Layout(root), spec or ShardSpec(samples=4)
    plans = {split: plan_shards(split, n, spec.samples) for split, n in (splits or {"train": 10, "val": 3}).items()}
    for plan in [plan for shards in plans.values() for plan in shards]:
        write_shard(layout, plan, samples_of(plan, fields=spec.fields), spec, IDENTITY)
    write_dataset_files(layout, plans)
    return layout


def same(left: Sample, right: Sample) -> bool:
    return (
        left.key == right.key
        and dict(left.meta) == dict(right.meta)
        and left.arrays.keys() == right.arrays.keys()
        and all(
            left.arrays[name].dtype == right.arrays[name].dtype
            and np.array_equal(left.arrays[name], right.arrays[name])
            for name in left.arrays
        )
    )


def tree(root: Path) -> dict[str, bytes]:
    """Every file under `root` with its bytes."""
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}

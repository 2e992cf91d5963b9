"""Storing: samples into WebDataset shards and back. It knows no lens, no recipe and no rendering.

`docs/dataset-format.md` is the contract; `writer` commits shards, `reader` opens data sets, `verify` checks every byte.
"""

from bokehsynth.shards.codec import encode_sample, member_names, pixels_digest
from bokehsynth.shards.dataset import (
    MAX_DATASET_JSON,
    check_totals,
    describe_dataset,
    read_dataset,
    stored_plans,
    write_dataset_json,
)
from bokehsynth.shards.layout import Layout, refuse_lost_hidden, sweep_temporaries
from bokehsynth.shards.marker import (
    ShardMarker,
    committed_plans,
    common_identity,
    each,
    find_shard,
    find_shards,
    read_marker,
)
from bokehsynth.shards.plan import ShardPlan, contiguous, parse_range, plan_shards, shard_range
from bokehsynth.shards.png import PngEncoder, encode_png, encode_png_opencv
from bokehsynth.shards.reader import ShardDataset, open_dataset
from bokehsynth.shards.verify import VerifyReport, verify_dataset
from bokehsynth.shards.verify_shard import Fault
from bokehsynth.shards.writer import PackedSample, copy_shard, pack, restore_shard, write_shard

__all__ = [
    "MAX_DATASET_JSON",
    "Fault",
    "Layout",
    "PackedSample",
    "PngEncoder",
    "ShardDataset",
    "ShardMarker",
    "ShardPlan",
    "VerifyReport",
    "check_totals",
    "committed_plans",
    "common_identity",
    "contiguous",
    "copy_shard",
    "describe_dataset",
    "each",
    "encode_png",
    "encode_png_opencv",
    "encode_sample",
    "find_shard",
    "find_shards",
    "member_names",
    "open_dataset",
    "pack",
    "parse_range",
    "pixels_digest",
    "plan_shards",
    "read_dataset",
    "read_marker",
    "refuse_lost_hidden",
    "restore_shard",
    "shard_range",
    "stored_plans",
    "sweep_temporaries",
    "verify_dataset",
    "write_dataset_json",
    "write_shard",
]  # fmt: skip

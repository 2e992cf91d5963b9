"""Storing: samples into WebDataset shards and back. It knows no lens, no recipe and no rendering.

`docs/dataset-format.md` is the contract; `writer` commits shards, `reader` opens data sets, `verify` doubts them.
"""

from bokehsynth.shards.codec import decode_sample, encode_sample, pixels_digest
from bokehsynth.shards.dataset import (
    DatasetInfo,
    describe_dataset,
    read_dataset,
    stored_plans,
    write_dataset_files,
    write_description,
)
from bokehsynth.shards.marker import (
    Layout,
    ShardMarker,
    ShardPlan,
    check_shard,
    committed_plans,
    find_shard,
    plan_shards,
    sweep_temporaries,
)
from bokehsynth.shards.reader import ShardDataset, open_dataset
from bokehsynth.shards.verify import Fault, VerifyReport, verify_dataset
from bokehsynth.shards.writer import PackedSample, pack, write_shard

__all__ = [
    "DatasetInfo",
    "Fault",
    "Layout",
    "PackedSample",
    "ShardDataset",
    "ShardMarker",
    "ShardPlan",
    "VerifyReport",
    "check_shard",
    "committed_plans",
    "decode_sample",
    "describe_dataset",
    "encode_sample",
    "find_shard",
    "open_dataset",
    "pack",
    "pixels_digest",
    "plan_shards",
    "read_dataset",
    "stored_plans",
    "sweep_temporaries",
    "verify_dataset",
    "write_dataset_files",
    "write_description",
    "write_shard",
]

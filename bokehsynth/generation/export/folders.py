"""A data set as folders of files, one for each field: `train/lq/train-000000012.png`, as paired loaders want them."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

from bokehsynth.errors import DataError
from bokehsynth.files import fsync_directory, storage_errors
from bokehsynth.generation.export.create import create, create_folder
from bokehsynth.schema import sample_key
from bokehsynth.shards import ShardDataset, ShardPlan

WRITERS = 16
"""Files that are written at a time: each waits for the disk, and a file system brings several there as fast as one."""


def export_shard_to_folders(data: ShardDataset, plan: ShardPlan, target: Path) -> None:
    """Write the members of each sample of a shard as they are stored: `SPLIT/FIELD/KEY.SUFFIX`."""
    data.check_sha256(plan)
    folders: set[Path] = set()
    files = _files(data, plan, target, folders)
    with ThreadPoolExecutor(WRITERS) as pool:
        while some := list(islice(files, WRITERS)):
            list(pool.map(create, *zip(*some, strict=True)))
    for folder in folders:
        with storage_errors(folder):
            fsync_directory(folder)


def _files(data: ShardDataset, plan: ShardPlan, target: Path, folders: set[Path]) -> Iterator[tuple[Path, bytes]]:
    """Path and content of each file of a shard; the first sample's folders are made, and put into `folders`."""
    for index in range(plan.first, plan.first + plan.count):
        key = sample_key(plan.split, index)
        for member, content in data.members(index).items():
            field, _, suffix = member.rpartition(".")
            folder = target / plan.split / (field or member)
            if index == plan.first:
                create_folder(folder, target)
                folders.add(folder)
            elif folder not in folders:
                raise DataError(f"{data.layout.tar(plan)}: {key} has {member}, which the samples before it have not")
            yield folder / f"{key}.{suffix}", content

"""A data set as folders of files, one for each field: `train/lq/train-000000012.png`, as paired loaders want them."""

from pathlib import Path

from bokehsynth.errors import DataError
from bokehsynth.files import fsync_directory, storage_errors
from bokehsynth.generation.export.create import create, create_folder
from bokehsynth.schema import sample_key
from bokehsynth.shards import ShardDataset, ShardPlan


def export_shard_to_folders(data: ShardDataset, plan: ShardPlan, target: Path) -> None:
    """Write the members of each sample of a shard as they are stored: `SPLIT/FIELD/KEY.SUFFIX`."""
    data.check_sha256(plan)
    folders: set[Path] = set()
    for index in range(plan.first, plan.first + plan.count):
        key = sample_key(plan.split, index)
        members = data.members(index)
        for member, content in members.items():
            field, _, suffix = member.rpartition(".")
            folder = target / plan.split / (field or member)
            if index == plan.first:
                create_folder(folder, target)
                folders.add(folder)
            elif folder not in folders:
                raise DataError(f"{data.layout.tar(plan)}: {key} has {member}, which the samples before it have not")
            create(folder / f"{key}.{suffix}", content)
    for folder in folders:
        with storage_errors(folder):
            fsync_directory(folder)

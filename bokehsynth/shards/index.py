"""The index of a shard in memory: where the members of each sample stand in the tar, some 30 bytes a sample.

A reader that has touched every shard of a million samples holds them all.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bokehsynth.errors import DataError
from bokehsynth.schema import sample_key
from bokehsynth.shards.layout import Layout
from bokehsynth.shards.plan import ShardPlan
from bokehsynth.shards.tar import BLOCK, MAX_INDEX_ENTRY, TarEntry, padded, parse_index, split_name
from bokehsynth.untrusted_files import MAX_LIST, read_text


@dataclass(frozen=True)
class ShardIndex:
    """The members of the samples of one shard; all samples have the same, without a gap between them."""

    plan: ShardPlan
    members: tuple[str, ...]
    """`aif.png`, ..., `json`, ..., in the order of the tar."""
    starts: npt.NDArray[np.int64]
    """Byte at which the first header of each sample stands, [samples]."""
    sizes: npt.NDArray[np.unsignedinteger]
    """Bytes of each payload, [samples, members], in the smallest type that holds them."""

    def entries(self, index: int) -> list[TarEntry]:
        """The members of sample `index` of the split, which is one of this shard."""
        key, number = sample_key(self.plan.split, index), index - self.plan.first
        found, place = [], int(self.starts[number])
        for member, size in zip(self.members, self.sizes[number].tolist(), strict=True):
            found.append(TarEntry(f"{key}.{member}", place + BLOCK, size))
            place += BLOCK + padded(size)
        return found


def read_index(layout: Layout, plan: ShardPlan) -> ShardIndex:
    """The index of a shard; DataError unless it lists the plan's samples, each with the same members, in the tar."""
    path = layout.index(plan)
    try:
        size = layout.tar(plan).stat().st_size
        most = min(MAX_LIST, size // (2 * BLOCK) * MAX_INDEX_ENTRY + BLOCK)
        samples = parse_index(read_text(path, most), str(path))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error})") from None
    if len(samples) != plan.count:
        raise DataError(f"{path}: lists {len(samples)} samples where the shard holds {plan.count}")
    members = tuple(split_name(entry.name)[1] for entry in samples[0])
    for entries, key in zip(samples, plan.keys, strict=True):
        if split_name(entries[0].name)[0] != key:
            raise DataError(f"{path}: lists {entries[0].name} where {key} should stand: another shard's index")
        if [entry.name for entry in entries] != [f"{key}.{member}" for member in members]:
            raise DataError(f"{path}: lists other members of {key} than of the first sample; the index is damaged")
    last = samples[-1][-1]
    if last.offset + padded(last.size) > size:
        raise DataError(f"{path}: {last.name} would end at byte {last.offset + padded(last.size)}, beyond the tar")
    sizes = np.array([[entry.size for entry in entries] for entries in samples], np.uint64)
    starts = np.array([entries[0].offset - BLOCK for entries in samples], np.int64)
    return ShardIndex(plan, members, starts, sizes.astype(np.min_scalar_type(int(sizes.max()))))


def adjacent_runs(entries: Sequence[TarEntry]) -> list[list[TarEntry]]:
    """Entries in file order, in groups that stand side by side in the tar."""
    groups: list[list[TarEntry]] = []
    end = None
    for entry in entries:
        if entry.offset - BLOCK != end:
            groups.append([])
        groups[-1].append(entry)
        end = entry.offset + padded(entry.size)
    return groups

"""A data set as torch takes it; the only module of the reader that knows torch."""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import numpy as np

from bokehsynth.errors import UsageError
from bokehsynth.schema import Sample
from bokehsynth.shards.epoch import ReadingOrder

try:
    import torch
    from torch.utils.data import IterableDataset, get_worker_info
except ImportError as error:
    raise UsageError(
        f"as_torch needs torch, which cannot be imported ({error}); pip install 'bokehsynth[train]', or iterate over "
        "the data set itself"
    ) from None


class Reader(Protocol):
    """What is asked of a data set here; `shards.iteration.SampleReader` is one."""

    order: ReadingOrder

    def __len__(self) -> int: ...

    def part(self, worker: int, workers: int) -> Iterator[Sample]:
        """The loop of one of several loader workers."""

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next loop."""

    def state_dict(self) -> dict[str, Any]:
        """Where the loop stands."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""


class TorchSamples(IterableDataset[dict[str, Any]]):
    """The part of a rank, split over the workers of a DataLoader: each sample is read once an epoch.

    Samples are dicts: `key`, `index`, pictures as uint8 [3, H, W], maps as float32 [1, H, W]. `state_dict` and
    `load_state_dict` are those of the worker's own loop, as torchdata's StatefulDataLoader asks for them; with a plain
    DataLoader take `SampleReader.state_after`.
    """

    def __init__(self, reader: Reader) -> None:
        super().__init__()
        self.reader = reader

    def __len__(self) -> int:
        return self.reader.order.count(len(self.reader))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        info = get_worker_info()
        worker, workers = (info.id, info.num_workers) if info else (0, 1)
        for sample in self.reader.part(worker, workers):
            yield tensors(sample)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next loop; workers that persist count by themselves."""
        self.reader.set_epoch(epoch)

    def state_dict(self) -> dict[str, Any]:
        """Where the loop of this process stands."""
        return self.reader.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Let the next loop of this process go on from there."""
        self.reader.load_state_dict(state)


def tensors(sample: Sample) -> dict[str, Any]:
    """A sample as a dict of tensors, channels first."""
    arrays = {
        name: torch.from_numpy(np.array(array[None] if array.ndim == 2 else np.moveaxis(array, 2, 0)))
        for name, array in sample.arrays.items()
    }
    return {"key": sample.key, "index": int(sample.meta["index"]), **arrays}

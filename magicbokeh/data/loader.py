"""Batches: every sample a function of (seed, split, index, epoch), whoever makes it, when, and for how many processes.

A run is a list of micro-batches. `Plan` says which samples the m-th of them holds, in closed form, so that a resumed
run goes on with the very next sample and the number of workers changes nothing.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from bokehsynth import Sample, UsageError
from magicbokeh.data.augment import Arrays, apply_changes, draw_changes, no_changes
from magicbokeh.data.sources import Opened, Rendered
from magicbokeh.model.conditioning import defocus_map
from magicbokeh.recipe import AlternateStage, DataSpec, DepthStage, TrainRecipe

_ORDER = 1 << 17
"""Address space of the permutations."""


@dataclass(frozen=True)
class Batch:
    """Samples side by side, float32."""

    lq: Tensor
    hq: Tensor
    aif: Tensor
    """[B, 3, H, W] sRGB in -1..1."""
    defocus: Tensor
    """[B, 1, H, W] in 0..1: radius / blur_reference, as the network reads it."""
    disparity: Tensor
    """[B, 1, H, W] in 0..1, exact."""
    keys: list[str]

    def to(self, device: torch.device, dtype: torch.dtype = torch.float32) -> "Batch":
        """The same on another device."""
        return self._map(lambda tensor: tensor.to(device, dtype, non_blocking=True))

    def pin_memory(self) -> "Batch":
        """For the DataLoader: into page-locked memory."""
        return self._map(lambda tensor: tensor.pin_memory())

    def split(self) -> list["Batch"]:
        """Batches of one."""
        return [
            replace(self._map(lambda tensor, i=i: tensor[i : i + 1]), keys=[key])  # type: ignore[misc]
            for i, key in enumerate(self.keys)
        ]

    def _map(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        tensors = {name: change(getattr(self, name)) for name in ("lq", "hq", "aif", "defocus", "disparity")}
        return replace(self, **tensors)  # type: ignore[arg-type]  # mypy knows no field names here

    def __len__(self) -> int:
        return len(self.lq)


@dataclass(frozen=True)
class Address:
    """One sample of a run."""

    source: str
    """main or sr."""
    index: int
    epoch: int


@dataclass(frozen=True)
class Plan:
    """Which samples the micro-batches of one stage hold on this process."""

    seed: int
    stage: int
    batch: int
    accumulation: int
    rank: int
    world: int
    counts: dict[str, int]
    """Samples of an epoch, by source; 0 for one without end."""
    turns: Sequence[str]
    """The sources of a cycle of steps."""

    def micro_batch(self, number: int) -> list[Address]:
        """The samples of micro-batch `number`, counted from the stage's start."""
        step, part = divmod(number, self.accumulation)
        cycle, place = divmod(step, len(self.turns))
        source = self.turns[place]
        before = cycle * self.turns.count(source) + self.turns[:place].count(source)
        first = ((before * self.accumulation + part) * self.world + self.rank) * self.batch
        return [self.address(source, first + i) for i in range(self.batch)]

    def address(self, source: str, position: int) -> Address:
        """The sample at a position of the stage's stream of one source: epochs in an order of their own."""
        count = self.counts[source]
        if count == 0:
            return Address(source, (self.stage << 28) + position, 0)
        epoch, place = divmod(position, count)
        # Stages count their epochs apart, so that each sees its own order and augmentation.
        epoch += self.stage << 20
        return Address(source, int(_order(self.seed, epoch, count)[place]), epoch)


@lru_cache(maxsize=4)
def _order(seed: int, epoch: int, count: int) -> Any:
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(0, _ORDER, epoch))))
    return rng.permutation(count)


class _Steps(Sampler[list[Address]]):
    """The micro-batches from `start` to `end`."""

    def __init__(self, plan: Plan, start: int, end: int) -> None:
        self.plan, self.start, self.end = plan, start, end

    def __len__(self) -> int:
        return self.end - self.start

    def __iter__(self) -> Iterator[list[Address]]:
        return (self.plan.micro_batch(number) for number in range(self.start, self.end))


class TrainingSet(Dataset[Any]):
    """Samples by address, with their augmentation; what DataLoader workers hold."""

    def __init__(self, sources: dict[str, Opened], spec: DataSpec, seed: int, blur_reference: float) -> None:
        self.sources, self.spec, self.seed, self.blur_reference = sources, spec, seed, blur_reference

    def __getitem__(self, address: Address) -> Any:
        source = self.sources[address.source]
        if source.in_main and isinstance(source.train, Rendered):
            return address, source.train.set_up(address.index)
        return self.make(address)

    def make(self, address: Address) -> tuple[str, Arrays]:
        """Key and arrays of one sample."""
        return self._changed(address, self.sources[address.source].train[address.index])

    def _changed(self, address: Address, sample: Sample) -> tuple[str, Arrays]:
        changes = draw_changes(self.spec, self.seed, "train", address.index, address.epoch)
        return sample.key, apply_changes(sample, changes, self.spec)

    def collate(self, items: list[Any]) -> Any:
        """A batch; of scenes that were only set up, themselves, for `finish` to photograph."""
        if isinstance(items[0][0], Address):
            return items
        return to_batch(items, self.blur_reference)

    def finish(self, collated: Any) -> Batch:
        """In the main process: the batch, photographed here if workers only set it up."""
        if isinstance(collated, Batch):
            return collated
        made: dict[Address, Sample] = {}
        for name, source in self.sources.items():
            mine = [(address, set_up) for address, set_up in collated if address.source == name]
            if mine and isinstance(source.train, Rendered):
                samples = source.train.photograph([set_up for _, set_up in mine])
                made |= {address: sample for (address, _), sample in zip(mine, samples, strict=True)}
        items = [self._changed(address, made[address]) for address, _ in collated]
        return to_batch(items, self.blur_reference)


def to_batch(items: Sequence[tuple[str, Arrays]], blur_reference: float) -> Batch:
    """Arrays of samples to tensors."""

    def pictures(name: str) -> Tensor:
        stack = np.stack([getattr(arrays, name) for _, arrays in items])
        return torch.from_numpy(stack).permute(0, 3, 1, 2).to(torch.float32).div_(127.5).sub_(1).contiguous()

    def maps(values: list[Any]) -> Tensor:
        return torch.from_numpy(np.stack(values))[:, None].contiguous()

    return Batch(
        pictures("lq"),
        pictures("hq"),
        pictures("aif"),
        maps([defocus_map(arrays.defocus, blur_reference) for _, arrays in items]),
        maps([arrays.disparity for _, arrays in items]),
        [key for key, _ in items],
    )


def validation_batches(opened: Opened, spec: DataSpec, blur_reference: float, count: int, size: int) -> list[Batch]:
    """The first `count` val samples as they are stored, a window from the middle if the recipe crops."""
    indices = range(min(count, len(opened.val)))
    items = [
        (sample.key, apply_changes(sample, no_changes(), spec, fresh=False))
        for sample in map(opened.val.__getitem__, indices)
    ]
    return [to_batch(items[first : first + size], blur_reference) for first in range(0, len(items), size)]


def make_loader(data: TrainingSet, plan: Plan, start: int, end: int, workers: int, pin: bool) -> DataLoader[Any]:
    """A loader of the micro-batches `start` to `end`; workers are spawned, as everywhere, and have one thread each."""
    return DataLoader(
        data,
        batch_sampler=_Steps(plan, start, end),
        num_workers=workers,
        collate_fn=data.collate,
        multiprocessing_context="spawn" if workers else None,
        worker_init_fn=_one_thread if workers else None,
        prefetch_factor=4 if workers else None,
        pin_memory=pin,
    )


def _one_thread(_: int) -> None:
    import signal

    import cv2

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the main process decides
    cv2.setNumThreads(1)
    torch.set_num_threads(1)


def check_source(opened: Opened, recipe: TrainRecipe, name: str) -> None:
    """UsageError unless the recipe's stages can be trained on the source `name` (main or sr)."""
    what = "data.source" if name == "main" else "data.sr_source"
    crop, size = recipe.data.crop, opened.size
    if crop is not None and crop > min(size):
        raise UsageError(f"{what}: samples of {size[1]} x {size[0]} px are smaller than data.crop, {crop}")
    height, width = (crop, crop) if crop is not None else size
    depth_alone = all(isinstance(stage, DepthStage) for stage in recipe.stages)
    if (height % 64 or width % 64) and not depth_alone:
        raise UsageError(
            f"{what}: samples of {size[1]} x {size[0]} px: sides must be multiples of 64; "
            "set data.crop to one that fits, or another size in the data recipe"
        )
    for stage in recipe.stages if name == "main" else ():
        wants = {"aif", "defocus", "disparity"} if isinstance(stage, AlternateStage) else set()
        if isinstance(stage, DepthStage) and stage.teacher is None:
            wants = {"disparity"}
        if missing := sorted(wants - opened.stored):
            raise UsageError(f"{what}: stage {stage.stage} learns from {', '.join(missing)}, which it does not store")

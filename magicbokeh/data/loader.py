"""Batches in which every sample is a function of (seed, split, index, epoch), for any number of workers and processes.

A run is a list of micro-batches. `BatchSchedule` gives the samples of the m-th in closed form, so that a resumed run
continues with the very next sample and the number of workers changes nothing.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from bokehsynth import Sample, UsageError
from magicbokeh.data.augment import (
    SampleArrays,
    apply_augmentation,
    cut_window,
    draw_augmentation,
    no_augmentation,
    whole_fields,
    window_position,
)
from magicbokeh.data.sources import OnTheFlySource, OpenSource
from magicbokeh.model.conditioning import defocus_map
from magicbokeh.recipe import AlternateStage, DataSpec, DepthStage, FromScratchStage, TrainRecipe

_ORDER = 1 << 17
"""The permutations' part of the spawn key, apart from the stages of a data recipe and of `augment`."""


@dataclass(frozen=True)
class Batch:
    """Samples stacked along the first axis, float32."""

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
        """Copy to a device."""
        return self._map(lambda tensor: tensor.to(device, dtype, non_blocking=True))

    def pin_memory(self) -> "Batch":
        """Copy into page-locked memory; the DataLoader calls this."""
        return self._map(lambda tensor: tensor.pin_memory())

    def split(self) -> list["Batch"]:
        """Split into batches of one."""
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
class SampleRef:
    """Identifies one sample of a run."""

    source: str
    """main or sr."""
    index: int
    epoch: int
    window: int = 0
    """Which of the windows that are cut out of the sample in this epoch."""


@dataclass(frozen=True)
class BatchSchedule:
    """The samples of every micro-batch of one stage on this process."""

    seed: int
    stage: int
    batch: int
    accumulation: int
    rank: int
    world: int
    counts: dict[str, int]
    """Samples per epoch, by source; 0 for an endless one."""
    source_cycle: Sequence[str]
    """The source of each step, repeated cyclically."""
    windows: int = 1
    """Windows of each sample, next to each other in the stream."""

    def micro_batch(self, number: int) -> list[SampleRef]:
        """The samples of micro-batch `number`, counted from the stage's start."""
        step, part = divmod(number, self.accumulation)
        cycle, phase = divmod(step, len(self.source_cycle))
        source = self.source_cycle[phase]
        before = cycle * self.source_cycle.count(source) + self.source_cycle[:phase].count(source)
        first = ((before * self.accumulation + part) * self.world + self.rank) * self.batch
        return [self.sample_at(source, first + i) for i in range(self.batch)]

    def sample_at(self, source: str, position: int) -> SampleRef:
        """The sample at a position of the stage's stream from one source; every epoch has its own permutation."""
        count = self.counts[source]
        position, window = divmod(position, self.windows)
        if count == 0:
            return SampleRef(source, (self.stage << 28) + position, 0, window)
        epoch, place = divmod(position, count)
        # Stages number their epochs apart, so that each has its own order and augmentation.
        epoch += self.stage << 20
        return SampleRef(source, int(_permutation(self.seed, epoch, count)[place]), epoch, window)


@lru_cache(maxsize=4)
def _permutation(seed: int, epoch: int, count: int) -> Any:
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(0, _ORDER, epoch))))
    return rng.permutation(count)


class _MicroBatchSampler(Sampler[list[SampleRef]]):
    """Yields the micro-batches from `start` to `end`."""

    def __init__(self, schedule: BatchSchedule, start: int, end: int) -> None:
        self.schedule, self.start, self.end = schedule, start, end

    def __len__(self) -> int:
        return self.end - self.start

    def __iter__(self) -> Iterator[list[SampleRef]]:
        return (self.schedule.micro_batch(number) for number in range(self.start, self.end))


class TrainingSet(Dataset[Any]):
    """Augmented samples by `SampleRef`; DataLoader workers hold a copy."""

    def __init__(self, sources: dict[str, OpenSource], spec: DataSpec, seed: int, blur_reference: float) -> None:
        self.sources, self.spec, self.seed, self.blur_reference = sources, spec, seed, blur_reference
        self._newest: tuple[SampleRef, str, SampleArrays] | None = None
        """The sample of which a window was cut last; its other windows follow."""

    def __getitem__(self, ref: SampleRef) -> Any:
        source = self.sources[ref.source]
        if source.render_in_main and isinstance(source.train, OnTheFlySource):
            return ref, source.train.compose(ref.index)
        return self._augmented(ref, lambda: source.train[ref.index])

    def _augmented(self, ref: SampleRef, read: Callable[[], Sample]) -> tuple[str, SampleArrays]:
        augmentation = draw_augmentation(self.spec, self.seed, "train", ref.index, ref.epoch)
        first = replace(ref, window=0)
        if self._newest is None or self._newest[0] != first:
            sample = read()
            self._newest = first, sample.key, whole_fields(sample, augmentation, self.spec, fresh=True)
        _, key, whole = self._newest
        if ref.window:
            position = window_position(self.seed, "train", ref.index, ref.epoch, ref.window)
            augmentation = replace(augmentation, crop_position=position)
        return key, cut_window(whole, augmentation, self.spec)

    def collate(self, items: list[Any]) -> Any:
        """Stack samples to a Batch; composed scenes stay a list, which `render_batch` renders in the main process."""
        if isinstance(items[0][0], SampleRef):
            return items
        return to_batch(items, self.blur_reference)

    def render_batch(self, collated: Any) -> Batch:
        """Return the Batch of what `collate` gave, rendering the scenes that workers only composed. Main process."""
        if isinstance(collated, Batch):
            return collated
        made: dict[SampleRef, Sample] = {}
        for name, source in self.sources.items():
            composed = {ref: scene for ref, scene in collated if ref.source == name}
            if composed and isinstance(source.train, OnTheFlySource):
                made |= zip(composed, source.train.render(list(composed.values())), strict=True)
        items = [self._augmented(ref, lambda ref=ref: made[ref]) for ref, _ in collated]  # type: ignore[misc]
        return to_batch(items, self.blur_reference)


@contextmanager
def rendered_ahead(data: TrainingSet, loader: Iterable[Any], pin: bool) -> Iterator[Iterator[Batch]]:
    """The batches of what a loader collates. Where this process renders them, a thread is one ahead of the step.

    Rendering, degrading and stacking would otherwise wait for each step, and it for them. `pin`: in page-locked memory,
    where the loader, which saw no tensors, could not do it.
    """
    collated = iter(loader)
    if not any(source.render_in_main for source in data.sources.values()):
        yield map(data.render_batch, collated)
        return

    def make() -> Batch | None:
        found = next(collated, None)
        batch = None if found is None else data.render_batch(found)
        return batch.pin_memory() if pin and batch is not None else batch

    with ThreadPoolExecutor(1, "batches") as pool:

        def batches() -> Iterator[Batch]:
            coming = pool.submit(make)
            while (batch := coming.result()) is not None:
                coming = pool.submit(make)
                yield batch

        yield batches()


def to_batch(items: Sequence[tuple[str, SampleArrays]], blur_reference: float) -> Batch:
    """Stack keys and arrays of samples to tensors."""

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


def validation_batches(source: OpenSource, spec: DataSpec, blur_reference: float, count: int, size: int) -> list[Batch]:
    """The first `count` val samples without augmentation, cropped in the centre if the recipe crops."""
    samples = (source.val[index] for index in range(min(count, len(source.val))))
    items = [(sample.key, apply_augmentation(sample, no_augmentation(), spec, fresh=False)) for sample in samples]
    return [to_batch(items[first : first + size], blur_reference) for first in range(0, len(items), size)]


class _Loader(DataLoader[Any]):
    """A loader whose processes import nothing from the working directory (from Python 3.11 on).

    A spawned process is a `python -c`, whose path begins there: a file `socket.py` would be run as the library's.
    """

    def __iter__(self) -> Any:
        before = os.environ.get("PYTHONSAFEPATH")
        os.environ["PYTHONSAFEPATH"] = "1"
        try:
            return super().__iter__()
        finally:
            os.environ.pop("PYTHONSAFEPATH")
            if before is not None:
                os.environ["PYTHONSAFEPATH"] = before


def make_loader(
    data: TrainingSet, schedule: BatchSchedule, start: int, end: int, workers: int, pin: bool
) -> DataLoader[Any]:
    """A loader of the micro-batches `start` to `end`; its workers are spawned and have one thread each."""
    return _Loader(
        data,
        batch_sampler=_MicroBatchSampler(schedule, start, end),
        num_workers=workers,
        collate_fn=data.collate,
        multiprocessing_context="spawn" if workers else None,
        worker_init_fn=_init_worker if workers else None,
        prefetch_factor=4 if workers else None,
        pin_memory=pin,
    )


def _init_worker(_: int) -> None:
    import signal

    import cv2

    for number in (signal.SIGINT, signal.SIGTERM):  # they may reach the whole process group; the main process decides
        signal.signal(number, signal.SIG_IGN)
    cv2.setNumThreads(1)
    torch.set_num_threads(1)


def check_source(source: OpenSource, recipe: TrainRecipe, name: str) -> None:
    """UsageError unless the recipe's stages can be trained on the source `name` (main or sr)."""
    what = "data.source" if name == "main" else "data.sr_source"
    crop, size = recipe.data.crop, source.size
    if crop is not None and crop > min(size):
        raise UsageError(f"{what}: samples of {size[1]} x {size[0]} px are smaller than data.crop, {crop}")
    height, width = (crop, crop) if crop is not None else size
    only_depth = all(isinstance(stage, DepthStage) for stage in recipe.stages)
    multiple = recipe.model.build(1.0).multiple
    if (height % multiple or width % multiple) and not only_depth:
        raise UsageError(
            f"{what}: samples of {width} x {height} px: sides must be multiples of {multiple}; "
            "set data.crop to one that fits, or another size in the data recipe"
        )
    for stage in recipe.stages if name == "main" else ():
        required = {"aif", "defocus", "disparity"} if isinstance(stage, AlternateStage | FromScratchStage) else set()
        if isinstance(stage, DepthStage) and stage.teacher is None:
            required = {"disparity"}
        if missing := sorted(required - source.stored):
            raise UsageError(f"{what}: stage {stage.stage} learns from {', '.join(missing)}, which it does not store")

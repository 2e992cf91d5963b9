"""What every data set has that is read sample by sample: iteration in an epoch's order, with a position to save."""

import operator
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from bokehsynth.errors import UsageError
from bokehsynth.files import canonical_json, sha256_bytes
from bokehsynth.schema import FORMAT_VERSION, Sample
from bokehsynth.shards.epoch import ReadingOrder, positions_after
from bokehsynth.shards.plan import ShardPlan

if TYPE_CHECKING:
    from bokehsynth.shards.torch_samples import TorchSamples


class SampleReader(ABC):
    """The samples of one split: by number over the whole split, and in a loop this process's part of an epoch.

    A `for` loop begins with the first sample of the part, or where `load_state_dict` put it; every further loop is the
    next epoch. `state_dict` says where the loop that ran last stands.
    """

    fields: list[str]
    """Names of the arrays that each sample will hold."""

    def __init__(self, split: str, plans: list[ShardPlan], identity: Mapping[str, str]) -> None:
        self.split, self.plans = split, plans
        self.identity = dict(identity)
        """Digests of what the samples were made from."""
        self.order = ReadingOrder()
        self.epoch = 0
        self._begun = False
        self._start: list[int] | None = None
        """Loaded positions of the loader workers, where no loop of this process took them up yet."""
        self._any_epoch = False
        """Whether `_start` came without an epoch: the next `set_epoch` says which one it is of."""
        self._base: list[int] | None = None
        """The loaded positions at which the last loop began."""
        self._place = (0, 1)
        """Worker and workers of the last loop."""
        self._position = 0

    @abstractmethod
    def read(self, index: int) -> Sample:
        """Sample `index`; IndexError unless it is 0 or above, and there."""

    @property
    def digest(self) -> str:
        """SHA-256 of the identity: what `recipe.yaml@DIGEST` names."""
        return sha256_bytes(canonical_json(self.identity))

    def __len__(self) -> int:
        return self.plans[-1].first + self.plans[-1].count

    def __getitem__(self, index: int) -> Sample:
        number = operator.index(index)
        return self.read(number + len(self) if number < 0 else number)

    def __iter__(self) -> Iterator[Sample]:
        return self.part(0, 1)

    def part(self, worker: int, workers: int) -> Iterator[Sample]:
        """The loop of one of several loader workers of this rank: together they read each sample of the rank once.

        Raises UsageError where a position was loaded that was saved for another number of workers.
        """
        begun = self._begun_at(workers, self._start)
        if self._start is None:
            self.epoch += self._begun
        self._base, self._start, self._begun = self._start, None, True
        self._place, self._position = (worker, workers), begun[worker]
        return self._loop(self.order.indices(self.plans, self.epoch, worker, workers), begun[worker])

    def _begun_at(self, workers: int, loaded: list[int] | None) -> list[int]:
        """Where so many workers begin that have loaded these positions; UsageError if those are of another number."""
        if loaded is not None and len(loaded) != workers:
            raise UsageError(f"this position was saved for {len(loaded)} loader workers; here are {workers}")
        return [0] * workers if loaded is None else loaded

    def _loop(self, indices: Sequence[int], start: int) -> Iterator[Sample]:
        for place in range(start, len(indices)):
            sample = self.read(int(indices[place]))
            # Counted before it is yielded: a state taken while sample i is in use resumes at i + 1.
            self._position = place + 1
            yield sample

    def set_epoch(self, epoch: int) -> None:
        """Let the next loop be that of an epoch, 0 or above: from its first sample, or where `load_state_dict` put it.

        A loaded position of another epoch is dropped.
        """
        if type(epoch) is not int or epoch < 0:
            raise UsageError(f"an epoch must be a number of 0 or above, got {epoch!r:.40}")
        if self._start is not None and (self._any_epoch or epoch == self.epoch):
            self.epoch, self._any_epoch = epoch, False
            return
        self.epoch, self._begun, self._start, self._base = epoch, False, None, None
        self._position = 0

    def state_dict(self) -> dict[str, Any]:
        """The position of the last loop, as plain JSON: `load_state_dict` continues with the sample after it.

        That of one of several loader workers says nothing of the others: it is for a worker in the same place.
        """
        worker, workers = self._place
        at = self._start or [self._position if number == worker else 0 for number in range(workers)]
        return self._state(at if len(at) > 1 else at[0])

    def state_after(self, batches: int, batch_size: int, workers: int) -> dict[str, Any]:
        """The position after so many batches of a torch DataLoader over `as_torch()`, `workers` of them (0: none).

        Batches are counted since this loader began, at the start of the epoch or where `load_state_dict` put it.
        UsageError if that position was saved for another number of workers.
        """
        parts = max(1, workers)
        counts = [self.order.count(len(self), worker, parts) for worker in range(parts)]
        begun = self._begun_at(parts, self._start or self._base)
        given = positions_after(counts, batch_size, batches, begun)
        return self._state(given[0]) if parts == 1 else self._state(given)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Let the next loop start where `state` was taken.

        UsageError if that was another data set, split, part or order, or is no position of this one.
        """
        order = state.get("order")
        epoch: Any = order.get("epoch") if isinstance(order, Mapping) else self.epoch
        position: Any = state.get("position")
        own = self._state(position)
        if isinstance(order, Mapping) and "order" in own:
            own["order"]["epoch"] = epoch
        if dict(state) != own:
            raise UsageError(f"this position was saved for another data set or split: {dict(state)}; here it is {own}")
        start = position if isinstance(position, list) else [position]
        counts = [self.order.count(len(self), worker, len(start)) for worker in range(len(start))]
        if not start or not all(
            type(place) is int and 0 <= place <= most for place, most in zip(start, counts, strict=True)
        ):
            raise UsageError(f"a position must be 0 to {counts[0] if counts else 0}, got {position!r}")
        self.set_epoch(epoch)
        self._start, self._any_epoch = start, not isinstance(order, Mapping)

    def as_torch(self) -> "TorchSamples":
        """A torch IterableDataset of this part: dicts of tensors, each sample once over the workers of a DataLoader."""
        from bokehsynth.shards.torch_samples import TorchSamples

        return TorchSamples(self)

    def _state(self, position: Any) -> dict[str, Any]:
        state = {"format": FORMAT_VERSION, "identity": self.digest, "split": self.split, "position": position}
        if self.order != ReadingOrder() or isinstance(position, list):
            state["order"] = {"epoch": self.epoch, "shards": self._shards_digest, **vars(self.order)}
        return state

    @cached_property
    def _shards_digest(self) -> str:
        """SHA-256 of the shards' numbers of samples, which parts and orders follow from and the identity leaves out."""
        return sha256_bytes(canonical_json([plan.count for plan in self.plans]))

"""Where every file of a data set lies."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from bokehsynth.files import TMP_MARK, storage_errors
from bokehsynth.shards.plan import ShardPlan


@dataclass(frozen=True)
class Layout:
    """Every path of a data set under `root`. Nothing is created here."""

    root: Path

    @property
    def hidden(self) -> Path:
        """`.bokehsynth`: markers, indices and temporary files, which no reader takes for data."""
        return self.root / ".bokehsynth"

    @property
    def staging(self) -> Path:
        """`.bokehsynth/tmp`: shards being written, on the file system of the finished ones."""
        return self.hidden / "tmp"

    @property
    def identity(self) -> Path:
        """`.bokehsynth/identity.json`: digests of what the set is made from; written first."""
        return self.hidden / "identity.json"

    @property
    def machines(self) -> Path:
        """`.bokehsynth/machine.json`: the machines that have worked on the set."""
        return self.hidden / "machine.json"

    @property
    def extensions(self) -> Path:
        """`.bokehsynth/extensions.json`: the totals before each extension, if there was one."""
        return self.hidden / "extensions.json"

    @property
    def lock(self) -> Path:
        """`.bokehsynth/run.lock`: whose byte ranges the runs lock."""
        return self.hidden / "run.lock"

    @property
    def dataset(self) -> Path:
        """`dataset.json`: written last; the data set is whole when it is there."""
        return self.root / "dataset.json"

    @property
    def card(self) -> Path:
        """`README.md`, the Hugging Face data set card."""
        return self.root / "README.md"

    @property
    def recipe(self) -> Path:
        """`recipe.yaml`, resolved."""
        return self.root / "recipe.yaml"

    @property
    def schema(self) -> Path:
        """`schema.json` of the recipe."""
        return self.root / "schema.json"

    @property
    def assets(self) -> Path:
        """`assets.jsonl`, the frozen asset list."""
        return self.root / "assets.jsonl"

    @property
    def preview(self) -> Path:
        """`preview.png`, a contact sheet."""
        return self.root / "preview.png"

    @property
    def quarantine(self) -> Path:
        """`quarantine.jsonl`, assets and draws of samples that are not used."""
        return self.root / "quarantine.jsonl"

    @property
    def logs(self) -> Path:
        """`logs/`: times, hosts, attempts; the only part that differs from run to run."""
        return self.root / "logs"

    def split(self, split: str) -> Path:
        """`train/`: the tars of a split and nothing else."""
        return self.root / split

    def split_markers(self, split: str) -> Path:
        """`.bokehsynth/train/`: markers and indices of a split."""
        return self.hidden / split

    def tar(self, plan: ShardPlan) -> Path:
        """`train/train-000000.tar`."""
        return self.split(plan.split) / f"{plan.name}.tar"

    def marker(self, plan: ShardPlan) -> Path:
        """`.bokehsynth/train/train-000000.done.json`."""
        return self.split_markers(plan.split) / f"{plan.name}.done.json"

    def index(self, plan: ShardPlan) -> Path:
        """`.bokehsynth/train/train-000000.idx`, for DALI and for random access."""
        return self.split_markers(plan.split) / f"{plan.name}.idx"

    def shard_quarantine(self, plan: ShardPlan) -> Path:
        """`.bokehsynth/train/train-000000.quarantine.jsonl`: draws of its samples in quarantine, if any."""
        return self.split_markers(plan.split) / f"{plan.name}.quarantine.jsonl"

    def crash_log(self, plan: ShardPlan) -> Path:
        """`.bokehsynth/tmp/train-000000.crashes`: what its workers were making, until it is committed."""
        return self.staging / f"{plan.name}.crashes"


def sweep_temporaries(layout: Layout, plans: Iterable[ShardPlan] | None = None) -> list[Path]:
    """Delete what dead writers left behind, and return it.

    Call it under the run's lock: with `plans`, only leftovers of those shards go, since living runs may have the other
    ranges; without, every temporary file of the data set.
    """
    folders = [layout.root, layout.staging, layout.hidden]
    folders += [path for base in (layout.root, layout.hidden) for path in (base / "train", base / "val")]
    found = [path for folder in folders for path in sorted(folder.glob(f"*{TMP_MARK}*"))]
    found += sorted(layout.staging.glob("*.trail"))  # crash logs of version 0.4.0, which are no longer read
    names = None if plans is None else tuple(f"{plan.name}." for plan in plans)
    removed = [path for path in found if names is None or path.name.lstrip(".").startswith(names)]
    for path in removed:
        with storage_errors(path):
            path.unlink(missing_ok=True)
    return removed

"""Where every file of a data set lies."""

import re
import socket
import tempfile
from collections.abc import Iterable
from pathlib import Path

from bokehsynth.errors import DataError, UsageError
from bokehsynth.files import TMP_MARK, files_in, sha256_bytes, storage_errors, user_cache
from bokehsynth.rng import SPLITS
from bokehsynth.shards.plan import ShardPlan
from bokehsynth.stores import ObjectPath, StoredPath


class Layout:
    """Every path of a data set under `root`, a folder or a place in a bucket. Nothing is created here."""

    def __init__(self, root: StoredPath) -> None:
        self.root = root
        self.hidden = root / ".bokehsynth"
        """Markers, indices and temporary files, which no reader takes for data."""
        machine = _machine_folder(str(root)) if isinstance(root, ObjectPath) else root / ".bokehsynth"
        self.staging = machine / "tmp"
        """Shards being written, on the file system of the finished ones, and crash logs; of a set in a bucket crash
        logs alone, in a folder of this machine."""
        self.identity = self.hidden / "identity.json"
        """Digests of what the set is made from; written first."""
        self.machines = self.hidden / "machine.json"
        """The machines that have worked on the set."""
        self.extensions = self.hidden / "extensions.json"
        """The totals before each extension, if there was one."""
        self.lock = machine / "run.lock"
        """The file whose byte ranges the runs lock; of a set in a bucket those of this machine only."""
        self.dataset = root / "dataset.json"
        """Written last; the data set is whole when it is there."""
        self.card = root / "README.md"
        """The Hugging Face data set card."""
        self.recipe = root / "recipe.yaml"
        """The recipe, resolved."""
        self.schema = root / "schema.json"
        """The JSON schema of the recipe."""
        self.assets = root / "assets.jsonl"
        """The frozen asset list."""
        self.preview = root / "preview.png"
        """A contact sheet."""
        self.quarantine = root / "quarantine.jsonl"
        """Assets and draws of samples that are not used."""
        self.logs = root / "logs"
        """Times, hosts, attempts; the only part that differs from run to run."""

    def __reduce__(self) -> tuple[type["Layout"], tuple[StoredPath]]:
        return Layout, (self.root,)  # another machine has folders of its own

    @property
    def lost_hidden(self) -> bool:
        """Whether it is a finished set that was copied without `.bokehsynth`, as programs do that skip such folders."""
        return (
            self.dataset.is_file()
            and not self.identity.exists()
            and not any(path.exists() for path in (self.split_markers("train"), self.split_markers("val")))
        )

    @property
    def remote(self) -> bool:
        """Whether it lies in a bucket."""
        return isinstance(self.root, ObjectPath)

    def split(self, split: str) -> StoredPath:
        """`train/`: the tars of a split and nothing else."""
        return self.root / split

    def split_markers(self, split: str) -> StoredPath:
        """`.bokehsynth/train/`: markers and indices of a split."""
        return self.hidden / split

    def tar(self, plan: ShardPlan) -> StoredPath:
        """`train/train-000000.tar`."""
        return self.split(plan.split) / f"{plan.name}.tar"

    def marker(self, plan: ShardPlan) -> StoredPath:
        """`.bokehsynth/train/train-000000.done.json`."""
        return self.split_markers(plan.split) / f"{plan.name}.done.json"

    def index(self, plan: ShardPlan) -> StoredPath:
        """`.bokehsynth/train/train-000000.idx`, for DALI and for random access."""
        return self.split_markers(plan.split) / f"{plan.name}.idx"

    def shard_quarantine(self, plan: ShardPlan) -> StoredPath:
        """`.bokehsynth/train/train-000000.quarantine.jsonl`: draws of its samples in quarantine, if any."""
        return self.split_markers(plan.split) / f"{plan.name}.quarantine.jsonl"

    def crash_log(self, plan: ShardPlan) -> Path:
        """`.bokehsynth/tmp/train-000000.crashes`: what its workers were making, until it is committed."""
        return self.staging / f"{plan.name}.crashes"


def _machine_folder(url: str) -> Path:
    """The folder of this machine for a set in a bucket; also where several machines share a home."""
    words = re.sub(r"[^\w.-]+", "-", url, flags=re.ASCII)[-60:].strip("-")
    name = f"{words}-{sha256_bytes(url)[:12]}-{socket.gethostname()}"
    return (user_cache("bokehsynth", "runs") or Path(tempfile.gettempdir(), "bokehsynth-runs")) / name / ".bokehsynth"


def refuse_lost_hidden(layout: Layout) -> None:
    """DataError with the way out for a set without its folder of markers."""
    if layout.lost_hidden:
        raise DataError(
            f"{layout.root}: has no {layout.hidden.name}, which holds its markers and indices: it was copied without "
            f"hidden folders. Copy it too, or let `bokehsynth verify --fix {layout.root}` rebuild it from the tars"
        )


def refuse_linked_folders(root: Path) -> None:
    """UsageError if a folder of the set is a link that leads out of it: what is written there would be another's.

    To be asked before anything is written: a set may be a stranger's, and its `train` a link to a set of one's own.
    """
    layout, real = Layout(root), root.resolve()
    folders = [layout.hidden, layout.staging, layout.logs]
    folders += [place for split in SPLITS for place in (layout.split(split), layout.split_markers(split))]
    for folder in folders:
        if isinstance(folder, Path) and folder.is_symlink() and not folder.resolve().is_relative_to(real):
            raise UsageError(
                f"{folder}: is a link to {folder.resolve()}, and nothing is written through a link out of the data "
                "set: put that folder here, or mount it here"
            )


def sweep_temporaries(layout: Layout, plans: Iterable[ShardPlan]) -> list[StoredPath]:
    """Delete what dead writers of these shards left behind, and return it.

    Call it under the run's lock; living runs may have the other shards.
    """
    folders: list[StoredPath] = [layout.staging]
    if not layout.remote:  # an object is put whole or not at all
        folders += [layout.root, layout.hidden]
        folders += [path for base in (layout.root, layout.hidden) for path in (base / "train", base / "val")]
    found = [path for folder in folders for path in files_in(folder, f"*{TMP_MARK}*")]
    found += files_in(layout.staging, "*.trail")  # crash logs of version 0.4.0, which are no longer read
    names = tuple(f"{plan.name}." for plan in plans)
    removed = [path for path in found if path.name.lstrip(".").startswith(names)]
    for path in removed:
        with storage_errors(path):
            path.unlink(missing_ok=True)
    return removed

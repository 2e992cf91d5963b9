"""Sources of training samples: a data recipe or shards, indexed; the same index always gives the same sample."""

import json
import os
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from bokehsynth import (
    DataError,
    Recipe,
    RecipeError,
    Sample,
    SetUp,
    StorageError,
    UsageError,
    atomic_write,
    generate,
    load_recipe,
    make_sample,
    open_dataset,
    render_samples,
    resolve_device,
    set_up_sample,
)
from magicbokeh.recipe import SourceSpec


def usable_cpus() -> int:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


REQUIRED_FIELDS = ("lq", "hq")
"""Fields without which nothing can be trained."""
BUCKETS = ("s3://", "gs://", "az://")
"""URLs of data sets that are read where they are, by ranges; all others are downloaded."""
TRAINING_FIELDS = (*REQUIRED_FIELDS, "aif", "defocus", "disparity")
"""Fields that training reads where they are stored. Photographs without a lens (blur 0) need only the first two."""


class Source(Protocol):
    """Samples of one split, indexed."""

    def __len__(self) -> int:
        """Samples in an epoch."""
        ...

    def __getitem__(self, index: int) -> Sample:
        """Sample `index`."""
        ...


@dataclass
class OnTheFlySource:
    """Samples rendered from a recipe when they are read."""

    recipe: Recipe
    split: str
    backend: str

    def __len__(self) -> int:
        return self.recipe.count(self.split)

    def __getitem__(self, index: int) -> Sample:
        return make_sample(self.recipe, index, self.split, self.backend)

    def compose(self, index: int) -> SetUp:
        """Draw and compose a sample without rendering: a worker's part when the main process owns the GPU."""
        return set_up_sample(self.recipe, index, self.split)

    def render(self, composed: Sequence[SetUp]) -> list[Sample]:
        """Render composed samples, a batch for each CPU, which then degrades and encodes it; equal to `__getitem__`'s.

        On a device the batches take turns; what comes after them costs ten times as much.
        """
        parts = min(usable_cpus(), len(composed))
        if parts < 2:
            return render_samples(self.recipe, composed, self.backend)
        with ThreadPoolExecutor(parts, "samples") as pool:
            batches = [composed[k * len(composed) // parts : (k + 1) * len(composed) // parts] for k in range(parts)]
            made = pool.map(lambda batch: render_samples(self.recipe, batch, self.backend), batches)
            return [sample for samples in made for sample in samples]


@dataclass
class WithDefaults:
    """Adds the fields that a source of photographs does not store: without a lens `aif` is `hq` and the maps are 0."""

    source: Source

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Sample:
        sample = self.source[index]
        if float(sample.meta["blur"]) != 0:
            missing = [name for name in TRAINING_FIELDS if name not in sample.arrays]
            raise DataError(f"{sample.key}: is blurred by a lens; its data set must store {', '.join(missing)} too")
        zeros = np.zeros(sample.hq.shape[:2], np.float32)
        defaults: dict[str, Any] = {"aif": sample.hq, "defocus": zeros, "disparity": zeros}
        return replace(sample, arrays={**defaults, **sample.arrays})


@dataclass(frozen=True)
class OpenSource:
    """Both splits of a source, and the properties that all their samples share."""

    train: Source
    val: Source
    identity: dict[str, Any]
    """Digests; a resumed run must find the same."""
    radius_bound: float
    """Upper bound of all defocus maps, pixels."""
    size: tuple[int, int]
    """Height and width of the samples."""
    endless: bool
    render_in_main: bool
    """Samples are rendered by the main process, on its GPU."""
    stored: frozenset[str] = frozenset(TRAINING_FIELDS)
    """The stored fields; the other ones that training reads follow from them."""


def open_source(spec: SourceSpec, run_data: Path, workers: int, is_main: bool = True) -> OpenSource:
    """Open a source; recipes with `store` are first generated into `run_data`, shards behind a URL downloaded there or
    into `cache`.

    `is_main` False generates and downloads nothing: the main process must have done so. UsageError and DataError name
    what is missing.
    """
    if spec.shards is not None:
        folder: str | Path = Path(spec.shards)
        if spec.shards.startswith(BUCKETS) and not (spec.cache or (run_data / "dataset.json").is_file()):
            folder = spec.shards
        elif "://" in spec.shards:
            folder = Path(spec.cache) if spec.cache else run_data
            if is_main:
                fetch_dataset(spec.shards, folder)
        return _open_shards(folder)
    assert spec.recipe is not None
    recipe = _load(spec.recipe, spec.set)
    for split in ("train", "val"):
        if recipe.count(split) == 0:
            raise UsageError(f"{spec.recipe}: training needs samples in both splits; samples.{split} is 0")
    missing = [name for name in REQUIRED_FIELDS if name not in recipe.shards.fields]
    if missing:
        raise RecipeError(f"{spec.recipe}: shards.fields must hold {', '.join(missing)} too: training reads them")
    if spec.store:
        if is_main:
            generate(recipe, run_data, workers=max(1, workers))
        return _open_shards(run_data)
    stored = frozenset(recipe.shards.fields)
    # Photographs are not rendered: the main process's GPU would have nothing to do.
    render_in_main = stored >= set(TRAINING_FIELDS) and resolve_device(spec.backend) == "cuda"
    train, val = (_with_defaults(OnTheFlySource(recipe, split, spec.backend), stored) for split in ("train", "val"))
    return OpenSource(
        train=train,
        val=val,
        identity={**recipe.identity, "samples": {split: recipe.count(split) for split in ("train", "val")}},
        radius_bound=recipe.scales["defocus_scale"] * 65535,
        size=(recipe.height, recipe.width),
        endless=spec.endless,
        render_in_main=render_in_main,
        stored=stored,
    )


def _load(name: str, changes: Sequence[str]) -> Recipe:
    """The data recipe; where it lacks its photographs the error has the line that training takes."""
    try:
        return load_recipe(name, changes)
    except RecipeError as error:
        line = f"bokehsynth generate {name} --out DIR --set assets.root=FOLDER"
        ours = "magicbokeh train RECIPE --out RUN --set 'data.source.set=[assets.root=FOLDER]'"
        raise RecipeError(str(error).replace(line, ours)) from None


def _with_defaults(source: Source, stored: Collection[str]) -> Source:
    return source if all(name in stored for name in TRAINING_FIELDS) else WithDefaults(source)


def _open_shards(folder: str | Path) -> OpenSource:
    stored = open_dataset(folder, "train").fields
    optional = (*TRAINING_FIELDS, "source")  # from which LQ may be made afresh
    used = [*REQUIRED_FIELDS, *(name for name in optional if name in stored and name not in REQUIRED_FIELDS)]
    train, val = (open_dataset(folder, split, used) for split in ("train", "val"))
    meta = train[0].meta
    counts = {"train": len(train), "val": len(val)}
    return OpenSource(
        train=_with_defaults(train, used),
        val=_with_defaults(val, used),
        identity={**train.identity, "samples": counts},
        radius_bound=meta["defocus_scale"] * 65535,
        size=(meta["height"], meta["width"]),
        endless=False,
        render_in_main=False,
        stored=frozenset(used),
    )


# --- shards behind a URL


def fetch_dataset(url: str, folder: Path) -> None:
    """Download a data set from `url` into `folder`; files that are there already are not fetched again.

    Reads through webdataset's `gopen` (http, https, s3, gs, file, pipe). `dataset.json` is written last, so that a
    folder with it is complete; the reader then relies on markers and digests alone.
    """
    if (folder / "dataset.json").is_file():
        return
    text = _fetch_bytes(url, "dataset.json")
    try:
        splits = {name: len(part["counts"]) for name, part in json.loads(text)["splits"].items()}
        if not splits.keys() <= {"train", "val"}:  # they become paths
            raise ValueError(splits)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise DataError(f"{url}/dataset.json: is not the description of a bokehsynth data set") from None
    for split, shards in splits.items():
        for number in range(shards):
            for name in _shard_files(split, number):
                if not (folder / name).is_file():
                    _download(url, name, folder)
    atomic_write(folder / "dataset.json", text)


def _shard_files(split: str, number: int) -> Sequence[str]:
    stem = f"{split}/{split}-{number:06d}"
    return (f"{stem}.tar", f".bokehsynth/{stem}.idx", f".bokehsynth/{stem}.done.json")


def _download(url: str, name: str, folder: Path) -> None:
    path = folder / name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{path.parent}: {error.strerror} (choose another data.source.cache)") from None
    atomic_write(path, _fetch_bytes(url, name))


def _fetch_bytes(url: str, name: str) -> bytes:
    try:
        from webdataset import gopen
    except ImportError as error:
        raise UsageError(f"data.source.shards: a URL needs webdataset: pip install webdataset ({error})") from None
    where = f"{url.rstrip('/')}/{name}"
    try:
        with gopen(where, "rb") as stream:
            data: bytes = stream.read()
    except (OSError, ValueError) as error:
        raise DataError(f"{where}: cannot be fetched ({error}); check the URL, then run the same line again") from None
    if not data:
        raise DataError(f"{where}: cannot be fetched, or is empty; check the URL, then run the same line again")
    return data

"""Where samples come from: a data recipe or shards, by number, always the same sample for the same number."""

import json
from collections.abc import Collection, Sequence
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
    make_samples,
    open_dataset,
    resolve_device,
    set_up_sample,
)
from magicbokeh.recipe import SourceSpec

NEEDED = ("lq", "hq")
"""Fields without which there is nothing to train on."""
USED = (*NEEDED, "aif", "defocus", "disparity")
"""Fields that training reads where they are stored. Photographs without a lens (blur 0) do without the last three."""


class Source(Protocol):
    """Samples of one split by number."""

    def __len__(self) -> int:
        """How many make an epoch."""
        ...

    def __getitem__(self, index: int) -> Sample:
        """Sample `index`."""
        ...


@dataclass
class Rendered:
    """Samples rendered from a recipe when they are asked for."""

    recipe: Recipe
    split: str
    backend: str

    def __len__(self) -> int:
        return self.recipe.count(self.split)

    def __getitem__(self, index: int) -> Sample:
        return make_sample(self.recipe, index, self.split, self.backend)

    def set_up(self, index: int) -> SetUp:
        """Everything before the shot: what a worker does when the main process has the GPU."""
        return set_up_sample(self.recipe, index, self.split)

    def photograph(self, set_ups: Sequence[SetUp]) -> list[Sample]:
        """The samples of what was set up, as `__getitem__` gives them."""
        return make_samples(self.recipe, set_ups, self.backend)


@dataclass
class Completed:
    """A source that stores less than is used: where no lens blurs, hq is all in focus and defocus is 0."""

    source: Source

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Sample:
        sample = self.source[index]
        if float(sample.meta["blur"]) != 0:
            missing = [name for name in USED if name not in sample.arrays]
            raise DataError(f"{sample.key}: is blurred by a lens; its data set must store {', '.join(missing)} too")
        nothing = np.zeros(sample.hq.shape[:2], np.float32)
        follows: dict[str, Any] = {"aif": sample.hq, "defocus": nothing, "disparity": nothing}
        return replace(sample, arrays={**follows, **sample.arrays})


@dataclass(frozen=True)
class Opened:
    """Both splits of a source and what is known of all their samples."""

    train: Source
    val: Source
    identity: dict[str, Any]
    """Digests: a resumed run must find the same."""
    radius_bound: float
    """No defocus map exceeds it, pixels."""
    size: tuple[int, int]
    """Height and width of the samples."""
    endless: bool
    in_main: bool
    """Samples are rendered by the main process, on its GPU."""
    stored: frozenset[str] = frozenset(USED)
    """Which fields are there; what else is used follows from them."""


def open_source(spec: SourceSpec, run_data: Path, workers: int, main: bool = True) -> Opened:
    """Open a source; recipes with `store` and shards behind URLs are brought into `run_data` or `cache` first.

    `main` False waits for nobody and finds what the main process has brought. UsageError and DataError name what is
    missing.
    """
    if spec.shards is not None:
        folder = Path(spec.shards)
        if "://" in spec.shards:
            folder = Path(spec.cache) if spec.cache else run_data
            if main:
                fetch_dataset(spec.shards, folder)
        return _open_shards(folder)
    assert spec.recipe is not None
    recipe = load_recipe(spec.recipe, spec.set)
    for split in ("train", "val"):
        if recipe.count(split) == 0:
            raise UsageError(f"{spec.recipe}: training needs samples in both splits; samples.{split} is 0")
    missing = [name for name in NEEDED if name not in recipe.shards.fields]
    if missing:
        raise RecipeError(f"{spec.recipe}: shards.fields must hold {', '.join(missing)} too: training reads them")
    if spec.store:
        if main:
            generate(recipe, run_data, workers=max(1, workers))
        return _open_shards(run_data)
    stored = frozenset(recipe.shards.fields)
    # A photograph has no shot: there is nothing for a GPU to do.
    in_main = stored >= set(USED) and resolve_device(spec.backend) == "cuda"
    train, val = (_whole(Rendered(recipe, split, spec.backend), stored) for split in ("train", "val"))
    return Opened(
        train=train,
        val=val,
        identity={**recipe.identity, "samples": {split: recipe.count(split) for split in ("train", "val")}},
        radius_bound=recipe.scales["defocus_scale"] * 65535,
        size=(recipe.height, recipe.width),
        endless=spec.endless,
        in_main=in_main,
        stored=stored,
    )


def _whole(source: Source, stored: Collection[str]) -> Source:
    return source if all(name in stored for name in USED) else Completed(source)


def _open_shards(folder: Path) -> Opened:
    stored = open_dataset(folder, "train").record["fields"]
    used = [*NEEDED, *(name for name in USED if name in stored and name not in NEEDED)]
    train, val = (open_dataset(folder, split, used) for split in ("train", "val"))
    meta = train[0].meta
    counts = {"train": len(train), "val": len(val)}
    return Opened(
        train=_whole(train, used),
        val=_whole(val, used),
        identity={**train.record["identity"], "samples": counts},
        radius_bound=meta["defocus_scale"] * 65535,
        size=(meta["height"], meta["width"]),
        endless=False,
        in_main=False,
        stored=frozenset(used),
    )


# --- shards behind a URL


def fetch_dataset(url: str, folder: Path) -> None:
    """Bring a data set from `url` into `folder`, once: what is there already, whole, is not fetched again.

    Reads through webdataset's `gopen` (http, https, s3, gs, file, pipe). `dataset.json` comes last, so that a folder
    with it is a whole one; the reader then believes markers and digests alone.
    """
    if (folder / "dataset.json").is_file():
        return
    text = _read(url, "dataset.json")
    try:
        splits = {name: len(part["counts"]) for name, part in json.loads(text)["splits"].items()}
    except (ValueError, KeyError, TypeError):
        raise DataError(f"{url}/dataset.json: is not the description of a bokehsynth data set") from None
    for split, shards in splits.items():
        for number in range(shards):
            for name in _shard_files(split, number):
                if not (folder / name).is_file():
                    _bring(url, name, folder)
    atomic_write(folder / "dataset.json", text)


def _shard_files(split: str, number: int) -> Sequence[str]:
    stem = f"{split}/{split}-{number:06d}"
    return (f"{stem}.tar", f".bokehsynth/{stem}.idx", f".bokehsynth/{stem}.done.json")


def _bring(url: str, name: str, folder: Path) -> None:
    path = folder / name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{path.parent}: {error.strerror} (choose another data.source.cache)") from None
    atomic_write(path, _read(url, name))


def _read(url: str, name: str) -> bytes:
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

"""The asset list: frozen, hashed and split before the first draw."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from bokehsynth.assets.embedded import PROCEDURAL_VERSION, families
from bokehsynth.errors import RecipeError
from bokehsynth.files import canonical_json, sha256_bytes
from bokehsynth.spec import Spec

Kind = Literal["foreground", "background"]
KINDS: tuple[Kind, Kind] = ("foreground", "background")

VARIANTS = 24
"""Procedural pictures per family."""


class SourceSpec(Spec):
    """Where assets come from; a plain string means its `path`."""

    path: str
    """`procedural` for the embedded pictures, or `procedural/FAMILY` for one family of them."""
    licence: str = "Apache-2.0"
    """Licence of every picture of this source, recorded in assets.jsonl."""
    weight: Annotated[float, Field(gt=0)] = 1.0
    """How often an asset of this source is drawn, relative to assets of the other sources."""
    limit: Annotated[int, Field(ge=1)] | None = None
    """Use at most this many assets of the source, the first in order of their identity."""


def _path_as_source(value: object) -> object:
    return {"path": value} if isinstance(value, str) else value


Source = Annotated[SourceSpec, BeforeValidator(_path_as_source)]


class AssetsSpec(Spec):
    """Which pictures a data set is made of."""

    foregrounds: Annotated[list[Source], Field(min_length=1)] = Field(default=[SourceSpec(path="procedural")])
    """Sources of matted cut-outs."""
    backgrounds: Annotated[list[Source], Field(min_length=1)] = Field(default=[SourceSpec(path="procedural")])
    """Sources of landscapes."""
    val_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the assets that only the val split uses: those whose hashed content falls below it."""


@dataclass(frozen=True, kw_only=True)
class Asset:
    """One picture of the frozen list."""

    id: str
    """Unique name, stored in every sample that shows it."""
    kind: Kind
    split: str
    sha256: str
    """Of the content; for a procedural picture, of what it is drawn from."""
    licence: str
    weight: float


@dataclass(frozen=True)
class Catalogue:
    """The frozen asset list of a data set; `notes` are remarks for the user about how it came to be."""

    assets: tuple[Asset, ...]
    notes: tuple[str, ...] = ()

    @cached_property
    def digest(self) -> str:
        """Identity of the list: any change of an asset, its split or its weight changes it."""
        return sha256_bytes(canonical_json([asdict(asset) for asset in self.assets]))

    @cached_property
    def _pools(self) -> dict[tuple[str, str], tuple[Asset, ...]]:
        return {
            (kind, split): tuple(a for a in self.assets if a.kind == kind and a.split == split)
            for kind in KINDS
            for split in ("train", "val")
        }

    def pool(self, kind: Kind, split: str) -> tuple[Asset, ...]:
        """The assets of one kind that one split may use."""
        return self._pools[kind, split]


def build_catalogue(spec: AssetsSpec, splits: Sequence[str] = ("train", "val")) -> Catalogue:
    """Index every source, decide each asset's split, and freeze the list in order of kind and identity.

    An asset is val when the hash of its sha256 falls below `val_fraction`, so that adding assets never moves old
    ones. A kind that would leave one of the `splits` in use without any gives it the asset with the nearest hash.
    """
    notes: list[str] = []
    assets: list[Asset] = []
    for kind in KINDS:
        sources = spec.foregrounds if kind == "foreground" else spec.backgrounds
        found: dict[str, Asset] = {}
        for source in sources:
            for asset in _from_source(source, kind, spec.val_fraction):
                found[asset.sha256] = asset  # a source named later speaks more exactly
        listed = sorted(found.values(), key=lambda asset: asset.id)
        assets += _fill_empty_splits(listed, kind, spec.val_fraction, splits, notes)
    return Catalogue(tuple(assets), tuple(notes))


def _from_source(source: SourceSpec, kind: Kind, val_fraction: float) -> list[Asset]:
    first, _, family = source.path.partition("/")
    known = families(kind)
    if first != "procedural" or (family and family not in known):
        raise RecipeError(
            f"assets: {source.path!r} is not a source of {kind}s that this version can read; use 'procedural', or one "
            f"family of it: {', '.join(f'procedural/{name}' for name in known)}"
        )
    names = [f"procedural/{name}/{v:02d}" for v in range(VARIANTS) for name in ([family] if family else known)]
    return [_asset(name, kind, source, val_fraction) for name in names[: source.limit]]


def _asset(name: str, kind: Kind, source: SourceSpec, val_fraction: float) -> Asset:
    digest = sha256_bytes(f"{name}@{PROCEDURAL_VERSION}")
    split = "val" if _place(digest) < val_fraction else "train"
    return Asset(id=name, kind=kind, split=split, sha256=digest, licence=source.licence, weight=source.weight)


def _place(sha256: str) -> float:
    """A number in [0, 1) from a content hash, hashed again so that it says nothing about the content."""
    return int(sha256_bytes(f"split:{sha256}")[:13], 16) / 16**13


def _fill_empty_splits(
    assets: list[Asset], kind: Kind, val_fraction: float, splits: Sequence[str], notes: list[str]
) -> list[Asset]:
    used = {asset.split for asset in assets}
    for split in splits:
        if split in used:
            continue
        if len(assets) < 2:
            raise RecipeError(
                f"assets: train and val must not share a {kind}, and there is only one; add another, or set "
                f"samples.{'val' if split == 'val' else 'train'} to 0"
            )
        moved = min(assets, key=lambda asset: abs(_place(asset.sha256) - val_fraction))
        notes.append(f"no {kind} fell to {split} (val_fraction {val_fraction:g}); it was given {moved.id}")
        assets = [Asset(**(asdict(a) | {"split": split})) if a is moved else a for a in assets]
    return assets


def absolute_source(source: SourceSpec, base: Path) -> SourceSpec:
    """The source with its path resolved against `base`; the embedded pictures have none."""
    if source.path.partition("/")[0] == "procedural":
        return source
    return source.model_copy(update={"path": str((base / source.path).absolute())})

"""The frozen asset list of a data set."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from bokehsynth.errors import DataError
from bokehsynth.files import canonical_json, sha256_bytes

Kind = Literal["foreground", "background", "photo", "pair"]
KINDS: tuple[Kind, ...] = ("foreground", "background", "photo", "pair")


@dataclass(frozen=True, kw_only=True)
class Asset:
    """One picture of the frozen list."""

    id: str
    """Unique name, stored in every sample that shows it; it says nothing about where the file lies."""
    kind: Kind
    split: str
    sha256: str
    """Digest of the content; for a procedural picture, of what it is drawn from; for image and matte, of both."""
    licence: str
    weight: float
    height: int = 0
    width: int = 0
    """Pixels; 0 for procedural pictures, which are drawn as large as they are wanted."""
    colors: str = "straight"
    """What a cut-out's file holds under soft alpha: photographed, straight or premultiplied colour."""
    f_number: float = 0.0
    """Of a pair whose photo through the lens has a known one; 0 for all others."""
    author: str = ""
    url: str = ""
    title: str = ""
    """What the source's table of credits says; empty where it says nothing."""

    @property
    def record(self) -> dict[str, Any]:
        """Its line of assets.jsonl, without what is not known of it and 0.4.0 did not have."""
        return {key: value for key, value in asdict(self).items() if value or key not in _NEWER}


_NEWER = ("f_number", "author", "url", "title")


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """Files that may be one asset."""

    kind: str
    """One of KINDS."""
    image: Path
    root: Path
    """Links must end below it."""
    matte: Path | None = None
    """The matte of a cut-out; the focal mask of a pair."""
    bokeh: Path | None = None
    """A pair's photo through the lens; `image` is the one all in focus."""
    disparity: Path | None = None
    f_number: float = 0.0
    """Of a pair's photo through the lens, where its set says so; else 0."""

    @property
    def named(self) -> Path:
        """The file after which the asset is named: of pairs that share `image`, the photo through the lens."""
        return self.bokeh if self.f_number and self.bokeh is not None else self.image

    @property
    def files(self) -> list[Path]:
        """All paths that are given."""
        return [path for path in (self.image, self.matte, self.bokeh, self.disparity) if path is not None]

    @property
    def roles(self) -> dict[str, Path]:
        """The files of a pair by role."""
        paths = {"aif": self.image, "bokeh": self.bokeh, "disparity": self.disparity, "mask": self.matte}
        return {role: path for role, path in paths.items() if path is not None}


@dataclass(frozen=True, kw_only=True)
class AssetFiles(Candidate):
    """Where a photographed asset lies on this machine; no part of a data set's identity."""

    name: str
    """The picture's path relative to its source."""
    image_sha256: str
    size: tuple[int, int]
    """Height and width, pixels."""
    box: tuple[int, int, int, int] | None = None
    """Bounding box of a cut-out's subject: top, left, height and width, pixels."""
    matte_sha256: str | None = None
    beside_sha256: tuple[str | None, str | None] = (None, None)
    """Digests of `bokeh` and `disparity`."""

    @property
    def sums(self) -> dict[str, str]:
        """The sha256 of those files by role."""
        sums = (self.image_sha256, *self.beside_sha256, self.matte_sha256)
        named = zip(("aif", "bokeh", "disparity", "mask"), sums, strict=True)
        return {role: digest for role, digest in named if digest is not None}


@dataclass(frozen=True, kw_only=True)
class RejectedFile:
    """A file in quarantine."""

    kind: Kind
    name: str
    """Path relative to its source."""
    reason: str
    message: str


@dataclass(frozen=True)
class Catalogue:
    """The frozen asset list of a data set; `notes` tell the user how it was chosen."""

    assets: tuple[Asset, ...]
    notes: tuple[str, ...] = ()
    files: Mapping[str, AssetFiles] = field(default_factory=dict)
    """The files of photographed assets, by id."""
    quarantine: tuple[RejectedFile, ...] = ()

    @cached_property
    def digest(self) -> str:
        """Identity of the list: any change of an asset, its split or its weight changes it."""
        return sha256_bytes(canonical_json([asset.record for asset in self.assets]))

    @cached_property
    def by_id(self) -> dict[str, Asset]:
        """The assets by their ids."""
        return {asset.id: asset for asset in self.assets}

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

    def lines(self) -> str:
        """The list as `assets.jsonl` holds it: identity, and the file's name within its source."""
        records = [
            asset.record | ({"file": self.files[asset.id].name} if asset.id in self.files else {})
            for asset in self.assets
        ]
        return "".join(f"{canonical_json(record)}\n" for record in records)

    def quarantine_lines(self) -> str:
        """The rejected files as `quarantine.jsonl` holds them."""
        return "".join(f"{canonical_json(asdict(rejected))}\n" for rejected in self.quarantine)


def assets_of(records: Iterable[Mapping[str, Any]]) -> tuple[Asset, ...]:
    """The assets behind the lines of an `assets.jsonl`; DataError if they are not such lines."""
    kinds = {item.name: item.type if isinstance(item.type, type) else str for item in fields(Asset)}
    assets = []
    for record in records:
        given = {key: value for key, value in record.items() if key in kinds}
        wrong = [key for key, value in given.items() if type(value) is not kinds[key]]
        try:
            if wrong:
                raise TypeError(f"{wrong[0]} is {given[wrong[0]]!r:.80}")
            assets.append(Asset(**given))
        except TypeError as error:
            raise DataError(f"assets.jsonl: a line is no asset: {error}") from None
    return tuple(assets)

"""The asset list: indexed, hashed, split and frozen before the first draw."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bokehsynth.assets.catalogue import Asset, AssetFiles, Catalogue, Kind, RejectedFile
from bokehsynth.assets.decode.rejection import RejectedPicture
from bokehsynth.assets.index.cache import IndexCache, fingerprint, relative_name
from bokehsynth.assets.index.discover import Found, find_candidates, find_pairs
from bokehsynth.assets.index.probe import Candidate, Probe
from bokehsynth.assets.index.probe_pool import probe_all
from bokehsynth.assets.index.split import SplitCandidate, assign_splits, hash_position
from bokehsynth.assets.load.pairs import pair_rejection
from bokehsynth.assets.spec import AssetsSpec, PairSourceSpec, SourceSpec
from bokehsynth.errors import RecipeError
from bokehsynth.files import sha256_bytes
from bokehsynth.imaging.registration import ViewComparison
from bokehsynth.procedural.families import PROCEDURAL_VERSION, families

__all__ = ["Asset", "AssetsSpec", "Catalogue", "Indexed", "SourceSpec", "build_catalogue", "index_source"]

VARIANTS = 24
"""Procedural pictures per family."""

ProgressCallback = Callable[[int, int], None]
"""Told, while files are being looked at, how many are done of how many."""


@dataclass(frozen=True, kw_only=True)
class Indexed:
    """A usable picture of a source."""

    kind: Kind
    id: str
    sha256: str
    source: SourceSpec
    probe: Probe | None = None
    """None for procedural pictures."""
    files: AssetFiles | None = None
    cache: IndexCache | None = None

    def placeable(self, val_fraction: float) -> SplitCandidate:
        """What deciding its side needs."""
        if self.probe is None or self.cache is None:
            return SplitCandidate(sha256=self.sha256)
        side = self.cache.split_of(self.kind, val_fraction, self.sha256)
        look = self.probe
        return SplitCandidate(
            sha256=self.sha256, known_split=side, dhash=look.dhash, thumb=look.thumb, aspect=look.aspect
        )  # fmt: skip

    def asset(self, split: str) -> Asset:
        """The line of the frozen list."""
        colors = self.source.colors
        if colors == "auto":
            colors = self.probe.colors or "straight" if self.probe is not None else "straight"  # type: ignore[assignment]
        height, width = self.files.size if self.files is not None else (0, 0)
        return Asset(
            id=self.id, kind=self.kind, height=height, width=width, split=split,
            sha256=self.sha256, licence=self.source.licence_name, weight=self.source.weight, colors=colors,
        )  # fmt: skip


def build_catalogue(
    spec: AssetsSpec,
    splits: Sequence[str] = ("train", "val"),
    kinds: Sequence[Kind] = ("foreground", "background"),
    progress: ProgressCallback = lambda done, total: None,
) -> Catalogue:
    """Index every source, decide each asset's split, and freeze the list in order of kind and identity.

    An asset is val when the hash of its sha256 falls below `val_fraction`, or when it looks like one that is; a side
    once given is kept in the folder's index, so that adding assets never moves old ones. A kind that would leave one
    of the `splits` in use without any gives it the asset with the nearest hash. Files that cannot be used are listed
    in `quarantine`. Raises RecipeError where a source names nothing, or a licence that is not allowed.
    """
    _check_licences(spec, kinds)
    if spec.root is not None and not Path(spec.root).is_dir():  # said here, so that a moved folder harms no reader
        raise RecipeError(f"assets.root: there is no folder {spec.root!r}")
    notes: list[str] = []
    assets: list[Asset] = []
    files: dict[str, AssetFiles] = {}
    quarantine: list[RejectedFile] = []
    for kind in kinds:
        indexed: dict[str, Indexed] = {}
        if not spec.sources(kind):
            raise RecipeError(f"assets.{kind}s: names no folder, and the scene is made of {kind}s")
        for source in spec.sources(kind):
            usable, refused = index_source(source, kind, spec, notes, progress)
            notes += _other_licences(indexed, usable)
            indexed |= {item.sha256: item for item in usable}  # a source named later speaks more exactly
            quarantine += refused
        if not indexed:
            raise RecipeError(_none_usable(kind, [refused for refused in quarantine if refused.kind == kind]))
        sides = splits_of(list(indexed.values()), kind, spec.val_fraction, splits, notes, quarantine)
        placed = sorted((indexed[sha] for sha in sides), key=_in_order)
        assets += [item.asset(sides[item.sha256]) for item in placed]
        files |= {item.id: item.files for item in indexed.values() if item.files is not None and item.sha256 in sides}
        for item in indexed.values():
            if item.cache is not None:
                item.cache.save()
    quarantine.sort(key=lambda refused: (refused.kind, refused.name, refused.reason))
    return Catalogue(tuple(assets), tuple(notes), files, tuple(quarantine))


def index_source(
    source: SourceSpec,
    kind: Kind,
    spec: AssetsSpec,
    notes: list[str],
    progress: ProgressCallback = lambda done, total: None,
) -> tuple[list[Indexed], list[RejectedFile]]:
    """The usable pictures of a source, up to its limit, and the refused ones."""
    if source.procedural:
        return [_procedural(name, kind, source) for name in _procedural_names(source, kind)], []
    usable: dict[str, Indexed] = {}
    refused: list[RejectedFile] = []
    root = Path(spec.root) if spec.root is not None else None
    if isinstance(source, PairSourceSpec):
        listed = find_pairs(source.paths, source.names, root)
    else:
        listed = find_candidates(source.paths, kind, root)
    for found in listed:
        if source.first is not None:
            found.candidates = sorted(found.candidates, key=lambda candidate: candidate.image)[: source.first]
        cache = IndexCache.open(found.folder)
        probed = _look(found, cache, spec, progress)
        for candidate, answer in probed:
            name = relative_name(candidate.image, found.folder)
            if isinstance(answer, Probe):
                answer = _apply_recipe_limits(candidate, answer, spec)  # noqa: PLW2901
            if isinstance(answer, RejectedPicture):
                refused.append(
                    RejectedFile(kind=kind, name=name, reason=answer.reason, message=_said(answer, found.folder))
                )
            elif answer.sha256 not in usable:  # copies under other names count once
                usable[answer.sha256] = _photograph(candidate, answer, name, source, kind, cache)
        cache.save()
        blind = sum(candidate.kind == "pair" and candidate.disparity is None for candidate in found.candidates)
        if blind:
            notes.append(
                f"{found.folder}: {blind} pairs have no disparity map; their focal mask stands for it (two planes, the "
                "subject and the rest), and where there is none either, defocus is 0 and says nothing"
            )
        if found.passed_over:
            notes.append(f"{found.folder}: passed over {found.passed_over} files that are no pictures or loose mattes")
    return _limited(list(usable.values()), source, spec.val_fraction), refused


def _look(
    found: Found, cache: IndexCache, spec: AssetsSpec, progress: ProgressCallback
) -> list[tuple[Candidate, Probe | RejectedPicture]]:
    """What is known of each candidate, those not known yet being looked at first."""
    known = {candidate: cache.get(candidate, spec.limits) for candidate in found.candidates}
    new = [candidate for candidate, answer in known.items() if answer is None]
    fingerprints = [fingerprint(candidate, spec.limits) for candidate in new]
    done = iter(range(1, len(new) + 1))
    answers = probe_all(new, spec.limits, lambda: progress(next(done), len(new)))
    for candidate, before, answer in zip(new, fingerprints, answers, strict=True):
        cache.put(candidate, before, answer)
        known[candidate] = answer
    refused = [(Candidate(kind="", image=path, root=path), error) for path, error in found.refused]
    return [*((candidate, answer) for candidate, answer in known.items() if answer is not None), *refused]


def _in_order(item: Indexed) -> tuple[str, str]:
    """Pairs by their names, so that a benchmark keeps the order of its folder; others by their content."""
    return (item.files.name if item.kind == "pair" and item.files is not None else "", item.id)


def _apply_recipe_limits(candidate: Candidate, found: Probe, spec: AssetsSpec) -> Probe | RejectedPicture:
    """What was measured, against what the recipe asks for.

    Light itself (.hdr, .exr) is made by people who look at it, and its sharpness is not judged.
    """
    if candidate.kind == "pair" and found.views is not None:
        red, green, blue, x, y, alike = found.views
        views = ViewComparison([red, green, blue], (x, y), alike)
        return pair_rejection(views, min(found.height, found.width), spec.checks, str(candidate.image)) or found
    if candidate.kind != "background" or found.sharpness is None or found.bright:
        return found
    if found.sharpness >= spec.sharpness_floor:
        return found
    return RejectedPicture(
        f"{candidate.image}: sharpness {found.sharpness:.2f} is below the floor of {spec.sharpness_floor:g}: it is "
        "itself blurred",
        "blurred",
    )


def _photograph(
    candidate: Candidate, found: Probe, name: str, source: SourceSpec, kind: Kind, cache: IndexCache
) -> Indexed:
    files = AssetFiles(
        name=name, image=candidate.image, image_sha256=found.image_sha256,
        size=(found.height, found.width), box=found.box, root=candidate.root, matte=candidate.matte,
        matte_sha256=found.matte_sha256,
        bokeh=candidate.bokeh, disparity=candidate.disparity, beside_sha256=found.beside_sha256,
    )  # fmt: skip
    return Indexed(
        kind=kind, id=f"{'pair' if kind == 'pair' else 'photo'}-{found.sha256[:16]}", sha256=found.sha256,
        source=source, probe=found, files=files, cache=cache,
    )  # fmt: skip


def _limited(usable: list[Indexed], source: SourceSpec, val_fraction: float) -> list[Indexed]:
    """The first of a source: those that have a side already, then by content."""

    def order(item: Indexed) -> tuple[bool, str]:
        return item.placeable(val_fraction).known_split is None, item.sha256

    return sorted(usable, key=order)[: source.limit]


def _said(refusal: RejectedPicture, folder: Path) -> str:
    """The message without the folder, which is another one on every machine."""
    return str(refusal).replace(f"{folder}/", "")


def _procedural_names(source: SourceSpec, kind: Kind) -> list[str]:
    _, _, family = str(source.path).partition("/")
    known = families(kind)
    if family and family not in known:
        raise RecipeError(
            f"assets: {source.path!r} is no family of embedded {kind}s; use 'procedural', or one family of it: "
            f"{', '.join(f'procedural/{name}' for name in known)}"
        )
    names = [f"procedural/{name}/{v:02d}" for v in range(VARIANTS) for name in ([family] if family else known)]
    return names[: source.limit]


def _procedural(name: str, kind: Kind, source: SourceSpec) -> Indexed:
    return Indexed(kind=kind, id=name, sha256=sha256_bytes(f"{name}@{PROCEDURAL_VERSION}"), source=source)


def splits_of(
    indexed: list[Indexed], kind: Kind, val_fraction: float, splits: Sequence[str], notes: list[str],
    quarantine: list[RejectedFile],
) -> dict[str, str]:  # fmt: skip
    """The side of every usable asset by sha256; those without one go into quarantine."""
    placed = assign_splits((item.placeable(val_fraction) for item in indexed), val_fraction)
    sides: dict[str, str] = {}
    names = {item.sha256: item.files.name if item.files else item.id for item in indexed}
    for item in indexed:
        found = placed[item.sha256]
        if found.side is not None:
            sides[item.sha256] = found.side
        elif item.files is not None:
            message = f"{item.files.name}: looks like pictures of both splits, one of them {names[found.like or '']}"
            quarantine.append(RejectedFile(kind=kind, name=item.files.name, reason="links_splits", message=message))
    groups = {sha: found.like for sha, found in placed.items()}
    for split in splits:
        if split not in sides.values():
            _fill(split, splits, sides, groups, names, kind, val_fraction, notes)
    for item in indexed:
        if item.cache is not None and item.sha256 in sides:
            item.cache.keep_split(kind, val_fraction, item.sha256, sides[item.sha256])
    return sides


def _fill(
    split: str, splits: Sequence[str], sides: dict[str, str], groups: dict[str, str | None], names: dict[str, str],
    kind: Kind, val_fraction: float, notes: list[str],
) -> None:  # fmt: skip
    """Give a split in use without any asset the one with the nearest hash, and what looks like it."""
    families_of: dict[str, list[str]] = {}
    for sha in sides:
        families_of.setdefault(_head(sha, groups), []).append(sha)
    if len(families_of) < len(splits):
        other = " that looks different" if len(sides) > 1 else ""
        raise RecipeError(
            f"assets: train and val must not share a {kind}, and there is only one; add another{other}, or set "
            f"samples.{split} to 0"
        )
    nearest = min(families_of, key=lambda sha: abs(hash_position(sha) - val_fraction))
    for sha in families_of[nearest]:
        sides[sha] = split
    notes.append(f"no {kind} fell to {split} (val_fraction {val_fraction:g}); it was given {names[nearest]}")


def _head(sha: str, groups: dict[str, str | None]) -> str:
    """The asset that a chain of likenesses ends at."""
    while (like := groups.get(sha)) is not None:
        sha = like
    return sha


def _none_usable(kind: Kind, refused: list[RejectedFile]) -> str:
    if not refused:
        return f"assets.{kind}s: there is no picture in the sources"
    why = "; ".join(f"{item.reason}: {item.message}" for item in refused[:3])
    more = f"; and {len(refused) - 3} more" if len(refused) > 3 else ""
    return f"assets.{kind}s: there is no usable {kind}, all of the sources were refused ({why}{more})"


def _other_licences(indexed: dict[str, Indexed], usable: list[Indexed]) -> list[str]:
    """A note about each picture that a source gives another licence than one before it did."""
    notes = []
    for item in usable:
        before = indexed.get(item.sha256)
        if before is not None and before.source.licence_name != item.source.licence_name:
            name = item.files.name if item.files else item.id
            licences = f"{before.source.licence_name!r} and as {item.source.licence_name!r}"
            notes.append(f"{name} is in two sources, as {licences}; the source named last decides")
    return notes


def _check_licences(spec: AssetsSpec, kinds: Sequence[Kind]) -> None:
    allowed = spec.licences.allow
    if allowed is None:
        return
    for kind in kinds:
        for source in spec.sources(kind):
            if source.licence_name not in allowed:
                raise RecipeError(
                    f"assets.{kind}s: the source {source.path!r} has the licence {source.licence_name!r}, which "
                    f"assets.licences.allow does not list ({', '.join(allowed) or 'none'}); leave the source out, "
                    "state its licence, or allow it"
                )

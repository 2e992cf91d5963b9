"""Build the asset list: indexed, hashed, split and frozen before the first draw."""

from collections.abc import Sequence
from pathlib import Path

from bokehsynth.assets.catalogue import Asset, AssetFiles, Catalogue, Kind, RejectedFile
from bokehsynth.assets.index.source import Indexed, ProgressCallback, index_source
from bokehsynth.assets.index.split import hash_position
from bokehsynth.assets.index.split_cache import decide_or_recall
from bokehsynth.assets.spec import AssetsSpec
from bokehsynth.errors import RecipeError


def build_catalogue(
    spec: AssetsSpec,
    splits: Sequence[str] = ("train", "val"),
    kinds: Sequence[Kind] = ("foreground", "background"),
    progress: ProgressCallback = lambda done, total: None,
) -> Catalogue:
    """Index every source, decide each asset's split, and freeze the list in order of kind and identity.

    An asset is val when the hash of its sha256 falls below `val_fraction`, or when it is a near duplicate of one.
    Splits are kept in the folder's index, so that adding assets never moves old ones. A kind that would leave one
    of the `splits` in use without any gives it the asset with the nearest hash. Files that cannot be used are listed
    in `quarantine`. Raises RecipeError where a source names nothing, or a licence that is not allowed.
    """
    _check_licences(spec, kinds)
    if spec.root is not None and not Path(spec.root).is_dir():  # not on load: a set whose folder moved stays readable
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
            usable, rejected = index_source(source, kind, spec, notes, progress)
            notes += _other_licences(indexed, usable)
            indexed |= {item.sha256: item for item in usable}  # the source named last decides
            quarantine += rejected
        _check_own_licences(spec, kind, indexed)
        if not indexed:
            raise RecipeError(_none_usable(kind, [rejected for rejected in quarantine if rejected.kind == kind]))
        split_of = decide_splits(list(indexed.values()), kind, spec.val_fraction, splits, notes, quarantine)
        ordered = sorted((indexed[sha] for sha in split_of), key=_listing_order)
        assets += [item.asset(split_of[item.sha256]) for item in ordered]
        files |= {
            item.id: item.files for item in indexed.values() if item.files is not None and item.sha256 in split_of
        }
        for item in indexed.values():
            if item.cache is not None:
                item.cache.save()
    quarantine.sort(key=lambda rejected: (rejected.kind, rejected.name, rejected.reason))
    return Catalogue(tuple(assets), tuple(notes), files, tuple(quarantine))


def decide_splits(
    indexed: list[Indexed], kind: Kind, val_fraction: float, splits: Sequence[str], notes: list[str],
    quarantine: list[RejectedFile],
) -> dict[str, str]:  # fmt: skip
    """The split of every usable asset by sha256; those that belong to neither are quarantined."""
    decided = decide_or_recall((item.split_candidate(val_fraction) for item in indexed), val_fraction)
    split_of: dict[str, str] = {}
    names = {item.sha256: item.files.name if item.files else item.id for item in indexed}
    for item in indexed:
        decision = decided[item.sha256]
        if decision.split is not None:
            split_of[item.sha256] = decision.split
        elif item.files is not None:
            message = f"{item.files.name}: looks like pictures of both splits, one of them {names[decision.like or '']}"
            quarantine.append(RejectedFile(kind=kind, name=item.files.name, reason="links_splits", message=message))
    follows = {sha: decision.like for sha, decision in decided.items()}
    for split in splits:
        if split not in split_of.values():
            _fill_split(split, splits, split_of, follows, names, kind, val_fraction, notes)
    for item in indexed:
        if item.cache is not None and item.sha256 in split_of:
            item.cache.keep_split(kind, val_fraction, item.sha256, split_of[item.sha256])
    return split_of


def _fill_split(
    split: str, splits: Sequence[str], split_of: dict[str, str], follows: dict[str, str | None], names: dict[str, str],
    kind: Kind, val_fraction: float, notes: list[str],
) -> None:  # fmt: skip
    """Give a split in use that is empty the asset with the nearest hash, and its near duplicates."""
    groups: dict[str, list[str]] = {}
    for sha in split_of:
        first = sha  # of its group of near duplicates, at the end of the chain
        while (like := follows.get(first)) is not None:
            first = like
        groups.setdefault(first, []).append(sha)
    if len(groups) < len(splits):
        other = " that looks different" if len(split_of) > 1 else ""
        raise RecipeError(
            f"assets: train and val must not share a {kind}, and there is only one; add another{other}, or set "
            f"samples.{split} to 0"
        )
    nearest = min(groups, key=lambda sha: abs(hash_position(sha) - val_fraction))
    for sha in groups[nearest]:
        split_of[sha] = split
    notes.append(f"no {kind} fell to {split} (val_fraction {val_fraction:g}); it was given {names[nearest]}")


def _listing_order(item: Indexed) -> tuple[str, str]:
    """Pairs by their names, so that a benchmark keeps the order of its folder; others by their content."""
    return (item.files.name if item.kind == "pair" and item.files is not None else "", item.id)


def _none_usable(kind: Kind, rejected: list[RejectedFile]) -> str:
    if not rejected:
        return f"assets.{kind}s: there is no picture in the sources"
    why = "; ".join(f"{item.reason}: {item.message}" for item in rejected[:3])
    more = f"; and {len(rejected) - 3} more" if len(rejected) > 3 else ""
    return f"assets.{kind}s: there is no usable {kind}, all of the sources were refused ({why}{more})"


def _other_licences(indexed: dict[str, Indexed], usable: list[Indexed]) -> list[str]:
    """A note about each picture that a source gives another licence, credit or f-number than one before it did."""
    notes = []
    for item in usable:
        before = indexed.get(item.sha256)
        if before is not None and before.licence != item.licence:
            name = item.files.name if item.files else item.id
            licences = f"{before.licence!r} and as {item.licence!r}"
            notes.append(f"{name} is in two sources, as {licences}; the source named last decides")
        elif before is not None and (before.credit != item.credit or before.f_number != item.f_number):
            name = item.files.name if item.files else item.id
            what = "credits" if before.credit != item.credit else "f-numbers"
            notes.append(f"{name} is in two sources, with other {what}; the source named last decides")
    return notes


def _check_licences(spec: AssetsSpec, kinds: Sequence[Kind]) -> None:
    allowed = spec.licences.allow
    if allowed is None:
        return
    for kind in kinds:
        for source in spec.sources(kind):
            if source.licence_name not in allowed and source.credits is None:  # else each picture is looked at
                raise RecipeError(
                    f"assets.{kind}s: the source {source.path!r} has the licence {source.licence_name!r}, which "
                    f"assets.licences.allow does not list ({', '.join(allowed) or 'none'}); leave the source out, "
                    "state its licence, or allow it"
                )


def _check_own_licences(spec: AssetsSpec, kind: Kind, indexed: dict[str, Indexed]) -> None:
    """RecipeError for a picture whose licence in its source's table of credits is not allowed."""
    allowed = spec.licences.allow
    if allowed is None:
        return
    for item in indexed.values():
        if item.licence not in allowed:
            name = item.files.name if item.files else item.id
            raise RecipeError(
                f"assets.{kind}s: {name} has the licence {item.licence!r} in {item.source.credits}, which "
                f"assets.licences.allow does not list ({', '.join(allowed) or 'none'}); take it away, or allow it"
            )

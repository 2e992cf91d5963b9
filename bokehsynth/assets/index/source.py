"""Index one source: find its files, probe them, apply the recipe's limits."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from bokehsynth.assets.catalogue import Asset, AssetFiles, Candidate, Kind, RejectedFile
from bokehsynth.assets.decode.decoder import Limits
from bokehsynth.assets.decode.rejection import RejectedPicture
from bokehsynth.assets.index.cache import IndexCache, fingerprint, relative_name
from bokehsynth.assets.index.credits import NO_CREDIT, Credit, read_credits
from bokehsynth.assets.index.discover import Found, find_candidates, find_pairs
from bokehsynth.assets.index.probe import Probe
from bokehsynth.assets.index.probe_pool import probe_all
from bokehsynth.assets.index.quality import quality_rejection
from bokehsynth.assets.index.split import SplitCandidate
from bokehsynth.assets.load.class_pictures import MOST_PICTURES, code_of, picture_names, picture_sha256
from bokehsynth.assets.load.pairs import pair_rejection
from bokehsynth.assets.spec import AssetsSpec, PairSourceSpec, SourceSpec
from bokehsynth.config.user_code import UntrustedCodeError
from bokehsynth.errors import RecipeError, UsageError
from bokehsynth.files import sha256_bytes
from bokehsynth.imaging.registration import ViewComparison
from bokehsynth.procedural.families import PROCEDURAL_VERSION, families

VARIANTS = 24
"""Procedural pictures per family, and of a class whose source has no `limit`."""

ProgressCallback = Callable[[int, int], None]
"""Called after each probed file, with how many are done of how many."""


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
    """The index of its folder; None for procedural pictures."""
    credit: Credit = NO_CREDIT
    """What the source's table of credits says of it."""

    @property
    def licence(self) -> str:
        """Its own licence where the table of credits gives one, else that of the source."""
        return self.credit.licence or self.source.licence_name

    @property
    def f_number(self) -> float:
        """That of a pair whose source gives one, else 0."""
        return self.files.f_number if self.files is not None else 0.0

    def split_candidate(self, val_fraction: float) -> SplitCandidate:
        """What is needed to decide its split."""
        if self.probe is None or self.cache is None:
            return SplitCandidate(sha256=self.sha256)
        known, probe = self.cache.split_of(self.kind, val_fraction, self.sha256), self.probe
        return SplitCandidate(
            sha256=self.sha256, known_split=known, dhash=probe.dhash, thumb=probe.thumb, aspect=probe.aspect
        )  # fmt: skip

    def asset(self, split: str) -> Asset:
        """The line of the frozen list."""
        colors = self.source.colors
        if colors == "auto":
            colors = self.probe.colors or "straight" if self.probe is not None else "straight"  # type: ignore[assignment]
        height, width = self.files.size if self.files is not None else (0, 0)
        return Asset(
            id=self.id, kind=self.kind, height=height, width=width, split=split,
            sha256=self.sha256, licence=self.licence, weight=self.source.weight, colors=colors,
            f_number=self.f_number,
            author=self.credit.author, url=self.credit.url, title=self.credit.title,
        )  # fmt: skip


def index_source(
    source: SourceSpec,
    kind: Kind,
    spec: AssetsSpec,
    notes: list[str],
    progress: ProgressCallback = lambda done, total: None,
) -> tuple[list[Indexed], list[RejectedFile]]:
    """Measure the files of a source; the usable pictures up to its limit, and the rejected files."""
    if source.drawn:
        return _drawn(kind, source), []
    usable: dict[str, Indexed] = {}
    rejected: list[RejectedFile] = []
    openings: dict[str | None, set[tuple[float, str]]] = {}
    root = Path(spec.root) if spec.root is not None else None
    paths = [Path(path) for path in source.paths]
    if isinstance(source, PairSourceSpec):
        all_found = [find_pairs(path, source, root) for path in paths]
    else:
        all_found = [find_candidates(path, kind, root) for path in paths]
    limits = replace(spec.limits, judged=source.quality is not None)
    for found in all_found:
        names = {relative_name(candidate.named, found.folder) for candidate in found.candidates}
        names |= {relative_name(path, found.folder) for path, _ in found.rejected}
        if source.first is not None:
            found.candidates = sorted(found.candidates, key=lambda candidate: candidate.image)[: source.first]
        cache = IndexCache.open(found.folder, len(found.candidates))
        credits_of = read_credits(Path(found.folder, source.credits)) if source.credits is not None else {}
        for candidate, answer in _probe_candidates(found, cache, limits, progress):
            name = relative_name(candidate.named, found.folder)
            if isinstance(answer, Probe):
                answer = _apply_recipe_limits(candidate, answer, spec, source)  # noqa: PLW2901
            if isinstance(answer, Probe) and candidate.f_number:
                openings.setdefault(answer.beside_sha256[0], set()).add((candidate.f_number, name))
            if isinstance(answer, RejectedPicture):
                message = str(answer).replace(f"{found.folder}/", "")  # the same on every machine
                rejected.append(RejectedFile(kind=kind, name=name, reason=answer.reason, message=message))
            elif answer.sha256 not in usable:  # copies under other names count once
                credit = credits_of.get(name, NO_CREDIT)
                usable[answer.sha256] = _photographed(candidate, answer, name, source, kind, cache, credit)
            elif name in credits_of and usable[answer.sha256].credit == NO_CREDIT:
                usable[answer.sha256] = replace(usable[answer.sha256], credit=credits_of[name])
        cache.save()
        notes += _uncredited(found, source, names, credits_of)
        notes += _left_out(found)
    rejected += _take_out_disputed(openings, usable, kind)
    return _limited(list(usable.values()), source, spec.val_fraction), rejected


def _left_out(found: Found) -> list[str]:
    """Notes about what is missing beside the pictures of a folder, and what of it is none."""
    notes = []
    unmapped = sum(candidate.kind == "pair" and candidate.disparity is None for candidate in found.candidates)
    if unmapped:
        notes.append(
            f"{found.folder}: {unmapped} pairs have no disparity map; their focal mask stands for it (two planes, "
            "the subject and the rest), and where there is none either, defocus is 0 and says nothing"
        )
    if found.passed_over:
        notes.append(f"{found.folder}: passed over {found.passed_over} files that are no pictures or loose mattes")
    return notes


def _take_out_disputed(
    openings: dict[str | None, set[tuple[float, str]]], usable: dict[str, Indexed], kind: Kind
) -> list[RejectedFile]:
    """Take pairs out of `usable` whose photograph through the lens has several f-numbers: which is true is not known.

    `openings` are f-number and name of each photograph, by its digest.
    """
    disputed = {digest: named for digest, named in openings.items() if len({number for number, _ in named}) > 1}
    for sha256, item in list(usable.items()):
        if item.files is not None and item.files.beside_sha256[0] in disputed:
            del usable[sha256]
    rejected = []
    for named in disputed.values():
        numbers = ", ".join(f"{number:g}" for number in sorted({number for number, _ in named})[:5])
        for name in sorted({name for _, name in named}):
            message = f"{name}: its metadata give this photograph, or a copy of it, several f-numbers: {numbers}"
            rejected.append(RejectedFile(kind=kind, name=name, reason="several_f_numbers", message=message))
    return rejected


def _probe_candidates(
    found: Found, cache: IndexCache, limits: Limits, progress: ProgressCallback
) -> list[tuple[Candidate, Probe | RejectedPicture]]:
    """The cached result of each candidate; candidates without one are probed first."""
    known = {candidate: cache.get(candidate, limits) for candidate in found.candidates}
    new = [candidate for candidate, answer in known.items() if answer is None]
    fingerprints = [fingerprint(candidate, limits) for candidate in new]
    done = iter(range(1, len(new) + 1))
    answers = probe_all(new, limits, lambda: progress(next(done), len(new)))
    for candidate, before, answer in zip(new, fingerprints, answers, strict=True):
        cache.put(candidate, before, answer)
        known[candidate] = answer
    rejected = [(Candidate(kind="", image=path, root=path), error) for path, error in found.rejected]
    return [*((candidate, answer) for candidate, answer in known.items() if answer is not None), *rejected]


def _apply_recipe_limits(
    candidate: Candidate, found: Probe, spec: AssetsSpec, source: SourceSpec
) -> Probe | RejectedPicture:
    """The probe, or its rejection by the recipe's checks: by the source's quality, pairs by alignment, landscapes by
    sharpness.

    Scene-referred pictures (.hdr, .exr) are not judged by sharpness.
    """
    if source.quality is not None:
        sides = (found.height, found.width) if found.box is None else found.box[2:]
        if fault := quality_rejection(found.quality or {}, sides, source.quality, candidate.named):
            return fault
    if candidate.kind == "pair" and found.views is not None:
        red, green, blue, x, y, correlation = found.views
        views = ViewComparison([red, green, blue], (x, y), correlation)
        return pair_rejection(views, min(found.height, found.width), spec.checks, str(candidate.named)) or found
    if candidate.kind != "background" or found.sharpness is None or found.bright:
        return found
    if found.sharpness >= spec.sharpness_floor:
        return found
    return RejectedPicture(
        f"{candidate.image}: sharpness {found.sharpness:.2f} is below the floor of {spec.sharpness_floor:g}: it is "
        "itself blurred",
        "blurred",
    )


def _photographed(
    candidate: Candidate, found: Probe, name: str, source: SourceSpec, kind: Kind, cache: IndexCache, credit: Credit
) -> Indexed:
    files = AssetFiles(
        **vars(candidate), name=name, image_sha256=found.image_sha256, size=(found.height, found.width), box=found.box,
        matte_sha256=found.matte_sha256, beside_sha256=found.beside_sha256,
    )  # fmt: skip
    return Indexed(
        kind=kind, id=f"{'pair' if kind == 'pair' else 'photo'}-{found.sha256[:16]}", sha256=found.sha256,
        source=source, probe=found, files=files, cache=cache, credit=credit,
    )  # fmt: skip


def _uncredited(found: Found, source: SourceSpec, names: set[str], credits_of: dict[str, Credit]) -> list[str]:
    """A note about pictures that the table of credits has no line for, and one about lines that no picture has."""
    if source.credits is None:
        return []
    without, unused = sorted(names - credits_of.keys()), sorted(credits_of.keys() - names)
    notes = []
    if without:
        notes.append(f"{found.folder}: {source.credits} has no line for {len(without)} pictures, such as {without[0]}")
    if unused:
        notes.append(f"{found.folder}: {source.credits} has {len(unused)} lines for no picture, such as {unused[0]}")
    return notes


def _limited(usable: list[Indexed], source: SourceSpec, val_fraction: float) -> list[Indexed]:
    """The first `source.limit` pictures: those that have a split already, then in order of their digests."""

    def order(item: Indexed) -> tuple[bool, str]:
        return item.split_candidate(val_fraction).known_split is None, item.sha256

    return sorted(usable, key=order)[: source.limit]


def _drawn(kind: Kind, source: SourceSpec) -> list[Indexed]:
    """The pictures of a source that has no files."""
    if source.class_path is not None:
        return _drawn_by_class(source.class_path, kind, source)
    return [_procedural(name, kind, source) for name in _procedural_names(source, kind)]


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


def _drawn_by_class(path: str, kind: Kind, source: SourceSpec) -> list[Indexed]:
    """The pictures of a class: `limit` of them, or as many as a family has."""
    count = VARIANTS if source.limit is None else source.limit
    if count > MOST_PICTURES:
        raise RecipeError(f"assets.{kind}s: limit is {count}, and a class draws at most {MOST_PICTURES} ({path})")
    try:
        code = code_of(path)
    except UntrustedCodeError:
        raise
    except UsageError as error:
        raise RecipeError(f"assets.{kind}s: {error}") from error
    return [
        Indexed(kind=kind, id=name, sha256=picture_sha256(name, code), source=source)
        for name in picture_names(path, count)
    ]

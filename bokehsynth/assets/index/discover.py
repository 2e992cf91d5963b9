"""Turn a recipe's sources into candidates: walk folders, expand globs and lists, pair pictures with their mattes."""

import os
import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bokehsynth.assets.catalogue import Candidate
from bokehsynth.assets.decode.rejection import RejectedPicture
from bokehsynth.assets.index.realbokeh import realbokeh_pairs
from bokehsynth.assets.load.pairs import REQUIRED, ROLES, group_pairs
from bokehsynth.assets.spec import PairSourceSpec
from bokehsynth.errors import RecipeError

READ = (".png", ".jpg", ".jpeg", ".jpe", ".webp", ".tif", ".tiff", ".hdr", ".exr")
UNREAD = (
    ".gif", ".bmp", ".heic", ".heif", ".avif", ".jxl", ".jp2", ".psd", ".svg", ".dng", ".cr2", ".cr3", ".nef", ".arw",
    ".raf", ".orf", ".rw2",
)  # fmt: skip
"""Picture formats that are not read: such files are quarantined, while files of other kinds are passed over."""

IMAGE_FOLDERS = (
    "image", "images", "img", "imgs", "original", "originals", "original_image", "original_images", "blurred_image",
    "fgr", "fg", "rgb", "foreground", "foregrounds",
)  # fmt: skip
"""Names of folders that hold the pictures of a set of pairs; where one picture is in several, the first counts.
P3M-10k has faces blurred in `blurred_image` and, for its test sets, as photographed in `original_image`; `fg` beside
them holds estimated colours."""
MATTE_FOLDERS = ("alpha", "alphas", "matte", "mattes", "mask", "masks", "pha", "gt")
OTHER_FOLDERS = ("trimap", "trimaps", "usr", "facemask", "bg", "caption", "captions", "__macosx")
"""Folders of matting sets with neither pictures nor mattes."""
_MATTE_NAME = re.compile(r"(?i)(.+)[ ._-](alpha|matte|mask|pha)$")
"""`cat_alpha.png` beside `cat.jpg`."""

_GLOB = re.compile(r"[*?\[]")


@dataclass
class Found:
    """The files of a source, sorted."""

    candidates: list[Candidate] = field(default_factory=list)
    rejected: list[tuple[Path, RejectedPicture]] = field(default_factory=list)
    """Pictures rejected without being opened."""
    passed_over: int = 0
    """Count of files that are no pictures, and of mattes without a picture."""
    folder: Path = Path()
    """Names are relative to it, and the index is kept in it."""


def find_candidates(path: Path, kind: str, root: Path | None) -> Found:
    """The candidates at an absolute path of a source; RecipeError where it leads to nothing.

    `root` is the folder links must stay below where the source lies in it; else it is the source's own.
    """
    names = str(path)
    if path.is_dir():
        found = Found(folder=path)
        return _pair(_walk(path, found), kind, found, root)
    there = os.path.lexists(path)
    if _GLOB.search(names) and not there:
        return _expand_glob(path, kind, root)
    found = Found(folder=path.parent)
    if path.suffix.lower() == ".txt":
        return _pair(_read_list(path), kind, found, root)
    if not there:
        raise RecipeError(
            f"assets: there is no {names!r}; name a folder, a glob, a picture or a .txt list (relative paths lie in "
            "assets.root, or beside the recipe file; those of --set in the working directory), or `procedural` or "
            "`procedural/FAMILY` for the embedded pictures"
        )
    return _pair([path], kind, found, root)


def find_pairs(folder: Path, source: PairSourceSpec, root: Path | None) -> Found:
    """The pairs in a folder of a source; RecipeError where it holds none. `root` as for `find_candidates`."""
    if not folder.is_dir():
        raise RecipeError(f"assets.pairs: there is no folder {str(folder)!r}; pairs lie in a folder")
    if source.layout is not None:
        candidates, rejected = realbokeh_pairs(folder, _boundary(folder, root))
        return Found(candidates, rejected, folder=folder)
    groups, others = group_pairs(folder, source.names)
    if not any(set(REQUIRED) & set(roles) for roles in groups.values()):
        known = "; ".join(f"{role}: {', '.join(words)}" for role, words in ROLES.items())
        raise RecipeError(
            f"assets.pairs: {str(folder)!r} holds no pairs; name folders or suffixes by their role ({known}), or give "
            "patterns: {path: FOLDER, names: {aif: '{name}_f16.jpg', bokeh: '{name}_f1_8.jpg'}}"
        )
    found = Found(folder=folder, passed_over=len(others))
    boundary = _boundary(folder, root)
    for name, roles in groups.items():
        missing = [role for role in REQUIRED if role not in roles]
        if not missing:
            pair = Candidate(
                kind="pair", image=roles["aif"], bokeh=roles["bokeh"], root=boundary, matte=roles.get("mask"),
                disparity=roles.get("disparity"),
            )  # fmt: skip
            found.candidates.append(pair)
            continue
        path = next(iter(roles.values()))
        found.rejected.append(
            (path, RejectedPicture(f"{path}: the pair {name} has no {missing[0]} photo", "half_pair"))
        )
    return found


def _expand_glob(pattern: Path, kind: str, root: Path | None) -> Found:
    """The files that match a glob; brackets in the names of existing folders are no pattern."""
    parts = pattern.parts
    fixed = next(i for i in range(len(parts)) if _GLOB.search(parts[i]) and not Path(*parts[: i + 1]).is_dir())
    found = Found(folder=Path(*parts[:fixed]))
    matching = sorted(found.folder.glob(str(Path(*parts[fixed:])))) if found.folder.is_dir() else []
    listed = [p for p in matching if not any(part.startswith(".") for part in p.relative_to(found.folder).parts)]
    if not listed:
        raise RecipeError(f"assets: {str(pattern)!r} matches no file; check the pattern (`**` goes through subfolders)")
    whole: list[Path] = []
    for item in listed:
        whole += (
            list(_walk(item, found)) if item.is_dir() and not item.is_symlink() and not _is_readable(item) else [item]
        )
    return _pair(whole, kind, found, root)


def _boundary(folder: Path, root: Path | None) -> Path:
    real = Path(os.path.realpath(folder))
    return root if root is not None and real.is_relative_to(os.path.realpath(root)) else folder


def _walk(folder: Path, found: Found) -> Iterator[Path]:
    """Every file below, sorted, without hidden ones; links to folders are yielded and not followed (they may loop).

    A folder that cannot be listed is added to `found.rejected`, or its pictures would be missing silently.
    """

    def reject(error: OSError) -> None:
        text = f"{error.filename}: the folder cannot be listed: {error.strerror}"
        found.rejected.append((Path(error.filename), RejectedPicture(text, "unreadable")))

    for place, folders, files in os.walk(folder, onerror=reject):
        links = [name for name in folders if os.path.islink(os.path.join(place, name)) or _is_readable(Path(name))]
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in links)
        yield from sorted(Path(place, name) for name in [*files, *links] if not name.startswith("."))


def _read_list(path: Path) -> list[Path]:
    """The pictures of a .txt list, one path a line, relative to the list's folder."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"assets: the list {str(path)!r} cannot be read: {error}") from None
    names = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not names:
        raise RecipeError(f"assets: the list {str(path)!r} names no picture")
    return [path.parent / name for name in names]


def _is_readable(path: Path) -> bool:
    return path.suffix.lower() in READ


def _pair(files: Iterable[Path], kind: str, found: Found, root: Path | None) -> Found:
    """Sort files into pictures, mattes and others, and pair pictures with mattes."""
    boundary = _boundary(found.folder, root)
    pictures: list[Path] = []
    for path in files:
        if path.suffix.lower() in UNREAD:
            text = f"{path}: {path.suffix} is not read; PNG, JPEG, WebP, TIFF, .hdr and .exr are"
            found.rejected.append((path, RejectedPicture(text, "unsupported_format")))
        elif not _is_readable(path):
            found.passed_over += 1
        else:
            pictures.append(path)
    if kind in {"background", "photo"}:
        found.candidates = [Candidate(kind=kind, image=path, root=boundary) for path in pictures]
        return found
    _join_mattes(pictures, found, kind, boundary)
    return found


def _join_mattes(pictures: list[Path], found: Found, kind: str, root: Path) -> None:
    mattes: dict[_Key, list[Path]] = {}
    images: dict[_Key, list[Path]] = {}
    plain: list[Path] = []
    for path in pictures:
        role, set_folder, key = _role(path, found.folder)
        if role == "matte":
            mattes.setdefault((set_folder, key), []).append(path)
        elif role == "image":
            images.setdefault((set_folder, key), []).append(path)
        elif role == "other":
            found.passed_over += 1
        else:
            plain.append(path)
    _join_adjacent(plain, found, kind, root)
    partners = _partners(images, mattes)
    for pair, path in [(pair, path) for pair, several in images.items() for path in _preferred(several, found.folder)]:
        choice = mattes[partners[pair]] if pair in partners else []
        if len(choice) > 1:
            names = ", ".join(matte.name for matte in choice)
            found.rejected.append(
                (path, RejectedPicture(f"{path}: its matte may be any of {names}", "ambiguous_matte"))
            )
            continue
        found.candidates.append(Candidate(kind=kind, image=path, root=root, matte=choice[0] if choice else None))
    used = set(partners.values())
    found.passed_over += sum(len(left) for pair, left in mattes.items() if pair not in used)


def _join_adjacent(plain: list[Path], found: Found, kind: str, root: Path) -> None:
    """Add pictures that are in no set of folders, each with the matte beside it that is named after it, if any."""
    mattes = {(path.parent, m[1]): path for path in plain if (m := _MATTE_NAME.match(path.stem))}
    partners = _partners({(path.parent, path.stem) for path in plain}, mattes)
    used = {mattes[pair] for pair in partners.values()}
    for path in plain:
        if path not in used:
            partner = partners.get((path.parent, path.stem))
            matte = None if partner is None else mattes[partner]
            found.candidates.append(Candidate(kind=kind, image=path, root=root, matte=matte))


_Key = tuple[Path, str]
"""The folder of a set of pairs, and a name within it without suffix."""


def _partners(pictures: Collection[_Key], mattes: Collection[_Key]) -> dict[_Key, _Key]:
    """The matte of each picture: by equal names or else, where that is unambiguous, by normalized names.

    Normalizing folds case, the encoding of accents, and `_alpha` and the like at the end of the matte's name.
    """
    partners = {key: key for key in pictures if key in mattes}
    left_pictures = _group_normalized((key, key[1]) for key in pictures if key not in partners)
    named = ((key, _MATTE_NAME.match(key[1])) for key in mattes if key not in partners)
    left_mattes = _group_normalized((key, m[1] if m else key[1]) for key, m in named)
    for name, keys in left_pictures.items():
        others = left_mattes.get(name, [])
        if len(keys) == len(others) == 1:
            partners[keys[0]] = others[0]
    return partners


def _group_normalized(names: Iterable[tuple[_Key, str]]) -> dict[_Key, list[_Key]]:
    """Keys grouped by the name given for each, with case and the encoding of accents folded."""
    groups: dict[_Key, list[_Key]] = {}
    for key, name in names:
        groups.setdefault((key[0], unicodedata.normalize("NFC", name).casefold()), []).append(key)
    return groups


def _role(path: Path, folder: Path) -> tuple[str, Path, str]:
    """image, matte, other or plain; the folder of its set of pairs; and its name within the set, without suffix."""
    parents = [path.parent, *path.parent.parents]
    below = [parent for parent in parents if parent == folder or folder in parent.parents]
    for place in below:
        name = place.name.lower()
        paired = name in IMAGE_FOLDERS and _has(place.parent, MATTE_FOLDERS)
        matted = name in MATTE_FOLDERS and _has(place.parent, IMAGE_FOLDERS)
        if paired or matted or (name in OTHER_FOLDERS and _has(place.parent, MATTE_FOLDERS)):
            key = str(path.relative_to(place).with_suffix(""))
            return "image" if paired else "matte" if matted else "other", place.parent, key
    return "plain", path.parent, path.stem


def _preferred(several: list[Path], folder: Path) -> list[Path]:
    """The paths in the preferred folder, of one picture that lies in several."""
    best = min(_rank(path, folder) for path in several)
    return [path for path in several if _rank(path, folder) == best]


def _rank(path: Path, folder: Path) -> int:
    names = [parent.name.lower() for parent in path.parents if parent == folder or folder in parent.parents]
    return min((IMAGE_FOLDERS.index(name) for name in names if name in IMAGE_FOLDERS), default=len(IMAGE_FOLDERS))


def _has(place: Path, names: tuple[str, ...]) -> bool:
    """Whether a folder holds one of the named folders."""
    try:
        with os.scandir(place) as entries:
            return any(entry.is_dir() and entry.name.lower() in names for entry in entries)
    except OSError:
        return False

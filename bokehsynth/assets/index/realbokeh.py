"""Pairs in RealBokeh's layout: one photograph with a small opening, and several through larger ones.

Each scene has a file `metadata/NAME.json` with `source_image`, and the lists `target_images` and `target_avs` of equal
length; names of pictures are relative to the folder that holds `metadata`:

    train/metadata/7.json  train/in/7_f22.JPG  train/gt/7_f2.0.JPG  train/gt/7_f4.0.JPG ...
"""

import os
from pathlib import Path, PurePosixPath
from typing import Any

from bokehsynth.assets.catalogue import Candidate
from bokehsynth.assets.decode.rejection import RejectedPicture
from bokehsynth.assets.decode.safe_read import read_file
from bokehsynth.errors import DataError, RecipeError, StorageError
from bokehsynth.untrusted_files import MAX_JSON, parse_json

FOLDER = "metadata"
MAX_TARGETS = 256
"""Photographs of one scene through a lens, at most; RealBokeh has up to ten."""
F_NUMBERS = (0.1, 1000.0)
"""What an f-number may be."""


def realbokeh_pairs(folder: Path, boundary: Path) -> tuple[list[Candidate], list[tuple[Path, RejectedPicture]]]:
    """A pair for each target of each scene, and the metadata that describe none; scenes in order of their files.

    No picture is opened. Links must end below `boundary`. RecipeError where there are no metadata.
    """
    files = _metadata(folder)
    if not files:
        raise RecipeError(
            f"assets.pairs: {str(folder)!r} is not of RealBokeh's layout: it has no {FOLDER}/NAME.json with "
            "source_image, target_images and target_avs; leave `layout` out for pairs that are named by their roles"
        )
    pairs: list[Candidate] = []
    rejected: list[tuple[Path, RejectedPicture]] = []
    for path in files:
        try:
            pairs += _scene(path, _read(path, boundary), boundary)
        except RejectedPicture as error:  # a link that leads out, a FIFO, no permission
            rejected.append((path, error))
        except DataError as error:
            fault = RejectedPicture(f"{path}: is no metadata of a scene ({error})", "corrupt", lasting=False)
            rejected.append((path, fault))
    return pairs, rejected


def _metadata(folder: Path) -> list[Path]:
    found: list[Path] = []
    for place, folders, names in os.walk(folder, onerror=_raise_unlistable):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if Path(place).name == FOLDER:
            found += [Path(place, name) for name in sorted(names) if name.endswith(".json") and name[0] != "."]
    return found


def _raise_unlistable(error: OSError) -> None:
    raise StorageError(f"{error.filename}: the folder cannot be listed: {error.strerror}")


def _read(path: Path, boundary: Path) -> Any:
    try:
        return parse_json(read_file(path, boundary, MAX_JSON).decode(), path.name)
    except UnicodeDecodeError:
        raise DataError(f"{path.name}: is no UTF-8 text") from None


def _scene(path: Path, record: Any, boundary: Path) -> list[Candidate]:
    """The pairs of one scene; DataError for a record that describes none."""
    record = record if isinstance(record, dict) else {}
    source, targets, f_numbers = (record.get(key) for key in ("source_image", "target_images", "target_avs"))
    if not (isinstance(source, str) and isinstance(targets, list) and isinstance(f_numbers, list)):
        raise DataError("it has no text source_image and lists target_images and target_avs")
    if not 1 <= len(targets) <= MAX_TARGETS or len(targets) != len(f_numbers):
        raise DataError(
            f"{len(targets)} target_images and {len(f_numbers)} target_avs; as many of both, 1 to {MAX_TARGETS}, "
            "belong there"
        )
    for number in f_numbers:
        if type(number) not in (int, float) or not F_NUMBERS[0] <= number <= F_NUMBERS[1]:
            raise DataError(f"an f-number is {F_NUMBERS[0]:g} to {F_NUMBERS[1]:g}, got {number!r:.40}")
    image = _beside(path, source)
    pictures = [_beside(path, target) for target in targets]
    if len(set(pictures)) != len(pictures):
        raise DataError("target_images names a picture twice, and it has one f-number")
    return [
        Candidate(kind="pair", image=image, bokeh=picture, root=boundary, f_number=float(number))
        for picture, number in zip(pictures, f_numbers, strict=True)
    ]


def _beside(path: Path, name: Any) -> Path:
    """The picture of a name that is relative to the folder of `metadata`; DataError for one that leads elsewhere."""
    parts = PurePosixPath(name).parts if isinstance(name, str) else ()
    if not parts or "\0" in name or parts[0] == "/" or ".." in parts or "\\" in name:
        raise DataError(f"a picture is a path below the folder that holds {FOLDER}, got {name!r:.80}")
    try:
        os.fsencode(name)
    except UnicodeEncodeError:  # half a surrogate pair is text in JSON, and the name of no file
        raise DataError(f"a picture is the name of a file, got {name!r:.80}") from None
    return path.parent.parent.joinpath(*parts)

"""Folders to a frozen list: layouts, quarantine, stable splits, near duplicates, licences, limits, moved folders."""

import json
import os
import pickle
import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from support.photographs import cutout, encoded, folders, landscape, save

from bokehsynth.assets.catalogue import Candidate
from bokehsynth.assets.decode.decoder import Limits
from bokehsynth.assets.decode.rejection import RejectedPicture
from bokehsynth.assets.index import probe_pool
from bokehsynth.assets.index.build import build_catalogue
from bokehsynth.assets.index.cache import NAME, IndexCache, fingerprint
from bokehsynth.assets.index.discover import find_candidates
from bokehsynth.assets.index.measure import grey_of, perceptual_hash, sharpness
from bokehsynth.assets.index.probe import probe
from bokehsynth.assets.index.probe_pool import probe_all
from bokehsynth.assets.index.split import SplitCandidate, assign_splits, hash_position
from bokehsynth.assets.load.pairs import group_pairs
from bokehsynth.assets.spec import AssetsSpec
from bokehsynth.color import srgb_to_linear
from bokehsynth.errors import RecipeError, StorageError
from bokehsynth.workers.line_children import ChildEnded, ChildStartError, LineChild


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """Indexes of folders that cannot be written must not outlive a test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def spec(root, **changes) -> AssetsSpec:
    given = {"foregrounds": [str(root / "cutouts")], "backgrounds": [str(root / "landscapes")]}
    return AssetsSpec.model_validate(given | {"sharpness_floor": 0} | changes)


def pairs_of(folder) -> dict[str, str | None]:
    """Name of each candidate's picture below the folder, and its matte's."""
    found = find_candidates(folder, "foreground", None)
    name = {c: c.image.relative_to(folder).as_posix() for c in found.candidates}
    return {name[c]: None if c.matte is None else c.matte.relative_to(folder).as_posix() for c in found.candidates}


# --- layouts of matting sets


def lay_out(folder, *names) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")


def test_layout_of_photomatte85(tmp_path):
    lay_out(tmp_path, "a.png", "b.png")
    assert pairs_of(tmp_path) == {"a.png": None, "b.png": None}


def test_layout_of_rwp636(tmp_path):
    lay_out(tmp_path, "image/1.jpg", "image/2.png", "alpha/1.png", "alpha/2.png")
    assert pairs_of(tmp_path) == {"image/1.jpg": "alpha/1.png", "image/2.png": "alpha/2.png"}


def test_layout_of_aim500(tmp_path):
    lay_out(tmp_path, "original/o_1.jpg", "mask/o_1.png", "trimap/o_1.png", "usr/o_1.png")
    assert pairs_of(tmp_path) == {"original/o_1.jpg": "mask/o_1.png"}


def test_layout_of_p3m10k(tmp_path):
    lay_out(tmp_path, "train/blurred_image/p_1.jpg", "train/mask/p_1.png", "train/facemask/p_1.png")
    lay_out(tmp_path, *(f"validation/P3M-500-P/{d}/p_2.jpg" for d in ("blurred_image", "original_image", "mask")))
    lay_out(tmp_path, "validation/P3M-500-P/trimap/p_2.png")
    assert pairs_of(tmp_path) == {
        "train/blurred_image/p_1.jpg": "train/mask/p_1.png",
        "validation/P3M-500-P/original_image/p_2.jpg": "validation/P3M-500-P/mask/p_2.jpg",
    }


def test_mattes_beside_their_pictures_and_in_subfolders(tmp_path):
    lay_out(tmp_path, "cat.jpg", "cat_alpha.png", "dog.jpg", "sun_mask.png", "set/image/x/1.jpg", "set/alpha/x/1.png")
    assert pairs_of(tmp_path) == {
        "cat.jpg": "cat_alpha.png",
        "dog.jpg": None,
        "sun_mask.png": None,  # no picture `sun`: a picture of its own
        "set/image/x/1.jpg": "set/alpha/x/1.png",
    }


@pytest.mark.parametrize(
    ("names", "pairs"),
    [
        (["Image/IMG_1.JPG", "Alpha/img_1.PNG"], {"Image/IMG_1.JPG": "Alpha/img_1.PNG"}),
        (["image/caf\u00e9.jpg", "alpha/cafe\u0301.png"], {"image/caf\u00e9.jpg": "alpha/cafe\u0301.png"}),
        (["image/1.jpg", "alpha/1_alpha.png"], {"image/1.jpg": "alpha/1_alpha.png"}),
        (["Y.JPG", "y_Matte.png"], {"Y.JPG": "y_Matte.png"}),
        # The very name goes first, and what may belong to two belongs to none.
        (
            ["image/a.jpg", "image/A.jpg", "alpha/a.png", "alpha/A.png"],
            {"image/a.jpg": "alpha/a.png", "image/A.jpg": "alpha/A.png"},
        ),
        (["image/a.jpg", "image/A.jpg", "alpha/a_matte.png"], {"image/a.jpg": None, "image/A.jpg": None}),
        (
            ["train/blurred_image/p.jpg", "train/fg/p.jpg", "train/mask/p.png"],
            {"train/blurred_image/p.jpg": "train/mask/p.png"},
        ),
    ],
)
def test_names_that_match_after_normalizing(tmp_path, names, pairs):
    lay_out(tmp_path, *names)
    assert pairs_of(tmp_path) == pairs


def test_brackets_in_existing_names_are_no_pattern(tmp_path):
    lay_out(tmp_path, "photos [2024]/a.png", "photos [2024]/b[1].png")
    folder = tmp_path / "photos [2024]"

    def names(path) -> list[str]:
        found = find_candidates(path, "background", None)
        return [candidate.image.name for candidate in found.candidates]

    assert names(folder) == names(folder / "*.png") == ["a.png", "b[1].png"]
    assert names(folder / "b[1].png") == ["b[1].png"]


def test_a_list_may_begin_with_a_byte_order_mark(tmp_path):
    lay_out(tmp_path, "a.png")
    (tmp_path / "list.txt").write_bytes("\ufeffa.png\r\n".encode())
    found = find_candidates(tmp_path / "list.txt", "background", None)
    assert [candidate.image for candidate in found.candidates] == [tmp_path / "a.png"]


def test_a_folder_that_cannot_be_listed_is_named(tmp_path, monkeypatch):
    lay_out(tmp_path, "a.png", "locked/b.png")
    scan = os.scandir

    def refusing(place):  # the tests may run as root, whom no permission stops
        if os.path.basename(place) == "locked":
            raise PermissionError(13, "Permission denied", str(place))
        return scan(place)

    monkeypatch.setattr(os, "scandir", refusing)
    found = find_candidates(tmp_path, "background", None)
    assert [candidate.image.name for candidate in found.candidates] == ["a.png"]
    assert [(path.name, rejected.reason) for path, rejected in found.rejected] == [("locked", "unreadable")]
    with pytest.raises(StorageError, match="locked"):
        group_pairs(tmp_path)


def test_two_mattes_for_one_picture_are_ambiguous(tmp_path):
    lay_out(tmp_path, "image/1.jpg", "alpha/1.png", "mask/1.png")
    found = find_candidates(tmp_path, "foreground", None)
    assert [rejected.reason for _, rejected in found.rejected] == ["ambiguous_matte"]


def test_globs_lists_single_files_and_unsupported_formats(tmp_path):
    lay_out(tmp_path, "a/1.png", "a/b/2.PNG", "a/notes.txt", "a/old.gif", "a/.hidden.png", "c/3.jpg")
    (tmp_path / "list.txt").write_text("# two\na/1.png\nc/3.jpg\n")

    def names(path) -> list[str]:
        found = find_candidates(path, "background", None)
        return [candidate.image.name for candidate in found.candidates]

    assert names(tmp_path / "a") == ["1.png", "2.PNG"]
    assert names(tmp_path / "a" / "*.png") == ["1.png"]
    assert names(tmp_path / "**" / "*.[pj][np]g") == ["1.png", "3.jpg"]
    assert names(tmp_path / "list.txt") == ["1.png", "3.jpg"]
    assert names(tmp_path / "c" / "3.jpg") == ["3.jpg"]
    found = find_candidates(tmp_path / "a", "background", None)
    assert (found.passed_over, [rejected.reason for _, rejected in found.rejected]) == (1, ["unsupported_format"])
    for nothing in ("none", "a/*.tif"):
        with pytest.raises(RecipeError, match=nothing.partition("/")[0]):
            find_candidates(tmp_path / nothing, "background", None)


# --- quarantine


def test_every_kind_of_bad_file_is_quarantined_with_its_reason(tmp_path):
    folders(tmp_path)
    cut, land = tmp_path / "cutouts", tmp_path / "landscapes"
    save(cut / "no matte.jpg", landscape(20))
    save(cut / "opaque.png", np.dstack([landscape(21), np.full((96, 128), 255, np.uint8)]))
    save(cut / "empty.png", np.dstack([landscape(22), np.zeros((96, 128), np.uint8)]))
    save(cut / "set" / "image" / "1.png", landscape(23))
    save(cut / "set" / "alpha" / "1.png", cutout(1, 60, 60)[..., 3])
    save(cut / "set" / "image" / "2.png", landscape(24))
    save(cut / "set" / "alpha" / "2.png", landscape(25))
    save(cut / "set" / "image" / "3.png", landscape(26))
    (land / "cut.jpg").write_bytes(encoded(landscape(27), "JPEG")[:900])
    (land / "text.png").write_text("no picture")
    (land / "folder.png").mkdir()
    os.mkfifo(land / "fifo.png")
    (land / "link.png").symlink_to("/etc/hostname")
    (land / "tiny.png").write_bytes(encoded(landscape(28, 8, 8)))
    save(land / "clear.png", cutout(5))
    (land / "new\nline \udcff ü 中.png").write_bytes(b"")
    catalogue = build_catalogue(spec(tmp_path))
    found = {(rejected.kind, rejected.name): rejected.reason for rejected in catalogue.quarantine}
    assert found == {
        ("foreground", "no matte.jpg"): "no_matte",
        ("foreground", "opaque.png"): "no_matte",
        ("foreground", "empty.png"): "empty_matte",
        ("foreground", "set/image/1.png"): "matte_size",
        ("foreground", "set/image/2.png"): "matte_in_color",
        ("foreground", "set/image/3.png"): "no_matte",
        ("background", "cut.jpg"): "truncated",
        ("background", "text.png"): "unsupported_format",
        ("background", "folder.png"): "not_a_file",
        ("background", "fifo.png"): "not_a_file",
        ("background", "link.png"): "outside_root",
        ("background", "tiny.png"): "too_small",
        ("background", "clear.png"): "has_alpha",
        ("background", "new\nline \udcff ü 中.png"): "truncated",
    }
    lines = catalogue.quarantine_lines().encode("ascii").splitlines()
    assert len(lines) == len(found)
    assert all(str(tmp_path) not in json.loads(line)["message"] for line in lines if b"link.png" not in line)
    assert len(catalogue.assets) == 8
    # A second look comes from the index, and says the same.
    again = build_catalogue(spec(tmp_path))
    assert again.quarantine == catalogue.quarantine
    assert again.digest == catalogue.digest


def test_blurred_landscapes_are_rejected_and_sharp_ones_are_not(tmp_path):
    folders(tmp_path)
    houses = np.kron(np.random.RandomState(1).rand(12, 15, 1), np.full((32, 32, 3), 255)).astype(np.uint8)
    soft = cv2.GaussianBlur(houses, (0, 0), 4)
    save(tmp_path / "landscapes" / "soft.png", soft)
    noise = np.random.RandomState(3).randn(*soft.shape) * 2.5
    save(tmp_path / "landscapes" / "grainy.png", np.clip(soft + noise, 0, 255).astype(np.uint8))
    catalogue = build_catalogue(spec(tmp_path, sharpness_floor=0.2))
    assert {r.name: r.reason for r in catalogue.quarantine} == {"soft.png": "blurred", "grainy.png": "blurred"}
    assert len(build_catalogue(spec(tmp_path, sharpness_floor=0)).quarantine) == 0


@pytest.mark.parametrize("scale", [1.0, 2.0, 0.5])
def test_sharpness_does_not_depend_on_size(scale):
    picture = cv2.resize(landscape(7, 600, 700), None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    blurred = cv2.GaussianBlur(picture, (0, 0), 2 * max(1, min(picture.shape[:2]) / 512))
    assert sharpness(srgb_to_linear(picture)) > 0.3
    assert sharpness(srgb_to_linear(blurred)) < 0.2


# --- the index


def test_indexing_again_decodes_nothing(tmp_path, monkeypatch):
    folders(tmp_path)
    first = build_catalogue(spec(tmp_path))
    looked = []
    monkeypatch.setattr(
        "bokehsynth.assets.index.source.probe_all", lambda c, *rest: looked.extend(c) or probe_all(c, *rest)
    )
    assert build_catalogue(spec(tmp_path)).digest == first.digest
    assert looked == []
    save(tmp_path / "cutouts" / "c1.png", cutout(777))  # another picture under an old name
    assert build_catalogue(spec(tmp_path)).digest != first.digest
    assert [candidate.image.name for candidate in looked] == ["c1.png"]


@pytest.mark.parametrize("damage", ["", "[]", '{"format": 1, "files": {"x": 3}, "sides": {}}', "\x00"])
def test_a_damaged_index_is_rebuilt(tmp_path, damage):
    folders(tmp_path)
    first = build_catalogue(spec(tmp_path))
    (tmp_path / "cutouts" / NAME).write_text(damage)
    assert build_catalogue(spec(tmp_path)).digest == first.digest


def test_folders_that_cannot_be_written_are_left_alone(tmp_path):
    folders(tmp_path)
    (tmp_path / "cutouts").chmod(0o555)
    first = build_catalogue(spec(tmp_path))
    assert not (tmp_path / "cutouts" / NAME).exists()
    assert list((tmp_path / "cache" / "bokehsynth" / "assets").iterdir())
    assert build_catalogue(spec(tmp_path)).digest == first.digest
    (tmp_path / "cutouts").chmod(0o755)


def test_ids_say_nothing_about_names_and_survive_a_move(tmp_path):
    folders(tmp_path / "here")
    first = build_catalogue(spec(tmp_path / "here"))
    shutil.copytree(tmp_path / "here", tmp_path / "there" / "deeper")
    moved = build_catalogue(spec(tmp_path / "there" / "deeper"))
    assert moved.lines() == first.lines()
    assert all(asset.id.startswith("photo-") and asset.id.isascii() for asset in first.assets)


@pytest.mark.parametrize("name", ["nowhere.png", "half a pair\ud800.png", "\0.png"], ids=["none", "half", "NUL"])
def test_a_name_of_no_file_has_no_fingerprint(tmp_path, name):
    assert fingerprint(Candidate(kind="photo", image=tmp_path / name, root=tmp_path), Limits()) is None


def test_a_decoder_that_hangs_or_dies_harms_no_other(tmp_path, monkeypatch):
    """A child killed when it gets a file, once or whenever it does; a file that takes too long; others are probed."""
    folders(tmp_path, 0, 3)
    files = sorted((tmp_path / "landscapes").iterdir())
    candidates = [Candidate(kind="background", image=path, root=tmp_path) for path in files]
    candidates.insert(1, Candidate(kind="no such kind", image=files[0], root=files[1]))
    real, requests, deaths = LineChild.ask, [], {}

    def ask_or_kill(child, request, seconds):
        requests.append(request)
        if any(name in request and requests.count(request) <= times for name, times in deaths.items()):
            child.process.kill()
            child.process.wait()
        return real(child, request, seconds)

    monkeypatch.setattr(LineChild, "ask", ask_or_kill)
    for times, fourth in ((1, "good"), (2, "too_large")):
        requests.clear()
        deaths[files[2].name] = times
        answers = probe_all(candidates, Limits())
        reasons = [getattr(answer, "reason", "good") for answer in answers]
        assert reasons == ["good", "outside_root", "good", fourth]
    assert not answers[3].lasting
    monkeypatch.setattr(LineChild, "ask", real)
    monkeypatch.setattr(probe_pool, "SECONDS", 0.0)
    start = time.monotonic()
    assert {answer.reason for answer in probe_all(candidates[:1], Limits())} == {"too_slow"}
    assert time.monotonic() - start < 20


@pytest.mark.parametrize("through", ["cwd", "PYTHONPATH"])
def test_probing_imports_nothing_from_the_working_directory(tmp_path, monkeypatch, through):
    """Files there that are named as modules are neither run nor a picture's fault."""
    folders(tmp_path / "pictures", 0, 1)
    work = tmp_path / "work"
    work.mkdir()
    for name in ("OpenEXR", "random", "selectors", "importlib", "os", "bokehsynth"):
        (work / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'a').write({name!r}); print('a line')\n")
    monkeypatch.chdir(work)
    if through == "PYTHONPATH":  # an empty part means the working directory
        monkeypatch.setenv("PYTHONPATH", os.pathsep + os.environ.get("PYTHONPATH", ""))
        (work / "os.py").unlink()  # would be imported by Python itself as it starts
    picture = next((tmp_path / "pictures" / "landscapes").iterdir())
    answers = probe_all([Candidate(kind="background", image=picture, root=picture.parent)], Limits())
    assert [getattr(answer, "reason", "good") for answer in answers] == ["good"]
    assert not (tmp_path / "ran").exists()


def test_children_that_cannot_start_judge_no_picture(tmp_path, monkeypatch):
    folders(tmp_path, 1, 1)
    monkeypatch.setattr(probe_pool, "child_command", lambda *_: [sys.executable, "-c", "import no_such_module"])
    with pytest.raises(ChildStartError, match="no file was judged"):
        build_catalogue(spec(tmp_path))
    assert not (tmp_path / "cutouts" / NAME).exists()
    monkeypatch.undo()
    assert len(build_catalogue(spec(tmp_path), splits=("train",)).assets) == 2


@pytest.mark.parametrize(
    "fault", [OSError(28, "No space left on device"), MemoryError(), AttributeError("module has no attribute"), None]
)
def test_only_verdicts_that_follow_from_bytes_are_remembered(tmp_path, monkeypatch, fault):
    """What the machine, or a library's version, made of a good picture is looked at again; a cut file is not."""
    save(tmp_path / "good.png", landscape(1))
    (tmp_path / "cut.png").write_bytes(encoded(landscape(2))[:-900])
    known = [Candidate(kind="photo", image=tmp_path / name, root=tmp_path) for name in ("cut.png", "good.png")]

    def fail(*_):
        raise fault

    with monkeypatch.context() as patch:
        if fault is not None:
            patch.setattr("bokehsynth.assets.decode.decoder.read_photo", fail)
        answers = []
        for candidate in known:
            try:
                answers.append(probe(candidate, Limits()))
            except RejectedPicture as error:
                answers.append(pickle.loads(pickle.dumps(error)))
    if fault is None:
        answers[1] = probe_pool._answer(known[1], ChildEnded(-9, timed_out=False))
    cache = IndexCache(tmp_path)
    for candidate, answer in zip(known, answers, strict=True):
        cache.put(candidate, fingerprint(candidate, Limits()), answer)
    assert cache.get(known[1], Limits()) is None
    assert (cache.get(known[0], Limits()) is not None) == (fault is None)
    monkeypatch.setattr("bokehsynth.assets.index.cache._decoders", lambda: "Pillow 99.0")
    assert cache.get(known[0], Limits()) is None, "another version's verdict"


def test_verdicts_of_earlier_versions_are_looked_at_again(tmp_path):
    """0.4 remembered what the machine had done to good pictures."""
    folders(tmp_path)
    first = build_catalogue(spec(tmp_path))
    index = tmp_path / "cutouts" / NAME
    record = json.loads(index.read_text())
    for key, known in record["files"].items():
        if "c1.png" in key:
            stamp = [1, *known["stamp"][1:]]
            record["files"][key] = {"stamp": stamp, "refused": "corrupt", "message": "its decoder crashed"}
    index.write_text(json.dumps(record))
    again = build_catalogue(spec(tmp_path))
    assert again.digest == first.digest
    assert again.quarantine == ()


# --- train and val


def test_splits_follow_the_hash_and_adding_moves_no_asset(tmp_path):
    folders(tmp_path, 12, 12)
    before = {a.id: a.split for a in build_catalogue(spec(tmp_path, val_fraction=0.3)).assets}
    assert set(before.values()) == {"train", "val"}
    for i in range(10):
        save(tmp_path / "cutouts" / f"new{i}.png", cutout(300 + i))
        old = landscape(i)
        copies = [old[:, ::-1], cv2.resize(old, None, fx=0.7, fy=0.7, interpolation=cv2.INTER_AREA)]
        save(tmp_path / "landscapes" / f"new{i}.jpg", np.ascontiguousarray(copies[i % 2]), quality=70)
    after = build_catalogue(spec(tmp_path, val_fraction=0.3))
    sides = {asset.id: asset.split for asset in after.assets}
    assert {name: sides.get(name) for name in before} == before
    assert len(sides) == len(before) + 20
    # And every copy is where its original is.
    by_name = {files.name: sides[name] for name, files in after.files.items()}
    for i in range(10):
        assert by_name[f"new{i}.jpg"] == by_name[f"l{i}.png"], i


def test_an_asset_given_to_an_empty_split_stays_there(tmp_path):
    """The one that an empty val was given stays there when a picture comes that falls to val by its hash."""
    folders(tmp_path, 3, 3)
    before = build_catalogue(spec(tmp_path, val_fraction=0.001))
    (given,) = [a.id for a in before.assets if a.split == "val" and a.kind == "background"]
    assert any("fell to val" in note for note in before.notes)
    for i in range(12):
        save(tmp_path / "landscapes" / f"new{i}.png", landscape(60 + i))
    after = build_catalogue(spec(tmp_path, val_fraction=0.001))
    assert [a.id for a in after.assets if a.split == "val" and a.kind == "background"] == [given]


def test_a_near_duplicate_of_both_splits_belongs_to_neither():
    low, high = sorted((f"{i:064x}" for i in range(50)), key=hash_position)[::49]
    look = perceptual_hash(grey_of(srgb_to_linear(landscape(1))))
    seen = {"dhash": look.dhash, "thumb": look.thumb, "aspect": look.aspect}
    known = [
        SplitCandidate(sha256=low, known_split="val", **seen),
        SplitCandidate(sha256=high, known_split="train", **seen),
    ]
    placed = assign_splits(known, 0.5)
    assert sorted((found.split or "none") for found in placed.values()) != ["train", "val"]
    alone = assign_splits([SplitCandidate(sha256=low, **seen), SplitCandidate(sha256=high, **seen)], 0.5)
    assert len({found.split for found in alone.values()}) == 1  # new ones that look alike stay together


CHANGES = {
    "mirrored": lambda p: p[:, ::-1],
    "smaller": lambda p: cv2.resize(p, None, fx=0.4, fy=0.4, interpolation=cv2.INTER_AREA),
    "larger": lambda p: cv2.resize(p, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC),
    "jpeg": lambda p: cv2.imdecode(cv2.imencode(".jpg", p, [cv2.IMWRITE_JPEG_QUALITY, 30])[1], cv2.IMREAD_COLOR),
    "cropped": lambda p: p[4:-4, 5:-5],
    "lighter": lambda p: np.clip(p * 1.2 + 8, 0, 255).astype(np.uint8),
    "mirrored jpeg": lambda p: CHANGES["jpeg"](np.ascontiguousarray(p[:, ::-1])),
}


def candidate_of(picture) -> SplitCandidate:
    found = perceptual_hash(grey_of(srgb_to_linear(np.ascontiguousarray(picture))))
    return SplitCandidate(sha256="x", dhash=found.dhash, thumb=found.thumb, aspect=found.aspect)


def near_duplicate(one: SplitCandidate, other: SplitCandidate) -> bool:
    known, new = replace(one, sha256="0", known_split="val"), replace(other, sha256="1")
    return assign_splits([known, new], 0.5)["1"].like == "0"


@pytest.mark.parametrize("change", CHANGES)
def test_copies_are_near_duplicates(change):
    for seed in range(8):
        picture = landscape(seed, 240, 320)
        assert near_duplicate(candidate_of(picture), candidate_of(CHANGES[change](picture))), seed


def test_different_pictures_are_not():
    seen = [candidate_of(landscape(seed, 120, 160)) for seed in range(60)]
    assert not [(i, j) for i in range(60) for j in range(i) if near_duplicate(seen[i], seen[j])]


# --- sources


def test_too_few_pictures_are_an_error_that_says_what_to_do(tmp_path):
    folders(tmp_path, 1, 4)
    with pytest.raises(RecipeError, match="train and val must not share a foreground"):
        build_catalogue(spec(tmp_path))
    assert len(build_catalogue(spec(tmp_path), splits=("train",)).assets) == 5
    (tmp_path / "cutouts" / "c0.png").write_bytes(b"")
    with pytest.raises(RecipeError, match=r"no usable foreground.*truncated: c0.png"):
        build_catalogue(spec(tmp_path))


def test_copies_of_one_picture_cannot_fill_both_splits(tmp_path):
    folders(tmp_path, 1, 4)
    save(tmp_path / "cutouts" / "copy.png", np.ascontiguousarray(cutout(100)[:, ::-1]))
    with pytest.raises(RecipeError, match="looks different"):
        build_catalogue(spec(tmp_path))


def test_limit_weight_and_licence(tmp_path):
    folders(tmp_path, 6, 6)
    source = {"path": str(tmp_path / "cutouts"), "limit": 3, "weight": 2.5, "licence": "CC-BY-4.0"}
    first = [a for a in build_catalogue(spec(tmp_path, foregrounds=[source])).assets if a.kind == "foreground"]
    assert [(a.weight, a.licence) for a in first] == [(2.5, "CC-BY-4.0")] * 3
    for i in range(6):
        save(tmp_path / "cutouts" / f"more{i}.png", cutout(400 + i))
    again = [a for a in build_catalogue(spec(tmp_path, foregrounds=[source])).assets if a.kind == "foreground"]
    assert again == first  # those that were indexed first stay


def test_licences_that_are_not_allowed(tmp_path):
    folders(tmp_path)
    with pytest.raises(RecipeError, match=r"'unknown'.*licences\.allow"):
        build_catalogue(spec(tmp_path, licences={"allow": ["CC0"]}))
    stated = {
        "foregrounds": [{"path": str(tmp_path / "cutouts"), "licence": "CC0"}],
        "backgrounds": ["procedural"],
    }
    with pytest.raises(RecipeError, match=r"Apache-2\.0"):
        build_catalogue(spec(tmp_path, **stated, licences={"allow": ["CC0"]}))
    assert build_catalogue(spec(tmp_path, **stated, licences={"allow": ["CC0", "Apache-2.0"]})).assets


def test_a_picture_under_two_licences_is_noted(tmp_path):
    for name in ("x/0.png", "x/1.png", "y/copy.png"):
        save(tmp_path / name, landscape(int(name == "x/1.png"), 64, 80))
    sources = [
        {"path": str(tmp_path / "x"), "licence": "CC0"},
        {"path": str(tmp_path / "y"), "licence": "research only"},
    ]
    found = build_catalogue(spec(tmp_path, backgrounds=sources), ("train",), ("background",))
    assert sorted(asset.licence for asset in found.assets) == ["CC0", "research only"]
    (note,) = [note for note in found.notes if "two sources" in note]
    assert "copy.png" in note
    assert "CC0" in note


def test_the_same_picture_twice_is_one_asset(tmp_path):
    folders(tmp_path)
    shutil.copy(tmp_path / "landscapes" / "l1.png", tmp_path / "landscapes" / "again.png")
    catalogue = build_catalogue(spec(tmp_path))
    assert sum(asset.kind == "background" for asset in catalogue.assets) == 4
    assert not catalogue.quarantine


def test_folders_and_embedded_pictures_mix(tmp_path):
    folders(tmp_path)
    catalogue = build_catalogue(spec(tmp_path, foregrounds=["procedural", str(tmp_path / "cutouts")]))
    ids = [asset.id for asset in catalogue.assets if asset.kind == "foreground"]
    assert sum(name.startswith("photo-") for name in ids) == 4
    assert set(catalogue.files) == {a.id for a in catalogue.assets if a.id.startswith("photo-")}


def test_matte_of_a_rotated_picture(tmp_path):
    """Picture and matte each carry their own orientation; upright, they fit."""
    rgba = cutout(9, 60, 90)
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "cutouts" / "image").mkdir(parents=True)
    (tmp_path / "cutouts" / "alpha").mkdir()
    turned = np.ascontiguousarray(np.rot90(rgba))  # stored lying, shown upright
    (tmp_path / "cutouts" / "image" / "1.png").write_bytes(encoded(np.ascontiguousarray(turned[..., :3]), exif=exif))
    (tmp_path / "cutouts" / "alpha" / "1.png").write_bytes(encoded(np.ascontiguousarray(rgba[..., 3])))
    catalogue = build_catalogue(spec(tmp_path, backgrounds=["procedural"]), splits=("train",))
    (found,) = catalogue.files.values()
    assert (found.size, catalogue.quarantine) == ((60, 90), ())


# --- the index of a folder that came from elsewhere


def _fifo(index: Path) -> None:
    os.mkfifo(index)


def _device(index: Path) -> None:
    index.symlink_to("/dev/zero")


def _deep(index: Path) -> None:
    index.write_text("[" * 100_000)


def _no_objects(index: Path) -> None:
    index.write_text('{"format": 1, "files": {"background [\\"a.png\\"]": 3}, "sides": {"background 0.05": []}}')


@pytest.mark.timeout(60)
@pytest.mark.parametrize("plant", [_fifo, _device, _deep, _no_objects])
def test_an_index_that_is_none_is_made_anew(tmp_path, plant):
    """A FIFO was waited for, a link to a device read until the memory was full."""
    folders(tmp_path, 1, 2)
    (tmp_path / "landscapes" / NAME).parent.mkdir()
    plant(tmp_path / "landscapes" / NAME)
    assert len(build_catalogue(spec(tmp_path), splits=("train",)).assets) == 3


@pytest.mark.parametrize("link", [NAME, NAME.parent])
def test_an_index_behind_a_link_is_neither_read_nor_written(tmp_path, monkeypatch, link):
    """It may be the index of a folder of one's own, with what is val there."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folders(tmp_path, 1, 2)
    own = tmp_path / "own"
    (own / NAME).parent.mkdir(parents=True)
    (own / NAME).write_text('{"format": 1, "files": {}, "sides": {"background 0.05": {"aa": "val"}}}')
    before = (own / NAME).read_bytes()
    (tmp_path / "landscapes" / link).parent.mkdir(exist_ok=True)
    (tmp_path / "landscapes" / link).symlink_to(own / link)
    first = build_catalogue(spec(tmp_path), splits=("train",))
    assert (own / NAME).read_bytes() == before
    assert (tmp_path / "landscapes" / link).is_symlink()
    assert list((tmp_path / "cache").rglob("*.json"))
    assert build_catalogue(spec(tmp_path), splits=("train",)).digest == first.digest


def test_a_split_of_an_index_is_train_or_val(tmp_path):
    folders(tmp_path, 1, 2)
    first = build_catalogue(spec(tmp_path), splits=("train",))
    index = tmp_path / "landscapes" / NAME
    index.write_text(index.read_text().replace('"train"', '"elsewhere"'))
    assert build_catalogue(spec(tmp_path), splits=("train",)).digest == first.digest


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("dhash", "zz"), ("dhash", "00"), ("thumb", "AAAA"), ("thumb", "?"), ("aspect", 0), ("aspect", "wide"),
        ("width", "x"), ("notes", 3), ("sha256", None), ("sharpness", []),
    ],
)  # fmt: skip
def test_measurements_of_an_index_that_are_none_are_taken_anew(tmp_path, key, value):
    folders(tmp_path, 1, 2)
    first = build_catalogue(spec(tmp_path), splits=("train",))
    index = tmp_path / "landscapes" / NAME
    record = json.loads(index.read_text())
    next(iter(record["files"].values()))["probe"][key] = value
    index.write_text(json.dumps(record))
    assert build_catalogue(spec(tmp_path), splits=("train",)).digest == first.digest

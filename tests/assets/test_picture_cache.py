"""Pictures kept on disk: never another pixel, within bounds, damage is seen, a stranger's index changes nothing."""

import os
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from support.photographs import cutout, landscape, save

from bokehsynth.assets.catalogue import Asset, AssetFiles, Catalogue
from bokehsynth.assets.load import picture_cache as module
from bokehsynth.assets.load import store as store_module
from bokehsynth.assets.load.picture_cache import SETTING, PictureCache, size_setting
from bokehsynth.assets.load.store import AssetStore
from bokehsynth.cli import cli
from bokehsynth.errors import ChangedError, UsageError
from bokehsynth.files import canonical_json, sha256_bytes
from bokehsynth.imaging.pictures import Landscape


@pytest.fixture(autouse=True)
def disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is half full: nothing is kept on one that is nearly full, as that of the tests may be."""
    usage = SimpleNamespace(total=200 << 30, used=100 << 30, free=100 << 30)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: usage)


def listed(image: Path, kind: str, size: tuple[int, int], matte: Path | None = None) -> tuple[Asset, AssetFiles]:
    """A picture as the index lists it."""
    sums = [sha256_bytes(path.read_bytes()) if path else None for path in (image, matte)]
    files = AssetFiles(
        kind=kind, image=image, root=image.parent, matte=matte, name=image.name, image_sha256=sums[0] or "",
        matte_sha256=sums[1], size=size,
    )  # fmt: skip
    words = {"kind": kind, "split": "train", "licence": "mine", "weight": 1.0, "colors": "photographed"}
    return Asset(id=image.stem, sha256=sha256_bytes(f"{sums}"), **words), files


@pytest.fixture
def catalogue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Catalogue:
    """Two cut-outs (one with its matte beside it) and two landscapes (one at night, with lamps); a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv(SETTING, "1GB")
    both, night = cutout(101, 240, 200), landscape(1, 192, 256) // 8
    night[40:44, 60:64] = night[90:93, 200:203] = 255
    matte = save(tmp_path / "c1_matte.png", both[..., 3])
    pairs = [
        listed(save(tmp_path / "c0.png", cutout(100, 240, 200)), "foreground", (240, 200)),
        listed(save(tmp_path / "c1.jpg", both[..., :3]), "foreground", (240, 200), matte),
        listed(save(tmp_path / "l0.png", landscape(0, 192, 256)), "background", (192, 256)),
        listed(save(tmp_path / "l1.png", night), "background", (192, 256)),
    ]
    return Catalogue(tuple(asset for asset, _ in pairs), files={asset.id: files for asset, files in pairs})


def pictures(catalogue: Catalogue) -> list[np.ndarray]:
    """All arrays that a new process gets of a catalogue and two embedded pictures, each at two sizes."""
    store, found = AssetStore().of(catalogue), []
    for asset in catalogue.assets:
        for size in (40, 70):
            if asset.kind == "foreground":
                found.append(store.cutout(asset.id, size))
            else:
                found += [store.landscape(asset.id, size), Landscape(store.photo(asset.id, size))]
    found += [store.cutout("procedural/object/00", 60), store.landscape("procedural/hills/00", 60)]
    return [getattr(picture, field.name) for picture in found for field in fields(picture)]


def entries(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "cache/bokehsynth/pictures").rglob("*.picture"))


def same(first: list[np.ndarray], second: list[np.ndarray]) -> bool:
    pairs = zip(first, second, strict=True)
    return all((a is None) == (b is None) and (a is None or a.tobytes() == b.tobytes()) for a, b in pairs)


def forbid_making(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("read_asset", "draw_foreground", "draw_background"):
        monkeypatch.setattr(store_module, name, lambda *_: pytest.fail("made again"))


def test_kept_pictures_are_bit_for_bit_those_that_are_made(catalogue, tmp_path, monkeypatch):
    with monkeypatch.context() as off:
        off.setenv(SETTING, "off")
        made = pictures(catalogue)
        assert entries(tmp_path) == []
    assert any(array is None for array in made)
    assert sum(array is not None for array in made[4:]) > 8
    assert same(made, pictures(catalogue))  # made and kept
    kept = entries(tmp_path)
    assert len(kept) == 14
    forbid_making(monkeypatch)
    assert same(made, pictures(catalogue))  # read
    assert entries(tmp_path) == kept


def test_of_landscapes_as_their_files_hold_them_those_with_lamps_are_kept(catalogue, tmp_path, monkeypatch):
    """Reading what is not reduced takes as long as decoding it, finding lamps ten times as long."""
    for asset_id, count in (("l0", 0), ("l1", 1)):
        made = AssetStore().of(catalogue).landscape(asset_id, 192)
        assert (made.highlights is not None) == bool(count)
        assert len(entries(tmp_path)) == count
    forbid_making(monkeypatch)
    read = AssetStore().of(catalogue).landscape("l1", 192)
    assert same([made.color, made.highlights], [read.color, read.highlights])


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1],
        lambda data: data + b"\0",
        lambda data: b"",
        lambda data: data[:-9] + bytes([data[-9] ^ 1]) + data[-8:],
        lambda data: data.replace(b'"crc32":', b'"crc32":1', 1),
        lambda data: data.replace(b'"shapes":{', b'"shapes":{"more":[-1],', 1).replace(b"[", b"[-", 1),
        lambda data: b"[" * 4000 + b"\n",
        lambda data: data.replace(b'"shorter":', b'"shorter":9', 1).replace(b'"factor":', b'"factor":9', 1),
    ],
    ids=["cut", "longer", "empty", "a bit", "checksum", "shapes", "no record", "another key"],
)
def test_damaged_entries_are_made_again(catalogue, tmp_path, monkeypatch, damage):
    store = AssetStore().of(catalogue)
    backgrounds = [asset.id for asset in catalogue.pool("background", "train")]
    made = [store.landscape(asset, 40) for asset in backgrounds]
    whole = {path: path.read_bytes() for path in entries(tmp_path)}
    assert len(whole) == 2
    for path, data in whole.items():
        path.write_bytes(damage(data))
    again = [AssetStore().of(catalogue).landscape(asset, 40) for asset in backgrounds]
    assert same([picture.color for picture in made], [picture.color for picture in again])
    assert {path: path.read_bytes() for path in entries(tmp_path)} == whole


def test_an_index_that_claims_a_content_keeps_nothing_under_it(catalogue, tmp_path):
    """The index of a folder may be a stranger's: digests in it name the entry only where the file bears them out."""
    first, second = catalogue.pool("background", "train")
    claimed = catalogue.files[second.id]
    files = {first.id: replace(catalogue.files[first.id], image_sha256=claimed.image_sha256)}
    lying = Catalogue((replace(first, sha256=second.sha256),), files=files)
    with pytest.raises(ChangedError):
        AssetStore().of(lying).landscape(first.id, 40)
    assert entries(tmp_path) == []
    lying = Catalogue((replace(first, sha256=second.sha256),), files={first.id: catalogue.files[first.id]})
    poison = AssetStore().of(lying).landscape(first.id, 40).color
    assert not np.array_equal(AssetStore().of(catalogue).landscape(second.id, 40).color, poison)


def test_an_index_without_a_matte_s_digest_keeps_nothing(tmp_path, monkeypatch):
    """Else the cut-out would be kept as that of the picture alone, whose own opacity may be another."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv(SETTING, "1GB")
    both = cutout(101, 240, 200)
    matte = save(tmp_path / "c_matte.png", 255 - both[..., 3])
    asset, files = listed(save(tmp_path / "c.png", both), "foreground", (240, 200), matte)
    lying = Catalogue((asset,), files={asset.id: replace(files, matte_sha256=None)})
    with pytest.raises(ChangedError):
        AssetStore().of(lying).cutout(asset.id, 40)
    assert entries(tmp_path) == []


def test_the_least_recently_used_go_first(tmp_path):
    def picture(value: int) -> Landscape:
        return Landscape(np.full((50, 50, 3), value, np.float32))

    cache = PictureCache(tmp_path, 5 * 31_000 * module._GROUPS)
    keys: list[dict[str, int]] = []
    number = 0
    while len(keys) < 6:  # keys of one group
        path = tmp_path / str(number)
        name = sha256_bytes(canonical_json(
            {"format": module.FORMAT, "made_by": module.made_by(), "kind": "Landscape", "number": number}
        ))  # fmt: skip
        keys += [{"number": number}] if name[0] == "7" else []
        number += 1
    for i, key in enumerate(keys[:5]):
        cache.get(key, Landscape, lambda i=i: picture(i))
        for age, path in enumerate(sorted(tmp_path.rglob("*.picture"), key=os.path.getmtime)[::-1]):
            os.utime(path, (1e9 - age, 1e9 - age))  # the clock of the file system may be coarse
    assert cache.get(keys[0], Landscape, lambda: pytest.fail("gone")).color[0, 0, 0] == 0
    cache.get(keys[5], Landscape, lambda: picture(5))
    again = [cache.get(key, Landscape, lambda: picture(-1)).color[0, 0, 0] for key in (keys[0], keys[5], keys[4])]
    assert again == [0, 5, 4]
    assert cache.get(keys[1], Landscape, lambda: picture(-1)).color[0, 0, 0] == -1
    held = sum(path.stat().st_size for path in tmp_path.rglob("*.picture"))
    assert held <= 5 * 31_000


def test_temporary_files_of_killed_processes_are_removed(tmp_path):
    cache = PictureCache(tmp_path, 1 << 30)
    cache.get({}, Landscape, lambda: Landscape(np.ones((4, 4, 3), np.float32)))
    folder = next(tmp_path.rglob("*.picture")).parent
    old, new = (folder / f".x.picture.tmp-{number}-1" for number in (1, 2))
    old.write_bytes(b"half")
    new.write_bytes(b"half")
    os.utime(old, (1e9, 1e9))
    module._evict(folder, 1 << 30)
    assert (old.exists(), new.exists()) == (False, True)


def test_other_files_in_the_folder_stay_and_stop_nothing(tmp_path):
    """A folder among the entries, files of another name, and the mark of temporary files in the cache's own path."""
    cache = PictureCache(tmp_path / "job.tmp-42", 1 << 30)
    cache.get({}, Landscape, lambda: Landscape(np.ones((4, 4, 3), np.float32)))
    entry = next((tmp_path / "job.tmp-42").rglob("*.picture"))
    folder, foreign = entry.parent / "a.picture", entry.parent / "mine.txt"
    folder.mkdir()
    foreign.write_text("not of the cache")
    for path in (folder, foreign):
        os.utime(path, (1e9, 1e9))
    module._evict(entry.parent, 1 << 30)
    assert (folder.exists(), foreign.exists(), entry.exists()) == (True, True, True)
    module._evict(entry.parent, 0)
    assert (folder.exists(), foreign.exists(), entry.exists()) == (True, True, False)


def test_nothing_is_kept_where_nothing_can_be_written_or_room_is_short(tmp_path, monkeypatch):
    light = Landscape(np.ones((64, 64, 3), np.float32))
    (tmp_path / "file").write_text("no folder")
    assert PictureCache(tmp_path / "file", 1 << 30).get({}, Landscape, lambda: light) is light
    assert PictureCache(tmp_path / "small", 10_000).get({}, Landscape, lambda: light) is light
    full, half_full = (SimpleNamespace(total=1000 << 30, free=free << 30) for free in (50, 500))
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: full)
    assert PictureCache(tmp_path / "full", 1 << 30).get({}, Landscape, lambda: light) is light
    assert not list(tmp_path.rglob("*.picture*"))
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: half_full)
    cache = PictureCache(tmp_path / "kept", 1 << 30)
    cache.get({}, Landscape, lambda: light)
    assert list((tmp_path / "kept").rglob("*.picture"))
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: full)
    key = next({"number": i} for i in range(1000) if _group(tmp_path / "kept", {"number": i}))
    assert cache.get(key, Landscape, lambda: light) is light
    assert not list((tmp_path / "kept").rglob("*.picture*"))  # what was kept gives way to data sets


def test_room_is_none_where_nothing_would_be_kept(tmp_path, monkeypatch):
    """An estimate asks for it, and must neither fail nor promise a cache where `get` keeps nothing."""
    usage = module.shutil._ntuple_diskusage
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: usage(1000 << 30, 500 << 30, 500 << 30))
    assert PictureCache(tmp_path / "none" / "yet", 1 << 50).room() == 100 << 30
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: usage(1000 << 30, 950 << 30, 50 << 30))
    assert PictureCache(tmp_path, 1 << 30).room() == 0

    def closed(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(module.shutil, "disk_usage", closed)
    assert PictureCache(tmp_path, 1 << 30).room() == 0
    monkeypatch.setattr(Path, "exists", closed)
    assert PictureCache(tmp_path, 1 << 30).room() == 0


def _group(folder: Path, key: dict[str, int]) -> bool:
    """Whether a key's entry would lie where one lies already."""
    whole = {"format": module.FORMAT, "made_by": module.made_by(), "kind": "Landscape", **key}
    return (folder / sha256_bytes(canonical_json(whole))[0]).exists()


@pytest.mark.parametrize(
    ("text", "size"), [("", 7), ("off", 0), ("0", 0), ("1500", 1500), ("500MB", 500_000_000), ("1.5 gb", 1_500_000_000)]
)
def test_the_setting(monkeypatch, text, size):
    monkeypatch.setenv(SETTING, text)
    assert size_setting(SETTING, 7) == size


@pytest.mark.parametrize("text", ["yes", "-1GB", "5 apples", "1e9", "nan", "9" * 40])
def test_a_wrong_setting_is_an_error_of_usage(monkeypatch, text):
    monkeypatch.setenv(SETTING, text)
    with pytest.raises(UsageError, match=f"{SETTING} is '.*': must be `off`, or bytes such as 500MB or 20GB"):
        size_setting(SETTING, 7)


def test_the_command_line_bounds_it_for_all_its_processes(monkeypatch):
    monkeypatch.setenv(SETTING, "1GB")
    cli.main(["--picture-cache", "2GB", "recipes"], standalone_mode=False)
    assert os.environ[SETTING] == "2GB"
    with pytest.raises(UsageError, match="bytes such as"):
        cli.main(["--picture-cache", "much", "recipes"], standalone_mode=False)
    monkeypatch.setenv(SETTING, "many")
    with pytest.raises(UsageError, match=f"{SETTING} is 'many'"):
        cli.main(["recipes"], standalone_mode=False)

"""extend, replay and finalize after photographs were added, removed or moved: what differs is named, with a way out."""

import json
import shutil
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from support.photo_folders import cutout, photo, save
from support.promised import promised_files

import bokehsynth as bs
from bokehsynth.assets.catalogue import Asset, AssetFiles, Catalogue
from bokehsynth.errors import ChangedError, UsageError
from bokehsynth.files import pretty_json
from bokehsynth.generation import provenance
from bokehsynth.generation.asset_changes import asset_changes
from bokehsynth.generation.extend import extend
from bokehsynth.generation.generate import GenerateOptions, finalize
from bokehsynth.generation.kernels import compile_kernels
from bokehsynth.generation.provenance import PIXELS, describe_machine, pixel_facts
from bokehsynth.generation.replay import replay_sample
from bokehsynth.rendering.cpu import renderer
from bokehsynth.rendering.tile_constants import COARSE_FROM
from bokehsynth.scene.lens_spec import LensSpec
from bokehsynth.shards import Layout

RECIPE = """\
name: photos
seed: 3
samples: {train: 2, val: 0}
size: 32
assets:
  root: pictures
  foregrounds: [{path: cutouts, licence: mine, colors: photographed}]
  backgrounds: landscapes
  min_side: 8
  sharpness_floor: 0
scene: {foregrounds: 1, blur: {kind: uniform, low: 0, high: 2}}
degradation: none
shards: {samples: 2, fields: [hq, defocus]}
"""
ONE = GenerateOptions(workers=1)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with pictures, recipe and set."""
    root = tmp_path_factory.mktemp("photos")
    for i in range(2):
        save(root / f"pictures/cutouts/c{i}.png", cutout(i, 60, 50))
        save(root / f"pictures/landscapes/l{i}.png", photo(10 + i, 90, 120))
    (root / "photos.yaml").write_text(RECIPE)
    bs.generate(root / "photos.yaml", root / "set", workers=1)
    return root


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    """The same, with the set beside its pictures in a place of its own: they have been moved."""
    shutil.copytree(made, tmp_path / "copy")
    return tmp_path / "copy"


def here(copy: Path) -> list[str]:
    return [f"assets.root={copy / 'pictures'}"]


@pytest.mark.parametrize("command", ["extend", "finalize", "generate"])
def test_pictures_that_are_new_or_missing_are_named(command: str, copy: Path) -> None:
    (copy / "pictures/landscapes/l0.png").unlink()
    save(copy / "pictures/landscapes/fresh.png", photo(77, 90, 120))
    before = promised_files(copy / "set")
    calls = {
        "extend": lambda: extend(copy / "set", 4, ONE, overrides=here(copy)),
        "finalize": lambda: finalize(copy / "set", overrides=here(copy)),
        "generate": lambda: bs.generate(copy / "photos.yaml", copy / "set", workers=1),
    }
    with pytest.raises(ChangedError) as refused:
        calls[command]()
    words = str(refused.value)
    assert "1 new (fresh.png); 1 missing (l0.png)" in words
    assert "put back what is missing and take away what is new" in words
    assert "is not finished" not in words
    assert promised_files(copy / "set") == before


def test_pictures_of_another_licence_are_told_from_others(copy: Path) -> None:
    recipe = copy / "set/recipe.yaml"
    recipe.write_text(recipe.read_text().replace("licence: mine", "licence: theirs"))
    with pytest.raises(ChangedError, match=r"licence \(of c.\.png, 'mine' -> 'theirs', and of 1 more\)"):
        extend(copy / "set", 4, ONE, overrides=here(copy))


def test_what_of_a_picture_is_recorded_otherwise_is_named(tmp_path: Path) -> None:
    asset = Asset(
        id="a", kind="pair", split="train", sha256="0", licence="mine", weight=1, f_number=2.0, title="t" * 99
    )  # fmt: skip
    other = replace(asset, id="b", title="")
    layout = Layout(tmp_path)

    def told(*now: Asset) -> str:
        return asset_changes(layout, Catalogue(now))

    layout.assets.write_text(Catalogue((asset, other)).lines())
    assert told(replace(asset, f_number=2.8), other) == "recorded otherwise: f_number (of a, 2.0 -> 2.8)"
    assert told(asset, replace(other, title="x")) == "recorded otherwise: title (of b, None -> 'x')"
    assert len(told(replace(asset, title="s" * 99), replace(other, split="val"))) < 160
    assert told(other, asset) == "their order, that of their names"
    assert told(asset, other) == "assets.jsonl lists those of now, and was changed"


@pytest.fixture
def elsewhere(copy: Path, made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The place where the pictures were is gone."""
    recipe = copy / "set/recipe.yaml"
    recipe.write_text(recipe.read_text().replace(str(made), str(copy / "gone")))
    monkeypatch.chdir(copy)
    return copy


def test_pictures_that_were_moved_are_found_again(elsewhere: Path) -> None:
    out = elsewhere / "set"
    for call in (lambda: extend(out, 4, ONE), lambda: replay_sample(out, "train-000000001"), lambda: finalize(out)):
        with pytest.raises(ChangedError, match=r"say where they are now: --set assets\.root=FOLDER"):
            call()
    assert replay_sample(out, "train-000000001", overrides=["assets.root=pictures"])[2] == {}
    old = promised_files(out)
    assert finalize(out, overrides=["assets.root=pictures"]).complete
    assert extend(out, 4, ONE, overrides=["assets.root=pictures"]).complete
    new = promised_files(out)
    assert {name: new[name] for name in old if "train-000000" in name} == {
        name: digest for name, digest in old.items() if "train-000000" in name
    }
    assert replay_sample(out, "train-000000003")[2] == {}, "the set now knows the place"


def test_one_source_can_be_moved(elsewhere: Path) -> None:
    shutil.move(elsewhere / "pictures/landscapes", elsewhere / "views")
    places = ["assets.root=pictures", "assets.backgrounds.0.path=views"]
    assert replay_sample(elsewhere / "set", "train-000000000", overrides=places)[2] == {}


def test_without_a_root_each_source_is_named(elsewhere: Path) -> None:
    recipe = elsewhere / "set/recipe.yaml"
    lines = recipe.read_text().splitlines(keepends=True)
    recipe.write_text("".join("  root: null\n" if line.startswith("  root:") else line for line in lines))
    with pytest.raises(ChangedError, match=r"--set assets.foregrounds.0.path=FOLDER"):
        extend(elsewhere / "set", 4, ONE)
    with pytest.raises(UsageError, match=r"assets.backgrounds.0.path \(was .*gone"):
        extend(elsewhere / "set", 4, ONE, overrides=["assets.root=pictures"])
    places = ["assets.foregrounds.0.path=pictures/cutouts", "assets.backgrounds.0.path=pictures/landscapes"]
    assert extend(elsewhere / "set", 4, ONE, overrides=places).complete


@pytest.mark.parametrize(
    "override", ["seed=4", "samples.train=9", "assets.min_side=9", "assets.backgrounds.0.weight=2"]
)
def test_anything_else_is_another_data_set(override: str, copy: Path) -> None:
    for call in (lambda: extend(copy / "set", 4, ONE, overrides=[override]),
                 lambda: replay_sample(copy / "set", "train-000000000", overrides=[override])):  # fmt: skip
        with pytest.raises(UsageError, match="can only say where its pictures are now"):
            call()


def test_code_of_a_class_that_has_changed_is_no_unfinished_set(copy: Path) -> None:
    markers = sorted((copy / "set").glob(".bokehsynth/*/*.done.json"))
    for path in [*markers, copy / "set/.bokehsynth/identity.json"]:
        text = path.read_text()
        start = text.index('"lens_digest": "') + len('"lens_digest": "')
        path.write_text(text[:start] + "0" * 64 + text[start + 64 :])
    with pytest.raises(ChangedError, match="other code of a class that the recipe names"):
        extend(copy / "set", 4, ONE, overrides=here(copy))


def test_the_library_that_estimates_colours_is_part_of_the_record(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A set of 0.4.0 has no such key, and is gone on with."""
    record, real = copy / "set/.bokehsynth/machine.json", metadata.version
    (machine,) = json.loads(record.read_text())
    assert machine["pymatting"] == real("pymatting")
    assert "openexr" not in machine, "no picture needs it"
    assert bs.generate(copy / "photos.yaml", copy / "set", workers=1).made == 0
    monkeypatch.setattr(metadata, "version", lambda name: "9.9.9" if name == "pymatting" else real(name))
    with pytest.raises(ChangedError, match=r'pymatting: ".*" -> "9\.9\.9"'):
        bs.generate(copy / "photos.yaml", copy / "set", workers=1)
    del machine["pymatting"]
    record.write_text(pretty_json([machine]))
    assert bs.generate(copy / "photos.yaml", copy / "set", workers=1).made == 0


def test_what_reads_exr_is_recorded_where_there_is_one() -> None:
    def catalogue(name: str) -> Catalogue:
        asset = Asset(id="a", kind="background", split="train", sha256="", licence="", weight=1)
        files = AssetFiles(kind="background", image=Path(name), root=Path(), name=name, image_sha256="", size=(1, 1))
        return Catalogue((asset,), files={"a": files})

    recipe = bs.load_recipe("quickstart")
    recipe.catalogue = catalogue("a.EXR")
    assert describe_machine("cpu", recipe)["openexr"] == metadata.version("openexr")
    recipe.catalogue = catalogue("a.png")
    assert describe_machine("cpu", recipe) == describe_machine("cpu")


def test_other_versions_go_on_with_a_set_unless_its_pixels_are_others() -> None:
    """0.4.0 recorded no revision of its pixels; those of lenses with a pupil are others since."""
    disc, pupil = (
        describe_machine("cpu", bs.load_recipe("quickstart", [f"lens.aperture={aperture}"]))
        for aperture in ("disc", "{kind: cat_eye, strength: 0.5}")
    )
    begun = {**disc, "bokehsynth": "0.4.0"}
    assert "pixels" not in disc
    assert pixel_facts(begun, disc) == pixel_facts(disc | {"bokehsynth": "0.5.1"}, begun)
    assert pixel_facts(begun, pupil) != pixel_facts(pupil, begun)
    assert pixel_facts(pupil, disc) != pixel_facts(begun | {"bokehsynth": "0.3.0"}, disc)
    assert pixel_facts({**disc, "bokehsynth": "0.3.2"}, disc) != pixel_facts(disc, begun)
    assert pixel_facts({**disc, "bokehsynth": "0.10.0"}, disc) == pixel_facts(disc, begun)


def test_recipes_with_large_blur_are_at_a_revision_of_their_own() -> None:
    """0.4.0 filtered all texels whatever the blur; only the CPU changed, beyond COARSE_FROM px."""
    near, far = (bs.load_recipe("quickstart", ["size=512", f"scene.blur={COARSE_FROM + more}"]) for more in (0, 1))
    assert "pixels" not in describe_machine("cpu", near)
    assert describe_machine("cpu", far)["pixels"] == PIXELS
    source = bs.load_recipe("quickstart", ["size=512", "source={blur: 100}"])
    assert describe_machine("cpu", source)["pixels"] == PIXELS
    larger = bs.load_recipe("quickstart", ["size=1024"])  # its blur of 32 px at 512 grows with it
    assert describe_machine("cpu", larger)["pixels"] == PIXELS


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize(
    ("size", "scene", "changed"),
    [
        (512, "search=[0.5, 48.0]", False),
        (512, "search=[0.5, 90.0]", False),  # 45 px where it is searched
        (512, "search=[0.5, 100.0]", True),
        (512, "fixed_blur=100", True),
        (2048, "search=[0.5, 90.0]", False),
        (512, "blur=4000", False),  # a height field, which is not reduced
    ],
)
def test_pairs_are_at_that_revision_where_their_search_goes_so_far(
    device: str, size: int, scene: str, changed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The search renders planes at 256 px of the shorter side, on the CPU whatever the device."""
    monkeypatch.setattr(provenance, "describe_device", lambda name: {})
    keys = [f"size={size}", "scene={kind: pair}", f"scene.{scene}"]
    recipe = bs.load_recipe("quickstart", keys)
    recipe.catalogue = Catalogue((), files={})
    assert ("pixels" in describe_machine(device, recipe)) == changed


def test_kernels_of_large_blur_are_compiled_for_recipes_that_need_them(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    monkeypatch.setattr(renderer, "warm_up_coarse", lambda: calls.append("coarse"))
    for blur, expected in (("32", []), ("100", ["coarse"])):
        compile_kernels(bs.load_recipe("quickstart", ["size=512", f"scene.blur={blur}"]), "cpu")
        assert calls == expected


class Wide(bs.Disc):
    """Opens beyond the unit disc, and the same all over the picture."""

    extent = 1.5


@pytest.mark.parametrize(
    "keys",
    [{"prescription": "tessar-1903-f5.5", "near_m": 1}, {"aperture": f"{__name__}:Wide"}],
    ids=["traced", "wide"],
)
def test_traced_and_wide_lenses_are_at_the_revision_of_openings_that_change(keys: dict[str, Any]) -> None:
    """A traced lens is no aperture of the recipe, and a wide one depends on no field: their pixels changed too."""
    recipe = bs.load_recipe("quickstart").model_copy(update={"lens": LensSpec.model_validate(keys)})
    assert describe_machine("cpu", recipe)["pixels"] == PIXELS

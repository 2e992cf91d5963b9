"""Pictures of openings in recipes: the data set keeps their content, and knows another one."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

import bokehsynth as bs
from bokehsynth.config.strict_yaml import load_yaml
from bokehsynth.errors import ChangedError, RecipeError, UsageError
from bokehsynth.generation.generate import finalize
from bokehsynth.generation.replay import replay_sample
from bokehsynth.generation.verify import verify
from bokehsynth.recipe import Recipe

RECIPE = """\
name: hearts
samples: {train: 2}
size: 32
scene: {foregrounds: 1, blur: 12}
lens: {aperture: LENS}
degradation: none
shards: {samples: 2, fields: [hq, aif]}
"""


def triangle(path: Path, upper: bool) -> None:
    mask = np.tri(24, dtype=np.uint8) * 255
    cv2.imwrite(str(path), mask.T if upper else mask)


def write(folder: Path, lens: str = "{kind: image, file: mask.png}") -> Path:
    path = folder / "recipe.yaml"
    path.write_text(RECIPE.replace("LENS", lens))
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lens-files")
    triangle(folder / "mask.png", upper=False)
    bs.generate(write(folder), folder / "set", workers=1, device="cpu")
    return folder


def test_the_set_needs_the_file_no_more(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "set", tmp_path / "set")
    sample = bs.open_dataset(tmp_path / "set")[0]
    assert sample.meta["aperture"] == "image:mask.png"
    assert str(made) not in (tmp_path / "set" / "recipe.yaml").read_text()
    assert verify(tmp_path / "set").ok
    _, _, differing = replay_sample(tmp_path / "set", sample.key, "cpu")
    assert differing == {}
    assert finalize(tmp_path / "set").complete


def test_the_same_line_does_nothing_and_another_picture_is_refused(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made, tmp_path / "all")
    folder = tmp_path / "all"
    assert bs.generate(write(folder), folder / "set", workers=1, device="cpu").made == 0
    triangle(folder / "mask.png", upper=True)
    with pytest.raises(ChangedError, match=r"lens\.aperture\.data: \"sha256:\w{64}\" -> \"sha256:\w{64}\"") as raised:
        bs.generate(write(folder), folder / "set", workers=1, device="cpu")
    assert len(str(raised.value)) < 1000


def test_an_edited_picture_is_found(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "set", tmp_path / "set")
    triangle(tmp_path / "mask.png", upper=True)
    path = tmp_path / "set" / "recipe.yaml"
    old, new = (bs.load_recipe(p).lens.aperture.data for p in (path, write(tmp_path)))
    recipe = load_yaml(path, Recipe)
    spec = recipe.lens.aperture.model_copy(update={"data": new})
    assert old != new
    path.write_text(recipe.model_copy(update={"lens": recipe.lens.model_copy(update={"aperture": spec})}).text())
    words = " ".join(fault.message for fault in verify(tmp_path / "set").faults)
    assert "recipe_digest differs" in words
    assert "lens_digest differs" in words


def test_a_set_of_strangers_opens_no_file(made: Path, tmp_path: Path) -> None:
    """A recipe in a set whose data were taken out names a file; verify does not look for it."""
    shutil.copytree(made / "set", tmp_path / "set")
    path = tmp_path / "set" / "recipe.yaml"
    recipe = load_yaml(path, Recipe)
    spec = recipe.lens.aperture.model_copy(update={"data": None, "file": "/etc/hostname"})
    path.write_text(recipe.model_copy(update={"lens": recipe.lens.model_copy(update={"aperture": spec})}).text())
    faults = verify(tmp_path / "set").faults
    assert any("has no data: its file was not read" in fault.message for fault in faults)


@pytest.mark.parametrize(
    ("lens", "words"),
    [
        ("{kind: image, file: none.png}", r"lens: a picture of an opening: .*none\.png: No such file"),
        ("'image:none.png'", r"none\.png: No such file"),
        ("{kind: image}", r"lens\.aperture\.file: this key is required"),
        ("{kind: image, file: recipe.yaml}", r"recipe\.yaml"),
        ("{kind: image, file: mask.png, data: '###'}", "data is no base64"),
        ("{kind: image, file: mask.png, data: 'aGVsbG8='}", r"image:mask\.png: .*"),
        ("{kind: imago, file: x}", "did you mean 'image'"),
        ("{kind: onion, rings: 100}", r"lens\.aperture\.rings"),
    ],
)
def test_wrong_pictures_are_faults_of_the_recipe(tmp_path: Path, lens: str, words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        bs.load_recipe(write(tmp_path, lens))


def test_the_folder_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside the recipe, or in the working directory where --set names it; also in lists and as a short text."""
    (tmp_path / "a").mkdir()
    triangle(tmp_path / "a" / "mask.png", upper=False)
    triangle(tmp_path / "mask.png", upper=True)
    monkeypatch.chdir(tmp_path)
    beside = bs.load_recipe(write(tmp_path / "a", "[disc, 'image:mask.png']"))
    here = bs.load_recipe(write(tmp_path / "a"), ["lens.aperture=image:mask.png"])
    assert beside.lens.names == ("disc", "image:mask.png")
    assert beside.lens.aperture[1].data != here.lens.aperture.data
    assert here.lens.apertures[0] == bs.ImageAperture(tmp_path / "mask.png")


def test_a_schema_that_0_4_0_wrote_is_whole_and_stays(made: Path, tmp_path: Path) -> None:
    """A set of a recipe that 0.4.0 knew is verified and gone on with under the schema that it wrote."""
    folder = tmp_path / "set"
    bs.generate(write(tmp_path, "ring:0.5"), folder, workers=1, device="cpu")
    assert verify(folder).ok
    earlier = (Path(__file__).parents[1] / "fixtures" / "schema_0.4.0.json").read_bytes()
    new = (folder / "schema.json").read_bytes()
    assert new != earlier
    (folder / "schema.json").write_bytes(earlier)
    assert verify(folder).ok
    assert finalize(folder).complete
    assert (folder / "schema.json").read_bytes() == earlier
    (folder / "schema.json").write_bytes(earlier.replace(b"Radians", b"Degrees"))
    assert [fault.message for fault in verify(folder).faults] == [f"{folder / 'schema.json'}: missing or altered"]
    assert finalize(folder).complete
    assert (folder / "schema.json").read_bytes() == new


def test_a_lens_too_rough_for_the_tables_ends_a_run_before_it_writes(tmp_path: Path) -> None:
    path = write(tmp_path, "support.apertures:Jagged")
    with pytest.raises(UsageError, match=r"Jagged\.aberration changes too fast for the tables of cpu: off by"):
        bs.generate(path, tmp_path / "set", workers=1, device="cpu")
    assert not [file for file in (tmp_path / "set").rglob("*") if file.is_file() and file.suffix != ".lock"]

"""Recipes: read strictly, explained well, and the identity of a data set."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import bokehsynth as bs
from bokehsynth.config.strict_yaml import dump_yaml
from bokehsynth.errors import RecipeError, UsageError
from bokehsynth.recipe import Recipe, SamplesSpec, find_recipe, load_recipe, packaged_recipes

REPOSITORY = Path(__file__).parents[2]
MINIMAL = "name: tiny\nsamples: {train: 8, val: 2}\n"


@pytest.fixture
def write(tmp_path):
    """Write a recipe and return its path."""

    def write(text: str, name: str = "r.yaml") -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture
def faults(write):
    """The lines of the RecipeError that a recipe text deserves, without the file's folder."""

    def faults(text: str, *overrides: str) -> list[str]:
        path = write(text)
        with pytest.raises(RecipeError) as caught:
            load_recipe(path, overrides)
        return str(caught.value).replace(str(path.parent) + "/", "").splitlines()

    return faults


def one(lines: list[str]) -> str:
    assert len(lines) == 1, lines
    return lines[0]


# --- packaged recipes


def test_packaged_recipes_are_the_files_of_the_repository():
    packaged = {path.resolve() for path in packaged_recipes().values()}
    assert packaged == {path.resolve() for path in (REPOSITORY / "recipes" / "data").glob("*.yaml")}
    assert "quickstart" in packaged_recipes()


@pytest.mark.parametrize("name", sorted(packaged_recipes()))
def test_every_packaged_recipe_loads_by_name_and_by_path(name, tmp_path):
    photos = [f"assets.root={tmp_path}"]
    by_name, by_path = load_recipe(name, photos), load_recipe(REPOSITORY / "recipes" / "data" / f"{name}.yaml", photos)
    assert by_name.name == name
    assert by_name.digest == by_path.digest


def test_quickstart_is_what_the_design_says():
    recipe = load_recipe("quickstart")
    assert (recipe.samples.train, recipe.samples.val, recipe.size) == (58, 6, 256)
    assert recipe.shards.codec == "png"
    assert recipe.shards.fields == ["lq", "hq", "aif", "defocus", "disparity"]


def test_found_from_anywhere(fresh_python):
    assert fresh_python("import bokehsynth as bs; print(bs.load_recipe('quickstart').name)") == "quickstart"


# --- round trip and digest


@pytest.mark.parametrize("name", sorted(packaged_recipes()))
def test_text_round_trip(name, write, tmp_path):
    recipe = load_recipe(name, [f"assets.root={tmp_path}"])
    again = load_recipe(write(recipe.text()))
    assert again.digest == recipe.digest
    assert again.model_dump() == recipe.model_dump()
    assert again.text() == recipe.text()


RICH = """
name: rich
seed: 9223372036854775807
samples: {train: 3, val: 1}
size: [48, 64]
assets:
  foregrounds: [{path: procedural, weight: 2.5, licence: CC0, limit: 30}]
  val_fraction: 1e-1
scene:
  foregrounds: {kind: choice, values: [0, 1, 2], weights: [1, 0, 3]}
  disparity: {background: {kind: normal, mean: 0.1, sigma: 0.05, low: 0, high: 0.2}, nearest: 0.9, gap: 0}
  blur: {kind: sometimes, probability: 0.5, value: {kind: loguniform, low: 1e-4, high: 8}, otherwise: 0}
  unit: px
  focus: {kind: uniform, low: 0, high: 1}
lens: {aperture: {kind: polygon, blades: 6, rotation: 0.1, curvature: 0.5}}
degradation: [{kind: noise, gaussian: 1.0, sigma: [5, 30]}, {kind: final, scale: 2}]
shards: {samples: 2, codec: webp, fields: [hq, lq]}
"""


def test_text_round_trip_of_everything_a_recipe_can_say(write):
    recipe = load_recipe(write(RICH))
    again = load_recipe(write(recipe.text(), "again.yaml"))
    assert again.model_dump() == recipe.model_dump()
    assert again.digest == recipe.digest


def test_text_names_its_schema_and_every_key(write):
    text = load_recipe(write(MINIMAL)).text()
    assert text.startswith("# yaml-language-server: $schema=schema.json\n")
    for key in Recipe.model_fields.keys() - {"views", "source"}:  # only where a recipe has them
        assert re.search(rf"^{key}:", text, re.MULTILINE), key


def test_digest_ignores_samples(write):
    path = write(MINIMAL)
    digest = load_recipe(path).digest
    assert re.fullmatch("[0-9a-f]{64}", digest)
    assert load_recipe(path, ["samples.train=999"]).digest == digest
    assert load_recipe(path, total=1).digest == digest


@pytest.mark.parametrize(
    "override",
    [
        "name=other",
        "seed=1",
        "size=64",
        "size=[512, 512]",
        "assets.val_fraction=0.2",
        "assets.foregrounds=[{path: procedural, weight: 2}]",
        "assets.foregrounds=[{path: procedural, licence: CC0}]",
        "scene.blur=3",
        "scene.gap=",
        "scene.disparity.gap=0.01",
        "scene.unit=px",
        "scene.focus=background",
        "scene.light_match=0.25",
        "lens.aperture={kind: ring, inner: 0.5}",
        "degradation=none",
        "shards.samples=8",
        "shards.codec=webp",
        "shards.fields=[hq]",
    ],
)
def test_digest_changes_with_everything_else(write, override):
    path = write(MINIMAL)
    if override == "scene.gap=":  # not a key: the list above would be worthless if overrides were ignored
        with pytest.raises(RecipeError):
            load_recipe(path, [override])
        return
    assert load_recipe(path, [override]).digest != load_recipe(path).digest


def test_digest_does_not_depend_on_how_the_file_is_written(write):
    left = "name: a\nsamples: {train: 1}\nscene: {blur: 16.0, flip: 0.25}\n"
    right = "# words\nsamples:\n  train: 1\n  val: 0\nscene:\n  flip: 2.5e-1\n  blur: {kind: constant, value: 16}\n"
    right += "name: a\n"
    assert load_recipe(write(left)).digest == load_recipe(write(right)).digest


@pytest.mark.parametrize(
    ("key", "value", "attribute"),
    [
        ("seed", 1, "digest"),
        ("degradation", "none", "resolved_degradation"),
        ("size", 64, "digest"),
    ],
)
def test_a_changed_copy_is_another_recipe(write, key, value, attribute):
    """pydantic's way to change a frozen model must not carry along what was computed for the old one."""
    recipe = load_recipe(write(MINIMAL))
    before = getattr(recipe, attribute)
    assert getattr(recipe.model_copy(update={key: value}), attribute) != before


def test_recipes_are_frozen(write):
    with pytest.raises(ValueError, match="frozen"):
        load_recipe(write(MINIMAL)).seed = 3


# --- faults


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("sizes: 64", "r.yaml:3: sizes", "did you mean 'size'"),
        ("scene:\n  blurr: 3", "r.yaml:4: scene.blurr", "did you mean 'blur'"),
        ("scene: {disparity: {gpa: 0.1}}", "r.yaml:3: scene.disparity.gpa", "did you mean 'gap'"),
        ("shards: {sample: 3}", "r.yaml:3: shards.sample", "did you mean 'samples'"),
        ("assets:\n  foregrounds:\n  - {pth: procedural}", "r.yaml:5: assets.foregrounds.0.pth", "'path'"),
        ("scene:\n  blur:\n    kind: uniform\n    low: 0\n    hihg: 3\n", "r.yaml:7: scene.blur.hihg", "'high'"),
        ("lens: {aperture: {kind: polygon, blade: 6}}", "r.yaml:3: lens.aperture.blade:", "'blades'"),
        ("xyzzy: 1", "r.yaml:3: xyzzy", "known here: "),
        ("seed: '5'", "r.yaml:3: seed", "'5'"),
        ("seed: 1.5", "r.yaml:3: seed", "1.5"),
        ("seed: true", "r.yaml:3: seed", "True"),
        ("seed: -1", "r.yaml:3: seed", "greater than or equal to 0"),
        ("size: 512px", "r.yaml:3: size", "512px"),
        ("size: [64, 64, 3]", "r.yaml:3: size", "at most 2"),
        ("size: 8", "r.yaml:3: size", "16"),
        ("scene:\n  flip: 1.5", "r.yaml:4: scene.flip", "less than or equal to 1"),
        ("scene:\n  flip: half", "r.yaml:4: scene.flip", "half"),
        ("scene:\n  blur: wide", "r.yaml:4: scene.blur", "wide"),
        ("scene:\n  blur: {kind: gauss}", "r.yaml:4: scene.blur", "uniform"),
        ("scene:\n  unit: inch", "r.yaml:4: scene.unit", "px_at_512"),
        ("scene: [1, 2]", "r.yaml:3: scene", "SceneSpec"),
        ("lens: {aperture: {kind: heart}}", "r.yaml:3: lens.aperture", "polygon"),
        ("lens: {aperture: {kind: polygon, blades: 2}}", "r.yaml:3: lens.aperture.blades", "3"),
        ("shards: {codec: jpeg}", "r.yaml:3: shards.codec", "webp"),
        ("shards: {fields: [hq, hz]}", "r.yaml:3: shards", "hz"),
        ("shards: {samples: '3'}", "r.yaml:3: shards", "whole number"),
        ("shards: {samples: 0}", "r.yaml:3: shards", "at least 1"),
    ],
)
def test_fault_has_line_path_and_reason(faults, text, place, words):
    lines = faults(MINIMAL + text)
    line = next((line for line in lines if line.startswith(place)), None)
    assert line is not None, lines
    assert words in line


def test_missing_keys(faults):
    lines = faults("seed: 1\n")
    assert any("name: this key is required" in line for line in lines)
    assert any("samples: this key is required" in line for line in lines)
    assert any("samples.train: this key is required" in line for line in faults("name: a\nsamples: {val: 2}\n"))
    assert "0" in one(faults("name: a\nsamples: {train: 0}\n"))


@pytest.mark.parametrize("name", ["My Set", "", "-a", "a/b", "ä", "x" * 64])
def test_names_that_are_no_folder_names(faults, name):
    assert "r.yaml:1: name:" in one(faults(f"name: {json.dumps(name)}\nsamples: {{train: 1}}\n"))


def test_all_faults_in_one_go(faults):
    lines = faults(
        "name: 7\nsamples: {train: many, val: 1}\nsizee: 3\nscene:\n  flip: 2\n  blurr: 1\n"
        "assets: {val_fraction: 1.5}\nlens: {aperture: nowhere.at.all:Lens}\n"
    )
    text = "\n".join(lines)
    for place in (
        "r.yaml:1: name",
        "r.yaml:2: samples.train",
        "r.yaml:3: sizee",
        "r.yaml:5: scene.flip",
        "r.yaml:6: scene.blurr",
        "r.yaml:7: assets.val_fraction",
        "r.yaml:8: lens",
    ):
        assert place in text, place
    assert len(lines) == 7


def test_all_ranges_out_of_bounds_in_one_go(faults):
    """Ranges of distributions are faults like others: all of them, each with its own key and line."""
    text = "\n".join(faults(MINIMAL + "scene:\n  blur: -5\n  scale: 9\n  disparity: {background: 2}\n"))
    assert "background: must stay within 0..1" in text
    assert "scale: must stay within 0.05..4" in text
    assert "blur: must stay within 0..4096" in text


def test_fault_of_a_range_has_its_own_line(faults):
    line = one(faults(MINIMAL + "scene:\n  flip: 0.5\n  blur: {kind: uniform, low: -5, high: 3}\n"))
    assert line.startswith("r.yaml:5: scene.blur")


def test_one_fault_per_key_for_unions(faults):
    line = one(faults(MINIMAL + "size: wide\n"))
    assert line.startswith("r.yaml:3: size: ")


@pytest.mark.parametrize(
    ("scene", "words"),
    [
        ("{foregrounds: 7}", "0..6"),
        ("{foregrounds: 6, disparity: {background: 0.5, gap: 0.1}}", "do not fit"),
        ("{foregrounds: 1, disparity: {background: 0.5, nearest: 0.4}}", "do not fit"),
        ("{foregrounds: 0, focus: foreground}", "at least one foreground"),
        ("{focus: 1.5}", "must stay within 0..1; this can draw 1.5..1.5"),
        ("{focus: nearest}", "layer"),
        ("{background_tilt: 1.5}", "background_tilt: must stay within 0..1"),
        ("{highlight_boost: 0.5}", "highlight_boost: must stay within 1..100"),
        ("{blur: {kind: uniform, low: 4, high: 2}}", "low must not exceed high"),
        ("{disparity: {background: {kind: uniform, low: 0, high: 1.2}}}", "background: must stay within 0..1"),
    ],
)
def test_impossible_scenes_are_refused(faults, scene, words):
    assert words in "\n".join(faults(MINIMAL + f"scene: {scene}\n"))


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ("realesrgan", "real-esrgan"),
        ("[{kind: blurr}]", "blur"),
        ("[{kind: noise, sigam: [1, 2]}]", "sigma"),
        ("[{kind: noise, sigma: [5, 1]}]", "low <= high"),
        ("[{kind: jpeg, quality: 60}]", "quality"),
        ("[nowhere.at.all:Step]", "nowhere"),
        ("nowhere.at.all:Step", "nowhere"),
        ("7", "degradation"),
    ],
)
def test_degradation_faults(faults, steps, words):
    lines = faults(MINIMAL + f"degradation: {steps}\n")
    assert lines[0].startswith("r.yaml:3: degradation")
    assert words in "\n".join(lines)


def test_degradation_step_has_its_own_line(faults):
    text = "degradation:\n- {kind: final, scale: 2}\n- kind: jpeg\n  quality: [0, 200]\n"
    text = "\n".join(faults(MINIMAL + text))
    assert "degradation.1" in text
    assert re.search(r"r\.yaml:[56]: ", text), text


@pytest.mark.parametrize(
    ("aperture", "words"),
    [
        ("hexagon", "package.module:Class"),
        ("nowhere.at.all:Lens", "nowhere"),
        ("bokehsynth.optics:Heart", "Heart"),
        ("bokehsynth.optics:Polygon", "cannot be loaded"),  # needs an argument
        ("bokehsynth.optics:Plane", "not a subclass of bokehsynth.Aperture"),
        ("builtins:dict", "not a subclass of bokehsynth.Aperture"),
        ("':'", ""),
        ("'bokehsynth.optics:'", ""),
    ],
)
def test_aperture_faults(faults, aperture, words):
    line = one(faults(MINIMAL + f"lens:\n  aperture: {aperture}\n"))
    assert re.match(r"r\.yaml:[34]: lens", line)
    assert words in line


def test_aperture_whose_module_is_broken(faults, tmp_path, monkeypatch):
    (tmp_path / "torn_lens.py").write_text("class Lens(:\n")
    (tmp_path / "failing_lens.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert "torn_lens" in one(faults(MINIMAL + "lens: {aperture: 'torn_lens:Lens'}\n"))
    assert "failing_lens" in one(faults(MINIMAL + "lens: {aperture: 'failing_lens:Lens'}\n"))


def test_own_aperture_is_used(write, tmp_path, monkeypatch):
    (tmp_path / "slit_lens.py").write_text(
        "import bokehsynth as bs\nclass Slit(bs.Aperture):\n    def inside(self, s): return abs(s[:, 0]) < 0.2\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    recipe = load_recipe(write(MINIMAL + "lens: {aperture: 'slit_lens:Slit'}\n"))
    assert type(recipe.lens.apertures[0]).__name__ == "Slit"
    assert recipe.lens.apertures[0] is recipe.lens.apertures[0]


def test_duplicate_key(faults):
    assert one(faults("name: a\nseed: 1\nsamples: {train: 1}\nseed: 2\n")).startswith("r.yaml:4: ")
    assert one(faults("name: a\nsamples: {train: 1, train: 2}\n")).startswith("r.yaml:2: ")


@pytest.mark.parametrize(
    "text", ["name: [a\n", "name: 'a\n", "name: a: b\n", "\tname: a\n", "name: a\n  seed: 1\n", "name: \x00\n"]
)
def test_broken_yaml(faults, text):
    line = faults(text)[0]
    assert line.startswith("r.yaml")
    assert "not valid YAML" in line


@pytest.mark.parametrize(("text", "found"), [("- a\n", "list"), ("", "empty|None"), ("# only words\n", "empty|None")])
def test_not_a_mapping(faults, text, found):
    line = one(faults(text))
    assert line.startswith("r.yaml")
    assert "must be a mapping" in line
    assert re.search(found, line, re.IGNORECASE)


def test_two_documents_are_refused(faults):
    assert faults(MINIMAL + "---\n" + MINIMAL)


def test_not_utf8(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_bytes(b"name: \xff\xfe\n")
    with pytest.raises(RecipeError, match=r"r\.yaml"):
        load_recipe(path)


def test_missing_file_and_suggestion(tmp_path):
    with pytest.raises(RecipeError, match="did you mean 'quickstart'"):
        find_recipe("quikstart")
    with pytest.raises(RecipeError, match=r"gone\.yaml: no such file.*packaged are: .*quickstart"):
        load_recipe(tmp_path / "gone.yaml")
    with pytest.raises(RecipeError):
        load_recipe(tmp_path)
    assert find_recipe("quickstart") == packaged_recipes()["quickstart"]


def test_recipe_errors_are_usage_errors():
    with pytest.raises(UsageError):
        bs.load_recipe("nothing-of-the-kind")


# --- YAML 1.2


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1e-4", 1e-4), ("012", 12), ("0o12", 10), ("+3", 3), (".5", 0.5), ("1E2", 100.0), ("0x10", 16)],
)
def test_numbers_of_yaml_1_2(write, text, expected):
    """PyYAML reads 1e-4 as a string and 012 as 10."""
    recipe = load_recipe(write(MINIMAL + f"scene: {{blur: {text}}}\n"))
    assert recipe.scene.blur.value == expected
    assert load_recipe(write(MINIMAL), [f"scene.blur={text}"]).scene.blur.value == expected


@pytest.mark.parametrize("word", ["no", "yes", "on", "off", "y", "n"])
def test_words_are_words(write, word):
    """PyYAML reads them as booleans; a data set may well be called `no`."""
    assert load_recipe(write(f"name: {word}\nsamples: {{train: 1}}\n")).name == word
    assert load_recipe(write(MINIMAL), [f"name={word}"]).name == word


@pytest.mark.parametrize("text", ["1:30", "'16'", "true", "~"])
def test_what_is_no_number_is_refused(faults, text):
    """PyYAML reads 1:30 as 90."""
    assert faults(MINIMAL + f"scene: {{blur: {text}}}\n")


def test_anchors_and_merged_mappings_are_read(write):
    text = MINIMAL + "scene:\n  blur: &b {kind: uniform, low: 1, high: 2}\n  scale: *b\n"
    recipe = load_recipe(write(text))
    assert recipe.scene.scale == recipe.scene.blur


# --- --set and --samples


def test_set_replaces_nested_values(write):
    path = write(MINIMAL + "scene: {blur: {kind: uniform, low: 1, high: 2}}\n")
    recipe = load_recipe(path, ["scene.blur.high=4.5", "size=[32, 48]", "seed=12", "scene.flip=1e-1"])
    assert recipe.scene.blur.high == 4.5
    assert (recipe.height, recipe.width, recipe.seed, recipe.scene.flip) == (32, 48, 12, 0.1)


def test_set_makes_mappings_and_replaces_numbers_by_them(write):
    recipe = load_recipe(write(MINIMAL + "scene: {blur: 3}\n"), ["scene.disparity.gap=0.02", "shards.codec=webp"])
    assert recipe.scene.disparity.gap == 0.02
    assert recipe.shards.codec == "webp"
    overrides = ["scene.blur.kind=uniform", "scene.blur.low=0", "scene.blur.high=8"]
    assert load_recipe(write(MINIMAL + "scene: {blur: 3}\n"), overrides).scene.blur.high == 8


def test_set_reaches_into_lists(write):
    path = write(MINIMAL + "degradation: [{kind: jpeg, quality: [30, 60]}, {kind: final, scale: 2}]\n")
    recipe = load_recipe(path, ["degradation.0.quality.1=90", "degradation.1.scale=4"])
    assert tuple(recipe.degradation[0].quality) == (30, 90)
    assert recipe.degradation[1].scale == 4


def test_later_set_wins(write):
    assert load_recipe(write(MINIMAL), ["seed=1", "seed=2"]).seed == 2


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("seed", "KEY=VALUE"),
        ("=3", "KEY=VALUE"),
        ("seed=[1", "not valid YAML"),
        ("seed=abc", "seed"),
        ("seed=", "seed"),
        ("sede=1", "did you mean 'seed'"),
        ("scene.blurr=1", "did you mean 'blur'"),
        ("scnee.blur=1", "did you mean 'scene'"),
        ("samples.train=1e3", "samples.train"),
        ("degradation.2.scale=2", "a list of 1"),
        ("degradation.-1.scale=2", "a list of 1"),
        ("degradation.first.scale=2", "a list of 1"),
        ("seed={a: 1, a: 2}", "not valid YAML"),
    ],
)
def test_errors_of_set_say_so(faults, override, words):
    line = faults(MINIMAL + "degradation: [{kind: final, scale: 2}]\n", override)[0]
    assert line.startswith(f"--set {override}: ")
    assert words in line


@pytest.mark.parametrize("override", ["scene.blur=-5", "scene.foregrounds=9", "samples.train=0"])
def test_ranges_that_set_breaks_are_reported_of_set(faults, override):
    text = "name: a\nsamples: {train: 1}\nscene: {foregrounds: 0, focus: layer}\n"
    assert one(faults(text, override)).startswith(f"--set {override}: ")


def test_faults_of_set_and_of_the_file_together(faults):
    lines = faults("name: 7\nsamples: {train: 1}\n", "seed=x")
    assert {line.partition(": ")[0] for line in lines} == {"r.yaml:1", "--set seed=x"}


@pytest.mark.parametrize(
    ("total", "expected"),
    [(10, (8, 2)), (5, (4, 1)), (6, (4, 2)), (1, (0, 1)), (3, (2, 1)), (100, (80, 20)), (11, (8, 3))],
)
def test_samples_are_shared_out_with_val_rounded_up(write, total, expected):
    recipe = load_recipe(write(MINIMAL), total=total)
    assert (recipe.samples.train, recipe.samples.val) == expected


def test_samples_keep_the_proportion():
    for train, val in ((900, 100), (58, 6), (7, 0), (0, 3), (1, 999)):
        for total in (1, 2, 17, 64, 1000, 10**6):
            shared = SamplesSpec.split_total(total, train, val)
            assert shared.train + shared.val == total
            assert 0 <= shared.val - total * val / (train + val) < 1
        assert SamplesSpec.split_total(train + val, train, val) == SamplesSpec(train=train, val=val)


def test_a_split_without_samples_stays_without(write):
    path = write("name: a\nsamples: {train: 5}\n")
    assert load_recipe(path, total=3).samples.val == 0
    assert load_recipe(path).splits == ("train",)


@pytest.mark.parametrize("total", [0, -1])
def test_samples_must_be_positive(write, total):
    with pytest.raises(UsageError, match="--samples must be at least 1"):
        load_recipe(write(MINIMAL), total=total)


# --- paths


def test_relative_sources_belong_to_the_file_and_those_of_set_to_the_working_directory(write, tmp_path, monkeypatch):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    path = write(MINIMAL + "assets:\n  foregrounds: [cutouts, procedural]\n  backgrounds: [{path: /data/land}]\n")
    recipe = load_recipe(path)
    assert [source.path for source in recipe.assets.foregrounds] == [str(tmp_path / "cutouts"), "procedural"]
    assert [source.path for source in recipe.assets.backgrounds] == ["/data/land"]
    recipe = load_recipe(path, ["assets.backgrounds=[mine]"])
    assert recipe.assets.foregrounds[0].path == str(tmp_path / "cutouts")
    assert recipe.assets.backgrounds[0].path == str(elsewhere / "mine")


@pytest.mark.parametrize(
    "override",
    ["assets={foregrounds: [cutouts, procedural], backgrounds: [mine]}", "assets.backgrounds.0=mine"],
)
def test_however_set_says_it_its_paths_belong_to_the_working_directory(write, tmp_path, monkeypatch, override):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    path = write(MINIMAL + "assets:\n  backgrounds: [land, more]\n")
    sources = [source.path for source in load_recipe(path, [override]).assets.backgrounds]
    assert sources[0] == str(elsewhere / "mine")
    if len(sources) > 1:
        assert sources[1] == str(tmp_path / "more")  # the file's own source stays the file's


# --- schema


def properties(node, path=""):
    """Every property of a JSON schema with its dotted place."""
    for name, value in node.get("properties", {}).items():
        yield f"{path}.{name}".lstrip("."), value
    for name, value in node.get("$defs", {}).items():
        yield from properties(value, name)


def references(node):
    if isinstance(node, dict):
        if "$ref" in node:
            yield node["$ref"]
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def test_schema_is_a_json_schema():
    schema = json.loads(json.dumps(Recipe.model_json_schema()))
    assert schema["type"] == "object"
    assert set(schema["properties"]) == set(Recipe.model_fields)
    assert set(schema["required"]) == {"name", "samples"}
    assert schema["additionalProperties"] is False
    for reference in references(schema):
        assert reference.removeprefix("#/$defs/") in schema["$defs"], reference
    for name, definition in schema["$defs"].items():
        if "properties" in definition:
            assert definition.get("additionalProperties") is False, name


def test_schema_documents_every_key():
    """`kind` needs no words of its own: it names the mapping, which has them."""
    schema = Recipe.model_json_schema()

    def described(value) -> bool:
        if value.get("description"):
            return True
        target = value.get("$ref", "").removeprefix("#/$defs/")
        return bool(target) and bool(schema["$defs"][target].get("description"))

    missing = [place for place, value in properties(schema) if not place.endswith(".kind") and not described(value)]
    missing += [name for name, value in schema["$defs"].items() if "properties" in value and not described(value)]
    assert not missing


def test_schema_knows_every_key_of_the_quickstart():
    """No jsonschema here: only the names, followed through references and unions."""
    schema = Recipe.model_json_schema()

    def alternatives(node):
        if "$ref" in node:
            return alternatives(schema["$defs"][node["$ref"].removeprefix("#/$defs/")])
        options = node.get("anyOf", []) + node.get("oneOf", [])
        return [found for option in options for found in alternatives(option)] or [node]

    def check(value, nodes, place):
        if isinstance(value, dict):
            for key, item in value.items():
                inner = [node["properties"][key] for node in nodes if key in node.get("properties", {})]
                assert inner, f"{place}.{key}"
                check(item, [found for node in inner for found in alternatives(node)], f"{place}.{key}")
        elif isinstance(value, list):
            assert any(node.get("type") == "array" for node in nodes), place

    check(load_recipe("quickstart").model_dump(mode="json"), [schema], "recipe")


# --- small things


def test_scales_follow_from_the_bounds(write):
    recipe = load_recipe(write(MINIMAL + "size: 256\nscene: {blur: {kind: uniform, low: 0, high: 32}}\n"))
    assert recipe.scales["defocus_scale"] == pytest.approx(16 / 65535)  # 32 px at 512 are 16 px at 256
    assert recipe.scales["disparity_scale"] == pytest.approx(1 / 65535)
    recipe = load_recipe(write(MINIMAL + "size: [128, 999]\nscene: {blur: 7, unit: px}\n"))
    assert recipe.scales["defocus_scale"] == pytest.approx(7 / 65535)
    assert load_recipe(write(MINIMAL + "scene: {blur: 0}\n")).scales["defocus_scale"] > 0


def test_unknown_split(write):
    with pytest.raises(UsageError, match="choose train or val"):
        load_recipe(write(MINIMAL)).count("test")


def test_dump_yaml_reads_back_what_yaml_1_1_would_change(write):
    value = {"name": "no", "samples": {"train": 12, "val": 0}, "scene": {"flip": 1e-05, "blur": 1e22 / 1e20}}
    recipe = load_recipe(write(dump_yaml(value)))
    assert (recipe.name, recipe.scene.flip, recipe.scene.blur.value) == ("no", 1e-05, 100)


def test_schema_is_the_same_where_docstrings_are_dropped() -> None:
    """`python -OO`: verify would call the schema of every data set altered."""
    line = "import sys; from bokehsynth.generation.recipe_schema import schema_text; sys.stdout.write(schema_text())"
    texts = [
        subprocess.run([sys.executable, *flags, "-c", line], capture_output=True, text=True, check=True).stdout
        for flags in ([], ["-OO"])
    ]
    assert texts[0] == texts[1]

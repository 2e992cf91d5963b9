"""`bokehsynth estimate`: counts and distributions from draws, cost from a table or from samples made."""

import re
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from support import photo_folders as folders

import bokehsynth as bs
from bokehsynth import pipeline
from bokehsynth.assets.catalogue import Asset, AssetFiles, Catalogue
from bokehsynth.assets.load.picture_cache import SETTING, PictureCache
from bokehsynth.cli.estimate import estimate as command
from bokehsynth.generation.estimate import SHARE_OF_SOURCE, SHARE_OF_VIEW, _more_pictures, estimate, evenly_spaced
from bokehsynth.generation.picture_cost import CUT_OUT, DECODE, DRAW, REDUCE, picture_seconds
from bokehsynth.recipe import Recipe
from bokehsynth.sample_draw import SampleDraw, draw_sample

PLAIN = """\
name: plain
samples: {train: 900, val: 100}
size: 64
scene:
  foregrounds: {kind: choice, values: [1, 2], weights: [3, 1]}
  blur: {kind: uniform, low: 0, high: 256}
  background_tilt: 0
  focus: {kind: choice, values: [0.25, 0.75]}
lens: {aperture: [disc, 'ring:0.5']}
shards: {samples: 64}
"""


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    path = tmp_path / "plain.yaml"
    path.write_text(PLAIN)
    return path


@pytest.fixture
def nothing_is_rendered(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("something was rendered")

    for name in ("render", "compose", "apply_degradation"):
        monkeypatch.setattr(pipeline, name, refuse)


@pytest.mark.usefixtures("nothing_is_rendered")
def test_counts_and_distributions(plain: Path) -> None:
    found = estimate(bs.load_recipe(plain))
    assert found.counts == {"train": 900, "val": 100}
    assert found.shards == 15 + 2
    assert found.draws == 1000  # no more than there are
    distributions = {distribution.name: distribution for distribution in found.distributions}
    blur = distributions["K"]
    assert blur.unit == "px"
    np.testing.assert_allclose(blur.histogram(4), 0.25, atol=0.05)  # 256 px at 512 are 32 at 64
    assert blur.quantile(0.5) == pytest.approx(16, abs=1.5)
    assert set(distributions["focus"].values) == {0.25, 0.75}
    assert sum(distributions["largest radius"].histogram(10)) == pytest.approx(1)
    assert max(distributions["backgrounds"].values) <= 0.3
    assert min(distributions["foregrounds"].values) >= 0.05
    assert found.shares["layers"]["1 foregrounds"] == pytest.approx(0.75, abs=0.05)
    assert found.shares["apertures"]["disc"] == pytest.approx(0.5, abs=0.06)
    assert found.shares["licences"] == {"Apache-2.0": 1.0}


def test_the_radius_is_that_of_the_samples_made(plain: Path) -> None:
    """What is drawn is what comes out: the largest radius over all planes, which the maps show where they are seen."""
    recipe = bs.load_recipe(plain)
    radii = next(s for s in estimate(recipe, draws=1000).distributions if s.name == "largest radius").values
    for index in range(0, 40, 8):
        assert bs.make_sample(recipe, index).meta["radius_max"] <= radii[index] + 1e-4


@pytest.mark.usefixtures("nothing_is_rendered")
def test_a_million_samples_are_not_drawn_one_by_one(plain: Path) -> None:
    recipe = bs.load_recipe(plain, total=1_000_000)
    found = estimate(recipe, draws=500)
    assert found.samples == 1_000_000
    assert found.draws == 500


def test_samples_are_spread_over_the_whole() -> None:
    chosen = list(evenly_spaced({"train": 900, "val": 100}, 50))
    assert len(chosen) == len(set(chosen)) == 50
    assert sum(split == "val" for split, _ in chosen) == 5
    assert [index for split, index in chosen if split == "train"][:2] == [0, 20]
    assert list(evenly_spaced({"train": 3}, 10)) == [("train", 0), ("train", 1), ("train", 2)]


def test_measuring_makes_samples_and_tells_their_bytes(plain: Path, tmp_path: Path) -> None:
    recipe = bs.load_recipe(plain, ["degradation=none"], total=3)
    found = estimate(recipe, measure=3)
    assert found.cost.measured == 3
    assert found.cost.seconds > 0
    out = bs.generate(recipe, tmp_path / "out", workers=1).out
    stored = sum(path.stat().st_size for path in out.glob("*/*.tar"))
    assert stored == pytest.approx(found.bytes, abs=2 * 10240)  # the end of each tar is padded


def test_the_table_is_not_far_off() -> None:
    """Size within a factor of two of what is measured, for recipes of very different kind."""
    for overrides in (["size=128"], ["size=128", "scene={kind: photo}"], ["size=128", "shards.codec=webp"]):
        recipe = bs.load_recipe("quickstart", overrides, total=4)
        table, measured = estimate(recipe).cost, estimate(recipe, measure=4).cost
        assert 0.5 < table.bytes / measured.bytes < 2, overrides


@pytest.mark.usefixtures("nothing_is_rendered")
def test_photographs_and_pairs(tmp_path: Path) -> None:
    folders.isr_folder(tmp_path / "isr")
    isr = estimate(bs.load_recipe("isr", [f"assets.root={tmp_path / 'isr'}"]), draws=200)
    assert isr.distributions == []
    assert "defocus is 0" in isr.notes[0]
    assert set(isr.shares["licences"]) == {"research only", "CC BY-NC-SA 4.0"}
    for name, picture in folders.pair_of(1, 5.0).items():
        folders.save(tmp_path / f"ebb/{name}/1.png", picture)
    paired = bs.load_recipe("paired", [f"assets.root={tmp_path / 'ebb'}"])
    assert "searched" in estimate(paired).notes[0]
    assert estimate(paired).counts == {"val": 1}
    fixed = bs.load_recipe("paired", [f"assets.root={tmp_path / 'ebb'}", "scene.blur=20"])
    assert estimate(fixed).distributions[0].values == (20 * 128 / 512,)


def test_the_command(plain: Path, tmp_path: Path) -> None:
    plot = tmp_path / "plot.png"
    arguments = [str(plain), "--samples", "5000", "--draws", "300", "--workers", "4", "--plot", str(plot)]
    done = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    for words in (
        "4,500 train + 500 val samples",
        "64 x 64 px",
        "79 shards",
        "with 4 workers",
        "300 draws",
        "Apache-2.0",
    ):
        assert words in done.output
    assert re.search(r"K, px +0 \|[ ▁▂▃▄▅▆▇█]{40}\| 32", done.output)
    assert cv2.imread(str(plot)).shape[0] > 300
    assert isinstance(CliRunner().invoke(command, [str(plain), "--plot", "x.jpg"]).exception, bs.UsageError)


def photographed(recipe: Recipe, side: int, count: int = 40) -> Recipe:
    """The recipe with cut-outs and landscapes of such sides, as their index would list them; none of them exists."""
    pairs = []
    for kind in ("foreground", "background"):
        for i in range(count):
            image = Path(f"/nowhere/{kind}{i}.jpg")
            files = AssetFiles(
                kind=kind, image=image, root=image.parent, name=image.name, image_sha256=f"{kind}{i}", size=(side, side)
            )
            words = {"kind": kind, "split": "train", "licence": "mine", "weight": 1.0, "colors": "photographed"}
            pairs.append((Asset(id=image.stem, sha256=f"{kind}{i}", height=side, width=side, **words), files))
    return recipe.with_catalogue(Catalogue(tuple(a for a, _ in pairs), files={a.id: files for a, files in pairs}))


@pytest.mark.usefixtures("nothing_is_rendered")
def test_the_table_knows_the_resolution_of_the_sources(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SETTING, "off")
    three_files = (DECODE[".jpg"] + REDUCE + 2 * (DECODE[".jpg"] + CUT_OUT)) * 16
    recipe = bs.load_recipe(plain, ["samples.val=0", "samples.train=1000000", "scene.foregrounds=2"])
    small, large = (estimate(photographed(recipe, side), 200).cost for side in (1000, 4000))
    assert large.seconds - small.seconds < 0.05 * three_files  # of 64 px all pictures stay in a worker's memory
    assert large.bytes == small.bytes
    big = bs.load_recipe(plain, ["samples.val=0", "samples.train=1000", "scene.foregrounds=2", "size=1024"])
    small, large = (estimate(photographed(big, side, 1000), 200).cost for side in (1000, 4000))
    assert large.seconds - small.seconds > 0.7 * three_files


@pytest.mark.usefixtures("nothing_is_rendered")
def test_pictures_that_are_kept_are_made_once(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shape = ["samples.val=0", "scene.foregrounds=2", "size=512"]
    few, many = (bs.load_recipe(plain, [*shape, f"samples.train={count}"]) for count in (20, 200_000))
    few, many = photographed(few, 4000, 200), photographed(many, 4000, 200)
    monkeypatch.setattr(PictureCache, "room", lambda self: self.most)
    seconds = {}
    for setting in ("off", "100MB", "1TB"):
        monkeypatch.setenv(SETTING, setting)
        seconds[setting] = [picture_seconds(each, list(draws_of(each))) for each in (few, many)]
    off, little, kept = seconds["off"], seconds["100MB"], seconds["1TB"]
    assert kept[0] == pytest.approx(off[0], rel=0.1)  # a first shard meets each picture for the first time
    assert kept[1] < 0.15 * off[1]
    assert 0.8 * off[1] < little[1] < off[1]


def draws_of(recipe: Recipe) -> Iterator[SampleDraw]:
    for index in range(0, recipe.count("train"), max(1, recipe.count("train") // 100)):
        yield draw_sample(recipe, index)


@pytest.mark.usefixtures("nothing_is_rendered")
def test_the_table_knows_what_embedded_pictures_take(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixty samples draw almost all of their pictures anew; of a hundred thousand hardly one does."""
    monkeypatch.setenv(SETTING, "1TB")
    monkeypatch.setattr(PictureCache, "room", lambda self: self.most)
    few, many = (bs.load_recipe(plain, ["size=256"], total=count) for count in (60, 100_000))
    first, later = (estimate(recipe, 60).cost.seconds for recipe in (few, many))
    drawn = sum(a + b * 0.065 for a, b in (DRAW["background"], DRAW["foreground"]))  # at 256 px, two or three a sample
    assert 0.7 * drawn < first - later < 2 * drawn


@pytest.mark.parametrize(
    ("kind", "more", "pictures"),
    [
        ("focal_stack", "count: 3", 3), ("aperture_stack", "stops: [0, 2]", 2), ("dual_pixel", "softness: 0.5", 2),
        ("sub_apertures", "count: 2", 4),
    ],
)  # fmt: skip
def test_further_pictures_cost_what_their_kind_does(kind, more, pictures):
    recipe = bs.load_recipe("quickstart", [f"views={{kind: {kind}, {more}}}", "source={focus: pixel}"])
    expected = pictures * SHARE_OF_VIEW[kind] + SHARE_OF_SOURCE
    assert _more_pictures(recipe) == pytest.approx(expected)
    assert _more_pictures(bs.load_recipe("quickstart")) == 0

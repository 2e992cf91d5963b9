"""The report on a data set: its figures are those of the shards, and nothing in a set becomes code of the page."""

import base64
import hashlib
import json
import os
import re
import shlex
import shutil
from collections import Counter
from dataclasses import asdict
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from support.hostile_sets import change_meta
from support.shard_samples import make_dataset
from support.shard_samples import make_sample as noise_sample
from support.small_set import make_small_set

import bokehsynth as bs
from bokehsynth.cli import cli
from bokehsynth.files import append_line, canonical_json
from bokehsynth.generation.report import event_log_facts
from bokehsynth.generation.report.charts import counted_histogram, histogram
from bokehsynth.generation.report.event_log_facts import read_events
from bokehsynth.generation.report.lens_spots import LensSpots, spot_pictures
from bokehsynth.generation.report.record_numbers import RecordNumbers
from bokehsynth.generation.report.sample_views import pack_counts, spread, unpack_counts, view_sample
from bokehsynth.generation.report.side_files import flat
from bokehsynth.generation.report.write import write_report
from bokehsynth.lenses import Heart
from bokehsynth.optics import CatEye, Disc, Polygon
from bokehsynth.schema import ShardSpec
from bokehsynth.shards import Layout

RECIPE = """\
name: reported
samples: {train: 5, val: 1}
size: [32, 48]
scene: {foregrounds: 2, blur: 60, unit: px}
lens: {aperture: ['polygon:5', 'ring:0.4'], order: sweep}
shards: {samples: 2}
"""
COMMITTED = """{"time": "2026-01-02T03:04:05+0000", "host": "a", "event": "committed", "seconds": 8.0, "samples": 2,\
 "bytes": 1}"""
HOSTILE = "</script><script>alert(1)</script></style>\"'><img src=x onerror=alert(1)>&amp;\u202e{{evil}}"


class Page(HTMLParser):
    """A page taken apart."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict]] = []
        self.code: dict[str, str] = {}
        self.words: list[str] = []
        self.chart_words: list[str] = []
        self._within = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._within = tag
        if tag == "svg":
            self.chart_words.append(dict(attrs).get("aria-label", ""))

    def handle_endtag(self, tag):
        self._within = ""

    def handle_data(self, data):
        if self._within in {"script", "style"}:
            self.code[self._within] = self.code.get(self._within, "") + data
        else:
            self.words.append(data)
            self.chart_words.append(data)

    def all(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self) -> str:
        return "".join(self.words)


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    """A small set with a log, as a run leaves it."""
    layout = make_small_set(tmp_path_factory.mktemp("reported") / "set", RECIPE)
    for host, second, samples in (("node-a", 10, 2), ("node-b", 12, 2), ("node-a", 30, 1), ("node-a", 31, 1)):
        event = {"time": f"2026-01-02T03:04:{second}+0000", "host": host, "pid": 1, "event": "committed",
                 "shard": "x", "attempts": 1, "seconds": 8.0, "samples": samples, "bytes": 1000}  # fmt: skip
        append_line(layout.logs / "events.jsonl", json.dumps(event))
    return layout


@pytest.fixture(scope="module")
def page(layout: Layout) -> Page:
    out = layout.root.with_suffix(".html")
    assert write_report(layout.root, out) == out.stat().st_size
    return Page(out.read_text(encoding="utf-8"))


def samples_of(layout: Layout) -> list[bs.Sample]:
    return [sample for split in ("train", "val") for sample in bs.open_dataset(layout.root, split)]


# --- figures


def test_the_numbers_are_those_of_the_shards(layout: Layout, page: Page) -> None:
    samples = samples_of(layout)
    for title, values in {
        "Histogram of K": [sample.meta["blur"] for sample in samples],
        "Histogram of focus": [sample.meta["focus"] for sample in samples],
        "Histogram of largest blur radius": [sample.meta["radius_max"] for sample in samples],
        "Histogram of blur radius of a pixel": np.concatenate([sample.defocus.ravel() for sample in samples]),
        "Histogram of disparity of a pixel": np.concatenate([sample.disparity.ravel() for sample in samples]),
    }.items():
        counts, quantiles = _chart(page, title)
        assert sum(counts) == len(values), title
        # what is written has three digits
        np.testing.assert_allclose(
            quantiles, np.quantile(values, [0.05, 0.5, 0.95]), rtol=6e-3, atol=1e-3, err_msg=title
        )
    draws = [json.loads(sample.meta["draw"]) for sample in samples]
    counts, quantiles = _chart(page, "Histogram of foregrounds")
    assert sum(counts) == 6 + 12  # per sample, and by disparity
    sizes = [step["kernel"]["size"] for draw in draws for step in draw["degradation"]["steps"][:1] if step["kernel"]]
    assert sum(_chart(page, "Histogram of blur 1: size")[0]) == len(sizes)
    licences = Counter(line["licence"] for line in map(json.loads, layout.assets.read_text().splitlines()))
    assert [f"{licence}{count}6100.0%" in page.text for licence, count in licences.items()] == [True]
    assert f"polygon:5{sum(s.meta['aperture'] == 'polygon:5' for s in samples)}" in page.text
    for split, words in {"train": "5 in 3 shards", "val": "1 in 1 shard"}.items():
        assert f"{split}{words}" in page.text
    size = sum(path.stat().st_size for path in layout.root.rglob("*.tar"))
    assert f"size on disk{size / 1e3:.0f} kB" in page.text


def _chart(page: Page, title: str) -> tuple[list[int], list[float]]:
    """What the bars of charts with a title say that they count, and the quantiles of the first."""
    counts, quantiles, inside = [], [], False
    words = iter(page.chart_words)
    for word in words:
        if word.startswith("Histogram of "):
            inside = word == title
        elif inside and (found := re.search(r": ([\d,]+) of [\d,]+ \(", word)):
            counts.append(int(found[1].replace(",", "")))
        elif inside and word in {"5 % ", "median ", "95 % "} and len(quantiles) < 3:
            quantiles.append(float(next(words).replace(",", "")))
    return counts, quantiles


def test_histograms_hold_every_value() -> None:
    rng = np.random.default_rng(3)
    for values in (rng.normal(size=1000), rng.integers(0, 9, 50).astype(float), np.full(4, 0.3), np.full(2, 1e12),
                   np.array([1e12, 1e12 + 1e-3]), np.array([0.0]), np.array([1e-300, -1e-300]),
               np.array([-5.0, 1e12])):  # fmt: skip
        found = histogram(values)
        assert found.counts.sum() == len(values) == found.total
        assert (np.diff(found.edges) > 0).all()
    numbers = np.bincount(rng.integers(0, 65536, 10_000), minlength=65536)
    found = counted_histogram(numbers, 0.25)
    assert found.counts.sum() == 10_000
    values = np.repeat(np.arange(65536) * 0.25, numbers)
    np.testing.assert_allclose(found.quantiles, np.quantile(values, [0.05, 0.5, 0.95], method="inverted_cdf"))
    assert counted_histogram(np.zeros(65536, np.int64), 0.25).total == 0


def test_of_many_records_some_are_read_and_the_page_says_so(layout: Layout, tmp_path: Path) -> None:
    write_report(layout.root, tmp_path / "few.html", samples=2, records=4)
    text = Page((tmp_path / "few.html").read_text()).text
    assert "From the records of 4 samples, evenly spread over all 6." in text
    assert "2 of 6 samples, evenly spread." in text


def test_the_records_of_a_split_are_read_shard_by_shard(layout: Layout) -> None:
    data = bs.open_dataset(layout.root)
    assert list(data.records([0, 2, 3, 4])) == [data.meta(index) for index in (0, 2, 3, 4)]
    assert list(data.records([])) == []


# --- pictures and maps


def test_maps_on_the_page_are_those_of_the_shards(layout: Layout, page: Page) -> None:
    data = {sample.key: sample for sample in samples_of(layout)}
    keys = [attributes["id"] for attributes in page.all("article")]
    assert sorted(keys) == sorted(data)
    canvases = page.all("canvas")
    assert len(canvases) == 2 * len(keys)
    for place, canvas in enumerate(canvases):
        sample, name = data[keys[place // 2]], canvas["data-name"]
        counts = unpack_counts(canvas["data-counts"], int(canvas["height"]), int(canvas["width"]))
        values = counts.astype(np.float32) * np.float32(float(canvas["data-scale"]))
        assert np.array_equal(values, sample[name])  # 48 x 32 px: nothing had to be left out


def test_packed_counts_come_back() -> None:
    rng = np.random.default_rng(5)
    for shape in ((1, 1), (1, 7), (7, 1), (13, 17)):
        counts = rng.integers(0, 65536, shape, dtype=np.uint16)
        assert np.array_equal(unpack_counts(pack_counts(counts), *shape), counts)
    assert spread(10, 10).tolist() == list(range(10))
    assert spread(9, 3).tolist() == [1, 4, 7]
    assert spread(1000, 7).max() < 1000


def test_a_view_fits_its_budget() -> None:
    sample = noise_sample("train", 0, height=280, width=200)  # noise: nothing is larger
    for budget in (600_000, 100_000, 20_000):
        view = view_sample(sample, budget)
        assert view.bytes <= budget
        assert view.height > view.width
    assert view_sample(sample, 600_000).height == 280
    tiny = view_sample(noise_sample("train", 1, height=3, width=2), 1)
    assert (tiny.height, tiny.width) == (3, 2)


@pytest.mark.parametrize("fields", [["hq16"], ["aif"], ["mask", "disparity"], ["lq", "lq_native"]], ids=" ".join)
def test_any_fields_make_a_page(fields: list[str], tmp_path: Path) -> None:
    make_dataset(tmp_path / "set", {"train": 3}, ShardSpec(samples=2, fields=fields))
    write_report(tmp_path / "set", tmp_path / "page.html")
    page = Page((tmp_path / "page.html").read_text())
    assert len(page.all("article")) == 3
    assert "there is no recipe.yaml" in page.text
    assert "there is no assets.jsonl" in page.text
    assert "there is no logs/events.jsonl" in page.text


# --- lenses


def test_spots_are_the_opening() -> None:
    (disc,) = spot_pictures(Disc(), [(0.0, 0.0)], 10.0, 100.0)
    # the area of the disc in a frame of 1.1 radii: pi / 4 / 1.1**2 = 0.649
    assert light_of(disc).mean() == pytest.approx(0.649, abs=0.01)
    (triangle,) = spot_pictures(Polygon(3), [(0.0, 0.0)], 10.0, 100.0)
    assert light_of(triangle).mean() == pytest.approx(0.649 * 3 * 3**0.5 / 4 / np.pi, abs=0.01)
    middle, corner = spot_pictures(CatEye(0.8), [(0.0, 0.0), (-0.8, -0.6)], 10.0, 100.0)
    assert (corner > 0).sum() < 0.9 * (middle > 0).sum()


def light_of(spot: np.ndarray) -> np.ndarray:
    return (spot[..., 0] / 255.0) ** 2.2


@pytest.mark.parametrize("aperture", [Heart(), Polygon(3)], ids=lambda lens: type(lens).__name__)
def test_a_spot_is_what_the_renderer_makes_of_a_light(aperture: bs.Aperture) -> None:
    """The light stands alone on black."""
    side, radius = 145, 24.0
    lens = bs.Lens(blur=2 * radius, focus=0.5, aperture=aperture)
    margin = lens.margin([bs.Plane(0.0)], side, side)
    light = np.zeros((side + 2 * margin,) * 2 + (3,), np.float32)
    light[margin + side // 2, margin + side // 2] = 1.0
    layer = bs.Layer(color=light, alpha=np.ones(light.shape[:2], np.float32), disparity=bs.Plane(0.0))
    bokeh = bs.render([layer], lens, margin, backend="cpu").bokeh[..., 0]
    (spot,) = spot_pictures(aperture, [(0.0, 0.0)], radius, 100.0)
    reach = round(1.1 * radius)
    cut = bokeh[side // 2 - reach : side // 2 + reach + 1, side // 2 - reach : side // 2 + reach + 1]
    drawn = cv2.resize(light_of(spot), cut.shape, interpolation=cv2.INTER_AREA)
    alike = [np.corrcoef(cut.ravel(), turned.ravel())[0, 1] for turned in (drawn, drawn[::-1], drawn[:, ::-1])]
    assert alike[0] > 0.93, alike  # 0.96 and more
    assert max(alike) == alike[0] > min(alike) + 0.1, alike


def test_a_spot_asks_the_lens_where_the_light_lands() -> None:
    """By the definition, pixel by pixel: the light at q reaches p through s = (p - q) / radius if s is open at h(p)."""
    aperture, field, radius, half = CatEye(1.2), (-0.5, -0.3), 20.0, 90.0
    (spot,) = spot_pictures(aperture, [field], radius, half)
    cells = (np.arange(72) + 0.5) / 72 * 2.2 - 1.1
    s = np.stack(np.meshgrid(cells, cells), axis=-1).reshape(-1, 2)
    centre, rim = aperture.pupil(np.array(field) + s * radius / half)
    passes = aperture.inside(s) & (np.hypot(*(s - centre).T) <= rim)
    # cells that the rim cuts are neither; 3 % of them
    assert np.mean((light_of(spot) > 0.5).ravel() == passes) > 0.95


class Coma(Disc):
    """A disc whose rays go astray towards one side, the more the farther out."""

    def aberration(self, s, h):
        return 12.0 * np.einsum("ij,ij->i", s, s)[:, None] * np.array([1.0, 0.5])


def test_rays_that_go_astray_make_a_tail() -> None:
    """Rays through the middle stay, those of the rim land at p = q + radius*s - aberration: to the upper left."""
    (spot,) = spot_pictures(Coma(), [(0.0, 0.0)], 10.0, 100.0)
    light = light_of(spot)
    rows, columns = (np.nonzero(light.sum(axis=axis) > 0.01)[0].mean() for axis in (1, 0))
    brightest = np.unravel_index(cv2.GaussianBlur(light, (0, 0), 2).argmax(), light.shape)
    assert brightest[0] > rows + 3
    assert brightest[1] > columns + 6


def test_each_sample_has_the_spots_of_its_lens(layout: Layout) -> None:
    spots = LensSpots.of(layout)
    samples = samples_of(layout)
    drawn = [spots.of_sample(dict(sample.meta)) for sample in samples]
    assert [len(found) for found in drawn] == [int(sample.meta["radius_max"] >= 0.5) for sample in samples]
    assert len({found[0] for found in drawn if found}) == 2
    assert spots.fault == ""
    meta = dict(samples[0].meta) | {"blur": 9.0, "radius_max": 9.0}
    assert spots.of_sample(meta | {"aperture": "another"}) == []
    assert "another" in spots.fault
    for odd in ({"radius_max": 1e300}, {"blur": 0.0}, {"radius_max": 0.1}, {"draw": "{}"}, {"width": 7}):
        assert spots.of_sample(meta | odd) in ([], drawn[0])


def test_a_lens_that_changes_over_the_picture_has_two_spots(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(RECIPE.replace("['polygon:5', 'ring:0.4']", "'cat_eye:0.7'"))
    recipe = bs.load_recipe(tmp_path / "recipe.yaml")
    draw = canonical_json(asdict(bs.draw_sample(recipe, 0)) | {"composed": {}})
    record = json.loads(draw)
    if record["camera"] is None:
        del record["camera"]
    meta = {"blur": 20.0, "radius_max": 9.0, "focus": 0.5, "aperture": "cat_eye:0.7", "draw": canonical_json(record)}
    spots = LensSpots(recipe)
    assert len(spots.of_sample(meta)) == 2, spots.fault


# --- nothing of a set becomes code


@pytest.fixture(scope="module")
def hostile(layout: Layout, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of a set in which every text that may be any text means harm."""
    folder = tmp_path_factory.mktemp("hostile")
    shutil.copytree(layout.root, folder / "set")
    bad = Layout(folder / "set")
    record = json.loads(bad.dataset.read_text())
    record |= {"name": HOSTILE, "licence": HOSTILE, "made_with": {HOSTILE: {HOSTILE: [HOSTILE]}}}
    record["identity"] = dict(record["identity"])
    for item in record["fields"].values():
        item.update(member=HOSTILE, about=HOSTILE, decode=HOSTILE)
    bad.dataset.write_text(json.dumps(record))
    lines = [
        json.loads(line) | {"licence": HOSTILE, "kind": HOSTILE, "file": HOSTILE}
        for line in bad.assets.read_text().splitlines()
    ]
    bad.assets.write_text("".join(canonical_json(line) + "\n" for line in lines))
    line = {"kind": HOSTILE, "reason": HOSTILE, "name": HOSTILE, "message": HOSTILE}
    bad.quarantine.write_text(
        canonical_json(line) + "\n" + canonical_json(line | {"kind": "sample", "key": HOSTILE}) + "\n"
    )
    bad.recipe.write_text(bad.recipe.read_text() + f"# {HOSTILE}\n")
    event = {"time": "2026-01-02T03:04:05+0000", "host": HOSTILE, "pid": 1, "event": "died", "cause": HOSTILE}
    append_line(bad.logs / "events.jsonl", json.dumps(event))
    write_report(bad.root, folder / "page.html")
    return (folder / "page.html").read_text(encoding="utf-8")


def test_texts_of_a_set_stay_text(hostile: str) -> None:
    page = Page(hostile)
    tags = Counter(tag for tag, _ in page.elements)
    assert tags["script"] == tags["style"] == 1
    assert set(tags) <= {
        "html", "head", "meta", "title", "link", "style", "body", "script", "div", "header", "main", "nav", "section",
        "footer", "article", "h1", "h2", "h3", "p", "a", "b", "br", "code", "pre", "span", "dl", "dt", "dd", "table",
        "thead", "tbody", "tr", "th", "td", "details", "summary", "figure", "figcaption", "img", "canvas", "input",
        "button", "output", "svg", "rect", "line", "polygon", "text",
    }  # fmt: skip
    assert page.text.count("alert(1)") > 20
    assert "\u202e" not in hostile
    for tag, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on") or name in {"style", "srcdoc", "action"}], tag
        for name in ("src", "href"):
            assert re.match(r"data:image/(webp|png);base64,|data:,$|#\w+$", attributes.get(name) or "#x"), (
                tag,
                attributes,
            )


RECORDS = {
    "words": {"aperture": HOSTILE + "\ud800", "assets": [HOSTILE, "\udfff"]},
    "large": {"blur": 1e308, "focus": -1e308, "radius_max": 1e308},
    "many assets": {"assets": [f"{number}" for number in range(5000)]},
    "no draw": {"draw": "[]"},
    "draw": {"draw": canonical_json({
        "scene": {"kind": "layers", "foregrounds": [7, {"plane": 3}, {"plane": {"d": 10**400}}], "background": []},
        "camera": {"f_number": True, "near_m": "1"},
        "degradation": {"steps": [3, {"kind": []}, {"kind": HOSTILE[:39], HOSTILE: HOSTILE, "a": {"b": [], "c": 1e300}},
                                  *[{"kind": "k", f"name {place}": place} for place in range(300)]]},
    })},
}  # fmt: skip
"""What the record of a sample may say, its marker and index fitting, and each ends as a page or as one error."""


@pytest.mark.parametrize("name", RECORDS)
@pytest.mark.filterwarnings("error")
def test_records_that_mean_harm(name: str, layout: Layout, tmp_path: Path) -> None:
    shutil.copytree(layout.root, tmp_path / "set")
    change_meta(Layout(tmp_path / "set"), **RECORDS[name])
    write_report(tmp_path / "set", tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    page = Page(text)
    assert len(page.all("script")) == len(page.all("style")) == 1
    assert len(text) < 2_000_000
    assert len(page.all("figure")) < 140


@pytest.mark.parametrize("scale", [0.0, -1.0, 5e-324, 1e308])
@pytest.mark.parametrize("name", ["defocus_scale", "disparity_scale"])
def test_a_scale_that_is_none_is_an_error_of_the_set(name: str, scale: float, tmp_path: Path) -> None:
    made = make_dataset(tmp_path / "set", {"train": 1}, ShardSpec(samples=1, fields=["defocus", "disparity"]))
    change_meta(made, **{name: scale})
    with pytest.raises(bs.DataError, match=rf"train-000000.tar: {name} must be .*, got {re.escape(f'{scale:g}')}"):
        write_report(made.root, tmp_path / "page.html")


def test_scales_of_one_set_are_the_same(layout: Layout, tmp_path: Path) -> None:
    shutil.copytree(layout.root, tmp_path / "set")
    change_meta(Layout(tmp_path / "set"), defocus_scale=2.0)
    with pytest.raises(bs.DataError, match="defocus has another scale than the samples before it"):
        write_report(tmp_path / "set", tmp_path / "page.html")


def record_of(draw: dict, **changes: object) -> dict:
    return noise_sample("train", 0).meta | {"draw": canonical_json(draw)} | changes


def test_what_records_say_is_kept_in_bounds() -> None:
    """A record has at most 16 MB, and 20,000 are read."""
    numbers, long = RecordNumbers(), "n" * 10_000
    step = {"kind": "k", long: 1, "a": {long: 2, "x": 3}, "b": {"x": 4}, "w": long}
    final = {"kind": "final", "q": 1}
    for place in range(3):
        draw = {"degradation": {"steps": [step, *[final] * 30]}}
        numbers.add(record_of(draw, assets=[f"{place}{long}", "short"]), {})
    assert numbers.assets == {"short": 3}
    names = [*numbers.series, *numbers.words, *(word for counter in numbers.words.values() for word in counter)]
    assert max(map(len, names)) < 150
    assert len(numbers.series["k 1: x"]) == 3
    assert len(numbers.series["final: q"]) == 3


def test_nested_tables_become_short_names() -> None:
    value: object = {f"leaf {place}": "x" * 10_000 for place in range(100)}
    for _ in range(60):
        value = {"k" * 10_000: value}
    leaves = flat(value)
    assert len(leaves) == 60
    assert max(len(name) + len(text) for name, text in leaves) <= 1000
    assert flat({"a": {"b": 1, "c": [None, 2]}, "d": "e"}) == [("a.b", "1"), ("a.c.0", ""), ("a.c.1", "2"), ("d", "e")]


def test_a_leaf_that_is_a_number_or_a_word_is_drawn_as_both(layout: Layout, tmp_path: Path) -> None:
    shutil.copytree(layout.root, tmp_path / "set")
    draw = json.loads(samples_of(layout)[0].meta["draw"])
    draw["degradation"]["steps"] = [{"kind": "jpeg", "quality": "best"}]
    change_meta(Layout(tmp_path / "set"), draw=canonical_json(draw))
    write_report(tmp_path / "set", tmp_path / "page.html")
    page = Page((tmp_path / "page.html").read_text())
    assert sum(_chart(page, "Histogram of jpeg 1: quality")[0]) == 5
    assert page.words.count("jpeg 1: quality") == 2
    assert "best" in page.words


def test_a_card_keeps_no_draw() -> None:
    sample = noise_sample("train", 0)
    long = dict(sample.meta) | {"assets": [str(place) for place in range(50)], "aperture": "a" * 10_000}
    view = view_sample(bs.Sample(sample.key, long, sample.arrays), 10_000)
    assert len(json.dumps(dict(view.meta))) < 3000
    assert (len(view.meta["assets"]), view.assets) == (6, 50)


def test_the_policy_allows_the_own_style_and_script_alone(hostile: str) -> None:
    page = Page(hostile)
    (policy,) = [item["content"] for item in page.all("meta") if item.get("http-equiv") == "Content-Security-Policy"]
    sums = {tag: base64.b64encode(hashlib.sha256(code.encode()).digest()).decode() for tag, code in page.code.items()}
    assert policy == (
        f"default-src 'none'; img-src data:; style-src 'sha256-{sums['style']}'; script-src 'sha256-{sums['script']}'; "
        "base-uri 'none'; form-action 'none'"
    )
    assert not re.search(
        r"innerHTML|insertAdjacent|document\.write|eval|Function\(|fetch|XMLHttp|import", page.code["script"]
    )
    assert "url(" not in page.code["style"]
    assert "@import" not in page.code["style"]


def test_what_is_damaged_beside_the_shards_is_named(layout: Layout, tmp_path: Path) -> None:
    shutil.copytree(layout.root, tmp_path / "set")
    bad = Layout(tmp_path / "set")
    bad.assets.write_text("[]\n")
    bad.quarantine.write_text("{\n")
    bad.recipe.write_bytes(b"\xff")
    (bad.logs / "events.jsonl").unlink()
    os.mkfifo(bad.logs / "events.jsonl")
    bad.extensions.write_text("7")
    write_report(bad.root, tmp_path / "page.html")
    text = Page((tmp_path / "page.html").read_text()).text
    for words in (
        "a line is no table",
        "quarantine.jsonl: a line: is not JSON",
        "is no UTF-8 text",
        "is a FIFO, not a file",
    ):
        assert words in text, words
    (bad.root / "train" / "train-000001.tar").write_bytes(b"")
    with pytest.raises(bs.DataError, match="train-000001"):
        write_report(bad.root, tmp_path / "page.html")


def test_an_extended_set_is_made_again_step_by_step(layout: Layout, tmp_path: Path) -> None:
    shutil.copytree(layout.root, tmp_path / "set")
    extended = Layout(tmp_path / "set")
    extended.extensions.write_text('[{"train": 1, "val": 1}, {"train": 3, "val": 1}]')
    draw = {"kind": "sample", "key": "train-000000000", "reason": "killed", "message": "signal SIGKILL", "attempt": 0}
    extended.quarantine.write_text(canonical_json(draw) + "\n")
    write_report(extended.root, tmp_path / "page.html")
    text = Page((tmp_path / "page.html").read_text()).text
    assert (
        "bokehsynth generate recipe.yaml --out again --quarantine quarantine.jsonl --set samples.train=1 "
        "--set samples.val=1\nbokehsynth extend again --samples 4\nbokehsynth extend again --samples 6"
    ) in text
    assert "samplekilled1" in text
    assert "train-000000000, draw 0signal SIGKILL" in text


# --- the log


def test_throughput_holds_every_sample(layout: Layout, page: Page) -> None:
    facts = read_events([layout.logs / "events.jsonl"])
    first, last = facts.span
    assert last - first == 31 - (10 - 8)
    assert sum(facts.throughput()) * (last - first) / 60 == pytest.approx(6)
    assert facts.throughput()[0] == pytest.approx(2 / 8)  # one shard alone
    assert facts.hosts["node-a"].samples == 4
    assert facts.hosts["node-b"].seconds == 8
    assert "node-a343 kB" in page.text  # shards, samples, bytes
    assert "By the log: 6 samples in 29 seconds, from 2026-01-02 03:04 to 2026-01-02 03:04 UTC." in page.text


@pytest.mark.parametrize(
    "line",
    ["{", "[]", "7", '{"event": "committed"}', "\u00e9" * 70_000, '{"time": 3, "event": "died", "host": "a"}',
     '{"time": "0001-01-01T00:00:00+0000", "event": "died", "host": "a", "cause": "b"}',
     COMMITTED.replace("8.0", "1e300"), COMMITTED.replace('"samples": 2', '"samples": -5')],
    ids=range(9),
)  # fmt: skip
def test_lines_that_are_no_events_are_counted(line: str, tmp_path: Path) -> None:
    good = '{"time": "2026-01-02T03:04:05+0000", "event": "died", "host": "a", "cause": "signal SIGKILL"}'
    (tmp_path / "events.jsonl").write_text(f"{good}\n{line}\n{good}\n")
    facts = read_events([tmp_path / "events.jsonl"])
    assert facts.passed_over >= 1
    assert facts.causes["signal SIGKILL"] == 2
    assert facts.commits == []


def test_a_long_log_is_read_from_its_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text(f"{COMMITTED}\n" * 10)
    assert read_events([path]).fault == ""
    for bound, most in (("MAX_BYTES", 5 * len(COMMITTED) + 5), ("MAX_LINES", 5)):
        with monkeypatch.context() as patch:
            patch.setattr(event_log_facts, bound, most)
            facts = read_events([path])
        assert (len(facts.commits), f"only its first {most}" in facts.fault) == (5, True)
    with monkeypatch.context() as patch:
        patch.setattr(event_log_facts, "MAX_LINES", 10)
        assert read_events([path]).fault == ""


# --- the command


def test_the_same_set_makes_the_same_page(layout: Layout, tmp_path: Path) -> None:
    for name in ("a.html", "b.html"):
        write_report(layout.root, tmp_path / name)
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_the_lines_of_the_documents(layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    docs = Path(__file__).parents[2] / "docs"
    lines = [
        line for page in ("report.md", "dataset-format.md") for line in (docs / page).read_text().splitlines()
        if line.startswith(("bokehsynth report", "bokehsynth export"))
    ]  # fmt: skip
    assert len(lines) == 5
    for line in lines:
        _, command, place, *rest = shlex.split(line, comments=True)
        assert place in {"demo", "/data/set", "out"}
        assert CliRunner().invoke(cli, [command, str(layout.root), *rest]).exit_code == 0
    assert {path.name for path in tmp_path.iterdir()} == {"report.html", "set.html", "files", "rows", "streams"}


def test_the_command(layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(cli, ["report", str(layout.root), "--samples", "2"])
    assert (done.exit_code, done.output[:17]) == (0, "wrote report.html"[:17])
    assert len(Page((tmp_path / "report.html").read_text()).all("article")) == 2
    for line, error, words in (
        (["report", str(layout.root), "--out", "page.pdf"], bs.UsageError, "must end in .html"),
        (["report", str(layout.root), "--out", "no/page.html"], bs.UsageError, "there is no folder"),
        (["report", str(tmp_path / "none")], bs.DataError, "no such data set"),
    ):
        with pytest.raises(error, match=words):
            CliRunner().invoke(cli, line, catch_exceptions=False)

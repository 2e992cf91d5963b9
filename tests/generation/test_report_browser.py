"""The report in Chromium: it loads, the slider moves, values under the pointer are the shards', nothing leaves."""

import io
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.shard_samples import IDENTITY, SCALES, make_sample, write_dataset_files

import bokehsynth as bs
from bokehsynth.generation.report.write import write_report
from bokehsynth.schema import ShardSpec
from bokehsynth.shards import Layout, plan_shards, write_shard

CHROMIUM = shutil.which("chromium")
HEIGHT, WIDTH = 600, 540
"""Larger than a page shows them, so that a value of a map stands for several pixels."""
COLORS = {"lq": (200, 0, 0), "aif": (0, 200, 0), "hq": (0, 0, 200)}
"""Each picture is of one colour, so that a screenshot tells which one is seen."""


@dataclass
class Opened:
    """A page in the browser, and what went wrong with it."""

    page: Any
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    """Addresses that were asked for, data: left out."""

    def color(self, selector: str, across: float) -> str:
        """Which of the pictures is seen at this share of an element's width."""
        shot = np.asarray(Image.open(io.BytesIO(self.page.locator(selector).first.screenshot())).convert("RGB"))
        seen = shot[shot.shape[0] // 2, round(across * (shot.shape[1] - 1))].astype(int)
        return min(COLORS, key=lambda name: int(np.abs(seen - COLORS[name]).sum()))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("browser") / "set"
    layout, (plan,) = Layout(root), plan_shards("train", 2, 2)
    samples = []
    for index in range(2):
        sample = make_sample("train", index, HEIGHT, WIDTH, ("defocus", "disparity"))
        flat = {name: np.full((HEIGHT, WIDTH, 3), color, np.uint8) for name, color in COLORS.items()}
        samples.append(bs.Sample(sample.key, sample.meta, flat | dict(sample.arrays)))
    write_shard(layout, plan, iter(samples), ShardSpec(samples=2), IDENTITY)
    write_dataset_files(layout, {"train": [plan]}, name="</title><script>alert(1)</script>")
    write_report(root, root.with_suffix(".html"))
    return root


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("no Chromium")
    playwright = pytest.importorskip("playwright.sync_api", reason="no Chromium")
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield chromium
        chromium.close()


@pytest.fixture
def opened(browser: Any, data: Path, request: pytest.FixtureRequest) -> Iterator[Opened]:
    width, scheme = getattr(request, "param", (1280, "light"))
    context = browser.new_context(viewport={"width": width, "height": 1300}, color_scheme=scheme)
    found = Opened(context.new_page())
    found.page.on("console", lambda message: found.said.append(message.text))
    found.page.on("pageerror", lambda error: found.said.append(str(error)))
    found.page.on("dialog", lambda dialog: (found.said.append(dialog.message), dialog.dismiss()))
    found.page.on("request", lambda asked: found.asked.append(asked.url))
    found.page.goto(data.with_suffix(".html").as_uri())
    found.page.wait_for_selector(".sample[data-ready]")
    yield found
    assert found.said == []
    assert {url for url in found.asked if not url.startswith("data:")} == {data.with_suffix(".html").as_uri()}
    context.close()


@pytest.mark.parametrize("opened", [(1280, "light"), (400, "dark")], indirect=True, ids=["wide", "narrow"])
def test_it_loads_and_fits(opened: Opened, data: Path) -> None:
    page = opened.page
    assert page.evaluate("document.documentElement.scrollWidth === innerWidth")
    assert page.title() == "</title><script>alert(1)</script>"
    red, green, blue = map(
        int, re.findall(r"\d+", page.evaluate("getComputedStyle(document.body).backgroundColor"))[:3]
    )
    assert (red + green + blue > 600) == (page.viewport_size["width"] == 1280)
    assert page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
    # the canvas shows the colours of the map: inferno and viridis both end in yellow, where red is most
    reds = page.evaluate(
        "[...document.querySelectorAll('.sample:first-child canvas')].map(canvas => "
        "{ const d = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data; "
        "return d.filter((_, i) => i % 4 === 0).reduce((a, b) => a + b) / (d.length / 4) })"
    )
    assert len(reds) == 2
    assert min(reds) > 40


def test_the_slider_moves_by_mouse_and_keys(opened: Opened) -> None:
    page, value = opened.page, lambda: int(page.locator(".slide input").first.input_value())
    assert value() == 150
    assert [opened.color(".stack", share) for share in (0.2, 0.8)] == ["hq", "aif"]
    page.locator(".stops button").first.click()
    assert (value(), opened.color(".stack", 0.2), opened.color(".stack", 0.8)) == (0, "lq", "lq")
    page.keyboard.press("Shift+Tab")
    assert page.evaluate("document.activeElement === document.querySelector('.slide input')")
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    assert value() == 3
    page.keyboard.press("End")
    assert (value(), opened.color(".stack", 0.2), opened.color(".stack", 0.8)) == (200, "hq", "hq")
    slider = page.locator(".slide input").first.bounding_box()
    page.mouse.click(slider["x"] + slider["width"] / 4, slider["y"] + slider["height"] / 2)
    assert 40 < value() < 60
    assert [opened.color(".stack", share) for share in (0.2, 0.8)] == ["aif", "lq"]
    stack = page.locator(".stack").first.bounding_box()
    page.mouse.move(stack["x"] + 0.5 * stack["width"], stack["y"] + 30)
    page.mouse.down()
    page.mouse.move(stack["x"] + 0.9 * stack["width"], stack["y"] + 60, steps=3)
    page.mouse.up()
    assert 88 <= value() <= 92
    assert [opened.color(".stack", share) for share in (0.85, 0.95)] == ["aif", "lq"]
    assert page.locator(".stack").nth(1).locator(".tag.left").inner_text() == "hq"  # the other sample stays


def test_the_values_under_the_pointer_are_those_of_the_shards(opened: Opened, data: Path) -> None:
    page, sample = opened.page, bs.open_dataset(data)[0]
    readout = page.locator(".readout").first

    def check() -> tuple[int, int]:
        words = readout.inner_text()
        found = re.fullmatch(r"at (\d+), (\d+) · blur radius (\S+) px · disparity (\S+)", words)
        assert found, words
        x, y, radius, disparity = found.groups()
        place = int(y), int(x)
        assert abs(float(radius) - sample.defocus[place]) <= 0.005 + 1e-6
        assert abs(float(disparity) - sample.disparity[place]) <= 0.00005 + 1e-7
        return int(x), int(y)

    for selector in (".stack", ".pane >> nth=0", ".pane >> nth=1"):
        box = page.locator(selector).first.bounding_box()
        for across, down in ((0.02, 0.02), (0.31, 0.72), (0.98, 0.98)):
            page.mouse.move(box["x"] + across * box["width"], box["y"] + down * box["height"])
            x, y = check()
            # two pixels of the sample for one of the page, and one of the screen
            assert abs(x - across * WIDTH) < 6
            assert abs(y - down * HEIGHT) < 6
    page.mouse.move(2, 2)
    assert "Point at a picture" in readout.inner_text()
    page.locator(".pane canvas").first.focus()
    before = check()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+ArrowUp")
    after = check()
    assert 1 <= after[0] - before[0] <= 2
    assert 10 <= before[1] - after[1] <= 13
    assert SCALES["defocus"] * 65535 == pytest.approx(24)

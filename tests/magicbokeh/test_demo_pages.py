"""The demo in Chromium: a click moves the focus, the picture changes where it should, nothing leaves this computer."""

import csv
import io
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.demo_pages import painting_pipeline, serving, two_halves

from magicbokeh.demo.server import DemoOptions
from magicbokeh.inference import infer

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
WAIT = 60_000
"""Milliseconds until something that should happen counts as not happening."""


BEFORE = [217, 33]
"""Brightness of the halves of a picture as it was opened."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures to open, and those of two methods for two photographs."""
    root = tmp_path_factory.mktemp("demo")
    two_halves(root / "near-left.png")
    two_halves(root / "tall.png", near_left=False, size=(300, 200))
    (root / "broken.png").write_bytes(b"no picture")
    for name, left in (("ours", True), ("theirs", False)):
        (root / name).mkdir()
        for photo in ("one", "two"):
            two_halves(root / name / f"{photo}.png", left)
    return root


@pytest.fixture(scope="module")
def address(place: Path) -> Iterator[str]:
    pytest.importorskip("playwright.sync_api", reason="no Chromium")
    patch = pytest.MonkeyPatch()
    patch.setattr(infer, "open_for_use", lambda *_: painting_pipeline())
    methods = tuple(f"{name}={place / name}" for name in ("ours", "theirs"))
    options = DemoOptions(compare=methods, votes=place / "votes.csv", examples=False)
    with serving(options, place / "served") as url:
        yield url
    patch.undo()


@dataclass
class Opened:
    """A page in the browser, what went wrong with it, and what it asked for."""

    page: Any
    address: str
    faults: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def says(self, text: str, selector: str = "#status") -> None:
        self.page.wait_for_function(
            "([where, text]) => document.querySelector(where)?.innerText.includes(text)", arg=[selector, text],
            timeout=WAIT,
        )  # fmt: skip

    def choose(self, path: Path, says: str) -> None:
        if self.page.locator("#drop button[aria-label=Clear], #drop button[aria-label='Remove this file']").count():
            self.page.locator("#drop button").first.click()
        self.page.set_input_files("#drop input[type=file]", str(path))
        self.says(says)

    def click(self, across: float, down: float) -> None:
        """Click the picture at these shares of its size, and wait until another result is there."""
        picture, before = self.page.locator("#view img"), self.sources()
        picture.scroll_into_view_if_needed()
        box = picture.bounding_box()
        picture.click(position={"x": across * box["width"], "y": down * box["height"]})
        self.sources(before)
        self.says("where you clicked")

    def sources(self, other_than: list[str] | None = None) -> list[str]:
        """The addresses of the slider's two pictures, once they are there."""
        found = self.page.wait_for_function(
            "before => { const found = [...document.querySelectorAll('#result img')].map(image => image.src); "
            "return found.length == 2 && found.join() != before.join() ? found : null }",
            arg=other_than or [],
            timeout=WAIT,
        )
        return list(found.json_value())

    def after(self) -> list[float]:
        """Brightness of the result's left and right third, as the server has it; both pictures are fetched."""
        pictures = [self.page.request.get(source).body() for source in self.sources()]
        found = [halves(np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)) for data in pictures]
        before = [one for one in found if one == pytest.approx(BEFORE, abs=4)]
        assert len(before) == 1, found
        return next(one for one in found if one is not before[0])


@pytest.fixture(scope="module")
def browser(address: str) -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield chromium
        chromium.close()


@pytest.fixture(params=[1280, 390], ids=["wide", "phone"])
def opened(browser: Any, address: str, request: pytest.FixtureRequest) -> Iterator[Opened]:
    context = browser.new_context(viewport={"width": request.param, "height": 850})
    found = Opened(context.new_page(), address)
    found.page.on("pageerror", lambda error: found.faults.append(str(error)))
    found.page.on("request", lambda asked: found.asked.append(asked.url))
    yield found
    assert found.faults == []
    assert {url.split(":", 1)[0] for url in found.asked if not url.startswith(address)} <= {"data", "blob"}
    assert found.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    context.close()


def halves(picture: Any) -> list[float]:
    """Mean brightness of the left and the right third."""
    third = picture.shape[1] // 3
    return [float(picture[:, :third].mean()), float(picture[:, -third:].mean())]


def test_a_click_moves_the_focus(opened: Opened, place: Path) -> None:
    opened.page.goto(opened.address)
    opened.choose(place / "near-left.png", "320 × 240 px. Focus set by the model")
    assert opened.after() == pytest.approx([217, 0], abs=4), "auto: the near half is sharp, the far one painted black"
    for across, down, expected in ((0.9, 0.3, [0, 33]), (0.1, 0.9, [217, 0]), (0.6, 0.05, [0, 33])):
        opened.click(across, down)
        assert opened.after() == pytest.approx(expected, abs=4)
    opened.page.locator("#wants-maps input").check()
    opened.page.wait_for_selector("#depth img", timeout=WAIT)
    opened.page.wait_for_selector("#defocus img", timeout=WAIT)
    opened.page.locator("#full").click()
    opened.says("320 × 240", "#download")
    with opened.page.expect_download() as download:
        opened.page.locator("#download").click()
    with Image.open(download.value.path()) as picture:
        assert picture.size == (320, 240)
        assert halves(np.asarray(picture).astype(int)) == pytest.approx([0, 33], abs=4)
    opened.choose(place / "broken.png", "broken.png: is not a picture that can be read")
    opened.choose(place / "tall.png", "200 × 300 px")


def test_votes_are_blind_and_counted(opened: Opened, place: Path) -> None:
    page, votes = opened.page, place / "votes.csv"
    already = len(votes.read_text().splitlines()) if votes.exists() else 1
    page.goto(f"{opened.address}/compare")
    for number in (1, 2):
        opened.says(f"Photograph {number} of 2", "#question")
        text = page.locator("body").inner_text() + "".join(
            page.locator("img").evaluate_all("images => images.map(image => image.src)")
        )
        assert "ours" not in text
        assert "theirs" not in text
        page.locator(f"#best-{number - 1}").click()
    opened.says("95 % interval", "#shares")
    rows = list(csv.DictReader(votes.open(encoding="utf-8")))
    assert len(rows) == already + 1
    for row, position in zip(rows[-2:], (0, 1), strict=True):
        assert row["chosen"] == row["shown"].split("|")[position]
    assert {row["photo"] for row in rows[-2:]} == {"one", "two"}

"""The page of blind preferences without a browser: a vote is one for the pictures that were shown."""

from pathlib import Path
from typing import Any

import pytest
from support.demo_pages import two_halves

from magicbokeh.demo.votes import VoteFile, common_photos, read_methods

gr = pytest.importorskip("gradio")
PHOTOS = ("one", "two", "three")


class Page:
    """The handlers of a page over three photographs by two methods."""

    def __init__(self, root: Path) -> None:
        from magicbokeh.demo.compare_page import build_compare_page

        for method in "ab":
            (root / method).mkdir()
            for photo in PHOTOS:
                two_halves(root / method / f"{photo}.png")
        self.photos = common_photos(read_methods([f"{method}={root / method}" for method in "ab"]))
        self.votes = VoteFile(root / "votes.csv")
        with gr.Blocks(analytics_enabled=False) as pages:
            build_compare_page(self.photos, self.votes)
        self.handlers = {"begin": [], "chosen": []}
        for one in pages.fns.values():
            self.handlers[one.fn.__name__].append(one)

    def begin(self) -> Any:
        return self.handlers["begin"][0].fn()

    def choose(self, number: int, ballot: Any, heading: str) -> Any:
        return self.handlers["chosen"][number].fn(ballot, heading)


@pytest.fixture
def page(tmp_path: Path) -> Page:
    return Page(tmp_path)


def test_a_second_click_is_no_vote_for_pictures_that_were_not_seen(page: Page) -> None:
    first, heading, *_ = page.begin()
    second, *_ = page.choose(0, first, heading)
    assert second.place == 1
    page.choose(1, second, heading)  # the other button, before the new pictures were there
    assert [vote.photo for vote in page.votes.read()] == [first.questions[0][0]]
    assert {(one.concurrency_id, one.concurrency_limit) for one in page.handlers["chosen"]} == {("votes", 1)}


def test_a_photograph_that_cannot_be_shown_is_left_out(page: Page) -> None:
    first, heading, *_ = page.begin()
    broken = page.photos[first.questions[1][0]]["b"]
    broken.write_bytes(broken.read_bytes()[:60])  # the header alone
    third, heading, *pictures, _ = page.choose(0, first, heading)
    assert third.place == 2
    assert heading.splitlines()[0] == "Photograph 3 of 3"
    assert f"{broken.stem} is left out" in heading
    assert "/b/" not in heading
    assert all(picture.value is not None for picture in pictures[:2])
    ended, heading, *_, table = page.choose(1, third, heading)
    assert heading == "Thank you, these were all."
    assert "95 % interval" in table
    assert ended.place == 3
    assert broken.stem not in {vote.photo for vote in page.votes.read()}


def test_a_vote_that_is_not_kept_can_be_given_again(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    first, heading, *_ = page.begin()
    with monkeypatch.context() as patch:
        patch.setattr(page.votes, "path", page.votes.path / "no-folder")
        _, heading, *_ = page.choose(0, first, heading)
    assert "the vote was not kept" in heading
    second, *_ = page.choose(0, first, heading)
    assert second.place == 1
    assert len(page.votes.read()) == 1

"""The page of blind preferences: each question shows one photograph by all methods, in random order, without names."""

import random
import uuid
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import gradio as gr

from bokehsynth import BokehsynthError
from magicbokeh.demo.photo_session import shrunk, to_bytes
from magicbokeh.demo.votes import Vote, VoteFile, shares
from magicbokeh.inference.photo import open_photo


@dataclass(frozen=True)
class Ballot:
    """The questions of one visit and how far it came."""

    voter: str
    questions: tuple[tuple[str, tuple[str, ...]], ...]
    """Photograph and order of the methods of each."""
    place: int = 0

    def heading(self) -> str:
        """The first line of the text above the pictures; a vote counts for the question that its page showed."""
        return f"Photograph {self.place + 1} of {len(self.questions)}"


def new_ballot(photos: dict[str, dict[str, Path]], methods: list[str]) -> Ballot:
    """All photographs in random order, the methods of each in another."""
    chance = random.Random(uuid.uuid4().int)
    order = chance.sample(sorted(photos), len(photos))
    return Ballot(uuid.uuid4().hex[:8], tuple((photo, tuple(chance.sample(methods, len(methods)))) for photo in order))


def build_compare_page(photos: dict[str, dict[str, Path]], votes: VoteFile) -> None:
    """Lay the page out in the current Blocks."""
    methods = sorted(next(iter(photos.values())))
    gr.Markdown("# Which is best?\nThe same photograph by several methods. Choose the one you like best.")
    status = gr.Markdown(elem_id="question")
    ballot, pictures, buttons = gr.State(None), [], []
    with gr.Row(elem_classes="choices"):
        for number in range(len(methods)):
            with gr.Column(min_width=300, elem_classes="choice"):
                pictures.append(gr.Image(show_label=False, interactive=False, buttons=["fullscreen"], format="png"))
                buttons.append(gr.Button(f"{chr(ord('A') + number)} is best", elem_id=f"best-{number}"))
    table = gr.Markdown(elem_id="shares")
    shown = [ballot, status, *pictures, *buttons, table]

    def begin() -> Any:
        return ask(new_ballot(photos, methods))

    def ask(now: Ballot) -> Any:
        left_out = ""
        for place in range(now.place, len(now.questions)):
            photo, order = now.questions[place]
            try:
                found = [to_bytes(shrunk(open_photo(photos[photo][method]))) for method in order]
            except BokehsynthError:  # its text would tell the methods
                left_out += f"\n\n{photo} is left out: one of its pictures cannot be read."
                continue
            asked = replace(now, place=place)
            images = [gr.Image(picture, visible=True) for picture in found]
            return [asked, asked.heading() + left_out, *images, *[gr.Button(visible=True)] * len(methods), ""]
        gone: list[Any] = [gr.Image(value=None, visible=False)] * len(methods)
        gone += [gr.Button(visible=False)] * len(methods)
        ended = replace(now, place=len(now.questions))
        return [ended, f"Thank you, these were all.{left_out}", *gone, share_table(votes, methods)]

    def choose(number: int) -> Any:
        def chosen(now: Ballot | None, heading: str) -> Any:
            nothing = [gr.skip()] * len(shown)
            if now is None or now.place == len(now.questions) or heading.partition("\n")[0] != now.heading():
                return nothing  # a second click, at pictures that the first one has answered
            photo, order = now.questions[now.place]
            time = datetime.now(timezone.utc).isoformat(timespec="seconds")
            try:
                votes.add(Vote(time, now.voter, photo, "|".join(order), order[number]))
            except BokehsynthError as error:
                return [gr.skip(), f"{now.heading()}\n\n**This did not work:** {error}", *nothing[2:]]
            return ask(replace(now, place=now.place + 1))

        return chosen

    page = gr.context.Context.root_block
    assert page is not None
    page.load(begin, None, shown, show_progress="hidden")
    for number, button in enumerate(buttons):
        button.click(
            choose(number), [ballot, status], shown,
            show_progress="minimal", concurrency_id="votes", concurrency_limit=1,
        )  # fmt: skip


def share_table(votes: VoteFile, methods: list[str]) -> str:
    """The shares of all votes as a Markdown table."""
    try:
        kept = votes.read()
    except BokehsynthError as error:
        return f"**This did not work:** {error}"
    lines = ["| method | votes | share | 95 % interval |", "|---|---|---|---|"]
    lines += [
        f"| {one.method} | {one.votes} | {one.share:.0%} | {one.low:.0%} to {one.high:.0%} |"
        for one in shares(kept, methods)
    ]
    return "\n".join(lines)

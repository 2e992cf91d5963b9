"""The page of blind preferences: each question shows one photograph by all methods, in random order, without names."""

import random
import uuid
from dataclasses import dataclass
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
                pictures.append(gr.Image(show_label=False, interactive=False, buttons=["fullscreen"]))
                buttons.append(gr.Button(f"{chr(ord('A') + number)} is best", elem_id=f"best-{number}"))
    table = gr.Markdown(elem_id="shares")
    shown = [ballot, status, *pictures, *buttons, table]

    def begin() -> Any:
        return ask(new_ballot(photos, methods))

    def ask(now: Ballot) -> Any:
        if now.place == len(now.questions):
            gone: list[Any] = [gr.Image(value=None, visible=False)] * len(methods)
            gone += [gr.Button(visible=False)] * len(methods)
            return [now, "Thank you, these were all.", *gone, share_table(votes, methods)]
        photo, order = now.questions[now.place]
        try:
            found = [to_bytes(shrunk(open_photo(photos[photo][method]))) for method in order]
        except BokehsynthError as error:
            return [now, f"**This did not work:** {error}", *[gr.skip()] * (2 * len(methods) + 1)]
        images = [gr.Image(picture, visible=True) for picture in found]
        return [now, f"Photograph {now.place + 1} of {len(now.questions)}", *images,
                *[gr.Button(visible=True)] * len(methods), ""]  # fmt: skip

    def choose(number: int) -> Any:
        def chosen(now: Ballot | None) -> Any:
            if now is None or now.place == len(now.questions):
                return [gr.skip()] * len(shown)
            photo, order = now.questions[now.place]
            time = datetime.now(timezone.utc).isoformat(timespec="seconds")
            try:
                votes.add(Vote(time, now.voter, photo, "|".join(order), order[number]))
            except BokehsynthError as error:
                return [gr.skip(), f"**This did not work:** {error}", *[gr.skip()] * (2 * len(methods) + 1)]
            return ask(Ballot(now.voter, now.questions, now.place + 1))

        return chosen

    page = gr.context.Context.root_block
    assert page is not None
    page.load(begin, None, shown, show_progress="hidden")
    for number, button in enumerate(buttons):
        button.click(choose(number), ballot, shown, show_progress="minimal")


def share_table(votes: VoteFile, methods: list[str]) -> str:
    """The shares of all votes as a Markdown table."""
    lines = ["| method | votes | share | 95 % interval |", "|---|---|---|---|"]
    lines += [
        f"| {one.method} | {one.votes} | {one.share:.0%} | {one.low:.0%} to {one.high:.0%} |"
        for one in shares(votes.read(), methods)
    ]
    return "\n".join(lines)

"""The page on which the model is tried: choose a photograph, click what shall be sharp, compare, download."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from bokehsynth import BokehsynthError
from magicbokeh.demo.photo_session import OpenedPhoto, PhotoDesk, Preview, Settings, colored, marked, to_bytes

_ONE_AT_A_TIME: dict[str, Any] = {"concurrency_id": "model", "concurrency_limit": 1, "show_progress": "minimal"}
START = "Choose a photograph, or one of the scenes."


@dataclass(frozen=True)
class Visit:
    """What one visitor has open."""

    photo: OpenedPhoto
    point: tuple[float, float] | None = None


@dataclass(frozen=True)
class _Parts:
    """The components that handlers read and write."""

    visit: gr.State
    status: gr.Markdown
    view: gr.Image
    result: gr.ImageSlider
    blur: gr.Slider
    focus_range: gr.Slider
    wants_maps: gr.Checkbox
    maps: gr.Row
    depth: gr.Image
    defocus: gr.Image
    full: gr.Button
    download: gr.DownloadButton

    def controls(self) -> list[Any]:
        return [self.visit, self.blur, self.focus_range, self.wants_maps]

    def shown(self) -> list[Any]:
        return [
            self.visit,
            self.status,
            self.view,
            self.result,
            self.depth,
            self.defocus,
            self.maps,
            self.full,
            self.download,
        ]


def build_try_page(desk: PhotoDesk, examples: list[Path], folder: Path) -> None:
    """Lay the page out in the current Blocks; full-size results are written into `folder`."""
    gr.Markdown("# MagicBokeh\nRestore a photograph and blur what is out of focus. It is sent to no other service.")
    with gr.Row():
        drop = gr.File(label="Photograph", file_types=["image"], height=118, elem_id="drop", min_width=300)
        gallery = gr.Gallery(
            [str(path) for path in examples],
            label="Scenes to try",
            columns=5,
            height=118,
            object_fit="cover",
            allow_preview=False,
            interactive=False,
            buttons=[],
            visible=bool(examples),
            elem_id="examples",
            min_width=300,
        )
    status = gr.Markdown(START, elem_id="status")
    with gr.Row():
        view = gr.Image(label="Click what shall be sharp", visible=False, **_picture("view"))
        result = gr.ImageSlider(
            label="Before and after",
            visible=False,
            buttons=[],
            elem_id="result",
            max_height=900,
            min_width=300,
            format="png",
        )
    with gr.Row():
        blur = gr.Slider(0, 32, 16, step=1, label="Blur (0 restores only)", elem_id="blur", min_width=300)
        focus_range = gr.Slider(0, 0.3, 0, step=0.01, label="Depth that stays sharp", elem_id="range", min_width=300)
    with gr.Row():
        wants_maps = gr.Checkbox(label="Show depth and defocus", elem_id="wants-maps", min_width=300)
        full = gr.Button("Make it in full size", visible=False, elem_id="full", min_width=200)
        download = gr.DownloadButton("Download", visible=False, variant="primary", elem_id="download", min_width=200)
    with gr.Row(visible=False) as maps:
        depth = gr.Image(label="Depth: yellow is near", **_picture("depth"))
        defocus = gr.Image(label="Defocus: yellow is the largest blur", **_picture("defocus"))
    parts = _Parts(
        gr.State(None, time_to_live=3600), status, view, result, blur, focus_range, wants_maps, maps, depth, defocus,
        full, download,
    )  # fmt: skip
    _connect(parts, desk, drop, gallery, examples, folder)


def _picture(name: str) -> dict[str, Any]:
    """The options of a picture that is looked at; PNG, as gradio's WebP changes the pixels that are compared."""
    return {"interactive": False, "buttons": [], "elem_id": name, "min_width": 300, "format": "png"}


def _connect(
    parts: _Parts, desk: PhotoDesk, drop: gr.File, gallery: gr.Gallery, examples: list[Path], folder: Path
) -> None:
    rest = [parts.blur, parts.focus_range, parts.wants_maps]

    def opened(path: str | None, *controls: Any) -> Any:
        if path is None:
            return _nothing()
        return _update(desk, lambda: Visit(desk.open(Path(path))), *controls)

    def example(event: gr.SelectData, *controls: Any) -> Any:
        return opened(str(examples[event.index]), *controls)

    def clicked(visit: Visit | None, blur: float, focus_range: float, maps: bool, event: gr.SelectData) -> Any:
        if visit is None:
            return _nothing()
        height, width = visit.photo.preview.shape[:2]
        x, y = event.index
        point = (min(1.0, (x + 0.5) / width), min(1.0, (y + 0.5) / height))
        return _update(desk, lambda: Visit(visit.photo, point), blur, focus_range, maps)

    def changed(visit: Visit | None, *controls: Any) -> Any:
        return _nothing() if visit is None else _update(desk, lambda: visit, *controls)

    def written(visit: Visit | None, blur: float, focus_range: float, _: bool) -> Any:
        if visit is None:
            return gr.skip(), gr.skip()
        try:
            path = desk.write_full(visit.photo, Settings(visit.point, blur, focus_range), folder)
        except BokehsynthError as error:
            return _fault(error), gr.skip()
        height, width = visit.photo.size
        return gr.skip(), gr.DownloadButton(f"Download {width} × {height} px", value=str(path), visible=True)

    drop.change(opened, [drop, *rest], parts.shown(), **_ONE_AT_A_TIME)
    gallery.select(example, rest, parts.shown(), **_ONE_AT_A_TIME)
    parts.view.select(clicked, parts.controls(), parts.shown(), trigger_mode="always_last", **_ONE_AT_A_TIME)
    for control in (parts.blur, parts.focus_range):
        control.release(changed, parts.controls(), parts.shown(), trigger_mode="always_last", **_ONE_AT_A_TIME)
    parts.wants_maps.change(changed, parts.controls(), parts.shown(), **_ONE_AT_A_TIME)
    parts.full.click(written, parts.controls(), [parts.status, parts.download], **_ONE_AT_A_TIME)


def _update(
    desk: PhotoDesk, get_visit: Callable[[], Visit], blur: float, focus_range: float, maps: bool
) -> tuple[Any, ...]:
    """What all components show after a change; an error of the photograph or the settings goes into the status line."""
    try:
        visit = get_visit()
        found = desk.preview(visit.photo, Settings(visit.point, blur, focus_range))
    except BokehsynthError as error:
        return (gr.skip(), _fault(error), *(gr.skip() for _ in range(7)))
    before = to_bytes(visit.photo.preview)
    depth = colored(visit.photo.disparity, 1.0) if maps else None
    defocus = colored(found.defocus, float(found.defocus.max())) if maps else None
    return (
        visit,
        _said(found, visit),
        gr.Image(marked(visit.photo.preview, visit.point), visible=True),
        gr.ImageSlider((before, found.picture), visible=True),
        depth,
        defocus,
        gr.Row(visible=maps),
        gr.Button(visible=True),
        gr.DownloadButton(visible=False),
    )


def _said(found: Preview, visit: Visit) -> str:
    """The status line of a result."""
    height, width = visit.photo.size
    if found.focus is None:
        return f"{width} × {height} px, restored without blur."
    place = "set by the model; click the picture to move it" if visit.point is None else "where you clicked"
    share = float(found.defocus.max()) / min(found.defocus.shape)
    return (
        f"{width} × {height} px. Focus {place}, at disparity {sum(found.focus) / 2:.2f} (0 far, 1 near); "
        f"blur up to {share:.1%} of the shorter side."
    )


def _fault(error: BokehsynthError) -> str:
    """The status line of an error; the folder that an upload came to lie in tells a visitor nothing."""
    text = str(error)
    head, colon, tail = text.partition(": ")
    return f"**This did not work:** {Path(head).name if '/' in head else head}{colon}{tail}"


def _nothing() -> tuple[Any, ...]:
    return tuple(gr.skip() for _ in range(9))

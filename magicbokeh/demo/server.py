"""Serves the pages on this computer: no analytics, nothing loaded from elsewhere, no file that outlives the program."""

import os
import signal
import socket
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bokehsynth import UsageError
from magicbokeh.demo.request_guard import only_from_here

_MOST_UPLOAD = "256mb"


@dataclass(frozen=True, kw_only=True)
class DemoOptions:
    """The options of the command, by its names."""

    model: str | None = None
    depth_model: str | None = None
    compare: tuple[str, ...] = ()
    votes: Path = Path("votes.csv")
    host: str = "127.0.0.1"
    port: int = 7860
    device: str = "auto"
    examples: bool = True
    report: Callable[[str], None] = field(default=print)
    """Receives the line with the address."""


def run_demo(options: DemoOptions) -> None:
    """Serve until Ctrl-C, SIGTERM or SIGHUP. UsageError where options are wrong or the port is taken."""
    with (
        unwinding_on_signals() as servers,
        listening(options.host, options.port) as listener,
        tempfile.TemporaryDirectory(prefix="magicbokeh-") as folder,
    ):
        server = make_server(options, Path(folder))
        servers.append(server)
        address = f"http://{options.host}:{listener.getsockname()[1]}"
        options.report(f"{address}  (Ctrl-C ends it)")
        server.run(sockets=[listener])


def make_server(options: DemoOptions, folder: Path) -> Any:
    """The uvicorn server of both pages; uploads and results lie in `folder`."""
    quiet_gradio(folder)
    try:
        import fastapi
        import gradio as gr
        import uvicorn
    except ImportError as error:
        raise UsageError(f"demo: needs gradio ({error}): pip install 'bokehsynth[demo]'") from None
    pages = build_pages(options, folder)
    pages.has_launched = True  # until then gradio opens any file that a request names, and mounting does not set it
    app = gr.mount_gradio_app(
        fastapi.FastAPI(openapi_url=None),
        pages,
        "",
        server_name=options.host,
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        enable_monitoring=False,
        max_file_size=_MOST_UPLOAD,
        theme=gr.themes.Base(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]),
        css_paths=[Path(__file__).with_name("page.css")],
    )
    return uvicorn.Server(uvicorn.Config(only_from_here(app), log_level="error", timeout_graceful_shutdown=1))


def build_pages(options: DemoOptions, folder: Path) -> Any:
    """The Blocks: the page to try the model on and, with `--compare`, the one that asks for preferences."""
    import gradio as gr

    from magicbokeh.demo.compare_page import build_compare_page
    from magicbokeh.demo.example_scenes import write_examples
    from magicbokeh.demo.photo_session import PhotoDesk
    from magicbokeh.demo.try_page import build_try_page
    from magicbokeh.demo.votes import VoteFile, check_pictures, common_photos, read_methods
    from magicbokeh.inference.infer import open_for_use

    methods = read_methods(options.compare)
    photos = common_photos(methods) if methods else {}
    check_pictures(photos)
    votes = VoteFile(options.votes) if methods else None
    desk = PhotoDesk(open_for_use(options.model, options.depth_model, options.device))
    with gr.Blocks(title="MagicBokeh", analytics_enabled=False, fill_width=True) as pages:
        gr.Navbar(main_page_name="Try it", visible=bool(methods))
        build_try_page(desk, write_examples(folder) if options.examples else [], folder)
    if votes is not None:
        with pages.route("Which is best?", "/compare"):
            gr.Navbar(main_page_name="Try it")
            build_compare_page(photos, votes)
    return pages


def quiet_gradio(folder: Path) -> None:
    """Tell gradio, before it is imported, to send nothing and to keep its files in `folder`; its warnings about pandas,
    about what it switches off itself and about event loops that it leaves are not for users.
    """
    warnings.filterwarnings("ignore", module=r"gradio(\.|$)")
    warnings.filterwarnings("ignore", "unclosed event loop", ResourceWarning)
    os.environ |= {
        "GRADIO_ANALYTICS_ENABLED": "False",
        "GRADIO_TEMP_DIR": str(folder / "gradio"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }


class _Ended(BaseException):
    """A signal that came before there was a server to end."""


@contextmanager
def unwinding_on_signals() -> Iterator[list[Any]]:
    """SIGTERM and SIGHUP end the block in order, so that its folder goes, and have their usual effect after it.

    The server that is put into the list is asked to end. A signal that is ignored (nohup) stays so.
    """
    servers: list[Any] = []
    received: list[int] = []

    def receive(number: int, _: Any) -> None:
        received.append(number)
        if not servers:
            raise _Ended
        servers[0].should_exit = True

    numbers = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, receive) for number in numbers}
    try:
        yield servers
    except _Ended:
        pass
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if received:
        signal.raise_signal(received[0])


@contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """A socket that listens; UsageError where that cannot be."""
    try:
        listener = socket.create_server((host, port))
    except OSError as error:
        raise UsageError(f"--host {host} --port {port}: {error.strerror or error}; choose another port") from None
    with listener:
        yield listener

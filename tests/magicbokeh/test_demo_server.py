"""What the demo's server gives to a client that asks it directly, without its page: no file that was not uploaded."""

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.demo_pages import painting_pipeline, serving, two_halves

from magicbokeh.demo.server import DemoOptions
from magicbokeh.inference import infer

httpx = pytest.importorskip("httpx")
pytest.importorskip("gradio")
API = "/gradio_api"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    patch = pytest.MonkeyPatch()
    patch.setattr(infer, "open_for_use", lambda *_: painting_pipeline())
    with (
        serving(DemoOptions(examples=False), tmp_path_factory.mktemp("served")) as url,
        httpx.Client(base_url=url, timeout=60, trust_env=False) as client,
    ):
        yield client
    patch.undo()


def join(client: Any, path: str) -> Any:
    """Ask for the picture at `path` to be opened, as the page does after an upload."""
    handlers = client.get("/config").json()["dependencies"]
    number = next(one["id"] for one in handlers if one["api_name"] == "opened")
    file = {"path": path, "meta": {"_type": "gradio.FileData"}}
    body = {"data": [file, 8, 0, False], "fn_index": number, "session_hash": "visit", "trigger_id": None}
    return client.post(f"{API}/queue/join", json=body)


def opened(client: Any, path: str) -> dict[str, Any]:
    """The last message about it."""
    assert join(client, path).status_code == 200
    with client.stream("GET", f"{API}/queue/data", params={"session_hash": "visit"}) as answer:
        for line in answer.iter_lines():
            if line.startswith("data:"):
                message: dict[str, Any] = json.loads(line[5:])
                if message["msg"] == "process_completed":
                    return message
    raise AssertionError("no result")


def pixels(answer: Any) -> Any:
    return np.asarray(Image.open(io.BytesIO(answer.content)).convert("RGB"))


def test_only_uploads_are_opened(client: Any, tmp_path: Path) -> None:
    private = two_halves(tmp_path / "private.png")
    (uploaded,) = client.post(f"{API}/upload", files={"files": ("mine.png", private.read_bytes())}).json()
    shown = str(opened(client, uploaded)["output"])
    assert "320 × 240 px" in shown
    pictures = [pixels(client.get(f"{API}/file={path}")) for path in re.findall(r"'path': '([^']*)'", shown)]
    assert len(pictures) == 3, "what is clicked, before and after"
    with Image.open(private) as picture:
        assert all(np.array_equal(found, np.asarray(picture)) for found in pictures[:2]), "shown without loss"
    refused = opened(client, str(private))
    assert not refused["success"]
    assert "320 × 240 px" not in str(refused["output"])
    assert client.get(f"{API}/file={private}").status_code == 403


@pytest.mark.parametrize("path", ["file=https://a.invalid/b.png", "file/http://a.invalid", "proxy=https://a.invalid"])
def test_no_address_is_fetched(client: Any, path: str) -> None:
    answer = client.get(f"{API}/{path}")
    assert (answer.status_code, answer.text) == (403, "addresses are not fetched; upload the picture")


def test_no_file_at_an_address_is_fetched(client: Any) -> None:
    answer = join(client, "https://a.invalid/b.png")
    assert (answer.status_code, answer.text) == (403, "addresses are not fetched; upload the picture")
    assert client.post(f"{API}/queue/join", content=b"[" * 100_000).status_code == 403
    assert client.post(f"{API}/queue/join", content=b" " * (2 << 20)).status_code == 413

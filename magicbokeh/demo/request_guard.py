"""What the demo's server refuses, whatever gradio would do: to fetch addresses, and pages that load from elsewhere."""

import json
import re
from typing import Any

_POLICY = (
    "default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; frame-ancestors 'none'"
)
"""What a browser may load: gradio writes scripts and styles into its page, and nothing may come from elsewhere."""
_FETCHES = re.compile(r"/(?:file[=/]|proxy=)\s*https?:", re.IGNORECASE)
_UPLOAD = "/gradio_api/upload"
_MOST_BODY = 1 << 20
"""Bytes of a request that is no upload; those of the page are a few thousand."""


def only_from_here(app: Any) -> Any:
    """Wrap an ASGI application: it fetches no address for a client, and its pages load nothing from elsewhere."""

    async def wrapped(scope: Any, receive: Any, send: Any) -> None:
        async def add_policy(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message.get("headers", ()),
                    (b"content-security-policy", _POLICY.encode()),
                    (b"referrer-policy", b"no-referrer"),
                ]
            await send(message)

        if scope["type"] == "http":
            if _FETCHES.search(scope["path"]):
                return await _refuse(add_policy, 403, "addresses are not fetched; upload the picture")
            if scope["method"] == "POST" and scope["path"].rstrip("/") != _UPLOAD:
                body = await _body(receive)
                if body is None:
                    return await _refuse(add_policy, 413, f"at most {_MOST_BODY} bytes that are no upload")
                if names_address(body):
                    return await _refuse(add_policy, 403, "addresses are not fetched; upload the picture")
                receive = _again(body, receive)
        await app(scope, receive, add_policy)

    return wrapped


def names_address(body: bytes) -> bool:
    """Whether JSON has a file whose `path` is an address, which gradio would fetch; True too where it is too deep."""
    try:
        left = [json.loads(body)]
    except RecursionError:
        return True
    except ValueError:
        return False  # gradio reads no other form but uploads
    while left:
        value = left.pop()
        if isinstance(value, dict):
            if isinstance(path := value.get("path"), str) and path.lstrip().lower().startswith(("http:", "https:")):
                return True
            left.extend(value.values())
        elif isinstance(value, list):
            left.extend(value)
    return False


async def _body(receive: Any) -> bytes | None:
    """The whole body; None where it is larger than any that the page sends."""
    parts, size = [], 0
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > _MOST_BODY:
            return None
        if not message.get("more_body"):
            return b"".join(parts)


def _again(body: bytes, receive: Any) -> Any:
    """A `receive` that gives `body` first."""
    first = [{"type": "http.request", "body": body, "more_body": False}]

    async def received() -> Any:
        return first.pop() if first else await receive()

    return received


async def _refuse(send: Any, status: int, text: str) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": text.encode()})

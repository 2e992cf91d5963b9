"""A real S3 server (moto's) in a process of its own, and a proxy before it that answers wrongly on demand."""

import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SERVER = """
import logging, sys, time
logging.disable(logging.CRITICAL)
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""

KEY_ID, SECRET = "AKIDTESTSECRETNAME", "s3cr3tOfTheTests"


def variables(port: int) -> dict[str, str]:
    """The environment in which programs reach the server."""
    return {
        "AWS_ACCESS_KEY_ID": KEY_ID,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
    }


@contextmanager
def s3_server() -> Iterator[int]:
    """Start the server; its port."""
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.wait()


def make_bucket(port: int, name: str) -> None:
    """Make a bucket of the server."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}/{name}", method="PUT")
    urllib.request.urlopen(request, timeout=30).close()


@dataclass
class Fault:
    """What the proxy does to requests of one kind, `times` of them, after `skip` that it lets pass."""

    method: str
    part: str
    """A part of the path that it strikes."""
    kind: str
    """`drop`: serve, then close without an answer. `refuse`: close at once. A number: answer with that status, not
    served. `slow`: answer after SLOW seconds. `unconditional`: strip the conditions of puts before they are served.
    `expired`: answer as S3 does for old credentials. `swallow`: answer that it was done, not served."""
    times: int = 1
    skip: int = 0
    every: int = 1
    """Of those that it could strike, it strikes each n-th."""
    met: int = 0
    struck: int = 0


SLOW = 0.3
_QUOTED = f"<AWSAccessKeyId>{KEY_ID}</AWSAccessKeyId><StringToSign>Signature={SECRET}</StringToSign>"
"""Stores repeat parts of the request in their answers; none of that may be told."""
STRUCK = f"<Error><Code>Struck</Code>{_QUOTED}</Error>".encode()
EXPIRED = f"<Error><Code>ExpiredToken</Code><Message>It has expired.</Message>{_QUOTED}</Error>".encode()


class FaultProxy:
    """An HTTP proxy before an S3 server; it hands requests through as they are, but for those that a fault strikes."""

    def __init__(self, port: int) -> None:
        self.faults: list[Fault] = []
        self.seen: list[tuple[str, str]] = []
        """Method and path of every request."""
        self._lock = threading.Lock()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def serve(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                fault = proxy.strike(self.command, self.path)
                headers = dict(self.headers.items())
                if fault is not None and not proxy.before(self, fault, headers):
                    return
                status, answer, data = proxy.forward(port, self, headers, body)
                if fault is not None and fault.kind == "drop":
                    self.close_connection = True
                    self.connection.shutdown(socket.SHUT_RDWR)
                    return
                self.answer(status, answer, data)

            def answer(self, status: int, headers: list[tuple[str, str]], data: bytes) -> None:
                self.send_response_only(status)
                for name, value in headers:
                    if name.lower() not in {"transfer-encoding", "connection", "content-length"}:
                        self.send_header(name, value)
                length = {name.lower(): value for name, value in headers}.get("content-length", str(len(data)))
                self.send_header("Content-Length", length if self.command == "HEAD" else str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = serve  # noqa: N815

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]
        self.port = int(self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def strike(self, method: str, path: str) -> Fault | None:
        """The fault that strikes this request, if any does."""
        with self._lock:
            self.seen.append((method, path))
            for fault in self.faults:
                if fault.method in {method, "*"} and fault.part in path:
                    fault.met += 1
                    if fault.met > fault.skip and fault.struck < fault.times and fault.met % fault.every == 0:
                        fault.struck += 1
                        return fault
        return None

    def before(self, handler: Any, fault: Fault, headers: dict[str, str]) -> bool:
        """What a fault does before the request is served; whether it is served at all."""
        if fault.kind == "slow":
            time.sleep(SLOW)
        elif fault.kind == "unconditional":
            for name in [name for name in headers if name.lower() in {"if-none-match", "if-match"}]:
                del headers[name]
        elif fault.kind == "expired":
            handler.answer(400, [("Content-Type", "application/xml")], EXPIRED)
            return False
        elif fault.kind.isdecimal():
            handler.answer(int(fault.kind), [("Content-Type", "application/xml")], STRUCK)
            return False
        elif fault.kind == "swallow":
            handler.answer(200, [("ETag", '"0"')], b"")
            return False
        elif fault.kind == "refuse":
            handler.close_connection = True
            handler.connection.shutdown(socket.SHUT_RDWR)
            return False
        return True

    def forward(
        self, port: int, handler: Any, headers: dict[str, str], body: bytes
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        """Ask the server."""
        asked = HTTPConnection("127.0.0.1", port, timeout=60)
        try:
            asked.request(handler.command, handler.path, body, headers)
            response = asked.getresponse()
            return response.status, response.getheaders(), response.read()
        finally:
            asked.close()

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()

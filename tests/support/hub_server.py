"""A stand-in for the Hugging Face Hub: repositories, commits and large files by the protocol of its clients."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "hf_secretOfTheTests"


@dataclass
class Hub:
    """What the server was given."""

    address: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    """The repository as it is after the commits."""
    commits: list[list[str]] = field(default_factory=list)
    """The paths of each commit."""
    objects: dict[str, bytes] = field(default_factory=dict)
    """Large files by sha256."""
    private: bool | None = None
    puts: int = 0
    break_at: int | None = None
    """The number of the put that the server does not take, once."""


@contextmanager
def hub_server() -> Iterator[Hub]:
    """Start the server."""
    hub = Hub()

    class Handler(_Handler):
        state = hub

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: Hub

    def log_message(self, *words: Any) -> None:
        """Nothing: the tests look at what arrived."""

    def _answer(self, status: int, record: Any) -> None:
        data = json.dumps(record).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        data = b""
        while size := int(self.rfile.readline(), 16):
            data += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return data

    def do_POST(self) -> None:
        hub, body = self.state, self._body()
        if self.path == "/api/validate-yaml":
            self._answer(200, {"errors": [], "warnings": []})
        elif self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._answer(401, {"error": "Invalid credentials"})
        elif self.path == "/api/repos/create":
            asked = json.loads(body)
            hub.private = asked.get("private") or asked.get("visibility") == "private"
            name = f"{asked['organization']}/{asked['name']}" if asked.get("organization") else asked["name"]
            self._answer(200, {"url": f"{hub.address}/datasets/{name}", "id": name})
        elif "/preupload/" in self.path:
            asked = json.loads(body)["files"]
            modes = [("lfs" if one["path"].endswith((".tar", ".png")) else "regular") for one in asked]
            said = [
                {"path": one["path"], "uploadMode": mode, "shouldIgnore": False}
                for one, mode in zip(asked, modes, strict=True)
            ]
            self._answer(200, {"files": said})
        elif self.path.endswith("/info/lfs/objects/batch"):
            asked = json.loads(body)["objects"]
            self._answer(200, {"transfer": "basic", "objects": [self._place(one) for one in asked]})
        elif "/commit/" in self.path:
            self._commit([json.loads(line) for line in body.splitlines()])
        else:
            self._answer(404, {"error": self.path})

    def _place(self, asked: dict[str, Any]) -> dict[str, Any]:
        place = {"oid": asked["oid"], "size": asked["size"]}
        if asked["oid"] in self.state.objects:
            return place
        return place | {"actions": {"upload": {"href": f"{self.state.address}/put/{asked['oid']}"}}}

    def _commit(self, lines: list[dict[str, Any]]) -> None:
        hub, paths = self.state, []
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                hub.files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                hub.files[value["path"]] = hub.objects[value["oid"]]
            elif line["key"] == "deletedFile":
                del hub.files[value["path"]]
                paths.append(f"-{value['path']}")
                continue
            else:
                continue
            paths.append(value["path"])
        hub.commits.append(paths)
        oid = f"{len(hub.commits):040x}"
        self._answer(
            200, {"success": True, "commitOid": oid, "commitUrl": f"{hub.address}/datasets/me/set/commit/{oid}"}
        )

    def do_PUT(self) -> None:
        hub, data = self.state, self._body()
        hub.puts += 1
        if hub.puts == hub.break_at:
            self._answer(400, {"error": "broken"})
            return
        name = self.path.rpartition("/")[2]
        assert hashlib.sha256(data).hexdigest() == name
        hub.objects[name] = data
        self._answer(200, {})

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        hub, path = self.state, self.path.partition("?")[0]
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._answer(401, {"error": "Invalid credentials"})
        elif "/resolve/" in path and (name := path.partition("/resolve/main/")[2]) in hub.files:
            data = hub.files[name]
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("ETag", f'"{hashlib.sha1(data).hexdigest()}"')
            self.send_header("X-Repo-Commit", f"{len(hub.commits):040x}")
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(data)
        elif path.startswith("/api/datasets/") and "/tree/" in path:
            rows = [{"type": "file", "path": one, "size": len(data), "oid": "0"} for one, data in hub.files.items()]
            self._answer(200, rows)
        elif path.startswith("/api/datasets/"):
            files = [{"rfilename": one} for one in hub.files]
            self._answer(200, {"id": "me/set", "sha": f"{len(hub.commits):040x}", "siblings": files})
        else:
            self._answer(404, {"error": self.path})

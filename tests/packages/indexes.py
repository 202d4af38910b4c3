"""Local indexes for tests: PyPI's simple API and npm's registry, with packages made on the spot."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import tarfile
import threading
import zipfile
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = tuple[int, dict[str, str], bytes]
JSON_TYPE = "application/vnd.pypi.simple.v1+json"


def wheel(name: str, version: str) -> tuple[str, bytes]:
    """The file name and content of a wheel with one module."""
    stem = f"{name.replace('-', '_')}-{version}"
    files = {
        f"{name.replace('-', '_')}.py": f"version = {version!r}\n",
        f"{stem}.dist-info/METADATA": metadata(name, version).decode(),
        f"{stem}.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = f"{stem}.dist-info/RECORD"
    files[record] = "".join(f"{path},,\n" for path in [*files, record])
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for path, text in files.items():
            archive.writestr(zipfile.ZipInfo(path), text)
    return f"{stem}-py3-none-any.whl", made.getvalue()


def metadata(name: str, version: str) -> bytes:
    return f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode()


def tarball(name: str, version: str) -> bytes:
    """The content of a package of npm with one module."""
    made = io.BytesIO()
    files = {
        "package.json": json.dumps({"name": name, "version": version, "main": "index.js"}),
        "index.js": f"module.exports = {json.dumps(version)};\n",
    }
    with (
        gzip.GzipFile(fileobj=made, mode="wb", mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as archive,
    ):
        for path, text in files.items():
            facts = tarfile.TarInfo(f"package/{path}")
            facts.size = len(text)
            archive.addfile(facts, io.BytesIO(text.encode()))
    return made.getvalue()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def integrity(content: bytes) -> str:
    return "sha512-" + base64.b64encode(hashlib.sha512(content).digest()).decode()


@dataclass
class Index:
    """An HTTP server on the loopback. `answers` are by path; `requests` are the lines and headers
    that it got.
    """

    answers: dict[str, Answer] = field(default_factory=dict[str, Answer])
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list[tuple[str, dict[str, str]]])
    port: int = 0

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def asked(self) -> list[str]:
        """Request lines."""
        return [line for line, _ in self.requests]

    def add_wheel(self, name: str, version: str, *, uploaded: str = "2020-01-01T00:00:00Z") -> str:
        """Returns its SHA-256."""
        filename, content = wheel(name, version)
        self.answers[f"/files/{filename}"] = (200, {}, content)
        about = metadata(name, version)
        self.answers[f"/files/{filename}.metadata"] = (200, {}, about)
        self._extend(
            f"/simple/{name}/",
            {
                "filename": filename,
                "url": f"../../files/{filename}",
                "hashes": {"sha256": sha256(content)},
                "core-metadata": {"sha256": sha256(about)},
                "upload-time": uploaded,
                "yanked": False,
                "size": len(content),
            },
        )
        return sha256(content)

    def _extend(self, path: str, file: Mapping[str, Any]) -> None:
        before: list[Any] = json.loads(self.answers[path][2])["files"] if path in self.answers else []
        page = {"meta": {"api-version": "1.1"}, "name": path, "files": [*before, file], "versions": []}
        self.answers[path] = (200, {"content-type": JSON_TYPE}, json.dumps(page).encode())

    def add_npm(self, name: str, version: str, *, released: str = "2020-01-01T00:00:00Z") -> str:
        """Returns its integrity."""
        content = tarball(name, version)
        file = f"/npm/{name}/-/{name.rpartition('/')[2]}-{version}.tgz"
        self.answers[file] = (200, {}, content)
        path = f"/npm/{name.replace('/', '%2f')}"
        document: dict[str, Any] = {"name": name, "dist-tags": {}, "versions": {}, "time": {}}
        if path in self.answers:
            document = json.loads(self.answers[path][2])
        document["dist-tags"]["latest"] = version
        document["time"][version] = released
        dist = {"tarball": f"{self.origin}{file}", "integrity": integrity(content)}
        document["versions"][version] = {"name": name, "version": version, "dist": dist}
        self.answers[path] = (200, {"content-type": "application/json"}, json.dumps(document).encode())
        return integrity(content)


@contextmanager
def index() -> Generator[Index]:
    found = Index()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(found))
    found.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _handler(found: Index) -> Callable[..., BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            found.requests.append(
                (f"{self.command} {self.path}", {key.lower(): value for key, value in self.headers.items()})
            )
            status, headers, body = found.answers.get(self.path, (404, {}, b"there is none"))
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_HEAD = do_GET  # noqa: N815 - the names of http.server

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    return Handler

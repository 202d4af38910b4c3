"""A mirror as a process, and requests over its sockets."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from modelplex.packages.allow_list import ListedPackage
from modelplex.packages.launch import RunningMirror, start_mirror
from modelplex.packages.names import Ecosystem
from modelplex.packages.process import MirrorSpec, SocketSpec
from modelplex.packages.sites import Site
from modelplex.packages.upstream import IndexSpec
from tests.packages.indexes import Index

WAIT_S = 20.0
NAMES = ("known", "second", "@a/b")


class UnixConnection(HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("mirror.example", timeout=WAIT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(WAIT_S)
        self.sock.connect(self._path)


class Mirror:
    def __init__(self, running: RunningMirror, folder: Path) -> None:
        self.running = running
        self.folder = folder
        self.socket = str(folder / "plain")

    def get(self, path: str, *, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
        connection = UnixConnection(self.socket)
        try:
            connection.request(method, path, headers=headers)
            response = connection.getresponse()
            return response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()
        finally:
            connection.close()


@contextmanager
def mirror(
    index: Index, environ: Mapping[str, str] = os.environ, *, certificate: str = "", **more: Any
) -> Generator[Mirror]:
    """Of an index, for every version of NAMES, at http://mirror.example/simple and /npm."""
    with tempfile.TemporaryDirectory(prefix="mpx-", dir="/tmp") as name:
        folder = Path(name)
        secure = [SocketSpec(str(folder / "tls"), tls=True)] if certificate else []
        kinds: tuple[Ecosystem, ...] = ("pypi", "npm")
        listed = [ListedPackage(kind, each) for kind in kinds for each in NAMES]
        given: dict[str, Any] = {
            "indexes": {
                "pypi": (IndexSpec(f"{index.origin}/simple"),),
                "npm": (IndexSpec(f"{index.origin}/npm"),),
            },
            "bases": {"pypi": "http://mirror.example/simple", "npm": "http://mirror.example/npm"},
            "locked": (),
            "listed": tuple(listed),
            "sites": {"mirror.example": (Site("npm", "/npm"), Site("pypi", "/simple"))},
            "sockets": (SocketSpec(str(folder / "plain"), tls=False), *secure),
            "certificate": certificate,
            "folder": name,
        }
        spec = MirrorSpec(**(given | more))
        with (folder / "log").open("wb") as log:
            running = start_mirror(spec, log=log, environ=environ, prepare=lambda: None)
        try:
            yield Mirror(running, folder)
        finally:
            running.stop()

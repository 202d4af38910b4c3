"""The HTTP side of a mirror: GET and HEAD of pages and files, as PyPI and npm serve them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec

from modelplex.packages import packument, simple_index
from modelplex.packages.mirror import NotServed, PackageMirror
from modelplex.packages.names import Ecosystem, tarball_name
from modelplex.packages.simple_index import IndexFile
from modelplex.packages.sites import Site, Wanted, read_path
from modelplex.server.http_exchange import HttpExchange

PIECE: Final = 262_144
"""Bytes of a file in one write."""
_JSON: Final = b"application/json"


class MirrorApp:
    """`sites` by host, as in the header Host; `bases` are the addresses of the indexes in the
    sandbox.
    """

    def __init__(
        self, mirror: PackageMirror, *, sites: Mapping[str, Sequence[Site]], bases: Mapping[Ecosystem, str]
    ) -> None:
        self._mirror = mirror
        self._sites = sites
        self._bases = bases

    def __repr__(self) -> str:
        return f"<MirrorApp {', '.join(self._sites)}>"

    async def __call__(self, exchange: HttpExchange) -> None:
        head = exchange.head
        if head.method not in {"GET", "HEAD"}:
            _respond_error(exchange, 405, "this mirror is read-only: it answers GET.")
            return
        host = next((value for name, value in head.headers if name == b"host"), b"").decode("latin-1")
        raw_path = head.raw_path.partition(b"?")[0].decode("latin-1")
        wanted = read_path(self._sites, host, raw_path)
        if wanted is None:
            _respond_error(exchange, 404, "this mirror has only packages of PyPI and npm.")
            return
        try:
            await self._serve(exchange, wanted)
        except NotServed as refused:
            # 403 makes npm print the sentence; uv takes a 403 of PyPI for missing credentials.
            status = 403 if refused.is_refused and wanted.ecosystem == "npm" else 404
            _respond_error(exchange, status, refused.sentence)

    async def _serve(self, exchange: HttpExchange, wanted: Wanted) -> None:
        match wanted.kind:
            case "index":
                empty = (
                    b'{"meta":{"api-version":"1.1"},"projects":[]}' if wanted.ecosystem == "pypi" else b"{}"
                )
                exchange.respond(200, [(b"content-type", _JSON)], empty)
            case "page" if wanted.ecosystem == "npm":
                found = await self._mirror.packument(wanted.name)
                body = packument.write_packument(found, address=lambda each: self._tarball(wanted.name, each))
                exchange.respond(200, [(b"content-type", _JSON)], body)
            case "page":
                files = (await self._mirror.pypi_page(wanted.name)).files
                _respond_page(exchange, *_written_page(exchange, wanted.name, files, self._address))
            case _:
                await _send_file(exchange, await self._mirror.file(wanted))

    def _address(self, file: IndexFile) -> str:
        """The index's own address of a file where it is served, else one at the index."""
        parts = urlsplit(file.url)
        if parts.netloc.lower() in self._sites and not parts.query:
            return file.url
        return f"{self._bases['pypi']}/+files/{file.filename}"

    def _tarball(self, name: str, version: str) -> str:
        return f"{self._bases['npm']}/{name}/-/{tarball_name(name, version)}"


def _written_page(
    exchange: HttpExchange, name: str, files: Sequence[IndexFile], address: simple_index.Address
) -> tuple[str, bytes]:
    accept = b",".join(value for key, value in exchange.head.headers if key == b"accept")
    if simple_index.JSON_TYPE.encode() in accept:
        return simple_index.JSON_TYPE, simple_index.write_json(name, files, address=address)
    return "text/html; charset=utf-8", simple_index.write_html(name, files, address=address)


def _respond_page(exchange: HttpExchange, media_type: str, body: bytes) -> None:
    exchange.respond(200, [(b"content-type", media_type.encode())], body)


def _respond_error(exchange: HttpExchange, status: int, sentence: str) -> None:
    body = msgspec.json.encode({"error": sentence, "status": HTTPStatus(status).phrase})
    exchange.respond(status, [(b"content-type", _JSON)], body)


async def _send_file(exchange: HttpExchange, path: Path) -> None:
    """Whole: a Range is answered with all of it, which HTTP allows."""
    exchange.start([(b"content-type", b"application/octet-stream")])
    with path.open("rb") as file:
        while (piece := file.read(PIECE)) and not exchange.disconnected:
            exchange.write(piece)
            await exchange.drain()
    exchange.write(b"", last=True)

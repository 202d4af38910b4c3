"""Fetches pages and files from the indexes. What is asked for comes from the allow list and from
the index's own pages, never from a request of the sandbox.

A redirect is followed only to the index's own server or the one that was asked, a few times.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import urljoin, urlsplit

import msgspec

from modelplex.http_client import HttpClient, HttpResponse, Origin, SendError, Timeouts, parse_origin
from modelplex.packages import packument, simple_index
from modelplex.packages.names import Ecosystem

MAX_PAGE: Final = 67_108_864
"""Bytes of a page. The largest packuments with times have some 20 MB."""
MAX_FILE: Final = 4_294_967_296
"""Bytes of a file. The largest wheels have some 3 GB."""
MAX_REDIRECTS: Final = 3
CONCURRENT: Final = 16
"""Fetches at a time; clients open up to 50 connections."""
TIMEOUTS: Final = Timeouts(connect=15.0, first_byte=60.0, idle=60.0)
REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_HEADERS: Final = ((b"user-agent", b"modelplex"), (b"accept-encoding", b"identity"))


class IndexSpec(msgspec.Struct, frozen=True):
    """An index that is mirrored. `url` has no user and no slash at its end; `authorization` is a
    header for its own server only. `scope` is that of npm (`@a`) whose packages it alone has.
    """

    url: str
    authorization: str | None = None
    ca_file: str | None = None
    scope: str = ""


class FetchFailed(Exception):
    """`status` is the index's, or None. The text is a sentence."""

    def __init__(self, sentence: str, *, status: int | None = None) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.status = status


class Page(msgspec.Struct, frozen=True):
    body: bytes
    media_type: str
    url: str


class IndexClient:
    def __init__(
        self, indexes: Mapping[Ecosystem, Sequence[IndexSpec]], *, client: HttpClient, with_times: bool
    ) -> None:
        """`with_times`: ask npm's registry for the times of releases too."""
        self._indexes = indexes
        self._client = client
        self._accept: Mapping[Ecosystem, str] = {
            "pypi": simple_index.ACCEPT,
            "npm": packument.ACCEPT_FULL if with_times else packument.ACCEPT,
        }
        self._places = asyncio.Semaphore(CONCURRENT)

    def __repr__(self) -> str:
        return f"<IndexClient {', '.join(each.url for kind in self._indexes.values() for each in kind)}>"

    def indexes(self, ecosystem: Ecosystem, name: str) -> Sequence[IndexSpec]:
        """Those that may have a package, in the order in which they are asked."""
        every = self._indexes[ecosystem]
        scope = name.partition("/")[0] if name.startswith("@") else ""
        return [each for each in every if each.scope == scope] or [each for each in every if not each.scope]

    async def page(self, ecosystem: Ecosystem, name: str, *, index: IndexSpec) -> Page:
        """The index's page of a package. `name` is normal. Raises FetchFailed."""
        base = index.url
        url = f"{base}/{name}/" if ecosystem == "pypi" else f"{base}/{name.replace('/', '%2f')}"
        async with self._places:
            try:
                response, url = await self._get(index, url, accept=self._accept[ecosystem])
                body = await response.body(limit=MAX_PAGE)
            except SendError as error:
                raise FetchFailed(str(error)) from None
        media_type = (response.header(b"content-type") or b"").decode("latin-1")
        return Page(body, media_type, url)

    async def file(
        self, url: str, *, index: IndexSpec, exact: Sequence[str], any_of: frozenset[str], to: Path
    ) -> int:
        """Write a file of an index to `to` and return its size, once its hashes are found right:
        all of `exact`, or where there are none, one of `any_of`. Raises FetchFailed.
        """
        names = {each.partition(":")[0] for each in (*exact, *any_of)}
        digests = {name: hashlib.new(name) for name in names}
        size = 0
        async with self._places:
            try:
                response, _ = await self._get(index, url, accept="*/*")
                with to.open("wb") as file:
                    while data := await response.chunk():
                        size += len(data)
                        if size > MAX_FILE:
                            response.close()
                            raise FetchFailed(f"the file has more than {MAX_FILE} bytes")
                        for digest in digests.values():
                            digest.update(data)
                        file.write(data)
            except SendError as error:
                raise FetchFailed(str(error)) from None
            except OSError as error:
                raise FetchFailed(f"the file cannot be kept: {error.strerror}") from None
        found = {f"{name}:{digest.hexdigest()}" for name, digest in digests.items()}
        if not (found.issuperset(exact) if exact else found & any_of):
            raise FetchFailed(
                "its hash is wrong: the index sent another file than it, or the lock file, names"
            )
        return size

    async def _get(self, index: IndexSpec, url: str, *, accept: str) -> tuple[HttpResponse, str]:
        """The response of status 200, and its address. Raises FetchFailed and SendError."""
        own = _server(index.url)
        first = _server(url)
        for _ in range(MAX_REDIRECTS + 1):
            server = _server(url)
            if server not in {own, first}:
                raise FetchFailed(f"the index redirects to another server, {urlsplit(url).hostname}")
            headers = [*_HEADERS, (b"accept", accept.encode())]
            if server == own and index.authorization is not None:
                headers.append((b"authorization", index.authorization.encode()))
            origin, target = _locate(url, ca_file=index.ca_file)
            try:
                response = await self._client.send(
                    origin, method=b"GET", target=target, headers=headers, timeouts=TIMEOUTS
                )
            except ValueError as error:
                raise FetchFailed(str(error)) from None
            if response.status in REDIRECTS and (to := response.header(b"location")) is not None:
                response.close()
                url = urljoin(url, to.decode("latin-1"))
                continue
            if response.status != 200 or response.header(b"content-encoding") not in {None, b"identity"}:
                response.close()
                what = "the content in an encoding" if response.status == 200 else str(response.status)
                raise FetchFailed(f"{origin} answered with {what}", status=response.status)
            return response, url
        raise FetchFailed(f"the index redirects more than {MAX_REDIRECTS} times")


def _server(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc.lower()


def _locate(url: str, *, ca_file: str | None) -> tuple[Origin, bytes]:
    parts = urlsplit(url)
    try:
        origin, _ = parse_origin(f"{parts.scheme}://{parts.netloc}")
    except ValueError as error:
        raise FetchFailed(f"the index names an address that cannot be fetched: {error}") from None
    target = f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}"
    return msgspec.structs.replace(origin, ca_file=ca_file), target.encode("utf-8", "replace")

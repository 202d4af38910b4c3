"""The packages of one run: each page and file is fetched at most once, checked, and kept until the
run ends. Knows no HTTP of the sandbox's side.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import msgspec

from modelplex.packages.allow_list import AllowedVersion, AllowList
from modelplex.packages.names import Ecosystem
from modelplex.packages.packument import BrokenPackument, Packument, read_packument
from modelplex.packages.simple_index import (
    AGE_REASONS,
    BrokenPage,
    IndexFile,
    Withheld,
    filter_files,
    read_page,
)
from modelplex.packages.sites import METADATA, Wanted
from modelplex.packages.upstream import FetchFailed, IndexClient, IndexSpec

MAX_KEPT: Final = 17_179_869_184
"""Bytes of the files of one run, which are kept until its end."""
MAX_ATTEMPTS: Final = 5
"""Of a page or file whose fetch fails: each is a request that the program causes."""

T = TypeVar("T")


class PackageFetch(msgspec.Struct, frozen=True, kw_only=True):
    """One fetch from an index, or one refusal of what the sandbox asked for.

    wanted   `pypi:NAME` for a page, `pypi:FILE` for a file
    outcome  "ok", "refused" (nothing was asked of the index), "error"
    started  Unix seconds
    """

    ecosystem: str
    wanted: str
    outcome: Literal["ok", "refused", "error"]
    started: float
    seconds: float = 0.0
    size: int = 0
    reason: str = ""


class NotServed(Exception):
    """What the sandbox asked for cannot be had. `is_refused`: it is not allowed. The text is a
    sentence.
    """

    def __init__(self, sentence: str, *, is_refused: bool = False) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.is_refused = is_refused


class PypiPage(msgspec.Struct, frozen=True):
    """What may be had of a package, and the index that has it."""

    index: IndexSpec
    files: tuple[IndexFile, ...]
    withheld: tuple[Withheld, ...]


class PackageMirror:
    """`newest` is the latest time of a release that may be had, in Unix seconds."""

    def __init__(
        self,
        upstream: IndexClient,
        allowed: AllowList,
        *,
        folder: Path,
        newest: float | None,
        report: Callable[[PackageFetch], None],
    ) -> None:
        self._upstream = upstream
        self._allowed = allowed
        self.folder = folder
        self._newest = newest
        self._report = report
        self._tasks: dict[tuple[str, str], asyncio.Task[Any]] = {}
        self._attempts: Counter[tuple[str, str]] = Counter()
        self._kept = 0

    def __repr__(self) -> str:
        return f"<PackageMirror {self._allowed!r}, {len(self._tasks)} fetched, {self._kept} bytes>"

    async def pypi_page(self, name: str) -> PypiPage:
        """Raises NotServed."""
        self._check_name("pypi", name)
        return await self._once("page", f"pypi:{name}", lambda: self._fetch_pypi(name))

    async def packument(self, name: str) -> Packument:
        """Raises NotServed."""
        self._check_name("npm", name)
        return await self._once("page", f"npm:{name}", lambda: self._fetch_packument(name))

    async def file(self, wanted: Wanted) -> Path:
        """The path of a file, whose hashes are right. Raises NotServed."""
        version = self._allowed.version(wanted.ecosystem, wanted.name, wanted.version)
        if version is None:
            raise self._refusal(wanted.ecosystem, f"{wanted.name} {wanted.version}")
        if wanted.ecosystem == "npm":
            packument = await self.packument(wanted.name)
            tarball = packument.tarballs.get(wanted.version)
            if tarball is None:
                raise self._missing(wanted, f"{wanted.name}@{wanted.version}", packument.withheld)
            registry = self._registry(wanted.name)
            return await self._file(
                wanted, tarball.url, index=registry, exact=tarball.hashes, version=version
            )
        page = await self.pypi_page(wanted.name)
        found = next((each for each in page.files if each.filename == wanted.filename), None)
        if found is None:
            raise self._missing(wanted, wanted.filename, page.withheld)
        if wanted.kind == "metadata":
            if not found.metadata:
                raise NotServed(f"the index has no checked metadata of {wanted.filename}.")
            url, hashes = found.url + METADATA, found.metadata
        else:
            url, hashes = found.url, found.hashes
        return await self._file(wanted, url, index=page.index, exact=hashes, version=version)

    def _check_name(self, ecosystem: Ecosystem, name: str) -> None:
        if not self._allowed.has_name(ecosystem, name):
            raise self._refusal(ecosystem, name)

    def _refusal(self, ecosystem: str, what: str) -> NotServed:
        self._report_refusal(ecosystem, f"{ecosystem}:{what}", "")
        name = what.partition(" ")[0]
        return NotServed(
            f"{what} is in no lock file of this project and not listed by the host, which can allow it: "
            f"modelplex run --packages {ecosystem} --allow-package {ecosystem}:{name}",
            is_refused=True,
        )

    def _report_refusal(self, ecosystem: str, wanted: str, reason: str) -> None:
        self._report(
            PackageFetch(
                ecosystem=ecosystem, wanted=wanted, outcome="refused", started=time.time(), reason=reason
            )
        )

    def _missing(self, wanted: Wanted, what: str, withheld: tuple[Withheld, ...]) -> NotServed:
        for each in withheld:
            if each.filename == what:
                self._report_refusal(wanted.ecosystem, f"{wanted.ecosystem}:{what}", each.reason)
                return NotServed(f"{what} is withheld: {each.reason}.", is_refused=True)
        return NotServed(f"the index has no {what}.")

    async def _fetch_pypi(self, name: str) -> tuple[PypiPage, int]:
        """Of the first index that has a file that may be had. Only one that has no page is passed
        over: a package of a private index must not come from a public one when that is down.
        """
        best: PypiPage | None = None
        size, missing = 0, FetchFailed("no index has it")
        for index in self._upstream.indexes("pypi", name):
            try:
                page = await self._upstream.page("pypi", name, index=index)
                files = read_page(page.body, media_type=page.media_type, url=page.url)
            except BrokenPage as error:
                raise FetchFailed(str(error)) from None
            except FetchFailed as error:
                if error.status != HTTPStatus.NOT_FOUND:
                    raise
                missing = error
                continue
            size += len(page.body)
            kept, withheld = filter_files(files, name=name, allowed=self._allowed, newest=self._newest)
            found = PypiPage(index, tuple(kept), tuple(withheld))
            if kept or best is None:
                best = found
            if kept:
                break
        if best is None:
            raise missing
        for each in best.withheld:
            if each.reason in AGE_REASONS:  # tools do not ask for what their page lacks
                self._report_refusal("pypi", f"pypi:{each.filename}", each.reason)
        return best, size

    async def _fetch_packument(self, name: str) -> tuple[Packument, int]:
        page = await self._upstream.page("npm", name, index=self._registry(name))
        try:
            found = read_packument(page.body, name=name, allowed=self._allowed, newest=self._newest)
        except BrokenPackument as error:
            raise FetchFailed(str(error)) from None
        return found, len(page.body)

    def _registry(self, name: str) -> IndexSpec:
        return self._upstream.indexes("npm", name)[0]

    async def _file(
        self, wanted: Wanted, url: str, *, index: IndexSpec, exact: tuple[str, ...], version: AllowedVersion
    ) -> Path:
        path = self.folder / f"{len(self._tasks)}"

        async def fetch() -> tuple[Path, int]:
            if self._kept > MAX_KEPT:
                raise FetchFailed(f"the files of this run have more than {MAX_KEPT} bytes")
            try:
                size = await self._upstream.file(
                    url, index=index, exact=exact, any_of=version.hashes, to=path
                )
            except BaseException:
                path.unlink(missing_ok=True)
                raise
            self._kept += size
            return path, size

        return await self._once(wanted.kind, str(wanted), fetch)

    async def _once(
        self, kind: str, wanted: str, fetch: Callable[[], Coroutine[Any, Any, tuple[T, int]]]
    ) -> T:
        """What is fetched once, whoever waits for it. A failed fetch is repeated at the next
        request, a few times. Raises NotServed.
        """
        key = (kind, wanted)
        task = self._tasks.get(key)
        has_failed = task is not None and task.done() and task.exception() is not None
        if task is None or (has_failed and self._attempts[key] < MAX_ATTEMPTS):
            self._attempts[key] += 1
            label = f"{wanted}{METADATA}" if kind == "metadata" else wanted
            task = self._tasks[key] = asyncio.create_task(self._recorded(label, fetch()))
        found: Awaitable[T] = asyncio.shield(task)
        return await found

    async def _recorded(self, wanted: str, fetch: Coroutine[Any, Any, tuple[T, int]]) -> T:
        started, clock = time.time(), time.monotonic()
        ecosystem = wanted.partition(":")[0]

        def report(outcome: Literal["ok", "error"], size: int, reason: str) -> None:
            seconds = time.monotonic() - clock
            self._report(
                PackageFetch(
                    ecosystem=ecosystem,
                    wanted=wanted,
                    outcome=outcome,
                    started=started,
                    seconds=seconds,
                    size=size,
                    reason=reason,
                )
            )

        try:
            found, size = await fetch
        except FetchFailed as error:
            report("error", 0, error.sentence)
            raise NotServed(f"{wanted.partition(':')[2]}: {error.sentence}.") from None
        report("ok", size, "")
        return found

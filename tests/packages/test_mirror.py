from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import pytest

from modelplex.http_client import HttpClient
from modelplex.packages import mirror as module
from modelplex.packages.allow_list import AllowList, ListedPackage
from modelplex.packages.mirror import NotServed, PackageFetch, PackageMirror
from modelplex.packages.sites import Wanted
from modelplex.packages.upstream import IndexClient, IndexSpec
from tests.packages.indexes import index, sha256

WANTED = Wanted("pypi", "file", "known", "0!1", "known-1.0-py3-none-any.whl")
T = TypeVar("T")


def _with(
    use: Callable[[PackageMirror], Awaitable[T]], *origins: str, newest: float | None = None
) -> tuple[T, list[PackageFetch]]:
    """What `use` returns, and the reports."""
    reports: list[PackageFetch] = []

    async def main() -> T:
        client = HttpClient()
        indexes = [IndexSpec(f"{origin}/simple") for origin in origins]
        upstream = IndexClient({"pypi": indexes}, client=client, with_times=False)
        with tempfile.TemporaryDirectory() as folder:
            mirror = PackageMirror(
                upstream,
                AllowList([], [ListedPackage("pypi", "known")]),
                folder=Path(folder),
                newest=newest,
                report=reports.append,
            )
            try:
                return await use(mirror)
            finally:
                await client.aclose()

    return asyncio.run(main()), reports


def test_a_failed_fetch_is_tried_again() -> None:
    async def use(mirror: PackageMirror) -> bytes:
        with pytest.raises(NotServed, match="404"):
            await mirror.pypi_page("known")
        source.add_wheel("known", "1.0")
        return (await mirror.file(WANTED)).read_bytes()

    with index() as source:
        content, reports = _with(use, source.origin)
        assert content == source.answers[f"/files/{WANTED.filename}"][2]
    assert [each.outcome for each in reports] == ["error", "ok", "ok"]
    assert reports[2].size == len(content)


def test_nothing_is_kept_of_a_file_with_a_wrong_hash() -> None:
    async def use(mirror: PackageMirror) -> list[Path]:
        with pytest.raises(NotServed, match="its hash is wrong"):
            await mirror.file(WANTED)
        return list(mirror.folder.iterdir())

    with index() as source:
        source.add_wheel("known", "1.0")
        source.answers[f"/files/{WANTED.filename}"] = (200, {}, b"other")
        assert _with(use, source.origin)[0] == []


def test_a_withheld_file_is_explained() -> None:
    async def use(mirror: PackageMirror) -> bool:
        with pytest.raises(NotServed, match="is withheld: it is too new") as error:
            await mirror.file(WANTED)
        return error.value.is_refused

    with index() as source:
        source.add_wheel("known", "1.0")
        assert _with(use, source.origin, newest=1.0)[0]


def test_a_run_keeps_so_much_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_KEPT", -1)

    async def use(mirror: PackageMirror) -> None:
        with pytest.raises(NotServed, match="have more than"):
            await mirror.file(WANTED)

    with index() as source:
        source.add_wheel("known", "1.0")
        _with(use, source.origin)
        assert source.asked == ["GET /simple/known/"]


def test_the_first_index_with_a_file_answers_and_one_that_is_down_is_not_passed_over() -> None:
    async def use(mirror: PackageMirror) -> bytes:
        return (await mirror.file(WANTED)).read_bytes()

    with index() as none, index() as old, index() as first, index() as last:
        old.add_wheel("other", "1.0")
        old.answers["/simple/known/"] = old.answers["/simple/other/"]
        digest = first.add_wheel("known", "1.0")
        last.add_wheel("known", "1.0")
        found, _ = _with(use, none.origin, old.origin, first.origin, last.origin)
        assert sha256(found) == digest
        assert none.asked == old.asked == ["GET /simple/known/"]
        assert first.asked == ["GET /simple/known/", "GET /files/known-1.0-py3-none-any.whl"]
        assert last.asked == []
        none.answers["/simple/known/"] = (503, {}, b"")
        with pytest.raises(NotServed, match="503"):
            _with(use, none.origin, first.origin)


def test_a_fetch_that_fails_is_tried_a_few_times_only() -> None:
    async def use(mirror: PackageMirror) -> None:
        for _ in range(3 * module.MAX_ATTEMPTS):
            with pytest.raises(NotServed, match="404"):
                await mirror.pypi_page("known")

    with index() as source:
        _with(use, source.origin)
        assert len(source.asked) == module.MAX_ATTEMPTS

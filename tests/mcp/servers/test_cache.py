"""The stored catalogs and eras of servers."""

import os
import sys
from pathlib import Path

import pytest

from modelplex.config.mcp_settings import McpServer
from modelplex.config.secret import Secret
from modelplex.mcp.constants import Catalog
from modelplex.mcp.servers import cache as cache_module
from modelplex.mcp.servers.cache import DiskCache, ServerEra, WriteOnlyCache, fingerprint


async def test_stored_catalogs_are_loaded_and_broken_files_are_not(tmp_path: Path) -> None:
    folder = tmp_path / "state" / "mcp"
    cache = DiskCache(folder)
    catalog = Catalog(
        era="modern", version="2026-07-28", tools=({"name": "ü", "x": [1, None]},), instructions="do"
    )
    assert await cache.load("f" * 64) == (None, None)
    await cache.store("f" * 64, catalog, ServerEra("modern", "2026-07-28"))
    assert await DiskCache(folder).load("f" * 64) == (catalog, ServerEra("modern", "2026-07-28"))
    assert folder.stat().st_mode & 0o777 == 0o700
    assert [file.name for file in folder.iterdir()] == [f"{'f' * 64}.json"]
    for broken in (b"", b"{", b'{"format":99,"catalog":null,"verdict":null}', b"[" * 100_000):
        (folder / f"{'f' * 64}.json").write_bytes(broken)
        assert await cache.load("f" * 64) == (None, None)


async def test_a_folder_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cache = DiskCache(tmp_path / "file" / "mcp")
    await cache.store("a", None, None)
    await cache.set_late("a", late=True)
    assert not await cache.is_late("a")


async def test_the_oldest_files_are_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "MAX_FILES", 3)
    cache = DiskCache(tmp_path)
    for number in range(6):
        await cache.store(f"f{number}", None, ServerEra("legacy", "2025-11-25"))
        os.utime(tmp_path / f"f{number}.json", (number, number))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["f3.json", "f4.json", "f5.json"]


async def test_a_write_only_cache_stores_and_loads_nothing(tmp_path: Path) -> None:
    kept = DiskCache(tmp_path)
    catalog = Catalog(era="legacy", version="2025-11-25")
    await WriteOnlyCache(tmp_path).store("f", catalog, None)
    assert await kept.load("f") == (catalog, None)
    assert await WriteOnlyCache(tmp_path).load("f") == (None, None)


def test_a_fingerprint_depends_on_the_command_and_not_on_values_of_variables() -> None:
    def of(**more: object) -> str:
        config = McpServer(**{"name": "a", "command": sys.executable, "args": (Secret("x"),), **more})  # type: ignore[arg-type]
        return fingerprint(config, environ={})

    base = of(env={"A": Secret("1")})
    assert base == of(env={"A": Secret("2")}, name="b")
    others = [
        of(),
        of(env={"B": Secret("1")}),
        of(env={"A": Secret("1")}, args=(Secret("y"),)),
        of(env={"A": Secret("1")}, cwd="/"),
    ]
    assert len({base, *others}) == 5

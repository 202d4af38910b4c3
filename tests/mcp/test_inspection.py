"""Tool servers of a config, inspected without a gateway."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from modelplex.config import Config, McpConfig, McpServer
from modelplex.config.settings import ServerConfig
from modelplex.mcp.approvals import LockedServer, approved
from modelplex.mcp.constants import Catalog
from modelplex.mcp.inspection import InspectedServer, InspectedServers, inspect_all, with_servers
from modelplex.mcp.lockfile import LockError, write_lock
from modelplex.mcp.servers.server import ManagedServer
from tests.mcp.harness import tool


def config_of(folder: Path, *servers: McpServer, **mcp: Any) -> Config:
    return Config(
        server=ServerConfig(state_folder=str(folder / "state")),
        mcp=McpConfig(enabled=True, servers=servers, **mcp),
        path=str(folder / "config.toml"),
    )


def catalog_of(*names: str, **members: Any) -> Catalog:
    return Catalog(era="legacy", version="2025-11-25", tools=tuple(tool(name) for name in names), **members)


def inspected(folder: Path, **mcp: Any) -> InspectedServers:
    """`git` with a new and an approved tool, and `down`, which does not start."""
    git = McpServer(name="git", command="git", tools=("!push",))
    catalog = catalog_of("log", "new", "push", instructions="be kind", prompts=({"name": "review"},))
    lock = {"git": approved(LockedServer(), catalog, tools={"log"}, prompts=(), instructions=False)}
    write_lock(folder / "modelplex.mcp.lock", lock)
    down = McpServer(name="down", command="no-such")
    servers = [
        InspectedServer(config=git, catalog=catalog),
        InspectedServer(config=down, error="it does not start"),
    ]
    return InspectedServers(config_of(folder, git, down, **mcp), servers)


def test_definitions_that_the_host_allows_wait_for_approval(tmp_path: Path) -> None:
    found = inspected(tmp_path)
    assert found.approvals.mode == "locked"
    assert [(each.kind, each.name) for each in found.waiting()] == [
        ("tool", "new"),
        ("prompt", "review"),
        ("instructions", "instructions"),
    ]
    assert found.failed
    assert list(found.judgements) == ["git"]


def test_an_approval_has_the_exposed_name(tmp_path: Path) -> None:
    waiting = inspected(tmp_path).waiting()
    assert [inspected(tmp_path).name(each) for each in waiting] == ["git__new", "git__review", "git"]
    plain = inspected(tmp_path, prefix=False)
    assert [plain.name(each) for each in plain.waiting()] == ["new", "review", "git"]


def test_the_merged_catalog_holds_what_is_not_approved(tmp_path: Path) -> None:
    names = [entry.name for entry in inspected(tmp_path).merged.entries("tools")]
    assert names == ["git__log", "git__new"]


def test_approvals_that_cannot_be_read_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "modelplex.mcp.lock").write_text("nonsense")
    with pytest.raises(LockError):
        InspectedServers(config_of(tmp_path), [])


async def test_a_server_that_does_not_start_has_its_error_and_its_stderr(tmp_path: Path) -> None:
    server = McpServer(name="quits", command="sh", args=(), env={})
    config = config_of(tmp_path, McpServer(name="missing", command="/no/such/command"), server)
    found = await inspect_all(config)
    assert [each.catalog for each in found.servers] == [None, None]
    assert all(each.error and each.config.name not in each.error for each in found.servers)
    assert found.failed


async def test_servers_are_closed_after_their_use(tmp_path: Path) -> None:
    config = config_of(tmp_path, McpServer(name="a", command="true"))
    seen: list[ManagedServer] = []

    async def use(servers: dict[str, ManagedServer]) -> str:
        seen.extend(servers.values())
        assert list(servers) == ["a"]
        return "done"

    assert await with_servers(config, config.mcp.servers, use) == "done"
    assert seen[0].state == "configured"

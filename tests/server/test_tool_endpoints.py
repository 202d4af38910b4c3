"""The tool service and its endpoints follow the config."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from itertools import islice
from pathlib import Path

from modelplex.server.tool_endpoints import request_ids
from tests.gateways import WAIT_S, Running, gateway
from tests.server.tools import DEMO, enabled


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not true():
            await asyncio.sleep(0.005)


async def reload(running: Running, folder: Path, old: str, new: str) -> None:
    file = folder / "config.toml"
    file.write_text(file.read_text().replace(old, new))
    await running.process.reload()


def test_request_ids_ascend_and_differ_between_runs() -> None:
    first, second = list(islice(request_ids(), 20)), list(islice(request_ids(), 20))
    assert first == sorted(first)
    assert len({*first, *second}) == 40


async def test_where_mcp_is_not_enabled_there_is_no_service(tmp_path: Path) -> None:
    async with gateway(DEMO, folder=tmp_path) as running:
        tools = running.process.tools
        assert (tools.service, tools.servers, tools.status(), tools.left_out()) == (None, [], [], {})
        tools.reload_approvals()
        tools.drain()


async def test_a_reload_enables_and_disables_mcp(tmp_path: Path) -> None:
    async with gateway(DEMO, folder=tmp_path) as running:
        process = running.process
        await reload(running, tmp_path, DEMO, DEMO + enabled(tmp_path))
        await until(lambda: process.app.mcp is not None)
        assert process.tools.servers == ["one"]
        assert [row["name"] for row in process.tools.status()] == ["one"]
        await reload(running, tmp_path, "enabled = true", "enabled = false")
        await process.tools.close()  # waits for what the reload closes in the background
        assert process.tools.service is None
        assert process.app.mcp is None
        assert not process.tools._background


async def test_a_stdio_socket_that_cannot_be_opened_after_a_reload_is_logged(tmp_path: Path) -> None:
    async with gateway(DEMO, folder=tmp_path) as running:
        taken = tmp_path / "taken"
        taken.write_text("")
        more = f"stdio_socket = {json.dumps(str(taken))}\n"
        await reload(running, tmp_path, DEMO, DEMO + enabled(tmp_path, more))
        log = tmp_path / "log.json"
        await until(lambda: f"{taken} is a regular file" in log.read_text())
        assert (await running.ask("GET", "/health")).status == 200

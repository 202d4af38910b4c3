"""Legacy sessions over HTTP: limits, owners, expiry."""

from __future__ import annotations

import asyncio
from pathlib import Path

from modelplex.config.mcp_settings import McpConfig
from modelplex.core.caller import Caller
from modelplex.mcp.clients.sessions import Sessions
from tests.mcp.clients.scripted import (
    BOUND,
    ScriptedBackend,
    call,
    place,
    request,
)
from tests.mcp.clients.sessions import listen, until


async def test_the_session_of_another_caller_is_unknown(tmp_path: Path) -> None:
    """Of another listener, and at another endpoint."""
    async with place(tmp_path) as there:
        headers = await there.session()
        assert (await there.post(request("ping"), headers, unix=True)).status == 404
        assert (await there.post(request("ping"), headers, path="/mcp/v1/servers/one")).status == 404
        assert (await there.post(b"", headers, unix=True, method="DELETE")).status == 404
        assert (await there.post(request("ping"), headers)).status == 200


async def test_a_session_has_the_present_permissions_of_its_agent() -> None:
    sessions = Sessions(McpConfig(enabled=True), ids=lambda: "a" * 32, clock=lambda: 0.0)
    then = Caller(listener="unix:/a", kind="unix", agent="coder", tools=("git__*",))
    session = sessions.add(ScriptedBackend(), then, server=None, single_stream=False)
    now = Caller(listener="unix:/a", kind="unix", agent="coder", tools=("time__*",))
    assert sessions.find("a" * 32, now, None) is session
    assert session.caller.tools == ("time__*",)
    other = Caller(listener="unix:/a", kind="unix", agent="reviewer")
    assert sessions.find("a" * 32, other, None) is None
    await sessions.close()


async def test_an_idle_session_ends_unless_its_stream_is_read(tmp_path: Path) -> None:
    config = McpConfig(enabled=True, session_idle=0.04)
    async with place(tmp_path, config=config) as there:
        idle, open_ = await there.session(), await there.session()
        await listen(there, open_)
        there.now[0] = 1.0
        await until(lambda: there.front.sessions == 1)
        assert (await there.post(request("ping"), idle)).status == 404
        assert (await there.post(request("ping"), open_)).status == 200


async def test_sessions_have_a_limit_and_an_idle_one_makes_room(tmp_path: Path) -> None:
    config = McpConfig(enabled=True, max_sessions=2)
    async with place(tmp_path, config=config) as there:
        left, kept = await there.session(), await there.session()
        await listen(there, kept)
        third = await there.session()
        assert (await there.post(request("ping"), left)).status == 404
        await listen(there, third)
        refused = await there.post(request("initialize", {"protocolVersion": "2025-11-25"}))
        assert refused.json["error"]["data"]["reason"] == "limit"
        assert "mcp-session-id" not in refused.headers
        assert (await there.post(request("ping"), kept)).status == 200


async def test_ending_a_session_cancels_its_requests(tmp_path: Path) -> None:
    async with place(tmp_path) as there:
        headers = await there.session()
        await there.open(call("one__hold"), headers)
        async with asyncio.timeout(BOUND):
            await there.backend.begun.wait()
            assert (await there.post(b"", headers, method="DELETE")).status == 200
            await there.backend.cancelled.wait()

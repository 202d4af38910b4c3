"""Ids of sessions, and tool calls that count for agents' limits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from modelplex.server.open_tools import session_ids
from tests.gateways import Running, gateway
from tests.limits.shared.redis_server import RedisServer, redis
from tests.server.tools import DEMO, enabled

__all__ = ["redis"]


async def call(running: Running, **more: Any) -> int:
    return (await running.ask("POST", "/mcp/v1/tools/one__echo/call", {}, **more)).status


def test_session_ids_have_128_random_bits() -> None:
    ids = {session_ids()() for _ in range(100)}
    assert len(ids) == 100
    assert all(len(bytes.fromhex(each)) == 16 for each in ids)


async def test_a_tool_call_counts_as_a_request_of_its_agent(tmp_path: Path) -> None:
    socket = tmp_path / "a.sock"
    agent = f'[[agents]]\nname = "a"\nsocket = "{socket}"\nrate = {{ requests = 1 }}\n'
    async with gateway(DEMO + agent + enabled(tmp_path), folder=tmp_path) as running:
        running.socket = str(socket)
        await call(running, unix=True)
        view = running.process.limits.view()[0]
        assert (view["running"], view["last_minute"]) == (0, {"requests": 1, "tokens": 0})
        refused = await running.ask("POST", "/mcp/v1/tools/one__echo/call", {}, unix=True)
        assert refused.status == 429
        assert "may use 1" in refused.body.decode()


async def test_a_tool_call_counts_over_all_gateways_with_the_same_engine(
    redis: RedisServer, tmp_path: Path
) -> None:
    """And a call of a model after it."""
    socket = tmp_path / "a.sock"
    agent = f'[[agents]]\nname = "a"\nsocket = "{socket}"\nrate = {{ requests = 1 }}\n'
    shared = f'[shared]\nurl = "{redis.url}"\n'
    async with gateway(DEMO + shared + agent + enabled(tmp_path), folder=tmp_path) as running:
        running.socket = str(socket)
        await call(running, unix=True)
        shared_limits = running.process.app.limits.shared
        assert shared_limits is not None
        assert shared_limits.limits.counts["reserved"] == 1
        refused = await running.ask("POST", "/mcp/v1/tools/one__echo/call", {}, unix=True)
        assert refused.status == 429
        assert (await running.chat("demo", unix=True)).status == 429
        redis.kill()
        refused = await running.ask("POST", "/mcp/v1/tools/one__echo/call", {}, unix=True)
        assert refused.status in {429, 503}
        assert "does not answer" in refused.body.decode()

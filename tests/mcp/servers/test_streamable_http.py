"""Servers over Streamable HTTP."""

import asyncio

import pytest

from modelplex.mcp.constants import Json, Unavailable
from modelplex.mcp.servers.cache import ServerEra

from .conftest import text_of, until
from .remote import CALL, TOOL, Seen, Stream, legacy, modern, remote, result, server_of, text


async def test_a_modern_request_has_headers_of_its_body_and_of_the_config() -> None:
    async with remote(modern) as it, server_of(it, headers={"Authorization": "Bearer k"}) as server:
        arguments: Json = {"region": "köln", "deep": {"n": 7}, "other": "x"}
        reply = await server.request("tools/call", {"name": "echo", "arguments": arguments})
        assert text_of(reply) == "called"
        headers = it.requests("tools/call")[0].headers
        assert headers["mcp-method"] == "tools/call"
        assert headers["mcp-name"] == "echo"
        assert headers["mcp-protocol-version"] == "2026-07-28"
        assert headers["mcp-param-region"] == "=?base64?a8O2bG4=?="
        assert headers["mcp-param-n"] == "7"
        assert headers["authorization"] == "Bearer k"
        assert "mcp-session-id" not in headers
        assert server.server_catalog.known_era == ServerEra("modern", "2026-07-28")


async def test_a_stream_has_progress_before_the_response() -> None:
    async def respond(seen: Seen, stream: Stream) -> None:
        if seen.rpc_method != "tools/call":
            await modern(seen, stream)
            return
        await stream.events()
        token = seen.message["params"]["_meta"]["progressToken"]
        params: Json = {"progressToken": token, "progress": 1}
        await stream.event({"jsonrpc": "2.0", "method": "notifications/progress", "params": params})
        await stream.event(text(seen, "done"))
        await stream.wait_closed()

    async with remote(respond) as it, server_of(it) as server:
        received: list[Json] = []
        reply = await server.request(
            "tools/call", {**CALL, "_meta": {"progressToken": "t"}}, on_notification=received.append
        )
        assert text_of(reply) == "done"
        assert received[0]["params"] == {"progressToken": "t", "progress": 1}


async def test_cancelling_a_modern_call_closes_its_stream_and_sends_nothing() -> None:
    closed = asyncio.Event()

    async def respond(seen: Seen, stream: Stream) -> None:
        if seen.rpc_method != "tools/call":
            await modern(seen, stream)
            return
        await stream.wait_closed()
        closed.set()

    async with remote(respond) as it, server_of(it) as server:
        call = asyncio.ensure_future(server.request("tools/call", CALL))
        await until(lambda: bool(it.requests("tools/call")))
        call.cancel()
        await asyncio.wait_for(closed.wait(), 1)
        assert not it.requests("notifications/cancelled")


async def test_cancelling_a_legacy_call_sends_a_notification() -> None:
    async def respond(seen: Seen, stream: Stream) -> None:
        await (stream.wait_closed() if seen.rpc_method == "tools/call" else legacy(seen, stream))

    async with remote(respond) as it, server_of(it) as server:
        call = asyncio.ensure_future(server.request("tools/call", CALL))
        await until(lambda: bool(it.requests("tools/call")))
        call.cancel()
        await until(lambda: bool(it.requests("notifications/cancelled")))
        assert (
            it.requests("notifications/cancelled")[0].message["params"]["requestId"]
            == it.requests("tools/call")[0].message["id"]
        )


async def test_a_legacy_session_is_used_and_deleted() -> None:
    async with remote(legacy) as it:
        async with server_of(it) as server:
            catalog = await server.lists()
            assert (catalog.era, catalog.version) == ("legacy", "2025-06-18")
            assert text_of(await server.request("tools/call", CALL)) == "called"
            called = it.requests("tools/call")[0].headers
            assert called["mcp-session-id"] == "session-1"
            assert called["mcp-protocol-version"] == "2025-06-18"
            assert "mcp-method" not in called
            assert "mcp-session-id" not in it.requests("initialize")[0].headers
            await until(lambda: any(seen.method == "GET" for seen in it.seen))
        assert [seen.headers["mcp-session-id"] for seen in it.seen if seen.method == "DELETE"] == [
            "session-1"
        ]


async def test_a_broken_legacy_stream_is_resumed_after_the_servers_retry_time() -> None:
    async def respond(seen: Seen, stream: Stream) -> None:
        if seen.rpc_method == "tools/call":
            await stream.events()
            await stream.event("", id="e1", retry=10)
        elif seen.method == "GET" and seen.headers.get("last-event-id") == "e1":
            await stream.events()
            await stream.event(text(it.requests("tools/call")[0], "after all"), id="e2")
            await stream.wait_closed()
        else:
            await legacy(seen, stream)

    async with remote(respond) as it, server_of(it) as server:
        assert text_of(await server.request("tools/call", CALL)) == "after all"
        assert len(it.requests("tools/call")) == 1


async def test_a_stream_without_a_response_is_a_lost_call_and_not_a_lost_server() -> None:
    async def respond(seen: Seen, stream: Stream) -> None:
        if seen.rpc_method == "tools/call":
            await stream.events()
        else:
            await modern(seen, stream)

    async with remote(respond) as it, server_of(it) as server:
        with pytest.raises(Unavailable) as lost:
            await server.request("tools/call", CALL)
        assert lost.value.reason == "lost"
        assert server.state == "ready"
        assert len(it.requests("tools/call")) == 1


async def test_the_stream_of_server_messages_is_resumed_after_a_break() -> None:
    grown: list[Json] = []

    async def respond(seen: Seen, stream: Stream) -> None:
        if seen.method == "GET":
            await stream.events()
            number = len([one for one in it.seen if one.method == "GET"])
            grown.append({**TOOL, "name": f"new{number}"})
            changed: Json = {"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}
            await stream.event(changed, id=f"g{number}", retry=10)
            if number > 1:
                await stream.wait_closed()
        elif seen.rpc_method == "tools/list":
            await stream.json(result(seen, {"tools": [TOOL, *grown]}))
        else:
            await legacy(seen, stream)

    async with remote(respond) as it, server_of(it) as server:
        received: list[Json] = []
        server.listen(lambda _, message: received.append(message))
        await server.lists()
        await until(lambda: len(received) >= 2)
        assert server.catalog is not None
        assert [tool["name"] for tool in server.catalog.tools] == ["echo", "new1", "new2"]
        assert [seen.headers.get("last-event-id") for seen in it.seen if seen.method == "GET"] == [None, "g1"]

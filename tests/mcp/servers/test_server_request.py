"""Timeouts, cancellation and repetitions of a request."""

import asyncio
import json

import pytest

from modelplex.mcp.constants import Json, McpReply, Unavailable

from .conftest import Start, text_of, until
from .remote import CALL, TOOL, Seen, Stream, error, legacy, modern, remote, result, server_of


async def test_an_idempotent_call_is_repeated_once(start: Start) -> None:
    scripted = start(extra={"idempotent": ("di*",)})
    with pytest.raises(Unavailable, match="lost during the call"):
        await scripted.call("die")
    assert len(scripted.lines('tools/call {"arguments": {}, "name": "die"')) == 2


@pytest.mark.parametrize("idempotent", [(), ("echo",)])
async def test_an_expired_session_is_replaced_and_only_safe_requests_are_repeated(
    idempotent: tuple[str, ...],
) -> None:
    forgotten = False

    async def respond(seen: Seen, stream: Stream) -> None:
        nonlocal forgotten
        if forgotten and seen.rpc_method in {"tools/call", "resources/read"}:
            forgotten = False
            await stream.json(error(seen, -32600), 404)
        else:
            await legacy(seen, stream)

    async with remote(respond) as it, server_of(it, idempotent=idempotent) as server:
        await server.lists()
        forgotten = True
        await server.request("resources/read", {"uri": "a://b"})
        assert len(it.requests("initialize")) == 2
        assert len(it.requests("resources/read")) == 2
        forgotten = True
        if idempotent:
            await server.request("tools/call", CALL)
            assert len(it.requests("tools/call")) == 2
        else:
            with pytest.raises(Unavailable, match="ended the session") as lost:
                await server.request("tools/call", CALL)
            assert lost.value.reason == "lost"
            assert len(it.requests("tools/call")) == 1
            assert text_of(await server.request("tools/call", CALL)) == "called"


async def test_a_header_mismatch_loads_the_schema_and_retries_once() -> None:
    old: Json = {"name": "echo", "inputSchema": {"type": "object"}}

    async def respond(seen: Seen, stream: Stream) -> None:
        if seen.rpc_method == "tools/list":
            await stream.json(result(seen, {"tools": [old if len(it.requests("tools/list")) == 1 else TOOL]}))
        elif seen.rpc_method == "tools/call" and "mcp-param-region" not in seen.headers:
            await stream.json(error(seen, -32020), 400)
        else:
            await modern(seen, stream)

    async with remote(respond) as it, server_of(it) as server:
        reply = await server.request("tools/call", {"name": "echo", "arguments": {"region": "eu"}})
        assert text_of(reply) == "called"
        assert len(it.requests("tools/call")) == 2
        reply = await server.request("tools/call", {"name": "unknown", "arguments": {"region": "eu"}})
        assert reply.error is not None
        assert reply.error["code"] == -32020
        assert len(it.requests("tools/call")) == 4


async def test_a_call_without_a_response_times_out_and_is_cancelled_at_the_server(
    start: Start,
) -> None:
    scripted = start(extra={"timeout": 0.2})
    with pytest.raises(Unavailable) as late:
        await scripted.call("hang")
    assert late.value.reason == "timeout"
    await until(lambda: bool(scripted.lines("cancelled")))
    assert scripted.server.state == "ready"


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_cancelling_the_task_cancels_the_call_at_the_server(start: Start, era: str) -> None:
    scripted = start(era=era)
    call = asyncio.ensure_future(scripted.call("hang"))
    await until(lambda: bool(scripted.lines("tools/call")))
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await until(lambda: bool(scripted.lines("cancelled")))


async def test_progress_renews_the_timeout_up_to_the_maximum(start: Start) -> None:
    scripted = start(extra={"timeout": 0.4}, limits={"max_call_time": 1.5})
    received: list[Json] = []
    params: Json = {
        "name": "progress",
        "arguments": {"steps": 4, "pause": 0.2},
        "_meta": {"progressToken": "mine"},
    }
    await scripted.server.request("tools/call", params, on_notification=received.append)
    assert [message["params"] for message in received] == [
        {"progressToken": "mine", "progress": n, "future": True} for n in range(4)
    ]
    endless: Json = {**params, "arguments": {"steps": 100, "pause": 0.1}}
    with pytest.raises(Unavailable) as late:
        await scripted.server.request("tools/call", endless, on_notification=received.append)
    assert late.value.reason == "timeout"


async def test_while_a_request_of_the_server_is_open_only_the_maximum_limits_the_call(start: Start) -> None:
    scripted = start(extra={"timeout": 0.2}, limits={"max_call_time": 5.0})

    async def slowly(method: str, params: Json) -> McpReply:
        await asyncio.sleep(0.5)
        return McpReply(result={"action": "accept"})

    reply = await scripted.call("ask", {"method": "elicitation/create"}, on_request=slowly)
    assert json.loads(text_of(reply))["result"] == {"action": "accept"}

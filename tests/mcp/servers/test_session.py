"""Sessions: negotiation, progress, log messages, and requests of the server."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from modelplex.mcp.constants import INTERNAL_ERROR, LEGACY_VERSIONS, METHOD_NOT_FOUND, Json, McpReply
from modelplex.mcp.servers.channel import RequestOptions
from modelplex.mcp.servers.session import (
    MAX_SERVER_REQUESTS,
    MAX_TASK_TOKENS,
    ServerSession,
    client_capabilities,
    is_supported,
)

from .channels import FakeChannel
from .conftest import Start, text_of, until
from .remote import CALL, Seen, Stream, legacy, remote, server_of, text


@pytest.mark.parametrize("version", LEGACY_VERSIONS)
async def test_each_legacy_revision_is_negotiated(start: Start, version: str) -> None:
    scripted = start(version=version)
    catalog = await scripted.server.lists()
    assert (catalog.era, catalog.version) == ("legacy", version)
    assert catalog.tools[0]["x-vendor"] == 1
    reply = await scripted.call("echo", {"a": "ü"})
    assert json.loads(text_of(reply)) == {"a": "ü"}
    assert reply.result is not None
    assert reply.result["_meta"] == {"kept": True}


async def test_a_modern_server_gets_an_envelope_and_no_handshake(start: Start) -> None:
    scripted = start(era="modern")
    catalog = await scripted.server.lists()
    assert (catalog.era, catalog.version, catalog.instructions) == ("modern", "2026-07-28", "do")
    assert catalog.info == {"name": "scripted", "version": "1"}
    params: Json = {"name": "meta", "arguments": {}, "_meta": {"vendor/x": 1}}
    reply = await scripted.server.request(
        "tools/call", params, capabilities={"elicitation": {}}, log_level="info"
    )
    meta = json.loads(text_of(reply))
    assert meta["vendor/x"] == 1
    assert meta["io.modelcontextprotocol/protocolVersion"] == "2026-07-28"
    assert meta["io.modelcontextprotocol/clientCapabilities"] == {"elicitation": {}}
    assert meta["io.modelcontextprotocol/clientInfo"]["name"] == "modelplex"
    assert meta["io.modelcontextprotocol/logLevel"] == "info"
    assert params["_meta"] == {"vendor/x": 1}
    assert not scripted.lines("initialize")


async def test_progress_of_a_task_is_passed_on_after_the_response_to_its_call(start: Start) -> None:
    scripted = start()
    received: list[Json] = []
    scripted.server.listen(lambda _, message: received.append(message))
    await scripted.server.request(
        "tools/call", {"name": "task", "arguments": {}, "task": {}, "_meta": {"progressToken": "mine"}}
    )
    await scripted.call("go_on")
    await until(lambda: len(received) == 2)
    assert [(each["method"], each["params"]) for each in received] == [
        (
            "notifications/progress",
            {
                "progressToken": "mine",
                "progress": 1,
                "_meta": {"io.modelcontextprotocol/related-task": {"taskId": "t1"}},
            },
        ),
        ("notifications/tasks/status", {"taskId": "t1", "status": "completed"}),
    ]


async def test_equal_progress_tokens_of_two_calls_do_not_mix(start: Start) -> None:
    scripted = start()
    received: list[list[Json]] = [[], []]
    calls = (
        scripted.server.request(
            "tools/call",
            {"name": "progress", "arguments": {"steps": 2 + n, "pause": 0.01}, "_meta": {"progressToken": 1}},
            on_notification=received[n].append,
        )
        for n in range(2)
    )
    await asyncio.gather(*calls)
    assert [len(messages) for messages in received] == [2, 3]


async def test_a_request_of_the_server_goes_to_the_only_call_in_flight(start: Start) -> None:
    scripted = start()
    requests: list[tuple[str, Json]] = []

    async def answer(method: str, params: Json) -> McpReply:
        requests.append((method, params))
        return McpReply(result={"action": "accept"})

    arguments: Json = {"method": "elicitation/create", "params": {"message": "?"}}
    reply = await scripted.call("ask", arguments, on_request=answer)
    assert json.loads(text_of(reply))["result"] == {"action": "accept"}
    assert requests == [("elicitation/create", {"message": "?"})]
    refused = await scripted.call("ask", arguments)
    assert json.loads(text_of(refused))["error"]["code"] == -32601
    hanging = asyncio.ensure_future(scripted.call("hang", on_request=answer))
    await until(lambda: bool(scripted.lines('tools/call {"arguments": {}, "name": "hang"')))
    ambiguous = await scripted.call("ask", arguments, on_request=answer)
    assert json.loads(text_of(ambiguous))["error"]["code"] == -32601
    assert len(requests) == 1
    hanging.cancel()


async def test_a_request_of_the_server_on_a_calls_own_stream_belongs_to_that_call() -> None:
    answers: dict[object, Json] = {}
    both = asyncio.Event()

    async def respond(seen: Seen, stream: Stream) -> None:
        if seen.rpc_method == "tools/call":
            name = seen.message["params"]["arguments"]["n"]
            await stream.events()
            await stream.event(
                {"jsonrpc": "2.0", "id": f"q{name}", "method": "elicitation/create", "params": {"n": name}}
            )
            await both.wait()
            await stream.event(text(seen, str(answers[f"q{name}"]["result"]["for"])))
        elif seen.method == "POST" and not seen.rpc_method:
            answers[seen.message["id"]] = seen.message
            await stream.empty(202)
            if len(answers) == 2:
                both.set()
        else:
            await legacy(seen, stream)

    def answering(n: int) -> Callable[[str, Json], Any]:
        async def asked_of(method: str, params: Json) -> McpReply:
            assert params == {"n": n}
            return McpReply(result={"for": n})

        return asked_of

    async with remote(respond) as it, server_of(it) as server:
        calls = (
            server.request("tools/call", {"name": "echo", "arguments": {"n": n}}, on_request=answering(n))
            for n in range(2)
        )
        assert [text_of(reply) for reply in await asyncio.gather(*calls)] == ["0", "1"]


async def test_a_request_of_the_server_ends_with_its_call() -> None:
    async def never(method: str, params: Json) -> McpReply:
        await asyncio.sleep(60)
        return McpReply(result={})

    async def respond(seen: Seen, stream: Stream) -> None:
        if seen.rpc_method == "tools/call":
            await stream.events()
            await stream.event({"jsonrpc": "2.0", "id": "q", "method": "elicitation/create", "params": {}})
            await stream.event(text(seen, "no matter"))
        else:
            await legacy(seen, stream)

    async with remote(respond) as it, server_of(it) as server:
        assert text_of(await server.request("tools/call", CALL, on_request=never)) == "no matter"
        await until(lambda: any("error" in seen.message for seen in it.seen))


async def test_a_request_that_the_server_cancels_gets_no_response() -> None:
    received, taken_back = asyncio.Event(), asyncio.Event()

    async def never(method: str, params: Json) -> McpReply:
        received.set()
        try:
            await asyncio.sleep(60)
        finally:
            taken_back.set()
        return McpReply(result={})

    async def respond(seen: Seen, stream: Stream) -> None:
        if seen.rpc_method == "tools/call":
            await stream.events()
            await stream.event({"jsonrpc": "2.0", "id": "q", "method": "elicitation/create", "params": {}})
            await received.wait()
            back: Json = {"requestId": "q"}
            await stream.event({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": back})
            await taken_back.wait()
            await stream.event(text(seen, "done"))
        else:
            await legacy(seen, stream)

    async with remote(respond) as it, server_of(it) as server:
        assert text_of(await server.request("tools/call", CALL, on_request=never)) == "done"
        assert not [seen for seen in it.seen if seen.method == "POST" and not seen.rpc_method]


async def test_roots_and_client_capabilities_are_those_of_the_config(start: Start) -> None:
    scripted = start()
    reply = await scripted.call("ask", {"method": "roots/list"})
    assert json.loads(text_of(reply))["error"]["code"] == -32601
    assert '"capabilities": {}' in scripted.lines("initialize")[0]
    rooted = start(extra={"roots": ("/srv/data",), "allow": ("elicitation",)})
    reply = await rooted.call("ask", {"method": "roots/list"})
    assert json.loads(text_of(reply))["result"] == {"roots": [{"uri": "file:///srv/data", "name": "data"}]}
    assert '"capabilities": {"elicitation": {}, "roots": {}}' in rooted.lines("initialize")[-1]
    ping = await rooted.call("ask", {"method": "ping"})
    assert json.loads(text_of(ping))["result"] == {}


async def test_log_messages_go_to_the_only_request_that_wants_any(start: Start) -> None:
    scripted = start()
    received: list[Json] = []
    general: list[Json] = []
    scripted.server.listen(lambda _, message: general.append(message))
    await scripted.call("log", {"a": 1}, on_notification=received.append, log_level="info")
    await scripted.call("log", {"a": 2}, on_notification=received.append)
    await until(lambda: len(general) == 1)
    assert [message["params"]["data"] for message in received] == [{"a": 1}]
    assert general[0]["params"]["data"] == {"a": 2}


def session_of(channel: FakeChannel, unassigned: list[Json], *, single_client: bool = False) -> ServerSession:
    return ServerSession(
        channel, declared={}, roots=(), single_client=single_client, on_unassigned=unassigned.append
    )


async def respond_to(channel: FakeChannel, request: asyncio.Task[McpReply], **members: object) -> McpReply:
    """The reply, once the newest request got this response."""
    before = len(channel.sent)  # the request has not run yet
    await until(lambda: len(channel.sent) > before)
    channel.receive({"jsonrpc": "2.0", "id": channel.sent[-1]["id"], **members})
    return await request


@pytest.mark.parametrize(
    ("members", "code"),
    [({"error": {"code": 5, "message": "no"}}, 5), ({"error": "no"}, INTERNAL_ERROR), ({}, INTERNAL_ERROR), ({"result": 1}, INTERNAL_ERROR)],
)  # fmt: skip
async def test_a_malformed_response_becomes_a_complete_error(members: Json, code: int) -> None:
    channel = FakeChannel()
    request = asyncio.create_task(session_of(channel, []).request("ping", {}))
    reply = await respond_to(channel, request, **members)
    assert reply.error is not None
    assert reply.error["code"] == code
    assert isinstance(reply.error["message"], str)


async def test_requests_of_the_server_above_the_limit_are_refused() -> None:
    channel, ended = FakeChannel(), asyncio.Event()
    session = session_of(channel, [])

    async def answer(method: str, params: Json) -> McpReply:
        await ended.wait()
        return McpReply(result={})

    options = RequestOptions(on_request=answer)
    request = asyncio.create_task(session.request("tools/call", {}, options))
    await until(lambda: len(channel.sent) == 1)
    for number in range(MAX_SERVER_REQUESTS):
        channel.receive({"id": number, "method": "elicitation/create"})
    assert len(channel.sent) == 1
    for again in (0, MAX_SERVER_REQUESTS):  # an id that is open, and one too many
        channel.receive({"id": again, "method": "elicitation/create"})
        assert channel.sent[-1]["error"]["code"] == METHOD_NOT_FOUND
    ended.set()
    await until(lambda: len(channel.sent) == 3 + MAX_SERVER_REQUESTS)
    assert [message["id"] for message in channel.sent[3:]] == list(range(MAX_SERVER_REQUESTS))
    channel.receive({"id": channel.sent[0]["id"], "result": {}})
    await request


async def test_the_oldest_task_tokens_are_dropped() -> None:
    channel, unassigned = FakeChannel(), list[Json]()
    session = session_of(channel, unassigned)
    for number in range(MAX_TASK_TOKENS + 1):
        params: Json = {"_meta": {"progressToken": f"t{number}"}}
        request = asyncio.create_task(session.request("tools/call", params))
        await respond_to(channel, request, result={"task": {"taskId": f"task{number}"}})
    first = channel.sent[0]["id"]
    for token in (first, first + 1):
        channel.receive({"method": "notifications/progress", "params": {"progressToken": token}})
    assert [message["params"]["progressToken"] for message in unassigned] == ["t1"]


@pytest.mark.parametrize(("single_client", "expected"), [(True, ["b"]), (False, [])])
async def test_the_newest_request_of_a_single_client_gets_log_messages(
    single_client: bool, expected: list[str]
) -> None:
    channel, received, unassigned = FakeChannel(), list[str](), list[Json]()
    session = session_of(channel, unassigned, single_client=single_client)

    def request(name: str) -> asyncio.Task[McpReply]:
        options = RequestOptions(on_notification=lambda _: received.append(name), log_level="info")
        return asyncio.create_task(session.request("tools/call", {}, options))

    requests = [request("a"), request("b")]
    await until(lambda: len(channel.sent) == 2)
    channel.receive({"method": "notifications/message", "params": {}})
    assert (received, len(unassigned)) == (expected, 1 - len(expected))
    for each in requests:
        each.cancel()
    await asyncio.wait(requests)


def test_capabilities_and_revisions() -> None:
    assert client_capabilities(("sampling", "roots"), ()) == {"sampling": {}, "roots": {}}
    assert client_capabilities((), ("/a",)) == {"roots": {}}
    assert is_supported({"protocolVersion": "2025-06-18"})
    assert not is_supported({"protocolVersion": "2031-01-01"})
    assert not is_supported(None)

"""What a hostile agent, a hostile tool server and a careless user do, where it once cost more than
it may: memory, time, a place in a queue, another's answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import sys
import time
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelplex.config.mcp_settings import McpConfig, McpServer
from modelplex.config.secret import Secret
from modelplex.core.caller import Caller
from modelplex.mcp import era_translation, streams
from modelplex.mcp.catalog import ServerOffer, merge
from modelplex.mcp.clients.checks import ProtocolRefusal, kind_of, malformed, modern_fault, read
from modelplex.mcp.clients.http_request import read_head
from modelplex.mcp.clients.message_stream import UNREAD_OF_CALLER, MessageStream
from modelplex.mcp.clients.session import MAX_RUNNING, ClientConversation
from modelplex.mcp.clients.sessions import KEPT_BYTES, LegacySession, Sessions
from modelplex.mcp.commands import _result  # pyright: ignore[reportPrivateUsage] - what a person sees of a result
from modelplex.mcp.constants import META_CAPABILITIES, META_VERSION, Catalog, Era, Json, McpReply, Unavailable
from modelplex.mcp.lockfile import LockError, read_lock
from modelplex.mcp.servers.events import ServerEvent
from modelplex.mcp.servers.http_endpoint import MAX_BACKGROUND
from modelplex.mcp.servers.listing import MAX_LIST_BYTES
from modelplex.mcp.servers.server import ManagedServer, ServerRuntime
from modelplex.mcp.servers.sse_events import EventReader, EventTooLong
from modelplex.mcp.usable_catalog import MAX_TEMPLATES
from tests.mcp.clients.scripted import ScriptedBackend, request
from tests.mcp.harness import Harness, ScriptedClient, ScriptedServer, Sent, error, result, text, tool
from tests.mcp.servers.remote import Seen, legacy, remote
from tests.mcp.servers.remote import Stream as Answer

WAIT = 10.0


async def soon(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT):
        while not true():
            await asyncio.sleep(0.005)


# --- a hostile agent ---


async def test_an_agent_with_all_its_calls_hanging_at_a_server_leaves_places_for_the_others() -> None:
    go = asyncio.Event()

    async def script(sent: Sent) -> McpReply:
        if sent.params.get("arguments") == {"hang": True}:
            await go.wait()
        return McpReply(result={"content": [{"type": "text", "text": "here"}]})

    harness = Harness(
        ScriptedServer("s", tools=[tool("x")], script=script), max_in_flight=64, max_server_in_flight=16
    )
    greedy, other, third = (
        ScriptedClient(agent="greedy"),
        ScriptedClient(agent="other"),
        ScriptedClient(agent="third"),
    )
    hanging = [asyncio.create_task(harness.call(greedy, "s__x", {"hang": True})) for _ in range(64)]
    await soon(lambda: len(harness.servers["s"].sent) == 12)
    assert text(await harness.call(other, "s__x")) == "here"
    hanging += [asyncio.create_task(harness.call(other, "s__x", {"hang": True})) for _ in range(64)]
    await soon(lambda: len(harness.servers["s"].sent) == 12 + 1 + 3)
    assert text(await harness.call(third, "s__x")) == "here"
    assert not any(task.done() for task in hanging)
    go.set()
    assert {text(reply) for reply in await asyncio.gather(*hanging)} == {"here"}
    assert "of 0 calls" in repr(harness.gateway)
    assert text(await harness.call(greedy, "s__x")) == "here"


async def test_an_agent_with_all_its_sessions_processes_in_use_leaves_some_for_the_others() -> None:
    go = asyncio.Event()

    async def script(sent: Sent) -> McpReply:
        await go.wait()
        return McpReply(result={"content": [{"type": "text", "text": "here"}]})

    server = ScriptedServer("s", tools=[tool("x")], script=script, scope="session")
    harness = Harness(server, max_processes=4)
    greedy = [ScriptedClient("legacy", agent="greedy", session=f"g{number}") for number in range(6)]
    calls = [asyncio.create_task(harness.call(client, "s__x")) for client in greedy for _ in range(2)]
    await soon(lambda: len(server.sent) == 6)
    assert len({sent.scope for sent in server.sent}) == 3
    other = asyncio.create_task(harness.call(ScriptedClient("legacy", agent="other", session="o"), "s__x"))
    await soon(lambda: len({sent.scope for sent in server.sent}) == 4)
    assert not any(call.done() for call in calls)
    for call in calls[6:8]:  # they wait, and are given up
        call.cancel()
    await asyncio.wait(calls[6:8])
    go.set()
    rest = await asyncio.gather(*calls[:6], *calls[8:], other)
    assert {text(reply) for reply in rest} == {"here"}
    assert len({sent.scope for sent in server.sent}) == 6
    await soon(lambda: harness.gateway._relay.running._processes.idle)  # pyright: ignore[reportPrivateUsage]


async def test_a_caller_watches_so_many_resources_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "URIS_OF_CALLER", 5)
    listed = [{"uri": f"a:{number}", "name": "x"} for number in range(10)]
    harness = Harness(ScriptedServer("s", resources=listed, capabilities={"resources": {"subscribe": True}}))
    first, second = (
        harness.opened(ScriptedClient("legacy", agent="greedy", session=name)) for name in ("one", "two")
    )
    for number in range(3):
        assert (await harness.ask(first, "resources/subscribe", {"uri": f"a:{number}"})).error is None
    for number in range(3, 5):
        assert (await harness.ask(second, "resources/subscribe", {"uri": f"a:{number}"})).error is None
    refused = error(await harness.ask(second, "resources/subscribe", {"uri": "a:5"}))
    assert refused["data"]["reason"] == "limit"
    other = harness.opened(ScriptedClient("legacy", agent="other", session="three"))
    assert (await harness.ask(other, "resources/subscribe", {"uri": "a:5"})).error is None


async def test_one_caller_alone_has_all_of_a_small_limit() -> None:
    go = asyncio.Event()

    async def script(_: Sent) -> McpReply:
        await go.wait()
        return McpReply(result={"content": []})

    harness = Harness(ScriptedServer("s", tools=[tool("x")], script=script), max_server_in_flight=2)
    client = ScriptedClient()
    calls = [asyncio.create_task(harness.call(client, "s__x")) for _ in range(3)]
    await soon(lambda: len(harness.servers["s"].sent) == 2)
    go.set()
    await asyncio.gather(*calls)
    assert len(harness.servers["s"].sent) == 3


def test_long_keys_of_meta_are_not_cached() -> None:
    reader = {f"{number}{'k' * 1_000_000}": 1 for number in range(3)}
    before = era_translation._passes.cache_info().currsize  # pyright: ignore[reportPrivateUsage]
    assert era_translation.without_reserved({**reader, "vendor/a": 1}, ("*",)) == {"vendor/a": 1}
    assert era_translation._passes.cache_info().currsize - before <= 1  # pyright: ignore[reportPrivateUsage]


def kept_stream(session: LegacySession, size: int) -> MessageStream:
    """A request's answer that the client could name, and did not stay for."""
    stream = session.request_stream(json_only=False)
    stream.ids_sent = True
    stream.put({"jsonrpc": "2.0", "id": 1, "result": {"text": "x" * size}})
    return stream


async def test_kept_streams_of_all_sessions_have_a_limit() -> None:
    backend = ScriptedBackend()
    caller = Caller(listener="unix:a", kind="unix")
    sessions = Sessions(McpConfig(enabled=True), ids=map(str, range(10**6)).__next__, clock=lambda: 0.0)
    one = sessions.add(backend, caller, server=None, single_stream=False)
    for _ in range(16):
        last = kept_stream(one, 1_000_000)
        sessions.finish_stream(one, last)
        assert one.kept_bytes <= KEPT_BYTES
        assert one.find(last.key) is last  # the newest can always be taken up
    for _ in range(100):
        each = sessions.add(backend, caller, server=None, single_stream=False)
        last = kept_stream(each, 4_000_000)
        sessions.finish_stream(each, last)
        assert each.find(last.key) is last
    gc.collect()
    held = sum(found.size for found in gc.get_objects() if isinstance(found, MessageStream))
    assert held <= 40 * 1024 * 1024
    await sessions.close()


def answer_of(size: int, id: int = 1) -> Json:
    return {"jsonrpc": "2.0", "id": id, "result": {"text": "x" * size}}


async def test_unread_responses_of_a_caller_have_a_limit() -> None:
    backend = ScriptedBackend()
    sessions = Sessions(McpConfig(enabled=True), ids=map(str, range(10**6)).__next__, clock=lambda: 0.0)
    greedy, other = (Caller(listener="tcp:a", kind="tcp", agent=name) for name in ("greedy", "other"))
    streams = [
        sessions.add(backend, greedy, server=None, single_stream=False).request_stream(json_only=False)
        for _ in range(100)
    ]
    for number, stream in enumerate(streams):
        stream.attach()
        stream.put({"jsonrpc": "2.0", "method": "notifications/message", "params": {"data": "x" * 100_000}})
        stream.put(answer_of(4_000_000, number))
    assert sum(stream.size for stream in streams) <= UNREAD_OF_CALLER
    last = msgspec.json.decode(streams[-1].after(0)[-1][1])
    assert (last["id"], last["error"]["data"]["reason"]) == (99, "limit")
    theirs = sessions.add(backend, other, server=None, single_stream=False).request_stream(json_only=False)
    theirs.attach()
    theirs.put(answer_of(4_000_000))
    assert theirs.size > 4_000_000
    await sessions.close()
    streams.clear()
    stream = theirs  # so that nothing holds one of the others
    gc.collect()
    again = MessageStream(owner=greedy.owner)
    again.put(answer_of(4_000_000))
    assert again.size > 4_000_000


async def test_an_agent_with_all_sessions_of_a_listener_leaves_room_for_another() -> None:
    backend = ScriptedBackend()
    config = McpConfig(enabled=True, max_sessions=10)
    sessions = Sessions(config, ids=map(str, range(10**6)).__next__, clock=lambda: 0.0)
    greedy, other = (Caller(listener="tcp:a", kind="tcp", agent=name) for name in ("greedy", "other"))
    for number in range(10):
        assert sessions.make_room(greedy)
        held = sessions.add(backend, greedy, server=None, single_stream=False)
        if number != 4:
            held.stream.attach()  # somebody listens to it
    mine: list[LegacySession] = []
    for _ in range(5):
        assert sessions.make_room(other)
        mine.append(sessions.add(backend, other, server=None, single_stream=False))
        mine[-1].stream.attach()
    assert len(sessions) == 10
    assert sessions.find("4", greedy, None) is None  # the one that nobody used went first
    assert not sessions.make_room(other)
    assert not sessions.make_room(greedy)
    assert all(sessions.find(each.session, other, None) is each for each in mine)
    await sessions.close()


async def test_one_connection_cannot_have_requests_without_end_waiting() -> None:
    backend = ScriptedBackend()
    stream = MessageStream()
    talk = ClientConversation(
        backend, Caller(listener="unix:a", kind="unix"), server=None, session="s", stream=stream
    )
    talk.era = "modern"
    meta: Json = {META_VERSION: "2026-07-28", META_CAPABILITIES: {}}
    done: list[int] = []
    for number in range(1000):
        message = request("subscriptions/listen", {"notifications": {}, "_meta": meta}, id=number)
        assert talk.start(message, stream, done=lambda: done.append(1))
    await soon(lambda: len(done) == 1000 - MAX_RUNNING)
    refused = [json.loads(data) for _, data in stream.after(0) if b'"error"' in data]
    assert {each["id"] for each in refused} == set(range(MAX_RUNNING, 1000))
    assert refused[0]["error"]["data"]["reason"] == "limit"
    await talk.end()


WORDS = st.sampled_from(
    [
        "s__x",
        "m__x",
        "x",
        "s__m__x",
        "__",
        "file:///etc/passwd",
        "x://../..",
        "ref/prompt",
        "2026-07-28",
        "",
        "\0\u202e",
    ]
)
ANYTHING: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | WORDS,
    lambda inside: (
        st.lists(inside, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                "name arguments uri ref type argument cursor level notifications resourceSubscriptions _meta task taskId "
                "inputResponses requestState protocolVersion progressToken query names limit".split()
            ),
            inside,
            max_size=4,
        )
    ),
    max_leaves=12,
)
PARAMS = st.dictionaries(
    st.sampled_from(
        "name arguments uri ref argument cursor level notifications inputResponses requestState task taskId _meta".split()
    ),
    ANYTHING,
    max_size=5,
)
METHODS = st.sampled_from(
    "tools/call tools/list prompts/get prompts/list resources/read resources/list resources/templates/list resources/subscribe "
    "resources/unsubscribe completion/complete ping initialize logging/setLevel server/discover tasks/get tasks/list tasks/result "
    "tasks/cancel tasks/update sampling/createMessage nothing".split()
)


@given(method=METHODS, params=PARAMS, id=ANYTHING, search=st.sampled_from(["on", "off"]))
@settings(max_examples=300, deadline=None)
def test_any_message_of_a_client_is_answered_with_json(
    method: str, params: Json, id: Any, search: Any
) -> None:
    async def ask(client: ScriptedClient) -> None:
        harness = Harness(
            ScriptedServer("s", tools=[tool("x")], templates=[{"uriTemplate": "x://{a}", "name": "t"}]),
            ScriptedServer("m", era="modern", tools=[tool("x"), tool("y")], prompts=[{"name": "p"}]),
            search=search,
        )
        message = client.message(method, params, id=id)
        reply = await asyncio.wait_for(harness.gateway.request(client, message), WAIT)
        assert (reply.result is None) != (reply.error is None)
        assert msgspec.json.decode(msgspec.json.encode(reply.message(1)))
        # What this caller may not have was asked of nobody.
        assert all(sent.params.get("name") != "y" for sent in harness.servers["m"].sent)

    for era in ("modern", "legacy"):
        client = ScriptedClient(era, tools=("s__*", "m__x"))
        if not isinstance(params.get("_meta"), dict):
            params = {key: value for key, value in params.items() if key != "_meta"}
        asyncio.run(ask(client))


@given(body=st.binary(max_size=200) | st.builds(msgspec.json.encode, ANYTHING))
def test_any_bytes_are_a_message_or_a_refusal(body: bytes) -> None:
    value = read(body, max_depth=8)
    if isinstance(value, ProtocolRefusal):
        assert value.status == 400
        return
    kind, head = kind_of(value), read_head([(b"mcp-protocol-version", body[:50])])
    found = (
        malformed(value)
        if kind in {"none", "batch"}
        else modern_fault(head, value)
        if kind == "request"
        else None
    )
    assert found is None or msgspec.json.encode(found.body())


# --- a hostile server ---


def offer(server: str, *templates: str) -> ServerOffer:
    listed: tuple[Json, ...] = tuple({"uriTemplate": each, "name": "t"} for each in templates)
    return ServerOffer(server=server, catalog=Catalog(era="legacy", version="2025-11-25", templates=listed))


@pytest.mark.slow
def test_templates_of_a_servers_making_cost_no_reader_time() -> None:
    costly = "x://" + "{+a}" * 1000
    many = [f"x://{'{+a}' * 8}{number}" for number in range(10_000)]
    merged = merge([offer("bad", costly, "x://" + "a" * 5000 + "{b}", *many), offer("good", "file:///{p}")])
    assert len([entry for entry in merged.entries("resourceTemplates") if entry.server == "bad"]) == (
        MAX_TEMPLATES
    )
    assert merged.owner("file:///a") == "good"
    assert [each.sentence for each in merged.warnings if "too long" in each.sentence]
    began = time.process_time()
    merged.owner("x://" + "a" * 8000)
    assert time.process_time() - began < 20  # it was hours; on a slow machine it is a second


def test_lines_without_anything_in_an_event_count_against_its_limit() -> None:
    reader = EventReader(limit=10_000)
    reader.feed(b"data:\n" * 9_000)
    with pytest.raises(EventTooLong):
        reader.feed(b"data:\n" * 9_000)


def test_an_events_id_that_is_no_header_is_passed_over() -> None:
    reader = EventReader(limit=10_000_000)
    reader.feed(b"id: 7\ndata: a\n\nid: " + b"8" * 100_000 + b"\ndata: b\n\n")
    assert reader.last_id == "7"


async def test_log_messages_outside_of_calls_have_a_rate_limit() -> None:
    server = ScriptedServer("s", tools=[tool("x")])
    harness = Harness(server)
    for number in range(10_000):
        server.says("notifications/message", {"level": "info", "data": f"line {number}"})
    logged = [sentence for _, sentence in harness.reports if "log message" in sentence]
    assert 50 <= len(logged) <= 101
    assert "left out" in logged[-1]


@pytest.mark.parametrize("params", [None, {}, [1], "text", 5])
async def test_a_log_message_of_any_form_breaks_nothing(params: Any) -> None:
    server = ScriptedServer("s", tools=[tool("x")])
    harness = Harness(server)
    server.says("notifications/message", params)
    assert text(await harness.call(ScriptedClient(), "s__x")) == "{}"


async def test_a_name_of_a_megabyte_makes_no_sentence_of_that_length() -> None:
    listed = [tool(f"{'x' * 1_000_000}"), tool(f"{'x' * 1_000_000}")]
    harness = Harness(ScriptedServer("s", tools=listed))
    assert await harness.names(ScriptedClient()) == []
    assert harness.reports
    assert max(len(sentence) for _, sentence in harness.reports) <= 1_000


async def test_an_error_beyond_the_largest_result_is_not_passed_on() -> None:
    async def script(_: Sent) -> McpReply:
        return McpReply(error={"code": -1, "message": "\x1b[31m" + "x" * 50_000, "data": ["y" * 50_000]})

    harness = Harness(ScriptedServer("s", tools=[tool("x")], script=script), max_result=10_000)
    found = error(await harness.call(ScriptedClient(), "s__x"))
    assert found["data"]["reason"] == "size"
    assert len(json.dumps(found)) < 1_000


async def test_a_long_error_is_cut_in_the_record_and_whole_for_the_caller() -> None:
    async def script(_: Sent) -> McpReply:
        return McpReply(error={"code": -1, "message": "x" * 50_000})

    harness = Harness(ScriptedServer("s", tools=[tool("x")], script=script))
    assert len(error(await harness.call(ScriptedClient(), "s__x"))["message"]) == 50_000
    assert len(harness.calls[-1].error or "") < 5_000


async def test_an_unknown_result_type_is_cut_in_the_error() -> None:
    async def script(_: Sent) -> McpReply:
        return McpReply(result={"resultType": "z" * 100_000, "content": []})

    harness = Harness(ScriptedServer("s", era="modern", tools=[tool("x")], script=script))
    found = result(await harness.call(ScriptedClient(), "s__x"))
    assert found["isError"] is True
    assert len(json.dumps(found)) < 1_000


class Silent(ScriptedClient):
    """A session whose client is asked, and says nothing."""

    async def send_request(self, method: str, params: Json) -> McpReply:
        self.questions.append((method, params))
        await asyncio.Event().wait()
        raise AssertionError


async def test_a_client_that_never_answers_a_modern_servers_question_ends_the_call_in_the_end() -> None:
    async def script(_: Sent) -> McpReply:
        question: Json = {"method": "elicitation/create", "params": {"message": "?", "requestedSchema": {}}}
        return McpReply(result={"resultType": "input_required", "inputRequests": {"a": question}})

    server = ScriptedServer("s", era="modern", tools=[tool("x")], script=script, allow=("elicitation",))
    harness = Harness(server, max_call_time=0.05)
    client = harness.opened(Silent("legacy", capabilities={"elicitation": {}}))
    found = result(await harness.call(client, "s__x"))
    assert found["isError"] is True
    assert client.questions
    assert "of 0 calls" in repr(harness.gateway)


@pytest.mark.parametrize(
    "content", ["text", 5, {"type": "text"}, [1, None, "x"], [{"type": "resource", "resource": "r"}], [{}]]
)
def test_a_result_of_any_form_can_be_shown_to_a_person(content: Any) -> None:
    assert all(isinstance(line, str) for line in _result({"content": content}))


async def test_a_flood_of_pings_over_http_takes_few_connections_and_ends_no_call() -> None:
    waiting: set[int] = set()
    most = 0

    async def respond(seen: Seen, answer: Answer) -> None:
        nonlocal most
        if seen.rpc_method == "tools/call":
            await answer.events()
            for number in range(2000):
                await answer.event({"jsonrpc": "2.0", "id": f"p{number}", "method": "ping"})
            await soon(lambda: len(waiting) >= MAX_BACKGROUND)
            reply = {"content": [{"type": "text", "text": "here"}]}
            await answer.event({"jsonrpc": "2.0", "id": seen.message["id"], "result": reply})
        elif "result" in seen.message:  # the answer to a ping, which is never acknowledged
            waiting.add(len(waiting))
            most = max(most, len(waiting))
            await answer.wait_closed()
        else:
            await legacy(seen, answer)

    async with remote(respond) as there:
        server = ManagedServer(McpServer(name="s", url=Secret(there.url)), limits=McpConfig(enabled=True))
        try:
            reply = await asyncio.wait_for(server.request("tools/call", {"name": "x", "arguments": {}}), WAIT)
            assert text(reply) == "here"
        finally:
            await server.close()
    assert most <= MAX_BACKGROUND


async def test_streams_that_end_after_each_event_are_not_gone_on_with_without_a_pause() -> None:
    async def respond(seen: Seen, answer: Answer) -> None:
        if seen.method == "GET":
            await answer.events()
            await answer.event("", id="7", retry=0)
        else:
            await legacy(seen, answer)

    async with remote(respond) as there:
        server = ManagedServer(McpServer(name="s", url=Secret(there.url)), limits=McpConfig(enabled=True))
        try:
            await asyncio.wait_for(server.lists(), WAIT)
            began = time.monotonic()
            await soon(lambda: len([seen for seen in there.seen if seen.method == "GET"]) >= 4)
            assert time.monotonic() - began >= 0.25  # three pauses, less what the clocks differ
        finally:
            await server.close()


def listing(folder: Path, body: str) -> list[str]:
    """A server of a few lines; `body` runs with `m`, the message, and `say`."""
    file = folder / "bad.py"
    file.write_text(
        "import json, sys\n"
        "def say(**more):\n"
        "    print(json.dumps({'jsonrpc': '2.0', **more}), flush=True)\n"
        "for line in sys.stdin:\n"
        "    m = json.loads(line)\n"
        "    if m.get('method') == 'initialize':\n"
        "        say(id=m['id'], result={'protocolVersion': '2025-11-25', 'capabilities': {'tools': {'listChanged': True}}, 'serverInfo': {}})\n"
        f"{body}"
        "    elif 'id' in m and 'method' in m:\n"
        "        say(id=m['id'], result={'content': []})\n"
    )
    return ["-S", "-E", str(file)]


@contextlib.asynccontextmanager
async def bad_server(folder: Path, body: str) -> AsyncGenerator[tuple[ManagedServer, list[ServerEvent]]]:
    found: list[ServerEvent] = []
    config = McpServer(
        name="s",
        command=sys.executable,
        args=tuple(Secret(arg) for arg in listing(folder, body)),
        protocol="legacy",
    )
    server = ManagedServer(
        config, limits=McpConfig(enabled=True), runtime=ServerRuntime(on_event=found.append)
    )
    try:
        yield server, found
    finally:
        await server.close()


async def test_a_list_of_too_many_bytes_ends_where_it_is_too_much(tmp_path: Path) -> None:
    body = (
        "    elif m.get('method') == 'tools/list':\n"
        "        n = int(m['params'].get('cursor', '0'))\n"
        "        tools = [{'name': f'x{n}', 'description': 'y' * 3_000_000, 'inputSchema': {}}]\n"
        "        say(id=m['id'], result={'tools': tools, 'nextCursor': str(n + 1)})\n"
    )
    async with bad_server(tmp_path, body) as (server, found):
        catalog = await asyncio.wait_for(server.lists(), 3 * WAIT)
        assert [each["name"] for each in catalog.tools] == ["x0", "x1"]
        assert sum(len(json.dumps(each)) for each in catalog.tools) <= MAX_LIST_BYTES
    assert any("bytes" in event.text for event in found if event.kind == "warning")


@pytest.mark.parametrize("what", ["result", "error", "params"])
async def test_a_message_of_millions_of_values_is_answered_with_its_size(what: str, tmp_path: Path) -> None:
    head = '{"jsonrpc": "2.0", "method": "x", ' if what == "params" else '{"jsonrpc": "2.0", "id": %d, '
    body = (
        "    elif m.get('method') == 'tools/call':\n"
        f"        print({head!r}.replace('%d', str(m['id'])) + '\"{what}\": {{\"content\": [' + '{{}},' * 4_000_000 + '1]}}}}', flush=True)\n"
        "        if 'params' in sys.argv: say(id=m['id'], result={'content': []})\n"
    ).replace("'params' in sys.argv", repr(what == "params"))
    async with bad_server(tmp_path, body) as (server, _):
        await asyncio.wait_for(server.lists(), WAIT)
        reply = await asyncio.wait_for(server.request("tools/call", {"name": "x"}), 3 * WAIT)
    if what == "result":
        assert "larger than the limit" in text(reply)
    elif what == "error":
        assert "larger than the limit" in error(reply)["message"]
    else:
        assert reply.result == {"content": []}


async def test_a_server_whose_lists_always_change_is_loaded_less_often(tmp_path: Path) -> None:
    body = (
        "    elif m.get('method') == 'tools/list':\n"
        "        with open('count', 'a') as file: file.write('x')\n"
        "        say(id=m['id'], result={'tools': []})\n"
        "        say(method='notifications/tools/list_changed')\n"
    ).replace("'count'", repr(str(tmp_path / "count")))
    async with bad_server(tmp_path, body) as (server, _):
        await asyncio.wait_for(server.lists(), WAIT)

        def asked() -> int:
            return len((tmp_path / "count").read_text())

        await soon(lambda: asked() >= 4)
        began, before = time.monotonic(), asked()
        await asyncio.sleep(1.0)
        # Each pause is twice the one before: of a hundred a second it has become one or two.
        assert asked() - before <= 3 + (time.monotonic() - began - 1.0) * 2
        assert (await asyncio.wait_for(server.request("ping", {}), WAIT)).result is not None


def test_a_code_that_no_client_can_read_becomes_one_that_all_know() -> None:
    eras: tuple[Era, ...] = ("legacy", "modern")
    for era in eras:
        found = era_translation.error_for_client(
            {"code": 10**40, "message": "no"}, era=era, method="tools/call"
        )
        assert found == {"code": -32603, "message": "no"}


# --- a careless user ---


def test_a_pipe_in_the_place_of_the_lock_file_is_no_lock_file(tmp_path: Path) -> None:
    path = tmp_path / "modelplex.mcp.lock"
    os.mkfifo(path)
    with pytest.raises(LockError, match="it is no file"):
        read_lock(path)


async def test_a_missing_working_folder_is_named_in_the_error(tmp_path: Path) -> None:
    config = McpServer(name="s", command=sys.executable, cwd=str(tmp_path / "gone"), protocol="legacy")
    server = ManagedServer(config, limits=McpConfig(enabled=True))
    try:
        with pytest.raises(Unavailable, match="folder that its `cwd` names"):
            await asyncio.wait_for(server.lists(), WAIT)
    finally:
        await server.close()

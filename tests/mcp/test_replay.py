"""Calls of tools answered from a recording, through a whole gateway: the same bytes, and no tool
server.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from modelplex.mcp.replay import recorded_tools
from modelplex.records.store_sink import RunInfo
from modelplex.replay.matching import Matcher, VolatileRules
from modelplex.replay.recording import (
    RecordedCall,
    RecordedRun,
    RecordingError,
    RunRecording,
    open_recording,
)
from modelplex.server.record_store import RUN_VARIABLE
from tests.gateways import Answer, Running, gateway
from tests.pipeline.test_replay import saved

SERVER = """
import json, sys
from pathlib import Path
Path(sys.argv[1]).write_text("started")
calls = 0
for line in sys.stdin:
    asked = json.loads(line)
    if "id" not in asked:
        continue
    answer = {"jsonrpc": "2.0", "id": asked["id"]}
    match asked["method"]:
        case "initialize":
            capabilities = {"tools": {}, "resources": {}, "prompts": {}}
            answer["result"] = {"protocolVersion": "2025-11-25", "capabilities": capabilities, "serverInfo": {"name": "e", "version": "1"}}
        case "tools/list":
            answer["result"] = {"tools": [{"name": "count", "description": "Counts", "inputSchema": {"type": "object"}}]}
        case "resources/list":
            answer["result"] = {"resources": [{"uri": "file:///a", "name": "a"}]}
        case "resources/templates/list":
            answer["result"] = {"resourceTemplates": []}
        case "prompts/list":
            answer["result"] = {"prompts": [{"name": "greet"}]}
        case "resources/read":
            answer["result"] = {"contents": [{"uri": asked["params"]["uri"], "text": "A"}]}
        case "prompts/get":
            answer["result"] = {"messages": [{"role": "user", "content": {"type": "text", "text": "Hello"}}]}
        case "tools/call" if asked["params"]["arguments"].get("fail"):
            answer["error"] = {"code": -32099, "message": "It failed", "data": {"why": "asked to"}}
        case "tools/call":
            calls += 1
            answer["result"] = {"content": [{"type": "text", "text": f"{sys.argv[2]} {calls}"}]}
        case _:
            answer["error"] = {"code": -32601, "message": "no"}
    print(json.dumps(answer), flush=True)
"""
DEMO = '[[providers]]\nname = "demo"\ntype = "demo"\n'


def servers(started: Path, word: str = "call") -> str:
    command = (
        f"command = {json.dumps(sys.executable)}\nargs = {json.dumps(['-c', SERVER, str(started), word])}"
    )
    return f'[mcp]\nenabled = true\npinning = "off"\n[[mcp.servers]]\nname = "one"\n{command}\n'


def tools_on(folder: Path) -> str:
    return f'[mcp]\nenabled = true\n[record]\ncontent = "full"\nstore = "{folder / "again.sqlite"}"\n'


@asynccontextmanager
async def recording(folder: Path) -> AsyncGenerator[Running]:
    run = RunInfo(id="run-1", started=0.0)
    store = folder / "records.sqlite"
    text = f'{DEMO}{servers(folder / "started")}[record]\ncontent = "full"\nstore = "{store}"\n'
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(RUN_VARIABLE, msgspec.json.encode(run).decode())
        async with gateway(text, folder=folder) as gw:
            yield gw


def replay(file: Path, more: str = "") -> str:
    return f'[[providers]]\ntype = "replay"\nfile = "{file}"\n{more}\n'


class Session:
    """A client of the older era; `bodies` are the responses, as they came."""

    def __init__(self, gw: Running, path: str = "/mcp/v1", *, token: str = "") -> None:
        self._gw, self._path = gw, path
        self._headers = [
            (b"content-type", b"application/json"),
            (b"accept", b"application/json, text/event-stream"),
        ]
        if token:
            self._headers.append((b"authorization", f"Bearer {token}".encode()))
        self._number = 0
        self.bodies: list[bytes] = []

    async def ask(self, method: str, params: Any = None) -> Any:
        self._number += 1
        message: Any = {"jsonrpc": "2.0", "id": self._number, "method": method, "params": params or {}}
        found = await self._gw.ask("POST", self._path, message, headers=self._headers)
        self.bodies.append(found.body)
        if method == "initialize" and "mcp-session-id" in found.headers:
            self._headers += [
                (b"mcp-session-id", found.headers["mcp-session-id"].encode()),
                (b"mcp-protocol-version", b"2025-11-25"),
            ]
            done = {"jsonrpc": "2.0", "method": "notifications/initialized"}
            await self._gw.ask("POST", self._path, done, headers=self._headers)
        text = found.body.decode()
        if found.headers.get("content-type") == "text/event-stream":
            text = [line for line in text.splitlines() if line.startswith("data: {")][-1].removeprefix(
                "data: "
            )
        return json.loads(text)

    async def begin(self, version: str = "1") -> Any:
        client = {"name": "test", "version": version}
        params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client}
        return await self.ask("initialize", params)

    async def call(self, name: str, **arguments: Any) -> Any:
        return await self.ask("tools/call", {"name": name, "arguments": arguments})


async def everything(gw: Running, *, version: str = "1") -> list[bytes]:
    """All kinds of requests, at both routes and over the REST form."""
    session = Session(gw)
    await session.begin(version)
    for method in ("tools/list", "resources/list", "resources/templates/list", "prompts/list", "ping"):
        await session.ask(method)
    await session.call("one__count", path="/a")
    await session.call("one__count", path="/a")
    await session.call("one__count", fail=True)
    await session.call("one__nothing")
    await session.ask("resources/read", {"uri": "file:///a"})
    await session.ask("prompts/get", {"name": "one__greet"})
    await session.ask("prompts/get", {"name": "none"})
    own = Session(gw, "/mcp/v1/servers/one")
    await own.begin()
    await own.ask("tools/list")
    await own.call("count", path="/b")
    plain: list[Answer] = [
        await gw.ask("GET", "/mcp/v1/tools"),
        await gw.ask("POST", "/mcp/v1/tools/one__count/call", {"arguments": {"n": 1}}),
        await gw.ask("POST", "/mcp/v1/tools/none/call", {"arguments": {}}),
    ]
    return [*session.bodies, *own.bodies, *(each.body for each in plain)]


async def test_every_request_of_a_session_is_answered_alike_and_no_server_starts(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    async with recording(tmp_path / "a") as gw:
        first = await everything(gw)
    file = saved(tmp_path / "a")
    assert b"call 1" in first[6]
    assert b"call 2" in first[7]
    assert b"It failed" in first[8]
    for number in range(2):
        folder = tmp_path / f"b{number}"
        folder.mkdir()
        async with gateway(replay(file) + servers(folder / "started"), folder=folder) as gw:
            assert await everything(gw, version=f"2.{number}") == first
        assert not (folder / "started").exists()


async def test_calls_of_a_replay_are_recorded(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    async with recording(tmp_path / "a") as gw:
        session = Session(gw)
        await session.begin()
        await session.call("one__count", path="/a")
    (tmp_path / "b").mkdir()
    run = msgspec.json.encode(RunInfo(id="run-2", started=0.0)).decode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(RUN_VARIABLE, run)
        async with gateway(
            replay(saved(tmp_path / "a")) + tools_on(tmp_path / "b"), folder=tmp_path / "b"
        ) as gw:
            again = Session(gw)
            await again.begin()
            await again.call("one__count", path="/a")
    before = open_recording(run="run-1", file=None, store=str(tmp_path / "a" / "records.sqlite"))
    after = open_recording(run="run-2", file=None, store=str(tmp_path / "b" / "again.sqlite"))
    facts = [
        [(c.kind, c.endpoint, c.server, c.model, c.request, c.response) for c in each.calls]
        for each in (before, after)
    ]
    assert facts[0] == facts[1]
    assert [(kind, method) for kind, method, *_ in facts[0]] == [
        ("session", "initialize"),
        ("tool", "tools/call"),
    ]


async def test_parallel_equal_calls_get_the_recorded_results_in_order(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    async with recording(tmp_path / "a") as gw:
        session = Session(gw)
        await session.begin()
        first = [(await session.call("one__count"))["result"] for _ in range(3)]
    (tmp_path / "b").mkdir()
    async with gateway(replay(saved(tmp_path / "a")) + tools_on(tmp_path / "b"), folder=tmp_path / "b") as gw:
        again = Session(gw)
        await again.begin()
        found = await asyncio.gather(*(again.call("one__count") for _ in range(3)))
        assert sorted(str(each["result"]) for each in found) == sorted(map(str, first))
        assert [(await again.call("one__count"))["result"] for _ in range(3)] == first


async def test_a_miss_names_the_nearest_call_and_the_path(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    async with recording(tmp_path / "a") as gw:
        session = Session(gw)
        await session.begin()
        await session.call("one__count", path="/a", depth=1)
        await session.call("one__count", path="/b", depth=2)
    (tmp_path / "b").mkdir()
    async with gateway(replay(saved(tmp_path / "a")) + tools_on(tmp_path / "b"), folder=tmp_path / "b") as gw:
        again = Session(gw)
        await again.begin()
        missed = (await again.call("one__count", path="/b", depth=3))["error"]
        assert missed["data"] == {"reason": "not_recorded", "path": "arguments.depth"}
        assert "has no answer to this tools/call. The nearest is its call 3 (" in missed["message"]
        assert missed["message"].endswith("differs first at arguments.depth: recorded 2, now 3.")
        other = (await again.call("one__other", path="/b", depth=2))["error"]
        assert other["data"]["path"] == "name"
        none = (await again.ask("resources/list"))["error"]
        assert none["message"].endswith("has no resources/list.")
        plain = await gw.ask("POST", "/mcp/v1/tools/one__count/call", {"arguments": {}})
        assert (plain.status, plain.error["code"]) == (400, "tool_not_recorded")
        listed = await gw.ask("GET", "/mcp/v1/tools")
        assert (listed.status, listed.error["code"]) == (400, "tool_not_recorded")


async def test_what_was_not_recorded_may_go_to_the_tool_servers(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    async with recording(tmp_path / "a") as gw:
        session = Session(gw)
        await session.begin()
        await session.call("one__count", path="/a")
    file = saved(tmp_path / "a")
    for more, words in (
        ('on_miss = "live"', ("call 1", "live 1")),
        ("live_tools = true", ("live 1", "live 2")),
    ):
        folder = tmp_path / words[0].replace(" ", "")
        folder.mkdir()
        async with gateway(replay(file, more) + servers(folder / "started", "live"), folder=folder) as gw:
            again = Session(gw)
            await again.begin()
            texts = [
                (await again.call("one__count", path=path))["result"]["content"][0]["text"]
                for path in ("/a", "/b")
            ]
            assert tuple(texts) == words


async def test_a_changed_result_is_named_in_the_models_next_request(tmp_path: Path) -> None:
    async def agent(gw: Running) -> Answer:
        session = Session(gw)
        await session.begin()
        result = (await session.call("one__count", path="/a"))["result"]
        call = {"id": "c1", "type": "function", "function": {"name": "count", "arguments": "{}"}}
        messages = [
            {"role": "user", "content": "Count."},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c1", "content": result["content"][0]["text"]},
        ]
        return await gw.ask("POST", "/v1/chat/completions", {"model": "demo", "messages": messages})

    (tmp_path / "a").mkdir()
    async with recording(tmp_path / "a") as gw:
        first = await agent(gw)
        assert first.status == 200
    file = saved(tmp_path / "a")
    (tmp_path / "b").mkdir()
    async with gateway(replay(file) + tools_on(tmp_path / "b"), folder=tmp_path / "b") as gw:
        assert (await agent(gw)).body == first.body
    lines = file.read_text().splitlines(keepends=True)
    (number,) = (n for n, line in enumerate(lines) if '"tools/call"' in line)
    lines[number] = lines[number].replace("call 1", "call 7")
    file.write_text("".join(lines))
    (tmp_path / "c").mkdir()
    async with gateway(replay(file) + tools_on(tmp_path / "c"), folder=tmp_path / "c") as gw:
        missed = await agent(gw)
    assert missed.status == 400
    assert missed.error["param"] == "messages[2].content"
    assert 'differs first at messages[2].content: recorded "call 1", now "call 7"' in missed.error["message"]


async def test_a_recording_without_tools_leaves_them_to_the_servers(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    async with recording(tmp_path / "a") as gw:
        await gw.chat("demo")
    (tmp_path / "b").mkdir()
    text = replay(saved(tmp_path / "a")) + servers(tmp_path / "b" / "started")
    async with gateway(text, folder=tmp_path / "b") as gw:
        session = Session(gw)
        await session.begin()
        assert (await session.call("one__count"))["result"]["content"][0]["text"] == "call 1"


async def test_what_an_agent_may_not_use_stays_unknown_to_it(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    async with recording(tmp_path / "a") as gw:
        session = Session(gw)
        await session.begin()
        await session.call("one__count", path="/secret")
        await session.ask("resources/read", {"uri": "file:///a"})
        await session.ask("prompts/get", {"name": "one__greet"})
        own = Session(gw, "/mcp/v1/servers/one")
        await own.begin()
        await own.call("count", path="/b")
    agents = "".join(
        f'[[agents]]\nname = "{name}"\ntoken = "token-of-{name}"\ntools = ["{glob}"]\n'
        for name, glob in (("may", "one__*"), ("no", "other__*"))
    )
    (tmp_path / "b").mkdir()
    text = replay(saved(tmp_path / "a")) + tools_on(tmp_path / "b") + agents
    async with gateway(text, folder=tmp_path / "b") as gw:
        for name, is_allowed in (("no", False), ("may", True)):
            session = Session(gw, token=f"token-of-{name}")
            await session.begin()
            own = Session(gw, "/mcp/v1/servers/one", token=f"token-of-{name}")
            await own.begin()
            found = [
                await session.call("one__count", path="/secret"),
                await session.ask("resources/read", {"uri": "file:///a"}),
                await session.ask("prompts/get", {"name": "one__greet"}),
                await own.call("count", path="/b"),
            ]
            assert ["result" in each for each in found] == [is_allowed] * 4
            missed = (await session.call("one__count", path="/other"))["error"]["message"]
            assert ("/secret" in missed) == is_allowed
            if not is_allowed:
                assert found[0]["error"]["message"] == "Unknown tool: one__count"


@pytest.mark.parametrize(
    ("method", "arguments", "said"),
    [
        ("tools/run", b"{}", "its call mpx-1 has a method that is not known: tools/run"),
        ("tools/call", b"{", "the arguments of its call mpx-1 are no JSON"),
    ],
)
def test_a_call_that_cannot_be_read_is_named(method: str, arguments: bytes, said: str) -> None:
    call = RecordedCall(id="mpx-1", kind="tool", endpoint=method, pieces=(arguments,))
    recorded = RunRecording("bug.jsonl", RecordedRun(id="run-1"), [call])
    with pytest.raises(RecordingError, match=said):
        recorded_tools(recorded, Matcher(VolatileRules()))


async def test_a_recording_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    async with gateway(replay(tmp_path / "none.jsonl") + "[mcp]\nenabled = true\n", folder=tmp_path) as gw:
        error = (await Session(gw).begin())["error"]
    assert error["data"]["reason"] == "recording_unreadable"
    assert "none.jsonl" in error["message"]

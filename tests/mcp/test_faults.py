"""Servers that break, and a gateway that is stopped, killed or full, through all of it: sockets,
gateway, processes. A fault of one server does not affect others.

The tests of single servers are in servers/.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from modelplex.mcp.constants import Json
from tests.gateways import Running, gateway
from tests.mcp.clients.scripted import Wire, call, enveloped, modern_headers, request
from tests.mcp.installed import configured
from tests.processes import Address, Gateway, answers, json_lines, run, served, until

SCRIPT = Path(__file__).parent / "servers" / "scripted.py"
FLOOD = 100_000_000
"""Bytes that a server writes and nobody wants."""
TOOLS = "names=echo,hang,sleep,pid,fork,rubbish,flood"
LISTED = sorted(["tool0", "tool1", *TOOLS.removeprefix("names=").split(",")])
WAYS = ("tcp", "unix", "lines")
"""How an agent reaches the tools: both listeners of HTTP, and the socket of lines."""


def scripted(folder: Path, name: str, *switches: str, **more: str) -> str:
    """A server in TOML that writes down what it is told, in `folder/NAME`."""
    command = [sys.executable, "-S", "-E", str(SCRIPT), f"log={folder / name}", TOOLS, *switches]
    return configured(name, command, **{"protocol": '"legacy"', **more})


def config(folder: Path, *parts: str, **more: str) -> str:
    """The whole config: what stands above the servers, and they."""
    keys = {
        "enabled": "true",
        "stdio_socket": f'"{folder / "lines.sock"}"',
        **more,
    }
    above = "\n".join(f"{key} = {value}" for key, value in keys.items())
    return f'[server]\nstate_folder = "{folder / "state"}"\n[mcp]\n{above}\n' + "\n".join(parts)


def told(folder: Path, name: str, begins: str) -> list[str]:
    """What a server wrote down that begins so."""
    journal = folder / name
    lines = journal.read_text().splitlines() if journal.exists() else []
    return [line for line in lines if line.startswith(begins)]


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in {"Z", "X"}


class Agent:
    """Calls tools of one gateway in one way; every request has the same id, since ids are each
    client's own.
    """

    def __init__(self, way: str, *, tcp: Address, folder: Path) -> None:
        self.way = way
        self._at: Address = {"tcp": tcp, "unix": str(folder / "m.sock"), "lines": str(folder / "lines.sock")}[
            way
        ]

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if isinstance(self._at, str):
            there = Path(self._at)  # the gateway opens its sockets one after the other
            await until(there.exists, what=f"the socket {there.name}")
            return await asyncio.open_unix_connection(self._at, limit=2**24)
        return await asyncio.open_connection(*self._at, limit=2**24)

    async def begin(self, message: Json) -> Wire:
        """Send it, and wait for nothing."""
        wire = Wire(*await self._connect())
        message = enveloped(message)
        if self.way == "lines":
            wire.writer.write(json.dumps(message).encode() + b"\n")
            await wire.writer.drain()
        else:
            await wire.send("POST", "/mcp/v1", json.dumps(message).encode(), modern_headers(message))
        return wire

    async def end(self, wire: Wire) -> Json:
        """The answer to what was begun."""
        try:
            async with asyncio.timeout(30):
                if self.way == "lines":
                    answer: Json = json.loads(await wire.reader.readline())
                else:
                    answer = (await wire.whole()).json
        finally:
            wire.writer.close()
        assert answer["id"] == 1
        return answer

    async def ask(self, message: Json) -> Json:
        return await self.end(await self.begin(message))

    async def call(self, name: str, arguments: Json | None = None) -> Json:
        return await self.ask(call(name, arguments))

    async def tools(self) -> list[str]:
        listed = await self.ask(request("tools/list"))
        return [tool["name"] for tool in listed["result"]["tools"]]


def text(answer: Json) -> str:
    """Of a tool's result."""
    assert "result" in answer, answer
    said: str = answer["result"]["content"][0]["text"]
    return said


def reason(answer: Json) -> tuple[str, str]:
    """Why there is no result, and of which server."""
    assert answer["error"]["code"] == -32603, answer
    return answer["error"]["data"]["reason"], answer["error"]["data"]["server"]


@asynccontextmanager
async def inside(folder: Path, text_: str) -> AsyncGenerator[Running]:
    """A gateway in this process."""
    async with gateway(text_, folder=folder) as running:
        yield running


def agent(running: Running | Gateway, folder: Path, way: str = "tcp") -> Agent:
    if isinstance(running, Gateway):
        return Agent(way, tcp=running.address, folder=folder)
    host, _, port = running.base.removeprefix("http://").rpartition(":")
    return Agent(way, tcp=(host, int(port)), folder=folder)


async def state_of(running: Running | Gateway, server: str) -> Json:
    """What the host is told of one server."""
    answer = await running.ask("GET", "/_internal/mcp")
    return next(row for row in answer.json["servers"] if row["name"] == server)


def calls_in(log: Path) -> list[Json]:
    """The log's lines of tool calls."""
    return [line for line in json_lines(log.read_text()) if line["event"] == "tool"]


async def begun(folder: Path, server: str, count: int = 1) -> None:
    """So many calls have reached the server."""
    await until(
        lambda: len(told(folder, server, "tools/call")) >= count,
        what=f"{count} calls at {server}",
        tell=(folder / server).read_text,
    )


# --- servers that break ---


@pytest.mark.parametrize("way", WAYS)
async def test_a_server_killed_in_mid_call_fails_that_call_at_once_and_the_next_one_works(
    way: str, tmp_path: Path
) -> None:
    text_ = config(tmp_path, scripted(tmp_path, "bad", timeout="600"), scripted(tmp_path, "good"))
    async with inside(tmp_path, text_) as running:
        client = agent(running, tmp_path, way)
        hanging = [await client.begin(call("bad__hang")) for _ in range(3)]
        elsewhere = await client.begin(call("good__sleep", {"seconds": 0.5, "n": 1}))
        await begun(tmp_path, "bad", 3)
        (pid,) = (await state_of(running, "bad"))["pids"]
        os.kill(pid, signal.SIGKILL)
        for wire in hanging:  # bounded far below the call's own time
            assert reason(await client.end(wire)) == ("lost", "bad")
        assert json.loads(text(await client.end(elsewhere)))["n"] == 1
        assert json.loads(text(await client.call("bad__echo", {"n": 2}))) == {"n": 2}
        assert (
            len([line for line in told(tmp_path, "bad", "tools/call") if "hang" in line]) == 3
        )  # none twice
        state = await state_of(running, "bad")
        assert state["state"] == "ready"
        assert state["restarts"] == 1
        assert "signal 9" in state["last_error"]


@pytest.mark.parametrize("way", WAYS)
async def test_a_call_without_an_answer_times_out_and_is_cancelled_at_the_server(
    way: str, tmp_path: Path
) -> None:
    text_ = config(tmp_path, scripted(tmp_path, "bad", timeout="0.3"), scripted(tmp_path, "good"))
    async with inside(tmp_path, text_) as running:
        client = agent(running, tmp_path, way)
        hanging = await client.begin(call("bad__hang"))
        await begun(tmp_path, "bad")
        assert json.loads(text(await client.call("good__echo", {"n": 1}))) == {"n": 1}
        assert reason(await client.end(hanging)) == ("timeout", "bad")
        await until(lambda: bool(told(tmp_path, "bad", "cancelled")), what="the cancellation")
        plain = await running.ask("POST", "/mcp/v1/tools/bad__hang/call", {"arguments": {}})
        assert plain.status == 504
        assert (await state_of(running, "bad"))["state"] == "ready"
        assert len(told(tmp_path, "bad", "start")) == 1


async def test_a_server_that_hangs_at_its_start_does_not_delay_others(tmp_path: Path) -> None:
    text_ = config(
        tmp_path,
        scripted(tmp_path, "bad", "start=slow:600"),
        scripted(tmp_path, "good"),
        start_timeout="1.0",
    )
    async with inside(tmp_path, text_) as running:
        client = agent(running, tmp_path)
        late = await client.begin(call("bad__echo"))
        await until(lambda: bool(told(tmp_path, "bad", "start")), what="the start")
        assert json.loads(text(await client.call("good__echo", {"n": 1}))) == {"n": 1}
        assert reason(await client.end(late)) == ("start_failed", "bad")
        assert await client.tools() == [f"good__{name}" for name in LISTED]


async def test_invalid_lines_on_stdout_are_skipped_and_logged(tmp_path: Path) -> None:
    text_ = config(tmp_path, scripted(tmp_path, "bad", "start=rubbish"), scripted(tmp_path, "good"))
    async with inside(tmp_path, text_) as running:
        client = agent(running, tmp_path)
        assert json.loads(text(await client.call("bad__rubbish", {"n": 1}))) == {"n": 1}
        assert len(told(tmp_path, "bad", "start")) == 1
    said = [line for line in json_lines((tmp_path / "log.json").read_text()) if line.get("server") == "bad"]
    assert "Welcome to the server!" in {line.get("text") for line in said}


LINES = f"""yes "$(head -c 60000 /dev/zero | tr '\\0' x)" | head -c {FLOOD}; echo; exec "$0" "$@" """
"""Before it begins to serve it writes 100 MB of lines that are no messages."""


@pytest.mark.parametrize("form", ["lines", "no end of a line"])
async def test_a_hundred_megabytes_on_stdout_cost_their_server_alone(form: str, tmp_path: Path) -> None:
    bad = (
        configured(
            "bad",
            [
                "/bin/sh",
                "-c",
                LINES.replace("\\", "\\\\").replace('"', '\\"'),
                sys.executable,
                "-S",
                "-E",
                str(SCRIPT),
                TOOLS,
            ],
            protocol='"legacy"',
        )
        if form == "lines"
        else scripted(tmp_path, "bad")
    )
    text_ = config(tmp_path, bad, scripted(tmp_path, "good"), start_timeout="50")
    async with served(text_, folder=tmp_path) as running:
        client = agent(running, tmp_path)
        await client.call("good__echo")
        before = running.resident()
        if form == "lines":
            assert json.loads(text(await client.call("bad__echo", {"n": 1}))) == {"n": 1}
        else:
            answer = await client.call("bad__flood", {"megabytes": FLOOD // 1_000_000})
            assert reason(answer) == ("lost", "bad")
        assert running.resident() - before < FLOOD / 2
        assert json.loads(text(await client.call("good__echo", {"n": 2}))) == {"n": 2}
    assert running.said.stat().st_size < 1_000_000


async def test_a_server_that_exits_at_once_enters_a_crash_loop(tmp_path: Path) -> None:
    text_ = config(tmp_path, scripted(tmp_path, "bad", "start=exit"), scripted(tmp_path, "good"))
    async with inside(tmp_path, text_) as running:
        client = agent(running, tmp_path)
        for _ in range(5):
            assert reason(await client.call("bad__echo")) == ("start_failed", "bad")
            end_the_wait(running, "bad")
        starts = len(told(tmp_path, "bad", "start"))
        assert starts == 5
        for _ in range(20):
            answer = await client.call("bad__echo")
            assert reason(answer) == ("crash_loop", "bad")
            assert answer["error"]["data"]["retryAfterMs"] > 0
        assert (await running.ask("POST", "/mcp/v1/tools/bad__echo/call", {"arguments": {}})).status == 503
        state = await state_of(running, "bad")
        assert (state["state"], state["last_error"]) == ("crash_loop", "It exited with code 3.")
        assert await client.tools() == [f"good__{name}" for name in LISTED]
        assert json.loads(text(await client.call("good__echo", {"n": 1}))) == {"n": 1}
        assert len(told(tmp_path, "bad", "start")) == starts
    failed = [
        line["ms"]["total"] for line in calls_in(tmp_path / "log.json") if line.get("reason") == "crash_loop"
    ]
    assert len(failed) >= 20
    assert min(failed) < 10  # of our own time, at its best: a busy machine is slow at times


def end_the_wait(running: Running, name: str) -> None:
    """What the clock would do in seconds: the next start may be made, unless the server is given
    up.
    """
    tools = running.process.tools.service
    assert tools is not None
    server = tools._servers[name]
    seat = server._instance("")
    if seat.life.state == "backoff":
        seat.life = msgspec.structs.replace(seat.life, until=0.0)


async def test_children_of_a_server_end_with_it(tmp_path: Path) -> None:
    text_ = config(tmp_path, scripted(tmp_path, "bad"), scripted(tmp_path, "good"))
    async with inside(tmp_path, text_) as running:
        client = agent(running, tmp_path)
        child = int(text(await client.call("bad__fork")))
        (pid,) = (await state_of(running, "bad"))["pids"]
        assert alive(pid)
        assert alive(child)
        # It dies and is started anew: the old tree is gone before.
        os.kill(pid, signal.SIGKILL)
        await until(lambda: not alive(child), what="the end of the child")
        again = int(text(await client.call("bad__fork")))
        # It is taken out of the config.
        await write(running, config(tmp_path, scripted(tmp_path, "good")), tmp_path)
        await until(lambda: not alive(again), what="the end of the second child")
        assert await client.tools() == [f"good__{name}" for name in LISTED]


async def write(running: Running | Gateway, text_: str, folder: Path) -> None:
    """Another config, and the signal to take it."""
    file = folder / "config.toml"
    (head, *_) = file.read_text().partition("state_folder")
    file.write_text(head + text_.removeprefix("[server]\n"))
    if isinstance(running, Gateway):
        running.signal(signal.SIGHUP)
    else:
        await running.process.reload()


# --- many at once, and clients that leave ---


async def test_two_hundred_calls_at_once_over_five_servers_each_get_their_own_result(tmp_path: Path) -> None:
    text_ = config(
        tmp_path,
        *(scripted(tmp_path, f"s{n}", protocol='"auto"' if n else '"legacy"') for n in range(4)),
        scripted(tmp_path, "s4", "era=modern", protocol='"auto"'),
        max_in_flight="256",
        max_server_in_flight="64",
    )
    dice = random.Random(5)
    async with inside(tmp_path, text_) as running:
        clients = [agent(running, tmp_path, way) for way in WAYS]

        async def one(number: int) -> None:
            client = clients[number % len(clients)]
            asked = {"seconds": dice.random() / 10, "n": number, "who": client.way}
            assert json.loads(text(await client.call(f"s{number % 5}__sleep", asked))) == asked

        await asyncio.gather(*(one(number) for number in range(200)))
        for number in range(5):
            assert len(told(tmp_path, f"s{number}", "tools/call")) == 40
            assert (await state_of(running, f"s{number}"))["in_flight"] == 0


@pytest.mark.parametrize("way", WAYS)
async def test_a_client_that_hangs_up_in_mid_call_cancels_it_at_the_server(way: str, tmp_path: Path) -> None:
    text_ = config(tmp_path, scripted(tmp_path, "s", timeout="600"))
    async with inside(tmp_path, text_) as running:
        client = agent(running, tmp_path, way)
        wire = await client.begin(call("s__hang"))
        await begun(tmp_path, "s")
        wire.writer.transport.abort()
        await until(lambda: bool(told(tmp_path, "s", "cancelled")), what="the cancellation")
        assert json.loads(text(await client.call("s__echo", {"n": 1}))) == {"n": 1}
        assert (await state_of(running, "s"))["in_flight"] == 0
    gone, _ = calls_in(tmp_path / "log.json")
    assert (gone["outcome"], gone["tool"]) == ("client_closed", "s__hang")


# --- the gateway's own ends and beginnings ---


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_a_gateway_that_is_ended_leaves_no_process(number: signal.Signals, tmp_path: Path) -> None:
    text_ = config(
        tmp_path,
        scripted(tmp_path, "stubborn", "ignore=eof,term"),
        scripted(tmp_path, "kind", "era=modern", protocol='"modern"'),
    )
    async with served(text_, folder=tmp_path) as running:
        client = agent(running, tmp_path)
        pids = [
            int(text(await client.call(f"{name}__{what}")))
            for name in ("stubborn", "kind")
            for what in ("pid", "fork")
        ]
        assert all(map(alive, pids))
        waiting = await client.begin(call("stubborn__sleep", {"seconds": 0.2, "n": 1}))
        await begun(tmp_path, "stubborn", 3)
        running.signal(number)
        await running.exit()
        await until(lambda: not any(map(alive, pids)), what="the end of all")
        waiting.writer.close()
        if number == signal.SIGTERM:
            assert not (tmp_path / "lines.sock").exists()


async def test_after_a_kill_lists_come_from_the_disk(tmp_path: Path) -> None:
    text_ = config(tmp_path, scripted(tmp_path, "s"))
    async with served(text_, folder=tmp_path) as running:
        client = agent(running, tmp_path, "lines")
        listed = await client.tools()
        assert listed == [f"s__{name}" for name in LISTED]
        running.signal(signal.SIGKILL)
        await running.exit()
    assert (tmp_path / "lines.sock").exists()  # nobody took it away
    async with served(text_, folder=tmp_path) as running:
        client = agent(running, tmp_path, "lines")
        assert await client.tools() == listed
        assert len(told(tmp_path, "s", "start")) == 1
        assert (await state_of(running, "s"))["state"] == "cataloged"
        assert json.loads(text(await client.call("s__echo", {"n": 1}))) == {"n": 1}
        assert len(told(tmp_path, "s", "start")) == 2


async def test_a_second_gateway_on_the_same_stdio_socket_does_not_start(
    tmp_path: Path,
) -> None:
    text_ = config(tmp_path, scripted(tmp_path, "s", start='"eager"'))
    async with served(text_, folder=tmp_path) as running:
        client = agent(running, tmp_path, "lines")
        pid = int(text(await client.call("s__pid")))
        other = (tmp_path / "config.toml").read_text().replace("m.sock", "other.sock")
        (tmp_path / "other.toml").write_text(other)
        second = await asyncio.to_thread(run, "--config", "other.toml", folder=tmp_path)
        assert second.returncode != 0
        assert "lines.sock" in second.stderr
        assert int(text(await client.call("s__pid"))) == pid
    assert not answers(str(tmp_path / "lines.sock"))


@pytest.mark.parametrize("what", ["a file in its place", "no room on the disk"])
async def test_a_catalogue_that_cannot_be_kept_is_no_reason_not_to_serve(what: str, tmp_path: Path) -> None:
    full = what == "no room on the disk"
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    if not full:
        (state / "mcp").write_text("")
    # What a file may have of bytes: none, as on a disk without any room; the log goes nowhere.
    through = 'ulimit -f 0; exec "$@"' if full else 'exec "$@"'
    text_ = config(tmp_path, scripted(tmp_path, "s").replace(f"log={tmp_path / 's'}", "tools=2"))
    stderr = subprocess.DEVNULL if full else None
    async with served(text_, folder=tmp_path, through=through, stderr=stderr) as running:
        client = agent(running, tmp_path)
        assert await client.tools() == [f"s__{name}" for name in LISTED]
        assert json.loads(text(await client.call("s__echo", {"n": 1}))) == {"n": 1}
        assert (await state_of(running, "s"))["state"] == "ready"
    async with served(text_, folder=tmp_path) as running:
        assert await agent(running, tmp_path).tools() == [f"s__{name}" for name in LISTED]


async def test_a_reload_that_changes_one_server_leaves_the_others_and_lets_its_calls_end(
    tmp_path: Path,
) -> None:
    same = scripted(tmp_path, "same")
    async with inside(tmp_path, config(tmp_path, same, scripted(tmp_path, "other"))) as running:
        client = agent(running, tmp_path)
        before = {name: int(text(await client.call(f"{name}__pid"))) for name in ("same", "other")}
        last = await client.begin(call("other__sleep", {"seconds": 1.0, "n": 1}))
        await begun(tmp_path, "other", 2)
        await write(running, config(tmp_path, same, scripted(tmp_path, "other", "tools=3")), tmp_path)
        after = {name: int(text(await client.call(f"{name}__pid"))) for name in ("same", "other")}
        assert after["same"] == before["same"]
        assert after["other"] != before["other"]
        assert json.loads(text(await client.end(last)))["n"] == 1
        await until(lambda: not alive(before["other"]), what="the end of the old one")
        assert [tool for tool in await client.tools() if "tool" in tool] == [
            *(f"same__tool{n}" for n in range(2)),
            *(f"other__tool{n}" for n in range(3)),
        ]


async def test_sessions_with_servers_of_their_own_come_and_go_without_a_trace(tmp_path: Path) -> None:
    text_ = config(tmp_path, scripted(tmp_path, "s", scope='"session"'))
    async with served(text_, folder=tmp_path) as running:
        for _ in range(4):
            await one_session(running)
        await until(lambda: len(alive_of(tmp_path)) == 1, what="the end of the sessions' processes")
        before = running.descriptors()
        for _ in range(20):
            await one_session(running)
        # The one that was asked for the lists stays until it is idle. What is closed, is closed a
        # moment after.
        await until(lambda: len(alive_of(tmp_path)) == 1, what="the end of the sessions' processes")
        await until(lambda: running.descriptors() <= before, what="the end of their descriptors")
        assert len(told(tmp_path, "s", "start")) == 25


def alive_of(folder: Path) -> list[int]:
    started = [int(line.split()[1]) for line in told(folder, "s", "start")]
    return [pid for pid in started if alive(pid)]


async def one_session(running: Gateway) -> None:
    """A client of the older protocol from beginning to end."""

    async def post(method: str, message: Json, headers: Mapping[str, str]) -> Any:
        rows = [f"{name}: {value}" for name, value in headers.items()]
        body = json.dumps(message).encode() if message else b""
        return await running.ask(method, "/mcp/v1", body, headers=rows)

    both = {"accept": "application/json, text/event-stream"}
    asked = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
    begun_ = await post("POST", request("initialize", asked), both)
    session = {
        **both,
        "mcp-session-id": begun_.headers["mcp-session-id"],
        "mcp-protocol-version": "2025-11-25",
    }
    answer = await post("POST", call("s__echo", {"n": 1}), {**session, "accept": "application/json"})
    assert b'\\"n\\": 1' in answer.body, answer
    assert (await post("DELETE", {}, session)).status in {200, 204}

"""Sockets of agents that come and go while the gateway runs."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from pathlib import Path

import pytest

from modelplex.config import Config, parse, provider_types
from modelplex.server.address import ListenError, Unix
from modelplex.server.agent_sockets import SocketChanges, SocketUpdate, agent_sockets, socket_changes
from modelplex.server.listeners import BoundSocket, close_all
from modelplex.server.socket_file import claim
from tests.gateways import Running, gateway, one
from tests.processes import answers, chat, connect, exchange, names, read_response, request, until
from tests.server.test_process import Held
from tests.upstreams import provider

DEMO = '[[providers]]\ntype = "demo"\n'
CHAT = request("POST", "/v1/chat/completions", chat("demo"))


def agent(name: str, folder: Path, more: str = "") -> str:
    return f'[[agents]]\nname = "{name}"\nsocket = "{folder / name}.sock"\n{more}\n'


def config(text: str) -> Config:
    return parse((DEMO + text).encode(), file="c.toml", environ={}, types=provider_types())


def write(running: Running, folder: Path, agents: str) -> None:
    file = folder / "config.toml"
    file.write_text(file.read_text().partition("#--")[0] + "#--\n" + agents)


async def status(path: Path) -> int:
    return read_response(await exchange(str(path), CHAT)).status


def test_an_address_that_is_the_same_is_not_touched() -> None:
    a, b, c = (Unix(f"/{name}.sock", agent=name) for name in "abc")
    changed = Unix("/b.sock", mode=0o600, agent="b")
    found = socket_changes(
        {each.path: each for each in (a, b)}, {each.path: each for each in (a, changed, c)}
    )
    assert found == SocketChanges(opened=(c,), replaced=(changed,))
    assert socket_changes({"/a.sock": a}, {}) == SocketChanges(closed=(a,))
    assert not socket_changes({"/a.sock": a}, {"/a.sock": a})


def test_all_are_claimed_or_none(tmp_path: Path) -> None:
    first = BoundSocket(old := Unix(str(tmp_path / "a.sock"), agent="a"), claim(old))
    first.publish()
    (tmp_path / "c.sock").write_text("a file")
    held = agent_sockets([first])
    with pytest.raises(ListenError, match="not a socket"):
        for _ in SocketUpdate(held, config(agent("b", tmp_path) + agent("c", tmp_path))).claim():
            pass
    assert names(tmp_path) == ["a.sock", "a.sock.lock", "c.sock"]
    close_all([first])


def test_a_replaced_socket_is_never_missing_at_its_path(tmp_path: Path) -> None:
    old = Unix(str(tmp_path / "a.sock"), agent="a")
    first = BoundSocket(old, claim(old))
    first.publish()
    update = SocketUpdate(agent_sockets([first]), config(agent("a", tmp_path, 'socket_mode = "0600"')))
    for _ in update.claim():
        assert answers(old.path)
    assert update.publish() == []
    (second,) = update.claimed
    assert update.gone == [first]
    first.close()
    # The path, and the lock, are those of the second.
    assert stat.S_IMODE(os.stat(old.path).st_mode) == 0o600  # noqa: PTH116
    assert answers(old.path)
    with pytest.raises(ListenError, match="in use"):
        claim(old)
    second.close()
    assert names(tmp_path) == []


def test_a_path_that_is_taken_meanwhile_is_left_and_the_old_one_stays(tmp_path: Path) -> None:
    update = SocketUpdate({}, config(agent("a", tmp_path) + agent("b", tmp_path)))
    for _ in update.claim():
        pass
    (tmp_path / "a.sock").write_text("a file")
    (fault,) = update.publish()
    assert "something was put at" in fault.sentence
    assert [each.address.name for each in update.claimed] == [f"unix:{tmp_path}/b.sock"]
    update.discard()
    assert names(tmp_path) == ["a.sock"]


def test_too_many_open_files_are_an_error_and_leave_nothing(tmp_path: Path) -> None:
    update = SocketUpdate({}, config("".join(agent(f"a{n}", tmp_path) for n in range(3))))
    with pytest.MonkeyPatch.context() as patch:
        made: list[object] = []

        class Limited(socket.socket):
            def __init__(self, *arguments: int, **more: int) -> None:
                made.append(self)
                if len(made) > 4:  # each takes two: one asks whether the path is in use
                    raise OSError(24, "Too many open files")
                super().__init__(*arguments, **more)

        patch.setattr("modelplex.server.socket_file.socket.socket", Limited)
        with pytest.raises(ListenError, match="Too many open files"):
            for _ in update.claim():
                pass
    assert names(tmp_path) == []


async def test_sockets_open_and_close_with_a_reload(tmp_path: Path) -> None:
    async with gateway(f"{DEMO}#--\n{agent('a', tmp_path)}", folder=tmp_path) as running:
        a, b = tmp_path / "a.sock", tmp_path / "b.sock"
        assert await status(a) == 200
        write(running, tmp_path, agent("a", tmp_path) + agent("b", tmp_path))
        await running.process.reload()
        assert [await status(a), await status(b)] == [200, 200]
        assert running.process.addresses[-1] == f"unix:{b}"
        idle, writer = await connect(str(a))
        await until(lambda: bool(running.process.traffic.open), what="the connection")
        write(running, tmp_path, agent("b", tmp_path))
        await running.process.reload()
        assert not answers(str(a))
        assert not a.exists()
        assert await asyncio.wait_for(idle.read(), 20) == b""
        writer.close()
        assert await status(b) == 200
        rows = (await running.ask("GET", "/_internal/agents")).json["agents"]
        assert [row["agent"] for row in rows] == ["b"]
    assert not [name for name in names(tmp_path) if "sock" in name]


async def test_a_running_request_of_a_closed_socket_ends_as_it_would(tmp_path: Path) -> None:
    held = Held()
    async with (
        provider(held.act()) as up,
        gateway(f"{one(up.url)}#--\n{agent('a', tmp_path)}", folder=tmp_path) as running,
    ):
        reader, writer = await connect(str(tmp_path / "a.sock"))
        writer.write(request("POST", "/v1/chat/completions", chat(stream=True), close=False))
        got = await asyncio.wait_for(reader.readuntil(b'"first"'), 20)
        write(running, tmp_path, "")
        await running.process.reload()
        assert not (tmp_path / "a.sock").exists()
        held.gate.set()
        got += await asyncio.wait_for(reader.read(), 20)
        writer.close()
        assert b"[DONE]" in got


async def test_a_socket_that_cannot_be_bound_refuses_the_whole_reload(tmp_path: Path) -> None:
    async with gateway(f"{DEMO}#--\n{agent('a', tmp_path)}", folder=tmp_path) as running:
        (tmp_path / "c.sock").write_text("a file")
        write(running, tmp_path, agent("b", tmp_path) + agent("c", tmp_path))
        await running.process.reload()
        assert await status(tmp_path / "a.sock") == 200
        assert not (tmp_path / "b.sock").exists()
        log = (tmp_path / "log.json").read_text
        await until(lambda: "reload refused, the old config stays" in log(), what="the line")
        assert "c.sock is a regular file" in log()
        rows = (await running.ask("GET", "/_internal/agents")).json["agents"]
        assert [row["agent"] for row in rows] == ["a"]


async def test_a_reload_of_a_thousand_agents_touches_those_that_changed(tmp_path: Path) -> None:
    """By their listeners, counters and policies, which stay the same objects."""
    agents = [agent(f"a{n}", tmp_path, "rate = { requests = 9 }") for n in range(1000)]
    async with gateway(f"{DEMO}#--\n{''.join(agents)}", folder=tmp_path) as running:
        process = running.process
        sockets = agent_sockets(process._serving().sockets)
        before = {path: (each, each.server, each.socket) for path, each in sockets.items()}
        accounts, policies = dict(process.limits._accounts), dict(process.callers.policies)
        assert len(before) == 1000
        gone, changed, new = f"{tmp_path}/a0.sock", "a1", f"{tmp_path}/new.sock"
        agents[1] = agent(changed, tmp_path, "rate = { requests = 8 }")
        write(running, tmp_path, "".join([*agents[1:], agent("new", tmp_path)]))
        await process.reload()
        after = {
            path: (each, each.server, each.socket)
            for path, each in agent_sockets(process._serving().sockets).items()
        }
        assert after.keys() == {*before, new} - {gone}
        assert all(after[path] == before[path] for path in after.keys() & before.keys())
        same = {name for name, account in process.limits._accounts.items() if accounts.get(name) is account}
        assert same == {f"a{n}" for n in range(1, 1000)}
        kept = {key for key, policy in process.callers.policies.items() if policies.get(key) is policy}
        assert {name for _, name in kept} == {"", *(f"a{n}" for n in range(2, 1000))}
        assert [await status(tmp_path / "new.sock"), await status(tmp_path / "a999.sock")] == [200, 200]

"""A worker without its supervisor: this test holds the other end."""

from __future__ import annotations

import asyncio
import pickle
import socket
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import msgspec
import pytest

from modelplex.config import Config, parse, provider_types
from modelplex.config.api_agents import JoinedAgents
from modelplex.config.workers import assign
from modelplex.confinement.confine import UNCONFINED
from modelplex.core.errors import ClientError
from modelplex.core.request import Attempt
from modelplex.records.log_lock import OutputLock
from modelplex.server.address import Unix
from modelplex.server.listeners import BoundSocket
from modelplex.server.socket_file import claim
from modelplex.server.workers import worker
from modelplex.server.workers.descriptors import channel_pair, send_sockets
from modelplex.server.workers.messages import (
    AgentChanged,
    Applied,
    ChangeAgent,
    Failed,
    Frames,
    Message,
    NewConfig,
    Ready,
    StateMade,
    Stop,
    frame,
)
from modelplex.server.workers.worker import ConfigUpdate, WorkerPlace, WorkerProcess
from tests.processes import chat, exchange, read_response, request, until

TEXT = """\
[server]
workers = 2
http = "127.0.0.1:0"
socket = "FOLDER/m.sock"
state_folder = "FOLDER/state"
[log]
file = "FOLDER/log"
[[providers]]
type = "demo"
"""


def read(folder: Path, *, more: str = "") -> Config:
    text = (TEXT + more).replace("FOLDER", str(folder))
    return parse(text.encode(), file="config.toml", environ={}, types=provider_types())


def place(
    folder: Path, channel: socket.socket, config: Config, descriptors: socket.socket | None = None
) -> WorkerPlace:
    address = Unix(str(folder / "m.sock"))
    return WorkerPlace(
        number=1,
        assignment=assign(config),
        sockets=[BoundSocket(address, claim(address))],
        stdio=None,
        addresses=[address.name],
        channel=channel,
        descriptors=descriptors or channel,
        lock=OutputLock(),
    )


@dataclass
class Served:
    process: WorkerProcess
    path: str
    ours: socket.socket
    serving: asyncio.Task[int]
    frames: Frames
    descriptors: socket.socket

    async def message(self) -> Message:
        async with asyncio.timeout(20):
            while True:
                if found := self.frames.feed(await asyncio.get_running_loop().sock_recv(self.ours, 65536)):
                    assert len(found) == 1
                    return found[0]

    def send_config(
        self, config: Config, *, opened: Sequence[BoundSocket] = (), closed: Sequence[str] = ()
    ) -> None:
        addresses = [each.address for each in opened]
        joined = JoinedAgents(config, frozenset(), {})
        update = ConfigUpdate(joined, assign(config), ["unix:/all"], addresses, [*closed])
        send_sockets(self.descriptors, [each.socket for each in opened])
        self.ours.sendall(frame(NewConfig(pickle.dumps(update))))

    async def status(self, model: str) -> int:
        data = request("POST", "/v1/chat/completions", chat(model))
        return read_response(await exchange(self.path, data)).status


@asynccontextmanager
async def served(
    folder: Path, *, more: str = "", first: tuple[Config, list[BoundSocket]] | None = None
) -> AsyncGenerator[Served]:
    """`first` is sent before the worker starts."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    config = read(folder, more=more)
    descriptors, end = channel_pair()
    process = WorkerProcess(config, place(folder, theirs, config, end), verbose=False)
    serving = asyncio.create_task(process.serve())
    there = Served(process, str(folder / "m.sock"), ours, serving, Frames(), descriptors)
    if first is not None:
        there.send_config(first[0], opened=first[1])
    try:
        assert await there.message() == Ready()
        yield there
    finally:
        ours.close()
        descriptors.close()
        end.close()
        assert await asyncio.wait_for(serving, 20) == 0


async def test_it_says_when_it_serves_and_applies_a_config(tmp_path: Path) -> None:
    async with served(tmp_path) as there:
        assert await there.status("demo") == 200
        assert await there.status("other") == 404
        changed = read(tmp_path, more='[aliases]\nother = ["demo"]\n')
        there.send_config(changed)
        assert await there.message() == Applied()
        assert await there.status("other") == 200
        there.ours.sendall(frame(Stop()))
        assert await asyncio.wait_for(asyncio.shield(there.serving), 20) == 0


async def test_sockets_of_agents_come_and_go_with_a_config(tmp_path: Path) -> None:
    async with served(tmp_path) as there:
        path = tmp_path / "a.sock"
        agent = '[[agents]]\nname = "a"\nsocket = "FOLDER/a.sock"\n'
        bound = BoundSocket(Unix(str(path), agent="a"), claim(Unix(str(path), agent="a")))
        bound.publish()
        there.send_config(read(tmp_path, more=agent), opened=[bound])
        assert await there.message() == Applied()
        data = request("POST", "/v1/chat/completions", chat("demo"))
        assert read_response(await exchange(str(path), data)).status == 200
        assert f"unix:{path}" in there.process.addresses
        there.send_config(read(tmp_path), closed=[str(path)])
        assert await there.message() == Applied()
        assert f"unix:{path}" not in there.process.addresses
        bound.close()


async def test_a_config_that_comes_while_it_starts_is_applied_once_it_serves(tmp_path: Path) -> None:
    address = Unix(str(tmp_path / "a.sock"), agent="a")
    bound = BoundSocket(address, claim(address))
    bound.publish()
    agent = '[[agents]]\nname = "a"\nsocket = "FOLDER/a.sock"\n'
    # Its ledger is opened in a thread: meanwhile the config comes.
    budget = f"{agent}budget = {{ tokens = 9 }}\n"
    async with served(tmp_path, more=budget, first=(read(tmp_path, more=agent), [bound])) as there:
        assert await there.message() == Applied()
        data = request("POST", "/v1/chat/completions", chat("demo"))
        assert read_response(await exchange(address.path, data)).status == 200
    bound.close()


async def test_an_agent_of_the_api_is_changed_by_the_supervisor(tmp_path: Path) -> None:
    async with served(tmp_path) as there:
        changing = asyncio.create_task(there.process._agents.change("x", b"{}"))
        asked = await there.message()
        assert asked == ChangeAgent(1, 1, "x", b"{}")
        there.ours.sendall(frame(AgentChanged(1, "created")))
        assert await asyncio.wait_for(changing, 20) == "created"
        changing = asyncio.create_task(there.process._agents.change("x", None))
        await there.message()
        there.ours.sendall(frame(AgentChanged(2, None, 404, "agent_not_found", "There is none.")))
        with pytest.raises(ClientError, match="There is none") as refused:
            await asyncio.wait_for(changing, 20)
        assert (refused.value.status, refused.value.code) == (404, "agent_not_found")


async def test_it_stops_when_the_supervisor_has_ended(tmp_path: Path) -> None:
    async with served(tmp_path) as there:
        there.ours.shutdown(socket.SHUT_RDWR)
        assert await asyncio.wait_for(asyncio.shield(there.serving), 20) == 0
    log = (tmp_path / "log").read_text()
    assert '"event":"the supervisor has ended, and so does this worker","worker":1' in log


async def test_workers_tell_each_other_who_made_opaque_state(tmp_path: Path) -> None:
    async with served(tmp_path) as there:
        origins = there.process._state.origins
        attempt = Attempt(provider="p", model="m", dialect="openai_chat", account="k")
        origins.remember((), attempt)
        origins.remember(("mine",), attempt)
        assert await there.message() == StateMade((hash("mine"),), "p", "k")
        there.ours.sendall(frame(StateMade((hash("theirs"),), "q", "l")))
        await until(lambda: origins.find("theirs") == ("q", "l"), what="the origin")


def test_it_says_why_it_cannot_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "state").write_text("not a folder")
    # It would confine the process of the tests, for good.
    monkeypatch.setattr(worker, "confine_process", mock.Mock(return_value=UNCONFINED))
    ours, theirs = socket.socketpair()
    config = read(
        tmp_path, more='[[agents]]\nname = "a"\nsocket = "FOLDER/a.sock"\nbudget = { tokens = 1 }\n'
    )
    there = place(tmp_path, theirs, config)
    assert worker.run(config, there, verbose=False) == 1
    there.sockets[0].close()
    (failed,) = Frames().feed(ours.recv(65536))
    assert isinstance(failed, Failed)
    assert failed.sentence.startswith("what agents spent cannot be kept in ")
    ours.close()


def test_a_config_is_the_same_after_pickling(tmp_path: Path) -> None:
    more = '[[providers]]\nname = "o"\ntype = "openai"\napi_key = "sk-secret-1"\nallow = [{ rule = "web-search", domains = ["a.example"] }]\n'
    config = read(tmp_path, more=more)
    copied = pickle.loads(pickle.dumps(config))
    assert copied == config
    assert copied.providers[1].api_key[0].reveal() == "sk-secret-1"
    assert msgspec.structs.asdict(copied.server) == msgspec.structs.asdict(config.server)

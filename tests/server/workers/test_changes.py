"""Another config for running workers."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from unittest import mock

from modelplex.config.api_agents import JoinedAgents
from modelplex.config.workers import assign
from modelplex.server.config_source import AgentChange
from modelplex.server.service_manager import ServiceManager
from modelplex.server.workers.changes import WorkerChanges
from modelplex.server.workers.child import Child
from modelplex.server.workers.messages import ChangeAgent
from modelplex.server.workers.sockets import SocketShare
from tests.config.configs import read
from tests.processes import answers, names, served, until
from tests.server.test_agent_sockets import agent, status

DEMO = '[[providers]]\ntype = "demo"\n'


async def test_sockets_come_and_go_and_those_of_a_new_worker_are_served_again(tmp_path: Path) -> None:
    head = f'[server]\nworkers = 2\nstate_folder = "{tmp_path / "state"}"\n{DEMO}'
    async with served(head + agent("a", tmp_path), folder=tmp_path) as running:
        file = tmp_path / "config.toml"
        start = file.read_text()
        file.write_text(start + agent("b", tmp_path) + agent("c", tmp_path))
        running.signal(signal.SIGHUP)
        await running.line("config reloaded")
        assert [await status(tmp_path / f"{name}.sock") for name in "abc"] == [200] * 3
        rows = (await running.ask("GET", "/_internal/status")).json["workers"]
        assert {row["worker"] for row in rows if any(".sock" in each for each in row["listeners"])} == {1, 2}
        # The supervisor holds the new sockets too: they outlive their worker.
        for row in rows:
            os.kill(row["pid"], signal.SIGKILL)
        assert [await status(tmp_path / f"{name}.sock") for name in "abc"] == [200] * 3
        file.write_text(
            start.replace(agent("a", tmp_path), "") + agent("b", tmp_path, 'socket_mode = "0600"')
        )
        running.signal(signal.SIGHUP)
        await until(lambda: not (tmp_path / "c.sock").exists(), what="the end of the socket")
        assert not answers(str(tmp_path / "a.sock"))
        assert await status(tmp_path / "b.sock") == 200
        (tmp_path / "d.sock").write_text("a file")
        file.write_text(file.read_text() + agent("d", tmp_path))
        running.signal(signal.SIGHUP)
        refused = await running.line("reload refused, the old config stays")
        assert "d.sock is a regular file" in refused["faults"][0]
    assert [name for name in names(tmp_path) if "sock" in name] == ["d.sock"]


def test_a_reload_is_reported_once_when_every_worker_has_applied_all() -> None:
    """A change by the API has an answer, and no line."""
    config = read(DEMO)
    joined = JoinedAgents(config, frozenset(), {})
    source, sockets, log = mock.Mock(config=config), mock.Mock(assignment=assign(config)), mock.Mock()
    source.load.return_value = joined
    source.put.return_value = AgentChange("created", mock.Mock(), joined)
    sockets.update.return_value = mock.Mock(claim=lambda: iter(()), publish=list)
    sockets.adopt.return_value = {1: SocketShare(), 2: SocketShare()}
    children = [Child(number, sockets=[], stdio=None) for number in (1, 2)]
    for child in children:
        child.pid = 1
    changes = WorkerChanges(source, sockets, children, log, ServiceManager())
    assert changes.change(ChangeAgent(1, 1, "a", b"{}")).outcome == "created"
    for child in children:
        changes.applied(child)
    changes.reload()
    changes.change(ChangeAgent(2, 1, "b", b"{}"))
    for child in children:
        changes.applied(child)
    assert not log.info.called
    changes.applied(children[0])
    changes.ended(children[1])
    log.info.assert_called_once_with("config reloaded", providers=["demo"])
    changes.applied(children[0])
    assert log.info.call_count == 1

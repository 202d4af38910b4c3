"""Changes of the config are made one after the other. test_agent_sockets.py and test_agents_api.py
have the changes themselves.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from unittest import mock

import pytest

from tests.gateways import gateway
from tests.processes import until
from tests.server.test_agents_api import ask, config


async def test_reloads_that_are_asked_for_at_once_are_one(tmp_path: Path) -> None:
    async with gateway(config(tmp_path), folder=tmp_path) as running:
        first = running.process.reload()
        assert running.process.reload() is first
        await first
        assert running.process.reload() is not first


async def test_changes_at_once_are_all_kept(tmp_path: Path) -> None:
    async with gateway(config(tmp_path), folder=tmp_path) as running:
        agents = {f"a{n}": {"socket": str(tmp_path / f"a{n}.sock")} for n in range(20)}
        reload = running.process.reload()
        made = await asyncio.gather(*(ask(tmp_path, "PUT", name, body) for name, body in agents.items()))
        assert [each.json["outcome"] for each in made] == ["created"] * 20
        await reload
        assert {agent.name for agent in running.process._config.agents} == agents.keys()
        gone = await asyncio.gather(*(ask(tmp_path, "DELETE", name) for name in agents))
        assert [each.json["outcome"] for each in gone] == ["deleted"] * 20


async def test_a_changed_file_is_loaded_unless_a_program_may_write_it(tmp_path: Path) -> None:
    async with gateway(config(tmp_path), folder=tmp_path) as running:
        file, changes = tmp_path / "config.toml", running.process._changes
        file.write_text(file.read_text() + "# more\n")
        changes.look(is_writable=True)
        log = (tmp_path / "log.json").read_text
        await until(lambda: "SIGHUP loads it" in log(), what="the line")
        assert "config reloaded" not in log()
        file.write_text(file.read_text() + "# and more\n")
        changes.look(is_writable=False)
        await until(lambda: "config reloaded" in log(), what="the reload")


async def test_a_reload_that_fails_unexpectedly_is_told_to_have_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """systemd would wait for it, and call the service failed."""
    async with gateway(config(tmp_path), folder=tmp_path) as running:
        changes, said = running.process._changes, list[str]()
        monkeypatch.setattr(changes._manager, "_send", said.append)
        monkeypatch.setattr(changes._source, "load", mock.Mock(side_effect=RuntimeError("a defect")))
        with pytest.raises(RuntimeError, match="a defect"):
            await running.process.reload()
        assert [each.partition("\n")[0] for each in said] == ["RELOADING=1", "READY=1"]

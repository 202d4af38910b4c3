"""docs/how-to/many-machines.md: its commands and its config, with three hosts that are folders of
this machine.
"""

from __future__ import annotations

import json
import re
import subprocess
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from modelplex import cli
from tests.limits.shared.redis_server import PASSWORD, RedisServer, redis
from tests.processes import Gateway, answers, environment, served, until
from tests.records.store.server import postgresql_address, postgresql_server

__all__ = ["postgresql_address", "postgresql_server", "redis"]

PAGE = Path(__file__).resolve().parent.parent / "docs" / "how-to" / "many-machines.md"
HOSTS = ("one", "two", "three")

pytestmark = pytest.mark.docs


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), re.DOTALL)


def shell(command: str, folder: Path) -> str:
    """On the host of this name."""
    line = f"hostname() {{ echo {folder.name}; }}\n{command}"
    done = subprocess.run(
        ["/bin/bash", "-ec", line],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.timeout(180)
async def test_500_agents_on_three_hosts(
    redis: RedisServer,
    postgresql_address: str,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    (config,) = blocks("toml")
    _, _, agents, request, used = blocks("bash")
    here = config.replace("limits.example.com:6379", f"127.0.0.1:{redis.port}")
    store = "postgresql://modelplex:${RECORD_PASSWORD}@records.example.com/records"
    assert store in here
    here = here.replace(store, postgresql_address)
    environ = {"LIMITS_PASSWORD": PASSWORD, "RECORD_PASSWORD": "unused"}
    async with AsyncExitStack() as stack:
        hosts: list[Gateway] = []
        for name in HOSTS:
            folder = tmp_path / name
            folder.mkdir()
            text = here.replace("[server]", f'[server]\nsocket = "{folder / "m.sock"}"\nhttp = []', 1)
            text = text.replace("[record]", f'[record]\nhost = "{name}"', 1)
            hosts.append(
                await stack.enter_async_context(
                    served(text, "--config", "config.toml", folder=folder, environ=environ)
                )
            )
        for host in hosts:
            made = shell(agents, host.folder)
            assert made.count('"outcome":"created"') == 167
            assert answers(str(host.folder / "sockets" / "167.socket"))
        for host in hosts:
            assert "choices" in json.loads(shell(request, host.folder))
        status, accounts, usage = used.splitlines()
        found = json.loads(shell(status, hosts[0].folder))["shared"]
        assert (found["state"], found["nodes"]) == ("connected", 3)
        assert PASSWORD not in json.dumps(found)

        def team() -> int:
            teams = json.loads(shell(accounts, hosts[0].folder))["teams"]
            spent: int = teams[0]["spent"]["requests"]
            return spent

        shell(request, hosts[0].folder)
        await until(lambda: team() == 4, what="what all hosts used", seconds=30)

    assert usage.startswith("modelplex usage --config config.toml ")
    words = usage.removeprefix("modelplex usage --config config.toml ").split()
    capfd.readouterr()
    assert cli.main(["usage", *words, "--store", postgresql_address]) == 0
    lines = [row.split()[:2] for row in capfd.readouterr().out.splitlines()]
    assert sorted(lines[1:]) == sorted([["one", "2"], ["two", "1"], ["three", "1"], ["all", "4"]])

"""The socket at which runs attach to a gateway."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import modelplex
from modelplex.config import Config
from modelplex.records.run_facts import SandboxFacts
from modelplex.records.store.database import open_database
from modelplex.records.store.queries import facts_of_run
from modelplex.sandbox.run_link import RunLink, connect
from modelplex.server.address import ListenError
from modelplex.server.run_control import RunControl, control_of_host
from tests.gateways import gateway
from tests.processes import WAIT_S
from tests.server.run_links import control


@pytest.fixture
def short() -> Iterator[str]:
    """A folder whose path leaves room for a socket's."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        yield folder


DEMO = '[[providers]]\nname = "mine"\ntype = "demo"\n'


async def test_what_is_no_run_is_not_served(tmp_path: Path) -> None:
    async with gateway(DEMO, folder=tmp_path) as gw, control(gw) as runs:
        assert stat.S_IMODE(Path(runs.path).stat().st_mode) == 0o600
        for said in (
            b"",
            b"{}\n",
            b"no json\n",
            b"x" * 100,
            b'{"path": "/x", "run": {"id": "r", "started": 1}}\n',
        ):
            with socket.socket(socket.AF_UNIX) as peer:
                peer.connect(runs.path)
                peer.sendall(said)
                peer.shutdown(socket.SHUT_WR)
                assert await asyncio.to_thread(peer.recv, 100) == b""
        run = await runs.attach()
        assert run.link.reply is not None
        assert run.link.reply.pid == os.getpid()


async def test_a_gateway_of_runs_ends_with_the_last(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    async with gateway(DEMO, folder=tmp_path) as gw, control(gw, first=theirs) as runs:
        other = await runs.attach()
        ours.close()  # the run that started it was killed before it attached
        ended = (await other.leave()).ended
        assert ended is not None
        assert ended.is_last
        assert connect(runs.path) is None


async def test_a_run_sees_that_its_gateway_ends(tmp_path: Path) -> None:
    async with gateway(DEMO, folder=tmp_path) as gw:
        made = RunControl(None, first=(pair := socket.socketpair())[1])
        made.claim()
        await made.open(gw.process.runs)
        await made.close()
        link = RunLink(pair[0])
        await asyncio.to_thread(link.read, wait_s=WAIT_S)
        assert link.is_over
        assert link.ended is None
        link.close()


def test_a_second_gateway_of_a_config_takes_no_runs(tmp_path: Path) -> None:
    path = str(tmp_path / "c.runs")
    first, second = RunControl(path), RunControl(path)
    first.claim()
    second.claim()
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(ListenError):
        RunControl(path, first=theirs).claim()
    asyncio.run(first.close())
    asyncio.run(second.close())


def test_runs_find_the_gateway_of_the_same_file(tmp_path: Path, short: str) -> None:
    environ = {"XDG_STATE_HOME": short}
    (tmp_path / "link.toml").symlink_to(tmp_path / "config.toml")
    names = [
        repr(control_of_host(Config(path=str(tmp_path / name)), environ=environ))
        for name in ("config.toml", "link.toml", "other.toml")
    ]
    assert names[0] == names[1] != names[2]
    assert repr(control_of_host(Config(), environ=environ)).endswith("at None>")


@pytest.mark.parametrize("at_once", [True, False])
async def test_what_a_run_measured_is_recorded_with_its_policy(tmp_path: Path, at_once: bool) -> None:
    """Also before the request is answered; and again after a reload."""
    place = tmp_path / "records.sqlite"
    text = f'{DEMO}[record]\nstore = "{place}"\n'
    async with gateway(text, folder=tmp_path) as gw, control(gw) as runs:
        facts = SandboxFacts(interfaces=("lo",), routes=0, own_network=True)
        run = await runs.attach(facts=facts if at_once else None)
        if not at_once:
            run.link.report(facts)
        assert (await run.ask("demo")).status == 200
        await gw.process.reload()
        await run.leave()
    database = open_database(place, read_only=True)
    first, second = facts_of_run(database, "run-1")
    database.close()
    assert first.sandbox == second.sandbox == facts
    assert (first.sealed, first.version) == (True, modelplex.__version__)
    assert len(first.config) == 64

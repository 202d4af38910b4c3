"""The views of one of several workers. tests/server/workers/test_supervisor.py asks real ones."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from modelplex.config.workers import Assignment
from modelplex.records.metrics import CONTENT_TYPE
from modelplex.server.process import GatewayProcess
from modelplex.server.workers.admin import CollectedAdmin
from modelplex.server.workers.merge import Workers
from modelplex.server.workers.messages import Answer, Ask, Message
from tests.gateways import gateway
from tests.processes import Gateway, run, served, until


class PairProcess(GatewayProcess):
    """A gateway whose views are those of the first of two workers."""

    admin_class = CollectedAdmin


async def ask_other(sent: list[Message]) -> Ask:
    async with asyncio.timeout(10):
        while not sent:
            await asyncio.sleep(0)
    message = sent.pop()
    assert isinstance(message, Ask)
    return message


async def test_views_are_collected_and_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.gateways.GatewayProcess", PairProcess)
    sent: list[Message] = []
    async with gateway('[[providers]]\ntype = "demo"\n', folder=tmp_path) as running:
        admin = running.process._admin
        assert isinstance(admin, CollectedAdmin)
        admin.collect_from(
            Workers(1, Assignment(2, "", {}, {}), ["unix:/x"]),
            count=2,
            send=sent.append,
            gateway=lambda: running.process._gateway,
            answer_page=lambda name, argument: f"{name} {argument}".encode(),
        )
        admin.receive(Ask(4, 2, "page/stop", "x"))
        async with asyncio.timeout(10):
            while not sent:
                await asyncio.sleep(0)
        assert sent.pop() == Answer(4, 2, 1, b"page/stop x")
        # Another worker asks this one.
        admin.receive(Ask(5, 2, "status"))
        async with asyncio.timeout(10):
            while not sent:
                await asyncio.sleep(0)
        answer = sent.pop()
        assert isinstance(answer, Answer)
        assert (answer.id, answer.asker, answer.worker) == (5, 2, 1)
        assert answer.body is not None
        assert json.loads(answer.body)["status"] == "ok"
        # This one asks the other, and merges.
        for path, view in (("/_internal/status", "status"), ("/health?detail", "health")):
            asking = asyncio.create_task(running.ask("GET", path))
            ask = await ask_other(sent)
            assert (ask.view, ask.owner.partition(":")[0]) == (view, "tcp" if view == "health" else "")
            admin.receive(Answer(ask.id, 1, 2, None))
            assert (await asking).json["workers"][1] == {"worker": 2, "state": "no answer"}
        asking = asyncio.create_task(running.ask("GET", "/_internal/metrics"))
        ask = await ask_other(sent)
        admin.receive(Answer(ask.id, 1, 2, b"# HELP x X.\n# TYPE x gauge\nx 1.0\n"))
        got = await asking
        assert got.headers["content-type"].encode() == CONTENT_TYPE
        assert b'x{worker="2"} 1.0' in got.body
        assert b'modelplex_build_info{worker="1"' in got.body
        # Without detail nobody else is asked.
        assert (await running.ask("GET", "/health")).json == {"status": "ok", "service": "modelplex"}
        assert (await running.ask("GET", "/_internal/nonsense")).status == 404
        admin.receive(Ask(6, 2, "nonsense"))
        async with asyncio.timeout(10):
            while not sent:
                await asyncio.sleep(0)
        assert sent == [Answer(6, 2, 1, b"null")]


ADMIN = "authorization: Bearer the-token-of-an-admin"


def two_workers(folder: Path) -> str:
    """The admin socket belongs to the first worker; HTTP is served by both."""
    return (
        f'[server]\nworkers = 2\nstate_folder = "{folder / "state"}"\nadmin_socket = "{folder / "admin.sock"}"\n'
        '[[server.admins]]\nname = "ops"\ntoken = "the-token-of-an-admin"\nmay = ["read", "stop", "change"]\n'
        f'[[providers]]\nname = "demo"\ntype = "demo"\n[record]\nstore = "{folder / "records.sqlite"}"\n'
        f'[[agents]]\nname = "a"\nsocket = "{folder / "a.sock"}"\n'
        f'[[agents]]\nname = "b"\nsocket = "{folder / "b.sock"}"\n'
    )


async def change(served: Gateway, method: str, path: str, body: Any = None, *, socket: bool = False) -> None:
    data = b"" if body is None else json.dumps(body).encode()
    at = str(served.folder / "admin.sock") if socket else None
    answer = await served.ask(method, f"/_internal/{path}", data, headers=[ADMIN], at=at)
    assert answer.status == 200, answer.body


def logged(served: Gateway) -> list[dict[str, Any]]:
    return [line for line in served.lines() if line["event"] == "admin act"]


async def test_an_act_at_any_worker_is_recorded_once_and_shown_by_all(tmp_path: Path) -> None:
    async with served(two_workers(tmp_path), folder=tmp_path) as gateway:
        expected = Counter[str]()
        # A connection over HTTP reaches one of the workers; each has to be asked.
        while {line["worker"] for line in logged(gateway)} != {1, 2}:
            await change(gateway, "POST", "page/api/reset", {"provider": "demo"})
            await change(gateway, "POST", "page/api/stop", {"agent": "a"})
            expected.update(("reset circuits", "stop"))
            assert sum(expected.values()) < 200
        # The supervisor changes agents, whichever worker is asked; a stop reaches both.
        agent = {"socket": str(tmp_path / "c.sock")}
        for socket in (True, False):
            await change(gateway, "PUT", "agents/c", agent, socket=socket)
            await change(gateway, "DELETE", "agents/c", socket=socket)
            await change(gateway, "POST", "page/api/stop", {"agent": "b"}, socket=socket)
            expected.update(("put agent", "delete agent", "stop"))
        # A reload reaches all workers, and is no act.
        (tmp_path / "config.toml").write_text(f"{(tmp_path / 'config.toml').read_text()}\n")
        await gateway.line("config reloaded")
        in_log = logged(gateway)
        assert Counter(line["act"] for line in in_log) == expected
        ids = {line["request_id"] for line in in_log}
        assert len(ids) == len(in_log)
        store = ["--store", str(tmp_path / "records.sqlite")]
        listed: list[dict[str, Any]] = []

        def read() -> bool:
            shown = run("acts", *store, "--json", "--limit", "1000", folder=tmp_path).stdout
            listed[:] = json.loads(shown or "[]")
            return len(listed) >= len(ids)

        await until(read, what=f"{len(ids)} acts")
        assert sorted(act["id"] for act in listed) == sorted(ids)
        assert {(act["admin"], act["outcome"]) for act in listed} == {("ops", "ok")}
        # Both workers show them.
        newest = [act["id"] for act in listed]
        for at in (str(tmp_path / "admin.sock"), *[None] * 10):
            shown = (await gateway.ask("GET", "/_internal/page/api/acts", headers=[ADMIN], at=at)).json
            assert [act["id"] for act in shown["acts"]] == newest[: len(shown["acts"])]
            assert len(shown["acts"]) > 2

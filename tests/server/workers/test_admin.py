"""The views of one of several workers. tests/server/workers/test_supervisor.py asks real ones."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from modelplex.config.workers import Assignment
from modelplex.records.metrics import CONTENT_TYPE
from modelplex.server.process import GatewayProcess
from modelplex.server.workers.admin import CollectedAdmin
from modelplex.server.workers.merge import Workers
from modelplex.server.workers.messages import Answer, Ask, Message
from tests.gateways import gateway


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

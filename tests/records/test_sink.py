"""Sinks: each Record reaches all of them, and none delays a request."""

from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path

import pytest

from modelplex.config import load
from modelplex.records import sink
from modelplex.records.record import Record
from modelplex.records.sink import QueuedSink
from modelplex.records.tool_call import ToolRecord
from modelplex.server.process import GatewayProcess
from tests.gateways import WAIT_S, gateway

DEMO = '[[providers]]\ntype = "demo"\n'


def a_record(name: str) -> Record:
    return Record(id=name, started=0.0, listener="tcp:x", client="", endpoint="chat/completions", dialect="openai_chat", requested_model="m")  # fmt: skip


class Blocked:
    """A sink that blocks until it is released."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.released = threading.Event()
        self.ids: list[str] = []

    def record(self, record: Record | ToolRecord, /) -> None:
        self.entered.set()
        assert self.released.wait(WAIT_S)
        self.ids.append(record.id)


class Faulty:
    def __init__(self) -> None:
        self.ids: list[str] = []

    def record(self, record: Record | ToolRecord, /) -> None:
        if record.id == "bad":
            raise ValueError("no")
        self.ids.append(record.id)


def test_log_metrics_and_price_warnings_are_the_sinks_of_a_process(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(f'{DEMO}[log]\nfile = "{tmp_path / "log"}"\n')
    process = GatewayProcess(load(str(file), environ={}), config_path=str(file), verbose=False)
    process._log.close()
    assert [type(each).__name__ for each in process.sinks] == [
        "Metrics",
        "Log",
        "UnpricedWarnings",
        "RecordStore",
        "AttachedRuns",
    ]


async def test_an_added_sink_gets_the_record_that_the_log_gets(tmp_path: Path) -> None:
    records: list[Record | ToolRecord] = []

    class Added:
        def record(self, record: Record | ToolRecord, /) -> None:
            records.append(record)

    async with gateway(DEMO, folder=tmp_path) as gw:
        gw.process.sinks.append(Added())
        answer = await gw.chat("demo")
        assert answer.status == 200
        record = await gw.record()
    assert records == [record]
    lines = [json.loads(line) for line in (tmp_path / "log.json").read_text().splitlines()]
    assert [line["request_id"] for line in lines if "request_id" in line] == [record.id]


async def test_a_sink_that_blocks_delays_no_request(tmp_path: Path) -> None:
    blocked = Blocked()
    queued = QueuedSink(blocked)
    async with gateway(DEMO, folder=tmp_path) as gw:
        gw.process.sinks.insert(0, queued)
        first = await gw.chat("demo")
        assert await asyncio.to_thread(blocked.entered.wait, WAIT_S)
        second = await gw.chat("demo")
        assert (first.status, second.status) == (200, 200)
        ids = [(await gw.record(number)).id for number in (1, 2)]
        assert blocked.ids == []
        blocked.released.set()
    assert queued.close()
    assert (blocked.ids, queued.dropped, queued.failed) == (ids, 0, 0)


def test_a_full_queue_drops_and_counts() -> None:
    blocked = Blocked()
    queued = QueuedSink(blocked, limit=2)
    queued.record(a_record("taken"))
    assert blocked.entered.wait(WAIT_S)
    for name in ("1", "2", "3", "4"):
        queued.record(a_record(name))
    assert queued.dropped == 2
    blocked.released.set()
    assert queued.close()
    assert blocked.ids == ["taken", "1", "2"]


def test_a_sink_that_raises_gets_the_next_record() -> None:
    faulty = Faulty()
    queued = QueuedSink(faulty)
    for name in ("1", "bad", "2"):
        queued.record(a_record(name))
    assert queued.close()
    assert (faulty.ids, queued.failed) == (["1", "2"], 1)


def test_a_sink_that_hangs_does_not_keep_the_gateway_from_ending(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sink, "CLOSE_LIMIT_S", 0.05)
    blocked = Blocked()
    queued = QueuedSink(blocked, limit=1)
    queued.record(a_record("1"))
    assert blocked.entered.wait(WAIT_S)
    assert not queued.close()
    blocked.released.set()

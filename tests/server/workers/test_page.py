"""The operator's page of several workers: any of them shows and changes all."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any, cast

import pytest

from modelplex.records.metrics import DURATION_BUCKETS, Histogram, ModelSeries
from modelplex.server.page_sources import ServerSources
from modelplex.server.workers.page import KEPT_CALLS, ForwardedCalls, PagePart, merged_metrics
from tests.gateways import one
from tests.processes import (
    CHAT,
    WAIT_S,
    Gateway,
    chat,
    connect,
    exchange,
    read_response,
    request,
    served,
)
from tests.records.lines import record
from tests.upstreams import answer, chat_answer, chat_stream, provider, stall, stream

PAGE = "/_internal/page/api/"


def config(folder: Path, *, more: str) -> str:
    """The admin socket belongs to the first worker, like b.sock; a.sock to the second."""
    return (
        f'[server]\nworkers = 2\nstate_folder = "{folder / "state"}"\nadmin_socket = "{folder / "admin.sock"}"\n{more}\n'
        f'[[agents]]\nname = "a"\nsocket = "{folder / "a.sock"}"\n'
        f'[[agents]]\nname = "b"\nsocket = "{folder / "b.sock"}"\n'
    )


class Page:
    """A page with the token, on the admin socket."""

    def __init__(self, gateway: Gateway) -> None:
        folder = gateway.folder
        self._at = str(folder / "admin.sock")
        self._token = f"authorization: Bearer {(folder / 'state' / 'page-token').read_text().strip()}"

    async def get(self, name: str) -> Any:
        data = request("GET", PAGE + name, headers=[self._token])
        return read_response(await exchange(self._at, data)).json

    async def post(self, name: str, body: Any) -> Any:
        data = request("POST", PAGE + name, json.dumps(body).encode(), headers=[self._token])
        return read_response(await exchange(self._at, data)).json

    async def events(self, name: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await connect(self._at)
        writer.write(request("GET", PAGE + name, headers=[self._token]))
        return reader, writer


async def event(reader: asyncio.StreamReader) -> Any:
    async with asyncio.timeout(WAIT_S):
        while not (line := await reader.readline()).startswith(b"data: "):
            pass
        return json.loads(line[6:])


async def test_calls_of_all_workers_are_shown_and_stopped(tmp_path: Path) -> None:
    async with provider(*[stream(*chat_stream("first")[:-1], then=stall)] * 2) as up:
        async with served(config(tmp_path, more=one(up.url)), folder=tmp_path) as gateway:
            page = Page(gateway)
            calls: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
            for name in ("a", "b"):
                reader, writer = await connect(str(tmp_path / f"{name}.sock"))
                writer.write(request("POST", CHAT, chat(stream=True)))
                async with asyncio.timeout(WAIT_S):
                    await reader.readuntil(b'"first"')
                calls.append((reader, writer))
            reader, writer = await page.events("now")
            now = await event(reader)
            writer.close()
            assert {call["agent"] for call in now["streams"]} == {"a", "b"}
            assert {(row["agent"], row["worker"], row["running"]) for row in now["limits"]} == {
                ("a", 2, 1),
                ("b", 1, 1),
            }
            assert {each["agent"] for each in now["seen"]} >= {"a", "b"}
            assert await page.post("stop", {"agent": "a"}) == {"stopped": 1}
            async with asyncio.timeout(WAIT_S):
                assert b"stopped_by_operator" in await calls[0][0].read()
            (left,) = [call for call in now["streams"] if call["agent"] == "b"]
            assert await page.post("stop", {"request": left["id"]}) == {"stopped": 1}
            async with asyncio.timeout(WAIT_S):
                assert b"stopped_by_operator" in await calls[1][0].read()
            for _, writer in calls:
                writer.close()


async def test_calls_that_end_and_their_figures_are_those_of_all_workers(tmp_path: Path) -> None:
    failures = [answer(b"{}", status=500)] * 40
    async with provider(*[answer(chat_answer())] * 2, *failures) as up:
        text = config(tmp_path, more=one(up.url) + "[failover]\nretries = 0\nbreaker_failures = 1\n")
        async with served(text, folder=tmp_path) as gateway:
            page, ended = Page(gateway), list[Any]()
            reader, writer = await page.events("calls/live")
            await event(reader)
            for name in ("a", "b"):
                assert (await gateway.chat(at=str(tmp_path / f"{name}.sock"))).status == 200
            while len(ended) < 2:
                ended += (await event(reader))["rows"]
            writer.close()
            assert {row["agent"] for row in ended} == {"a", "b"}
            health = await page.get("health")
            assert [row["calls"] for row in health["figures"]] == [2]
            assert health["figures"][0]["total"][0] > 0
            assert len(health["status"]["workers"]) == 2
            # Both workers open a circuit, and a reset closes both.
            for name in ("a", "b"):
                assert (await gateway.chat(at=str(tmp_path / f"{name}.sock"))).status >= 500
            (found,) = (await page.get("health"))["status"]["providers"]
            assert {row["worker"] for row in found["breakers"]} == {1, 2}
            assert (await page.post("reset", {"provider": "up"}))["reset"] >= 2
            (found,) = (await page.get("health"))["status"]["providers"]
            assert found["breakers"] == []
            assert sum(row["count"] for row in (await page.get("health"))["errors"]) == 2
            assert (await page.get("tools"))["servers"] == []


class Sinks:
    """What a ForwardedCalls is attached to."""

    def __init__(self) -> None:
        self.sinks: list[Any] = []
        self.attach, self.detach = self.sinks.append, self.sinks.remove


async def test_records_for_another_page_are_bounded_and_kept_as_long_as_it_asks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("modelplex.server.workers.page.LEASE_SECONDS", 0.02)
    sinks, over = Sinks(), asyncio.Event()
    forwarded = ForwardedCalls(cast("ServerSources", sinks), ended=over.set)
    assert sinks.sinks == [forwarded]
    assert forwarded.take() == []
    for _ in range(KEPT_CALLS + 5):
        forwarded.record(record())
    assert len(forwarded.take()) == KEPT_CALLS
    assert forwarded.take() == []
    async with asyncio.timeout(WAIT_S):
        await over.wait()
    assert sinks.sinks == []


def part(duration: float) -> PagePart:
    series = ModelSeries()
    series.durations[""] = Histogram(DURATION_BUCKETS)
    series.durations[""].add(duration)
    series.tokens[0], series.cost, series.bytes_out = 3, 0.5, 7
    key = ("p", "m", "chat/completions", "unix", "a", "ok", "2xx")
    return PagePart(
        [],
        [],
        {},
        {("p", "m", "chat/completions"): series},
        {key: 2},
        {("p", "m", "client", "x"): 1},
        {"full": 1},
    )


def test_figures_are_summed() -> None:
    merged = merged_metrics([part(0.015), part(0.5)])
    (series,) = merged.series.values()
    assert sum(series.durations[""].counts) == 2
    assert series.durations[""].total == 0.515
    assert (series.tokens[0], series.cost, series.bytes_out) == (6, 1.0, 14)
    assert list(merged.requests.values()) == [4]
    assert list(merged.errors.values()) == [2]
    assert merged.lost_lines() == {"full": 2}

"""Probes and handshakes."""

import time

import pytest

from modelplex.mcp.constants import Json, McpReply, Unavailable
from modelplex.mcp.servers.cache import ServerEra
from modelplex.mcp.servers.era_probe import (
    Incompatible,
    Legacy,
    Modern,
    ModernRetry,
    ProbeResult,
    interpret_probe,
)

from .conftest import Start, text_of
from .remote import CALL, Seen, SseServer, Stream, remote, server_of

RESULTS: list[tuple[Json, str]] = [
    ({"supportedVersions": ["2026-07-28", "2025-11-25"]}, "modern"),
    ({"supportedVersions": ["2025-11-25"]}, "legacy"),
    ({"supportedVersions": ["2031-01-01"]}, "legacy"),
    ({"supportedVersions": "2026-07-28"}, "legacy"),
    ({"supportedVersions": [None, {}]}, "legacy"),
    ({}, "legacy"),
]


@pytest.mark.parametrize(("result", "expected"), RESULTS)
def test_a_result_is_modern_only_if_it_names_a_modern_revision(result: Json, expected: str) -> None:
    judged = interpret_probe(McpReply(result=result), version="2026-07-28")
    assert judged == (Modern("2026-07-28", result) if expected == "modern" else Legacy())


@pytest.mark.parametrize(
    ("code", "data", "expected"),
    [
        (-32022, {"supported": ["2026-07-28"]}, ModernRetry("2026-07-28")),
        (-32022, {"supported": ["2031-01-01", "2025-06-18"]}, Legacy()),
        (-32022, {"supported": []}, Legacy()),
        (-32022, None, Legacy()),
        (-32020, None, ModernRetry("2026-07-28")),
        (-32021, {"requiredCapabilities": {"sampling": {}}}, ModernRetry("2026-07-28", declare=True)),
        (-32601, None, Legacy()),
        (-32602, "text", Legacy()),
        (-32000, None, Legacy()),
        (1, [], Legacy()),
    ],
)
def test_only_error_codes_of_the_modern_revision_mean_modern(
    code: int, data: object, expected: ProbeResult
) -> None:
    error: Json = {"code": code, "message": "no", "data": data}
    assert interpret_probe(McpReply(error=error), version="2026-07-28") == expected


def test_a_server_with_only_unknown_revisions_is_incompatible() -> None:
    error: Json = {"code": -32022, "message": "no", "data": {"supported": ["2031-01-01"]}}
    judged = interpret_probe(McpReply(error=error), version="2026-07-28")
    assert isinstance(judged, Incompatible)
    assert "2031-01-01" in judged.sentence


@pytest.mark.parametrize("code", [-32601, -32602, -32600, -32603, 0])
async def test_any_other_reply_to_the_probe_means_legacy_and_the_process_stays(
    start: Start, code: int
) -> None:
    scripted = start(probe=f"error:{code}")
    assert (await scripted.server.lists()).era == "legacy"
    assert len(scripted.lines("start")) == 1


async def test_a_server_that_exits_at_the_probe_is_restarted_and_not_probed_again(start: Start) -> None:
    scripted = start(probe="die", cache=True)
    began = time.monotonic()
    assert (await scripted.server.lists()).era == "legacy"
    assert time.monotonic() - began < 6
    assert len(scripted.lines("server/discover")) == 1
    await scripted.close()
    again = start(probe="die", cache=True)
    await again.call("echo")
    assert len(again.lines("server/discover")) == 1


async def test_a_server_is_no_longer_probed_after_it_missed_the_probe_twice(
    start: Start,
) -> None:
    probes: list[int] = []
    for _ in range(3):
        scripted = start(probe="hang", limits={"probe_timeout": 0.2}, cache=True)
        await scripted.server.lists(fresh=True)
        assert scripted.server.status().era == "legacy"
        probes.append(len(scripted.lines("server/discover")))
        await scripted.close()
    assert probes == [1, 2, 2]


async def test_a_server_that_does_not_respond_to_the_probe_is_restarted_without_it(start: Start) -> None:
    scripted = start(probe="hang", limits={"probe_timeout": 0.2})
    assert (await scripted.server.lists()).era == "legacy"
    assert len(scripted.lines("start")) == 2


async def test_a_slow_modern_server_is_recognized_by_its_error_at_initialize(start: Start) -> None:
    scripted = start(era="modern", start="slow:0.6", limits={"probe_timeout": 0.3})
    assert (await scripted.server.lists()).era == "modern"
    assert len(scripted.lines("initialize")) == 1


async def test_a_stored_era_that_is_wrong_is_replaced(start: Start) -> None:
    scripted = start(era="legacy")
    scripted.server.server_catalog.known_era = ServerEra("modern", "2026-07-28")
    assert (await scripted.server.lists()).era == "legacy"
    assert scripted.server.server_catalog.known_era == ServerEra("legacy", "2025-11-25")
    modern = start(era="modern")
    modern.server.server_catalog.known_era = ServerEra("legacy", "2025-11-25")
    assert (await modern.server.lists()).era == "modern"


@pytest.mark.parametrize(
    ("status", "reason"),
    [(401, "unauthorized"), (403, "unauthorized"), (500, "start_failed"), (503, "start_failed")],
)
async def test_an_http_refusal_does_not_tell_the_era(status: int, reason: str) -> None:
    async def respond(seen: Seen, stream: Stream) -> None:
        await stream.json({"detail": "no"}, status)

    async with remote(respond) as it, server_of(it) as server:
        with pytest.raises(Unavailable) as failed:
            await server.lists()
        assert failed.value.reason == reason
        assert not it.requests("initialize")
        assert server.server_catalog.known_era is None


async def test_http_sse_is_found_by_probing_and_stored() -> None:
    async with remote(SseServer()) as it, server_of(it) as server:
        assert (await server.lists()).version == "2024-11-05"
        assert text_of(await server.request("tools/call", CALL)) == "old"
        assert server.server_catalog.known_era == ServerEra("legacy", "2024-11-05", sse=True)
        assert {seen.target for seen in it.requests("tools/call")} == {"/messages?id=1"}

"""What the page sees of a gateway, and what it changes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from modelplex.core.errors import BadRequest
from modelplex.dashboard.request import ApprovedName, Stopped
from modelplex.server.page_sources import ServerSources
from tests.dashboard.scene import Scene, scene
from tests.gateways import WAIT_S


def sources(made: Scene) -> ServerSources:
    process = made.running.process
    return ServerSources(
        process.app,
        process.page.reports,
        process.tools,
        process._store,
        stopping=lambda: False,
        stop_run=process.runs.stop,
    )


async def running(seen: ServerSources, count: int) -> None:
    async with asyncio.timeout(WAIT_S):
        while sum(call.sent > 0 for call in seen.running()) < count:
            await asyncio.sleep(0.005)


async def test_a_call_in_flight_is_seen_and_stopped_with_an_error_that_nobody_retries(tmp_path: Path) -> None:
    async with scene(tmp_path) as made:
        seen = sources(made)
        answer = asyncio.create_task(made.call("coder", "gpt-5-slow"))
        await running(seen, 1)
        (call,) = seen.running()
        assert (call.agent, call.model, call.provider, call.stream) == ("coder", "gpt-5-slow", "openai", True)
        assert call.first_output is not None
        assert await seen.stop(request="another") == Stopped([])
        assert await seen.stop(request=call.id) == Stopped([""])
        async with asyncio.timeout(WAIT_S):
            text = await answer
        assert b"stopped_by_operator" in text
        assert b"[DONE]" not in text
        record = await made.running.record()
        assert (record.outcome, record.code, record.blame) == ("broken", "stopped_by_operator", "policy")
        assert seen.running() == []


async def test_a_call_that_waits_for_its_provider_is_refused_when_it_is_stopped(tmp_path: Path) -> None:
    async with scene(tmp_path) as made:
        seen = sources(made)
        answer = asyncio.create_task(made.call("coder", "gpt-5-silent"))
        async with asyncio.timeout(WAIT_S):
            while not [call for call in seen.running() if call.provider]:
                await asyncio.sleep(0.005)
            assert await seen.stop(agent="coder") == Stopped([""])
            text = await answer
        assert text.startswith(b"HTTP/1.1 403")
        assert b"x-should-retry: false" in text


async def test_all_calls_of_one_agent_are_stopped_and_no_other(tmp_path: Path) -> None:
    async with scene(tmp_path) as made:
        seen = sources(made)
        made.start("coder", "gpt-5-slow")
        made.start("coder", "claude-opus-slow")
        made.start("reviewer", "claude-opus-slow")
        await running(seen, 3)
        assert await seen.stop(agent="coder") == Stopped(["", ""])
        await made.running.record(2)
        assert [call.agent for call in seen.running()] == ["reviewer"]


async def test_agents_are_seen_with_their_process_and_network(tmp_path: Path) -> None:
    async with scene(tmp_path) as made:
        await made.call("coder", "gpt-5-fast")
        (coder,) = [each for each in sources(made).seen() if each.agent == "coder"]
        assert coder.pid is not None
        assert coder.reach in {"networked", "isolated", "unknown"}
        assert coder.since is not None
        assert coder.last is not None
        assert coder.since <= coder.last


async def test_a_reset_closes_the_circuits_of_one_provider(tmp_path: Path) -> None:
    async with scene(tmp_path) as made:
        await made.call("coder", "best")
        seen = sources(made)
        (row,) = [each for each in seen.view("status")["providers"] if each["breakers"]]
        assert row["name"] == "openai"
        assert await seen.reset("local") == 0
        assert await seen.reset("openai") == 1
        assert not any(each["breakers"] for each in seen.view("status")["providers"])


async def test_an_approval_of_what_was_shown_is_stored(tmp_path: Path) -> None:
    async with scene(tmp_path) as made:
        seen = sources(made)
        async with asyncio.timeout(WAIT_S):
            while not (found := await seen.definitions()):
                await asyncio.sleep(0.01)
        names = {(each.kind, each.name): each for each in found}
        one = names["tool", "read_file"]
        chosen = ApprovedName(kind="tool", name="read_file", hash=one.hash)
        assert await seen.approve("files", [chosen]) == 1
        for server, wrong in (
            ("files", ApprovedName(kind="tool", name="read_file", hash="sha256:0")),
            ("files", ApprovedName(kind="nonsense", name="read_file", hash=one.hash)),
            ("elsewhere", chosen),
        ):
            with pytest.raises(BadRequest):
                await seen.approve(server, [wrong])

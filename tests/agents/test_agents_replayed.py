"""Each agent of test_agents.py recorded once, and replayed twice from the recording alone: without
the provider, in another folder, with the same bytes for every answer.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from modelplex.records.store_sink import RunInfo
from modelplex.replay.recording import RecordedCall, RunRecording, open_recording
from modelplex.replay.recording_file import save_recording
from modelplex.server.record_store import RUN_VARIABLE
from tests.agents.installed import PROGRAMS, Done, run
from tests.agents.scripted import FINAL, Play, playing
from tests.agents.test_agents import AGENTS, MARKER, Agent, Place, config_for, describe, output_of
from tests.agents.test_long_sessions import with_claude, with_codex
from tests.gateways import Running, gateway

pytestmark = [pytest.mark.agents, pytest.mark.timeout(240)]


@contextmanager
def fresh() -> Generator[Place, None, None]:
    with tempfile.TemporaryDirectory(prefix="mp-", ignore_cleanup_errors=True) as folder:
        home, work = Path(folder, "home"), Path(folder, "work")
        home.mkdir()
        work.mkdir()
        yield Place(home, work)


async def start(agent: Agent, place: Place, gw: Running) -> Done:
    command, environ = agent.start(place)
    if agent.socket:
        environ = {**environ, agent.socket: gw.socket, "ANTHROPIC_BASE_URL": "http://localhost"}
    return await run(
        command,
        socket=gw.socket,
        home=place.home,
        cwd=place.work,
        environ=environ,
        bridged=not agent.socket,
    )


def stored(place: Place) -> str:
    return f'\n[record]\ncontent = "full"\nstore = "{place.home.parent / "records.sqlite"}"\n'


def recording_of(place: Place, name: str) -> RunRecording:
    return open_recording(run=f"run-{name}", file=None, store=str(place.home.parent / "records.sqlite"))


def described(name: str, place: Place) -> str:
    return msgspec.json.encode(RunInfo(id=f"run-{name}", started=0.0, folder=str(place.work))).decode()


def answers(recording: RunRecording) -> list[RecordedCall]:
    """Those that an agent has seen to their end."""
    return [call for call in recording.calls if call.outcome != "client_closed" and call.kind == "model"]


@pytest.mark.parametrize("name", AGENTS)
async def test_a_recorded_agent_gets_the_same_answers_without_its_provider(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    agent = AGENTS[name]
    play = Play(agent.tools, agent.text, agent.ends)
    with fresh() as place:
        monkeypatch.setenv(RUN_VARIABLE, described(name, place))
        async with playing(agent.upstream, play) as upstream:
            config = config_for(agent.upstream, url=upstream.url) + stored(place)
            async with gateway(config, folder=place.home.parent) as gw:
                done = await start(agent, place, gw)
                assert done.status == 0, describe(done, play, gw.records)
        recorded = recording_of(place, name)
    file = save(recorded, tmp_path)
    for _ in range(2):
        await replay(name, recorded, file, monkeypatch)


def save(recording: RunRecording, folder: Path) -> Path:
    number = os.open(folder, os.O_RDONLY)
    save_recording(recording, folder=number, name="recording.jsonl")
    os.close(number)
    return folder / "recording.jsonl"


TOOLS = {"claude-code": with_claude, "codex": with_codex}


@pytest.mark.parametrize("name", TOOLS)
async def test_an_agents_tools_of_the_host_are_replayed_too(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Twice alike without the tool server; and with another result of the tool, the first place
    that differs in the model's next request is named.
    """
    agent, play = AGENTS[name], Play({"mcp__host__write_marker": {"text": "it ran\n"}})
    with fresh() as place:
        monkeypatch.setenv(RUN_VARIABLE, described(name, place))
        marker = place.home.parent / "host.txt"
        async with playing(agent.upstream, play) as upstream:
            config = config_for(agent.upstream, url=upstream.url) + tool_server(marker) + stored(place)
            async with gateway(config, folder=place.home.parent) as gw:
                done = await start_with(TOOLS[name], place, gw)
                assert done.status == 0, describe(done, play, gw.records)
        assert marker.read_text() == "it ran\n" * 2
        recorded = recording_of(place, name)
    file = save(recorded, tmp_path)
    for _ in range(2):
        with fresh() as place:
            done, again, refused = await replay_with_tools(name, file, place, monkeypatch)
            assert done.status == 0, output_of(done)
            assert FINAL[-1] in output_of(done)
            assert not refused
        assert results(again) == results(recorded)
        assert len(results(again)) == 2
        assert {(call.status, call.response) for call in answers(again)} <= {
            (call.status, call.response) for call in answers(recorded)
        }
    lines = [
        line.replace("written on the host", "there is no disk") if '"kind":"tool"' in line else line
        for line in file.read_text().splitlines(keepends=True)
    ]
    file.write_text("".join(lines))
    with fresh() as place:
        *_, refused = await replay_with_tools(name, file, place, monkeypatch)
    assert any(PATHS[agent.path].search(each) for each in refused), refused
    assert any("now " in each and "there is no disk" in each for each in refused), refused


PATHS = {
    "messages": re.compile(r"differs first at messages\[\d+\]\.content\[\d+\]\.content"),
    "responses": re.compile(r"differs first at input\[\d+\]\.output"),
}


def tool_server(marker: Path) -> str:
    return f"""
[mcp]
enabled = true

[[mcp.servers]]
name = "marker"
command = "{sys.executable}"
args = ["{PROGRAMS / "marker_server.py"}", "{marker}"]
"""


def results(recording: RunRecording) -> list[bytes]:
    return [call.response for call in recording.calls if call.kind == "tool"]


async def start_with(
    with_tools: Callable[[Place], tuple[list[str], dict[str, str]]], place: Place, gw: Running
) -> Done:
    command, environ = with_tools(place)
    return await run(command, socket=gw.socket, home=place.home, cwd=place.work, environ=environ)


async def replay_with_tools(
    name: str, file: Path, place: Place, monkeypatch: pytest.MonkeyPatch
) -> tuple[Done, RunRecording, list[str]]:
    """What the agent did, what was recorded, and the sentences of requests that had no answer."""
    monkeypatch.setenv(RUN_VARIABLE, described(name, place))
    config = f'[[providers]]\ntype = "replay"\nfile = "{file}"\n[mcp]\nenabled = true\n' + stored(place)
    async with gateway(config, folder=place.home.parent) as gw:
        done = await start_with(TOOLS[name], place, gw)
        refused = [record.error for record in gw.records if record.error]
    return done, recording_of(place, name), refused


async def replay(name: str, recorded: RunRecording, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = AGENTS[name]
    with fresh() as place:
        monkeypatch.setenv(RUN_VARIABLE, described(name, place))
        config = f'[[providers]]\ntype = "replay"\nfile = "{file}"\n' + stored(place)
        async with gateway(config, folder=place.home.parent) as gw:
            done = await start(agent, place, gw)
            facts = describe(done, Play({}), gw.records)
        again = recording_of(place, name)
        assert done.status == 0, facts
        assert (place.work / MARKER).read_text() == "it ran\n" * (agent.runs if agent.tools else 1), facts
        assert FINAL[-1] in output_of(done), facts
        by_id = {call.id: call for call in recorded.calls}
        sources = {record.id: record.attempts[0].upstream_request_id for record in gw.records}
        assert None not in sources.values(), facts
        for call in answers(again):
            source = by_id[sources[call.id] or ""]
            assert (call.status, call.response) == (source.status, source.response), facts
        used = set(sources.values())
        assert {call.id for call in answers(recorded)} == used & {call.id for call in answers(recorded)}, (
            facts
        )

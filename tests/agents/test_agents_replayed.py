"""Each agent of test_agents.py recorded once, and replayed twice from the recording alone: without
the provider, in another folder, with the same bytes for every answer.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from modelplex.records.store_sink import RunInfo
from modelplex.replay.recording import RecordedCall, RunRecording, open_recording
from modelplex.replay.recording_file import save_recording
from modelplex.server.record_store import RUN_VARIABLE
from tests.agents.installed import Done, run
from tests.agents.scripted import FINAL, Play, playing
from tests.agents.test_agents import AGENTS, MARKER, Agent, Place, config_for, describe, output_of
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
    return [call for call in recording.calls if call.outcome != "client_closed"]


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
        folder = os.open(tmp_path, os.O_RDONLY)
        save_recording(recorded, folder=folder, name="recording.jsonl")
        os.close(folder)
    for _ in range(2):
        await replay(name, recorded, tmp_path / "recording.jsonl", monkeypatch)


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

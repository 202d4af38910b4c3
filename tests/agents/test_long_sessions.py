"""Real Claude Code and Codex when a conversation is too long for the model: the provider refuses it
in its own words, the agent compacts, and goes on.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.agents.installed import run
from tests.agents.scripted import FINAL, SUMMARY, LongPlay, playing
from tests.agents.test_agents import AGENTS, MARKER, Place, config_for, describe, output_of, place
from tests.gateways import gateway

__all__ = ["place"]

pytestmark = [pytest.mark.agents, pytest.mark.timeout(180)]


async def compact(name: str, place: Place, *, again: tuple[str, ...] = ()) -> None:
    """The agent does its task, is refused, compacts and goes on: with `again` when it is started
    with these words instead of the task.
    """
    agent = AGENTS[name]
    play = LongPlay(agent.tools)
    async with playing(agent.upstream, play) as upstream:
        config = config_for(agent.upstream, url=upstream.url)
        async with gateway(config, folder=place.home.parent) as gw:
            command, environ = agent.start(place)
            at: dict[str, Any] = {
                "socket": gw.socket,
                "home": place.home,
                "cwd": place.work,
                "environ": environ,
            }
            done = await run(command, **at)
            if again:
                assert play.has_refused, describe(done, play, gw.records)
                assert (done.status, play.summaries) == (1, 0), describe(done, play, gw.records)
                done = await run([*command[:-1], *again], **at)
            assert done.status == 0, describe(done, play, gw.records)
            assert (place.work / MARKER).read_text() == "it ran\n" * 2
            assert play.summaries == 1, describe(done, play, gw.records)
            assert FINAL[-1] in output_of(done), describe(done, play, gw.records)
            assert SUMMARY in json.dumps(upstream.seen[-1].json), describe(done, play, gw.records)


async def test_claude_code_compacts_what_is_too_long_and_goes_on(place: Place) -> None:
    await compact("claude-code", place)


async def test_codex_compacts_what_was_too_long_when_it_resumes(place: Place) -> None:
    """It ends the turn, and compacts before the next one."""
    await compact("codex", place, again=("resume", "--last", "Go on."))

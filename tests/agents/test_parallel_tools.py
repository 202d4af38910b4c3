"""Two different tool calls in one answer: real agents run both, and each result goes back to the
call that it is of.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.agents.installed import run
from tests.agents.scripted import FINAL, Play, playing
from tests.agents.test_agents import AGENTS, SHELL, Place, config_for, describe, output_of, place
from tests.gateways import gateway

__all__ = ["place"]

pytestmark = [pytest.mark.agents, pytest.mark.timeout(90)]

PARALLEL = (
    "codex",
    "codex-code-mode",
    "claude-code",
    "opencode",
    "gemini-cli",
    "pi",
    "qwen-code",
    "cline",
    "continue",
    "kimi-code",
)
WORDS = ("alpha", "beta")


def writing(word: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments with a command that writes a file of this name and prints the word."""
    command = f"echo made-{word} | tee {word}.txt"
    text = json.dumps(arguments)
    # In code the command is a string in a string.
    for old in (json.dumps(json.dumps(SHELL)[1:-1])[1:-1], json.dumps(SHELL)[1:-1]):
        text = text.replace(old, command)
    return json.loads(text)  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", PARALLEL)
async def test_each_of_two_parallel_calls_gets_its_own_result(name: str, place: Place) -> None:
    agent = AGENTS[name]
    first, second = ({tool: writing(word, args) for tool, args in agent.tools.items()} for word in WORDS)
    play = Play(first, seconds=second)
    async with playing(agent.upstream, play) as upstream:
        config = config_for(agent.upstream, url=upstream.url)
        async with gateway(config, folder=place.home.parent) as gw:
            command, environ = agent.start(place)
            done = await run(command, socket=gw.socket, home=place.home, cwd=place.work, environ=environ)
            facts = describe(done, play, gw.records)
            assert done.status == 0, facts
            assert FINAL[-1] in output_of(done), facts
            for word in WORDS:
                assert (place.work / f"{word}.txt").read_text() == f"made-{word}\n", facts
            assert [word in result for word, result in zip(WORDS, play.results, strict=True)] == [True] * 2, (
                facts
            )
            assert not any(word in result for word, result in zip(WORDS[::-1], play.results, strict=True)), (
                facts
            )
            if play.answered:  # Ollama has no ids
                ids = [each[-1] for each in play.answered]
                assert ids == ["0", "1"], play.answered

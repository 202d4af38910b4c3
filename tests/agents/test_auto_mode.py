"""Real Claude Code in auto mode, its usual mode in a terminal, where Anthropic judges each call of
a tool beside the answer (docs/decisions/0053-auto-mode.md).
"""

from __future__ import annotations

import pytest

from tests.agents.installed import run
from tests.agents.scripted import Dialect, Play, playing
from tests.agents.test_agents import AGENTS, MARKER, Place, config_for, describe, place
from tests.gateways import gateway

__all__ = ["place"]

pytestmark = [pytest.mark.agents, pytest.mark.timeout(90)]

WRITES = f"python3 -c \"open('{MARKER}', 'a').write('it ran')\""
"""A command that is judged; the mode allows some without a verdict."""
CONFIGS = {"sealed": "", "open": '[policy]\nsocket = "open"\n'}


async def judged(dialect: Dialect, verdict: str, policy: str, place: Place) -> tuple[Play, str, bool]:
    """What was played, everything that is known of the run, and whether the command ran."""
    play = Play({"Bash": {"command": WRITES, "description": "Writes."}}, verdict=verdict)
    async with playing(dialect, play) as upstream:
        config = config_for(dialect, url=upstream.url) + CONFIGS[policy]
        async with gateway(config, folder=place.home.parent) as gw:
            command, environ = AGENTS["claude-code"].start(place)
            at = command.index("--allowedTools")
            command[at : at + 2] = ["--permission-mode", "auto", "--debug-file", str(place.home / "debug")]
            done = await run(command, socket=gw.socket, home=place.home, cwd=place.work, environ=environ)
            facts = describe(done, play, gw.records)
            assert done.status == 0, facts
            facts += (place.home / "debug").read_text()
            return play, facts, (place.work / MARKER).exists()


@pytest.mark.parametrize("policy", CONFIGS)
@pytest.mark.parametrize("verdict", ["not_flagged", "flagged"])
async def test_the_verdict_of_anthropic_decides(verdict: str, policy: str, place: Place) -> None:
    play, facts, ran = await judged("anthropic", verdict, policy, place)
    assert play.request["safeguards"][0]["classifier_context"]["permission_mode"] == "auto", facts
    assert ran == (verdict == "not_flagged"), facts
    assert len(play.offered) == 2, f"it asked a model for the verdict\n{facts}"


@pytest.mark.parametrize("policy", CONFIGS)
async def test_a_provider_without_such_a_check_says_so(policy: str, place: Place) -> None:
    """Nothing is allowed, and no verdict is invented."""
    play, facts, ran = await judged("openai", "", policy, place)
    assert not ran, facts
    assert "(server_unsupported)" in facts, facts
    assert all("safety check does not run for this session" in each for each in play.results), facts

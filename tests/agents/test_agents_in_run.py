"""Real, unmodified agents inside `modelplex run`, with the task of test_agents.py.

As docs/how-to/run.md says: --rw mounts their settings, and nothing else is set.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tests.agents.installed import HOME, MODULES, TIMEOUT_S, Done
from tests.agents.scripted import FINAL, Play, playing
from tests.agents.test_agents import AGENTS, MARKER, Place, config_for, describe, output_of, place
from tests.gateways import gateway
from tests.peers import node

__all__ = ["place"]

pytestmark = [pytest.mark.agents, pytest.mark.timeout(90)]

INSIDE = ["codex", "claude-code", "opencode", "gemini-cli", "pi", "openhands", "mistral-vibe"]


async def run_inside(
    command: Sequence[str], *, socket: str, place: Place, environ: Mapping[str, str]
) -> Done:
    """`modelplex run` in the agent's folder, with the files of its page in its home; a program in
    Python with its environment and interpreter.
    """
    options = ["--socket", socket, "--ro", str(MODULES)]
    program = Path(command[0])
    if program.is_relative_to(HOME) and not program.is_relative_to(MODULES):
        options += ["--ro", str(program.parents[1]), "--ro", str(program.resolve().parents[1])]
    for file in sorted(place.home.iterdir()):
        options += ["--rw", str(file)]
    for name, value in environ.items():
        options += ["--env", f"{name}={value}"]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "modelplex", "run", *options, "--", *command),
        cwd=place.work,
        env={
            "PATH": f"{node().parent}:/usr/local/bin:/usr/bin:/bin",
            "HOME": str(place.home),
            "LANG": "C.UTF-8",
            "TERM": "dumb",
            "NO_COLOR": "1",
        },
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        out, errors = await asyncio.wait_for(process.communicate(), TIMEOUT_S)
    except TimeoutError:
        pytest.fail(f"{command[0]} did not end within {TIMEOUT_S} s")
    finally:
        if process.returncode is None:
            os.killpg(process.pid, 9)
            await process.wait()
    assert process.returncode is not None
    return Done(process.returncode, out.decode(errors="replace"), errors.decode(errors="replace"))


@pytest.mark.parametrize("name", INSIDE)
async def test_an_agent_does_its_task_inside_modelplex_run(name: str, place: Place) -> None:
    agent = AGENTS[name]
    play = Play(agent.tools, agent.text)
    async with playing(agent.upstream, play) as upstream:
        config = config_for(agent.upstream, url=upstream.url)
        async with gateway(config, folder=place.home.parent) as gw:
            command, environ = agent.start(place)
            done = await run_inside(command, socket=gw.socket, place=place, environ=environ)
            facts = describe(done, play, gw.records)
            assert done.status == 0, facts
            assert (place.work / MARKER).exists(), facts
            assert (place.work / MARKER).read_text() == "it ran\n" * 2, facts
            assert FINAL[-1] in output_of(done), facts
            assert (play.answers, len(play.results)) == (1, 2), facts

"""`modelplex run NAME` in a terminal, with real, unmodified agents: started without a question, a
task with tool calls, Ctrl-C, and a second start; by root and by an ordinary user.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from tests.agents.installed import MODULES, platform
from tests.agents.scripted import FINAL, Play, playing
from tests.agents.terminals import Terminal, terminal
from tests.agents.test_agents import AGENTS, MARKER, config_for
from tests.peers import node
from tests.sandbox.sandboxes import PEOPLE, Person, person

pytestmark = [pytest.mark.agents, pytest.mark.timeout(180)]

TASK = "Write the marker."
CTRL_C, CTRL_D = b"\x03", b"\x04"


@dataclass
class Driven:
    """`program` is a path of the installed program. `ready` is on its screen once it takes a task,
    `done` after a task, and `again` after `quits` where that does not end it yet. `agent` names the
    play in test_agents.py.
    """

    agent: str
    program: str
    ready: str
    done: str = FINAL[-1]
    again: str = ""
    arguments: tuple[str, ...] = ()
    quits: bytes = CTRL_C


def installed() -> dict[str, Driven]:
    return {
        "claude": Driven(
            "claude-code",
            platform("@anthropic-ai/claude-code", "claude"),
            "Claude Code v",
            again="again to exit",
            arguments=("--dangerously-skip-permissions",),
        ),
        "codex": Driven("codex", str(MODULES / ".bin" / "codex"), "Ask Codex to do anything", "Worked for"),
        "pi": Driven("pi", str(MODULES / ".bin" / "pi"), "escape interrupt", quits=CTRL_D),
    }


NAMES = ["claude", "codex", "pi"]


@contextmanager
def somebody(name: str, program: Driven, preset: str) -> Generator[tuple[Person, dict[str, str]]]:
    """A fresh account with the agent in ~/.local/bin, as the vendors' installers link it."""
    with person(name) as who:
        folder = who.home / ".local" / "bin"
        folder.mkdir(parents=True)
        (folder / preset).symlink_to(program.program)
        for path in (who.home / ".local", folder):
            who.give(path)
        environ = {
            "PATH": f"{folder}:{node().parent}:/usr/local/bin:/usr/bin:/bin",
            "HOME": str(who.home),
            "LANG": "C.UTF-8",
        }
        yield who, environ


async def quit_by_keys(screen: Terminal, driven: Driven) -> int:
    screen.press(driven.quits)
    if driven.again:
        await screen.expect(driven.again)
        screen.press(driven.quits)
    return await screen.ended()


@pytest.mark.parametrize("user", PEOPLE)
@pytest.mark.parametrize("name", NAMES)
async def test_an_agent_works_in_a_terminal(name: str, user: str) -> None:
    driven = installed()[name]
    agent = AGENTS[driven.agent]
    play = Play(agent.tools, agent.text)
    async with playing(agent.upstream, play) as upstream:
        with somebody(user, driven, name) as (who, environ):
            config = who.folder.parent / "config.toml"
            config.write_text(config_for(agent.upstream, url=upstream.url))
            command = who.command("run", "--config", str(config), name, *driven.arguments)
            async with terminal(command, cwd=who.folder, environ=environ) as screen:
                await screen.expect(driven.ready)
                await screen.type(TASK)
                await screen.expect(FINAL[-1])
                await screen.expect(driven.done)
                assert await quit_by_keys(screen, driven) == 0, screen.text
                await screen.expect("the record: modelplex show run-")
                assert (who.folder / MARKER).read_text() == "it ran\n" * 2, screen.text
            async with terminal(command, cwd=who.folder, environ=environ) as screen:
                await screen.expect(driven.ready)
                assert await quit_by_keys(screen, driven) == 0, screen.text

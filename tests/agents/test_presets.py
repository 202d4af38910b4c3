"""`modelplex run NAME` in a terminal, with real, unmodified agents: started without a question, a
task with tool calls, Ctrl-C, and a second start; by root and by an ordinary user.
"""

from __future__ import annotations

import os
import re
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from tests.agents.installed import HOME, MODULES, platform
from tests.agents.scripted import FINAL, Play, playing
from tests.agents.terminals import Terminal, terminal
from tests.agents.test_agents import AGENTS, MARKER, config_for
from tests.peers import ROOT, node
from tests.sandbox.sandboxes import PEOPLE, Person, person

pytestmark = [pytest.mark.agents, pytest.mark.timeout(180)]

TRANSCRIPTS = ROOT / "docs" / "how-to" / "transcripts"
"""Written with MODELPLEX_TRANSCRIPTS=1 (`make transcripts`)."""
TASK = "Write the marker."
CTRL_C, CTRL_D = b"\x03", b"\x04"


@dataclass
class Driven:
    """`program` is a path of the installed program. `ready` is on its screen once it takes a task,
    `done` after a task, and `again` after `quits` where that does not end it yet: then `leave` is
    typed. `agent` names the play in test_agents.py.
    """

    agent: str
    program: str
    ready: str
    done: str = FINAL[-1]
    arguments: tuple[str, ...] = ()
    quits: bytes = CTRL_C
    again: str = ""
    leave: str = ""


def installed() -> dict[str, Driven]:
    return {
        "claude": Driven(
            "claude-code",
            platform("@anthropic-ai/claude-code", "claude"),
            "Claude Code v",
            again="again to exit",
            leave="/exit",
            arguments=("--dangerously-skip-permissions",),
        ),
        "codex": Driven("codex", str(MODULES / ".bin" / "codex"), "Ask Codex to do anything", "Worked for"),
        "pi": Driven("pi", str(MODULES / ".bin" / "pi"), "escape interrupt", quits=CTRL_D),
        "gemini": Driven(
            "gemini-cli",
            str(MODULES / ".bin" / "gemini"),
            "Type your message",
            again="again to exit",
            leave="/quit",
            arguments=("--approval-mode", "yolo"),
        ),
        "opencode": Driven("opencode", platform("opencode", "bin", "opencode"), "Ask anything"),
        "qwen": Driven(
            "qwen-code",
            str(MODULES / ".bin" / "qwen"),
            "Type your message",
            again="again to exit",
            leave="/quit",
            arguments=("--approval-mode", "yolo"),
        ),
        "aider": Driven(
            "aider",
            str(HOME / "aider" / "bin" / "aider"),
            "Repo-map: disabled",
            "Applied edit to",
            arguments=(MARKER,),
            again="again to exit",
            leave="/exit",
        ),
    }


NAMES = ["claude", "codex", "pi", "gemini", "opencode", "qwen", "aider"]


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


async def ended(screen: Terminal, driven: Driven) -> int:
    screen.press(driven.quits)
    if driven.again:
        await screen.expect(driven.again)
        return await screen.leave(driven.leave)
    return await screen.ended()


@pytest.mark.parametrize("user", PEOPLE)
@pytest.mark.parametrize("name", NAMES)
async def test_an_agent_works_in_a_terminal(name: str, user: str) -> None:
    driven = installed()[name]
    agent = AGENTS[driven.agent]
    play = Play(agent.tools, agent.text, agent.ends)
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
                shown = screen.text
                assert await ended(screen, driven) == 0, screen.text
                await screen.expect("the record: modelplex show run-")
                words = " ".join(["$ modelplex run", name, *driven.arguments])
                transcript = f"{words}\n{readable(shown, screen.text, folder=str(who.folder))}"
                assert (who.folder / MARKER).read_text() == "it ran\n" * (2 if agent.tools else 1), (
                    screen.text
                )
            async with terminal(command, cwd=who.folder, environ=environ) as screen:
                await screen.expect(driven.ready)
                assert await ended(screen, driven) == 0, screen.text
    file = TRANSCRIPTS / f"{name}.txt"
    if os.environ.get("MODELPLEX_TRANSCRIPTS") and user == PEOPLE[0]:
        file.write_text(transcript)
    assert stable(transcript) == stable(file.read_text())


def readable(shown: str, after: str, *, folder: str) -> str:
    """What was on the terminal before the agent's end, and the last line; without what is of one
    run alone.
    """
    last = re.findall(r"^modelplex run: \d+ calls?.*(?:\n.+)*", after, re.MULTILINE)[-1]
    last = re.sub(r" \(in [^)]*\)", "", last.replace("\n", ""))
    text = re.sub(r"run-[0-9a-f]{8}", "run-0a1b2c3d", f"{shown}\n{last}")
    text = text.replace(folder, "~/work").replace(str(ROOT), "~/modelplex")
    return "\n".join(line.rstrip() for line in text.splitlines() if line.strip()) + "\n"


def stable(transcript: str) -> list[str]:
    """What does not depend on the time and the order of the agent's work: the task, the last text,
    and that the run's line ends it.
    """
    lines = [line for line in transcript.splitlines() if TASK in line or FINAL[-1] in line]
    found = {word for line in lines for word in (TASK, FINAL[-1]) if word in line}
    return [*sorted(found), re.sub(r"\d[\d.,]*", "N", transcript.splitlines()[-1]).partition(" N calls")[0]]

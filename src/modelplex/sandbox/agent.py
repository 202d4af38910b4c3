"""Which of the config's [[agents]] the program of `modelplex run` is. Above it stands run.py; below
it the config. It starts nothing.
"""

from __future__ import annotations

import argparse
import os
import tomllib
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

from modelplex.sandbox.arguments import CONFIG


class WrongChoice(Exception):
    """The arguments and the config do not fit together; `sentence` says why."""

    def __init__(self, sentence: str) -> None:
        self.sentence = sentence
        super().__init__(sentence)


class Agent(NamedTuple):
    """One of the config's. `socket` is None where a token is all that it is known by."""

    name: str
    socket: str | None


def chosen(arguments: argparse.Namespace, config: str | None) -> Agent | None:
    """The agent that --agent names; None where the config (a file's path) names no agents, and
    where --socket decides.

    Raises:
        WrongChoice: agents exist and none is named, or the named one does not exist.
        ConfigError: the config cannot be used.
    """
    name: str | None = arguments.agent
    if arguments.socket is not None:
        if name is not None:
            raise WrongChoice(
                "--socket names a gateway's socket, which decides whose limits hold: leave out --agent, or leave out --socket."
            )
        return None
    if config is None:
        if name is not None:
            raise WrongChoice(
                f"there is no agent {name!r}, since there is no {CONFIG} here: name one by --config."
            )
        return None
    if name is None and not _has_agents(config):
        return None
    from modelplex.config import load

    loaded = load(config, environ=os.environ, find_ollama=lambda: False)
    agents = loaded.agents
    names = [agent.name for agent in agents]
    if name is None:
        if not names:
            return None
        raise WrongChoice(
            f"{config} has agents with limits of their own: {', '.join(names)}. Choose one: modelplex run --agent {names[0]} -- COMMAND"
        )
    if name not in names:
        raise WrongChoice(f'{config} has no agent "{name}"{_hint(name, names)}')
    found = next(agent for agent in agents if agent.name == name)
    uids = found.allow_uid or loaded.server.allow_uid
    if uids and os.geteuid() not in uids:
        told = ", ".join(map(str, uids))
        raise WrongChoice(
            f'the agent "{name}" is for the users {told} alone, and you are {os.geteuid()}: its setting is allow_uid.'
        )
    return Agent(found.name, found.socket)


def _has_agents(config: str) -> bool:
    """A look that costs little, since most configs have none. Of a file that cannot be read the
    gateway complains.
    """
    try:
        return "agents" in tomllib.loads(Path(config).read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return False


def _hint(name: str, names: list[str]) -> str:
    if near := get_close_matches(name, names, n=1):
        return f'; did you mean "{near[0]}"?'
    return f". Its agents: {', '.join(names)}." if names else ": it names none."

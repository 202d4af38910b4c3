"""Chooses the config's [[agents]] entry that the program of `modelplex run` runs as."""

from __future__ import annotations

import argparse
import os
import tomllib
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

from modelplex.sandbox.arguments import CONFIG
from modelplex.sandbox.errors import WrongArguments


class Agent(NamedTuple):
    """`socket` is None where the agent has only a token."""

    name: str
    socket: str | None


def choose_agent(arguments: argparse.Namespace, config: str | None) -> Agent | None:
    """The agent that --agent names. None where the config (a file's path) has no agents, and with
    --socket. Raises WrongArguments where agents exist and none is named, or the named one does not
    exist or is for other users; and ConfigError.
    """
    name: str | None = arguments.agent
    if arguments.socket is not None:
        if name is not None:
            raise WrongArguments(
                "--socket names a gateway's socket, which decides whose limits apply: leave out --agent, or leave out --socket."
            )
        return None
    if config is None:
        if name is not None:
            raise WrongArguments(
                f"there is no agent {name!r}, since there is no {CONFIG} here: give one with --config."
            )
        return None
    if name is None and not _has_agents(config):
        return None
    from modelplex.config import load

    loaded = load(config, environ=os.environ, find_ollama=lambda: False)
    agents = {agent.name: agent for agent in loaded.agents}
    if name is None:
        if not agents:
            return None
        names = list(agents)
        raise WrongArguments(
            f"{config} has agents with limits of their own: {', '.join(names)}. Choose one: modelplex run --agent {names[0]} -- COMMAND"
        )
    if name not in agents:
        raise WrongArguments(f'{config} has no agent "{name}"{_hint(name, list(agents))}')
    agent = agents[name]
    uids = agent.allow_uid or loaded.server.allow_uid
    if uids and os.geteuid() not in uids:
        raise WrongArguments(
            f'the agent "{name}" is for the users {", ".join(map(str, uids))} only, and you are {os.geteuid()}: see its setting allow_uid.'
        )
    return Agent(agent.name, agent.socket)


def _has_agents(config: str) -> bool:
    """Without loading the config, which most runs need not. The gateway reports a faulty one."""
    try:
        return "agents" in tomllib.loads(Path(config).read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return False


def _hint(name: str, names: list[str]) -> str:
    if near := get_close_matches(name, names, n=1):
        return f'; did you mean "{near[0]}"?'
    return f". Its agents: {', '.join(names)}." if names else ": it has no agents."

"""Agents that are added while the gateway runs, as JSON with the keys of [[agents]]: read by the
same rules, and joined with those of the config, which win. Pure.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from typing import Final

import msgspec

from modelplex.config import agents
from modelplex.config.admins import admin_tokens
from modelplex.config.problems import ConfigError
from modelplex.config.settings import AgentConfig, Config
from modelplex.config.toml_node import FAULTY, TomlDocument, TomlNode

PLACE: Final = "the agent"
"""In place of a file's name in faults."""


class AgentConflict(msgspec.Struct, frozen=True):
    """Why an agent cannot be added. `code` is that of the API's error."""

    code: str
    sentence: str


class JoinedAgents(msgspec.Struct, frozen=True):
    """`config` has the agents of both. `conflicts` are those that are left out, by name."""

    config: Config
    added: frozenset[str]
    conflicts: dict[str, AgentConflict]


def read_agent(name: str, members: Mapping[str, object]) -> AgentConfig:
    """The agent of this name. No variable of the environment is expanded, since who may add agents
    may not read them. Raises ConfigError.
    """
    document = TomlDocument(PLACE, {}, {}, dict.fromkeys(agents.AGENT, "one of [[agents]]"))
    node = TomlNode({**members, "name": name}, (), document)
    if members.get("name", name) != name:
        node.child("name").reject(f'no name, or "{name}"', found="another one")
    agent = agents.agent(node)
    if document.faults or agent is FAULTY:
        raise ConfigError(document.faults)
    return agent


def join_agents(config: Config, more: Mapping[str, AgentConfig]) -> JoinedAgents:
    """The config with these agents. One whose name, socket or token the config has is left out."""
    known = _Known(config)
    added: list[AgentConfig] = []
    conflicts: dict[str, AgentConflict] = {}
    for name, agent in more.items():
        if (conflict := known.conflict(agent)) is not None:
            conflicts[name] = conflict
        else:
            known.add(agent, f"the agent {name!r}")
            added.append(agent)
    joined = msgspec.structs.replace(config, agents=(*config.agents, *added)) if added else config
    return JoinedAgents(joined, frozenset(agent.name for agent in added), conflicts)


class _Known:
    """Names, sockets and tokens in use, each with its owner."""

    def __init__(self, config: Config) -> None:
        server = config.server
        self._teams = {team.name for team in config.teams}
        self._names = {agent.name for agent in config.agents}
        others = (*server.socket, server.admin_socket, config.mcp.stdio_socket)
        self._sockets = {posixpath.normpath(path): "[server] or [mcp]" for path in others if path}
        self._tokens: dict[object, str] = dict(admin_tokens(server.admins))
        if server.internal_token is not None:
            self._tokens[server.internal_token] = "[server] internal_token"
        for agent in config.agents:
            self.add(agent, f"the agent {agent.name!r} of the config")

    def add(self, agent: AgentConfig, owner: str) -> None:
        if agent.socket is not None:
            self._sockets[posixpath.normpath(agent.socket)] = owner
        if agent.token is not None:
            self._tokens[agent.token] = owner

    def conflict(self, agent: AgentConfig) -> AgentConflict | None:
        if agent.name in self._names:
            return AgentConflict(
                "agent_in_config",
                f"The config file has an agent {agent.name!r}, and the file wins. Use another name, or change the file.",
            )
        if agent.team is not None and agent.team not in self._teams:
            return AgentConflict(
                code="agent_team_unknown", sentence=f"The config has no team {agent.team!r}."
            )
        socket = agent.socket and self._sockets.get(posixpath.normpath(agent.socket))
        if socket:
            return AgentConflict(
                code="agent_socket_used", sentence=f"The socket {agent.socket} is that of {socket}."
            )
        if agent.token is not None and (owner := self._tokens.get(agent.token)) is not None:
            return AgentConflict(
                code="agent_token_used", sentence=f"The token of {agent.name!r} is that of {owner}."
            )
        return None

"""The config of a running gateway: its file joined with the agents of the API. It decides what the
next config is; `ConfigChanges`, or the supervisor of workers, puts it to use.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Literal

import msgspec

from modelplex.config import Config, ConfigError
from modelplex.config.api_agents import JoinedAgents, read_agent
from modelplex.confinement.launcher_client import LauncherClient
from modelplex.core.errors import BadRequest, Conflict, NotFound
from modelplex.records.log import EventLog
from modelplex.server.config_file import ConfigFile
from modelplex.server.stored_agents import StoredAgents, load_stored

AgentOutcome = Literal["created", "replaced", "unchanged", "deleted"]


class AgentChange(msgspec.Struct, frozen=True):
    """`stored` is kept once `joined` is used; None where nothing changes."""

    outcome: AgentOutcome
    stored: StoredAgents
    joined: JoinedAgents | None = None


class ConfigSource:
    """`config` is the one of the start."""

    def __init__(self, config: Config, file: ConfigFile, stored: StoredAgents) -> None:
        self.file = file
        self.stored = stored
        self._joined = stored.join(config)

    def __repr__(self) -> str:
        return f"<ConfigSource {self.file!r} {self.stored!r}>"

    @property
    def config(self) -> Config:
        return self._joined.config

    @property
    def added(self) -> frozenset[str]:
        """The names of the API's agents that are used."""
        return self._joined.added

    def report(self, events: EventLog) -> None:
        """Log the agents of the API that are not used."""
        self.stored.report(self._joined, events)

    def load(self, *, events: EventLog) -> JoinedAgents | None:
        """The config of the file with the agents of the API. None where it is not to be used, which
        is logged. Blocks.
        """
        config = self.file.load(self.config, events=events)
        if config is None:
            return None
        joined = self.stored.join(config)
        self.stored.report(joined, events)
        return joined

    def put(self, name: str, body: bytes) -> AgentChange:
        """Raises BadRequest, and Conflict where the config has what the agent names."""
        self._check_stored()
        members = _members(body)
        try:
            agent = read_agent(name, members)
        except ConfigError as error:
            raise BadRequest(f"The agent cannot be added: {error.sentence}", code="agent_invalid") from None
        is_new = name not in self.stored.members
        stored = self.stored.with_agent(agent, members)
        joined = stored.join(self._base())
        if (conflict := joined.conflicts.get(name)) is not None:
            raise Conflict(conflict.sentence, code=conflict.code)
        if agent in self.config.agents and not is_new:
            return AgentChange("unchanged", stored)
        return AgentChange("created" if is_new else "replaced", stored, joined)

    def delete(self, name: str) -> AgentChange:
        """Raises NotFound, and Conflict for an agent of the config file."""
        self._check_stored()
        if name not in self.stored.members:
            if any(agent.name == name for agent in self.config.agents):
                raise Conflict(
                    f"The agent {name!r} is one of the config file. Remove it there.", code="agent_in_config"
                )
            raise NotFound(f"There is no agent {name!r}.", code="agent_not_found")
        stored = self.stored.without(name)
        return AgentChange("deleted", stored, stored.join(self._base()))

    def use(self, joined: JoinedAgents, stored: StoredAgents | None = None) -> None:
        """This config is used from now on."""
        self.stored = stored or self.stored
        self._joined = joined

    def _base(self) -> Config:
        """The running config without the agents of the API."""
        agents = tuple(agent for agent in self.config.agents if agent.name not in self._joined.added)
        return msgspec.structs.replace(self.config, agents=agents)

    def _check_stored(self) -> None:
        if self.stored.path is None:
            raise Conflict(
                "Agents are added over [server] admin_socket, and this gateway has none, or no state folder.",
                code="agents_not_stored",
            )


def open_source(
    config: Config,
    path: str | None,
    *,
    adapt: Callable[[Config], Config] = lambda config: config,
    launcher: LauncherClient | None = None,
) -> ConfigSource:
    """`config` is adapted already. Blocks. Raises StoredAgentsError."""
    return ConfigSource(
        config, ConfigFile(path, adapt=adapt, launcher=launcher), load_stored(config, environ=os.environ)
    )


def _members(body: bytes) -> dict[str, Any]:
    """Raises BadRequest."""
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(f"The body is no agent: {error}.", code="agent_invalid") from None

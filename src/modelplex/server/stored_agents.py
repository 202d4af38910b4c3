"""The agents that were added by the API, in a file of the state folder that outlives the process.

The file is this user's alone (0600), since it has tokens, and is replaced as a whole. Its name
follows from the admin socket: gateways with one state folder have files of their own.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from modelplex.config import AgentConfig, Config, ConfigError
from modelplex.config.api_agents import JoinedAgents, join_agents, read_agent
from modelplex.config.state_folder import make_state_folder, state_folder
from modelplex.records.log import EventLog

VERSION: Final = 1
MAX_FILE: Final = 64 * 1024 * 1024
"""Bytes. Ten thousand agents take a few megabytes."""


class StoredAgentsError(Exception):
    """The file cannot be used. The text is a sentence for whoever starts the gateway."""

    @property
    def sentence(self) -> str:
        return str(self)


class _File(msgspec.Struct):
    version: int
    admin_socket: str
    agents: Mapping[str, Mapping[str, Any]]


class StoredAgents(msgspec.Struct, frozen=True):
    """A value: an addition or a removal gives another one.

    path     of the file; None where no agent can be added, without an admin socket
    members  of each agent, as they were sent
    agents   those that can be read
    faults   why the others cannot
    """

    path: Path | None
    admin_socket: str = ""
    members: Mapping[str, Mapping[str, Any]] = {}
    agents: Mapping[str, AgentConfig] = {}
    faults: Mapping[str, str] = {}

    def with_agent(self, agent: AgentConfig, members: Mapping[str, Any]) -> StoredAgents:
        others = self.without(agent.name)
        return msgspec.structs.replace(
            others,
            members={**others.members, agent.name: members},
            agents={**others.agents, agent.name: agent},
        )

    def without(self, name: str) -> StoredAgents:
        return msgspec.structs.replace(
            self,
            members={key: value for key, value in self.members.items() if key != name},
            agents={key: value for key, value in self.agents.items() if key != name},
            faults={key: value for key, value in self.faults.items() if key != name},
        )

    def join(self, config: Config) -> JoinedAgents:
        """The config with these agents, as far as they contradict nothing in it."""
        return join_agents(config, self.agents)

    def report(self, joined: JoinedAgents, events: EventLog) -> None:
        """Log each agent that is not used, with the reason."""
        for name, conflict in joined.conflicts.items():
            events.error("an agent of the API is not used", agent=name, reason=conflict.sentence)
        for name, fault in self.faults.items():
            events.error("an agent of the API is not used", agent=name, reason=fault)

    def save(self) -> None:
        """Replace the file. Blocks. Raises OSError; then the old one is there."""
        assert self.path is not None
        make_state_folder(self.path.parent)
        content = msgspec.json.encode(_File(VERSION, self.admin_socket, self.members))
        draft = self.path.with_name(f".{self.path.name}.new")
        draft.unlink(missing_ok=True)
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self.path)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise


def load_stored(config: Config, *, environ: Mapping[str, str]) -> StoredAgents:
    """Those of this config's admin socket. Blocks. Raises StoredAgentsError."""
    if config.server.admin_socket is None:
        return StoredAgents(None)
    socket = os.path.realpath(config.server.admin_socket)
    try:
        folder = state_folder(config.server.state_folder, environ=environ)
    except RuntimeError:
        return StoredAgents(None)
    name = hashlib.sha256(socket.encode("utf-8", "surrogateescape")).hexdigest()[:12]
    path = folder / f"agents-{name}.json"
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE + 1)
        if len(content) > MAX_FILE:
            raise StoredAgentsError(f"the file of the API's agents {path} is larger than {MAX_FILE} bytes.")
        found = msgspec.json.decode(content, type=_File)
        if found.version > VERSION:
            raise StoredAgentsError(f"a later version of Modelplex wrote the API's agents in {path}.")
    except FileNotFoundError:
        return StoredAgents(path, socket)
    except OSError as error:
        raise StoredAgentsError(f"the API's agents in {path} cannot be read: {error.strerror}.") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StoredAgentsError(f"the API's agents in {path} cannot be read: {error}.") from None
    agents: dict[str, AgentConfig] = {}
    faults: dict[str, str] = {}
    for name, members in found.agents.items():
        try:
            agents[name] = read_agent(name, members)
        except ConfigError as error:
            faults[name] = error.sentence
    return StoredAgents(path, socket, members=found.agents, agents=agents, faults=faults)

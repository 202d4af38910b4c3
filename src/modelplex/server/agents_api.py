"""`/_internal/agents/NAME`: reads, adds and removes an agent while the gateway runs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from modelplex.config import AgentConfig, Config, hide
from modelplex.core.errors import MethodNotAllowed, NotFound
from modelplex.server.config_changes import AgentChanges

MAX_BODY = 1_048_576
"""Bytes of an agent. One with many models and tags takes a few thousand."""

_encode = msgspec.json.Encoder().encode


class AgentsApi:
    """`config` gives the present one, `counters` a row for each agent."""

    def __init__(
        self,
        changes: AgentChanges,
        *,
        config: Callable[[], Config],
        counters: Callable[[], Awaitable[Mapping[str, Any]]],
    ) -> None:
        self._changes = changes
        self._config = config
        self._counters = counters

    def __repr__(self) -> str:
        return f"<AgentsApi of {self._changes!r}>"

    async def answer(self, method: str, name: str, read: Callable[[int], Awaitable[bytes]]) -> bytes:
        """JSON. `read` reads the body, at most so many bytes. Raises ModelplexError."""
        match method:
            case "PUT":
                return await self._changed(name, await read(MAX_BODY))
            case "DELETE":
                return await self._changed(name, None)
            case "GET" | "HEAD":
                return await self._shown(name)
            case _:
                raise MethodNotAllowed(f"/_internal/agents/{name} takes GET, PUT and DELETE, not {method}.")

    async def _changed(self, name: str, body: bytes | None) -> bytes:
        return _encode({"agent": name, "outcome": await self._changes.change(name, body)})

    async def _shown(self, name: str) -> bytes:
        agent = next((each for each in self._config().agents if each.name == name), None)
        if agent is None:
            raise NotFound(f"There is no agent {name!r}.", code="agent_not_found")
        counters = (await self._counters())["agents"]
        row = next((each for each in counters if each["agent"] == name), None)
        source = "api" if name in self._changes.added else "config"
        return _encode({"agent": name, "source": source, "settings": _redacted(agent), "usage": row})


def _redacted(agent: AgentConfig) -> object:
    return msgspec.to_builtins(agent, enc_hook=hide)

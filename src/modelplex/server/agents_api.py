"""`/_internal/agents/NAME`: reads, adds and removes an agent while the gateway runs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from modelplex.config import HIDDEN, AgentConfig, Config, hide
from modelplex.core.errors import NotFound
from modelplex.dashboard.request import ActNote
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

    async def put(self, name: str, body: bytes, note: ActNote) -> bytes:
        """JSON. `note` gets what has changed. Raises ModelplexError."""
        return await self._changed(name, body, note)

    async def delete(self, name: str, note: ActNote) -> bytes:
        """JSON. Raises ModelplexError."""
        return await self._changed(name, None, note)

    async def _changed(self, name: str, body: bytes | None, note: ActNote) -> bytes:
        note.target = f"agent {name}"
        before = self._find(name)
        outcome = await self._changes.change(name, body)
        note.detail = {"outcome": outcome}
        if body is not None and (changed := _changed(before, self._find(name))):
            note.detail["settings"] = changed
        return _encode({"agent": name, "outcome": outcome})

    def _find(self, name: str) -> AgentConfig | None:
        return next((each for each in self._config().agents if each.name == name), None)

    async def show(self, name: str) -> bytes:
        """JSON. Raises NotFound."""
        agent = self._find(name)
        if agent is None:
            raise NotFound(f"There is no agent {name!r}.", code="agent_not_found")
        counters = (await self._counters())["agents"]
        row = next((each for each in counters if each["agent"] == name), None)
        source = "api" if name in self._changes.added else "config"
        return _encode({"agent": name, "source": source, "settings": _redacted(agent), "usage": row})


def _redacted(agent: AgentConfig | None) -> dict[str, object]:
    found: dict[str, object] = {} if agent is None else msgspec.to_builtins(agent, enc_hook=hide)
    return found


def _changed(before: AgentConfig | None, now: AgentConfig | None) -> dict[str, object]:
    """The settings that are others now, without their secrets: of another token, that it is."""
    old = _redacted(before)
    changed = {key: value for key, value in _redacted(now).items() if key not in old or old[key] != value}
    defaults = _redacted(AgentConfig(name="")) if before is None else {}
    if before is not None and now is not None and before.token != now.token:
        changed["token"] = HIDDEN
    return {key: value for key, value in changed.items() if key not in defaults or defaults[key] != value}

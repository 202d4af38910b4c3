"""Agents of the API in a worker: the supervisor, which holds the sockets, changes them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from modelplex.core.errors import Busy, ClientError
from modelplex.server.config_source import AgentOutcome
from modelplex.server.workers.messages import AgentChanged, ChangeAgent, Message

CHANGE_SECONDS: Final = 10.0
"""For the supervisor to answer. It takes milliseconds, unless it starts a worker."""


class SupervisorAgents:
    """`send` passes a message to the supervisor. `added` are the API's agents that are used."""

    def __init__(self, number: int, added: frozenset[str], *, send: Callable[[Message], None]) -> None:
        self.added = added
        self._number = number
        self._send = send
        self._ids = 0
        self._open: dict[int, asyncio.Future[AgentChanged]] = {}

    def __repr__(self) -> str:
        return f"<SupervisorAgents of worker {self._number}, {len(self._open)} open>"

    async def change(self, name: str, body: bytes | None) -> AgentOutcome:
        """Add the agent of this body, or remove it. Raises ModelplexError."""
        self._ids += 1
        id_ = self._ids
        answer: asyncio.Future[AgentChanged] = asyncio.get_running_loop().create_future()
        self._open[id_] = answer
        self._send(ChangeAgent(id_, self._number, name, body))
        try:
            async with asyncio.timeout(CHANGE_SECONDS):
                changed = await answer
        except TimeoutError:
            raise Busy("The supervisor of the workers did not answer. Try again.") from None
        finally:
            del self._open[id_]
        if changed.outcome is None:
            raise ClientError(changed.message, status=changed.status, code=changed.code)
        return changed.outcome

    def receive(self, message: AgentChanged) -> None:
        answer = self._open.get(message.id)
        if answer is not None and not answer.done():
            answer.set_result(message)

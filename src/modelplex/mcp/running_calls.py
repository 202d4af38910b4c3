"""The calls that run: limits by caller, server and process, and who receives log messages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import Final

from modelplex.config.mcp_settings import McpConfig
from modelplex.mcp.call_route import CallRoute
from modelplex.mcp.call_slots import CallSlots, SlotsFull
from modelplex.mcp.constants import Json, Unavailable
from modelplex.mcp.progress_sink import ProgressSink
from modelplex.mcp.tool_server import ToolServer

RETRY_AFTER: Final = 1.0
"""Seconds after which a caller at its limit may try again: most calls are shorter."""


def limit_reached(sentence: str, *, server: str = "", retry_after: float | None = RETRY_AFTER) -> Unavailable:
    return Unavailable(sentence, server=server, reason="limit", retry_after=retry_after)


class ProcessUse:
    """An instance of one session or agent while calls run there. `slot` is done when it may run."""

    def __init__(self, slot: asyncio.Task[None]) -> None:
        self.calls = 0
        self.slot = slot

    def __repr__(self) -> str:
        return f"<ProcessUse by {self.calls} calls{'' if self.slot.done() else ', waiting'}>"


class RunningCalls:
    """`on_idle` takes a server at which the last call has ended."""

    def __init__(self, config: McpConfig, *, on_idle: Callable[[ToolServer], None]) -> None:
        self.config = config
        self._on_idle = on_idle
        self._callers: dict[str, int] = {}
        self._slots: dict[ToolServer, CallSlots] = {}
        self._log_receivers: dict[tuple[str, str], list[ProgressSink]] = {}
        self._processes = CallSlots(config.max_processes)
        self._processes_in_use: dict[tuple[ToolServer, str], ProcessUse] = {}

    def __repr__(self) -> str:
        running = sum(slots.running for slots in self._slots.values())
        return f"<RunningCalls of {running} calls>"

    def runs(self, upstream: ToolServer) -> int:
        """How many calls run at this server."""
        slots = self._slots.get(upstream)
        return slots.running if slots is not None else 0

    @contextmanager
    def count_request(self, owner: str) -> Generator[None]:
        """Count a request of a caller. Raises Unavailable at the caller's limit."""
        running = self._callers.get(owner, 0)
        if running >= self.config.max_in_flight:
            raise limit_reached(f"{running} requests of this caller are being answered, which is the limit.")
        self._callers[owner] = running + 1
        try:
            yield
        finally:
            self._callers[owner] -= 1
            if not self._callers[owner]:
                del self._callers[owner]

    def deliver_log(self, server: str, scope: str, message: Json) -> bool:
        """Pass a log message that belongs to no call to the one call that wants log messages.
        False if there is not exactly one.
        """
        receivers = self._log_receivers.get((server, scope), [])
        if len(receivers) != 1:
            return False
        receivers[0](message)
        return True

    @asynccontextmanager
    async def enter(self, call: CallRoute, sink: ProgressSink, *, size: int) -> AsyncGenerator[None]:
        """Wait for a slot at the server, and for one of its processes, at most as long as the call
        itself may be silent. `size` is what the call's arguments take.

        Raises:
            Unavailable: no slot came free.
        """
        upstream, owner = call.upstream, call.client.caller.owner
        slots = self._slots.get(upstream)
        if slots is None:
            slots = self._slots[upstream] = CallSlots(self.config.max_server_in_flight)
        slots.limit = self.config.max_server_in_flight
        try:
            await slots.take(owner, patience=upstream.config.timeout, size=size)
        except SlotsFull as full:
            raise limit_reached(f"{upstream.name} {full.sentence}", server=upstream.name) from None
        try:
            async with self._process_slot(call):
                with self._receiving_logs(call, sink):
                    yield
        finally:
            slots.give_back(owner, size=size)
            if slots.idle:
                self._slots.pop(upstream, None)
                self._on_idle(upstream)

    @asynccontextmanager
    async def _process_slot(self, call: CallRoute) -> AsyncGenerator[None]:
        """Count an instance of a session or agent as its caller's while calls run there: one caller
        uses at most a share of all processes.
        """
        if not call.scope or call.upstream.config.command is None:
            yield
            return
        key, owner = (call.upstream, call.scope), call.client.caller.owner
        self._processes.limit = self.config.max_processes
        used = self._processes_in_use.get(key)
        if used is None:
            taking = self._processes.take(owner, patience=call.upstream.config.timeout)
            used = self._processes_in_use[key] = ProcessUse(asyncio.create_task(taking))
        used.calls += 1
        try:
            await asyncio.shield(used.slot)
            yield
        except SlotsFull as full:
            name = call.upstream.name
            sentence = f"{name} needs a process of its own for this session; the gateway {full.sentence}"
            raise limit_reached(sentence, server=name) from None
        finally:
            used.calls -= 1
            if not used.calls:
                del self._processes_in_use[key]
                used.slot.add_done_callback(lambda slot: self._release_process_slot(slot, owner))
                used.slot.cancel()

    def _release_process_slot(self, slot: asyncio.Task[None], owner: str) -> None:
        if not slot.cancelled() and slot.exception() is None:
            self._processes.give_back(owner)

    @contextmanager
    def _receiving_logs(self, call: CallRoute, sink: ProgressSink) -> Generator[None]:
        """Let the call receive log messages that belong to no call."""
        if sink.level is None:
            yield
            return
        key = (call.upstream.name, call.scope)
        receivers = self._log_receivers.setdefault(key, [])
        receivers.append(sink)
        try:
            yield
        finally:
            receivers.remove(sink)
            if not receivers:
                del self._log_receivers[key]

"""Flow control of a connection in both directions: reading pauses, and writers wait."""

from __future__ import annotations

import asyncio

from modelplex.eager_task import Waiter, new_waiter


class FlowControl(asyncio.BufferedProtocol):
    """A protocol whose reading can be paused, and which knows whether its peer reads."""

    transport: asyncio.Transport

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.read_paused = False
        self.write_paused = False
        """The peer has not read what was written."""
        self._draining: list[Waiter] = []

    def pause_reading(self) -> None:
        if not self.read_paused:
            self.read_paused = True
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()

    async def drain(self) -> None:
        """Wait until `wake_drains`: the peer has read most of what was written, or is gone."""
        waiter = new_waiter(self.loop)
        self._draining.append(waiter)
        try:
            await waiter
        finally:
            if waiter in self._draining:
                self._draining.remove(waiter)

    def wake_drains(self) -> None:
        self.write_paused = False
        draining, self._draining = self._draining, []
        for waiter in draining:
            waiter.wake()

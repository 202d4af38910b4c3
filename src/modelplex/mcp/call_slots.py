"""Slots for concurrent calls at one tool server.

Each caller has a queue; queues are served round robin, so a caller with many calls delays another
by at most one call.
"""

from __future__ import annotations

import asyncio
import math
from typing import Final

from modelplex.core.fair_queue import FairQueue

SHARE: Final = 0.75
"""Share of the slots left by other callers that one caller may use, so that hanging calls do not
block the others.
"""
WAITING_OF_ONE: Final = 64
"""Calls of one caller that may wait at one server. More than agents make at once."""
WAITING: Final = 1_024
"""Calls of all callers that may wait at one server. Each holds its arguments."""


BYTES_OF_ONE: Final = 65_536
"""Characters of arguments in one caller's running calls above which its further calls wait: a
server reads its calls one after the other.
"""


class SlotsFull(Exception):
    """No slot came free, or the queue is full."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence)
        self.sentence = sentence


class CallSlots:
    """Belongs to one event loop. `limit` is how many calls run at once."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.running = 0
        self._own: dict[str, int] = {}
        self._bytes: dict[str, int] = {}
        self._waiting: FairQueue[tuple[int, asyncio.Future[None]]] = FairQueue()

    def __repr__(self) -> str:
        return f"<CallSlots {self.running} of {self.limit} taken, {len(self._waiting)} calls waiting>"

    async def take(self, owner: str, *, patience: float, size: int = 0) -> None:
        """Wait for a slot, at most `patience` seconds. Each successful `take` needs one `give_back`
        of the same size, the size of the call's arguments.

        Raises: SlotsFull
        """
        own = self._waiting.count(owner)
        if not own and self._fits(owner):
            self._grant(owner, size)
            return
        if own >= WAITING_OF_ONE or len(self._waiting) >= WAITING:
            raise SlotsFull(f"{self._taken(owner)}, which is the limit; {own} of this caller wait already.")
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(owner, (size, place))
        try:
            async with asyncio.timeout(patience):
                await place
        except TimeoutError:
            self._leave(owner, size, place)
            raise SlotsFull(f"{self._taken(owner)}; none came free within {patience:g} seconds.") from None
        except asyncio.CancelledError:
            self._leave(owner, size, place)
            raise

    def give_back(self, owner: str, *, size: int = 0) -> None:
        """Free a slot, which the next queue takes."""
        self.running -= 1
        self._own[owner] -= 1
        self._bytes[owner] -= size
        if not self._own[owner]:
            del self._own[owner], self._bytes[owner]
        self._serve()

    @property
    def idle(self) -> bool:
        return not self.running and not self._waiting

    def _taken(self, owner: str) -> str:
        return f"answers {self.running} calls, {self._own.get(owner, 0)} of them of this caller"

    def _fits(self, owner: str) -> bool:
        own = self._own.get(owner, 0)
        if self._bytes.get(owner, 0) > BYTES_OF_ONE:
            return False
        return own < math.ceil((self.limit - (self.running - own)) * SHARE)

    def _grant(self, owner: str, size: int) -> None:
        self.running += 1
        self._own[owner] = self._own.get(owner, 0) + 1
        self._bytes[owner] = self._bytes.get(owner, 0) + size

    def _leave(self, owner: str, size: int, place: asyncio.Future[None]) -> None:
        """A call stops waiting. It may have got a slot in the same moment."""
        if place.done() and not place.cancelled():
            self.give_back(owner, size=size)
        else:
            self._waiting.discard(owner, (size, place))

    def _serve(self) -> None:
        """Give free slots to waiting calls, round robin by caller."""
        while (owner := next(filter(self._fits, self._waiting), None)) is not None:
            size, place = self._waiting.pop(owner)
            if not place.done():  # else its call was just cancelled
                self._grant(owner, size)
                place.set_result(None)

"""Callers take turns starting requests on the event loop.

Requests that arrive at once would all be parsed in one iteration of the loop: thirty of one caller
would delay another caller's by thirty times the time of one. So one iteration starts a limited
number of bytes of each caller, and the rest waits for the next iterations.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import perf_counter

from modelplex.core.fair_queue import FairQueue

BYTES_AT_ONCE = 16_384
"""Bytes of one caller's requests that one iteration of the loop starts: about a millisecond."""
OVERHEAD = 4_096
"""Bytes that a request counts for beside its body: any request takes the time that parsing so many
bytes takes.
"""
PLANNED_OVERHEAD = 1_024
"""The same of a request that is served by a plan, which takes a quarter of the time."""
CONTESTED_S = 1.0
"""Seconds for which callers take turns after a request of another caller. A caller that is alone
does not wait.
"""


class FairStart:
    """The requests that wait to start, by caller."""

    def __init__(self) -> None:
        self._started: dict[str, int] = {}
        """Bytes that this iteration of the loop has started, by caller."""
        self._last_owner = ""
        self._contested_until = 0.0
        self._waiting: FairQueue[tuple[int, Callable[[], bool]]] = FairQueue()
        """Bytes, and what starts the request; it returns False where that ended meanwhile."""

    def __repr__(self) -> str:
        return f"<FairStart {len(self._waiting)} waiting>"

    def may_start(self, owner: str, size: int, *, overhead: int = OVERHEAD) -> bool:
        """Whether a request of `size` bytes may start at once, which it then does: always, unless
        `owner` has started BYTES_AT_ONCE in this iteration of the loop. Else `wait`, or
        `start_in_turn`.
        """
        now = perf_counter()
        if owner != self._last_owner:
            self._contested_until = now + CONTESTED_S if self._last_owner else 0.0
            self._last_owner = owner
        if now >= self._contested_until and not self._waiting.size:
            return True
        started = self._started
        if self._waiting.count(owner) or started.get(owner, 0) > BYTES_AT_ONCE:
            return False
        if not started:
            asyncio.get_running_loop().call_soon(self._start_next)
        started[owner] = started.get(owner, 0) + size + overhead
        return True

    async def wait(self, owner: str, size: int) -> None:
        """Return when such a request may start: in a later iteration of the loop."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def start() -> bool:
            if turn.done():  # the client disconnected
                return False
            turn.set_result(None)
            return True

        self.start_in_turn(owner, size, start)
        await turn

    def start_in_turn(
        self, owner: str, size: int, start: Callable[[], bool], *, overhead: int = OVERHEAD
    ) -> None:
        """Call `start` when such a request may start. It returns False if the request has ended
        meanwhile.
        """
        self._waiting.add(owner, (size + overhead, start))

    def _start_next(self) -> None:
        """Start waiting requests of each caller, in the next iteration of the loop."""
        waiting, started = self._waiting, self._started
        started.clear()
        for owner in tuple(waiting):
            taken = 0
            while waiting.count(owner) and taken <= BYTES_AT_ONCE:
                weight, start = waiting.pop(owner)
                if start():
                    taken += weight
            started[owner] = taken
        if started:
            asyncio.get_running_loop().call_soon(self._start_next)

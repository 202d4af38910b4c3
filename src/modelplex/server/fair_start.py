"""Whose request is begun next on the event loop: each caller's in turn.

Above it stand the listeners; below it asyncio. Requests that arrive at once would all be read in
one pass of the loop, and thirty of one caller hold up the one of another by thirty times what one
takes. So a pass begins some bytes of each caller's, and the rest waits for the passes after it.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque

BYTES_AT_ONCE = 16_384
"""What one pass of the loop begins of one caller's requests: about a millisecond."""
OVERHEAD = 4_096
"""Bytes that a request counts for beside its body: what any request takes, in the time that reading
that many takes.
"""
CONTESTED_S = 1.0
"""Seconds for which callers take turns after a request of another one. A caller that is alone does
not wait for itself.
"""


class FairStart:
    """Requests that are to begin, by the caller that they belong to."""

    def __init__(self) -> None:
        self._begun: dict[str, int] = {}
        self._last_owner = ""
        self._contested_until = 0.0
        self._waiting: OrderedDict[str, deque[tuple[int, asyncio.Future[None]]]] = OrderedDict()

    def __repr__(self) -> str:
        return f"<FairStart {sum(map(len, self._waiting.values()))} waiting>"

    async def take(self, owner: str, size: int) -> None:
        """Returns when a request of `size` bytes may begin: at once, unless `owner` has begun
        others in this pass of the loop.
        """
        now = asyncio.get_running_loop().time()
        if owner != self._last_owner:
            self._contested_until = now + CONTESTED_S if self._last_owner else 0.0
            self._last_owner = owner
        if now >= self._contested_until and not self._waiting:
            return
        begun = self._begun
        if owner in self._waiting or begun.get(owner, 0) > BYTES_AT_ONCE:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.setdefault(owner, deque()).append((size, turn))
            await turn
            return
        if not begun:
            asyncio.get_running_loop().call_soon(self._pass)
        begun[owner] = begun.get(owner, 0) + size + OVERHEAD

    def _pass(self) -> None:
        """The next pass of the loop."""
        begun = self._begun
        begun.clear()
        for owner, waiting in tuple(self._waiting.items()):
            taken = 0
            while waiting and taken <= BYTES_AT_ONCE:
                size, turn = waiting.popleft()
                if not turn.done():  # else its caller has hung up
                    turn.set_result(None)
                    taken += size + OVERHEAD
            if not waiting:
                del self._waiting[owner]
            begun[owner] = taken
        if begun:
            asyncio.get_running_loop().call_soon(self._pass)

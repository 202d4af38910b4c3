"""Remembers which provider and account made each opaque state, such as signed reasoning."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from modelplex.core.request import Attempt
from modelplex.routing.affinity import Origin

REMEMBERED_STATES = 20_000
"""Opaque states whose origin is remembered, about 4 MB; a conversation has some dozens, and the
oldest are forgotten first.
"""


class StateOrigins:
    """The origin of each opaque state, by its hash. It outlives a reload of the config."""

    def __init__(self) -> None:
        self._by_hash: OrderedDict[int, Origin] = OrderedDict()
        self.seen: set[Origin] = set()
        """Every origin of which a state was ever seen."""
        self.version = 0
        """Of `seen`: another number after each change."""
        self.announce: Callable[[tuple[int, ...], Origin], None] | None = None
        """Gets the hashes of states that are remembered: other processes need them too."""

    def __repr__(self) -> str:
        return f"<StateOrigins {len(self._by_hash)} states of {len(self.seen)}>"

    def find(self, state: str) -> Origin | None:
        return self._by_hash.get(_hash(state))

    def remember(self, states: tuple[str, ...], attempt: Attempt) -> None:
        if not states:
            return
        hashes, origin = tuple(map(_hash, states)), (attempt.provider, attempt.account)
        self.learn(hashes, origin)
        if self.announce is not None:
            self.announce(hashes, origin)

    def learn(self, hashes: tuple[int, ...], origin: Origin) -> None:
        """Remember states by their hashes, which forked processes agree on."""
        if origin not in self.seen:
            self.seen.add(origin)
            self.version += 1
        for each in hashes:
            self._by_hash[each] = origin
        while len(self._by_hash) > REMEMBERED_STATES:
            self._by_hash.popitem(last=False)


def _hash(state: str) -> int:
    """The same for both alphabets of base64: clients that decode a state encode it in either."""
    return hash(state.replace("-", "+").replace("_", "/"))

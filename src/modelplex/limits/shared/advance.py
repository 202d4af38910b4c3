"""What a gateway has reserved in advance, so that it can go on for a while without the engine.

At each renewal it asks for as many requests of an agent as came since the last one. The engine
grants at most a tenth of each limit, over all gateways. Decides, and does no I/O.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from modelplex.limits.shared.messages import SharedAccount

SPARE: Final = 8
"""Requests of one agent that are reserved in advance, at most."""
SPARE_AGENTS: Final = 200
"""Agents for which a gateway reserves in advance."""


class _Recent(msgspec.Struct):
    """An agent, how often it asked since the last renewal, and what is reserved for it."""

    accounts: tuple[SharedAccount, ...]
    asked: int = 0
    spare: int = 0


class Advance:
    def __init__(self) -> None:
        self._recent: dict[str, _Recent] = {}

    def __repr__(self) -> str:
        return f"<Advance {sum(each.spare for each in self._recent.values())} requests>"

    def asked(self, accounts: tuple[SharedAccount, ...]) -> None:
        """A request of the first account, an agent, came."""
        recent = self._recent.get(accounts[0].name)
        if recent is None:
            recent = self._recent[accounts[0].name] = _Recent(accounts)
        recent.accounts = accounts
        recent.asked += 1

    def wanted(self) -> Iterator[tuple[tuple[SharedAccount, ...], int]]:
        """How many requests of each agent to reserve from now on. Those of an agent that asks no
        more are returned, and then it is forgotten.
        """
        for name in [name for name, each in self._recent.items() if not each.asked and not each.spare]:
            del self._recent[name]
        for number, recent in enumerate(self._recent.values()):
            if number < SPARE_AGENTS or recent.spare:
                yield recent.accounts, min(SPARE, recent.asked) if number < SPARE_AGENTS else 0
            recent.asked = 0

    def has(self, agent: str, count: int) -> None:
        """The engine has reserved so many."""
        if (recent := self._recent.get(agent)) is not None:
            recent.spare = count

    def forget(self) -> None:
        """Nothing is reserved any more."""
        for recent in self._recent.values():
            recent.spare = 0

    def take(self, agent: str) -> bool:
        """Whether a request was reserved; one less is then."""
        recent = self._recent.get(agent)
        if recent is None or not recent.spare:
            return False
        recent.spare -= 1
        return True

"""Which of a provider's keys is tried first: after one is refused or rate limited, the next."""

from __future__ import annotations

from modelplex.core.request import Attempt


class KeyRotation:
    """The preferred key of each provider, for each caller."""

    def __init__(self) -> None:
        self._preferred: dict[tuple[str, str], int] = {}

    def ordered(self, attempts: list[Attempt], *, provider: str, caller: str) -> list[Attempt]:
        """The attempts at one provider, one for each of its keys, the preferred key first."""
        first = self._preferred.get((caller, provider), 0)
        return attempts[first:] + attempts[:first] if first else attempts

    def advance(self, attempt: Attempt, *, caller: str, keys: int) -> None:
        """This attempt's key was refused or rate limited: the next of `keys` is preferred."""
        self._preferred[caller, attempt.provider] = (attempt.key + 1) % keys

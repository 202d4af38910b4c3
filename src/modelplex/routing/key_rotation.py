"""Key rotation: after a provider's key is rejected or rate limited, its next key is preferred."""

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
        """Prefer the next of `keys` keys: the attempt's key was rejected or rate limited."""
        self._preferred[caller, attempt.provider] = (attempt.key + 1) % keys

"""Key rotation: after a provider's key is rejected or rate limited, its next key is preferred."""

from __future__ import annotations

from itertools import groupby

from modelplex.core.request import Attempt


class KeyRotation:
    """The preferred key of each provider, for each caller."""

    def __init__(self) -> None:
        self._preferred: dict[tuple[str, str], int] = {}
        self.version = 0
        """Of what is preferred: another number after each change."""

    @property
    def any_preferred(self) -> bool:
        """Whether any caller prefers a key."""
        return bool(self._preferred)

    def preferred_first(self, attempts: list[Attempt], *, caller: str) -> list[Attempt]:
        """The attempts, with the preferred key first among those at one model of a provider."""
        ordered: list[Attempt] = []
        for (provider, _), group in groupby(attempts, key=lambda each: (each.provider, each.model)):
            keys = list(group)
            first = self._preferred.get((caller, provider), 0)
            ordered += keys[first:] + keys[:first]
        return ordered

    def advance(self, attempt: Attempt, *, caller: str, keys: int) -> None:
        """Prefer the next of `keys` keys: the attempt's key was rejected or rate limited."""
        self.version += 1
        self._preferred[caller, attempt.provider] = (attempt.key + 1) % keys

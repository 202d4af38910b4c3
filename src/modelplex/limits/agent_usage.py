"""What was used, as a value."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec


class AgentUsage(msgspec.Struct, frozen=True):
    """What an agent used."""

    requests: int = 0
    tokens: int = 0
    usd: float = 0.0

    def plus(self, other: AgentUsage) -> AgentUsage:
        return AgentUsage(self.requests + other.requests, self.tokens + other.tokens, self.usd + other.usd)

    def negative(self) -> AgentUsage:
        return AgentUsage(-self.requests, -self.tokens, -self.usd)


NOTHING = AgentUsage()
Days = Mapping[str, AgentUsage]
"""What was spent, by UTC day ("2026-01-31")."""

"""The limits of agents over several gateways, for `[shared]`. What counts them is loaded where it
is set.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from time import monotonic
from typing import TYPE_CHECKING

from modelplex.config import Config
from modelplex.limits.agent_limits import AgentLimits
from modelplex.limits.agent_usage import AgentUsage
from modelplex.records.log import EventLog

if TYPE_CHECKING:
    from modelplex.limits.shared.messages import SharedTotals
    from modelplex.limits.shared.shared_limits import SharedLimits


class SharedGateways:
    """`shared` is None where the limits are those of this gateway alone."""

    def __init__(self, limits: AgentLimits, *, events: EventLog) -> None:
        self.shared: SharedLimits | None = None
        self._limits = limits
        self._events = events
        self._place = ""
        self._lost_at = 0.0

    def __repr__(self) -> str:
        return f"<SharedGateways {self.shared!r}>"

    async def open(self, config: Config) -> None:
        """Register at the engine, once. One that does not answer is reported. Raises SharedError
        for an engine that cannot be used at all.
        """
        settings = config.shared
        if settings.url is None or self.shared is not None:
            return
        from modelplex.limits.shared.engine import Engine
        from modelplex.limits.shared.shared_admission import SharedAdmission
        from modelplex.limits.shared.shared_limits import SharedLimits

        engine = Engine(settings.url.reveal())
        self._place = engine.place
        self.shared = SharedLimits(
            engine,
            node=f"{socket.gethostname()}-{os.urandom(6).hex()}",
            lease=settings.lease,
            on_loss=settings.on_loss,
            clock=monotonic,
            on_totals=self._adopt,
            on_change=self._changed,
        )
        self._limits.use_shared(SharedAdmission(self.shared))
        await self.shared.open()

    async def close(self) -> None:
        if self.shared is not None:
            await self.shared.close()

    def status(self) -> dict[str, object] | None:
        return None if self.shared is None else self.shared.status()

    def counts(self) -> Mapping[str, int]:
        """Requests of agents with limits, by what became of them."""
        return {} if self.shared is None else dict(self.shared.counts)

    def is_away(self) -> bool:
        return self.shared is not None and not self.shared.is_connected

    def _adopt(self, name: str, totals: SharedTotals) -> None:
        periods: dict[str, AgentUsage] = {
            totals.day: totals.spent("day"),
            totals.day[:7]: totals.spent("month"),
            "": totals.spent("total"),
        }
        self._limits.adopt(name, periods)

    def _changed(self, reason: str | None) -> None:
        assert self.shared is not None
        if reason is None:
            seconds = round(monotonic() - self._lost_at, 1)
            self._events.info(
                f"the engine of the shared limits, {self._place}, answers again after {seconds} s"
            )
            return
        self._lost_at = monotonic()
        then = "are refused" if self.shared.on_loss == "refuse" else "have the limits of this gateway alone"
        self._events.error(
            f"the engine of the shared limits, {self._place}, does not answer ({reason}): new requests of agents with limits {then}"
        )

"""`/health/live` and `/health/ready`: whether the process serves, and whether requests should come
to it now.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from modelplex.core.errors import NotReady
from modelplex.pipeline.gateway import Gateway
from modelplex.routing.readiness import unusable_aliases

LIVE = "/health/live"
READY = "/health/ready"
PATHS = frozenset({LIVE, READY})


class Readiness:
    """`addresses` are the listeners that are up. `stopping` is set before anything is closed."""

    def __init__(self, addresses: Callable[[], Sequence[str]]) -> None:
        self._addresses = addresses
        self.stopping = False

    def __repr__(self) -> str:
        return f"<Readiness {'stopping' if self.stopping else 'serving'}>"

    def check(self, gateway: Gateway, *, in_detail: bool) -> None:
        """Raises NotReady. In detail it names what is not ready: for the host, since an agent may
        learn neither other aliases nor what a provider answered to others.
        """
        faults = self._faults(gateway)
        if faults:
            raise NotReady(f"Not ready: {' '.join(faults)}" if in_detail else "Not ready.")

    def _faults(self, gateway: Gateway) -> list[str]:
        if self.stopping:
            return ["The gateway stops."]
        if not self._addresses():
            return ["No listener is up."]
        keys = {name: upstream.keys for name, upstream in gateway.upstreams.items()}
        unusable = unusable_aliases(gateway.catalog.directory, gateway.circuits.unhealthy(), keys=keys)
        return [
            f"The alias {alias!r} has no provider that can be used ({reason})."
            if alias
            else f"No provider can be used ({reason})."
            for alias, reason in unusable.items()
        ]

"""Reports events of the server to the log and the metrics."""

from __future__ import annotations

from collections.abc import Iterable

from modelplex.config import Config
from modelplex.core.caller import Caller
from modelplex.core.errors import without_name
from modelplex.records.log import Log
from modelplex.records.metrics import Breaker, Metrics
from modelplex.records.record import Record
from modelplex.records.sink import Sink
from modelplex.records.tool_call import ToolRecord
from modelplex.records.unpriced import UnpricedWarnings
from modelplex.routing.circuits import ANY_KEY, Circuits, CircuitStatus


class Reports:
    """The log and the metrics of a process, and `more` sinks."""

    def __init__(self, log: Log, metrics: Metrics, config: Config, *, more: Iterable[Sink] = ()) -> None:
        self.log = log
        self.metrics = metrics
        self.started = metrics.started
        self.unpriced = UnpricedWarnings(config, log.events)
        self.sinks: list[Sink] = [metrics, log, self.unpriced, *more]

    def record(self, record: Record | ToolRecord, /) -> None:
        for sink in self.sinks:
            sink.record(record)

    def refused(self, record: Record) -> None:
        """A request that did not reach the app: for the record and for pages, not a call of the log
        and the metrics.
        """
        for sink in self.sinks:
            if sink not in {self.metrics, self.log, self.unpriced}:
                sink.record(record)

    def caller_seen(self, caller: Caller, refused: str | None) -> None:
        """Log a caller that was refused, or that `attest = "warn"` applies to."""
        attested, peer = caller.attested, caller.peer
        self.log.events.warning(
            "a caller was refused"
            if refused is not None
            else "a caller has a network"
            if attested and attested.interfaces
            else "a caller's network could not be seen",
            listener=caller.listener,
            agent=caller.agent,
            pid=peer.pid if peer is not None else 0,
            uid=peer.uid if peer is not None else None,
            interfaces=list(attested.interfaces) if attested is not None else [],
            **({"reason": refused} if refused is not None else {}),
        )

    def listing_failed(self, provider: str, reason: str) -> None:
        reason = without_name(reason, provider)
        self.log.events.warning("a provider did not list its models", provider=provider, reason=reason)

    def key_command_failed(self, provider: str, said: str) -> None:
        """`said` is the end of what the command wrote to stderr."""
        self.log.events.warning("a key command failed", provider=provider, stderr=said)

    def circuit_opened(self, circuit: CircuitStatus) -> None:
        name = circuit.name
        self.log.events.warning(
            "a circuit breaker opened",
            provider=name.provider,
            **({} if name.key == ANY_KEY else {"key": name.key}),
            **({"model": name.model, "endpoint": name.endpoint} if name.model else {}),
            caller=circuit.caller or "everybody",
            reason=circuit.health.reason,
        )


def breakers(circuits: Circuits, keys: dict[str, int]) -> list[Breaker]:
    """The circuit breaker of each configured key, closed ones first, and the others that are not
    closed, open ones first. `keys` has the number of keys of each provider.
    """
    standing = sorted(circuits.unhealthy(), key=lambda s: s.health.state, reverse=True)
    found = [
        Breaker(
            s.name.provider,
            None if s.name.key == ANY_KEY else s.name.key,
            s.health.state,
            model=s.name.model,
            endpoint=s.name.endpoint,
            caller=s.caller,
        )
        for s in standing
    ]
    listed = {(b.provider, b.key) for b in found if not b.model and not b.caller}
    closed = [
        Breaker(name, key, "closed")
        for name, count in keys.items()
        for key in range(count)
        if (name, key) not in listed
    ]
    return closed + found

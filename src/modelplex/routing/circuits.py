"""The circuit breakers: one for each provider, one for each key, one for each key, model and
endpoint. Each has a state for every caller, and one for all callers.

The caller of this module passes the time and reports each outcome.

No caller can take a provider from another. A request can make a server fail (a body that crashes
it, a prompt that exceeds the timeout), so a circuit opens for the caller whose requests failed. It
opens for all callers
    - after failures in a row of at least two callers, of which each counts for at most half of the
      limit;
    - if two callers at the same time were requested to wait, or had the key rejected, for the
      shorter of the two waits;
    - after failures to connect, which no request can cause: nothing of it was sent.
A response to any caller closes the circuit for all callers and for that caller.

Callers choose model names, so the table is bounded, and each caller first displaces circuits that
it created itself.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable

import msgspec

from modelplex.core.errors import ModelplexError
from modelplex.core.request import Attempt
from modelplex.routing.circuit_breaker import (
    HEALTHY,
    PROBE_TIMEOUT,
    BreakerRules,
    CircuitState,
    HealthSignal,
    Scope,
    after_failure,
    health_signal,
    opened,
)

MAX_PER_CALLER = 256
"""Circuits that one caller may create: far more than the models and endpoints that an agent uses,
and about 100 KB.
"""
MAX_CIRCUITS = 8192
"""Circuits of all callers, a few MB."""
ALL_CALLERS = ""
ANY_KEY = -1
SCOPES: tuple[Scope, ...] = ("provider", "key", "operation")
"""In the order of `circuits_of`."""


class CircuitName(msgspec.Struct, frozen=True, cache_hash=True):
    """What a circuit covers. `key` is ANY_KEY for a provider's circuit; `model` and `endpoint` are
    empty for that and for a key's circuit.
    """

    provider: str
    key: int = ANY_KEY
    model: str = ""
    endpoint: str = ""


class CircuitStatus(msgspec.Struct, frozen=True):
    """The state of one unhealthy circuit, for one caller or ALL_CALLERS."""

    name: CircuitName
    caller: str
    health: CircuitState


class _Circuit:
    """One circuit.

    creator  the caller whose failure created it
    callers  the states of callers whose requests failed
    shared   the state for all callers
    run      failures by caller, since the last response or since it opened for all callers
    """

    __slots__ = ("callers", "creator", "run", "shared")

    def __init__(self, creator: str) -> None:
        self.creator = creator
        self.callers: dict[str, CircuitState] = {}
        self.shared = HEALTHY
        self.run: dict[str, int] = {}

    def allows(self, caller: str, *, now: float) -> bool:
        """Whether a request of this caller may pass, as a probe if the circuit is not closed. Each
        caller has its own probe, so that a slow one does not block others.
        """
        own = self.callers.get(caller, HEALTHY)
        if own.state == self.shared.state == "closed":
            return True
        if now < own.until or now < self.shared.until:
            return False
        return own.probing is None or now - own.probing > PROBE_TIMEOUT

    def open_for(self, caller: str) -> str | None:
        """ALL_CALLERS or this caller, if it is not closed for them; else None."""
        if self.shared.state != "closed":
            return ALL_CALLERS
        own = self.callers.get(caller)
        return caller if own is not None and own.state != "closed" else None

    def attempt_started(self, caller: str, *, now: float) -> None:
        own = self.callers.get(caller, HEALTHY)
        if own.state == self.shared.state == "closed" or now < own.until:
            return
        if self.shared.state == "open" and now >= self.shared.until:
            self.shared = msgspec.structs.replace(self.shared, state="half_open", since=now)
        since = own.since if own.state == "half_open" else now
        self.callers[caller] = msgspec.structs.replace(own, state="half_open", since=since, probing=now)

    def ended_without_signal(self, caller: str) -> None:
        own = self.callers.get(caller)
        if own is None or own.probing is None:
            return
        if own.failures:
            self.callers[caller] = msgspec.structs.replace(own, probing=None)
        else:
            del self.callers[caller]

    def succeeded(self, caller: str) -> None:
        self.callers.pop(caller, None)
        self.shared = HEALTHY
        self.run.clear()

    def failed(self, caller: str, signal: HealthSignal, *, now: float, rules: BreakerRules) -> None:
        if signal.scope == "provider":
            self.callers.pop(caller, None)
            self.shared = after_failure(self.shared, signal, now=now, rules=rules)
            return
        last = self.shared.last_failure
        own = self.callers[caller] = after_failure(
            self.callers.get(caller, HEALTHY), signal, now=now, rules=rules
        )
        if now - last > rules.window:
            self.run.clear()
        self.run[caller] = self.run.get(caller, 0) + 1
        agreed = self._agreed(caller, own, signal, now=now, rules=rules)
        if agreed is not None:
            self.shared = agreed
            self.run.clear()
        else:
            self.shared = msgspec.structs.replace(
                self.shared, failures=sum(self.run.values()), last_failure=now, reason=signal.reason
            )

    def _agreed(
        self, caller: str, own: CircuitState, signal: HealthSignal, *, now: float, rules: BreakerRules
    ) -> CircuitState | None:
        """The new state for all callers; None unless more than one caller had failures."""
        if signal.at_once:
            others = [h.until for c, h in self.callers.items() if c != caller and h.at_once and h.until > now]
            if others:
                return msgspec.structs.replace(own, until=min(own.until, *others), probing=None)
        if len(self.run) < 2:
            return None
        most = (rules.failures + 1) // 2
        counted = sum(min(failures, most) for failures in self.run.values())
        if counted >= rules.failures or self.shared.state == "half_open":
            shared = msgspec.structs.replace(signal, wait=None, at_once=False)
            return opened(shared, failures=sum(self.run.values()), now=now, rules=rules)
        return None

    @property
    def is_healthy(self) -> bool:
        return not self.callers and self.shared == HEALTHY


class Circuits:
    """The table of circuits. `caller` is Caller.owner of a request; `now` is seconds of a monotonic
    clock.
    """

    def __init__(self, *, report: Callable[[CircuitStatus], None] = lambda _: None) -> None:
        """`report` is called once for each circuit that opens."""
        self._report = report
        self._table: dict[CircuitName, _Circuit] = {}
        self._made: dict[str, OrderedDict[CircuitName, None]] = {}

    def __repr__(self) -> str:
        return f"<Circuits {len(self._table)} unhealthy>"

    def __len__(self) -> int:
        return len(self._table)

    @property
    def all_closed(self) -> bool:
        """No circuit is open, for any caller."""
        return not self._table

    def have_none(self, names: Iterable[CircuitName]) -> bool:
        """Whether none of these is unhealthy, for any caller."""
        return self._table.keys().isdisjoint(names)

    def may_try(self, attempt: Attempt, caller: str, *, now: float) -> bool:
        return all(circuit.allows(caller, now=now) for circuit in self._of(attempt))

    def _requested_wait(self, attempt: Attempt, caller: str, *, now: float) -> CircuitState | None:
        """The state with the longest wait that the provider requested of this caller, or None. Its
        responses to other callers are not used: they may quote their requests.
        """
        waits = [
            own
            for circuit in self._of(attempt)
            if (own := circuit.callers.get(caller)) is not None and own.is_requested and own.until > now
        ]
        return max(waits, key=lambda own: own.until, default=None)

    def wait_seconds(self, attempt: Attempt, caller: str, *, now: float) -> float | None:
        """Seconds that the provider requested this caller to wait; None if it requested none."""
        own = self._requested_wait(attempt, caller, now=now)
        return None if own is None else own.until - now

    def wait_reason(self, attempt: Attempt, caller: str, *, now: float) -> str:
        """The provider's message with that wait; empty if it requested none."""
        own = self._requested_wait(attempt, caller, now=now)
        return "" if own is None else own.reason

    def attempt_started(self, attempt: Attempt, caller: str, *, now: float) -> None:
        if self._table:
            for circuit in self._of(attempt):
                circuit.attempt_started(caller, now=now)

    def first_output(self, attempt: Attempt, caller: str) -> None:
        """The first output of a response arrived, which closes open circuits. A closed one resets
        its failures when the response is complete.
        """
        for name in self._names(attempt):
            circuit = self._table.get(name)
            if circuit is None:
                continue
            own = circuit.callers.get(caller, HEALTHY)
            if own.state != "closed" or circuit.shared.state != "closed":
                self._answered(name, circuit, caller)

    def succeeded(self, attempt: Attempt, caller: str) -> None:
        """A response is complete."""
        if not self._table:
            return
        for name in self._names(attempt):
            if (circuit := self._table.get(name)) is not None:
                self._answered(name, circuit, caller)

    def ended_without_signal(self, attempt: Attempt, caller: str) -> None:
        """The attempt ended without a health signal: the client disconnected, or was at fault. Its
        probe is over.
        """
        for name in self._names(attempt):
            self._ended(name, caller)

    def failed(
        self,
        attempt: Attempt,
        caller: str,
        error: ModelplexError,
        *,
        now: float,
        rules: BreakerRules,
        again: bool = False,
    ) -> None:
        """The attempt failed. `again`: an earlier attempt of the same request failed here too, and
        a request counts once.
        """
        signal = health_signal(error)
        names = dict(zip(SCOPES, circuits_of(attempt), strict=True))
        if error.upstream.status is not None or (signal is not None and signal.scope != "provider"):
            self._reached(names["provider"], caller)
        about = None if signal is None or (again and not signal.at_once) else names[signal.scope]
        for name in names.values():
            if name != about:
                self._ended(name, caller)
        if signal is not None and about is not None:
            circuit = self._table.get(about) or self._new(about, caller)
            shut = circuit.open_for(caller)
            circuit.failed(caller, signal, now=now, rules=rules)
            if (whom := circuit.open_for(caller)) is not None and whom != shut:
                health = circuit.shared if whom == ALL_CALLERS else circuit.callers[whom]
                self._report(CircuitStatus(about, whom, health))

    def unhealthy(self) -> list[CircuitStatus]:
        """Every unhealthy circuit, for all callers and for single callers. Thread-safe."""
        found: list[CircuitStatus] = []
        for name, circuit in list(self._table.items()):
            callers = list(circuit.callers.items())
            if circuit.shared.state != "closed" or not callers:
                found.append(CircuitStatus(name, ALL_CALLERS, circuit.shared))
            found += (CircuitStatus(name, caller, health) for caller, health in callers)
        return found

    def keep_only(self, providers: frozenset[str]) -> None:
        """Drop the circuits of all other providers: they were removed or reconfigured."""
        for name in [name for name in self._table if name.provider not in providers]:
            self._drop(name)

    def _of(self, attempt: Attempt) -> list[_Circuit]:
        if not self._table:
            return []
        return [c for name in self._names(attempt) if (c := self._table.get(name)) is not None]

    def _names(self, attempt: Attempt) -> tuple[CircuitName, ...]:
        if not self._table:
            return ()
        return circuits_of(attempt)

    def _reached(self, name: CircuitName, caller: str) -> None:
        """The provider accepted the request, so its address can be reached."""
        if (circuit := self._table.get(name)) is not None:
            self._answered(name, circuit, caller)

    def _ended(self, name: CircuitName, caller: str) -> None:
        if (circuit := self._table.get(name)) is not None:
            circuit.ended_without_signal(caller)
            self._drop_if_well(name, circuit)

    def _answered(self, name: CircuitName, circuit: _Circuit, caller: str) -> None:
        circuit.succeeded(caller)
        self._drop_if_well(name, circuit)

    def _drop_if_well(self, name: CircuitName, circuit: _Circuit) -> None:
        if circuit.is_healthy:
            self._drop(name)

    def _drop(self, name: CircuitName) -> None:
        circuit = self._table.pop(name, None)
        if circuit is not None and (made := self._made.get(circuit.creator)) is not None:
            made.pop(name, None)
            if not made:
                del self._made[circuit.creator]

    def _new(self, name: CircuitName, caller: str) -> _Circuit:
        made = self._made.setdefault(caller, OrderedDict())
        made[name] = None
        circuit = self._table[name] = _Circuit(caller)
        if len(made) > MAX_PER_CALLER:
            self._drop(next(iter(made)))
        elif len(self._table) > MAX_CIRCUITS:
            self._drop(next(iter(self._table)))
        return circuit


def circuits_of(attempt: Attempt) -> tuple[CircuitName, CircuitName, CircuitName]:
    """The names of its circuits, in the order of SCOPES."""
    provider, key = attempt.provider, attempt.key
    return (
        CircuitName(provider),
        CircuitName(provider, key),
        CircuitName(provider, key, attempt.model, attempt.endpoint),
    )

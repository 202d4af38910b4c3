"""The circuit breakers: one for each provider, one for each key, one for each key, model and
endpoint. Each is apart for every caller until a second caller agrees.

The caller of this module passes the time and reports each outcome.

No caller can take a provider from another. A request can make a server fail (a body that crashes
it, a prompt that outlasts the timeout), so what one caller's failures open is open for that caller
alone. A circuit opens for everybody
    - by failures of at least two callers in a row, of which no caller counts for more than half of
      the limit;
    - where two callers at once were requested to wait, or had the key refused, for the shorter of
      the two waits;
    - by failures to connect, which no request can cause: nothing of it was sent.
A response to anybody closes what is open for everybody, and what is open for its own caller.

Model names come from callers, so the table is bounded, and each caller first displaces circuits
that it made itself.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import msgspec

from modelplex.core.errors import ModelplexError
from modelplex.core.request import Attempt
from modelplex.routing.circuit_breaker import (
    HEALTHY,
    BreakerRules,
    CircuitState,
    HealthSignal,
    Scope,
    after_failure,
    health_signal,
    opened,
)
from modelplex.routing.circuit_breaker import PROBE_TIMEOUT as PATIENCE

MAX_PER_CALLER = 256
"""Circuits that one caller may have made: far more than the models and endpoints that an agent asks
for, and some 100 KB.
"""
MAX_CIRCUITS = 8192
"""Circuits of all callers together, a few MB."""
ALL_CALLERS = ""
ANY_KEY = -1
SCOPES: tuple[Scope, ...] = ("provider", "key", "operation")
"""In the order of `_names`."""


class CircuitName(msgspec.Struct, frozen=True, cache_hash=True):
    """What a circuit is of. `key` is ANY_KEY for a provider's own; `model` and `endpoint` are empty
    for a key's.
    """

    provider: str
    key: int = ANY_KEY
    model: str = ""
    endpoint: str = ""


class CircuitStatus(msgspec.Struct, frozen=True):
    """One circuit that is not well, for a report. `caller` is ALL_CALLERS, or whom alone it
    concerns.
    """

    name: CircuitName
    caller: str
    health: CircuitState


class _Circuit:
    """`callers` has those whose own requests failed; `run` counts the failures of each since
    anybody had an answer, or since it was last opened for everybody.
    """

    __slots__ = ("callers", "everybody", "maker", "run")

    def __init__(self, maker: str) -> None:
        self.maker = maker
        self.callers: dict[str, CircuitState] = {}
        self.everybody = HEALTHY
        self.run: dict[str, int] = {}

    def allows(self, caller: str, *, now: float) -> bool:
        """Whether it lets this caller through: at once, or as its one probe. Each caller has a
        probe of its own, so that nobody's slow one keeps others away.
        """
        own = self.callers.get(caller, HEALTHY)
        if own.state == self.everybody.state == "closed":
            return True
        if now < own.until or now < self.everybody.until:
            return False
        return own.probing is None or now - own.probing > PATIENCE

    def open_for(self, caller: str) -> str | None:
        """For whom it is not closed, of everybody and this caller; None where it is closed for
        both.
        """
        if self.everybody.state != "closed":
            return ALL_CALLERS
        own = self.callers.get(caller)
        return caller if own is not None and own.state != "closed" else None

    def attempt_started(self, caller: str, *, now: float) -> None:
        """A request was let through."""
        own = self.callers.get(caller, HEALTHY)
        if own.state == self.everybody.state == "closed" or now < own.until:
            return
        if self.everybody.state == "open" and now >= self.everybody.until:
            self.everybody = msgspec.structs.replace(self.everybody, state="half_open", since=now)
        since = own.since if own.state == "half_open" else now
        self.callers[caller] = msgspec.structs.replace(own, state="half_open", since=since, probing=now)

    def ended_without_signal(self, caller: str) -> None:
        """A request ended without a health signal."""
        own = self.callers.get(caller)
        if own is None or own.probing is None:
            return
        if own.failures:
            self.callers[caller] = msgspec.structs.replace(own, probing=None)
        else:
            del self.callers[caller]

    def succeeded(self, caller: str) -> None:
        self.callers.pop(caller, None)
        self.everybody = HEALTHY
        self.run.clear()

    def failed(self, caller: str, signal: HealthSignal, *, now: float, rules: BreakerRules) -> None:
        if signal.scope == "provider":
            self.callers.pop(caller, None)
            self.everybody = after_failure(self.everybody, signal, now=now, rules=rules)
            return
        last = self.everybody.last_failure
        own = self.callers[caller] = after_failure(
            self.callers.get(caller, HEALTHY), signal, now=now, rules=rules
        )
        if now - last > rules.window:
            self.run.clear()
        self.run[caller] = self.run.get(caller, 0) + 1
        agreed = self._agreed(caller, own, signal, now=now, rules=rules)
        if agreed is not None:
            self.everybody = agreed
            self.run.clear()
        else:
            self.everybody = msgspec.structs.replace(
                self.everybody, failures=sum(self.run.values()), last_failure=now, reason=signal.reason
            )

    def _agreed(
        self, caller: str, own: CircuitState, signal: HealthSignal, *, now: float, rules: BreakerRules
    ) -> CircuitState | None:
        """What it is for everybody from now on, where more than this caller found it broken."""
        if signal.at_once:
            others = [h.until for c, h in self.callers.items() if c != caller and h.at_once and h.until > now]
            if others:
                return msgspec.structs.replace(own, until=min(own.until, *others), probing=None)
        if len(self.run) < 2:
            return None
        most = (rules.failures + 1) // 2
        counted = sum(min(failures, most) for failures in self.run.values())
        if counted >= rules.failures or self.everybody.state == "half_open":
            once = msgspec.structs.replace(signal, wait=None, at_once=False)
            return opened(once, failures=sum(self.run.values()), now=now, rules=rules)
        return None

    @property
    def is_healthy(self) -> bool:
        return not self.callers and self.everybody == HEALTHY


class Circuits:
    """The table. `caller` is whoever a request is counted for (Caller.owner); `now` are seconds of
    one monotonic clock.
    """

    def __init__(self, *, report: Callable[[CircuitStatus], None] = lambda _: None) -> None:
        """`report` is called once for each circuit that opens."""
        self._report = report
        self._table: dict[CircuitName, _Circuit] = {}
        self._made: dict[str, OrderedDict[CircuitName, None]] = {}

    def __repr__(self) -> str:
        return f"<Circuits {len(self._table)} not well>"

    def __len__(self) -> int:
        return len(self._table)

    def may_try(self, attempt: Attempt, caller: str, *, now: float) -> bool:
        return all(circuit.allows(caller, now=now) for circuit in self._of(attempt))

    def _requested_wait(self, attempt: Attempt, caller: str, *, now: float) -> CircuitState | None:
        """The state with the longest wait that the provider requested of this caller, or None. What
        it answered to other callers is not read: it may quote their requests.
        """
        waits = [
            own
            for circuit in self._of(attempt)
            if (own := circuit.callers.get(caller)) is not None and own.is_requested and own.until > now
        ]
        return max(waits, key=lambda own: own.until, default=None)

    def wait_seconds(self, attempt: Attempt, caller: str, *, now: float) -> float | None:
        """Seconds that the provider requested this caller to wait; None where it did not."""
        own = self._requested_wait(attempt, caller, now=now)
        return None if own is None else own.until - now

    def wait_reason(self, attempt: Attempt, caller: str, *, now: float) -> str:
        """What the provider said with that wait; empty where it requested none."""
        own = self._requested_wait(attempt, caller, now=now)
        return "" if own is None else own.reason

    def attempt_started(self, attempt: Attempt, caller: str, *, now: float) -> None:
        """An attempt begins."""
        for circuit in self._of(attempt):
            circuit.attempt_started(caller, now=now)

    def first_output(self, attempt: Attempt, caller: str) -> None:
        """The first output of an answer is there. It closes what is not closed; what is, forgets
        its failures at the answer's end.
        """
        for name in self._names(attempt):
            circuit = self._table.get(name)
            if circuit is None:
                continue
            own = circuit.callers.get(caller, HEALTHY)
            if own.state != "closed" or circuit.everybody.state != "closed":
                self._answered(name, circuit, caller)

    def succeeded(self, attempt: Attempt, caller: str) -> None:
        """A response is complete."""
        for name in self._names(attempt):
            if (circuit := self._table.get(name)) is not None:
                self._answered(name, circuit, caller)

    def ended_without_signal(self, attempt: Attempt, caller: str) -> None:
        """The attempt ended without a health signal: the caller hung up, or was at fault. Its probe
        is over.
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
        """The attempt failed. `again`: an earlier attempt of the same request failed here too; a
        request counts once.
        """
        signal = health_signal(error)
        names = dict(zip(SCOPES, _names(attempt), strict=True))
        if error.upstream_status is not None or (signal is not None and signal.scope != "provider"):
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
                health = circuit.everybody if whom == ALL_CALLERS else circuit.callers[whom]
                self._report(CircuitStatus(about, whom, health))

    def unhealthy(self) -> list[CircuitStatus]:
        """Every circuit that is not well, for everybody and for single callers. Another thread may
        ask.
        """
        found: list[CircuitStatus] = []
        for name, circuit in list(self._table.items()):
            callers = list(circuit.callers.items())
            if circuit.everybody.state != "closed" or not callers:
                found.append(CircuitStatus(name, ALL_CALLERS, circuit.everybody))
            found += (CircuitStatus(name, caller, health) for caller, health in callers)
        return found

    def keep_only(self, providers: frozenset[str]) -> None:
        """Forget all other providers: they are gone, or configured anew."""
        for name in [name for name in self._table if name.provider not in providers]:
            self._drop(name)

    def _of(self, attempt: Attempt) -> list[_Circuit]:
        if not self._table:
            return []
        return [c for name in self._names(attempt) if (c := self._table.get(name)) is not None]

    def _names(self, attempt: Attempt) -> tuple[CircuitName, ...]:
        if not self._table:
            return ()
        return _names(attempt)

    def _reached(self, name: CircuitName, caller: str) -> None:
        """It took the request, so its address can be reached."""
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
        if circuit is not None and (made := self._made.get(circuit.maker)) is not None:
            made.pop(name, None)
            if not made:
                del self._made[circuit.maker]

    def _new(self, name: CircuitName, caller: str) -> _Circuit:
        made = self._made.setdefault(caller, OrderedDict())
        made[name] = None
        circuit = self._table[name] = _Circuit(caller)
        if len(made) > MAX_PER_CALLER:
            self._drop(next(iter(made)))
        elif len(self._table) > MAX_CIRCUITS:
            self._drop(next(iter(self._table)))
        return circuit


def _names(attempt: Attempt) -> tuple[CircuitName, CircuitName, CircuitName]:
    provider, key = attempt.provider, attempt.key
    return (
        CircuitName(provider),
        CircuitName(provider, key),
        CircuitName(provider, key, attempt.model, attempt.endpoint),
    )

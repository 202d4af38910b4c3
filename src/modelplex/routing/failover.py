"""Failover: a generator that yields an Attempt and is sent its Outcome.

Another candidate is better than waiting, and waiting is better than giving up. After a failure the
next candidate is tried at once; after a rejected or rate limited key, the provider's next key. Only
the last candidate is retried, after a jittered backoff that honours Retry-After. An error that is
the caller's fault ends the plan: another provider would answer the same. A candidate with an open
circuit comes after all others, and is tried where there are none.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from math import ceil

import msgspec

from modelplex.core.errors import (
    CircuitOpen,
    ModelplexError,
    Overloaded,
    RateLimited,
    UpstreamAuth,
    UpstreamBroken,
    UpstreamTimeout,
    without_name,
)
from modelplex.core.request import Attempt
from modelplex.routing.circuit_breaker import NO_SUCH_OPERATION

ERROR_PRIORITY = (RateLimited, CircuitOpen, Overloaded, UpstreamAuth, UpstreamTimeout, UpstreamBroken)
"""The order in which one of several errors is chosen for the caller: one that says what to do comes
first.
"""


class FailoverRules(msgspec.Struct, frozen=True):
    """`retries` is how often the last candidate that is left is tried again; times are seconds. A
    Retry-After above `max_retry_after` is not waited for.
    """

    max_attempts: int = 6
    retries: int = 2
    backoff: float = 0.5
    max_backoff: float = 8.0
    max_retry_after: float = 20.0


class Outcome(msgspec.Struct, frozen=True):
    """The error of an Attempt before its first output. `chance` is a number in [0, 1) for the
    jitter.
    """

    error: ModelplexError
    jitter: float = 0.5


class Exhausted(msgspec.Struct, frozen=True):
    """Every attempt failed. `error` is the one for the caller."""

    error: ModelplexError


def plan(
    attempts: Sequence[Attempt],
    *,
    may_try: Callable[[Attempt], bool],
    rules: FailoverRules,
    wait_reason: Callable[[Attempt], str] = lambda _: "",
    wait_seconds: Callable[[Attempt], float | None] = lambda _: None,
) -> Generator[Attempt, Outcome, Exhausted]:
    """Yields each Attempt that is to be made, numbered and with its delay; returns when nothing is
    left to try.

    attempts       one for each candidate and key, in order
    may_try        whether the circuit breaker lets the attempt through now
    wait_seconds   the wait that its provider requested; None where it requested none
    wait_reason    what the provider said with it

    An attempt with an open circuit is skipped while there is another one. Where there is none, it
    is tried all the same, once, so that nobody is worse off than without a breaker. Only a wait
    that the provider requested is honoured: up to `max_retry_after` it is waited for, a longer one
    is reported to the caller.
    """
    waiting = list(attempts)
    failures: list[tuple[Attempt, ModelplexError]] = []
    rested: list[Attempt] = []
    retried = 0
    somebody_failed = False
    while len(failures) < rules.max_attempts:
        resting = not waiting
        if resting:
            soonest = None if somebody_failed else _soonest(rested, wait_seconds)
            if soonest is None or soonest.delay > rules.max_retry_after:
                break
            attempt = soonest
            rested = [a for a in rested if not _is_same(a, attempt)]
        else:
            attempt = waiting.pop(0)
            if not retried and not may_try(attempt):
                rested.append(attempt)
                continue
        outcome = yield msgspec.structs.replace(attempt, number=len(failures) + 1)
        error = outcome.error
        failures.append((attempt, error))
        if not error.another_may_do_better:
            return Exhausted(error)
        if resting:
            rested = [a for a in rested if _still_worth_it(a, attempt, error)]
            continue
        somebody_failed = somebody_failed or error.blame == "provider"
        waiting = [a for a in waiting if _still_worth_it(a, attempt, error)]
        if not any(may_try(a) for a in waiting) and retried < rules.retries:
            delay = _delay(error, retried, outcome.jitter, rules)
            if delay is not None:
                retried += 1
                waiting = [msgspec.structs.replace(attempt, delay=delay)]
    if rested and not any(error.blame == "provider" for _, error in failures):
        return Exhausted(_all_rest(rested, wait_seconds, wait_reason))
    return Exhausted(_summary(failures))


def _is_same(one: Attempt, other: Attempt) -> bool:
    return (one.provider, one.model, one.key) == (other.provider, other.model, other.key)


def _soonest(rested: list[Attempt], wait_seconds: Callable[[Attempt], float | None]) -> Attempt | None:
    """The first that nobody said to wait for, else the one that may be asked soonest, with that
    delay.
    """
    waits = [(wait_seconds(attempt) or 0.0, attempt) for attempt in rested]
    wait, attempt = min(waits, key=lambda each: each[0], default=(0.0, None))
    return attempt and msgspec.structs.replace(attempt, delay=wait)


def _still_worth_it(other: Attempt, failed: Attempt, error: ModelplexError) -> bool:
    """Another key of the same provider helps only where the key was what was wrong."""
    return (
        other.provider != failed.provider
        or other.model != failed.model
        or isinstance(error, UpstreamAuth | RateLimited)
    )


def _delay(error: ModelplexError, retried: int, chance: float, rules: FailoverRules) -> float | None:
    """Seconds until the same is tried again, or None where that is no use: a rejected key, a
    time-out that cost its whole wait already, an answer in a coding that is not read, an endpoint
    that is missing.
    """
    if (
        error.blame != "provider"
        or not error.again_may_do_better
        or error.upstream_status in NO_SUCH_OPERATION
    ):
        return None
    delay = min(rules.max_backoff, rules.backoff * float(2**retried)) * (0.5 + chance / 2)
    if error.retry_after is None:
        return delay
    return max(delay, error.retry_after) if error.retry_after <= rules.max_retry_after else None


def _all_rest(
    rested: list[Attempt],
    wait_seconds: Callable[[Attempt], float | None],
    wait_reason: Callable[[Attempt], str],
) -> CircuitOpen:
    """The error where every provider requested a longer wait than is waited here, with the shortest
    that is left.
    """
    names = "; ".join(dict.fromkeys(f"{a.provider}/{a.model}: {wait_reason(a)}".rstrip(": ") for a in rested))
    left = ceil(min((wait for a in rested if (wait := wait_seconds(a)) is not None), default=0))
    return CircuitOpen(
        f"No provider of this model may be asked yet: each said to wait, the first of them for {left} more seconds. {names}",
        retry_after=float(left),
    )


def _summary(failures: list[tuple[Attempt, ModelplexError]]) -> ModelplexError:
    first = min((e for _, e in failures), key=_rank)
    waits = [e.retry_after for _, e in failures if e.retry_after is not None and e.retry_after > 0]
    if len(failures) == 1:
        return first
    # Retries that failed alike are said once, and a provider's name is not said twice.
    sentences = (f"{a.provider}/{a.model}: {without_name(e.message, a.provider)}" for a, e in failures)
    tried = "; ".join(dict.fromkeys(sentences))
    return type(first)(
        f"Every provider of this model failed. {tried}",
        status=first.status,
        type=first.type,
        code=first.code,
        param=first.param,
        upstream_status=first.upstream_status,
        upstream_type=first.upstream_type,
        upstream_code=first.upstream_code,
        retry_after=min(waits, default=None),
        # Its limits, but for its own wait: the shortest of all stands in for that.
        upstream_headers=tuple(
            (name, value) for name, value in first.upstream_headers if not name.startswith(b"retry-after")
        ),
    )


def _rank(error: ModelplexError) -> int:
    return next((i for i, kind in enumerate(ERROR_PRIORITY) if isinstance(error, kind)), len(ERROR_PRIORITY))

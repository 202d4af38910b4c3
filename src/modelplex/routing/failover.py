"""Failover: a generator that yields an Attempt and is sent its Outcome.

After a failure the next candidate is tried at once; after a rejected or rate limited key, the
provider's next key. Only the last candidate is retried, after a jittered backoff that honours
Retry-After. An error that is the caller's fault ends the plan: another provider would return the
same. Candidates with an open circuit come last, and are tried if there is no other.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from math import ceil
from typing import Literal

import msgspec

from modelplex.core.errors import (
    OVERFLOW,
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
"""Which of several errors the caller gets: those that say what to do come first."""


class FailoverRules(msgspec.Struct, frozen=True):
    """`retries` is how often the last candidate is retried; times are seconds. A Retry-After above
    `max_retry_after` is not waited for. `on_overflow`: after a conversation that is too long for
    one candidate, "next" tries the next one, which may have a larger context window.
    """

    max_attempts: int = 6
    retries: int = 2
    backoff: float = 0.5
    max_backoff: float = 8.0
    max_retry_after: float = 20.0
    on_overflow: Literal["refuse", "next"] = "refuse"


class Outcome(msgspec.Struct, frozen=True):
    """The error of an Attempt before its first output. `jitter` is a random number in [0, 1)."""

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
    is_begun: bool = False,
) -> Generator[Attempt, Outcome, Exhausted]:
    """Yields each Attempt to make, with its number and delay; returns when none is left.

    attempts       one for each candidate and key, in order
    may_try        whether the circuit breaker allows the attempt now
    wait_seconds   the wait that its provider requested; None if it requested none
    wait_reason    the provider's message with it
    is_begun       the first attempt was made already, when no circuit was open

    An attempt with an open circuit is skipped while there is another one. If there is none, it is
    tried once, so that no caller is worse off than without a breaker. Only a wait that the provider
    requested is honoured: up to `max_retry_after` it is waited for, a longer one is reported to the
    caller.
    """
    waiting = list(attempts)
    failures: list[tuple[Attempt, ModelplexError]] = []
    skipped: list[Attempt] = []
    retried = 0
    provider_failed = False
    while len(failures) < rules.max_attempts:
        is_skipped = not waiting
        if is_skipped:
            soonest = None if provider_failed else _soonest(skipped, wait_seconds)
            if soonest is None or soonest.delay > rules.max_retry_after:
                break
            attempt = soonest
            skipped = [a for a in skipped if not _is_same(a, attempt)]
        else:
            attempt = waiting.pop(0)
            if is_begun:
                is_begun = False
            elif not retried and not may_try(attempt):
                skipped.append(attempt)
                continue
        number = len(failures) + 1
        outcome = (
            yield attempt if attempt.number == number else msgspec.structs.replace(attempt, number=number)
        )
        error = outcome.error
        failures.append((attempt, error))
        overflowed = rules.on_overflow == "next" and error.code == OVERFLOW
        if not error.another_may_do_better and not overflowed:
            return Exhausted(error)
        if is_skipped:
            skipped = [a for a in skipped if _may_help(a, attempt, error)]
            continue
        provider_failed = provider_failed or error.blame == "provider"
        waiting = [a for a in waiting if _may_help(a, attempt, error)]
        if not any(may_try(a) for a in waiting) and retried < rules.retries:
            delay = _delay(error, retried, outcome.jitter, rules)
            if delay is not None:
                retried += 1
                waiting = [msgspec.structs.replace(attempt, delay=delay)]
    if (overflow := next((error for _, error in failures if error.code == OVERFLOW), None)) is not None:
        return Exhausted(overflow)  # the caller can shorten the conversation, and only that helps
    if skipped and not any(error.blame == "provider" for _, error in failures):
        return Exhausted(_all_open(skipped, wait_seconds, wait_reason))
    return Exhausted(_summary(failures))


def _is_same(one: Attempt, other: Attempt) -> bool:
    return (one.provider, one.model, one.key) == (other.provider, other.model, other.key)


def _soonest(skipped: list[Attempt], wait_seconds: Callable[[Attempt], float | None]) -> Attempt | None:
    """The attempt with the shortest requested wait, and that delay."""
    waits = [(wait_seconds(attempt) or 0.0, attempt) for attempt in skipped]
    wait, attempt = min(waits, key=lambda each: each[0], default=(0.0, None))
    return attempt and msgspec.structs.replace(attempt, delay=wait)


def _may_help(other: Attempt, failed: Attempt, error: ModelplexError) -> bool:
    """Another key of the same provider helps only if the failure concerned the key."""
    return (
        other.provider != failed.provider
        or other.model != failed.model
        or isinstance(error, UpstreamAuth | RateLimited)
    )


def _delay(error: ModelplexError, retried: int, jitter: float, rules: FailoverRules) -> float | None:
    """Seconds until the retry; None if a retry cannot help: a rejected key, a timeout that already
    cost its whole wait, a response in an unknown content coding, a missing endpoint.
    """
    if (
        error.blame != "provider"
        or not error.again_may_do_better
        or error.upstream.status in NO_SUCH_OPERATION
    ):
        return None
    delay = min(rules.max_backoff, rules.backoff * float(2**retried)) * (0.5 + jitter / 2)
    if error.retry_after is None:
        return delay
    return max(delay, error.retry_after) if error.retry_after <= rules.max_retry_after else None


def _all_open(
    skipped: list[Attempt],
    wait_seconds: Callable[[Attempt], float | None],
    wait_reason: Callable[[Attempt], str],
) -> CircuitOpen:
    """The error if every provider requested a wait above the limit, with the shortest of them."""
    names = "; ".join(
        dict.fromkeys(f"{a.provider}/{a.model}: {wait_reason(a)}".rstrip(": ") for a in skipped)
    )
    left = ceil(min((wait for a in skipped if (wait := wait_seconds(a)) is not None), default=0))
    return CircuitOpen(
        f"No provider of this model accepts requests yet: each requested a wait, the shortest of {left} more seconds. {names}",
        retry_after=float(left),
    )


def _summary(failures: list[tuple[Attempt, ModelplexError]]) -> ModelplexError:
    first = min((e for _, e in failures), key=_rank)
    waits = [e.retry_after for _, e in failures if e.retry_after is not None and e.retry_after > 0]
    if len(failures) == 1:
        return first
    # Equal errors of retries appear once, and so does a provider's name.
    sentences = (f"{a.provider}/{a.model}: {without_name(e.message, a.provider)}" for a, e in failures)
    tried = "; ".join(dict.fromkeys(sentences))
    return type(first)(
        f"Every provider of this model failed. {tried}",
        status=first.status,
        type=first.type,
        code=first.code,
        param=first.param,
        # Its rate limits, except its own wait, which the shortest of all replaces.
        upstream=msgspec.structs.replace(
            first.upstream,
            body=None,
            headers=tuple(
                (name, value) for name, value in first.upstream.headers if not name.startswith(b"retry-after")
            ),
        ),
        retry_after=min(waits, default=None),
    )


def _rank(error: ModelplexError) -> int:
    return next((i for i, kind in enumerate(ERROR_PRIORITY) if isinstance(error, kind)), len(ERROR_PRIORITY))

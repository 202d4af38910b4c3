"""Who is tried next: a generator that yields an Attempt and is sent an Outcome.

Above it stands the gateway, which does what is yielded and tells what happened; it stands on
`aliases` and `health` and knows no clock, no dice and no socket.

The rule: another candidate is better than waiting, and waiting is better than giving up. A failed
candidate makes way for the next at once; a key that was rejected or limited makes way for the
provider's next key; only the last one that is left is tried again, after a jittered backoff that
honours Retry-After. What is the caller's fault ends it: another provider would say the same. One
whose breaker is open makes way for all others, and is asked where there are none.
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

MOST_TELLING = (RateLimited, CircuitOpen, Overloaded, UpstreamAuth, UpstreamTimeout, UpstreamBroken)
"""Which of several errors says most to the caller: one that tells it what to do before one that
only says that it did not work.
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
    """What became of an Attempt before its first output. `chance` is a number in [0, 1) for the
    jitter.
    """

    error: ModelplexError
    chance: float = 0.5


class Exhausted(msgspec.Struct, frozen=True):
    """Nobody answered. `error` is the most telling one, to be given to the caller."""

    error: ModelplexError


def plan(
    attempts: Sequence[Attempt],
    *,
    open_to: Callable[[Attempt], bool],
    rules: FailoverRules,
    why_shut: Callable[[Attempt], str] = lambda _: "",
    told_wait: Callable[[Attempt], float | None] = lambda _: None,
) -> Generator[Attempt, Outcome, Exhausted]:
    """Yields each Attempt that is to be made, numbered and with its delay; returns when nothing is
    left to try.

    `attempts` holds one for each candidate and key, in order. `open_to` says whether the breaker
    lets it through at this moment, `why_shut` what had been wrong where it does not, and
    `told_wait` for how many seconds its provider said that it is to be left alone, None where it
    said nothing.

    A resting candidate is passed over while there is another one to ask. Where there is none, it is
    asked all the same, once, so that nobody is worse off than without a breaker; only what its
    provider said is heeded: a wait up to `max_retry_after` is waited for, a longer one is told to
    the caller.
    """
    waiting = list(attempts)
    failures: list[tuple[Attempt, ModelplexError]] = []
    rested: list[Attempt] = []
    retried = 0
    somebody_failed = False
    while len(failures) < rules.max_attempts:
        resting = not waiting
        if resting:
            soonest = None if somebody_failed else _soonest(rested, told_wait)
            if soonest is None or soonest.delay > rules.max_retry_after:
                break
            attempt = soonest
            rested = [a for a in rested if not _is_same(a, attempt)]
        else:
            attempt = waiting.pop(0)
            if not retried and not open_to(attempt):
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
        if not any(open_to(a) for a in waiting) and retried < rules.retries:
            delay = _delay(error, retried, outcome.chance, rules)
            if delay is not None:
                retried += 1
                waiting = [msgspec.structs.replace(attempt, delay=delay)]
    if rested and not any(error.blame == "provider" for _, error in failures):
        return Exhausted(_all_rest(rested, told_wait, why_shut))
    return Exhausted(_summary(failures))


def _is_same(one: Attempt, other: Attempt) -> bool:
    return (one.provider, one.model, one.key) == (other.provider, other.model, other.key)


def _soonest(rested: list[Attempt], told_wait: Callable[[Attempt], float | None]) -> Attempt | None:
    """The first that nobody said to wait for, else the one that may be asked soonest, with that
    delay.
    """
    waits = [(told_wait(attempt) or 0.0, attempt) for attempt in rested]
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
    told_wait: Callable[[Attempt], float | None],
    why_shut: Callable[[Attempt], str],
) -> CircuitOpen:
    """Every candidate's provider said to leave it alone for longer than is waited here. The caller
    is told the same, and how much of it is left.
    """
    names = "; ".join(dict.fromkeys(f"{a.provider}/{a.model}: {why_shut(a)}".rstrip(": ") for a in rested))
    left = ceil(min((wait for a in rested if (wait := told_wait(a)) is not None), default=0))
    return CircuitOpen(
        f"No provider of this model may be asked yet: each said to wait, the first of them for {left} more seconds. {names}",
        retry_after=float(left),
    )


def _summary(failures: list[tuple[Attempt, ModelplexError]]) -> ModelplexError:
    told = min((e for _, e in failures), key=_rank)
    waits = [e.retry_after for _, e in failures if e.retry_after is not None and e.retry_after > 0]
    if len(failures) == 1:
        return told
    # Retries that failed alike are said once, and a provider's name is not said twice.
    sentences = (f"{a.provider}/{a.model}: {without_name(e.message, a.provider)}" for a, e in failures)
    tried = "; ".join(dict.fromkeys(sentences))
    return type(told)(
        f"Every provider of this model failed. {tried}",
        status=told.status,
        type=told.type,
        code=told.code,
        param=told.param,
        upstream_status=told.upstream_status,
        upstream_type=told.upstream_type,
        upstream_code=told.upstream_code,
        retry_after=min(waits, default=None),
        # Its limits, but for its own wait: the shortest of all stands in for that.
        upstream_headers=tuple(
            (name, value) for name, value in told.upstream_headers if not name.startswith(b"retry-after")
        ),
    )


def _rank(error: ModelplexError) -> int:
    return next((i for i, kind in enumerate(MOST_TELLING) if isinstance(error, kind)), len(MOST_TELLING))

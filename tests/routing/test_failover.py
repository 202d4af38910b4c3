"""The order of attempts."""

from collections.abc import Callable, Sequence

import msgspec
import pytest

from modelplex.core.errors import (
    OVERFLOW,
    BadRequest,
    ModelplexError,
    Overloaded,
    QuotaExceeded,
    RateLimited,
    Unsupported,
    UpstreamAuth,
    UpstreamBroken,
    UpstreamEncoded,
    UpstreamReply,
    UpstreamTimeout,
)
from modelplex.core.request import Attempt
from modelplex.routing.failover import FailoverRules, Outcome, plan

RULES = FailoverRules(max_attempts=6, retries=2, backoff=1.0, max_backoff=8.0, max_retry_after=20.0)


def candidate(provider: str, key: int = 0) -> Attempt:
    return Attempt(provider=provider, model="m", dialect="openai_chat", key=key, account=f"{provider}{key}")


def drive(
    attempts: Sequence[Attempt],
    errors: Callable[[Attempt], ModelplexError],
    *,
    may_try: Callable[[Attempt], bool] = lambda _: True,
    wait_seconds: Callable[[Attempt], float | None] = lambda _: None,
    rules: FailoverRules = RULES,
) -> tuple[list[tuple[str, int, float]], ModelplexError]:
    steps = plan(
        attempts,
        may_try=may_try,
        rules=rules,
        wait_reason=lambda a: f"{a.provider} rests",
        wait_seconds=wait_seconds,
    )
    made: list[tuple[str, int, float]] = []
    try:
        attempt = next(steps)
        while True:
            made.append((attempt.provider, attempt.key, attempt.delay))
            assert attempt.number == len(made)
            attempt = steps.send(Outcome(errors(attempt), jitter=1.0))
    except StopIteration as stop:
        return made, stop.value.error


def test_a_failed_candidate_makes_way_at_once_and_the_last_one_is_tried_again_with_growing_delays() -> None:
    made, _ = drive([candidate("a"), candidate("b")], lambda _: UpstreamBroken("x"))
    assert made == [("a", 0, 0.0), ("b", 0, 0.0), ("b", 0, 1.0), ("b", 0, 2.0)]


def test_what_the_caller_did_wrong_ends_it() -> None:
    made, error = drive([candidate("a"), candidate("b")], lambda _: BadRequest("no"))
    assert (len(made), error.status) == (1, 400)


OVERFLOWED = BadRequest("prompt is too long", code=OVERFLOW)
ON_OVERFLOW = msgspec.structs.replace(RULES, on_overflow="next")


def test_a_conversation_that_is_too_long_is_the_callers_to_shorten() -> None:
    made, error = drive([candidate("a"), candidate("b")], lambda _: OVERFLOWED)
    assert (len(made), error) == (1, OVERFLOWED)


def test_a_larger_model_is_tried_after_an_overflow_where_the_config_says_so() -> None:
    candidates = [candidate("a"), candidate("a", 1), candidate("b")]
    made, error = drive(candidates, lambda _: OVERFLOWED, rules=ON_OVERFLOW)
    assert [m[:2] for m in made] == [("a", 0), ("b", 0)]
    assert error is OVERFLOWED


def test_an_overflow_is_told_where_the_larger_model_fails() -> None:
    """Only a shorter conversation helps."""
    errors: dict[str, ModelplexError] = {"a": OVERFLOWED, "b": RateLimited("slow", retry_after=60)}
    made, error = drive(
        [candidate("a"), candidate("b")], lambda attempt: errors[attempt.provider], rules=ON_OVERFLOW
    )
    assert ([m[0] for m in made], error) == (["a", "b"], OVERFLOWED)


def test_a_used_up_quota_is_not_tried_again() -> None:
    made, _ = drive([candidate("a", 0), candidate("a", 1)], lambda _: QuotaExceeded("used up"))
    assert [m[:2] for m in made] == [("a", 0), ("a", 1)]


def test_what_one_dialect_cannot_say_another_may() -> None:
    made, error = drive([candidate("a"), candidate("b")], lambda _: Unsupported("no words"))
    assert made == [("a", 0, 0.0), ("b", 0, 0.0)]
    assert isinstance(error, Unsupported)


@pytest.mark.parametrize("error", [UpstreamAuth("key"), RateLimited("slow", retry_after=60)])
def test_a_rejected_or_limited_key_makes_way_for_the_next_key(error: ModelplexError) -> None:
    made, _ = drive([candidate("a", 0), candidate("a", 1), candidate("b")], lambda _: error)
    assert [m[:2] for m in made] == [("a", 0), ("a", 1), ("b", 0)]


def test_another_key_does_not_help_a_server_that_is_down() -> None:
    made, _ = drive([candidate("a", 0), candidate("a", 1), candidate("b")], lambda _: UpstreamTimeout("slow"))
    assert [m[:2] for m in made] == [("a", 0), ("b", 0)]


def test_a_retry_waits_as_long_as_it_was_told_to() -> None:
    made, _ = drive([candidate("a")], lambda _: RateLimited("slow", retry_after=5))
    assert [m[2] for m in made] == [0.0, 5.0, 5.0]


def test_a_wait_that_is_too_long_is_not_waited_for() -> None:
    made, error = drive([candidate("a")], lambda _: RateLimited("slow", retry_after=21))
    assert len(made) == 1
    assert error.retry_after == 21


def test_a_time_out_is_not_paid_twice() -> None:
    made, _ = drive([candidate("a")], lambda _: UpstreamTimeout("slow"))
    assert len(made) == 1


@pytest.mark.parametrize(
    "error",
    [
        UpstreamBroken("no such path", upstream=UpstreamReply(status=404)),
        UpstreamAuth("no"),
        UpstreamEncoded("br"),
    ],
)
def test_what_would_be_the_same_again_is_not_asked_again_of_the_same(error: ModelplexError) -> None:
    made, _ = drive([candidate("a"), candidate("b")], lambda _: error)
    assert made == [("a", 0, 0.0), ("b", 0, 0.0)]


def test_an_open_breaker_is_passed_over() -> None:
    made, _ = drive(
        [candidate("a"), candidate("b")], lambda _: UpstreamTimeout("x"), may_try=lambda a: a.provider != "a"
    )
    assert [m[0] for m in made] == ["b"]


def test_when_every_breaker_is_open_each_is_asked_once_since_there_is_nobody_better() -> None:
    made, error = drive(
        [candidate("a"), candidate("b")], lambda _: UpstreamBroken("x"), may_try=lambda _: False
    )
    assert made == [("a", 0, 0.0), ("b", 0, 0.0)]
    assert (error.status, error.code) == (502, "upstream_error")
    assert error.retry_after is None


def test_one_that_rests_is_not_asked_where_another_one_failed() -> None:
    """It may rest since it takes minutes to fail, which would be worse than the other's quick
    answer.
    """
    made, error = drive(
        [candidate("a"), candidate("b")],
        lambda _: RateLimited("slow", retry_after=60),
        may_try=lambda a: a.provider != "a",
    )
    assert made == [("b", 0, 0.0)]
    assert (error.status, error.retry_after) == (429, 60)


def test_one_that_rests_is_asked_where_the_others_have_no_words_for_it() -> None:
    made, _ = drive(
        [candidate("a"), candidate("b")],
        lambda a: Unsupported("no words") if a.provider == "b" else UpstreamBroken("x"),
        may_try=lambda a: a.provider != "a",
    )
    assert made == [("b", 0, 0.0), ("a", 0, 0.0)]


def test_a_wait_that_the_provider_named_is_waited_for_where_there_is_nobody_else() -> None:
    waits = {"a": 9.5, "b": 3.0}
    made, _ = drive(
        [candidate("a"), candidate("b")],
        lambda _: UpstreamBroken("x"),
        may_try=lambda _: False,
        wait_seconds=lambda a: waits[a.provider],
    )
    assert made == [("b", 0, 3.0), ("a", 0, 9.5)]


def test_a_wait_beyond_ours_is_told_with_what_is_left_of_it_and_may_be_repeated() -> None:
    waits = {"a": 100.2, "b": 40.0}
    made, error = drive(
        [candidate("a"), candidate("b")],
        lambda _: BadRequest("?"),
        may_try=lambda _: False,
        wait_seconds=lambda a: waits[a.provider],
    )
    assert made == []
    assert (error.status, error.code, error.retry_after) == (429, "circuit_open", 40)
    assert error.sdk_may_retry
    assert "a/m: a rests; b/m: b rests" in error.message


def test_one_that_nobody_said_to_wait_for_is_asked_before_one_that_is() -> None:
    waits = {"a": 100.0, "b": None}
    made, _ = drive(
        [candidate("a"), candidate("b")],
        lambda _: UpstreamBroken("x"),
        may_try=lambda _: False,
        wait_seconds=lambda a: waits[a.provider],
    )
    assert made == [("b", 0, 0.0)]


def test_no_more_than_max_attempts_are_made() -> None:
    many = [candidate(name) for name in "abcdefgh"]
    made, _ = drive(many, lambda _: UpstreamBroken("x"))
    assert len(made) == 6


def test_the_error_is_the_most_telling_one_with_every_attempt_and_the_shortest_wait() -> None:
    errors: dict[str, ModelplexError] = {
        "a": UpstreamBroken("refused"),
        "b": RateLimited("slow down", retry_after=30, upstream=UpstreamReply(status=429)),
        "c": RateLimited("slow down too", retry_after=25),
    }
    _, error = drive([candidate(n) for n in "abc"], lambda a: errors[a.provider])
    assert isinstance(error, RateLimited)
    assert (error.status, error.retry_after, error.upstream.status) == (429, 25, 429)
    for part in ("a/m: refused", "b/m: slow down", "c/m: slow down too"):
        assert part in error.message


def test_a_single_failure_is_given_as_it_is() -> None:
    told = Overloaded("busy", upstream=UpstreamReply(body=b"{}"))
    _, error = drive([candidate("a")], lambda _: told, rules=FailoverRules(retries=0))
    assert error is told

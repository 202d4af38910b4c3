"""Circuits: their scopes, and which callers they block."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelplex.core.errors import (
    BadRequest,
    ModelplexError,
    Overloaded,
    RateLimited,
    UpstreamAuth,
    UpstreamBroken,
    UpstreamReply,
    UpstreamTimeout,
)
from modelplex.core.request import Attempt, Endpoint
from modelplex.routing.circuit_breaker import PROBE_TIMEOUT, BreakerRules
from modelplex.routing.circuits import ANY_KEY, MAX_CIRCUITS, MAX_PER_CALLER, Circuits

RULES = BreakerRules(failures=5, window=60, cooldown=30)
BROKEN = UpstreamBroken("The provider answered 500.", upstream=UpstreamReply(status=500))
A, B, C = "agent:a", "agent:b", "agent:c"


def attempt(model: str = "m", *, key: int = 0, endpoint: Endpoint = "chat/completions") -> Attempt:
    return Attempt(provider="up", model=model, dialect="openai_chat", key=key, endpoint=endpoint)


def unsent() -> UpstreamBroken:
    error = UpstreamBroken("The provider refused the connection.")
    error.signal = "unsent"
    return error


class Table(Circuits):
    """With a clock that the test sets."""

    now = 1000.0

    def fail(
        self, caller: str, error: ModelplexError = BROKEN, *, times: int = 1, at: Attempt | None = None
    ) -> None:
        for _ in range(times):
            self.attempt_started(at or attempt(), caller, now=self.now)
            self.failed(at or attempt(), caller, error, now=self.now, rules=RULES)

    def lets(self, caller: str, at: Attempt | None = None) -> bool:
        return self.may_try(at or attempt(), caller, now=self.now)


OTHERS = [attempt("n"), attempt(key=1), attempt(endpoint="responses")]


@pytest.mark.parametrize(
    "error", [BROKEN, RateLimited("slow", retry_after=9, upstream=UpstreamReply(status=429))]
)
def test_a_failure_closes_nothing_but_its_model_key_and_endpoint(error: ModelplexError) -> None:
    table = Table()
    table.fail(A, error, times=5)
    assert not table.lets(A)
    assert [table.lets(A, other) for other in OTHERS] == [True, True, True]


@pytest.mark.parametrize(
    "error",
    [
        UpstreamAuth("no", upstream=UpstreamReply(status=401, code="invalid_api_key")),
        UpstreamAuth("no", upstream=UpstreamReply(status=401, type="authentication_error")),
        UpstreamAuth("no", upstream=UpstreamReply(status=401, type="UNAUTHENTICATED")),
        UpstreamAuth("no", upstream=UpstreamReply(status=402)),
        UpstreamAuth("no", upstream=UpstreamReply(status=403, type="billing_error")),
        RateLimited("no", upstream=UpstreamReply(status=429, code="insufficient_quota")),
    ],
)
def test_what_is_said_of_the_account_closes_all_of_the_key_at_once(error: ModelplexError) -> None:
    table = Table()
    table.fail(A, error)
    assert [table.lets(A, other) for other in (attempt(), *OTHERS)] == [False, False, True, False]


@pytest.mark.parametrize(
    "error",
    [
        UpstreamAuth("no", upstream=UpstreamReply(status=401, code="missing_scope")),
        UpstreamAuth("no", upstream=UpstreamReply(status=401)),
    ],
)
def test_a_401_that_does_not_name_the_key_closes_one_operation(error: ModelplexError) -> None:
    table = Table()
    table.fail(A, error)
    assert [table.lets(A, other) for other in (attempt(), *OTHERS)] == [False, True, True, True]


@pytest.mark.parametrize(
    "error",
    [
        BadRequest("no", upstream=UpstreamReply(status=400)),
        UpstreamBroken("no such route", upstream=UpstreamReply(status=404)),
        UpstreamBroken("no such method", upstream=UpstreamReply(status=405)),
        UpstreamBroken("not implemented", upstream=UpstreamReply(status=501)),
        UpstreamAuth("not this model", upstream=UpstreamReply(status=403)),
        UpstreamBroken("The provider's answer is an error.", upstream=UpstreamReply(code="cyber_policy")),
        UpstreamBroken("The provider answered 500: the request exceeds the available context size.", upstream=UpstreamReply(status=500)),
        RateLimited("Request too large for m: Limit 10000, Requested 20000.", retry_after=99, upstream=UpstreamReply(status=429)),
    ],
)  # fmt: skip
def test_what_says_nothing_of_the_provider_counts_for_nothing(error: ModelplexError) -> None:
    table = Table()
    table.fail(A, error, times=20)
    table.fail(B, error, times=20)
    assert len(table) == 0


def test_what_one_callers_requests_break_stays_open_for_others() -> None:
    """A body that makes a server fail, a prompt that outlasts every time-out, a limit, a key that
    is refused for it: all of it is one caller's.
    """
    for error in (
        BROKEN,
        UpstreamTimeout("slow"),
        RateLimited("slow", retry_after=3600, upstream=UpstreamReply(status=429)),
        UpstreamAuth("no", upstream=UpstreamReply(status=401, code="invalid_api_key")),
    ):
        table = Table()
        table.fail(A, error, times=1000)
        assert (table.lets(A), table.lets(B)) == (False, True), error


def test_failures_of_two_callers_in_a_row_open_it_for_everybody() -> None:
    table = Table()
    table.fail(A, times=3)
    table.fail(B, times=1)
    assert table.lets(C)
    table.fail(B, times=1)
    assert not table.lets(C)
    table.now += 31
    assert table.lets(C)


def test_one_callers_many_failures_and_anothers_single_one_do_not() -> None:
    table = Table()
    table.fail(A, times=100)
    table.fail(B, times=1)
    assert table.lets(C)
    table.now += 61  # beyond the window
    table.fail(B, times=1)
    assert table.lets(C)


def test_an_answer_to_anybody_ends_the_run_for_everybody() -> None:
    table = Table()
    table.fail(A, times=100)
    table.fail(B, times=1)
    table.succeeded(attempt(), C)
    table.fail(B, times=1)
    assert (table.lets(A), table.lets(B), table.lets(C)) == (False, True, True)


def test_two_callers_that_were_told_to_wait_tell_all_for_the_shorter_time() -> None:
    table = Table()
    table.fail(A, RateLimited("slow", retry_after=3600, upstream=UpstreamReply(status=429)))
    table.fail(B, RateLimited("slow", retry_after=7, upstream=UpstreamReply(status=429)))
    assert not table.lets(C)
    assert table.wait_seconds(attempt(), C, now=table.now) is None  # nobody told this one
    assert table.wait_seconds(attempt(), A, now=table.now) == 3600
    table.now += 8
    assert (table.lets(A), table.lets(B), table.lets(C)) == (False, True, True)


def test_what_cannot_be_reached_is_closed_for_everybody_with_all_its_keys_and_models() -> None:
    table = Table()
    table.fail(A, unsent(), times=5)
    assert not any(table.lets(B, other) for other in (attempt(), *OTHERS))
    table.now += 31
    table.fail(B, UpstreamBroken("500", upstream=UpstreamReply(status=500)))  # it was reached
    assert all(table.lets(C, other) for other in (attempt(), *OTHERS))


def test_one_request_counts_once_and_a_wait_that_it_is_told_later_counts() -> None:
    table = Table()
    for _ in range(4):
        table.fail(A)
        for _ in range(5):
            table.failed(attempt(), A, BROKEN, now=table.now, rules=RULES, again=True)
    assert table.lets(A)
    table.failed(attempt(), A, RateLimited("slow", retry_after=9), now=table.now, rules=RULES, again=True)
    assert not table.lets(A)


def test_the_first_output_of_a_probe_closes_it_and_its_end_the_count() -> None:
    table = Table()
    table.fail(A, times=5)
    table.now += 31
    assert table.lets(A)
    table.attempt_started(attempt(), A, now=table.now)
    assert not table.lets(A)
    table.first_output(attempt(), A)
    assert table.lets(A)
    assert len(table) == 0
    table.fail(A, times=4)
    table.first_output(attempt(), A)  # a stream that breaks later is a failure in the same row
    table.fail(A)
    assert not table.lets(A)


def test_a_probe_whose_caller_hung_up_or_was_at_fault_frees_its_place() -> None:
    for error in (None, BadRequest("no", upstream=UpstreamReply(status=400))):
        table = Table()
        table.fail(A, times=5)
        table.now += 31
        table.attempt_started(attempt(), A, now=table.now)
        if error is None:
            table.ended_without_signal(attempt(), A)
        else:
            table.failed(attempt(), A, error, now=table.now, rules=RULES)
        assert table.lets(A)
        table.attempt_started(attempt(), A, now=table.now)
        table.failed(attempt(), A, BROKEN, now=table.now, rules=RULES)
        assert not table.lets(A)  # it was half open still


def test_one_probe_at_a_time_until_it_is_given_up() -> None:
    table = Table()
    table.fail(A, times=5)
    table.now += 29
    assert not table.lets(A)
    table.now += 1
    table.attempt_started(attempt(), A, now=table.now)
    (half_open,) = [one.health for one in table.unhealthy() if one.caller == A]
    assert half_open.state == "half_open"
    table.now += PROBE_TIMEOUT
    assert not table.lets(A)
    table.now += 1
    assert table.lets(A)
    table.succeeded(attempt(), A)
    assert table.unhealthy() == []


@given(
    st.lists(st.tuples(st.sampled_from([None, BROKEN, Overloaded("busy")]), st.floats(0, 40)), max_size=40)
)
def test_whatever_happens_it_is_tried_again_at_some_time(
    outcomes: list[tuple[ModelplexError | None, float]],
) -> None:
    table = Table()
    for error, wait in outcomes:
        table.now += wait
        if not table.lets(A):
            continue
        if error is not None:
            table.fail(A, error)
        else:
            table.attempt_started(attempt(), A, now=table.now)
            table.succeeded(attempt(), A)
            assert table.unhealthy() == []
    table.now += RULES.cooldown + PROBE_TIMEOUT + 1
    assert table.lets(A)


def test_nobodys_slow_or_poisoned_probe_keeps_another_caller_away() -> None:
    table = Table()
    table.fail(A, times=3)
    table.fail(B, times=2)
    table.now += 31
    table.attempt_started(attempt(), A, now=table.now)  # and is never heard of again
    assert (table.lets(A), table.lets(C)) == (False, True)
    table.failed(attempt(), A, BROKEN, now=table.now, rules=RULES)
    assert (table.lets(A), table.lets(C)) == (False, True)
    table.attempt_started(attempt(), C, now=table.now)
    table.first_output(attempt(), C)
    assert (table.lets(B), table.lets(C)) == (True, True)


def test_probes_of_two_callers_that_fail_open_it_again() -> None:
    table = Table()
    table.fail(A, times=3)
    table.fail(B, times=2)
    table.now += 31
    table.fail(A)
    table.fail(B)
    assert not table.lets(C)


def test_names_that_callers_make_up_displace_their_makers_own_first() -> None:
    table = Table()
    table.fail(B, times=5)
    for number in range(2 * MAX_PER_CALLER):
        table.fail(A, at=attempt(f"made-up-{number}"))
    assert len(table) == MAX_PER_CALLER + 1
    assert not table.lets(B)
    for number in range(MAX_CIRCUITS + 10):
        table.fail(f"agent:{number}")
        table.fail(f"agent:{number}", at=attempt(f"made-up-{number}"))
    assert len(table) == MAX_CIRCUITS


def test_what_is_not_well_can_be_looked_at() -> None:
    table = Table()
    table.fail(A, Overloaded("busy", retry_after=5, upstream=UpstreamReply(status=503)))
    (one,) = table.unhealthy()
    assert (one.name.provider, one.name.key, one.name.model, one.name.endpoint, one.caller) == (
        "up", 0, "m", "chat/completions", A,
    )  # fmt: skip
    assert (one.health.state, one.health.reason) == ("open", "busy")
    table.fail(A, unsent())
    assert [s.name.key for s in table.unhealthy()] == [0, ANY_KEY]
    table.keep_only(frozenset({"other"}))
    assert table.unhealthy() == []

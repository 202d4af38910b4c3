"""What a body costs grows with its size and with nothing else: twice as many entries of any kind
are at most twice the work, in every reader, writer and policy.

Calls of functions are counted, which is exact. What one call does in C (looking through a list,
copying a tuple) is seen in processor time alone; that grows by four where the work does, and by
sixteen where it is its square.
"""

from __future__ import annotations

import contextlib
import gc
import sys
import time
from collections.abc import Callable, Iterator
from math import inf

import pytest

from modelplex.core.errors import ModelplexError
from modelplex.core.request import Attempt, ChatRequest, Endpoint, RawRequest
from modelplex.dialects.core.estimate import estimated
from modelplex.dialects.raw_request import read_request
from modelplex.dialects.registry import write_request
from modelplex.policy import by_member
from modelplex.policy.judge import judge, judge_whole
from modelplex.policy.verdict import Facts
from tests.dialects.adversarial import FAMILIES
from tests.dialects.sides import all_dialects, client_dialect
from tests.policy.judging import TABLES

FEW = 100
"""Entries whose calls are counted."""
SOME, MANY, MOST = 900, 3_600, 14_400
"""Entries whose processor time is compared."""
MOST_CALLS = 2.2
"""Times as many calls for twice as many entries."""
MOST_TIME = 9.0
"""Times as long for four times as many entries: more than four for the sake of caches, and far from
sixteen.
"""
NOTHING = 0.03
"""Seconds below which a step is not judged by its time."""
TRIES = 10
ENDPOINTS: dict[str, Endpoint] = {
    "openai_chat": "chat/completions",
    "openai_responses": "responses",
    "anthropic_messages": "messages",
    "gemini": "generate_content",
    "ollama": "api/chat",
}
FACTS = Facts(agent="ann", secret=b"s" * 32)
CASES = [(dialect, family) for dialect, families in FAMILIES.items() for family in families]
Step = Callable[[], object]


def asked(dialect: str, body: bytes) -> RawRequest:
    return read_request(body, endpoint=ENDPOINTS[dialect], dialect=dialect, model="m")


def steps(dialect: str, body: bytes) -> Iterator[tuple[str, Step]]:
    """Everything that the gateway may do with a body, by its name."""
    ask = asked(dialect, body)
    yield "read_request", lambda: asked(dialect, body)
    yield f"policy {dialect}", judging(body, dialect)
    yield f"policy {dialect}, of the whole", judging(body, dialect, judge_whole)
    yield "estimated", lambda: estimated(ask, characters=0)
    yield "read_call", lambda: client_dialect(dialect).read_call(ask)
    try:
        call = client_dialect(dialect).read_call(ask)
    except ModelplexError:
        return
    for provider in (name for name, known in all_dialects().items() if known.provider):
        attempt = Attempt(provider="p", model="m", dialect=provider)
        yield f"write_call {provider}", writing(call, attempt)
        try:
            written = write_request(call, attempt).body
        except ModelplexError:
            continue
        yield f"policy of what is written to {provider}", judging(written, provider)


def writing(call: ChatRequest, attempt: Attempt) -> Step:
    return lambda: write_request(call, attempt)


def judging(body: bytes, dialect: str, judge: Callable[..., object] = judge) -> Step:
    return lambda: judge(body, table=TABLES[dialect], facts=FACTS)


@pytest.fixture(autouse=True)
def nothing_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each body is judged as if it were the first."""
    monkeypatch.setattr(by_member, "LONGEST_REMEMBERED", 0)


def ran(step: Step) -> None:
    with contextlib.suppress(ModelplexError):  # a refusal that takes its time is one all the same
        step()


def calls_of(step: Step) -> int:
    count = 0

    def note(_frame: object, event: str, _what: object) -> None:
        nonlocal count
        count += event in {"call", "c_call"}

    gc.disable()  # a collection in between would count too, with what others hang on it
    sys.setprofile(note)
    try:
        ran(step)
    finally:
        sys.setprofile(None)
        gc.enable()
    return count


def seconds_of(step: Step) -> float:
    gc.disable()
    try:
        before = time.thread_time()
        ran(step)
        return time.thread_time() - before
    finally:
        gc.enable()


@pytest.mark.parametrize(("dialect", "family"), CASES)
def test_twice_as_many_entries_are_at_most_twice_the_calls(dialect: str, family: str) -> None:
    make = FAMILIES[dialect][family]
    for n in (1, FEW // 2):
        for _, step in steps(dialect, make(n)):
            ran(step)  # modules and types that are only loaded or made where they are needed
    counts = [
        {name: calls_of(step) for name, step in steps(dialect, make(n))} for n in (FEW // 2, FEW, FEW * 2)
    ]
    for name in counts[2]:
        first, second, third = (count[name] for count in counts)
        # What is done once for the body, whatever its size, is taken out by the differences.
        assert third - second <= MOST_CALLS * max(second - first, FEW // 10), (name, first, second, third)


def growth(short: Step, long: Step) -> float:
    """How many times as long the second takes; 1 where it takes next to nothing."""
    # The least of several: other processes and the allocator only ever add to it.
    least, most = inf, inf
    for _ in range(TRIES):
        most = min(most, seconds_of(long))
        least = min(least, seconds_of(short))
        if most < NOTHING:
            return 1.0
        if most <= MOST_TIME * least:
            break
    return most / least


@pytest.mark.slow
@pytest.mark.parametrize(("dialect", "family"), CASES)
def test_four_times_as_many_entries_are_not_sixteen_times_the_time(dialect: str, family: str) -> None:
    make = FAMILIES[dialect][family]
    small, more = (dict(steps(dialect, make(n))) for n in (SOME, MANY))
    for name, step in more.items():
        if (first := growth(small[name], step)) <= MOST_TIME:
            continue
        # A way for small bodies that ends between the two is a step, and is seen once; the square
        # of the number is seen at every size.
        again = growth(step, dict(steps(dialect, make(MOST)))[name])
        assert again <= MOST_TIME, f"{name} takes {first:.1f} times as long, and {again:.1f} times again"

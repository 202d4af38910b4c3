from __future__ import annotations

import pytest

from modelplex.core.trace_context import MAX_STATE, TraceContext, read_trace_context, traceparent

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01"


def test_a_traceparent_is_read_and_written_again() -> None:
    found = read_trace_context([PARENT], ["rojo=00f067aa0ba902b7, congo=t61rcWkgMzE"])
    assert found == TraceContext(TRACE, SPAN, 1, "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE")
    assert found is not None
    assert found.traceparent == PARENT


@pytest.mark.parametrize(
    "parents",
    [
        [],
        [PARENT, PARENT],
        [""],
        [PARENT.upper()],
        [f"ff-{TRACE}-{SPAN}-01"],
        [f"00-{TRACE}-{SPAN}-01-"],
        [f"00-{TRACE}-{SPAN}-01-more"],
        [f"cc-{TRACE}-{SPAN}-01.more"],
        [f"00-{TRACE}-{SPAN}-1"],
        [f"00-{TRACE}-{SPAN}"],
        [f"00-{TRACE[:-1]}-{SPAN}-01"],
        [f"00-{'0' * 32}-{SPAN}-01"],
        [f"00-{TRACE}-{'0' * 16}-01"],
        [f"0-{TRACE}-{SPAN}-01"],
        [f"00-{TRACE}-{SPAN}-0g"],
        [f"00-{TRACE}-{SPAN}-01\n"],
        ["00_" + PARENT[3:]],
        [f"00-{TRACE}-{SPAN}-\uff101"],
    ],
)
def test_an_invalid_traceparent_is_ignored(parents: list[str]) -> None:
    assert read_trace_context(parents, ["a=1"]) is None


def test_a_later_version_is_read_as_far_as_it_is_known() -> None:
    found = read_trace_context([f"cc-{TRACE}-{SPAN}-ff-what-comes-later"])
    assert found == TraceContext(TRACE, SPAN, 3)
    assert found is not None
    assert found.traceparent == f"00-{TRACE}-{SPAN}-03"  # flags that nobody knows are 0


@pytest.mark.parametrize(
    ("states", "kept"),
    [
        ([], ""),
        (["a=1", "b=2"], "a=1,b=2"),
        ([" a=1 ,, \tb=2"], "a=1,b=2"),
        (["tenant@system=x", "0a=x y"], "tenant@system=x,0a=x y"),
        (["a=1,a=2"], ""),
        (["A=1"], ""),
        (["a"], ""),
        (["a="], ""),
        (["a=1=2"], ""),
        (["a=\u00e9"], ""),
        (["a=1\r\nx: y"], ""),
        ([f"{'k' * 257}=1"], ""),
        ([",".join(f"k{n}=1" for n in range(33))], ""),
        ([f"a={'x' * 256}, b={'y' * 250}, c=1"], f"a={'x' * 256},b={'y' * 250}"),
        (["a=1," + " " * 5000], ""),
    ],
)
def test_a_tracestate_is_kept_where_it_is_valid_and_short(states: list[str], kept: str) -> None:
    found = read_trace_context([PARENT], states)
    assert found is not None
    assert found.state == kept
    assert len(found.state) <= MAX_STATE


def test_what_is_sent_on_says_that_it_is_sampled() -> None:
    assert traceparent(TRACE, SPAN) == PARENT

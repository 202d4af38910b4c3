"""Calls as they end: filters, samples, and a sink that exists while somebody looks."""

from __future__ import annotations

from typing import Any

import pytest

from modelplex.core.events import Usage
from modelplex.dashboard.calls import (
    RECENT,
    ROWS_PER_TICK,
    CallFeed,
    PageFilter,
    filter_of,
    sampled,
)
from modelplex.records.record import AttemptRecord, Record, Times
from modelplex.records.sink import Sink
from modelplex.records.store.rows import CallSummary, summary_of
from modelplex.records.tool_call import ToolRecord


def record(number: int = 1, **more: Any) -> Record:
    facts: dict[str, Any] = {
        "id": f"mpx-{number}",
        "started": 1.0,
        "listener": "unix:/s",
        "client": "",
        "endpoint": "chat",
        "dialect": "openai_chat",
        "requested_model": "fast",
        "model": "gpt-x",
        "provider": "p",
        "agent": "coder",
        "status": 200,
        "usage": Usage(fresh=10, output=5, cache_read=3),
        "cost": 0.25,
        "times": Times(total=2.0, first_output=0.5),
        "attempts": (AttemptRecord("p", "gpt-x", 0, "ok"),),
    }
    return Record(**(facts | more))


def tool(**more: Any) -> ToolRecord:
    facts: dict[str, Any] = {
        "id": "t",
        "started": 1.0,
        "listener": "unix:/s",
        "client": "",
        "agent": "coder",
        "era": "modern",
        "server": "git",
        "tool": "log",
        "method": "tools/call",
    }
    return ToolRecord(**(facts | more))


def test_a_row_has_the_facts_of_a_model_call() -> None:
    row = summary_of(record())
    assert (row.kind, row.agent, row.requested_model, row.model, row.provider) == (
        "model",
        "coder",
        "fast",
        "gpt-x",
        "p",
    )
    assert (row.tokens_in, row.tokens_out, row.cache_read, row.cost, row.is_unpriced) == (
        13,
        5,
        3,
        0.25,
        False,
    )
    assert (row.seconds, row.first_output, row.attempts) == (2.0, 0.5, 1)


def test_tokens_without_a_price_are_unpriced_and_a_call_without_tokens_is_not() -> None:
    assert summary_of(record(cost=None)).is_unpriced
    assert not summary_of(record(cost=None, usage=None)).is_unpriced
    assert not summary_of(record(cost=None, usage=Usage())).is_unpriced


def test_a_row_has_the_facts_of_a_tool_call() -> None:
    row = summary_of(tool(outcome="refused", reason="not_permitted", code=-32601))
    assert (row.kind, row.tool, row.server, row.endpoint) == ("tool", "log", "git", "tools/call")
    assert (row.outcome, row.code) == ("refused", "not_permitted")


@pytest.mark.parametrize(
    ("wanted", "matches"),
    [
        ({}, True),
        ({"agent": "coder", "provider": "p", "kind": "model"}, True),
        ({"agent": "code"}, False),
        ({"model": "GPT"}, True),
        ({"model": "claude"}, False),
        ({"q": "MPX-1"}, True),
        ({"q": "nothing"}, False),
        ({"outcome": "error"}, False),
        ({"only": "failed"}, False),
        ({"only": "unpriced"}, False),
        ({"only": "no such"}, True),
        ({"unknown": "x"}, True),
    ],
)
def test_a_filter_names_what_it_wants(wanted: dict[str, str], matches: bool) -> None:
    assert filter_of(wanted).matches(summary_of(record())) is matches


@pytest.mark.parametrize(
    ("only", "facts"),
    [
        ("failed", {"outcome": "error"}),
        ("unpriced", {"cost": None}),
        ("retried", {"attempts": (AttemptRecord("p", "m", 0, "overloaded"),) * 2}),
    ],
)
def test_unusual_calls_can_be_asked_for(only: str, facts: dict[str, Any]) -> None:
    assert PageFilter(only=only).matches(summary_of(record(**facts)))


class Sinks:
    def __init__(self) -> None:
        self.list: list[Sink] = []
        self.feed = CallFeed(self.list.append, self.list.remove)

    def end(self, count: int, **more: Any) -> None:
        for number in range(count):
            for sink in self.list:
                sink.record(record(number, **more))


def test_the_sink_exists_while_somebody_looks() -> None:
    sinks = Sinks()
    one, two = sinks.feed.subscribe(PageFilter()), sinks.feed.subscribe(PageFilter())
    assert sinks.list == [sinks.feed]
    sinks.end(1)
    assert sinks.feed.find("mpx-0") is not None
    one.close()
    assert sinks.list == [sinks.feed]
    two.close()
    assert sinks.list == []
    assert sinks.feed.find("mpx-0") is None


def test_each_page_gets_what_ended_since_it_asked_last() -> None:
    sinks = Sinks()
    early = sinks.feed.subscribe(PageFilter())
    sinks.end(3)
    late = sinks.feed.subscribe(PageFilter(agent="other"))
    sinks.end(2)
    assert [row.id for row in early.take().rows] == ["mpx-0", "mpx-1", "mpx-2", "mpx-0", "mpx-1"]
    taken = late.take()
    assert (taken.rows, taken.matched, taken.ended) == ([], 0, 2)
    assert early.take().ended == 0


def test_of_many_calls_a_page_gets_a_sample_and_their_number() -> None:
    sinks = Sinks()
    page = sinks.feed.subscribe(PageFilter())
    sinks.end(500)
    taken = page.take()
    assert (len(taken.rows), taken.matched, taken.missed) == (ROWS_PER_TICK, 500, 0)
    sinks.end(RECENT + 7)
    taken = page.take()
    assert (taken.ended, taken.matched, taken.missed) == (RECENT + 7, RECENT, 7)


def test_a_sample_prefers_what_is_unusual_and_keeps_the_order() -> None:
    usual: CallSummary = summary_of(record())
    rows = [summary_of(record(n, outcome="error" if n % 100 == 3 else "ok")) for n in range(400)]
    chosen = sampled(rows, 10)
    assert len(chosen) == 10
    assert {"mpx-3", "mpx-103", "mpx-203", "mpx-303"} <= {row.id for row in chosen}
    assert [rows.index(row) for row in chosen] == sorted(rows.index(row) for row in chosen)
    assert sampled([usual], 10) == [usual]
    failed = [summary_of(record(n, outcome="error")) for n in range(40)]
    assert sampled(failed, 10) == failed[-10:]

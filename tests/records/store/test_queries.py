"""What is read of the store."""

from __future__ import annotations

import pytest

from modelplex.records.admin_act import AdminAct
from modelplex.records.store import queries
from modelplex.records.store.database import Database
from modelplex.records.store.queries import CallFilter
from tests.records.store import stored
from tests.records.store.stored import NOW, body, record, tool_record, write


def test_the_newest_calls_come_first_and_pages_follow_each_other(db: Database) -> None:
    write(db, *(record(number) for number in range(1, 8)), record(8, started=NOW + 7))
    first = queries.recent_calls(db, limit=3)
    assert [call.id for call in first] == ["mpx-0008", "mpx-0007", "mpx-0006"]
    last = first[-1]
    second = queries.recent_calls(db, CallFilter(before=(last.started, last.id)), limit=3)
    assert [call.id for call in second] == ["mpx-0005", "mpx-0004", "mpx-0003"]
    newer = queries.recent_calls(db, CallFilter(after=(last.started, last.id)))
    assert [call.id for call in newer] == ["mpx-0008", "mpx-0007"]


def test_calls_are_selected(db: Database) -> None:
    write(
        db,
        record(1, agent="a", cost=None),
        record(2, provider="q", requested_model="alias", outcome="error"),
        tool_record(3, outcome="refused"),
    )

    def ids(**conditions: object) -> list[str]:
        return [call.id for call in queries.recent_calls(db, CallFilter(**conditions))]  # type: ignore[arg-type]

    assert ids(agent="a") == ["mpx-0001"]
    assert ids(provider="q") == ["mpx-0002"]
    assert ids(model="alias") == ["mpx-0002"]
    assert ids(kind="tool") == ["mpx-t0003"]
    assert ids(tool="git_status", server="git") == ["mpx-t0003"]
    assert ids(outcome="error") == ["mpx-0002"]
    assert ids(unpriced=True) == ["mpx-0001"]
    assert ids(since=NOW + 2, until=NOW + 3) == ["mpx-0002"]
    assert ids(agent="a' OR 1=1 --") == []


def test_one_call_has_its_detail_and_bodies(db: Database) -> None:
    request, response = body("hello " * 300, system="s" * 300), b"answer"
    write(db, record(1, request, response))
    found = queries.one_call(db, "mpx-0001")
    assert found is not None
    assert (found.has_request, found.has_response) == (True, True)
    assert (found.call.tokens_in, found.call.tokens_out, found.call.cost) == (15, 3, 0.25)
    assert [(each.provider, each.status, each.tokens_in) for each in found.detail.attempts] == [
        ("p", 200, 15)
    ]
    assert queries.request_body(db, "mpx-0001") == request
    assert queries.response_body(db, "mpx-0001") == response
    pieces = queries.request_parts(db, "mpx-0001")
    assert b"".join(piece.content for piece in pieces) == request
    assert [piece.kind for piece in pieces] == ["rest", "part", "rest", "message", "rest"]
    assert queries.one_call(db, "mpx-none") is None
    assert queries.request_body(db, "mpx-none") is None
    assert queries.response_body(db, "mpx-none") is None
    assert queries.request_parts(db, "mpx-none") == []


def test_a_run_adds_up_its_calls(db: Database) -> None:
    tags = {"a": {"team": "x", "pr": "12"}}
    write(db, *stored.conversation(3, agent="a"), tool_record(9, agent="a"), using=stored.options(tags=tags))
    (run,) = queries.recent_runs(db)
    assert (run.calls, run.tool_calls, run.tokens_in, run.cost) == (3, 1, 45, 0.75)
    assert (run.kind, run.agent, run.tags) == ("conversation", "a", {"team": "x", "pr": "12"})
    assert (run.started, run.last) == (NOW + 1, NOW + 9)
    assert queries.one_run(db, run.id) == run
    assert queries.one_run(db, "none") is None
    assert queries.recent_runs(db, agent="b") == []
    assert queries.recent_runs(db, since=NOW + 2) == []
    assert [call.relation for call in queries.calls_of_run(db, run.id)] == ["root", "turn", "turn", "tool"]


def test_usage_is_grouped(db: Database) -> None:
    tags = {"a": {"team": "x", "pr": "12"}, "b": {"team": "y"}}
    write(
        db,
        record(1, agent="a"),
        record(2, agent="a", cost=None),
        record(3, agent="b", outcome="error", usage=None, cost=None),
        record(4, status=429, outcome="error", attempts=(), usage=None, cost=None, model="", provider=""),
        tool_record(5, outcome="refused"),
        using=stored.options(tags=tags),
    )

    def rows(*by: str) -> dict[tuple[str, ...], tuple[int, int, float]]:
        return {
            tuple(row.group.values()): (row.calls, row.tokens_in, row.cost)
            for row in queries.usage(db, by=by)
        }

    assert rows() == {(): (5, 30, 0.25)}
    assert rows("agent") == {("a",): (2, 30, 0.25), ("b",): (1, 0, 0.0), ("",): (2, 0, 0.0)}
    assert rows("tag") == {
        ("pr=12",): (2, 30, 0.25),
        ("team=x",): (2, 30, 0.25),
        ("team=y",): (1, 0, 0.0),
        ("",): (2, 0, 0.0),
    }
    assert rows("tag.team", "day")["x", "2026-11-30"] == (2, 30, 0.25)
    (whole,) = queries.usage(db)
    assert (whole.failed, whole.refused, whole.unpriced) == (1, 2, 1)
    assert queries.usage(db, where=CallFilter(agent="none")) == []
    with pytest.raises(ValueError, match="secret"):
        queries.usage(db, by=["secret"])


def test_hosts_are_those_of_the_gateways_that_recorded(db: Database) -> None:
    for host, number in (("one", 1), ("two", 2), ("two", 3)):
        act = AdminAct(id=f"mpx-a{number}", started=stored.NOW + number, act="stop")
        writer = write(db, record(number, agent="a"), using=stored.options(host=host))
        writer.write([act], now=stored.NOW)
    assert {row.group["host"]: row.calls for row in queries.usage(db, by=["host"])} == {"one": 1, "two": 2}
    assert [act.host for act in queries.recent_acts(db)] == ["two", "two", "one"]
    found = queries.one_call(db, "mpx-0002")
    assert found is not None
    assert found.host == "two"
    runs = {host: {run.id for run in queries.recent_runs(db, host=host)} for host in ("", "one", "two", "no")}
    ids = {call.id: call.run for call in queries.recent_calls(db)}
    assert runs == {
        "": set(ids.values()),
        "one": {ids["mpx-0001"]},
        "two": {ids["mpx-0002"], ids["mpx-0003"]},
        "no": set(),
    }


def test_a_run_is_searched(db: Database) -> None:
    write(db, *stored.conversation(3))
    (run,) = queries.recent_runs(db)
    assert list(queries.search(db, run.id, "2 ASKS")) == ["mpx-0002", "mpx-0003"]
    assert list(queries.search(db, run.id, "3 answers")) == ["mpx-0003"]
    assert list(queries.search(db, run.id, "nowhere")) == []

"""Records as rows."""

from __future__ import annotations

from modelplex.core.events import Usage
from modelplex.core.request import Change, StrippedValue
from modelplex.records.store import rows
from modelplex.records.store.rows import CALL_COLUMNS, Bodies, Placement, StoredUsage
from tests.records.store.stored import record, tool_record

PLACE = Placement("run-1")


def named(row: tuple[object, ...]) -> dict[str, object]:
    return dict(zip(CALL_COLUMNS, row, strict=True))


def test_a_row_has_a_value_for_each_column() -> None:
    call = named(rows.row_of(record(1, agent="a"), PLACE, Bodies(messages=3, node=b"n", context=b"c")))
    assert (call["kind"], call["run"], call["agent"], call["messages"]) == ("model", "run-1", "a", 3)
    assert (call["tokens_in"], call["cache_read"], call["tokens_out"], call["reasoning"]) == (15, 5, 3, 1)
    assert (call["day"], call["node"], call["context"]) == ("2026-11-30", b"n", b"c")
    tool = named(rows.row_of(tool_record(1, code=-32602, outcome="error"), PLACE))
    assert (tool["kind"], tool["server"], tool["tool"], tool["code"]) == (
        "tool",
        "git",
        "git_status",
        "-32602",
    )


def test_without_usage_there_are_no_counts() -> None:
    call = named(rows.row_of(record(1, usage=None, cost=None), PLACE))
    assert [call[name] for name in ("tokens_in", "cache_read", "tokens_out", "cost")] == [None] * 4


def test_the_detail_has_what_has_no_column() -> None:
    usage = Usage(fresh=1, web_searches=2, raw=b'{"x":1}')
    given = record(
        1,
        usage=usage,
        changes=(Change("drop", "top_k", "no such parameter"),),
        stripped=(StrippedValue("/tools/0", "web-search"),),
    )
    detail = rows.read_detail(str(named(rows.row_of(given, PLACE))["detail"]))
    assert detail.usage == StoredUsage(web_searches=2)
    assert detail.changes == given.changes
    assert detail.stripped == given.stripped
    assert detail.attempts[0].model == "m-1"


def test_texts_are_such_that_both_databases_take_them() -> None:
    assert rows.clean(None) is None
    assert rows.clean("plain") == "plain"
    assert rows.clean("a\0b") == "a\ufffdb"
    assert rows.clean("\ud800") == "?"
    assert len(rows.clean("ü" * 10_000) or "") == rows.MAX_TEXT


def test_a_detail_with_a_lone_surrogate_is_left_out() -> None:
    given = record(1, stripped=(StrippedValue("/\ud800", "unknown-field"),))
    assert named(rows.row_of(given, PLACE))["detail"] == "{}"
    assert named(rows.row_of(given, PLACE))["stripped"] == 1

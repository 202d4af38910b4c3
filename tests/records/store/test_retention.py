"""What is deleted, and in which steps."""

from __future__ import annotations

import os
from pathlib import Path

from modelplex.records.store import queries, retention
from modelplex.records.store.database import Database
from modelplex.records.store.retention import Retention
from modelplex.records.store.writer import FRESH_S, RecordWriter
from modelplex.records.store_sink import RetentionRules
from tests.records.store import stored
from tests.records.store.stored import NOW, record, write

STEPS = 1_000
"""A bound, far above what the tests need."""


def settle(db: Database, rules: RetentionRules, *, now: float) -> int:
    """Returns the number of steps until nothing is left to do."""
    due = Retention(rules)
    for number in range(STEPS):
        due.step(db, now=now)
        if due.pause(now) > retention.STEP_S:
            return number
    raise AssertionError(due)


def rows(db: Database) -> dict[str, int]:
    tables = ("calls", "bodies", "parts", "nodes", "runs", "run_tags")
    return {table: db.query(f"SELECT count(*) FROM {table}")[0][0] for table in tables}


def test_what_is_too_old_goes_with_everything_that_it_used(tmp_path: Path) -> None:
    db = stored.database(tmp_path)
    write(db, *stored.conversation(10, agent="a"), using=stored.options(tags={"a": {"k": "v"}}))
    rules = RetentionRules(max_age=1_000.0)
    settle(db, rules, now=NOW + 900)
    assert rows(db)["calls"] == 10
    settle(db, rules, now=NOW + 1_011 + FRESH_S)
    assert set(rows(db).values()) == {0}


def test_what_a_later_call_uses_stays(tmp_path: Path) -> None:
    db = stored.database(tmp_path)
    writer = RecordWriter(db, stored.options())
    calls = stored.conversation(4)
    writer.write(calls[:3], now=NOW)
    late = record(9, calls[3].request_body, started=NOW + 5_000)
    writer.write([late], now=NOW + 5_000)
    settle(db, RetentionRules(max_age=1_000.0), now=NOW + 5_500)
    assert [call.id for call in queries.recent_calls(db)] == [late.id]
    assert queries.request_body(db, late.id) == late.request_body
    assert [run.calls for run in queries.recent_runs(db)] == [1]


def test_the_oldest_go_while_the_store_is_too_large(tmp_path: Path) -> None:
    db = stored.database(tmp_path)
    writer = RecordWriter(db, stored.options())
    hour = 3_600.0
    for number in range(100):
        at = NOW + number * hour
        writer.write([record(number, os.urandom(20_000), started=at)], now=at)
    assert db.size() > 2_000_000
    settle(db, RetentionRules(max_age=1e9, max_size=1_000_000), now=NOW + 100 * hour)
    assert db.size() <= 1_000_000
    left = [call.id for call in queries.recent_calls(db)]
    assert 20 < len(left) < 60
    assert left[0] == "mpx-0063"  # the newest stay
    assert all(queries.request_body(db, each) for each in left)


def test_a_step_is_small(tmp_path: Path) -> None:
    db = stored.database(tmp_path)
    write(db, *(record(number) for number in range(1_000)))
    due = Retention(RetentionRules(max_age=1.0))
    due.step(db, now=NOW + 10_000)
    assert rows(db)["calls"] == 1_000 - retention.STEP_ROWS
    assert due.pause(NOW + 10_000) == retention.STEP_S
    assert settle(db, RetentionRules(max_age=1.0), now=NOW + 10_000) < 20
    assert rows(db)["calls"] == 0


def test_without_anything_to_do_it_looks_once_a_minute(tmp_path: Path) -> None:
    db = stored.database(tmp_path)
    due = Retention(RetentionRules())
    due.step(db, now=NOW)
    assert due.pause(NOW) == retention.CHECK_S
    assert due.pause(NOW + 50) == retention.CHECK_S - 50

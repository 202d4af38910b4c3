"""Records that are put off, and those who read them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import msgspec
import pytest

from modelplex.records.record import AttemptRecord, Record
from modelplex.records.store import backlog, queries
from modelplex.records.store.backlog import Backlog, ReadDatabase
from modelplex.records.store.database import Database, Statement, StoreUnavailable, open_database
from modelplex.records.store.writer import RecordWriter
from modelplex.records.store_sink import RunInfo, StoreOptions
from modelplex.records.tool_call import ToolRecord
from tests.records.store import stored
from tests.records.store.stored import NOW

HEADERS = (("accept", "*/*"),)


def _made(db: Database, *, name: str = "a", using: StoreOptions | None = None) -> Backlog:
    return Backlog(db, RecordWriter(db, using or stored.options()), name=name)


def _records() -> list[Record | ToolRecord]:
    sent = AttemptRecord("p", "m", 0, "ok", sent=b'{"other":"%s"}' % (b"o" * 3_000))
    return [
        *stored.conversation(12),
        stored.tool_record(50),
        stored.record(60, b"x" * 3_000, b"y", attempts=(sent,), headers=HEADERS, tokens=b'{"choices":[]}'),
    ]


def _rows(db: Database) -> dict[str, list[str]]:
    """What is in the tables, in an order of its own."""
    return {table: sorted(repr(row) for row in db.query(f"SELECT * FROM {table}")) for table in stored.TABLES}


@pytest.mark.parametrize("content", [True, False])
def test_rows_are_those_that_are_written_at_once(db: Database, tmp_path: Path, *, content: bool) -> None:
    using = stored.options(content=content, tags={"": {"team": "red"}})
    at_once = open_database(tmp_path / "at_once.sqlite")
    stored.write(at_once, *_records(), using=using)
    made = _made(db, using=using)
    records = _records()
    assert made.put_off(records[:5], now=NOW)
    assert made.put_off(records[5:], now=NOW)
    assert (made.calls, db.query("SELECT id FROM calls")) == (14, [])
    made.settle(now=NOW)
    assert made.calls == 9
    made.settle(now=NOW)
    made.settle(now=NOW)  # there is nothing left
    assert made.calls == 0
    assert _rows(db) == _rows(at_once)
    at_once.close()


def test_without_content_no_body_is_put_off(db: Database) -> None:
    made = _made(db, using=stored.options(content=False))
    assert made.put_off(stored.conversation(3, text="words of the user"), now=NOW)
    assert "words of the user" not in stored.contents(db)
    made.settle(now=NOW)
    assert [call.relation for call in queries.calls_of_run(db, "run-0001")] == ["root", "turn", "turn"]


@pytest.mark.parametrize(
    "secret_in",
    [
        stored.record(2, b"x" * 4_000, error="it said sk-secret-0001"),
        stored.record(2, b"x" * 4_000, b"sk-secret-0001"),
        stored.record(2, b"x" * 4_000 + b"sk-secret-0001"),
    ],
)
def test_what_has_a_secret_is_not_put_off(db: Database, secret_in: Record) -> None:
    def mask(text: bytes) -> bytes:
        return text.replace(b"sk-secret-0001", b"********")

    made = _made(db, using=stored.options(mask=mask))
    before = stored.record(1, b"x" * 4_000 + b"sk-sec?")
    assert not made.put_off([before, secret_in], now=NOW)
    assert db.query("SELECT number FROM put_off") == []


def test_what_is_signed_is_not_put_off(db: Database) -> None:
    def sign(message: bytes) -> tuple[bytes, bytes]:
        return b"key", message

    run = RunInfo(id="run-1", started=NOW)
    made = _made(db, using=stored.options(run=run, sign=sign))
    assert not made.put_off(_records(), now=NOW)


def test_a_batch_that_was_written_although_it_failed_is_neither_lost_nor_doubled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    db = stored.database(tmp_path)
    made, write = _made(db), db.write

    def cut(statements: Sequence[Statement], /) -> None:
        write(statements)
        raise StoreUnavailable("the connection was cut")

    with monkeypatch.context() as patch:
        patch.setattr(db, "write", cut)
        with pytest.raises(StoreUnavailable):
            made.put_off([stored.record(1)], now=NOW)
    assert made.put_off([stored.record(1), stored.record(2)], now=NOW)
    made.settle(now=NOW)
    monkeypatch.setattr(backlog, "ANSWER_S", 0.0)
    read = ReadDatabase(db, open_store=partial(stored.database, tmp_path), conversation=lambda _: ())
    assert read.query("SELECT id FROM calls ORDER BY id") == [("mpx-0001",), ("mpx-0002",)]
    assert db.query("SELECT number FROM put_off") == []
    db.close()


def test_a_run_is_named_before_its_calls_are_rows(db: Database) -> None:
    run = RunInfo(id="run-1", started=NOW, command="claude")
    made = _made(db, using=stored.options(runs={"run-1": run}))
    assert made.put_off([stored.record(1, run="run-1")], now=NOW)
    assert db.query("SELECT id, kind, command FROM runs") == [("run-1", "run", "claude")]


def test_a_record_that_the_database_refuses_does_not_hold_up_the_others(db: Database) -> None:
    writer = RecordWriter(db, stored.options())
    made = Backlog(db, writer, name="a")
    assert made.put_off([stored.record(1), stored.record(2, bytes_in=2**63), stored.record(3)], now=NOW)
    made.settle(now=NOW)
    assert writer.refused == 1
    assert [row[0] for row in db.query("SELECT id FROM calls ORDER BY id")] == ["mpx-0001", "mpx-0003"]
    assert db.query("SELECT number FROM put_off") == []


def test_a_blob_that_cannot_be_read_is_counted(db: Database) -> None:
    writer = RecordWriter(db, stored.options())
    made = Backlog(db, writer, name="a")
    assert made.put_off(_records(), now=NOW)
    db.write([("UPDATE put_off SET records = ?", [(b"something",)])])
    made.settle(now=NOW)
    assert (writer.refused, made.calls) == (14, 0)
    assert db.query("SELECT number FROM put_off") == []


def test_a_failure_leaves_what_is_put_off(tmp_path: Path) -> None:
    database = stored.Switched(stored.database(tmp_path))
    made = _made(database)
    assert made.put_off(_records(), now=NOW)
    database.is_down = True
    with pytest.raises(StoreUnavailable):
        made.settle(now=NOW)
    database.is_down = False
    assert made.calls == 14
    made.settle(now=NOW)
    assert len(database.query("SELECT id FROM calls")) == 14


# --- readers ---


def _place(db: Database, request: pytest.FixtureRequest) -> str:
    if db.place.startswith("postgresql"):
        return str(request.getfixturevalue("postgresql_address"))
    return db.place


@pytest.fixture
def reader(db: Database, request: pytest.FixtureRequest) -> Callable[[], ReadDatabase]:
    place = _place(db, request)
    return lambda: ReadDatabase(
        open_database(place, read_only=True),
        open_store=partial(open_database, place),
        conversation=stored.members,
    )


def test_who_reads_waits_for_the_gateway(db: Database, reader: Callable[[], ReadDatabase]) -> None:
    made = _made(db)
    assert made.put_off(_records(), now=NOW)
    assert not made.is_asked()
    seen: list[int] = []
    database = reader()
    thread = threading.Thread(target=lambda: seen.append(len(database.query("SELECT id FROM calls"))))
    thread.start()
    while not made.is_asked():
        assert thread.is_alive()
    made.settle(now=NOW)
    thread.join(20)
    assert seen == [14]
    assert not made.is_asked()
    database.close()


def test_who_reads_makes_the_rows_of_a_gateway_that_has_ended(
    db: Database, reader: Callable[[], ReadDatabase], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backlog, "ANSWER_S", 0.05)
    using = stored.options(tags={"coder": {"team": "red"}}, host="one")
    made = _made(db, using=using)
    records = [msgspec.structs.replace(each, agent="coder") for each in stored.conversation(12)]
    assert made.put_off(records[:6], now=NOW)
    assert made.put_off(records[6:], now=NOW)
    database = reader()
    calls = queries.recent_calls(database)
    assert [call.relation for call in reversed(calls)] == ["root", *["turn"] * 11]
    for record in records:
        assert queries.request_body(database, record.id) == record.request_body
    (row,) = queries.usage(database, by=["tag.team", "host"])
    assert (row.group, row.calls) == ({"tag.team": "red", "host": "one"}, 12)
    # It lives, and was slow: nothing is doubled.
    made.settle(now=NOW)
    made.settle(now=NOW)
    assert len(db.query("SELECT id FROM calls")) == 12
    database.close()


def test_who_may_only_read_sees_what_is_in_rows(db: Database, request: pytest.FixtureRequest) -> None:
    place = _place(db, request)
    stored.write(db, stored.record(1))
    assert _made(db).put_off([stored.record(2)], now=NOW)

    def refuse() -> Database:
        raise StoreUnavailable("it may not be written.")

    reading = ReadDatabase(
        open_database(place, read_only=True), open_store=refuse, conversation=stored.members
    )
    assert [call.id for call in queries.recent_calls(reading)] == ["mpx-0001"]
    reading.close()

"""The sink: a queue and a thread, through failures and ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from modelplex.records import record_queue, store_sink
from modelplex.records.admin_act import AdminAct
from modelplex.records.record import AS_RECEIVED, AttemptRecord, Record
from modelplex.records.store import backlog, queries
from modelplex.records.store.backlog import ReadDatabase
from modelplex.records.store.database import Database, Statement, StoreUnavailable, open_database
from modelplex.records.store.packed import Pack
from modelplex.records.store_sink import StoreSink
from tests.records.store import stored
from tests.records.store.stored import NOW, Switched, record

WAIT_S = 20.0


class Reports:
    """What is reported."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, object]]] = []

    def warning(self, event: str, **fields: object) -> None:
        self.lines.append((event, fields))

    info = warning


@contextmanager
def running(open_store: Callable[[], Database], reports: Reports, **more: Any) -> Generator[StoreSink]:
    made = StoreSink(open_store, stored.options(**more), report=reports, now=lambda: NOW)
    made.start()
    try:
        yield made
    finally:
        made.close()


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_sink, "GATHER_S", 0.01)
    monkeypatch.setattr(store_sink, "RETRY_S", 0.01)


def test_a_record_that_comes_while_a_batch_is_taken_does_not_end_the_sink(tmp_path: Path) -> None:
    made = StoreSink(lambda: stored.database(tmp_path), stored.options(), report=Reports(), now=lambda: NOW)

    class Meanwhile(tuple[Record, int]):
        """The event loop appends between two steps of the thread."""

        __slots__ = ()

        def __iter__(self) -> Iterator[Any]:
            made.record(record(9))
            return super().__iter__()

    made._queue._entries.extend([Meanwhile((record(1), 0)), (record(2), 0)])
    made._queue._records_in = 2
    made._write_batch()
    assert (made.status().written, made.status().waiting) == (2, 1)
    made._write_batch()
    assert made._database is not None
    assert made._database.query("SELECT COUNT(*) FROM calls") == [(3,)]
    made._database.close()


def test_records_are_in_the_database_within_a_batch_and_at_the_end(tmp_path: Path) -> None:
    reports = Reports()
    with running(lambda: stored.database(tmp_path), reports) as made:
        made.record(record(1))
        until(lambda: made.status().written == 1)
        reader = open_database(tmp_path / "records.sqlite", read_only=True)
        assert [call.id for call in queries.recent_calls(reader)] == ["mpx-0001"]
        for number in range(2, 1_200):
            made.record(record(number))
    assert len(reader.query("SELECT id FROM calls")) == 1_199
    assert made.status().place == str(tmp_path / "records.sqlite")
    assert reports.lines == []


def test_a_database_that_fails_is_reported_and_loses_nothing_that_fits(tmp_path: Path) -> None:
    reports = Reports()
    database = Switched(stored.database(tmp_path))
    with running(lambda: database, reports) as made:
        made.record(record(1))
        until(lambda: made.status().written == 1)
        database.is_down = True
        made.record(record(2))
        assert database.refused.acquire(timeout=WAIT_S)
        assert database.refused.acquire(timeout=WAIT_S)  # it tries again
        until(lambda: made.status().failure != "")
        assert reports.lines == [
            ("the record store cannot be written; calls are counted", {"reason": "the disk is full."})
        ]
        database.is_down = False
        until(lambda: made.status().written == 2)
        assert made.status().failure == ""
    assert [event for event, _ in reports.lines][1:] == ["the record store is written"]


def test_a_store_that_cannot_be_opened_is_tried_again(tmp_path: Path) -> None:
    reports = Reports()
    refusals = iter([StoreUnavailable("no server."), StoreUnavailable("no server.")])

    def open_store() -> Database:
        for each in refusals:
            raise each
        return stored.database(tmp_path)

    with running(open_store, reports) as made:
        made.record(record(1))
        until(lambda: made.status().written == 1)
    assert len(reports.lines) == 2


def test_what_does_not_fit_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_sink, "QUEUE_LIMIT", 3)
    monkeypatch.setattr(store_sink, "QUEUED_BODIES_LIMIT", 1_000)
    reports = Reports()
    database = Switched(stored.database(tmp_path))
    database.is_down = True
    with running(lambda: database, reports) as made:
        made.record(record(1, b"x" * 900))
        made.record(record(2, b"x" * 900))
        made.record(record(3))
        made.record(record(4))
        assert (made.status().waiting, made.status().dropped, made.status().without_bodies) == (3, 1, 1)
        assert database.refused.acquire(timeout=WAIT_S)
        database.is_down = False
        until(lambda: made.status().written == 3)
        assert queries.request_body(database, "mpx-0001") == b"x" * 900
        assert queries.request_body(database, "mpx-0002") is None
    assert reports.lines[-1][1] == {"place": database.place, "dropped": 1, "without_bodies": 1}


def test_bodies_that_went_to_providers_count_where_they_are_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_sink, "QUEUED_BODIES_LIMIT", 1_000)
    made = StoreSink(lambda: stored.database(tmp_path), stored.options(), report=Reports())
    body = b"x" * 600
    made.record(record(1, body, attempts=(AttemptRecord("p", "m", 0, "ok", sent=AS_RECEIVED),)))
    assert made.status().without_bodies == 0
    made.record(record(2, b"", attempts=(AttemptRecord("p", "m", 0, "ok", sent=b"y" * 600),)))
    assert made.status().without_bodies == 1
    assert made._queue._entries[1][0].attempts[0].sent is None  # type: ignore[union-attr]


def test_where_bodies_are_not_stored_large_ones_do_not_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_sink, "QUEUED_WITHOUT_CONTENT", 100)
    reports = Reports()
    database = Switched(stored.database(tmp_path))
    database.is_down = True
    with running(lambda: database, reports, content=False) as made:
        made.record(record(1, b"x" * 900))
        assert all(isinstance(each, Record) and each.request_body is None for each, _ in made._queue._entries)
        assert (made.status().waiting, made.status().without_bodies) == (1, 0)
        database.is_down = False


def test_closing_does_not_wait_for_a_database_that_fails(tmp_path: Path) -> None:
    reports = Reports()
    database = Switched(stored.database(tmp_path))
    database.is_down = True
    with running(lambda: database, reports) as made:
        made.record(record(1))
        assert database.refused.acquire(timeout=WAIT_S)
        assert made.close() is False


def test_recording_does_not_wait(tmp_path: Path) -> None:
    """The loop's side neither blocks nor opens anything: the thread has not been started."""
    made = StoreSink(lambda: stored.database(tmp_path), stored.options(), report=Reports())
    for number in range(store_sink.QUEUE_LIMIT + 5):
        made.record(record(number % 100))
    assert made.status().waiting == store_sink.QUEUE_LIMIT
    assert made.status().dropped == 5
    assert list(tmp_path.iterdir()) == []


KILLED = """
import sys
from pathlib import Path
from modelplex.records.store_sink import StoreSink
from modelplex.records.store.database import open_database
from tests.records.store import stored
from tests.records.test_store_sink import Reports

made = StoreSink(lambda: open_database(Path(sys.argv[1])), stored.options(), report=Reports())
made.start()
calls = stored.conversation(400)
print("begins", flush=True)
for call in calls:
    made.record(call)
    if call.id.endswith("f"):
        while made.status().waiting > 20:
            pass
print("all", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("delay", [0.0, 0.02, 0.1, 0.3])
def test_a_killed_process_leaves_whole_records_and_a_restart_doubles_none(
    tmp_path: Path, delay: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whenever the kill comes, what is there is whole: each call has its body."""
    monkeypatch.setattr(backlog, "ANSWER_S", 0.1)
    path = tmp_path / "records.sqlite"
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"begins\n"
        threading.Event().wait(delay)
        os.kill(process.pid, signal.SIGKILL)
        process.wait(WAIT_S)
    db = open_database(path)
    assert db.query("PRAGMA integrity_check") == [("ok",)]
    calls = stored.conversation(400)
    there = {row[0] for row in db.query("SELECT id FROM calls")}
    for call in calls:
        assert queries.request_body(db, call.id) == (call.request_body if call.id in there else None)
    # Who reads makes rows of what was put off.
    reader = ReadDatabase(
        open_database(path, read_only=True),
        open_store=lambda: open_database(path),
        conversation=stored.members,
    )
    read = {call.id for call in queries.recent_calls(reader, limit=1_000)}
    reader.close()
    assert read >= there
    assert len(read) == len(db.query("SELECT id FROM calls"))
    assert db.query("SELECT number FROM put_off") == []
    for call in calls:
        assert queries.request_body(db, call.id) == (call.request_body if call.id in read else None)
    # The same Records again, as after a lost acknowledgement: none is doubled, and all are there.
    stored.write(db, *calls)
    assert db.query("SELECT count(*) FROM calls") == [(400,)]
    for call in calls[::37]:
        assert queries.request_body(db, call.id) == call.request_body


# --- put off ---


def test_many_calls_are_put_off_and_made_rows_of_once_there_are_few(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_sink, "GATHER_S", 0.2)
    database = Watched(stored.database(tmp_path))
    calls = stored.conversation(60)
    with running(lambda: database, Reports()) as made:
        for call in calls:
            made.record(call)
        until(lambda: made.status().written == 60)
        until(lambda: made.status().put_off == 0)
        assert ("put_off", 60) in database.written
        assert database.written[-1] == ("calls", 60)
        assert [call.relation for call in queries.calls_of_run(database, "run-0001")][1:] == ["turn"] * 59
        assert queries.request_body(database, calls[-1].id) == calls[-1].request_body


def test_they_stay_put_off_while_many_come_and_bodies_are_in_a_hurry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch that is written early is followed by few Records, which says nothing of the rate."""
    monkeypatch.setattr(store_sink, "GATHER_S", 0.3)
    monkeypatch.setattr(store_sink, "URGENT_BYTES", 5_000)
    monkeypatch.setattr(store_sink, "BUSY_RATE", 20.0)
    database = Watched(stored.database(tmp_path))
    end = time.monotonic() + 3 * 0.3
    with running(lambda: database, Reports()) as made:
        number = 0
        while time.monotonic() < end or made.status().put_off < 20:
            for _ in range(3):
                number += 1
                made.record(record(number, b"x" * 2_000))
            time.sleep(0.01)
        at_first = next(place for place, (table, _) in enumerate(database.written) if table == "put_off")
        assert {table for table, _ in database.written[at_first:]} == {"put_off"}


def test_the_rate_is_that_of_a_quarter_of_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_sink, "GATHER_S", 0.5)
    rate = store_sink._Rate()
    for at in range(10):
        rate.begin(at / 10, at * 100)
        rate.measure(at / 10, at * 100)
        rate.measure(at / 10 + 0.001, at * 100 + 1)
        assert rate.is_high == (at >= 3)
    rate.restart()
    assert not rate.is_high


def test_few_calls_are_rows_at_once(tmp_path: Path) -> None:
    database = Watched(stored.database(tmp_path))
    with running(lambda: database, Reports()) as made:
        for call in stored.conversation(20):
            made.record(call)
            until(lambda: made.status().waiting == 0)
    assert {table for table, _ in database.written} == {"calls"}


def test_no_more_is_put_off_than_there_is_room_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_sink, "GATHER_S", 0.2)
    monkeypatch.setattr(record_queue, "PUT_OFF_LIMIT", 10)
    monkeypatch.setattr(backlog, "MAX_CALLS", 20)
    database = Watched(stored.database(tmp_path))
    with running(lambda: database, Reports()) as made:
        for call in stored.conversation(60):
            made.record(call)
        until(lambda: made.status().written == 60)
    assert database.written[:4] == [("put_off", 10), ("put_off", 10), ("calls", 10), ("put_off", 10)]
    assert sum(count for table, count in database.written if table == "calls") == 60


def test_the_end_of_a_run_waits_for_its_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_sink, "GATHER_S", 0.2)
    run = store_sink.RunInfo(id="run-1", started=NOW, command="claude")
    database = stored.database(tmp_path)
    with running(lambda: database, Reports(), runs={"run-1": run}) as made:
        for number in range(60):
            made.record(record(number, run="run-1"))
        assert made.end_run("run-1")
        found = queries.one_run(database, "run-1")
        assert found is not None
        assert (found.calls, found.ended, found.command) == (60, NOW, "claude")


# --- packed on the event loop ---


@contextmanager
def busy(folder: Path, **more: Any) -> Generator[tuple[StoreSink, Switched]]:
    """A sink at a high rate, whose batches are written by the test, and its database."""
    database = Switched(stored.database(folder))
    made = StoreSink(lambda: database, stored.options(**more), report=Reports(), now=lambda: NOW)
    made.open()
    made._rate.is_high = True
    yield made, database
    database.close()


def write_all(made: StoreSink) -> None:
    while made._queue:
        made._write_batch()
    made._settle_all()
    assert (made.status().waiting, made._queue.bodies) == (0, 0)


@pytest.mark.parametrize("content", [True, False])
def test_at_a_high_rate_calls_are_encoded_as_they_come(tmp_path: Path, *, content: bool) -> None:
    calls = stored.conversation(30)
    with busy(tmp_path, content=content) as (made, database):
        for call in calls:
            made.record(call)
        assert [type(each) for each, _ in made._queue._entries] == [Pack]
        assert made.status().waiting == 30
        assert made._queue.bodies < sum(len(call.request_body or b"") for call in calls) / 4
        write_all(made)
        assert [call.relation for call in queries.calls_of_run(database, "run-0001")][1:] == ["turn"] * 29
        assert queries.request_body(database, calls[-1].id) == (calls[-1].request_body if content else None)


def test_what_cannot_be_packed_keeps_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_sink, "PACKED_BYTES", 2_000)
    monkeypatch.setattr(record_queue, "PUT_OFF_LIMIT", 2)
    act = AdminAct(id="act-1", started=NOW, act="stop", outcome="ok", by="token")
    given: list[Record | AdminAct] = [
        *(record(number) for number in (1, 2, 3)),
        record(4, error="\ud800"),
        record(5),
        act,
        record(6),
        record(7, b"x" * 2_001),
        record(8),
    ]
    with busy(tmp_path) as (made, database):
        for each in given:
            made.record(each)
        kinds = [
            each.count if isinstance(each, Pack) else getattr(each, "id", "")
            for each, _ in made._queue._entries
        ]
        assert kinds == [2, 1, "mpx-0004", 1, "act-1", 1, "mpx-0007", 1]
        assert made.status().waiting == len(given)
        write_all(made)
        assert made.status().written == len(given)
        order = database.query("SELECT id FROM calls ORDER BY rowid")
        assert [row[0] for row in order] == [each.id for each in given]


def test_a_pack_that_is_written_takes_no_more(tmp_path: Path) -> None:
    with busy(tmp_path) as (made, database):
        made.record(record(1))
        database.is_down = True
        with pytest.raises(StoreUnavailable):
            made._write_batch()
        made.record(record(2))  # while the database is down
        assert [each.count for each, _ in made._queue._entries if isinstance(each, Pack)] == [1, 1]
        database.is_down = False
        write_all(made)
        assert database.query("SELECT id FROM calls ORDER BY id") == [("mpx-0001",), ("mpx-0002",)]


def test_packs_are_of_the_options_of_their_time(tmp_path: Path) -> None:
    with busy(tmp_path) as (made, database):
        made.record(record(1, b"x" * 900))
        made.configure(stored.options(content=False), store_sink.RetentionRules())
        made.record(record(2, b"x" * 900))
        assert len(made._queue._entries) == 2
        write_all(made)
        assert queries.request_body(database, "mpx-0002") is None


def test_a_secret_in_a_pack_is_taken_out(tmp_path: Path) -> None:
    def mask(text: bytes) -> bytes:
        return text.replace(b"sk-secret-0001", b"********")

    with busy(tmp_path, mask=mask) as (made, database):
        made.record(record(1, b"x" * 4_000))
        made.record(record(2, b"x" * 4_000 + b"sk-secret-0001"))
        write_all(made)
        assert queries.request_body(database, "mpx-0002") == b"x" * 4_000 + b"********"
        assert "sk-secret-0001" not in stored.contents(database)


def test_packed_calls_count_for_the_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_sink, "QUEUE_LIMIT", 3)
    monkeypatch.setattr(store_sink, "QUEUED_BODIES_LIMIT", 2_500)
    with busy(tmp_path) as (made, _):
        made.record(record(1, b"1" * 1_500))
        made.record(record(2, b"2" * 1_500))
        made.record(record(3))
        made.record(record(4))
        assert (made.status().waiting, made.status().dropped, made.status().without_bodies) == (3, 1, 1)


def test_a_run_with_a_chain_is_not_packed(tmp_path: Path) -> None:
    def sign(message: bytes) -> tuple[bytes, bytes]:
        return b"key", message

    run = store_sink.RunInfo(id="run-1", started=NOW)
    with busy(tmp_path, run=run, sign=sign) as (made, _):
        made.record(record(1))
        assert isinstance(made._queue._entries[0][0], Record)


def test_a_rate_that_is_high_before_the_store_is_open(tmp_path: Path) -> None:
    made = StoreSink(lambda: stored.database(tmp_path), stored.options(), report=Reports())
    made._rate.is_high = True
    made.record(record(1))
    assert isinstance(made._queue._entries[0][0], Record)


class Watched(Switched):
    """Notes the transactions that have calls, with their number."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.written: list[tuple[str, int]] = []

    def write(self, statements: Iterable[Statement], /) -> None:
        given = list(statements)
        super().write(given)
        for sql, rows in given:
            if sql.startswith("INSERT INTO calls"):
                self.written.append(("calls", len(rows)))
            elif sql.startswith("INSERT INTO put_off"):
                self.written.append(("put_off", sum(row[3] for row in rows)))

"""The sink: a queue and a thread, through failures and ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from modelplex.records import store_sink
from modelplex.records.record import AttemptRecord, Record
from modelplex.records.store import queries
from modelplex.records.store.database import Database, StoreUnavailable, open_database
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
    made.record(record(1, body, attempts=(AttemptRecord("p", "m", 0, "ok", sent=body),)))
    assert made.status().without_bodies == 0
    made.record(record(2, b"", attempts=(AttemptRecord("p", "m", 0, "ok", sent=b"y" * 600),)))
    assert made.status().without_bodies == 1
    assert made._queue[1].attempts[0].sent is None  # type: ignore[union-attr]


def test_where_bodies_are_not_stored_large_ones_do_not_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_sink, "QUEUED_WITHOUT_CONTENT", 100)
    reports = Reports()
    database = Switched(stored.database(tmp_path))
    database.is_down = True
    with running(lambda: database, reports, content=False) as made:
        made.record(record(1, b"x" * 900))
        assert all(isinstance(each, Record) and each.request_body is None for each in made._queue)
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
    tmp_path: Path, delay: float
) -> None:
    """Whenever the kill comes, what is there is whole: each call has its body."""
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
    # The same Records again, as after a lost acknowledgement: none is doubled, and all are there.
    stored.write(db, *calls)
    assert db.query("SELECT count(*) FROM calls") == [(400,)]
    for call in calls[::37]:
        assert queries.request_body(db, call.id) == call.request_body

"""A store in a file."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest

from modelplex.records.store import schema
from modelplex.records.store.backlog import _PUT_OFF
from modelplex.records.store.database import RowRefused, StoreOutdated, StoreUnavailable, open_database
from modelplex.records.store.sqlite import SqliteDatabase
from tests.records.store import stored


def test_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    db = SqliteDatabase(folder / "records.sqlite")
    stored.write(db, *stored.conversation(2))
    modes = {each.name: each.stat().st_mode & 0o777 for each in folder.iterdir()}
    assert len(modes) == 6  # what is put off has a file of its own; both have a log and its index
    assert set(modes.values()) == {0o600}
    assert folder.stat().st_mode & 0o777 == 0o700
    db.close()


def test_a_file_of_a_later_version_is_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "records.sqlite"
    SqliteDatabase(path).close()
    with sqlite3.connect(path) as other:
        other.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
    other.close()
    for read_only in (False, True):
        with pytest.raises(StoreOutdated, match="later version"):
            SqliteDatabase(path, read_only=read_only)


def test_what_is_no_database_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "records.sqlite"
    path.write_text("a text that is longer than the header of a database " * 20)
    with pytest.raises(StoreUnavailable, match="not a database"):
        SqliteDatabase(path)
    with pytest.raises(StoreUnavailable, match="cannot be opened"):
        SqliteDatabase(tmp_path / "none.sqlite", read_only=True)
    (tmp_path / "empty.sqlite").touch()
    with pytest.raises(StoreUnavailable, match="no records yet"):
        SqliteDatabase(tmp_path / "empty.sqlite", read_only=True)
    with pytest.raises(StoreUnavailable, match="cannot be opened"):
        SqliteDatabase(path / "below a file.sqlite")


def test_a_transaction_is_written_whole_or_not(tmp_path: Path) -> None:
    db = stored.database(tmp_path)
    tag = "INSERT INTO run_tags (run, name, value) VALUES (?, ?, ?)"
    with pytest.raises(RowRefused):
        db.write([(tag, [("r", "a", "1")]), (tag, [("r", "b", None)])])
    assert db.query("SELECT * FROM run_tags") == []
    with pytest.raises(StoreUnavailable):
        db.write([(tag, [("r", "a", "1")]), ("INSERT INTO nothing VALUES (?)", [(1,)])])
    assert db.query("SELECT * FROM run_tags") == []
    db.write([(tag, [("r", "a", "1")])])
    assert db.query("SELECT value FROM run_tags") == [("1",)]


def test_a_full_file_is_unavailable_and_later_available(tmp_path: Path) -> None:
    db = stored.database(tmp_path)
    ((pages,),) = db.query("PRAGMA page_count")
    db.query(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(StoreUnavailable, match="full"):
        stored.write(db, stored.record(1, os.urandom(100_000)))
    db.query("PRAGMA max_page_count = 100000")
    stored.write(db, stored.record(1, os.urandom(100_000)))
    assert db.query("SELECT id FROM calls") == [("mpx-0001",)]


def test_a_reader_writes_nothing(tmp_path: Path) -> None:
    stored.database(tmp_path).close()
    reader = open_database(tmp_path / "records.sqlite", read_only=True)
    with pytest.raises(StoreUnavailable):
        stored.write(reader, stored.record())


def test_freed_pages_go_back_to_the_system(tmp_path: Path) -> None:
    db = stored.database(tmp_path)
    stored.write(db, *(stored.record(number, os.urandom(50_000)) for number in range(50)))
    before = db.size()
    db.write([("DELETE FROM bodies WHERE call <> ?", [("",)])])
    assert db.size() < before / 4
    while db.vacuum():
        pass
    db.query("PRAGMA wal_checkpoint(TRUNCATE)")
    assert (tmp_path / "records.sqlite").stat().st_size < before / 4


def test_what_is_put_off_is_in_a_file_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "records.sqlite"
    db = SqliteDatabase(path)
    before = db.size()
    db.write([(_PUT_OFF, [("gateway", 0, stored.NOW, 1, b"x" * 3_000_000)])])
    assert db.size() > before + 3_000_000
    reader = SqliteDatabase(path, read_only=True)
    assert reader.query("SELECT length(records) FROM put_off") == [(3_000_000,)]
    reader.close()
    db.write([("DELETE FROM put_off", [()])])
    while db.vacuum():
        pass
    db.close()
    assert path.stat().st_size < 1_000_000
    assert path.with_name("records.sqlite-put-off").stat().st_size < 300_000


def test_a_store_without_the_file_beside_it_has_nothing_put_off(tmp_path: Path) -> None:
    path = tmp_path / "records.sqlite"
    SqliteDatabase(path).close()
    path.with_name("records.sqlite-put-off").unlink()
    for read_only in (True, False):
        db = SqliteDatabase(path, read_only=read_only)
        assert db.query("SELECT * FROM put_off") == []
        db.close()
    assert path.with_name("records.sqlite-put-off").exists()


def test_a_user_who_may_not_read_what_is_put_off_sees_the_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "records.sqlite"
    db = SqliteDatabase(path)
    stored.write(db, stored.record(1))
    db.write([(_PUT_OFF, [("gateway", 0, stored.NOW, 1, b"x")])])

    # As for another user, where the owner has opened the store's own file alone.
    def may(place: object, _: int) -> bool:
        return not str(place).endswith("-put-off")

    monkeypatch.setattr(os, "access", may)
    reader = SqliteDatabase(path, read_only=True)
    assert reader.query("SELECT count(*) FROM calls") == [(1,)]
    assert reader.query("SELECT * FROM put_off") == []
    reader.close()
    db.close()

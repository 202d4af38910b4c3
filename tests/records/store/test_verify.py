"""A run whose records are as written verifies; any other change is named."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import msgspec
import pytest

from modelplex.records.ed25519 import public_key, sign
from modelplex.records.store.database import open_database
from modelplex.records.store.verify import Verdict, verify_run
from modelplex.records.store.writer import RecordWriter
from modelplex.records.store_sink import RunInfo, StoreOptions
from tests.replay.test_stored_run import record

KEY = b"k" * 32


def signed(message: bytes) -> tuple[bytes, bytes]:
    return public_key(KEY), sign(KEY, message)


def store(folder: Path, *, ended: bool = True) -> Path:
    place = folder / "records.sqlite"
    database = open_database(place)
    options = StoreOptions(
        content=True,
        run=RunInfo(id="run-1", started=1.0),
        conversation=lambda _: ("messages",),
        sign=signed,
    )
    writer = RecordWriter(database, options)
    writer.write([record(1), record(2)], now=1000.0)
    writer.write([msgspec.structs.replace(record(3), tokens=b'{"choices":[]}')], now=1001.0)
    if ended:
        writer.end_run(1002.0)
    database.close()
    return place


def verdict(place: Path) -> Verdict:
    database = open_database(place, read_only=True)
    try:
        return verify_run(database, "run-1")
    finally:
        database.close()


def test_a_run_as_it_was_written_is_whole(tmp_path: Path) -> None:
    found = verdict(store(tmp_path))
    assert found == Verdict(3, [], public_key(KEY))


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ("UPDATE calls SET model = 'other' WHERE id = 'mpx-2'", "record 2 (mpx-2) was edited"),
        ("UPDATE calls SET cost = 1.5 WHERE id = 'mpx-1'", "record 1 (mpx-1) was edited"),
        ("UPDATE calls SET detail = '{}' WHERE id = 'mpx-1'", "record 1 (mpx-1) was edited"),
        ("UPDATE bodies SET response = x'0061' WHERE call = 'mpx-3'", "record 3 (mpx-3) was edited"),
        ("UPDATE bodies SET tokens = NULL WHERE call = 'mpx-3'", "record 3 (mpx-3) was edited"),
        ("UPDATE bodies SET tokens = x'0061' WHERE call = 'mpx-3'", "record 3 (mpx-3) was edited"),
        ("UPDATE bodies SET request = NULL WHERE call = 'mpx-3'", "record 3 (mpx-3) was edited"),
        ("UPDATE parts SET encoding = 0, content = x'61'", "record 1 (mpx-1) was edited: the text of a part"),
        ("DELETE FROM parts", "record 1 (mpx-1) was edited: a part is missing"),
        ("UPDATE nodes SET part = x'61'", "record 1 (mpx-1) was edited: a message was replaced"),
        ("DELETE FROM calls WHERE id = 'mpx-2'", "record 2 (mpx-2) was removed"),
        (
            "DELETE FROM calls WHERE id = 'mpx-3'; DELETE FROM chain WHERE number = 3",
            "record 3 was removed from the end",
        ),
        ("DELETE FROM calls WHERE id = 'mpx-1'; DELETE FROM chain WHERE number = 1", "record 1 was removed"),
        (
            "UPDATE chain SET number = number + 8; UPDATE chain SET number = 11 - number WHERE number < 11; UPDATE chain SET number = 3 WHERE number = 11",
            "the records are not those that were signed, or not in their order",
        ),
        ("UPDATE seals SET number = 2", "the seal is not signed by the key that it names"),
        ("UPDATE seals SET key = x'00'", "the seal is not signed by the key that it names"),
        ("DELETE FROM chain WHERE number = 3", "the record mpx-3 was added"),
        ("DELETE FROM seals", "it has no signed chain"),
    ],
)
def test_a_change_is_named(change: str, fault: str, tmp_path: Path) -> None:
    place = store(tmp_path)
    with sqlite3.connect(place) as connection:
        connection.executescript(change)
    connection.close()
    faults = verdict(place).faults
    assert any(each.startswith(fault) for each in faults), faults


def test_a_record_whose_digest_was_made_anew_is_not_the_signed_one(tmp_path: Path) -> None:
    place = store(tmp_path)
    database = open_database(place)
    database.write([("UPDATE calls SET model = ? WHERE id = ?", [("other", "mpx-2")])])
    from modelplex.records.store.verify import stored_record

    found = stored_record(database, "mpx-2")
    assert found is not None
    database.write([("UPDATE chain SET digest = ? WHERE call = ?", [(found.digest, "mpx-2")])])
    database.close()
    assert verdict(place).faults == ["the records are not those that were signed, or not in their order"]


def test_a_run_that_did_not_end_says_so(tmp_path: Path) -> None:
    (fault,) = verdict(store(tmp_path, ended=False)).faults
    assert fault.startswith("the run was not closed")

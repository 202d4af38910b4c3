"""Which database an address means."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelplex.records.store.database import StoreError, is_postgresql, open_database
from modelplex.records.store.sqlite import SqliteDatabase


def test_an_address_of_postgresql_and_the_path_of_a_file_differ() -> None:
    assert is_postgresql("postgresql://host/records")
    assert is_postgresql("postgres://host")
    assert not is_postgresql("/var/lib/postgresql.sqlite")


def test_a_path_is_opened_as_a_file(tmp_path: Path) -> None:
    database = open_database(tmp_path / "records.sqlite")
    assert isinstance(database, SqliteDatabase)
    assert database.place == str(tmp_path / "records.sqlite")
    database.close()


def test_an_error_is_a_sentence() -> None:
    with pytest.raises(StoreError) as found:
        open_database("postgresql://user:secret@[broken")
    assert "secret" not in found.value.sentence
    assert found.value.sentence.endswith(".")

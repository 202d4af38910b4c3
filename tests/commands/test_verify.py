"""`modelplex verify` prints what holds, or names what does not."""

from __future__ import annotations

import argparse
import sqlite3
from pathlib import Path

import pytest

from modelplex.commands.verify import verify
from modelplex.records.ed25519 import public_key
from modelplex.records.store.database import open_database
from tests.records.store.test_verify import KEY, store


def run(place: Path, id: str = "run-1") -> int:
    database = open_database(place, read_only=True)
    try:
        return verify(argparse.Namespace(run=id), database)
    finally:
        database.close()


def test_a_whole_run_names_its_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(store(tmp_path)) == 0
    assert (
        capsys.readouterr().out
        == f"run-1: 3 records, all as written; signed by ed25519:{public_key(KEY).hex()}\n"
    )


def test_an_edited_record_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = store(tmp_path)
    with sqlite3.connect(place) as connection:
        connection.execute("UPDATE calls SET model = 'other' WHERE id = 'mpx-2'")
    connection.close()
    assert run(place) == 1
    assert capsys.readouterr().out == "run-1: record 2 (mpx-2) was edited\n"


def test_a_run_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(store(tmp_path), "run-2") == 1
    assert "there is no run run-2" in capsys.readouterr().err

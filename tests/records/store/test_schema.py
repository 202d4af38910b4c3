"""The tables, as the statements of both databases."""

from __future__ import annotations

import json
import sqlite3
from base64 import b64decode
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from modelplex.records.store import backlog, queries, schema
from modelplex.records.store.database import StoreUnavailable, open_database
from modelplex.records.store.sqlite import BESIDE
from modelplex.records.store.verify import verify_run
from modelplex.records.store.writer import RecordWriter
from modelplex.records.store_sink import StoreOptions
from modelplex.server.record_store import open_to_read
from tests.records.store import stored


def test_the_newest_database_needs_nothing() -> None:
    assert schema.statements_after(schema.VERSION, schema.SQLITE) == []
    assert schema.statements_after(0, schema.SQLITE)


def test_every_type_is_replaced() -> None:
    for types in (schema.SQLITE, schema.POSTGRESQL):
        text = "\n".join(schema.statements_after(0, types))
        assert "{" not in text
    assert "BYTEA" in "\n".join(schema.statements_after(0, schema.POSTGRESQL))


# --- a store of an earlier version ---

OLD = 6
ROWS: dict[str, list[dict[str, Any]]] = json.loads(Path(__file__).with_name("version_6.json").read_text())
"""What version 6 wrote: a signed run with a call, a tool call and an act, and a call that another
gateway put off.
"""


def _values(row: dict[str, Any]) -> list[object]:
    return [
        each if isinstance(each, str | int | float | None) else b64decode(each["base64"])
        for each in row.values()
    ]


def _old_statements(types: Mapping[str, str], *, beside: str) -> list[tuple[str, list[object]]]:
    tables = [sql.format_map(types) for each in schema.MIGRATIONS[:OLD] for sql in each]
    tables.append(schema.PUT_OFF.format(**types, file=beside))
    found: list[tuple[str, list[object]]] = [(sql, []) for sql in tables]
    for table, rows in ROWS.items():
        for row in rows:
            columns, marks = ", ".join(row), ", ".join("?" * len(row))
            found.append((f"INSERT INTO {table} ({columns}) VALUES ({marks})", _values(row)))
    return found


def _old_sqlite(path: Path) -> str:
    with closing(sqlite3.connect(path)) as made:
        made.execute("ATTACH ? AS beside", (f"{path}{BESIDE}",))
        for sql, values in _old_statements(schema.SQLITE, beside="beside."):
            made.execute(sql, values)
        made.execute(f"PRAGMA user_version = {OLD}")
        made.commit()
    return str(path)


def _old_postgresql(address: str) -> str:
    with psycopg.connect(address) as made:
        for sql, values in _old_statements(schema.POSTGRESQL, beside=""):
            made.execute(sql.replace("?", "%s").encode(), values)
        made.execute("CREATE TABLE modelplex_store (version BIGINT NOT NULL)")
        made.execute(b"INSERT INTO modelplex_store VALUES (%d)" % OLD)
    return address


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_store_of_version_6_is_migrated_and_its_chain_holds(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backlog, "ANSWER_S", 0.05)
    place = (
        _old_sqlite(tmp_path / "records.sqlite")
        if kind == "sqlite"
        else _old_postgresql(request.getfixturevalue("postgresql_address"))
    )
    with pytest.raises(StoreUnavailable, match="earlier version"):
        open_database(place, read_only=True)
    with closing(open_database(place)) as db:
        assert verify_run(db, "run-1").faults == []
        assert [act.host for act in queries.recent_acts(db)] == [""]
        options = StoreOptions(content=True, conversation=stored.members, host="new-host")
        RecordWriter(db, options).write([stored.record(9, agent="new")], now=stored.NOW)
        # A row without a host cannot be given one afterwards.
        db.write([("UPDATE calls SET host = ? WHERE id = ?", [("x", "mpx-0001")])])
        assert verify_run(db, "run-1").faults == ["record 1 (mpx-0001) was edited"]
    with closing(open_to_read(place)) as db:
        rows = {(row.group["host"], row.group["agent"]) for row in queries.usage(db, by=["host", "agent"])}
        assert rows == {("x", "coder"), ("", "coder"), ("", "late"), ("new-host", "new")}

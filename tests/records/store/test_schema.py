"""The tables, as the statements of both databases."""

from __future__ import annotations

from modelplex.records.store import schema


def test_the_newest_database_needs_nothing() -> None:
    assert schema.statements_after(schema.VERSION, schema.SQLITE) == []
    assert schema.statements_after(0, schema.SQLITE)


def test_every_type_is_replaced() -> None:
    for types in (schema.SQLITE, schema.POSTGRESQL):
        text = "\n".join(schema.statements_after(0, types))
        assert "{" not in text
    assert "BYTEA" in "\n".join(schema.statements_after(0, schema.POSTGRESQL))

"""A store in a real PostgreSQL."""

from __future__ import annotations

import psycopg
import pytest

from modelplex.records.store import queries, schema
from modelplex.records.store.database import RowRefused, StoreError, StoreOutdated, StoreUnavailable
from modelplex.records.store.postgresql import PostgresqlDatabase
from modelplex.records.store.writer import RecordWriter
from tests.records.store import stored
from tests.records.store.stored import NOW


def test_the_tables_are_made_once(postgresql_address: str) -> None:
    with pytest.raises(StoreUnavailable, match="no records yet"):
        PostgresqlDatabase(postgresql_address, read_only=True)
    first = PostgresqlDatabase(postgresql_address)
    second = PostgresqlDatabase(postgresql_address)
    assert first.query("SELECT version FROM modelplex_store") == [(schema.VERSION,)]
    stored.write(second, stored.record())
    assert [call.id for call in queries.recent_calls(first)] == ["mpx-0001"]
    first.close()
    second.close()


def test_a_database_of_a_later_version_is_not_opened(postgresql_address: str) -> None:
    PostgresqlDatabase(postgresql_address).close()
    with psycopg.connect(postgresql_address) as connection:
        connection.execute(f"UPDATE modelplex_store SET version = {schema.VERSION + 1}".encode())
    with pytest.raises(StoreOutdated, match="later version"):
        PostgresqlDatabase(postgresql_address)


def test_an_address_without_a_server_is_unavailable_and_hides_the_password() -> None:
    with pytest.raises(StoreUnavailable) as found:
        PostgresqlDatabase("postgresql://user:hunter22@127.0.0.1:1/records?sslmode=disable")
    assert found.value.sentence == "postgresql://127.0.0.1:1/records cannot be reached."
    with pytest.raises(StoreError, match="no address"):
        PostgresqlDatabase("postgresql://host/db?nonsense=hunter22")


def test_a_lost_connection_is_opened_again(postgresql_address: str, postgresql_server: str) -> None:
    db = PostgresqlDatabase(postgresql_address)
    with psycopg.connect(postgresql_server, autocommit=True) as other:
        other.execute(
            b"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname LIKE 'records%' AND pid <> pg_backend_pid()"
        )
    with pytest.raises(StoreUnavailable):
        stored.write(db, stored.record())
    stored.write(db, stored.record())
    assert db.query("SELECT id FROM calls") == [("mpx-0001",)]
    db.close()


def test_a_transaction_is_written_whole_or_not(postgresql_address: str) -> None:
    db = PostgresqlDatabase(postgresql_address)
    tag = "INSERT INTO run_tags (run, name, value) VALUES (?, ?, ?)"
    with pytest.raises(RowRefused):
        db.write([(tag, [("r", "a", "1")]), (tag, [("r", "b", None)])])
    with pytest.raises(RowRefused):
        db.write([(tag, [("r", "a", "a NUL \0")])])
    assert db.query("SELECT * FROM run_tags") == []
    db.close()


def test_two_gateways_write_one_conversation(postgresql_address: str) -> None:
    """Each has its own memory; what the other wrote is looked up."""
    one, other = PostgresqlDatabase(postgresql_address), PostgresqlDatabase(postgresql_address)
    writers = [RecordWriter(each, stored.options()) for each in (one, other)]
    calls = stored.conversation(6)
    for number, call in enumerate(calls):
        writers[number % 2].write([call], now=NOW)
    (run,) = queries.recent_runs(one)
    assert [call.relation for call in queries.calls_of_run(one, run.id)] == ["root", *["turn"] * 5]
    for call in calls:
        assert queries.request_body(other, call.id) == call.request_body
    one.close()
    other.close()

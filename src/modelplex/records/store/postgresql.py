"""The store in PostgreSQL 15 or newer, which several gateways may write.

Needs the extra `modelplex[postgresql]`. The connection is opened again after it was lost.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

from modelplex.records.store.database import (
    Row,
    RowRefused,
    Statement,
    StoreError,
    StoreOutdated,
    StoreUnavailable,
)
from modelplex.records.store.schema import POSTGRESQL, PUT_OFF, VERSION, statements_after

try:
    import psycopg
except ImportError as _error:
    raise StoreError(
        "a store in PostgreSQL needs the extra modelplex[postgresql]: pip install 'modelplex[postgresql]'."
    ) from _error

CONNECT_S: Final = 5
"""Seconds to wait for a connection."""
STATEMENT_MS: Final = 30_000
"""Milliseconds of a statement: above what any takes, and below what a stopped server would."""
MIGRATION_LOCK: Final = 0x6D706C78
"""Number of the advisory lock that one gateway holds while it creates or migrates the tables."""
OLDEST: Final = 150_000
"""The oldest version of the server that is supported."""


class PostgresqlDatabase:
    """A connection to the database at `address`."""

    def __init__(self, address: str, *, read_only: bool = False) -> None:
        """Raises StoreUnavailable, StoreOutdated, and StoreError where the address is invalid."""
        self._address = address
        self._read_only = read_only
        self._connection: psycopg.Connection[Row] | None = None
        self._connected()

    def __repr__(self) -> str:
        return f"<PostgresqlDatabase {self.place}>"

    @property
    def place(self) -> str:
        """The address without user, password and parameters."""
        found = re.match(r"(\w+://)(?:[^@/]*@)?([^?]*)", self._address)
        return f"{found[1]}{found[2]}" if found else "postgresql"

    def _connected(self) -> psycopg.Connection[Row]:
        if self._connection is not None and not self._connection.closed:
            return self._connection
        try:
            connection = psycopg.connect(
                self._address,
                autocommit=True,
                connect_timeout=CONNECT_S,
                options=f"-c statement_timeout={STATEMENT_MS}",
            )
        except psycopg.ProgrammingError:
            # The text would quote the address.
            raise StoreError("the address of the record store is no address of PostgreSQL.") from None
        except psycopg.Error:
            raise StoreUnavailable(f"{self.place} cannot be reached.") from None
        try:
            self._prepare(connection)
        except psycopg.Error as error:
            connection.close()
            raise StoreUnavailable(f"{self.place} cannot be used: {_reason(error)}.") from None
        except StoreError:
            connection.close()
            raise
        self._connection = connection
        return connection

    def _prepare(self, connection: psycopg.Connection[Row]) -> None:
        if connection.info.server_version < OLDEST:
            raise StoreError(f"{self.place} is older than PostgreSQL 15.")
        if self._read_only:
            connection.read_only = True
            if _version(connection) < VERSION:
                raise StoreUnavailable(f"{self.place} has no records yet, or those of an earlier version.")
            return
        with connection.transaction():
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (MIGRATION_LOCK,))
            version = _version(connection)
            if version > VERSION:
                raise StoreOutdated(f"{self.place} was written by a later version of Modelplex.")
            if version == VERSION:
                return
            for sql in (*statements_after(version, POSTGRESQL), PUT_OFF.format(**POSTGRESQL, file="")):
                connection.execute(sql.encode())
            if version == 0:
                connection.execute("CREATE TABLE modelplex_store (version BIGINT NOT NULL)")
                connection.execute("INSERT INTO modelplex_store VALUES (0)")
            connection.execute("UPDATE modelplex_store SET version = %s", (VERSION,))

    def query(self, sql: str, values: Sequence[Any] = (), /) -> list[Row]:
        connection = self._connected()
        try:
            return connection.execute(_marked(sql), values).fetchall()
        except psycopg.Error as error:
            raise StoreUnavailable(f"{self.place} cannot be read: {_reason(error)}.") from None

    def write(self, statements: Iterable[Statement], /) -> None:
        connection = self._connected()
        try:
            with connection.transaction(), connection.cursor() as cursor:
                for sql, rows in statements:
                    cursor.executemany(_marked(sql), rows)
        except (psycopg.DataError, psycopg.IntegrityError, psycopg.ProgrammingError, UnicodeError) as error:
            raise RowRefused(f"{self.place} refuses a row: {_reason(error)}.") from None
        except psycopg.Error as error:
            raise StoreUnavailable(f"{self.place} cannot be written: {_reason(error)}.") from None

    def size(self) -> int:
        """Of the rows: files keep the space of deleted rows, and use it again."""
        return sum(int(rows[0][0] or 0) for rows in map(self.query, _SIZES))

    def vacuum(self) -> bool:
        """PostgreSQL does so itself."""
        return False

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()


_SIZES: Final = (
    "SELECT sum(pg_column_size(detail) + 500) FROM calls",
    (
        "SELECT sum(coalesce(pg_column_size(request), 0) + coalesce(pg_column_size(response), 0) "
        "+ coalesce(pg_column_size(tokens), 0) + 120) FROM bodies"
    ),
    "SELECT sum(pg_column_size(body) + 120) FROM sent",
    "SELECT sum(pg_column_size(content) + 120) FROM parts",
    "SELECT sum(pg_column_size(records) + 120) FROM put_off",
    "SELECT count(*) * 150 FROM nodes",
)
"""Bytes of each large table, with its indexes: estimates, without reading the contents."""


def _marked(sql: str) -> bytes:
    """The statement with psycopg's mark for a value. Statements of the store have no other `?` and
    no `%`.
    """
    return sql.replace("?", "%s").encode()


def _version(connection: psycopg.Connection[Row]) -> int:
    (found,) = connection.execute("SELECT to_regclass('modelplex_store')").fetchone() or (None,)
    if found is None:
        return 0
    (version,) = connection.execute("SELECT version FROM modelplex_store").fetchone() or (0,)
    return int(version)


def _reason(error: Exception) -> str:
    """One line. A later one may quote values."""
    return str(error).strip().partition("\n")[0] or type(error).__name__

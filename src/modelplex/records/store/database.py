"""The two databases behind one protocol. Statements are written for both, with `?` for a value."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

Row = tuple[Any, ...]
Statement = tuple[str, Sequence[Row]]
"""One statement, and the rows of values that it is executed with."""

POSTGRESQL = ("postgresql://", "postgres://")
"""What the address of a PostgreSQL database begins with. Anything else is the path of a file."""


class StoreError(Exception):
    """The store cannot be used. The text is a sentence for whoever starts the gateway."""

    @property
    def sentence(self) -> str:
        return str(self)


class StoreUnavailable(StoreError):
    """A statement failed for a reason outside of it: a full disk, a lock, a lost connection. It may
    succeed later.
    """


class StoreFull(StoreUnavailable):
    """There is no space on the disk."""


class StoreOutdated(StoreError):
    """A later version of Modelplex wrote the store."""


class RowRefused(StoreError):
    """The database refuses a value, now and later."""


class Database(Protocol):
    """One connection, used by one thread at a time. All methods block and raise StoreUnavailable;
    `write` also RowRefused.
    """

    @property
    def place(self) -> str:
        """Where it is, without a password."""
        ...

    def query(self, sql: str, values: Sequence[Any] = (), /) -> list[Row]: ...

    def write(self, statements: Iterable[Statement], /) -> None:
        """Execute all in one transaction, or none."""
        ...

    def size(self) -> int:
        """Bytes that the stored rows take, without free pages."""
        ...

    def vacuum(self) -> bool:
        """Return some of the free pages to the system. False if there is nothing to return."""
        ...

    def close(self) -> None: ...


def is_postgresql(place: str) -> bool:
    return place.startswith(POSTGRESQL)


def open_database(place: str | Path, *, read_only: bool = False) -> Database:
    """Open a file or an address of PostgreSQL; create the tables or migrate them, unless read-only.
    Raises StoreUnavailable, StoreOutdated and StoreError.
    """
    if is_postgresql(str(place)):
        from modelplex.records.store.postgresql import PostgresqlDatabase

        return PostgresqlDatabase(str(place), read_only=read_only)
    from modelplex.records.store.sqlite import SqliteDatabase

    return SqliteDatabase(Path(place), read_only=read_only)

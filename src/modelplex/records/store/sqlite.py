"""The store in a SQLite file."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from modelplex.config.state_folder import make_state_folder
from modelplex.records.store.database import (
    Row,
    RowRefused,
    Statement,
    StoreFull,
    StoreOutdated,
    StoreUnavailable,
)
from modelplex.records.store.schema import PUT_OFF, SQLITE, VERSION, statements_after

BESIDE: Final = "-put-off"
"""At the end of the name of the file beside it: what is put off. It is written once and deleted,
which costs a quarter with large pages, that rows of calls are better without.
"""
BESIDE_PAGE_BYTES: Final = 65_536
BUSY_S: Final = 5.0
"""Seconds to wait for another process that has locked the file."""
VACUUM_BYTES: Final = 1_048_576
"""Of free pages that one step returns to the system: some milliseconds."""
PAGE_BYTES: Final = 8_192
"""Of a new file. A page takes two of the usual 4 KiB, and half of the calls to write them."""
CACHE_KIB: Final = 1024
"""Of pages in memory. Rows are written in the order of time, so few pages are in use."""
JOURNAL_LIMIT: Final = 4 * 1024 * 1024
"""Bytes that the write-ahead log keeps on disk after a checkpoint."""
NO_SPACE: Final = (errno.ENOSPC, errno.EDQUOT)
"""Of a disk, and of a user's share of it."""


class SqliteDatabase:
    """An open file. One that is written is created for this user alone."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        """Raises StoreUnavailable and StoreOutdated."""
        self._path = path
        self._beside = path.with_name(path.name + BESIDE)
        try:
            if not read_only:
                make_state_folder(path.parent)
                for each in (path, self._beside):
                    # With its mode from the start; SQLite's files beside it are created with it.
                    os.close(os.open(each, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
            self._connection = sqlite3.connect(
                _uri(path, read_only=read_only),
                uri=True,
                timeout=BUSY_S,
                isolation_level=None,
                check_same_thread=False,
            )
        except (OSError, sqlite3.Error) as error:
            raise _unavailable(f"{path} cannot be opened", error) from None
        try:
            self._prepare(read_only=read_only)
        except sqlite3.Error as error:
            self._connection.close()
            raise _unavailable(f"{path} cannot be used", error) from None
        except StoreOutdated:
            self._connection.close()
            raise

    def __repr__(self) -> str:
        return f"<SqliteDatabase {self._path}>"

    @property
    def place(self) -> str:
        return str(self._path)

    def _prepare(self, *, read_only: bool) -> None:
        run = self._connection.execute
        (version,) = run("PRAGMA user_version").fetchone()
        if version > VERSION:
            raise StoreOutdated(f"{self._path} was written by a later version of Modelplex.")
        run(f"PRAGMA cache_size = -{CACHE_KIB}")
        if read_only:
            if version < VERSION:
                raise StoreUnavailable(f"{self._path} has no records yet, or those of an earlier version.")
            self._attach(read_only=True)
            return
        run(f"PRAGMA page_size = {PAGE_BYTES}")  # both have an effect while there are no tables
        run("PRAGMA auto_vacuum = INCREMENTAL")
        run("PRAGMA journal_mode = WAL")
        run("PRAGMA synchronous = NORMAL")
        run(f"PRAGMA journal_size_limit = {JOURNAL_LIMIT}")
        run("BEGIN IMMEDIATE")
        try:
            (version,) = run("PRAGMA user_version").fetchone()  # another process may have been faster
            for sql in statements_after(version, SQLITE):
                run(sql)
            run(f"PRAGMA user_version = {VERSION}")
            run("COMMIT")
        except sqlite3.Error:
            self._roll_back()
            raise
        self._attach(read_only=False)

    def _attach(self, *, read_only: bool) -> None:
        """Open what is put off: empty where it is missing, or where this user may not read it, who
        then sees what is in rows.
        """
        run, there = self._connection.execute, os.access(self._beside, os.R_OK)
        run("ATTACH ? AS beside", (_uri(self._beside, read_only=read_only) if there else ":memory:",))
        if there and not read_only:
            run(f"PRAGMA beside.page_size = {BESIDE_PAGE_BYTES}")
            run("PRAGMA beside.auto_vacuum = INCREMENTAL")
            run("PRAGMA beside.journal_mode = WAL")
            run("PRAGMA beside.synchronous = NORMAL")
            run(f"PRAGMA beside.journal_size_limit = {JOURNAL_LIMIT}")
        if not there or not read_only:
            run(PUT_OFF.format(**SQLITE, file="beside."))

    def query(self, sql: str, values: Sequence[Any] = (), /) -> list[Row]:
        try:
            return self._connection.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise _unavailable(f"{self._path} cannot be read", error) from None

    def write(self, statements: Iterable[Statement], /) -> None:
        run = self._connection
        try:
            run.execute("BEGIN IMMEDIATE")
            for sql, rows in statements:
                run.executemany(sql, rows)
            run.execute("COMMIT")
        except (sqlite3.IntegrityError, sqlite3.DataError, sqlite3.ProgrammingError, sqlite3.InterfaceError,
                OverflowError, UnicodeError) as error:  # fmt: skip
            self._roll_back()
            raise RowRefused(f"{self._path} refuses a row: {error}.") from None
        except sqlite3.Error as error:
            self._roll_back()
            raise _unavailable(f"{self._path} cannot be written", error) from None

    def size(self) -> int:
        pages, free, size = (
            self._pragma("main", name) for name in ("page_count", "freelist_count", "page_size")
        )
        ((put_off,),) = self.query("SELECT coalesce(sum(length(records) + 120), 0) FROM put_off")
        return (pages - free) * size + int(put_off)

    def vacuum(self) -> bool:
        return any(self._vacuum(schema) for schema in ("main", "beside"))

    def _vacuum(self, schema: str) -> bool:
        before = self._pragma(schema, "freelist_count")
        if not before:
            return False
        pages = VACUUM_BYTES // self._pragma(schema, "page_size")
        try:
            # A statement without a result is executed to its first page only; a script to its end.
            self._connection.executescript(f"PRAGMA {schema}.incremental_vacuum({pages})")
        except sqlite3.Error as error:
            raise _unavailable(f"{self._path} cannot be written", error) from None
        return self._pragma(schema, "freelist_count") < before

    def _pragma(self, schema: str, name: str) -> int:
        ((value,),) = self.query(f"PRAGMA {schema}.{name}")
        return int(value)

    def close(self) -> None:
        self._connection.close()

    def _roll_back(self) -> None:
        if self._connection.in_transaction:
            self._connection.rollback()


def _uri(path: Path, *, read_only: bool) -> str:
    return f"file:{quote(str(path.absolute()))}?mode={'ro' if read_only else 'rw'}"


def _unavailable(what: str, error: OSError | sqlite3.Error) -> StoreUnavailable:
    if isinstance(error, OSError):
        reason, is_full = (error.strerror or type(error).__name__).lower(), error.errno in NO_SPACE
    else:
        reason, is_full = str(error), getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_FULL
    return (StoreFull if is_full else StoreUnavailable)(f"{what}: {reason}.")

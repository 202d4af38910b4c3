"""Records for the tests of the store, and databases with some in them."""

from __future__ import annotations

import json
import threading
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from modelplex.core.events import Usage
from modelplex.records.record import AttemptRecord, Record, Times
from modelplex.records.store.database import Database, Statement, StoreUnavailable, open_database
from modelplex.records.store.writer import RecordWriter
from modelplex.records.store_sink import StoreOptions
from modelplex.records.tool_call import ToolRecord

NOW = 1_796_000_000.0
"""2026-11-30, 00:53:20 UTC."""
MEMBERS = ("messages", "system")


def body(*texts: str, system: str = "", **more: Any) -> bytes:
    """A request of a conversation in which user and assistant take turns."""
    roles = ("user", "assistant")
    messages = [{"role": roles[number % 2], "content": text} for number, text in enumerate(texts)]
    return json.dumps({"model": "m", "system": system, "messages": messages, **more}).encode()


def record(
    number: int = 1, request: bytes | None = None, response: bytes | None = None, **more: Any
) -> Record:
    """A call that went well, started so many seconds after NOW."""
    usage = Usage(fresh=10, cache_read=5, output=3, reasoning=1)
    attempt = AttemptRecord("p", "m-1", 0, "ok", status=200, seconds=0.5, usage=usage, cost=0.25)
    values: dict[str, Any] = {
        "id": f"mpx-{number:04x}",
        "started": NOW + number,
        "listener": "tcp:127.0.0.1:1",
        "client": "127.0.0.1",
        "endpoint": "messages",
        "dialect": "anthropic_messages",
        "requested_model": "m",
        "model": "m-1",
        "provider": "p",
        "status": 200,
        "usage": usage,
        "cost": 0.25,
        "times": Times(overhead=0.001, first_output=0.2, total=0.5),
        "attempts": (attempt,),
        "bytes_in": len(request or b""),
        "bytes_out": len(response or b""),
        "request_body": request,
        "response_body": response,
    }
    return Record(**{**values, **more})


def tool_record(number: int = 1, **more: Any) -> ToolRecord:
    values: dict[str, Any] = {
        "id": f"mpx-t{number:04x}",
        "started": NOW + number,
        "listener": "tcp:127.0.0.1:1",
        "client": "127.0.0.1",
        "agent": "",
        "era": "modern",
        "server": "git",
        "tool": "git_status",
        "method": "tools/call",
        "seconds": 0.1,
    }
    return ToolRecord(**{**values, **more})


def members(dialect: str) -> tuple[str, ...]:
    return MEMBERS


def options(**more: Any) -> StoreOptions:
    values: dict[str, Any] = {"content": True, "conversation": members, **more}
    return StoreOptions(**values)


def database(folder: Path) -> Database:
    return open_database(folder / "records.sqlite")


def write(db: Database, *records: Record | ToolRecord, using: StoreOptions | None = None) -> RecordWriter:
    writer = RecordWriter(db, using or options())
    writer.write(records, now=NOW)
    return writer


def conversation(turns: int, *, text: str = "some words of a turn " * 20, **more: Any) -> list[Record]:
    """Calls that each extend the one before."""
    texts: list[str] = []
    found: list[Record] = []
    for number in range(1, turns + 1):
        texts.append(f"{number} asks {text}")
        found.append(record(number, body(*texts, system="s" * 400), f"{number} answers".encode(), **more))
        texts.append(f"{number} answers")
    return found


TABLES = ("calls", "bodies", "sent", "parts", "nodes", "runs", "run_tags", "put_off")


def contents(db: Database) -> str:
    """Everything that is in the tables, as text; packed values also unpacked."""
    found: list[str] = []
    for table in TABLES:
        for row in db.query(f"SELECT * FROM {table}"):
            for value in row:
                if isinstance(value, str | int | float | None):
                    found.append(str(value))
                else:
                    found += (each.decode("latin-1") for each in _forms(bytes(value)))
    return "\n".join(found)


def _forms(data: bytes) -> Iterator[bytes]:
    yield data
    for packed in (data, data[1:]):  # a part, or a body with its encoding before it
        try:
            yield zlib.decompress(packed)
        except zlib.error:
            continue


class Switched:
    """A database whose writes fail while `is_down`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.place = database.place
        self.is_down = False
        self.refused = threading.Semaphore(0)
        self.query, self.size, self.vacuum, self.close = (
            database.query,
            database.size,
            database.vacuum,
            database.close,
        )

    def write(self, statements: Iterable[Statement], /) -> None:
        if self.is_down:
            self.refused.release()
            raise StoreUnavailable("the disk is full.")
        self._database.write(statements)

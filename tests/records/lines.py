"""Records, their log lines, and a log whose writer can be paused."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from modelplex.core.events import Usage
from modelplex.records import log_fields, log_text
from modelplex.records.log import Log
from modelplex.records.record import AttemptRecord, Record, Times

WAIT_S = 20.0


KEY = "sk-live-0123456789abcdef"


def record(**changes: Any) -> Record:
    fields: dict[str, Any] = {
        "id": "req_1",
        "started": 1_000_000_000.0,
        "listener": "unix:/run/m.sock",
        "client": "uid 1000",
        "endpoint": "chat/completions",
        "dialect": "openai_chat",
        "requested_model": "gpt",
        "model": "gpt-4o",
        "provider": "openai",
        "stream": True,
        "status": 200,
        "finish_reason": "stop",
        "usage": Usage(fresh=70, cache_read=20, cache_write=10, output=9, reasoning=4),
        "cost": 0.000123,
        "times": Times(overhead=0.0004, first_output=0.3, total=2.0),
        "attempts": (AttemptRecord("openai", "gpt-4o", 0, "ok", 200, 2.0, upstream_request_id="up_1"),),
        "bytes_in": 1000,
        "bytes_out": 300,
    }
    return Record(**(fields | changes))


FAILED: dict[str, Any] = {
    "outcome": "error",
    "blame": "provider",
    "code": "overloaded",
    "error": "It is busy.",
    "status": 503,
    "usage": None,
    "cost": None,
    "finish_reason": None,
}


def plain(text: bytes) -> bytes:
    return text


def json_line(
    told_record: Record, *, max_body: int = 100, mask: Callable[[bytes], bytes] = plain
) -> dict[str, Any]:
    return msgspec.json.decode(
        log_fields.json_call(told_record, max_body=max_body, mask=mask), type=dict[str, Any]
    )


def text_line(shown_record: Record, *, colour: bool = False) -> str:
    return log_text.call_line(shown_record, colour=colour, max_body=100, mask=plain).decode()


def lines(path: Path) -> list[dict[str, Any]]:
    return [msgspec.json.decode(text) for text in path.read_bytes().splitlines()]


def until(true: Callable[[], bool]) -> None:
    """Looks again and again, for at most WAIT_S."""
    deadline = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < deadline
        threading.Event().wait(0.001)


def pause(sink_of: Log) -> Callable[[], None]:
    """Holds the writer before its next write; the returned function lets it go on."""
    go = threading.Event()
    reached = threading.Event()
    write = sink_of._output.write  # pyright: ignore[reportPrivateUsage]

    def wait(batch: list[bytes]) -> None:
        reached.set()
        assert go.wait(WAIT_S)
        write(batch)

    sink_of._output.write = wait  # type: ignore[method-assign,assignment]  # pyright: ignore[reportPrivateUsage]
    sink_of.record(record(id="held"))
    assert reached.wait(WAIT_S)
    return go.set


def write_lines(log: Log, count: int) -> None:
    """Each as a batch of its own, as a gateway with little to do writes them."""
    for number in range(count):
        log._output.write([b"%03d %s\n" % (number, b"x" * 95)])  # pyright: ignore[reportPrivateUsage]

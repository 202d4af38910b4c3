"""A run of the record store as a recording."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from modelplex.core.events import Usage
from modelplex.records.record import Record
from modelplex.records.store.database import open_database
from modelplex.records.store.writer import RecordWriter
from modelplex.records.store_sink import RunInfo, StoreOptions
from modelplex.records.tool_call import ToolRecord
from modelplex.replay.recording import RecordingError
from modelplex.replay.stored_run import recording_of_run
from tests.records.store import stored

BODY = b'{"model":"m","messages":[{"role":"user","content":"' + b"x" * 3000 + b'"}]}'


def record(number: int, **more: Any) -> Record:
    settings: dict[str, Any] = {
        "id": f"mpx-{number}",
        "started": 1000.0 + number,
        "listener": "unix",
        "client": "",
        "endpoint": "messages",
        "dialect": "anthropic_messages",
        "requested_model": "m",
        "status": 200,
        "usage": Usage(fresh=3, cache_read=4, output=2),
        "request_body": BODY,
        "response_body": b"data: %d\n\n" % number,
        "bytes_out": 9,
        "stream": True,
        **more,
    }
    return Record(**settings)


def write(folder: Path, *records: Record | ToolRecord, content: bool = True) -> str:
    place = str(folder / "records.sqlite")
    database = open_database(place)
    run = RunInfo(id="run-1", started=999.0, command="agent", folder="/srv", tags={"pr": "12"})
    options = StoreOptions(content=content, run=run, conversation=lambda _: ("messages",))
    RecordWriter(database, options).write(records, now=1000.0)
    database.close()
    return place


def test_calls_have_exactly_what_was_sent_and_received(tmp_path: Path) -> None:
    tool = stored.tool_record(
        id="mpx-3",
        started=1003.0,
        era="modern",
        tool="log",
        request_body=b"{}",
        response_body=b'{"content":[]}',
        bytes_in=2,
        bytes_out=14,
    )
    found = recording_of_run(write(tmp_path, record(2), record(1), tool), "run-1")
    assert (found.run.command, found.run.folder, found.run.tags) == ("agent", "/srv", {"pr": "12"})
    assert [call.id for call in found.calls] == ["mpx-1", "mpx-2", "mpx-3"]
    first, second, last = found.calls
    assert (first.request, first.response) == (BODY, b"data: 1\n\n")
    assert (first.endpoint, first.model, first.stream, first.status) == ("messages", "m", True, 200)
    assert first.usage == Usage(fresh=3, cache_read=4, output=2)
    assert any(one is other for one in first.pieces for other in second.pieces if len(one) > 1000)
    assert (last.kind, last.server, last.model, last.dialect) == ("tool", "git", "log", "modern")
    assert (last.request, last.response) == (b"{}", b'{"content":[]}')


def test_a_response_that_was_cut_is_left_out(tmp_path: Path) -> None:
    found = recording_of_run(write(tmp_path, record(1), record(2, bytes_out=1000)), "run-1")
    assert [call.id for call in found.calls] == ["mpx-1"]
    assert found.run.left_out == 1


def test_a_run_without_bodies_says_what_keeps_them(tmp_path: Path) -> None:
    place = write(tmp_path, record(1), content=False)
    with pytest.raises(RecordingError, match=r"\[record\] content"):
        recording_of_run(place, "run-1")


def test_a_run_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="there is no run run-2"):
        recording_of_run(write(tmp_path, record(1)), "run-2")

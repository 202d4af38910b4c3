"""A recording as a file, and back."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelplex.core.events import Usage
from modelplex.replay.recording import RecordedCall, RecordedRun, RecordingError, RunRecording
from modelplex.replay.recording_file import read_recording, save_recording, write_recording

LONG = b'{"role":"user","content":"' + b"x" * 200 + b'"}'
CALLS = [
    RecordedCall(
        id="mpx-1",
        started=1.5,
        endpoint="messages",
        dialect="anthropic",
        model="m",
        stream=True,
        usage=Usage(fresh=3, output=2),
        pieces=(b'{"messages":[', LONG, b"]}"),
        response=b"data: \xc3\xa4\n\n",
    ),
    RecordedCall(
        id="mpx-2",
        status=429,
        outcome="error",
        code="rate_limit_exceeded",
        pieces=(b'{"messages":[', LONG, b",", b"\xff\xfe", b"]}"),
        response=b"\x00\xff",
    ),
]
RECORDING = RunRecording("run run-1", RecordedRun(id="run-1", folder="/srv", tags={"pr": "12"}), CALLS)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[int]:
    number = os.open(tmp_path, os.O_RDONLY)
    yield number
    os.close(number)


def test_what_is_written_is_read(folder: int, tmp_path: Path) -> None:
    save_recording(RECORDING, folder=folder, name="r.jsonl")
    found = read_recording(tmp_path / "r.jsonl")
    assert found.run == RECORDING.run
    assert list(found.calls) == CALLS
    assert [call.request for call in found.calls] == [call.request for call in CALLS]
    assert (tmp_path / "r.jsonl").stat().st_mode & 0o777 == 0o600


def test_what_requests_have_in_common_is_written_once() -> None:
    lines = list(write_recording(RECORDING))
    assert sum(line.count(b"x" * 200) for line in lines) == 1
    assert len(lines) == 4
    read = [call.pieces[1] for call in RECORDING.calls]
    assert read[0] == read[1]


def test_a_link_in_the_place_of_the_file_is_replaced(folder: int, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("mine")
    (tmp_path / "r.jsonl").symlink_to(target)
    save_recording(RECORDING, folder=folder, name="r.jsonl")
    assert target.read_text() == "mine"
    assert not (tmp_path / "r.jsonl").is_symlink()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["r.jsonl", "target"]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is no recording of Modelplex"),
        (b"[1,2]\n", "is no recording of Modelplex"),
        (
            b'{"format":"modelplex-recording-2","run":{"id":"r"}}\n{"part":1,"content":""}\n',
            "has the format 'modelplex-recording-2'",
        ),
        (b'{"format":"modelplex-recording-1","run":{"id":"r"}}\n', "has no calls"),
        (b'{"format":"modelplex-recording-1","run":{"id":"r"}}\n{\n', "line 2 is wrong"),
        (
            b'{"format":"modelplex-recording-1","run":{"id":"r"}}\n{"call":{"id":"c"},"request":[7],"response":""}\n',
            "line 2 is wrong: no line before it has the part 7",
        ),
    ],
)
def test_another_file_is_named(content: bytes, sentence: str, tmp_path: Path) -> None:
    file = tmp_path / "r.jsonl"
    file.write_bytes(content)
    with pytest.raises(RecordingError) as error:
        read_recording(file)
    assert sentence in error.value.sentence
    assert str(file) in error.value.sentence


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="no such file"):
        read_recording(tmp_path / "none")

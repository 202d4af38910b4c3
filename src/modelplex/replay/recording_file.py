"""A recording as a file of JSON lines, which can be checked in: docs/reference/record.md has the
format.

A piece that several requests have in common is written once, so that the file grows with what each
turn adds.
"""

from __future__ import annotations

import os
from base64 import b64decode, b64encode
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from modelplex.replay.recording import RecordedCall, RecordedRun, RecordingError, RunRecording

FORMAT: Final = "modelplex-recording-1"
"""The first member of the file."""
LEAST_PART: Final = 64
"""Bytes of a piece that is worth a line of its own."""
MAX_LINE: Final = 268_435_456
"""Bytes of a line. A body has at most 32 MiB by default, and JSON may escape each byte."""
NO_FILE: Final = "it is no recording of Modelplex, which `modelplex run --record FILE` writes"


class _Binary(msgspec.Struct, frozen=True):
    """Bytes that are no UTF-8."""

    base64: str


_Text = str | _Binary


class _Header(msgspec.Struct, frozen=True):
    format: str
    run: RecordedRun


class _Part(msgspec.Struct, frozen=True):
    part: int
    content: _Text


class _Call(msgspec.Struct, frozen=True):
    call: RecordedCall
    request: list[int | str | _Binary]
    response: _Text


class _Line(msgspec.Struct, frozen=True):
    """Any line; its members say which."""

    part: int | None = None
    call: msgspec.Raw = msgspec.Raw()


_encode = msgspec.json.Encoder().encode


def write_recording(recording: RunRecording) -> Iterator[bytes]:
    """The lines of the file, each with its line feed."""
    yield _encode(_Header(FORMAT, recording.run)) + b"\n"
    uses = Counter(piece for call in recording.calls for piece in set(call.pieces))
    numbers: dict[bytes, int] = {}
    for call in recording.calls:
        request: list[int | str | _Binary] = []
        for piece in call.pieces:
            if len(piece) < LEAST_PART or uses[piece] < 2:
                request.append(_text(piece))
                continue
            number = numbers.get(piece)
            if number is None:
                number = numbers[piece] = len(numbers) + 1
                yield _encode(_Part(number, _text(piece))) + b"\n"
            request.append(number)
        bare = msgspec.structs.replace(call, pieces=(), response=b"")
        yield _encode(_Call(bare, request, _text(call.response))) + b"\n"


def read_recording(path: Path) -> RunRecording:
    """Blocks. Raises RecordingError, which names the line that is wrong."""
    try:
        with path.open("rb") as file:
            return _read(file.readlines(), path)
    except OSError as error:
        raise RecordingError(f"{path} cannot be read: {(error.strerror or str(error)).lower()}.") from None


def _read(lines: list[bytes], path: Path) -> RunRecording:
    header: _Header | None = None
    parts: dict[int, bytes] = {}
    calls: list[RecordedCall] = []
    for number, line in enumerate(lines, 1):
        try:
            if len(line) > MAX_LINE:
                raise ValueError("the line is too long")
            if header is None:
                header = msgspec.json.decode(line, type=_Header)
            elif msgspec.json.decode(line, type=_Line).part is not None:
                part = msgspec.json.decode(line, type=_Part)
                parts[part.part] = _bytes(part.content)
            else:
                calls.append(_read_call(msgspec.json.decode(line, type=_Call), parts))
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            if number == 1:
                raise RecordingError(f"{path} cannot be replayed: {NO_FILE}.") from None
            raise RecordingError(f"{path}, line {number} is wrong: {error}.") from None
    if header is None:
        raise RecordingError(f"{path} cannot be replayed: {NO_FILE}.")
    if header.format != FORMAT:
        raise RecordingError(f"{path} has the format {header.format!r}, and this version reads {FORMAT!r}.")
    if not calls:
        raise RecordingError(f"{path} has no calls.")
    return RunRecording(str(path), header.run, calls)


def _read_call(line: _Call, parts: dict[int, bytes]) -> RecordedCall:
    pieces: list[bytes] = []
    for piece in line.request:
        if not isinstance(piece, int):
            pieces.append(_bytes(piece))
        elif piece in parts:
            pieces.append(parts[piece])
        else:
            raise ValueError(f"no line before it has the part {piece}")
    return msgspec.structs.replace(line.call, pieces=tuple(pieces), response=_bytes(line.response))


def _text(content: bytes) -> _Text:
    try:
        return content.decode()
    except UnicodeDecodeError:
        return _Binary(b64encode(content).decode())


def _bytes(text: _Text) -> bytes:
    return text.encode() if isinstance(text, str) else b64decode(text.base64, validate=True)


def save_recording(recording: RunRecording, *, folder: int, name: str) -> None:
    """Write the file `name` in the open folder `folder` (a descriptor). A file or a link with that
    name is replaced, and not followed: a program in a sandbox may have made it. Raises OSError.
    """
    temporary = f".{name}.{os.getpid()}"
    number = os.open(
        temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=folder
    )
    try:
        with os.fdopen(number, "wb") as file:
            file.writelines(write_recording(recording))
        os.replace(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        os.unlink(temporary, dir_fd=folder)
        raise

"""A recording: the calls of one run with their bodies, from the record store or from a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec

from modelplex.core.events import Usage


class RecordingError(Exception):
    """A recording cannot be read. The text is a sentence for whoever named it."""

    @property
    def sentence(self) -> str:
        return str(self)


class RecordedRun(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The run that was recorded: RunInfo has the meanings. `left_out` are calls without a whole
    response.
    """

    id: str
    started: float = 0.0
    agent: str = ""
    command: str = ""
    folder: str = ""
    repository: str = ""
    branch: str = ""
    tags: dict[str, str] = {}
    left_out: int = 0


class RecordedCall(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One call of a run, in the words of `Record` and `ToolRecord`. `pieces` joined are the request
    body; pieces that calls have in common are the same object. Of a tool call they are the
    arguments, of another request of a tool client ("session") its parameters.

    endpoint  of a tool call its method
    model     the model's or tool's name as the client wrote it
    timing    when pieces of the response were sent: seconds from the request, bytes up to then
    """

    id: str
    kind: Literal["model", "tool", "session"] = "model"
    started: float = 0.0
    endpoint: str = ""
    dialect: str = ""
    model: str = ""
    server: str = ""
    stream: bool = False
    status: int = 200
    outcome: str = "ok"
    code: str | None = None
    error: str | None = None
    finish_reason: str | None = None
    usage: Usage | None = None
    seconds: float = 0.0
    first_output: float | None = None
    pieces: tuple[bytes, ...] = ()
    response: bytes = b""

    @property
    def request(self) -> bytes:
        return b"".join(self.pieces)


class RunRecording(msgspec.Struct, frozen=True):
    """`source` says where it is from, for people. Calls are in the order in which they began."""

    source: str
    run: RecordedRun
    calls: Sequence[RecordedCall]


def open_recording(*, run: str | None, file: str | None, store: str) -> RunRecording:
    """The recording in a file, or of a run in the store at `store`. Blocks. Raises
    RecordingError.
    """
    if file is not None:
        from modelplex.replay.recording_file import read_recording

        return read_recording(Path(file))
    from modelplex.replay.stored_run import recording_of_run

    return recording_of_run(store, run or "")

"""Opening a recording, by its file or by the id of a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelplex.replay.recording import RecordedCall, RecordingError, open_recording


def test_a_request_is_its_pieces() -> None:
    assert RecordedCall(id="mpx-1", pieces=(b"a", b"b")).request == b"ab"


def test_a_recording_that_is_nowhere_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="no such file"):
        open_recording(run=None, file=str(tmp_path / "none.jsonl"), store="")
    with pytest.raises(RecordingError, match="cannot be opened"):
        open_recording(run="run-1", file=None, store=str(tmp_path / "none.sqlite"))

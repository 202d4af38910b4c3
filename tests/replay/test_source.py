"""A recording that is loaded with its first use."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from modelplex.config.settings import ProviderConfig
from modelplex.core.errors import RecordingUnreadable
from modelplex.replay.recording import RecordedCall, RecordedRun, RecordingError, RunRecording
from modelplex.replay.recording_file import write_recording
from modelplex.replay.source import RecordingSource

CALL = RecordedCall(id="mpx-1", endpoint="responses", model="m", pieces=(b'{"user":"a"}',), response=b"{}")


def test_parallel_first_requests_load_it_once(tmp_path: Path) -> None:
    file = tmp_path / "r.jsonl"
    file.write_bytes(
        b"".join(write_recording(RunRecording("", RecordedRun(id="run-1", folder="/a"), [CALL])))
    )
    config = ProviderConfig(name="replay", type="replay", file=str(file), folder="/b")
    source = RecordingSource(config, store=lambda: "")

    async def both() -> None:
        first, second = await asyncio.gather(source.answers(), source.answers())
        assert first is second
        body = b'{"user":"b"}'
        key = first.key_of(body, endpoint="responses", model="m", stream=False)
        assert first.take(key, body) == CALL

    asyncio.run(both())


def test_a_store_that_fails_is_asked_again_by_the_next_request() -> None:
    asked: list[str] = []

    def store() -> str:
        asked.append("store")
        raise RecordingError("this user has no home.")

    source = RecordingSource(ProviderConfig(name="old", type="replay", run="run-1"), store=store)

    async def twice() -> None:
        for _ in range(2):
            with pytest.raises(RecordingUnreadable, match=r"old: this user has no home\."):
                await source.answers()

    asyncio.run(twice())
    assert asked == ["store", "store"]

"""Messages between the supervisor and its workers."""

from __future__ import annotations

import pytest

from modelplex.server.workers.messages import (
    MAX_FRAME,
    Answer,
    Applied,
    Ask,
    BadFrame,
    Failed,
    Frames,
    Message,
    NewConfig,
    Ready,
    StateMade,
    Stop,
    frame,
)

ALL: list[Message] = [
    Ready(),
    Failed("it cannot"),
    Applied(),
    Stop(),
    Stop(now=True),
    NewConfig(b"\x00" * 70_000),
    Ask(1, 2, "health", "agent:a"),
    Answer(1, 2, 3, b"{}"),
    Answer(1, 2, 3, None),
    StateMade((-1, 2**62), "p", "k"),
]


@pytest.mark.parametrize("size", [1, 3, 4096, 10**9])
def test_messages_come_whole_in_pieces_of_any_size(size: int) -> None:
    data, frames, got = b"".join(map(frame, ALL)), Frames(), list[Message]()
    for start in range(0, len(data), size):
        got += frames.feed(data[start : start + size])
    assert got == ALL


@pytest.mark.parametrize(
    "data", [(MAX_FRAME + 1).to_bytes(4, "big"), b"\x00\x00\x00\x01\xff", b"\x00\x00\x00\x00"]
)
def test_what_is_no_message_is_an_error(data: bytes) -> None:
    with pytest.raises(BadFrame):
        Frames().feed(data)

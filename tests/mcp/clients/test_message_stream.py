"""Streams of messages: their order, their bounds, their readers."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from modelplex.mcp.clients import message_stream
from modelplex.mcp.clients.message_stream import MessageStream
from modelplex.mcp.constants import Json

BOUND = 5.0


def notification(text: str = "") -> Json:
    return {"jsonrpc": "2.0", "method": "notifications/progress", "params": {"text": text}}


def response(id: Any = 1, text: str = "") -> Json:
    return {"jsonrpc": "2.0", "id": id, "result": {"text": text}}


def numbers(stream: MessageStream, after: int = 0) -> list[int]:
    return [number for number, _ in stream.after(after)]


def test_messages_are_numbered_from_1_and_responses_are_counted() -> None:
    stream = MessageStream()
    stream.put(notification())
    stream.put(response())
    assert numbers(stream) == [1, 2]
    assert numbers(stream, 1) == [2]
    assert (stream.last, stream.responses) == (2, 1)
    stream.finish()
    stream.put(response())
    assert stream.last == 2


def test_a_json_only_stream_drops_notifications() -> None:
    stream = MessageStream(json_only=True)
    stream.put(notification())
    stream.put(response())
    assert [msgspec.json.decode(data) for _, data in stream.after(0)] == [response()]


def test_messages_that_were_read_are_dropped_unless_the_stream_is_resumable() -> None:
    once, resumable = MessageStream(), MessageStream(resumable=True)
    for stream in (once, resumable):
        reader = stream.attach()
        for _ in range(3):
            stream.put(notification())
        stream.mark_read(2)
        stream.detach(reader)
    assert numbers(once) == [3]
    assert numbers(resumable) == [1, 2, 3]
    assert once.size < resumable.size


def test_a_resumable_stream_has_a_limit_of_messages_and_of_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(message_stream, "REPLAY_MESSAGES", 3)
    stream = MessageStream(resumable=True)
    for _ in range(5):
        stream.put(notification())
    assert numbers(stream) == [3, 4, 5]
    monkeypatch.setattr(message_stream, "REPLAY_BYTES", 100)
    stream.put(response(text="x" * 1000))
    assert numbers(stream) == [6], "the last message stays, whatever its size"


def test_a_client_that_does_not_read_loses_the_oldest_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(message_stream, "UNREAD_MESSAGES", 2)
    stream = MessageStream()
    stream.attach()
    for _ in range(4):
        stream.put(notification())
    assert numbers(stream) == [3, 4]


@pytest.mark.parametrize(("number", "complete"), [(0, False), (1, False), (2, True), (5, True), (6, False)])
def test_a_gap_after_a_number_is_seen(number: int, complete: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(message_stream, "REPLAY_MESSAGES", 3)
    stream = MessageStream(resumable=True)
    for _ in range(5):
        stream.put(notification())
    assert stream.start == 2
    assert stream.has_all_after(number) is complete


def test_the_streams_of_one_caller_share_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(message_stream, "MIN_COUNTED", 100)
    monkeypatch.setattr(message_stream, "UNREAD_OF_CALLER", 1_000)
    first, second, other = (MessageStream(owner=owner) for owner in ("a", "a", "b"))
    first.put(response(text="x" * 900))
    second.put(notification("x" * 200))
    assert second.last == 0, "a notification is dropped"
    second.put(response("id", "x" * 200))
    (found,) = [msgspec.json.decode(data) for _, data in second.after(0)]
    assert found["id"] == "id"
    assert found["error"]["data"]["reason"] == "limit"
    other.put(notification("x" * 200))
    assert other.last == 1


def test_of_a_batch_without_room_each_response_becomes_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(message_stream, "MIN_COUNTED", 10)
    monkeypatch.setattr(message_stream, "UNREAD_OF_CALLER", 100)
    stream = MessageStream(owner="batch")
    batch: Any = [response(1, "x" * 200), response(2)]
    stream.put(batch)
    (found,) = [msgspec.json.decode(data) for _, data in stream.after(0)]
    assert [(each["id"], each["error"]["data"]["reason"]) for each in found] == [(1, "limit"), (2, "limit")]


async def test_a_second_reader_replaces_the_first() -> None:
    stream = MessageStream()
    first = stream.attach()
    waiting = asyncio.create_task(stream.wait_for_more(0, reader=first))
    await asyncio.sleep(0)
    second = stream.attach()
    async with asyncio.timeout(BOUND):
        assert await waiting is False
        stream.detach(first)
        assert stream.connected
        stream.put(notification())
        assert await stream.wait_for_more(0, reader=second) is True
    stream.detach(second)
    assert not stream.connected


async def test_the_form_of_a_response_is_known_at_its_first_notification_or_its_end() -> None:
    for message, finished in ((notification(), False), (None, True)):
        stream = MessageStream()
        waiting = asyncio.create_task(stream.wait_for_form())
        stream.put(response())
        await asyncio.sleep(0)
        assert not waiting.done()
        if message is not None:
            stream.put(message)
        else:
            stream.finish()
        async with asyncio.timeout(BOUND):
            await waiting
        assert stream.finished is finished

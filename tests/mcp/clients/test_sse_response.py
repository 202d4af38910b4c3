"""Message streams written as HTTP responses."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from modelplex.mcp.clients.checks import ProtocolRefusal
from modelplex.mcp.clients.message_stream import MessageStream
from modelplex.mcp.clients.sse_response import (
    COMMENT,
    ResponseOptions,
    SseResponder,
    refuse,
    until_disconnect,
)
from modelplex.mcp.constants import Json

BOUND = 5.0
NOTIFICATION: Json = {"jsonrpc": "2.0", "method": "notifications/x"}
RESPONSE: Json = {"jsonrpc": "2.0", "id": 1, "result": {}}


class Output:
    """The response side of a request, as it was written."""

    def __init__(self) -> None:
        self.started = self.stopping = False
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.data = b""
        self.end = ""
        self.watching = False
        self.written = asyncio.Event()

    async def body(self, *, limit: int, declared: int | None) -> bytes:
        raise AssertionError("the body was read before")

    def keep_body(self) -> Callable[[], None]:
        raise AssertionError("the body is not kept here")

    async def respond(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes, /) -> None:
        assert not self.started
        self.started, self.status, self.headers, self.data = True, status, dict(headers), body
        self.end = "whole"

    async def start(self, headers: list[tuple[bytes, bytes]], /) -> None:
        assert not self.started
        self.started, self.status, self.headers = True, 200, dict(headers)

    async def write(self, data: bytes) -> None:
        self.data += data
        self.written.set()

    async def finish(self) -> None:
        self.end = "finished"

    def abort(self) -> None:
        self.end = "aborted"

    def cancel_on_disconnect(self) -> None:
        self.watching = True

    def ignore_disconnect(self) -> None:
        self.watching = False


def stream_of(*messages: Json, resumable: bool = False) -> MessageStream:
    stream = MessageStream("k", resumable=resumable)
    for message in messages:
        stream.put(message)
    return stream


async def written(stream: MessageStream, options: ResponseOptions | None = None, *, after: int = 0) -> Output:
    output = Output()
    responder = SseResponder(60.0)
    async with asyncio.timeout(BOUND):
        if after:
            await responder.write_events(stream, output, options or ResponseOptions(), after=after)
        else:
            await responder.write_response(stream, output, options or ResponseOptions())
    return output


async def test_a_single_response_is_json_with_further_headers() -> None:
    stream = stream_of(RESPONSE)
    stream.finish()
    output = await written(stream, ResponseOptions(headers=((b"mcp-session-id", b"s"),)))
    assert (output.status, output.end) == (200, "whole")
    assert output.headers == {b"content-type": b"application/json", b"mcp-session-id": b"s"}
    assert output.data == b'{"jsonrpc":"2.0","id":1,"result":{}}'


async def test_the_responses_of_a_batch_are_an_array_and_an_empty_stream_is_accepted() -> None:
    stream = stream_of(RESPONSE, {**RESPONSE, "id": 2})
    stream.finish()
    output = await written(stream, ResponseOptions(batch=True))
    assert output.data == b'[{"jsonrpc":"2.0","id":1,"result":{}},{"jsonrpc":"2.0","id":2,"result":{}}]'
    empty = stream_of()
    empty.finish()
    assert (await written(empty)).status == 202


async def test_the_answer_of_a_request_gives_the_status_of_a_single_response() -> None:
    async def fill() -> int:
        stream.put(RESPONSE)
        stream.finish()
        return 404

    stream, output = stream_of(), Output()
    async with asyncio.timeout(BOUND):
        await SseResponder(60.0).write_response_of(fill(), stream, output, ResponseOptions())
    assert output.status == 404


async def test_a_notification_before_the_response_makes_an_event_stream() -> None:
    release = asyncio.Event()

    async def fill() -> int:
        stream.put(NOTIFICATION)
        await release.wait()
        stream.put(RESPONSE)
        stream.finish()
        return 200

    stream, output = stream_of(), Output()
    writing = SseResponder(60.0).write_response_of(fill(), stream, output, ResponseOptions())
    task = asyncio.create_task(writing)
    async with asyncio.timeout(BOUND):
        while b"event: message" not in output.data:
            output.written.clear()
            await output.written.wait()
        release.set()
        await task
    assert (output.end, output.data.count(b"event: message\n")) == ("finished", 2)


async def test_an_answer_is_cancelled_when_its_client_can_no_longer_be_written_to() -> None:
    cancelled = False

    async def fill() -> int:
        nonlocal cancelled
        stream.put(NOTIFICATION)
        try:
            await asyncio.Event().wait()
        finally:
            cancelled = True
        return 200

    stream, output = stream_of(), Output()
    writing = SseResponder(60.0).write_response_of(fill(), stream, output, ResponseOptions())
    task = asyncio.create_task(writing)
    async with asyncio.timeout(BOUND):
        await output.written.wait()
        stream.attach()
        await task
    assert (cancelled, output.end) == (True, "aborted")


async def test_a_cancelled_request_cancels_its_answer_and_its_events() -> None:
    stream, output = stream_of(), Output()

    async def fill() -> int:
        stream.put(NOTIFICATION)
        await asyncio.Event().wait()
        return 200

    writing = SseResponder(60.0).write_response_of(fill(), stream, output, ResponseOptions())
    task = asyncio.create_task(writing)
    async with asyncio.timeout(BOUND):
        await output.written.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert not stream.connected


async def test_the_error_of_an_answer_that_fails_is_raised() -> None:
    async def fail() -> int:
        raise ZeroDivisionError

    writing = SseResponder(60.0).write_response_of(fail(), stream_of(), Output(), ResponseOptions())
    with pytest.raises(ZeroDivisionError):
        await asyncio.wait_for(writing, BOUND)


async def test_a_notification_makes_an_event_stream() -> None:
    stream = stream_of(NOTIFICATION, RESPONSE)
    stream.finish()
    output = await written(stream)
    assert output.headers[b"content-type"] == b"text/event-stream"
    assert output.end == "finished"
    assert output.data.count(b"event: message\ndata: ") == 2
    assert b"id:" not in output.data


async def test_numbered_events_have_ids_and_an_id_may_come_first() -> None:
    stream = stream_of(NOTIFICATION, resumable=True)
    output = Output()
    options = ResponseOptions(numbered=True, id_first=True, events=True)
    task = asyncio.create_task(SseResponder(60.0).write_response(stream, output, options))
    async with asyncio.timeout(BOUND):
        while b"k-1" not in output.data:
            output.written.clear()
            await output.written.wait()
        assert output.data.startswith(b"id: k-0\nretry: 1000\ndata: \n\nevent: message\nid: k-1\n")
        assert stream.ids_sent
        stream.finish()
        await task


async def test_events_go_on_after_a_number() -> None:
    stream = stream_of(NOTIFICATION, NOTIFICATION, RESPONSE, resumable=True)
    stream.finish()
    output = await written(stream, ResponseOptions(numbered=True), after=2)
    assert (output.data.count(b"event:"), b"id: k-3" in output.data) == (1, True)


async def test_a_reader_that_would_see_a_gap_is_disconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelplex.mcp.clients.message_stream.REPLAY_MESSAGES", 1)
    stream = stream_of(NOTIFICATION, NOTIFICATION, NOTIFICATION, resumable=True)
    output = await written(stream, ResponseOptions(numbered=True), after=1)
    assert (output.end, output.data) == ("aborted", b"")


async def test_silence_makes_an_event_stream_and_is_broken_by_comments() -> None:
    stream, output = stream_of(), Output()
    task = asyncio.create_task(SseResponder(0.01).write_response(stream, output, ResponseOptions()))
    async with asyncio.timeout(BOUND):
        while COMMENT not in output.data:
            output.written.clear()
            await output.written.wait()
        stream.put(RESPONSE)
        stream.finish()
        await task
    assert output.end == "finished"
    assert output.data.endswith(b'data: {"jsonrpc":"2.0","id":1,"result":{}}\n\n')


async def test_another_connection_takes_a_stream_over() -> None:
    stream, output = stream_of(resumable=True), Output()
    task = asyncio.create_task(SseResponder(60.0).write_events(stream, output, ResponseOptions()))
    async with asyncio.timeout(BOUND):
        await output.written.wait()
        reader = stream.attach()
        await task
    assert output.end == "aborted"
    assert stream.connected
    stream.detach(reader)


@pytest.mark.parametrize(
    ("stopping", "started", "status", "end"),
    [(False, False, 0, ""), (True, False, 503, "whole"), (True, True, 0, "aborted")],
)
async def test_a_disconnect_ends_silently_and_a_stop_with_an_error(
    stopping: bool, started: bool, status: int, end: str
) -> None:
    output = Output()
    output.started, output.stopping = started, stopping
    async with until_disconnect(output):
        assert output.watching
        raise asyncio.CancelledError
    assert (output.status, output.end, output.watching) == (status, end, False)


async def test_a_refusal_has_its_headers() -> None:
    output = Output()
    await refuse(ProtocolRefusal(401, -32600, "no", id=4), output)
    assert output.headers[b"www-authenticate"] == b"Bearer"
    assert output.data == b'{"jsonrpc":"2.0","id":4,"error":{"code":-32600,"message":"no"}}'
    output = Output()
    await refuse(ProtocolRefusal(405, -32600, "no"), output, allow="POST")
    assert output.headers[b"allow"] == b"POST"

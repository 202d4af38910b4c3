"""Matching responses to requests."""

import asyncio

import pytest

from modelplex.mcp.constants import Json
from modelplex.mcp.servers.channel import (
    ConnectionLost,
    HttpRefused,
    PendingRequest,
    ServerError,
    SessionGone,
)

from .channels import FakeChannel


def start(channel: FakeChannel, id: int) -> asyncio.Task[Json]:
    return asyncio.create_task(channel.request({"id": id}, PendingRequest(id, "tools/call")))


async def test_responses_are_matched_by_id_in_any_order() -> None:
    channel = FakeChannel()
    requests = [start(channel, number) for number in (1, 2)]
    await asyncio.sleep(0)
    for response in (
        {"id": 2, "result": "b"},
        {"id": 3},
        {"id": None},
        {"id": "1"},
        {"id": 1, "result": "a"},
    ):
        channel.receive(response)
    channel.receive({"id": 1, "result": "again"})  # a second response is ignored
    assert [each["result"] for each in await asyncio.gather(*requests)] == ["a", "b"]


async def test_requests_and_notifications_of_the_server_are_delivered() -> None:
    channel, delivered = FakeChannel(), list[Json]()
    channel.receive({"method": "ping", "id": 1})  # no session takes it yet
    channel.deliver = lambda message, pending: delivered.append({**message, "pending": pending})
    channel.receive({"method": "ping", "id": 1})
    assert delivered == [{"method": "ping", "id": 1, "pending": None}]


async def test_the_end_of_the_connection_fails_pending_and_later_requests() -> None:
    channel = FakeChannel()
    pending = start(channel, 1)
    await asyncio.sleep(0)
    channel.fail("It exited.")
    channel.fail("It was stopped.")
    for request in (pending, start(channel, 2)):
        with pytest.raises(ConnectionLost, match=r"^It exited\.$"):
            await request
    assert channel.lost.result() == "It exited."
    assert len(channel.sent) == 1


async def test_a_cancelled_request_is_forgotten() -> None:
    channel = FakeChannel()
    request = start(channel, 1)
    await asyncio.sleep(0)
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    channel.receive({"id": 1})
    channel.fail("It exited.")


def test_each_error_has_a_sentence() -> None:
    errors: list[ServerError] = [ConnectionLost("a."), HttpRefused("b.", status=500), SessionGone()]
    assert [error.sentence for error in errors] == ["a.", "b.", "It has ended the session."]
    assert len({PendingRequest(1, "ping"), PendingRequest(1, "ping")}) == 2

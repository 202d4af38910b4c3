"""One client's conversation: its requests, its cancellations, and requests to the client."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from modelplex.core.caller import Caller
from modelplex.mcp.clients.message_stream import MessageStream
from modelplex.mcp.clients.session import (
    FAILED,
    ClientConversation,
    RequestClient,
    answer,
    modern_client,
    start_all,
)
from modelplex.mcp.constants import INTERNAL_ERROR, METHOD_NOT_FOUND, Json
from tests.mcp.clients.scripted import ScriptedBackend, call, enveloped, request

BOUND = 5.0
CALLER = Caller(listener="unix:/s", kind="unix")


class Talk:
    """A conversation with its backend, and what was sent to the client."""

    def __init__(self) -> None:
        self.backend = ScriptedBackend()
        self.stream = MessageStream()
        self.conversation = ClientConversation(
            self.backend, CALLER, server=None, session="s", stream=self.stream
        )
        self.ended = 0

    def start(self, message: Json) -> bool:
        return self.conversation.start(message, self.stream, done=self.done)

    def done(self) -> None:
        self.ended += 1

    def cancel(self, id: Any) -> None:
        params = {"requestId": id}
        self.conversation.receive({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params})

    @property
    def sent(self) -> list[Any]:
        return [msgspec.json.decode(data) for _, data in self.stream.after(0)]

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(BOUND):
            while not holds():
                await asyncio.sleep(0)

    async def open(self, version: str = "2025-11-25") -> None:
        params: Json = {"protocolVersion": version, "capabilities": {"sampling": {}}}
        assert self.start(request("initialize", params, id="i"))
        await self.until(lambda: self.ended == 1)


async def test_initialize_sets_version_and_capabilities_and_opens_the_session() -> None:
    talk = Talk()
    await talk.open("2025-06-18")
    assert talk.conversation.open
    assert (talk.conversation.version, talk.conversation.capabilities) == ("2025-06-18", {"sampling": {}})
    assert talk.backend.seen == [("initialize", None), ("opened", None)]
    assert talk.start(request("initialize", {}, id=2))
    await talk.until(lambda: talk.ended == 2)
    assert "comes once" in talk.sent[-1]["error"]["message"]
    assert talk.backend.seen[-1] == ("opened", None), "the second did not reach the gateway"


async def test_an_id_that_is_running_is_not_started_again() -> None:
    talk = Talk()
    assert talk.start(call("hold"))
    assert not talk.start(request("ping"))
    assert talk.start(request("ping", id="1")), "the string is another id"
    talk.backend.go.set()
    await talk.until(lambda: talk.ended == 2)
    assert not talk.conversation.busy


async def test_a_cancelled_legacy_request_has_an_error_and_an_unknown_id_is_ignored() -> None:
    talk = Talk()
    talk.start(call("hold", id=7))
    await asyncio.wait_for(talk.backend.begun.wait(), BOUND)
    for other in (8, None, [7]):
        talk.cancel(other)
    assert talk.conversation.busy
    talk.cancel(7)
    await talk.until(lambda: talk.ended == 1)
    assert talk.backend.cancelled.is_set()
    assert talk.sent == [{"jsonrpc": "2.0", "id": 7, "error": {"code": 0, "message": "Request cancelled"}}]


async def test_a_request_to_the_client_gets_its_response() -> None:
    talk = Talk()
    await talk.open()
    for error in (None, {"code": 1, "message": "no"}):
        asking = asyncio.create_task(talk.conversation.send_request("roots/list", {}))
        await asyncio.sleep(0)
        question = talk.sent[-1]
        assert (question["method"], question["params"]) == ("roots/list", {})
        content: Json = {"result": {"roots": []}} if error is None else {"error": error}
        talk.conversation.receive({"jsonrpc": "2.0", "id": "gateway-99", **content})
        talk.conversation.receive({"jsonrpc": "2.0", "id": question["id"], **content})
        reply = await asyncio.wait_for(asking, BOUND)
        assert (reply.result, reply.error) == (content.get("result"), error)


async def test_a_request_to_the_client_that_is_given_up_is_cancelled_there() -> None:
    talk = Talk()
    asking = asyncio.create_task(talk.conversation.send_request("roots/list", {}))
    await asyncio.sleep(0)
    asking.cancel()
    await asyncio.wait([asking], timeout=BOUND)
    assert talk.sent[-1]["method"] == "notifications/cancelled"
    assert talk.sent[-1]["params"] == {"requestId": talk.sent[0]["id"]}


async def test_the_end_cancels_requests_and_fails_open_questions() -> None:
    talk = Talk()
    await talk.open()
    talk.start(call("hold", id=3))
    asking = asyncio.create_task(talk.conversation.send_request("roots/list", {}))
    await asyncio.wait_for(talk.backend.begun.wait(), BOUND)
    for _ in range(2):
        await asyncio.wait_for(talk.conversation.end(), BOUND)
    assert talk.backend.cancelled.is_set()
    assert (await asyncio.wait_for(asking, BOUND)).error == {
        "code": INTERNAL_ERROR,
        "message": "The client is gone.",
    }
    assert talk.backend.seen.count(("closed", None)) == 1
    later = await talk.conversation.send_request("roots/list", {})
    assert later.error is not None
    assert talk.stream.finished


async def test_waiting_for_requests_is_bounded() -> None:
    talk = Talk()
    await talk.conversation.wait_for_requests(60.0)
    talk.start(call("hold"))
    await talk.conversation.wait_for_requests(0.01)
    assert talk.conversation.busy
    talk.backend.go.set()
    await asyncio.wait_for(talk.conversation.wait_for_requests(60.0), BOUND)
    await talk.conversation.end()


async def test_a_modern_client_takes_no_requests() -> None:
    stream = MessageStream()
    client = modern_client(CALLER, enveloped(call("x"), capabilities={"sampling": {}}), stream)
    assert (client.era, client.version, client.session) == ("modern", "2026-07-28", "")
    assert client.capabilities == {"sampling": {}}
    reply = await client.send_request("roots/list", {})
    assert reply.error is not None
    assert reply.error["code"] == METHOD_NOT_FOUND
    client.send({"jsonrpc": "2.0", "method": "notifications/x"})
    assert stream.last == 1


async def test_an_unforeseen_error_ends_one_request_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    client = RequestClient(CALLER, "legacy", "2025-11-25", {}, MessageStream())
    with caplog.at_level(logging.ERROR, logger="modelplex.mcp"):
        reply = await answer(ScriptedBackend(), client, call("breaks"), server=None)
    assert reply.error == {"code": INTERNAL_ERROR, "message": FAILED}
    assert "nobody foresaw this" in caplog.text


async def test_a_batch_is_done_after_its_last_request() -> None:
    talk = Talk()
    await talk.open("2025-03-26")
    ended: list[int] = []
    messages = [
        call("hold", id=1),
        request("ping", id=1),
        request("ping", id=2),
        {"jsonrpc": "2.0", "method": "notifications/x"},
        {"nonsense": True},
        request("initialize", id=3),
    ]
    count = start_all(talk.conversation, messages, talk.stream, done=lambda: ended.append(talk.stream.last))
    assert count == 5
    await talk.until(lambda: talk.stream.last == 5)
    assert ended == []
    talk.backend.go.set()
    await talk.until(lambda: bool(ended))
    errors = [each["error"]["message"] for each in talk.sent if "error" in each]
    assert ["still running" in errors[0], "lacks" in errors[1], "comes once" in errors[2]] == [True] * 3
    only_notifications = [{"jsonrpc": "2.0", "method": "notifications/x"}]
    assert start_all(talk.conversation, only_notifications, talk.stream, done=talk.done) == 0
    assert talk.ended == 1


@pytest.mark.parametrize(
    ("version", "count", "taken"),
    [("2025-03-26", 1, True), ("2025-03-26", 4, True), ("2025-03-26", 0, False), ("2025-03-26", 5, False), ("2025-06-18", 1, False)],
)  # fmt: skip
async def test_a_batch_is_served_in_one_revision_within_a_limit(
    version: str, count: int, taken: bool
) -> None:
    talk = Talk()
    talk.conversation.version = version
    assert not talk.conversation.takes_batch([{}], limit=4), "the session is not open"
    await talk.open(version)
    assert talk.conversation.takes_batch([{}] * count, limit=4) is taken

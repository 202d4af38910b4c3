"""Legacy sessions over HTTP, byte by byte: docs/reference/mcp-protocol.md#legacy-http."""

from __future__ import annotations

import asyncio
import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from modelplex.mcp.clients.message_stream import REPLAY_MESSAGES
from tests.mcp.clients.scripted import (
    BOTH,
    BOUND,
    Event,
    Wire,
    call,
    place,
    progress,
    request,
)
from tests.mcp.clients.sessions import listen, until


async def settle() -> None:
    """Let what is ready run."""
    for _ in range(20):
        await asyncio.sleep(0)


async def some(wire: Wire, count: int) -> list[Event]:
    """So many events, or as many as there are."""
    events: list[Event] = []
    while len(events) < count and (event := await wire.event()) is not None:
        events.append(event)
    return events


@pytest.mark.parametrize("version", ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"])
async def test_a_session_begins_serves_and_ends(tmp_path: Path, version: str) -> None:
    async with place(tmp_path) as there:
        headers = await there.session(version)
        found = await there.post({"jsonrpc": "2.0", "method": "notifications/initialized"}, headers)
        assert (found.status, found.body) == (202, b"")
        answer = await there.post(request("tools/list"), headers)
        assert answer.headers["content-type"] == "application/json"
        assert answer.json["result"]["tools"]
        assert (there.backend.parties[-1].version, there.backend.parties[-1].era) == (version, "legacy")
        assert there.backend.parties[-1].capabilities == {"sampling": {}}
        assert (await there.post(b"", headers, method="DELETE")).status == 200
        assert (await there.post(request("tools/list"), headers)).status == 404
        assert ("closed", None) in there.backend.seen


async def test_an_unknown_version_is_answered_with_the_newest(tmp_path: Path) -> None:
    async with place(tmp_path) as there:
        answer = await there.post(request("initialize", {"protocolVersion": "1999-01-01"}))
        assert answer.json["result"]["protocolVersion"] == "2025-11-25"
        assert len(answer.headers["mcp-session-id"]) == 32


async def test_a_request_without_its_session_is_a_400_and_with_an_unknown_one_a_404(tmp_path: Path) -> None:
    async with place(tmp_path) as there:
        headers = await there.session()
        assert (await there.post(request("ping"))).status == 400
        assert (
            await there.post(request("ping"), [BOTH, ("mcp-protocol-version", "2025-06-18")])
        ).status == 400
        for method in ("POST", "GET", "DELETE"):
            unknown = [BOTH, ("mcp-session-id", "f" * 32)]
            assert (await there.post(request("ping"), unknown, method=method)).status == 404
        assert (await there.post(request("ping"), headers)).json["result"] == {}


async def test_a_call_that_runs_on_without_its_client_counts_as_body_memory(tmp_path: Path) -> None:
    async with place(tmp_path) as there:
        headers = await there.session()
        bodies = there.process.app.bodies
        wire = await there.open(call("one__hold", {"text": "x" * 5000}), headers)
        await asyncio.wait_for(there.backend.begun.wait(), BOUND)
        await wire.close()
        await until(lambda: not there.process.traffic.running)
        assert bodies.used > 5000
        there.backend.go.set()
        await until(lambda: not bodies.used)
        batch = [call("one__hold", {}, id=8), {"jsonrpc": "2.0", "method": "notifications/x"}]
        assert (await there.post(batch, headers)).status == 400
        await until(lambda: not bodies.used)


async def test_a_version_that_is_not_served_is_a_400_in_a_session_too(tmp_path: Path) -> None:
    async with place(tmp_path) as there:
        headers = [*(await there.session())[:2], ("mcp-protocol-version", "1999-01-01")]
        assert (await there.post(request("ping"), headers)).status == 400


async def test_errors_of_the_gateway_are_a_200_and_malformed_messages_a_400(tmp_path: Path) -> None:
    async with place(tmp_path) as there:
        headers = await there.session()
        unknown = await there.post(request("no/such"), headers)
        assert (unknown.status, unknown.code) == (200, -32601)
        bodies: list[Any] = [b"{", {"jsonrpc": "2.0", "id": {}, "method": "ping"}, 3, [request("ping")], []]
        for body in bodies:
            assert (await there.post(body, headers)).status == 400


async def test_a_client_that_reads_json_alone_gets_json(tmp_path: Path) -> None:
    async with place(tmp_path) as there:
        asked = request("initialize", {"protocolVersion": "2025-06-18"})
        first = await there.post(asked, [("accept", "application/json")])
        headers = [("accept", "application/json"), ("mcp-session-id", first.headers["mcp-session-id"])]
        answer = await there.post(call("one__tell", {"times": 3}), headers)
        assert answer.headers["content-type"] == "application/json"
        assert answer.json["result"]["content"][0]["text"] == "told"
        assert (await there.post(request("ping"), [("accept", "text/plain"), headers[1]])).status == 406
        assert (await there.post(request("ping"), [headers[1]])).status == 200
        events = await there.open(request("ping"), [("accept", "text/event-stream"), headers[1]])
        assert (await events.head())[1]["content-type"] == "text/event-stream"


async def test_a_resumed_stream_has_the_missed_messages_only(tmp_path: Path) -> None:
    async with place(tmp_path) as there:
        headers = await there.session()
        wire = await there.open(call("one__tell", {"times": 3, "hold": True}, id=5), headers)
        await wire.head()
        primed, first, _second, _third = await some(wire, 4)
        assert (primed.data, primed.id) == ("", "2-0")
        assert first.id == "2-1"
        await wire.close()
        other = await there.post(call("one__echo", {"other": 1}, id=6), headers)
        assert other.json["id"] == 6
        there.backend.go.set()
        await settle()
        assert not there.backend.cancelled.is_set()
        again = await listen(there, headers, ("last-event-id", "2-1"))
        missed = [each for each in await some(again, 6) if each.data]
        assert [each.id for each in missed] == ["2-2", "2-3", "2-4", "2-5"]
        assert [each.data.get("params", {}).get("progress") for each in missed] == [1, 2, "last", None]
        assert missed[-1].data["id"] == 5


async def test_a_stream_resumed_while_it_runs_moves_to_the_new_connection(tmp_path: Path) -> None:
    async with place(tmp_path) as there:
        headers = await there.session()
        wire = await there.open(call("one__tell", {"times": 1, "hold": True}), headers)
        await wire.head()
        await some(wire, 2)
        again = await listen(there, headers, ("last-event-id", "2-1"))
        await some(again, 1)
        there.backend.go.set()
        assert [each.id for each in await some(again, 2)] == ["2-2", "2-3"]
        async with asyncio.timeout(BOUND):
            assert await wire.reader.read() == b"", "the old connection ends without the end of its body"


@pytest.mark.parametrize("id", ["9-1", "2-99", "2-x", "junk", "2-" + "9" * 40])
async def test_a_stream_that_is_not_kept_cannot_be_resumed(tmp_path: Path, id: str) -> None:
    async with place(tmp_path) as there:
        headers = await there.session()
        wire = await there.open(call("one__tell", {"times": 1}), headers)
        await wire.whole()
        answer = await there.post(b"", [*headers, ("last-event-id", id)], method="GET")
        assert answer.status == 400, answer


async def test_the_kept_messages_of_a_stream_have_a_limit(tmp_path: Path) -> None:
    async with place(tmp_path) as there:
        headers = await there.session()
        wire = await there.open(call("one__tell", {"times": 3 * REPLAY_MESSAGES}), headers)
        await wire.whole()
        early = await there.post(b"", [*headers, ("last-event-id", "2-1")], method="GET")
        assert early.status == 400
        late = await listen(there, headers, ("last-event-id", f"2-{3 * REPLAY_MESSAGES - 1}"))
        assert [each.id for each in await some(late, 3)] == ["2-768", "2-769"]


async def test_a_cancellation_cancels_that_request_of_that_session(tmp_path: Path) -> None:
    async with place(tmp_path) as there:
        mine, theirs = await there.session(), await there.session()
        wire = await there.open(call("one__hold", id=3), mine)
        async with asyncio.timeout(BOUND):
            await there.backend.begun.wait()
        cancel = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 3}}
        assert (await there.post(cancel, theirs)).status == 202
        await settle()
        assert not there.backend.cancelled.is_set()
        assert (await there.post(cancel, mine)).status == 202
        async with asyncio.timeout(1):
            await there.backend.cancelled.wait()
        assert (await wire.whole()).json["error"]["message"] == "Request cancelled"
        assert (await there.post(cancel, mine)).status == 202


async def test_a_servers_question_is_on_the_stream_of_its_request_and_answered_by_a_post(
    tmp_path: Path,
) -> None:
    async with place(tmp_path) as there:
        mine, theirs = await there.session(), await there.session()
        standing = await listen(there, mine)
        wire = await there.open(call("one__ask"), mine)
        await wire.head()
        _, asked = await some(wire, 2)
        assert asked.data["method"] == "sampling/createMessage"
        answer = {"jsonrpc": "2.0", "id": asked.data["id"], "result": {"role": "assistant", "x": [1]}}
        assert (await there.post({**answer, "result": {"forged": 1}}, theirs)).status == 202
        assert (await there.post(answer, mine)).status == 202
        (found,) = await some(wire, 1)
        assert json.loads(found.data["result"]["content"][0]["text"]) == {
            "result": answer["result"],
            "error": None,
        }
        channel = next(iter(there.backend.channels.values()))
        channel({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"})
        _, changed = await some(standing, 2)
        assert changed.data["method"] == "notifications/tools/list_changed", "nothing else came here"


async def test_a_session_has_one_standing_stream_which_waits_for_its_reader(tmp_path: Path) -> None:
    async with place(tmp_path) as there:
        headers = await there.session()
        (channel,) = there.backend.channels.values()
        channel(progress("early", 0))
        wire = await listen(there, headers)
        assert (await some(wire, 2))[1].data["params"]["progressToken"] == "early"
        second = await there.post(b"", headers, method="GET")
        assert second.status == 409
        assert (
            await there.post(b"", [("accept", "application/json"), *headers[1:]], method="GET")
        ).status == 406
        await wire.close()
        await until(
            lambda: not any(each.stream.connected for each in there.front._sessions._sessions.values())
        )
        channel(progress("late", 0))
        again = await listen(there, headers, ("last-event-id", "0-1"))
        assert (await some(again, 2))[1].data["params"]["progressToken"] == "late"


async def test_an_id_that_still_runs_is_refused(tmp_path: Path) -> None:
    async with place(tmp_path) as there:
        headers = await there.session()
        await there.open(call("one__hold", id=1), headers)
        async with asyncio.timeout(BOUND):
            await there.backend.begun.wait()
        assert (await there.post(request("ping", id=1), headers)).status == 400
        assert (await there.post(request("ping", id="1"), headers)).json["id"] == "1"


async def test_batches_are_served_in_one_revision_only(tmp_path: Path) -> None:
    batch = [
        request("ping", id=1),
        {"jsonrpc": "2.0", "method": "notifications/x"},
        request("no/such", id="b"),
    ]
    async with place(tmp_path) as there:
        headers = await there.session("2025-03-26")
        answer = await there.post(batch, headers)
        assert sorted(str(each["id"]) for each in answer.json) == ["1", "b"]
        assert (await there.post(batch[1:2], headers)).status == 202
        mixed = await there.post([request("initialize", id=1), {"nonsense": 1}], headers)
        assert [each["error"]["code"] for each in mixed.json] == [-32600, -32600]
        assert (await there.post([], headers)).status == 400
        assert (await there.post([request("ping", id=n) for n in range(65)], headers)).status == 400
        events = await there.open([call("one__tell", {"times": 1}, id=1), request("ping", id=2)], headers)
        assert (await events.head())[1]["content-type"] == "text/event-stream"
        kinds = [each.data.get("id") for each in await some(events, 4)]
        assert sorted(map(str, kinds)) == ["1", "2", "None"]
        for version in ("2024-11-05", "2025-06-18", "2025-11-25"):
            assert (await there.post(batch, await there.session(version))).status == 400
        assert (await there.post(batch)).status == 400


async def test_http_sse_of_2024_11_05_has_a_stream_and_an_endpoint(tmp_path: Path) -> None:
    async with place(tmp_path) as there:
        wire = await there.open(b"", method="GET", path="/mcp/v1/servers/one/sse")
        assert (await wire.head())[0] == 200
        (endpoint,) = await some(wire, 1)
        assert endpoint.name == "endpoint"
        assert endpoint.data.startswith("/mcp/v1/servers/one/sse?sessionId=")

        async def post(message: Any, **more: Any) -> int:
            return (await there.post(message, path=endpoint.data, **more)).status

        ids = itertools.count(1)
        assert await post(request("initialize", {"protocolVersion": "2024-11-05"}, id=next(ids))) == 202
        assert await post({"jsonrpc": "2.0", "method": "notifications/initialized"}) == 202
        assert await post(call("one__tell", {"times": 1}, id=next(ids))) == 202
        found = [each.data.get("id") for each in await some(wire, 3)]
        assert found == [1, None, 2]
        assert ("tools/call", "one") in there.backend.seen
        assert await post(request("ping"), unix=True) == 404
        assert await post(b"{") == 400
        assert (await there.post(request("initialize"), path="/mcp/v1/sse")).status == 405
        await post(call("one__hold", id=next(ids)))
        async with asyncio.timeout(BOUND):
            await there.backend.begun.wait()
            await wire.close()
            await there.backend.cancelled.wait()
        await until(lambda: there.front.sessions == 0)
        assert await post(request("ping")) == 404

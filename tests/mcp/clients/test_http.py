"""The era without sessions, byte by byte: docs/reference/mcp-protocol.md#modern-http, M9, M10, M11,
M35.
"""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import pytest

from modelplex.config.settings import McpConfig
from modelplex.mcp.constants import META_SUBSCRIPTION, META_VERSION
from tests.mcp.clients.scripted import BOTH, BOUND, call, enveloped, modern_headers, place, request

LISTEN = enveloped(request("subscriptions/listen", {"notifications": {"toolsListChanged": True}}))


def b64(text: str) -> str:
    return f"=?base64?{base64.b64encode(text.encode()).decode()}?="


def without(headers: list[tuple[str, str]], *names: str) -> list[tuple[str, str]]:
    return [each for each in headers if each[0] not in names]


async def test_both_eras_list_the_same_tools_at_the_same_time_on_one_url(tmp_path: Path) -> None:
    async with place(tmp_path) as there:
        headers = await there.session()
        legacy, modern = await asyncio.gather(
            there.post(request("tools/list"), headers), there.modern(request("tools/list"))
        )
        assert legacy.json == modern.json
        assert [tool["name"] for tool in modern.json["result"]["tools"]] == ["one__echo", "one__where"]
        assert "mcp-session-id" not in modern.headers


async def test_each_check_has_its_status_and_code(tmp_path: Path) -> None:
    good = enveloped(call("one__echo"))
    headers = modern_headers(good)
    batch: list[Any] = [good]
    response: Any = {"jsonrpc": "2.0", "id": 1, "result": {}}
    no_version = enveloped(call("one__echo"))
    del no_version["params"]["_meta"][META_VERSION]
    no_meta = call("one__echo")
    odd = enveloped(call("one__echo"), version="2099-01-01")
    odd_headers = [*without(headers, "mcp-protocol-version"), ("mcp-protocol-version", "2099-01-01")]
    rows: list[tuple[Any, list[tuple[str, str]], int, int | None]] = [
        (good, [*headers, ("origin", "https://evil.example")], 403, -32600),
        (good, [*without(headers, "accept"), ("accept", "application/json")], 406, -32600),
        (good, [*without(headers, "accept"), ("accept", "text/event-stream")], 406, -32600),
        (good, without(headers, "accept"), 406, -32600),
        (
            good,
            [*without(headers, "accept"), ("accept", "application/json, text/event-stream;q=0")],
            406,
            -32600,
        ),
        (b"{nonsense", headers, 400, -32700),
        ({"jsonrpc": "2.0", "method": "notifications/cancelled"}, headers, 202, None),
        (batch, headers, 400, -32600),
        (response, headers, 400, -32600),
        ({**good, "jsonrpc": "1.0"}, headers, 400, -32600),
        ({**good, "id": None}, headers, 400, -32600),
        ({**good, "id": True}, headers, 400, -32600),
        ({**good, "method": 3}, headers, 400, -32600),
        ({**good, "params": []}, headers, 400, -32600),
        (good, [*headers, ("mcp-protocol-version", "2026-07-28")], 400, -32020),
        (good, [*headers, ("mcp-method", "tools/call")], 400, -32020),
        (good, [*headers, ("mcp-name", "one__echo")], 400, -32020),
        (no_version, headers, 400, -32602),
        (no_meta, headers, 400, -32602),
        (good, without(headers, "mcp-protocol-version"), 400, -32020),
        (good, without(headers, "mcp-method"), 400, -32020),
        (good, without(headers, "mcp-name"), 400, -32020),
        (odd, headers, 400, -32020),
        (odd, odd_headers, 400, -32022),
        (enveloped(request("no/such")), modern_headers(request("no/such")), 404, -32601),
        (enveloped(request("initialize")), modern_headers(request("initialize")), 404, -32601),
        (enveloped(call("one__needy")), modern_headers(call("one__needy")), 400, -32021),
        (enveloped(call("one__none")), modern_headers(call("one__none")), 400, -32602),
        (enveloped(call("one__own")), modern_headers(call("one__own")), 200, -32050),
    ]
    async with place(tmp_path) as there:
        for body, sent, status, code in rows:
            answer = await there.post(body, sent)
            assert answer.status == status, (body, sent, answer)
            assert code is None or answer.code == code, (body, sent, answer)
            if status == 202:
                assert answer.body == b""
        unreadable = await there.post(b"{nonsense", headers)
        assert unreadable.json["id"] is None
        unknown = await there.post(odd, odd_headers)
        assert unknown.json["error"]["data"]["requested"] == "2099-01-01"
        assert "2026-07-28" in unknown.json["error"]["data"]["supported"]
        for method in ("GET", "DELETE", "PUT"):
            answer = await there.post(b"", headers, method=method)
            assert (answer.status, answer.headers["allow"]) == (405, "POST")


async def test_of_two_faults_the_earlier_check_is_told(tmp_path: Path) -> None:
    """A request with every fault, mended one by one from the front."""
    message: Any = enveloped(call("one__where", {"region": "a"}), version="2099-01-01")
    meta = message["params"].pop("_meta")
    headers = [
        ("origin", "https://evil.example"),
        ("accept", "application/json"),
        ("mcp-protocol-version", "1999"),
    ]
    headers += [("mcp-protocol-version", "1999"), ("mcp-method", "x"), ("mcp-name", "y")]
    async with place(tmp_path) as there:

        async def told(body: Any) -> tuple[int, int]:
            answer = await there.post(body, headers)
            return answer.status, answer.code

        assert await told(b"nonsense") == (403, -32600)
        headers.pop(0)
        assert await told(b"nonsense") == (406, -32600)
        headers[0] = BOTH
        assert await told(b"nonsense") == (400, -32700)
        assert await told([message]) == (400, -32600)
        assert await told(message) == (400, -32020)  # sent twice
        headers.pop(1)
        assert await told(message) == (400, -32602)
        message["params"]["_meta"] = meta
        assert await told(message) == (400, -32020)  # the version is another
        headers[1] = ("mcp-protocol-version", "2099-01-01")
        assert await told(message) == (400, -32020)  # the method is another
        headers[2] = ("mcp-method", "tools/call")
        assert await told(message) == (400, -32020)  # the name is another
        headers[3] = ("mcp-name", "one__where")
        assert await told(message) == (400, -32022)
        headers[1] = ("mcp-protocol-version", "2026-07-28")
        meta[META_VERSION] = "2026-07-28"
        assert await told(message) == (400, -32020)  # an argument is not repeated
        headers.append(("mcp-param-region", "a"))
        assert (await there.post(message, headers)).status == 200


async def test_a_name_in_base64_is_read_and_one_that_is_not_canonical_refused(tmp_path: Path) -> None:
    message = enveloped(call("one__echö"))
    headers = without(modern_headers(call("one__echo")), "mcp-name")
    async with place(tmp_path) as there:
        answer = await there.post(message, [*headers, ("mcp-name", b64("one__echö"))])
        assert answer.code == -32602, "the name was compared, and is then unknown"
        plain = enveloped(call("one__echo"))
        assert (await there.post(plain, [*headers, ("mcp-name", b64("one__echo"))])).status == 200
        for broken in ("=?base64?b25lX19lY2hv?", "=?base64?b25lX19lY2hv", "=?base64?b25lX19lY2h=?="):
            assert (await there.post(plain, [*headers, ("mcp-name", broken)])).code == -32020


@pytest.mark.parametrize(
    ("arguments", "headers", "status"),
    [
        ({"region": "eu"}, [("mcp-param-region", "eu")], 200),
        ({"region": "eu"}, [("Mcp-Param-REGION", "eu")], 200),
        ({"region": "é "}, [("mcp-param-region", b64("é "))], 200),
        ({"region": "eu"}, [("mcp-param-region", "us")], 400),
        ({"region": "eu"}, [], 400),
        ({"region": "eu"}, [("mcp-param-region", "eu"), ("mcp-param-region", "eu")], 400),
        ({}, [("mcp-param-region", "eu")], 400),
        ({"region": None}, [], 200),
        ({"region": None}, [("mcp-param-region", "null")], 400),
        ({"count": 42}, [("mcp-param-count", "42")], 200),
        ({"count": 42}, [("mcp-param-count", "042")], 200),
        ({"count": 42}, [("mcp-param-count", "42.0")], 200),
        ({"count": 42.0}, [("mcp-param-count", "42")], 200),
        ({"count": 9007199254740993}, [("mcp-param-count", "9007199254740992")], 400),
        ({"count": 42}, [("mcp-param-count", "4_2")], 400),
        ({"deep": {"on": True}}, [("mcp-param-on", "true")], 200),
        ({"deep": {"on": True}}, [("mcp-param-on", "True")], 400),
        ({"region": "eu"}, [("mcp-param-region", "eu"), ("mcp-param-other", "x")], 200),
    ],
)
async def test_headers_that_repeat_arguments_say_the_same(
    tmp_path: Path, arguments: dict[str, Any], headers: list[tuple[str, str]], status: int
) -> None:
    message = enveloped(call("one__where", arguments))
    async with place(tmp_path) as there:
        answer = await there.post(message, [*modern_headers(message), *headers])
        assert answer.status == status, answer
        assert status == 200 or answer.code == -32020


async def test_an_answer_becomes_events_at_the_first_notification(tmp_path: Path) -> None:
    message = enveloped(call("one__tell", {"times": 2}, id="ä"))
    async with place(tmp_path) as there:
        wire = await there.open(message, modern_headers(message))
        status, headers = await wire.head()
        assert (status, headers["content-type"], headers["x-accel-buffering"]) == (
            200,
            "text/event-stream",
            "no",
        )
        events = [await wire.event() for _ in range(4)]
        assert [each and each.data.get("method") for each in events] == ["notifications/progress"] * 2 + [
            None,
            None,
        ]
        assert events[2] is not None
        assert events[2].data["id"] == "ä"
        assert events[2].id is None
        assert events[3] is None


async def test_a_silent_answer_becomes_events_and_is_kept_alive(tmp_path: Path) -> None:
    message = enveloped(call("one__hold"))
    async with place(tmp_path, silence=0.02) as there:
        wire = await there.open(message, modern_headers(message))
        assert (await wire.head())[1]["content-type"] == "text/event-stream"
        async with asyncio.timeout(BOUND):
            assert b":" in await wire.reader.readuntil(b":\n\n\r\n")
            assert b":" in await wire.reader.readuntil(b":\n\n\r\n")
        there.backend.go.set()
        event = await wire.event()
        assert event is not None
        assert event.data["result"]["content"][0]["text"] == "held"


@pytest.mark.parametrize("begun", [True, False])
async def test_closing_the_answer_cancels_the_call(tmp_path: Path, begun: bool) -> None:
    message = enveloped(call("one__hold"))
    async with place(tmp_path, silence=0.01 if begun else 15) as there:
        wire = await there.open(message, modern_headers(message))
        async with asyncio.timeout(BOUND):
            await there.backend.begun.wait()
            if begun:
                await wire.head()
            await wire.close()
            async with asyncio.timeout(1):
                await there.backend.cancelled.wait()
        assert (await there.modern(request("tools/list"))).status == 200


async def test_a_subscription_is_a_stream_at_once_and_ends_with_its_client(tmp_path: Path) -> None:
    async with place(tmp_path) as there:
        wire = await there.open(LISTEN, modern_headers(LISTEN))
        assert (await wire.head())[1]["content-type"] == "text/event-stream"
        event = await wire.event()
        assert event is not None
        assert event.data["params"]["_meta"] == {META_SUBSCRIPTION: 1}
        await wire.close()
        async with asyncio.timeout(1):
            await there.backend.cancelled.wait()


async def test_when_the_gateway_stops_subscriptions_end(tmp_path: Path) -> None:
    async with place(tmp_path) as there:
        wire = await there.open(LISTEN, modern_headers(LISTEN))
        await wire.head()
        assert await wire.event() is not None
        there.front.drain()
        assert await wire.event() is None


async def test_two_clients_with_equal_ids_and_tokens_get_their_own_answers(tmp_path: Path) -> None:
    async with place(tmp_path) as there:
        first = enveloped(call("one__tell", {"times": 1, "token": "same", "hold": True}, id=7))
        second = enveloped(call("one__echo", {"mine": True}, id=7))
        wire = await there.open(first, modern_headers(first))
        await wire.head()
        assert await wire.event() is not None
        other = await there.post(second, modern_headers(second))
        assert json.loads(other.json["result"]["content"][0]["text"]) == {"mine": True}
        there.backend.go.set()
        rest = [await wire.event() for _ in range(3)]
        assert [each and each.data.get("id") for each in rest] == [None, 7, None]


async def test_unknown_members_of_a_message_reach_the_hub_and_come_back(tmp_path: Path) -> None:
    arguments = {"futureField": {"$ref": "#/x", "n": [1.5, 10**18, None]}, "ü": "\u2028"}
    async with place(tmp_path) as there:
        answer = await there.modern(call("one__echo", arguments))
        assert json.loads(answer.json["result"]["content"][0]["text"]) == arguments


async def test_limits_name_the_fault(tmp_path: Path) -> None:
    config = McpConfig(enabled=True, max_message=2000, max_depth=8)
    async with place(tmp_path, config=config) as there:
        large = await there.modern(call("one__echo", {"text": "x" * 2000}))
        assert large.status == 413
        assert "[mcp] max_message" in large.json["error"]["message"]
        deep: Any = 1
        for _ in range(8):
            deep = {"d": [deep]}
        refused = await there.modern(call("one__echo", {"deep": deep}))
        assert (refused.status, refused.code) == (400, -32600)
        assert "max_depth" in refused.json["error"]["message"]
        abyss = b'{"jsonrpc":"2.0","id":1,"method":"a","params":{"x":' + b"[" * 900 + b"]" * 900 + b"}}"
        assert (await there.post(abyss, modern_headers(request("a")))).code == -32600
        assert (await there.modern(call("one__echo", {"wide": [{}] * 20}))).status == 200


async def test_who_says_no_version_and_has_no_session_is_told_the_versions(tmp_path: Path) -> None:
    async with place(tmp_path) as there:
        answer = await there.post(request("tools/list"))
        assert (answer.status, answer.code, answer.json["id"]) == (400, -32600, 1)
        assert "2026-07-28" in answer.json["error"]["message"]
        assert "2025-11-25" in answer.json["error"]["data"]["supported"]


async def test_what_nobody_foresaw_ends_one_request_and_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with place(tmp_path) as there:
        headers = await there.session()
        for answer in (
            await there.modern(call("one__breaks")),
            await there.post(call("one__breaks"), headers),
        ):
            assert (answer.status, answer.code) == (200, -32603)
            assert "nobody foresaw" not in answer.body.decode()
        assert (await there.modern(request("tools/list"))).status == 200
    assert "nobody foresaw" in caplog.text

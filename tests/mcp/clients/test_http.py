"""The era without sessions, byte by byte: docs/reference/mcp-protocol.md#modern-http, M9, M10, M11,
M35.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modelplex.config.mcp_settings import McpConfig
from modelplex.core.caller import Caller
from modelplex.mcp.clients.http import McpHttp
from modelplex.mcp.clients.http_request import McpRequest
from modelplex.mcp.constants import META_SUBSCRIPTION, META_VERSION
from tests.gateways import gateway
from tests.mcp.clients.scripted import (
    BOTH,
    BOUND,
    ScriptedBackend,
    call,
    enveloped,
    modern_headers,
    place,
    request,
)

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


async def test_the_first_failed_check_is_reported(tmp_path: Path) -> None:
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

        async def found(body: Any) -> tuple[int, int]:
            answer = await there.post(body, headers)
            return answer.status, answer.code

        assert await found(b"nonsense") == (403, -32600)
        headers.pop(0)
        assert await found(b"nonsense") == (406, -32600)
        headers[0] = BOTH
        assert await found(b"nonsense") == (400, -32700)
        assert await found([message]) == (400, -32600)
        assert await found(message) == (400, -32020)  # sent twice
        headers.pop(1)
        assert await found(message) == (400, -32602)
        message["params"]["_meta"] = meta
        assert await found(message) == (400, -32020)  # the version is another
        headers[1] = ("mcp-protocol-version", "2099-01-01")
        assert await found(message) == (400, -32020)  # the method is another
        headers[2] = ("mcp-method", "tools/call")
        assert await found(message) == (400, -32020)  # the name is another
        headers[3] = ("mcp-name", "one__where")
        assert await found(message) == (400, -32022)
        headers[1] = ("mcp-protocol-version", "2026-07-28")
        meta[META_VERSION] = "2026-07-28"
        assert await found(message) == (400, -32020)  # an argument is not repeated
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


async def test_unknown_members_of_a_message_reach_the_gateway_and_come_back(tmp_path: Path) -> None:
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


async def test_a_request_without_version_and_session_gets_the_versions(tmp_path: Path) -> None:
    async with place(tmp_path) as there:
        answer = await there.post(request("tools/list"))
        assert (answer.status, answer.code, answer.json["id"]) == (400, -32600, 1)
        assert "2026-07-28" in answer.json["error"]["message"]
        assert "2025-11-25" in answer.json["error"]["data"]["supported"]


async def test_an_unforeseen_error_ends_one_request_and_is_logged(
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


LIST = enveloped(request("tools/list"))


HEADERS = modern_headers(LIST)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:1", "[::1]", "localhost:11435"])
async def test_tcp_serves_its_own_names(tmp_path: Path, host: str) -> None:
    async with place(tmp_path) as there:
        assert (await there.post(LIST, [*HEADERS, ("host", host)])).status == 200
        assert (
            await there.post(LIST, [*HEADERS, ("host", host), ("origin", "http://localhost:3")])
        ).status == 200


@pytest.mark.parametrize(
    "header", [("host", "evil.example"), ("origin", "https://evil.example"), ("origin", "null")]
)
@pytest.mark.parametrize("path", ["/mcp/v1", "/mcp/v1/tools"])
async def test_tcp_refuses_a_foreign_host_and_origin(
    tmp_path: Path, header: tuple[str, str], path: str
) -> None:
    async with place(tmp_path) as there:
        answer = await there.post(LIST, [*HEADERS, header], path=path)
        assert answer.status == 403
        assert ("jsonrpc" in answer.json) == (path == "/mcp/v1")
        assert there.backend.seen == []


async def test_a_socket_takes_any_host_and_no_origin(tmp_path: Path) -> None:
    async with place(tmp_path) as there:
        for host in ("anything.example", "", "localhost"):
            assert (await there.post(LIST, [*HEADERS, ("host", host)], unix=True)).status == 200
        for origin in ("http://localhost", "null"):
            answer = await there.post(LIST, [*HEADERS, ("origin", origin)], unix=True)
            assert (answer.status, answer.code) == (403, -32600)


class Heard:
    """The caller's side, with what was answered."""

    started = stopping = False

    def __init__(self) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []

    async def body(self, *, limit: int, declared: int | None) -> bytes:
        return b'{"jsonrpc":"2.0","id":1,"method":"initialize"}'

    async def respond(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        self.status, self.headers = status, headers

    async def start(self, headers: list[tuple[bytes, bytes]]) -> None: ...
    async def write(self, data: bytes) -> None: ...
    async def finish(self) -> None: ...
    def abort(self) -> None: ...
    def keep_body(self) -> Callable[[], None]:
        return lambda: None

    def cancel_on_disconnect(self) -> None: ...
    def ignore_disconnect(self) -> None: ...


@pytest.mark.parametrize(
    ("listener", "agent", "everybody", "status"),
    [
        ("tcp:127.0.0.1:11435", "", False, 200),
        ("tcp:127.9.9.9:1", "", False, 200),
        ("tcp:[::1]:11435", "", False, 200),
        ("tcp:0.0.0.0:11435", "", False, 401),
        ("tcp:192.168.1.2:11435", "", False, 401),
        ("tcp:[::]:11435", "", False, 401),
        ("tcp:0.0.0.0:11435", "coder", False, 200),
        ("tcp:0.0.0.0:11435", "", True, 200),
    ],
)
async def test_beyond_loopback_a_token_is_needed(
    listener: str, agent: str, everybody: bool, status: int
) -> None:
    front = McpHttp(
        ScriptedBackend(),
        McpConfig(enabled=True),
        ids=lambda: "a" * 32,
        clock=lambda: 0.0,
        open_to_all=everybody,
    )
    door = Heard()
    caller = Caller(listener=listener, kind="tcp", agent=agent)
    headers = [(b"accept", b"*/*")]
    asked = McpRequest(method="POST", path="/mcp/v1", query=b"", headers=headers, caller=caller, length=None)
    await front.answer(asked, door)
    await front.close()
    assert door.status == status
    assert ((b"www-authenticate", b"Bearer") in door.headers) == (status == 401)


@pytest.mark.parametrize("path", ["/mcp/v1", "/mcp/v1/tools", "/mcp/v1/tools/a/call", "/mcp/other"])
async def test_a_disabled_endpoint_explains_how_to_enable_it(tmp_path: Path, path: str) -> None:
    async with gateway("[mcp]\nenabled = false\n", folder=tmp_path) as running:
        answer = await running.ask("POST", path, {})
        assert answer.status == 404
        assert "[mcp] enabled" in answer.error["message"]


async def test_unknown_servers_and_paths_are_a_404(tmp_path: Path) -> None:
    async with place(tmp_path) as there:
        for path in (
            "/mcp/v1/servers/nobody",
            "/mcp/v1/else",
            "/mcp/",
            "/mcp/v1/servers",
            "/mcp/v1/servers/one/x",
        ):
            assert (await there.post(LIST, HEADERS, path=path)).status == 404, path
        for path in ("/mcp/v1/", "/mcp/v1/servers/one", "/mcp/v1/servers/one/"):
            assert (await there.post(LIST, HEADERS, path=path)).status == 200, path
        assert there.backend.seen == [("tools/list", None), ("tools/list", "one"), ("tools/list", "one")]


async def test_open_streams_do_not_delay_the_stop(tmp_path: Path) -> None:
    """With a patience of 30 s, which is for calls: a stream that never ends by itself does not use
    it up.
    """
    async with place(tmp_path, server="drain_timeout = 30") as there:
        headers = await there.session()
        standing = await there.open(b"", headers, method="GET")
        listening = enveloped(request("subscriptions/listen"))
        listen = await there.open(listening, modern_headers(listening))
        older = await there.open(b"", method="GET", path="/mcp/v1/sse")
        for wire in (standing, listen, older):
            assert (await wire.head())[0] == 200
        there.process.stop()
        for wire in (standing, listen, older):
            while await wire.event() is not None:
                pass


async def test_a_call_that_outlasts_the_drain_timeout_gets_an_error(tmp_path: Path) -> None:
    async with place(tmp_path, server="drain_timeout = 0.1") as there:
        held = enveloped(call("one__hold"))
        modern = await there.open(held, modern_headers(held))
        headers = await there.session()
        legacy = await there.open(call("one__hold"), headers)
        async with asyncio.timeout(BOUND):
            while len(there.backend.parties) < 3:
                await asyncio.sleep(0.005)
            there.process.stop()
        for wire in (modern, legacy):
            answer = await wire.whole()
            assert (answer.status, answer.code) == (503, -32603)


async def test_many_clients_at_once_get_their_own_responses(tmp_path: Path) -> None:
    async with place(tmp_path) as there:
        headers = await there.session()

        async def one(number: int) -> None:
            message = call("one__echo", {"n": number}, id=number)
            answer = await (there.modern(message) if number % 2 else there.post(message, headers))
            assert answer.json["id"] == number
            assert answer.json["result"]["content"][0]["text"] == f'{{"n": {number}}}'

        await asyncio.gather(*(one(number) for number in range(200)))
        assert "0 endless" in repr(there.front)

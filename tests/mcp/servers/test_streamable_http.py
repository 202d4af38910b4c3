import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest

from modelplex.config.secret import Secret
from modelplex.config.settings import McpConfig, McpServer
from modelplex.mcp.constants import Json, McpReply, Unavailable
from modelplex.mcp.servers import ManagedServer, ServerEra, ServerEvent, ServerRuntime

from .conftest import text_of, until
from .remote import TOOL, Remote, Seen, Stream, error, legacy, modern, remote, result, text

CALL: Json = {"name": "echo", "arguments": {}}


@asynccontextmanager
async def asked(
    it: Remote, *, path: str = "/mcp", headers: dict[str, str] | None = None, **limits: Any
) -> AsyncGenerator[ManagedServer]:
    """A handle of that server."""
    url = f"http://127.0.0.1:{it.port}{path}"
    extra: Json = {"timeout": limits.pop("timeout", 60.0), "idempotent": limits.pop("idempotent", ())}
    config = McpServer(
        name="far",
        url=Secret(url),
        headers={name: Secret(value) for name, value in (headers or {}).items()},
        **extra,
    )
    events: list[ServerEvent] = []
    server = ManagedServer(
        config, limits=McpConfig(**limits), runtime=ServerRuntime(random=lambda: 0.0, on_event=events.append)
    )
    try:
        yield server
    finally:
        await server.close()


Asked = Callable[..., AbstractAsyncContextManager[ManagedServer]]


async def test_a_modern_request_repeats_its_body_in_headers_and_the_configs_are_sent() -> None:
    async with remote(modern) as it, asked(it, headers={"Authorization": "Bearer k"}) as server:
        arguments: Json = {"region": "köln", "deep": {"n": 7}, "other": "x"}
        reply = await server.request("tools/call", {"name": "echo", "arguments": arguments})
        assert text_of(reply) == "called"
        headers = it.of("tools/call")[0].headers
        assert headers["mcp-method"] == "tools/call"
        assert headers["mcp-name"] == "echo"
        assert headers["mcp-protocol-version"] == "2026-07-28"
        assert headers["mcp-param-region"] == "=?base64?a8O2bG4=?="
        assert headers["mcp-param-n"] == "7"
        assert headers["authorization"] == "Bearer k"
        assert "mcp-session-id" not in headers
        assert server.server_catalog.known_era == ServerEra("modern", "2026-07-28")


async def test_a_tool_whose_header_annotation_is_not_allowed_is_left_out() -> None:
    async with remote(modern) as it, asked(it) as server:
        assert [tool["name"] for tool in (await server.lists()).tools] == ["echo"]


async def test_a_stream_brings_progress_before_the_answer() -> None:
    async def answer(seen: Seen, stream: Stream) -> None:
        if seen.said != "tools/call":
            await modern(seen, stream)
            return
        await stream.events()
        token = seen.message["params"]["_meta"]["progressToken"]
        params: Json = {"progressToken": token, "progress": 1}
        await stream.event({"jsonrpc": "2.0", "method": "notifications/progress", "params": params})
        await stream.event(text(seen, "done"))
        await stream.gone()

    async with remote(answer) as it, asked(it) as server:
        told: list[Json] = []
        reply = await server.request(
            "tools/call", {**CALL, "_meta": {"progressToken": "t"}}, on_notification=told.append
        )
        assert text_of(reply) == "done"
        assert told[0]["params"] == {"progressToken": "t", "progress": 1}


async def test_cancelling_a_modern_call_closes_its_stream_and_posts_nothing() -> None:
    closed = asyncio.Event()

    async def answer(seen: Seen, stream: Stream) -> None:
        if seen.said != "tools/call":
            await modern(seen, stream)
            return
        await stream.gone()
        closed.set()

    async with remote(answer) as it, asked(it) as server:
        call = asyncio.ensure_future(server.request("tools/call", CALL))
        await until(lambda: bool(it.of("tools/call")))
        call.cancel()
        await asyncio.wait_for(closed.wait(), 1)
        assert not it.of("notifications/cancelled")


async def test_cancelling_a_legacy_call_tells_the_server() -> None:
    async def answer(seen: Seen, stream: Stream) -> None:
        await (stream.gone() if seen.said == "tools/call" else legacy(seen, stream))

    async with remote(answer) as it, asked(it) as server:
        call = asyncio.ensure_future(server.request("tools/call", CALL))
        await until(lambda: bool(it.of("tools/call")))
        call.cancel()
        await until(lambda: bool(it.of("notifications/cancelled")))
        assert (
            it.of("notifications/cancelled")[0].message["params"]["requestId"]
            == it.of("tools/call")[0].message["id"]
        )


async def test_a_legacy_session_is_kept_named_and_ended() -> None:
    async with remote(legacy) as it:
        async with asked(it) as server:
            catalog = await server.lists()
            assert (catalog.era, catalog.version) == ("legacy", "2025-06-18")
            assert text_of(await server.request("tools/call", CALL)) == "called"
            called = it.of("tools/call")[0].headers
            assert called["mcp-session-id"] == "session-1"
            assert called["mcp-protocol-version"] == "2025-06-18"
            assert "mcp-method" not in called
            assert "mcp-session-id" not in it.of("initialize")[0].headers
            await until(lambda: any(seen.method == "GET" for seen in it.seen))
        assert [seen.headers["mcp-session-id"] for seen in it.seen if seen.method == "DELETE"] == [
            "session-1"
        ]


@pytest.mark.parametrize("idempotent", [(), ("echo",)])
async def test_a_forgotten_session_is_made_anew_and_only_safe_requests_are_repeated(
    idempotent: tuple[str, ...],
) -> None:
    forgotten = False

    async def answer(seen: Seen, stream: Stream) -> None:
        nonlocal forgotten
        if forgotten and seen.said in {"tools/call", "resources/read"}:
            forgotten = False
            await stream.json(error(seen, -32600), 404)
        else:
            await legacy(seen, stream)

    async with remote(answer) as it, asked(it, idempotent=idempotent) as server:
        await server.lists()
        forgotten = True
        await server.request("resources/read", {"uri": "a://b"})
        assert len(it.of("initialize")) == 2
        assert len(it.of("resources/read")) == 2
        forgotten = True
        if idempotent:
            await server.request("tools/call", CALL)
            assert len(it.of("tools/call")) == 2
        else:
            with pytest.raises(Unavailable, match="ended the session") as lost:
                await server.request("tools/call", CALL)
            assert lost.value.reason == "lost"
            assert len(it.of("tools/call")) == 1
            assert text_of(await server.request("tools/call", CALL)) == "called"


async def test_a_broken_legacy_stream_is_gone_on_with_after_the_time_that_the_server_asks() -> None:
    async def answer(seen: Seen, stream: Stream) -> None:
        if seen.said == "tools/call":
            await stream.events()
            await stream.event("", id="e1", retry=10)
        elif seen.method == "GET" and seen.headers.get("last-event-id") == "e1":
            await stream.events()
            await stream.event(text(it.of("tools/call")[0], "after all"), id="e2")
            await stream.gone()
        else:
            await legacy(seen, stream)

    async with remote(answer) as it, asked(it) as server:
        assert text_of(await server.request("tools/call", CALL)) == "after all"
        assert len(it.of("tools/call")) == 1


async def test_a_stream_that_ends_without_an_answer_is_a_lost_call_and_not_a_lost_server() -> None:
    async def answer(seen: Seen, stream: Stream) -> None:
        if seen.said == "tools/call":
            await stream.events()
        else:
            await modern(seen, stream)

    async with remote(answer) as it, asked(it) as server:
        with pytest.raises(Unavailable) as lost:
            await server.request("tools/call", CALL)
        assert lost.value.reason == "lost"
        assert server.state == "ready"
        assert len(it.of("tools/call")) == 1


async def test_the_stream_beside_the_requests_brings_changes_and_goes_on_after_a_break() -> None:
    grown: list[Json] = []

    async def answer(seen: Seen, stream: Stream) -> None:
        if seen.method == "GET":
            await stream.events()
            number = len([one for one in it.seen if one.method == "GET"])
            grown.append({**TOOL, "name": f"new{number}"})
            changed: Json = {"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}
            await stream.event(changed, id=f"g{number}", retry=10)
            if number > 1:
                await stream.gone()
        elif seen.said == "tools/list":
            await stream.json(result(seen, {"tools": [TOOL, *grown]}))
        else:
            await legacy(seen, stream)

    async with remote(answer) as it, asked(it) as server:
        told: list[Json] = []
        server.listen(lambda _, message: told.append(message))
        await server.lists()
        await until(lambda: len(told) >= 2)
        assert server.catalog is not None
        assert [tool["name"] for tool in server.catalog.tools] == ["echo", "new1", "new2"]
        assert [seen.headers.get("last-event-id") for seen in it.seen if seen.method == "GET"] == [None, "g1"]


async def test_a_question_on_a_requests_own_stream_is_that_calls_however_many_there_are() -> None:
    answers: dict[object, Json] = {}
    both = asyncio.Event()

    async def answer(seen: Seen, stream: Stream) -> None:
        if seen.said == "tools/call":
            name = seen.message["params"]["arguments"]["n"]
            await stream.events()
            await stream.event(
                {"jsonrpc": "2.0", "id": f"q{name}", "method": "elicitation/create", "params": {"n": name}}
            )
            await both.wait()
            await stream.event(text(seen, str(answers[f"q{name}"]["result"]["for"])))
        elif seen.method == "POST" and not seen.said:
            answers[seen.message["id"]] = seen.message
            await stream.empty(202)
            if len(answers) == 2:
                both.set()
        else:
            await legacy(seen, stream)

    def answering(n: int) -> Callable[[str, Json], Any]:
        async def asked_of(method: str, params: Json) -> McpReply:
            assert params == {"n": n}
            return McpReply(result={"for": n})

        return asked_of

    async with remote(answer) as it, asked(it) as server:
        calls = (
            server.request("tools/call", {"name": "echo", "arguments": {"n": n}}, on_request=answering(n))
            for n in range(2)
        )
        assert [text_of(reply) for reply in await asyncio.gather(*calls)] == ["0", "1"]


async def test_a_header_mismatch_refreshes_the_schema_and_retries_once() -> None:
    old: Json = {"name": "echo", "inputSchema": {"type": "object"}}

    async def answer(seen: Seen, stream: Stream) -> None:
        if seen.said == "tools/list":
            await stream.json(result(seen, {"tools": [old if len(it.of("tools/list")) == 1 else TOOL]}))
        elif seen.said == "tools/call" and "mcp-param-region" not in seen.headers:
            await stream.json(error(seen, -32020), 400)
        else:
            await modern(seen, stream)

    async with remote(answer) as it, asked(it) as server:
        reply = await server.request("tools/call", {"name": "echo", "arguments": {"region": "eu"}})
        assert text_of(reply) == "called"
        assert len(it.of("tools/call")) == 2
        reply = await server.request("tools/call", {"name": "unknown", "arguments": {"region": "eu"}})
        assert reply.error is not None
        assert reply.error["code"] == -32020
        assert len(it.of("tools/call")) == 4


@pytest.mark.parametrize(
    ("status", "reason"),
    [(401, "unauthorized"), (403, "unauthorized"), (500, "start_failed"), (503, "start_failed")],
)
async def test_a_refusal_is_no_verdict_on_the_era(status: int, reason: str) -> None:
    async def answer(seen: Seen, stream: Stream) -> None:
        await stream.json({"detail": "no"}, status)

    async with remote(answer) as it, asked(it) as server:
        with pytest.raises(Unavailable) as failed:
            await server.lists()
        assert failed.value.reason == reason
        assert not it.of("initialize")
        assert server.server_catalog.known_era is None


async def test_a_server_that_wants_oauth_is_named_as_one() -> None:
    challenge = 'Bearer resource_metadata="https://example.com/.well-known/oauth-protected-resource"'

    async def answer(seen: Seen, stream: Stream) -> None:
        await stream.json({"error": "invalid_token"}, 401, www_authenticate=challenge)

    async with remote(answer) as it, asked(it) as server:
        with pytest.raises(Unavailable, match="OAuth") as failed:
            await server.lists()
        assert failed.value.reason == "unauthorized"
        assert "example.com" not in failed.value.sentence


async def test_a_refused_connection_backs_off() -> None:
    async with remote(modern) as it:
        pass
    async with asked(it) as server:
        with pytest.raises(Unavailable, match="refused the connection") as failed:
            await server.lists()
        assert "127.0.0.1" not in str(failed.value)  # agents read it
        assert server.state == "backoff"
        assert server.server_catalog.known_era is None


async def test_a_redirect_to_another_origin_is_not_followed() -> None:
    async with remote(modern) as other:

        async def away(seen: Seen, stream: Stream) -> None:
            await stream.empty(307, location=other.url)

        async with remote(away) as it, asked(it, headers={"Authorization": "Bearer k"}) as server:
            with pytest.raises(Unavailable, match="redirects to another address"):
                await server.lists()
            assert not other.seen


async def test_a_redirect_within_the_origin_is_followed() -> None:
    async def answer(seen: Seen, stream: Stream) -> None:
        await (modern(seen, stream) if seen.target == "/mcp/" else stream.empty(308, location="/mcp/"))

    async with remote(answer) as it, asked(it) as server:
        assert text_of(await server.request("tools/call", CALL)) == "called"


async def test_a_body_and_an_event_beyond_the_bound_are_not_read_whole() -> None:
    async def answer(seen: Seen, stream: Stream) -> None:
        if seen.said != "tools/call":
            await modern(seen, stream)
        elif seen.message["params"]["arguments"].get("stream"):
            await stream.events()
            for _ in range(200):
                stream._writer.write(b"data: " + b"x" * 10_000)
                await stream._writer.drain()
        else:
            await stream.json(text(seen, "x" * seen.message["params"]["arguments"]["size"]))

    async with remote(answer) as it, asked(it, max_result=10_000) as server:
        huge = await server.request("tools/call", {"name": "echo", "arguments": {"size": 900_000}})
        assert huge.error is not None
        assert huge.error["data"] == {"reason": "limit"}
        large = await server.request("tools/call", {"name": "echo", "arguments": {"size": 20_000}})
        assert large.result is not None
        assert large.result["isError"] is True
        with pytest.raises(Unavailable, match="an event of more than"):
            await server.request("tools/call", {"name": "echo", "arguments": {"stream": True}})


class Oldest:
    """HTTP with SSE: what is posted is answered on the one stream."""

    def __init__(self, endpoint: str = "/messages?id=1") -> None:
        self.endpoint = endpoint
        self.stream: Stream | None = None

    async def __call__(self, seen: Seen, stream: Stream) -> None:
        if seen.method == "GET":
            await stream.events()
            await stream.event(self.endpoint, name="endpoint")
            self.stream = stream
            await stream.gone()
        elif seen.target == "/mcp":
            await stream.empty(405)
        else:
            await stream.empty(202)
            assert self.stream is not None
            if seen.said == "initialize":
                value: Json = {
                    "protocolVersion": "2024-11-05",
                    "capabilities": {"tools": {}},
                    "serverInfo": {"name": "o"},
                }
                await self.stream.event(result(seen, value))
            elif "id" in seen.message:
                await self.stream.event(
                    result(seen, {"tools": [TOOL]}) if seen.said == "tools/list" else text(seen, "old")
                )


async def test_the_oldest_form_is_found_by_probing_and_remembered() -> None:
    async with remote(Oldest()) as it, asked(it) as server:
        assert (await server.lists()).version == "2024-11-05"
        assert text_of(await server.request("tools/call", CALL)) == "old"
        assert server.server_catalog.known_era == ServerEra("legacy", "2024-11-05", sse=True)
        assert {seen.target for seen in it.of("tools/call")} == {"/messages?id=1"}


async def test_an_endpoint_of_another_origin_is_refused() -> None:
    async with (
        remote(modern) as other,
        remote(Oldest(f"http://127.0.0.1:{other.port}/steal")) as it,
        asked(it) as server,
    ):
        with pytest.raises(Unavailable, match="another origin"):
            await server.lists()
        assert not other.seen


async def test_the_end_of_the_oldest_forms_stream_fails_what_is_in_flight() -> None:
    async def answer(seen: Seen, stream: Stream) -> None:
        if seen.said == "tools/call":
            await stream.empty(202)
            assert oldest.stream is not None
            oldest.stream._writer.close()
        else:
            await oldest(seen, stream)

    oldest = Oldest()
    async with remote(answer) as it, asked(it) as server:
        await server.lists()
        with pytest.raises(Unavailable) as lost:
            await server.request("tools/call", CALL)
        assert lost.value.reason == "lost"
        assert server.state == "backoff"


async def test_a_modern_servers_subscription_stream_is_held_and_opened_again() -> None:
    async def answer(seen: Seen, stream: Stream) -> None:
        if seen.said == "server/discover":
            capabilities: Json = {"tools": {"listChanged": True}, "resources": {"subscribe": True}}
            await stream.json(
                result(seen, {"supportedVersions": ["2026-07-28"], "capabilities": capabilities})
            )
        elif seen.said == "subscriptions/listen":
            wish = seen.message["params"]["notifications"]
            meta: Json = {"io.modelcontextprotocol/subscriptionId": seen.message["id"]}
            await stream.events()
            acknowledged: Json = {"notifications": wish, "_meta": meta}
            await stream.event(
                {
                    "jsonrpc": "2.0",
                    "method": "notifications/subscriptions/acknowledged",
                    "params": acknowledged,
                }
            )
            for uri in wish.get("resourceSubscriptions", []):
                updated: Json = {"uri": uri, "_meta": meta}
                await stream.event(
                    {"jsonrpc": "2.0", "method": "notifications/resources/updated", "params": updated}
                )
            await stream.gone()
        elif seen.said.startswith("resources"):
            await stream.json(result(seen, {}))
        else:
            await modern(seen, stream)

    async with remote(answer) as it, asked(it) as server:
        told: list[Json] = []
        server.listen(lambda _, message: told.append(message))
        await server.lists()
        await server.watch(frozenset({"a://1"}))
        await server.watch(frozenset({"a://1", "a://2"}))
        await until(lambda: len(told) >= 3)
        wishes = [seen.message["params"]["notifications"] for seen in it.of("subscriptions/listen")]
        assert wishes[-1] == {"toolsListChanged": True, "resourceSubscriptions": ["a://1", "a://2"]}
        assert told[-1]["params"] == {"uri": "a://2"}  # our own subscription's id is not in it


async def test_a_call_in_flight_fails_when_its_scope_ends() -> None:
    async def answer(seen: Seen, stream: Stream) -> None:
        await (stream.gone() if seen.said == "tools/call" else modern(seen, stream))

    async with remote(answer) as it, asked(it) as server:
        call = asyncio.ensure_future(server.request("tools/call", CALL, scope="s"))
        await until(lambda: bool(it.of("tools/call")))
        await server.end_scope("s")
        with pytest.raises(Unavailable) as lost:
            await call
        assert lost.value.reason == "lost"

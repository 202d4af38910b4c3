"""HTTP requests to a server: redirects, refusals, limits."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator

import pytest

from modelplex.config.mcp_settings import McpConfig
from modelplex.http_client import HttpClient
from modelplex.mcp.constants import Json, Unavailable
from modelplex.mcp.servers.background import BackgroundTasks
from modelplex.mcp.servers.channel import ConnectionLost, HttpRefused
from modelplex.mcp.servers.endpoint_url import parse_endpoint_url
from modelplex.mcp.servers.http_endpoint import (
    MAX_BACKGROUND,
    MAX_REDIRECTS,
    ConnectionNotMade,
    HttpEndpoint,
    discard,
    refused,
    send_in_background,
)
from modelplex.mcp.servers.messages import MessageReader

from .channels import FakeChannel
from .conftest import text_of
from .remote import CALL, Remote, Seen, Stream, modern, remote, server_of, text


async def test_a_server_that_accepts_no_credential_is_named_as_such() -> None:
    challenge = 'Bearer resource_metadata="https://example.com/.well-known/oauth-protected-resource"'

    async def respond(seen: Seen, stream: Stream) -> None:
        await stream.json({"error": "invalid_token"}, 401, www_authenticate=challenge)

    async with remote(respond) as it, server_of(it) as server:
        with pytest.raises(Unavailable, match="accepts no credential") as failed:
            await server.lists()
        assert failed.value.reason == "unauthorized"
        assert "example.com" not in failed.value.sentence


async def test_a_redirect_to_another_origin_is_not_followed() -> None:
    async with remote(modern) as other:

        async def away(seen: Seen, stream: Stream) -> None:
            await stream.empty(307, location=other.url)

        async with remote(away) as it, server_of(it, headers={"Authorization": "Bearer k"}) as server:
            with pytest.raises(Unavailable, match="redirects to another address"):
                await server.lists()
            assert not other.seen


async def test_a_redirect_within_the_origin_is_followed() -> None:
    async def respond(seen: Seen, stream: Stream) -> None:
        await (modern(seen, stream) if seen.target == "/mcp/" else stream.empty(308, location="/mcp/"))

    async with remote(respond) as it, server_of(it) as server:
        assert text_of(await server.request("tools/call", CALL)) == "called"


async def test_a_body_and_an_event_above_the_limit_are_not_read_whole() -> None:
    async def respond(seen: Seen, stream: Stream) -> None:
        if seen.rpc_method != "tools/call":
            await modern(seen, stream)
        elif seen.message["params"]["arguments"].get("stream"):
            await stream.events()
            for _ in range(200):
                stream._writer.write(b"data: " + b"x" * 10_000)
                await stream._writer.drain()
        else:
            await stream.json(text(seen, "x" * seen.message["params"]["arguments"]["size"]))

    async with remote(respond) as it, server_of(it, max_result=10_000) as server:
        huge = await server.request("tools/call", {"name": "echo", "arguments": {"size": 900_000}})
        assert huge.error is not None
        assert huge.error["data"] == {"reason": "limit"}
        large = await server.request("tools/call", {"name": "echo", "arguments": {"size": 20_000}})
        assert large.result is not None
        assert large.result["isError"] is True
        with pytest.raises(Unavailable, match="an event of more than"):
            await server.request("tools/call", {"name": "echo", "arguments": {"stream": True}})


@contextlib.asynccontextmanager
async def endpoint_of(it: Remote, **headers: str) -> AsyncGenerator[HttpEndpoint]:
    client = HttpClient()
    try:
        url = parse_endpoint_url(it.url)
        yield HttpEndpoint(client, url, headers=headers, messages=MessageReader(McpConfig()))
    finally:
        await client.aclose()


async def test_headers_of_the_request_replace_those_of_the_config() -> None:
    async def respond(seen: Seen, stream: Stream) -> None:
        await stream.empty(202)

    async with (
        remote(respond) as it,
        endpoint_of(it, Accept="text/html", Authorization="Bearer k") as endpoint,
    ):
        await discard(await endpoint.post({}, {"accept": "application/json"}))
        headers = it.seen[0].headers
        assert (headers["accept"], headers["authorization"]) == ("application/json", "Bearer k")


async def test_a_redirect_loop_ends() -> None:
    async def respond(seen: Seen, stream: Stream) -> None:
        await stream.empty(307, location="/mcp")

    async with remote(respond) as it, endpoint_of(it) as endpoint:
        with pytest.raises(HttpRefused, match="in a circle"):
            await endpoint.post({}, {})
        assert len(it.seen) == MAX_REDIRECTS + 1


async def test_errors_of_the_connection_do_not_name_the_address() -> None:
    async with remote(modern) as it:
        pass
    async with endpoint_of(it) as endpoint:
        with pytest.raises(ConnectionNotMade, match=r"^It refused the connection\.$"):
            await endpoint.post({}, {})
        with pytest.raises(ConnectionLost, match="what HTTP does not allow"):
            await endpoint.post({}, {"x": "a\r\nb"})


@pytest.mark.parametrize(("value", "seconds"), [("7", 7.0), ("soon", None), ("9" * 9, None), ("-1", None)])
async def test_a_refusal_has_the_status_and_the_retry_time(value: str, seconds: float | None) -> None:
    async def respond(seen: Seen, stream: Stream) -> None:
        await stream.empty(503, retry_after=value)

    async with remote(respond) as it, endpoint_of(it) as endpoint:
        error = refused(await endpoint.post({}, {}))
        assert (error.sentence, error.status) == ("It answered with status 503.", 503)
        assert error.retry_after == seconds


@pytest.mark.parametrize(
    ("body", "expected"),
    [('{"error": {"code": 1}}', True), ('{"error": 1}', False), ("[]", False), ("{", False)],
)
async def test_only_a_json_rpc_error_is_read_of_an_error_response(body: str, expected: bool) -> None:
    async def respond(seen: Seen, stream: Stream) -> None:
        await stream.head(400)
        stream._writer.write(body.encode())

    async with remote(respond) as it, endpoint_of(it) as endpoint:
        message = await endpoint.read_error(await endpoint.post({}, {}))
        assert (message is not None) == expected


async def test_background_messages_above_the_limit_are_dropped() -> None:
    proceed = asyncio.Event()

    class SlowChannel(FakeChannel):
        async def send(self, message: Json) -> None:
            await proceed.wait()
            await super().send(message)

    channel, tasks = SlowChannel(), BackgroundTasks()
    for number in range(MAX_BACKGROUND + 10):
        send_in_background(channel, {"id": number}, tasks)
    proceed.set()
    await asyncio.wait_for(tasks.wait(), 5)
    assert [message["id"] for message in channel.sent] == list(range(MAX_BACKGROUND))

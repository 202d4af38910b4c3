"""Servers over HTTP+SSE."""

import pytest

from modelplex.mcp.constants import Unavailable

from .remote import CALL, Seen, SseServer, Stream, modern, remote, server_of


async def test_an_endpoint_of_another_origin_is_refused() -> None:
    async with (
        remote(modern) as other,
        remote(SseServer(f"http://127.0.0.1:{other.port}/steal")) as it,
        server_of(it) as server,
    ):
        with pytest.raises(Unavailable, match="another origin"):
            await server.lists()
        assert not other.seen


async def test_the_end_of_the_stream_fails_calls_in_flight() -> None:
    async def respond(seen: Seen, stream: Stream) -> None:
        if seen.rpc_method == "tools/call":
            await stream.empty(202)
            assert sse.stream is not None
            sse.stream._writer.close()
        else:
            await sse(seen, stream)

    sse = SseServer()
    async with remote(respond) as it, server_of(it) as server:
        await server.lists()
        with pytest.raises(Unavailable) as lost:
            await server.request("tools/call", CALL)
        assert lost.value.reason == "lost"
        assert server.state == "backoff"

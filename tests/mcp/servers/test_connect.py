"""Opening a session by the config."""

import pytest

from modelplex.config.mcp_settings import McpConfig, McpServer
from modelplex.config.secret import Secret
from modelplex.http_client import HttpClient
from modelplex.mcp.constants import Json, Unavailable
from modelplex.mcp.servers.channel import ConnectionLost
from modelplex.mcp.servers.connect import http_channel, open_session
from modelplex.mcp.servers.legacy_sse import SseChannel
from modelplex.mcp.servers.messages import MessageReader
from modelplex.mcp.servers.streamable_http import HttpChannel

from .channels import FakeChannel
from .conftest import Start


async def test_a_missing_program_is_named_as_such(start: Start) -> None:
    scripted = start(extra={"command": "no-such-program-anywhere"})
    with pytest.raises(Unavailable, match="no such program"):
        await scripted.server.lists()


def server_at(url: str) -> McpServer:
    return McpServer(name="far", url=Secret(url))


async def test_a_channel_that_cannot_be_opened_is_closed() -> None:
    channel = FakeChannel()
    channel.open_error = ConnectionLost("It refused.")
    unassigned: list[Json] = []
    with pytest.raises(ConnectionLost, match="It refused"):
        await open_session(
            channel, server_at("https://h"), single_client=False, on_unassigned=unassigned.append
        )
    assert channel.closed


async def test_the_transport_follows_the_url_and_the_era() -> None:
    client, messages = HttpClient(), MessageReader(McpConfig())
    for sse, kind in ((False, HttpChannel), (True, SseChannel)):
        channel = http_channel(server_at("https://host/mcp"), messages, client=client, sse=sse)
        assert type(channel) is kind
        assert "https" not in repr(channel)
    with pytest.raises(ConnectionLost) as lost:
        http_channel(server_at("ftp://secret"), messages, client=client, sse=False)
    assert "secret" not in lost.value.sentence

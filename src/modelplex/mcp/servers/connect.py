"""Opens a session with one tool server by its config: over a process, or over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from modelplex.config.mcp_settings import McpServer
from modelplex.http_client import HttpClient
from modelplex.mcp.constants import Json
from modelplex.mcp.oauth.source import ServerTokens
from modelplex.mcp.servers.channel import Channel, ConnectionLost
from modelplex.mcp.servers.endpoint_url import parse_endpoint_url
from modelplex.mcp.servers.http_endpoint import HttpEndpoint
from modelplex.mcp.servers.legacy_sse import SseChannel
from modelplex.mcp.servers.messages import MessageReader
from modelplex.mcp.servers.process_table import ProcessTable, environment, resolved
from modelplex.mcp.servers.session import ServerSession, client_capabilities
from modelplex.mcp.servers.stdio import ServerCommand, StdioChannel, WriteLine
from modelplex.mcp.servers.streamable_http import HttpChannel


async def open_session(
    channel: Channel, config: McpServer, *, single_client: bool, on_unassigned: Callable[[Json], None]
) -> ServerSession:
    """Open a channel. Raises ConnectionLost or HttpRefused."""
    session = ServerSession(
        channel,
        declared=client_capabilities(config.allow, config.roots),
        roots=config.roots,
        single_client=single_client,
        on_unassigned=on_unassigned,
    )
    try:
        await channel.open()
    except BaseException:
        await asyncio.shield(asyncio.ensure_future(session.close()))
        raise
    return session


def server_command(config: McpServer, environ: Mapping[str, str]) -> ServerCommand | None:
    """How a server is started; None if it has no command, or there is no such program. Blocks for a
    few `stat`s.
    """
    if config.command is None:
        return None
    env = environment(environ, {name: value.reveal() for name, value in config.env.items()})
    program = resolved(config.command, environ=env)
    if program is None:
        return None
    argv = (program, *(arg.reveal() for arg in config.args))
    return ServerCommand(argv=argv, env=env, cwd=config.cwd, network=config.network)


async def stdio_channel(
    config: McpServer,
    messages: MessageReader,
    *,
    environ: Mapping[str, str],
    children: ProcessTable,
    write_line: WriteLine,
) -> StdioChannel:
    """A channel to a new process, not started yet. Raises ConnectionLost if there is no such
    program.
    """
    command = await asyncio.to_thread(server_command, config, environ)
    if command is None:
        raise ConnectionLost("There is no such program, or it is not executable.")
    return StdioChannel(command, children=children, messages=messages, write_line=write_line)


def http_channel(
    config: McpServer,
    messages: MessageReader,
    *,
    client: HttpClient,
    sse: bool,
    tokens: ServerTokens | None = None,
) -> Channel:
    """A channel to the server's URL; `sse` is HTTP+SSE of 2024-11-05. Raises ConnectionLost if the
    URL is not valid.
    """
    try:
        url = parse_endpoint_url("" if config.url is None else config.url.reveal())
    except ValueError as error:
        raise ConnectionLost(str(error)) from None
    endpoint = HttpEndpoint(
        client,
        url,
        headers={name: value.reveal() for name, value in config.headers.items()},
        messages=messages,
        tokens=tokens,
    )
    return SseChannel(endpoint) if sse else HttpChannel(endpoint)

"""Makes the channel to one tool server from its config: a process, or an HTTP endpoint."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from modelplex.config.settings import McpConfig, McpServer
from modelplex.http_client import HttpClient
from modelplex.mcp.servers.address import parse_address
from modelplex.mcp.servers.legacy_sse import SseChannel
from modelplex.mcp.servers.processes import ProcessTable, environment, resolved
from modelplex.mcp.servers.session import Channel, ConnectionLost
from modelplex.mcp.servers.stdio import ServerCommand, StdioChannel, WriteLine
from modelplex.mcp.servers.streamable_http import HttpChannel, HttpEndpoint


async def stdio_channel(
    config: McpServer,
    limits: McpConfig,
    *,
    environ: Mapping[str, str],
    children: ProcessTable,
    hide: Callable[[bytes], bytes],
    write_line: WriteLine,
) -> StdioChannel:
    """A channel to a new process, not started yet. Raises ConnectionLost if there is no such
    program.
    """
    assert config.command is not None
    env = environment(environ, {name: value.reveal() for name, value in config.env.items()})
    program = await asyncio.to_thread(resolved, config.command, environ=env)
    if program is None:
        raise ConnectionLost("There is no such program, or none that may be executed.")
    command = ServerCommand(
        argv=(program, *(arg.reveal() for arg in config.args)),
        env=env,
        cwd=config.cwd,
        network=config.network,
    )
    return StdioChannel(
        command,
        children=children,
        max_result=limits.max_result,
        cuts=limits.oversized == "cut",
        hide=hide,
        write_line=write_line,
    )


def http_channel(
    config: McpServer,
    limits: McpConfig,
    *,
    client: HttpClient,
    hide: Callable[[bytes], bytes],
    sse: bool,
) -> Channel:
    """A channel to the server's URL; `sse` is the HTTP+SSE form of 2024-11-05. Raises
    ConnectionLost if the URL is not valid.
    """
    try:
        address = parse_address("" if config.url is None else config.url.reveal())
    except ValueError as error:
        raise ConnectionLost(str(error)) from None
    endpoint = HttpEndpoint(
        client,
        address,
        headers={name: value.reveal() for name, value in config.headers.items()},
        max_result=limits.max_result,
        cuts=limits.oversized == "cut",
        hide=hide,
    )
    return SseChannel(endpoint) if sse else HttpChannel(endpoint)

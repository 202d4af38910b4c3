"""What is below /mcp/: from the app to the front of the tools, with who may ask looked at first.

Above it stands the app; below it mcp/front, which knows the protocol. Here alone is known what Host
and Origin mean there: on TCP what they mean everywhere, though told with the status that the
protocol has for it; on a socket no page can be the caller, so that an Origin is somebody who relays
one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modelplex.core.caller import Caller
from modelplex.core.errors import ModelplexError
from modelplex.mcp.clients.http import McpHttp, refuse_path
from modelplex.mcp.clients.http_request import McpRequest
from modelplex.server.origin import Hosts
from modelplex.server.response_writer import ResponseWriter

NOT_ENABLED = (
    "MCP is not enabled here: the host sets [mcp] enabled = true and names its tool servers in [mcp] servers."
)
NO_ORIGIN = "Policy: this socket serves no web page, and the request has an Origin."


async def answer_tools(
    front: McpHttp | None,
    scope: Mapping[str, Any],
    door: ResponseWriter,
    *,
    caller: Caller,
    hosts: Hosts,
    host: str | None,
    origin: str | None,
    length: int | None,
) -> None:
    """The whole of one request below /mcp/. `front` is None where it is not enabled."""
    path: str = scope["path"]
    if caller.kind == "tcp":
        try:
            hosts.check(host, origin)
        except ModelplexError as error:
            await refuse_path(path, 403, error.message, door)
            return
    elif origin is not None:
        await refuse_path(path, 403, NO_ORIGIN, door)
        return
    if front is None:
        await refuse_path(path, 404, NOT_ENABLED, door)
        return
    asked = McpRequest(
        method=scope["method"],
        path=path,
        query=scope["query_string"],
        headers=scope["headers"],
        caller=caller,
        length=length,
    )
    await front.answer(asked, door)

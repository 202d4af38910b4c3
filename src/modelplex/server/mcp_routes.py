"""Routes below /mcp/: checks Host and Origin, then hands the request to mcp/clients/http.

On TCP they are checked as for every other path, and refused with the status that MCP requires. On a
socket no web page can be the caller, so a request with an Origin was relayed for one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modelplex.core.errors import ModelplexError
from modelplex.mcp.clients.http import McpHttp, refuse_path
from modelplex.mcp.clients.http_request import McpRequest
from modelplex.server.origin import Hosts
from modelplex.server.request_head import RequestHead
from modelplex.server.response_writer import ResponseWriter

NOT_ENABLED = (
    "MCP is not enabled here: the host sets [mcp] enabled = true and names its tool servers in [mcp] servers."
)
NO_ORIGIN = "Policy: this socket serves no web page, and the request has an Origin."


async def serve_mcp(
    mcp: McpHttp | None,
    scope: Mapping[str, Any],
    response: ResponseWriter,
    *,
    head: RequestHead,
    hosts: Hosts,
) -> None:
    """Serve one request below /mcp/. `mcp` is None where it is not enabled."""
    if head.caller.kind == "tcp":
        try:
            hosts.check(head.host, head.origin)
        except ModelplexError as error:
            await refuse_path(head.path, 403, error.message, response)
            return
    elif head.origin is not None:
        await refuse_path(head.path, 403, NO_ORIGIN, response)
        return
    if mcp is None:
        await refuse_path(head.path, 404, NOT_ENABLED, response)
        return
    request = McpRequest(
        method=head.method,
        path=head.path,
        query=scope["query_string"],
        headers=scope["headers"],
        caller=head.caller,
        length=head.length,
    )
    await mcp.answer(request, response)

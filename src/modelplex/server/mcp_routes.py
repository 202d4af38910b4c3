"""Routes below /mcp/: checks Host and Origin, then hands the request to mcp/clients/http.

Imports the rest of mcp for a refusal only: where MCP is not enabled, nothing else needs it.

On TCP they are checked as for every other path, and refused with the status that MCP requires. On a
socket no web page can be the caller, so a request with an Origin was relayed for one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelplex.core.caller import Caller
from modelplex.core.errors import ModelplexError
from modelplex.mcp.clients.http_request import McpRequest
from modelplex.server.http_exchange import HttpExchange
from modelplex.server.origin import Hosts
from modelplex.server.response_writer import ResponseWriter

if TYPE_CHECKING:
    from modelplex.mcp.clients.http import McpHttp

NOT_ENABLED = (
    "MCP is not enabled here: the host sets [mcp] enabled = true and names its tool servers in [mcp] servers."
)
NO_ORIGIN = "Policy: this socket serves no web page, and the request has an Origin."


async def serve_mcp(
    mcp: McpHttp | None,
    exchange: HttpExchange,
    response: ResponseWriter,
    *,
    caller: Caller,
    hosts: Hosts,
) -> None:
    """Serve one request below /mcp/. `mcp` is None where it is not enabled."""
    head = exchange.head.facts
    if caller.kind == "tcp":
        try:
            hosts.check(head.host, head.origin)
        except ModelplexError as error:
            await _refuse(head.path, 403, error.message, response)
            return
    elif head.origin is not None:
        await _refuse(head.path, 403, NO_ORIGIN, response)
        return
    if mcp is None:
        await _refuse(head.path, 404, NOT_ENABLED, response)
        return
    request = McpRequest(
        method=head.method,
        path=head.path,
        query=exchange.head.query,
        headers=exchange.head.headers,
        caller=caller,
        length=exchange.length,
    )
    await mcp.answer(request, response)


async def refuse_stopped(exchange: HttpExchange, response: ResponseWriter, reason: ModelplexError) -> None:
    """A request that was stopped before its response began."""
    await _refuse(exchange.head.facts.path, reason.status, reason.message, response)


async def _refuse(path: str, status: int, sentence: str, response: ResponseWriter) -> None:
    from modelplex.mcp.clients.http import refuse_path

    await refuse_path(path, status, sentence, response)

"""Sends one request to an instance of a server: timeouts, errors and repetitions."""

from __future__ import annotations

import asyncio
from fnmatch import fnmatchcase
from typing import Final, cast

import msgspec

from modelplex.config.mcp_settings import McpServer
from modelplex.mcp.constants import HEADER_MISMATCH, Json, McpReply
from modelplex.mcp.servers.channel import ConnectionLost, HttpRefused, RequestOptions, SessionGone
from modelplex.mcp.servers.header_params import argument_headers
from modelplex.mcp.servers.http_endpoint import ConnectionNotMade
from modelplex.mcp.servers.instance import ServerInstance
from modelplex.mcp.servers.session import ServerSession

REPEATABLE: Final = frozenset(
    "tools/list prompts/list resources/list resources/templates/list resources/read prompts/get completion/complete ping".split()
)
"""Methods without effects: repeated if the server has ended the session."""
LISTEN: Final = "subscriptions/listen"
"""A request that stays open: it has no timeout and does not count as in flight."""


class ServerRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One request of the gateway. `timeout` in seconds without progress; `max_call_time` limits the
    whole request.
    """

    method: str
    params: Json
    options: RequestOptions
    timeout: float


async def send(request: ServerRequest, instance: ServerInstance) -> McpReply:
    """Send a request, and repeat it only if the first attempt cannot have had an effect or the
    config calls the tool idempotent.

    Raises:
        Unavailable
    """
    config = instance.host.config
    may_repeat, is_new_session = _is_idempotent(request, config), False
    while True:
        session = await instance.ready()
        try:
            reply = await _send_once(request, instance, session)
            if not (_is_header_mismatch(reply) and session.era == "modern" and config.command is None):
                return reply
            # The tool's schema has changed. The call had no effect.
            await instance.host.server_catalog.reload(instance, session, ("tools",))
            return await _send_once(request, instance, session)
        except ConnectionNotMade as lost:
            raise instance.unavailable(f"could not be reached. {lost.sentence}", "start_failed") from None
        except ConnectionLost as lost:
            if not may_repeat:
                raise instance.unavailable(f"was lost during the call. {lost.sentence}", "lost") from None
            may_repeat = False
        except SessionGone:
            instance.session_expired(session)
            if not may_repeat and request.method not in REPEATABLE:
                raise instance.unavailable(
                    "has ended the session; the call was not repeated.", "lost"
                ) from None
            if is_new_session:
                raise instance.unavailable("ends each session at once.", "lost") from None
            is_new_session = True
        except HttpRefused as refused:
            reason = "unauthorized" if refused.status in {401, 403} else "refused"
            raise instance.unavailable(
                f"refused the request. {refused.sentence}", reason, retry_after=refused.retry_after
            ) from None


async def _send_once(request: ServerRequest, instance: ServerInstance, session: ServerSession) -> McpReply:
    """One attempt. Progress renews the timeout, up to `max_call_time` seconds in all."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    last = began + instance.host.limits.max_call_time
    running = True
    headers = _argument_headers(request, session, instance)

    def renew(progress: bool) -> None:  # noqa: FBT001 - a callback of the session
        if running:
            bound.reschedule(min(loop.time() + request.timeout, last) if progress else last)

    try:
        async with asyncio.timeout_at(
            None if request.method == LISTEN else min(began + request.timeout, last)
        ) as bound:
            return await session.request(
                request.method, request.params, request.options, renew=renew, headers=headers
            )
    except TimeoutError:
        waited = loop.time() - began
        raise instance.unavailable(
            f"did not respond to {request.method} within {waited:.0f} seconds.", "timeout"
        ) from None
    finally:
        running = False


def _is_idempotent(request: ServerRequest, config: McpServer) -> bool:
    if request.method != "tools/call":
        return False
    name = request.params.get("name")
    return isinstance(name, str) and any(fnmatchcase(name, glob) for glob in config.idempotent)


def _is_header_mismatch(reply: McpReply) -> bool:
    return reply.error is not None and reply.error["code"] == HEADER_MISMATCH


def _argument_headers(
    request: ServerRequest, session: ServerSession, instance: ServerInstance
) -> dict[str, str]:
    """The headers that repeat arguments of a tool, for a modern HTTP server."""
    catalog = instance.host.catalog
    is_modern_http = session.era == "modern" and instance.host.config.command is None
    if not is_modern_http or request.method != "tools/call" or catalog is None:
        return {}
    name = request.params.get("name")
    tool = next((tool for tool in catalog.tools if tool.get("name") == name), None)
    schema = None if tool is None else tool.get("inputSchema")
    if not isinstance(schema, dict):
        return {}
    return argument_headers(cast("Json", schema), request.params.get("arguments"))

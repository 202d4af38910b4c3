"""Sends one request to an instance of a server: timeouts, errors and repetitions."""

from __future__ import annotations

import asyncio
from fnmatch import fnmatchcase
from typing import Final

import msgspec

from modelplex.config.settings import McpConfig, McpServer
from modelplex.mcp.constants import HEADER_MISMATCH, Json, McpReply, NotificationHandler, RequestHandler
from modelplex.mcp.servers.channel import ConnectionLost, HttpRefused, SessionGone
from modelplex.mcp.servers.header_params import argument_headers
from modelplex.mcp.servers.http_endpoint import ConnectionNotMade
from modelplex.mcp.servers.instance import ServerInstance
from modelplex.mcp.servers.server_catalog import ServerCatalog
from modelplex.mcp.servers.session import ServerSession

REPEATABLE: Final = frozenset(
    "tools/list prompts/list resources/list resources/templates/list resources/read prompts/get completion/complete ping".split()
)
"""Methods without effects: repeated if the server has ended the session."""
LISTEN: Final = "subscriptions/listen"
"""A request that stays open: it has no timeout and does not count as in flight."""


class ServerRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One request of the gateway. `params` are not changed.

    on_notification  takes the progress (with the caller's own token) and the log messages of the
                     request
    on_request       answers requests that a legacy server makes of its client meanwhile; None
                     refuses them with -32601
    capabilities     what a modern server may request in its response; a legacy server got the
                     config's at its start
    log_level        the lowest level of log messages; None is no messages
    client_version   the client's revision, used for a modern server that supports it
    timeout          seconds without progress; `max_call_time` limits the whole request
    repeated         it was sent again in a new session
    """

    method: str
    params: Json
    on_notification: NotificationHandler | None
    on_request: RequestHandler | None
    capabilities: Json | None
    log_level: str | None
    client_version: str | None
    timeout: float
    repeated: bool = False


async def send(
    request: ServerRequest,
    instance: ServerInstance,
    *,
    config: McpServer,
    limits: McpConfig,
    catalog: ServerCatalog,
) -> McpReply:
    """Send a request, and repeat it only if the first attempt cannot have had an effect or the
    config calls the tool idempotent.

    Raises:
        Unavailable
    """

    async def attempt(session: ServerSession) -> McpReply:
        headers = _argument_headers(request, session, config, catalog)
        return await _send_once(
            request, instance, session, max_call_time=limits.max_call_time, headers=headers
        )

    may_repeat = _is_idempotent(request, config)
    while True:
        session = await instance.ready()
        try:
            reply = await attempt(session)
            if not (_is_header_mismatch(reply) and session.era == "modern" and config.command is None):
                return reply
            # The tool's schema has changed. The call had no effect.
            await catalog.reload(instance, session, ("tools",))
            return await attempt(session)
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
            if request.repeated:
                raise instance.unavailable("ends each session at once.", "lost") from None
            request = msgspec.structs.replace(request, repeated=True)
        except HttpRefused as refused:
            reason = "unauthorized" if refused.status in {401, 403} else "refused"
            raise instance.unavailable(
                f"refused the request. {refused.sentence}", reason, retry_after=refused.retry_after
            ) from None


async def _send_once(
    request: ServerRequest,
    instance: ServerInstance,
    session: ServerSession,
    *,
    max_call_time: float,
    headers: dict[str, str] | None,
) -> McpReply:
    """One attempt. Progress renews the timeout, up to `max_call_time` seconds in all."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    last = began + max_call_time
    running = True

    def renew(progress: bool) -> None:  # noqa: FBT001 - a callback of the session
        if running:
            bound.reschedule(min(loop.time() + request.timeout, last) if progress else last)

    try:
        async with asyncio.timeout_at(
            None if request.method == LISTEN else min(began + request.timeout, last)
        ) as bound:
            return await session.request(
                request.method,
                request.params,
                on_notification=request.on_notification,
                on_request=request.on_request,
                capabilities=request.capabilities,
                log_level=request.log_level,
                version=request.client_version,
                renew=renew,
                headers=headers,
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
    request: ServerRequest, session: ServerSession, config: McpServer, catalog: ServerCatalog
) -> dict[str, str] | None:
    """The headers that repeat arguments of a tool, for a modern HTTP server."""
    known = catalog.current
    if (
        session.era != "modern"
        or config.command is not None
        or request.method != "tools/call"
        or known is None
    ):
        return None
    name = request.params.get("name")
    tool = next((tool for tool in known.tools if tool.get("name") == name), None)
    return (
        None if tool is None else argument_headers(tool.get("inputSchema"), request.params.get("arguments"))
    )

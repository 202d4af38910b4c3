"""Tools over plain HTTP: `GET /mcp/v1/tools` and `POST /mcp/v1/tools/{tool}/call`.

Errors have OpenAI's form. A tool that fails has answered: its status is 200.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Protocol

import msgspec

from modelplex.core.caller import Caller
from modelplex.dialects.core.json import as_object
from modelplex.mcp import era_translation
from modelplex.mcp.clients.checks import ProtocolRefusal
from modelplex.mcp.clients.session import ToolBackend
from modelplex.mcp.constants import Json, McpReply

STATUS_OF_REASON: Final[Mapping[str, int]] = {
    "unknown": 404,
    "policy": 403,
    "limit": 429,
    "timeout": 504,
    "invalid": 400,
    "capability": 400,
    "not_recorded": 400,
    "client": 400,
    "invalid_answer": 502,
    "size": 413,
}
"""The status of a refusal by the gateway. Any other reason is a server that is unavailable: 503."""
TYPE_OF_STATUS: Final[Mapping[int, str]] = {
    403: "policy_denied",
    429: "rate_limit_exceeded",
    502: "upstream_error",
    503: "overloaded",
    504: "upstream_error",
}
CODE_OF_STATUS: Final[Mapping[int, str]] = {
    401: "unauthorized",
    404: "not_found",
    405: "method_not_allowed",
    413: "request_too_large",
}
"""Codes of errors before a tool is called."""


class RestOutput(Protocol):
    async def respond(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes, /) -> None: ...


class RestRoutes:
    """The two routes."""

    async def list_tools(self, gateway: ToolBackend, caller: Caller, output: RestOutput) -> None:
        await self.send_reply(await gateway.tool_list(caller), output)

    async def call_tool_route(
        self,
        gateway: ToolBackend,
        caller: Caller,
        name: str,
        value: Any,
        output: RestOutput,
    ) -> None:
        """Call one tool with `{"arguments": {...}}`, parsed; a ProtocolRefusal is answered.
        The call goes on when the caller hangs up, since it may have had an effect already.
        """
        if isinstance(value, ProtocolRefusal):
            await self.refuse(value.status, value.message, output)
            return
        members = as_object(value)
        arguments = None if members is None else as_object(members.get("arguments", {}))
        if arguments is None:
            await self.refuse(
                400, 'The body is {"arguments": {...}}, with an object.', output, param="arguments"
            )
            return
        await self.send_reply(await gateway.call_tool(caller, name, arguments), output)

    async def send_reply(self, reply: McpReply, output: RestOutput) -> None:
        if reply.error is None and not reply.reason:
            body = msgspec.json.encode(_plain(reply.result or {}))
            await output.respond(200, [(b"content-type", b"application/json")], body)
            return
        status = STATUS_OF_REASON.get(reply.reason, 503) if reply.reason else 502
        await self.refuse(
            status,
            reply.sentence or "The tool could not be called.",
            output,
            code=f"tool_{reply.reason or 'error'}",
            retry_after_ms=_data(reply).get("retryAfterMs"),
        )

    async def refuse(
        self,
        status: int,
        message: str,
        output: RestOutput,
        *,
        code: str | None = None,
        param: str | None = None,
        allow: str | None = None,
        retry_after_ms: Any = None,
    ) -> None:
        error = {
            "message": message,
            "type": TYPE_OF_STATUS.get(status, "invalid_request_error"),
            "param": param,
            "code": code or CODE_OF_STATUS.get(status),
        }
        head = [(b"content-type", b"application/json")]
        if allow is not None:
            head.append((b"allow", allow.encode()))
        if status == 401:
            head.append((b"www-authenticate", b"Bearer"))
        if isinstance(retry_after_ms, int | float):
            head.append((b"retry-after", b"%d" % max(1, round(retry_after_ms / 1000))))
        await output.respond(status, head, msgspec.json.encode({"error": error}))


def _plain(result: Json) -> Json:
    """A result without the members of an MCP revision."""
    plain = {
        key: value for key, value in result.items() if key not in (*era_translation.ERA_MEMBERS, "_meta")
    }
    if meta := era_translation.without_reserved(result.get("_meta"), ("*",)):
        plain["_meta"] = meta
    return plain


def _data(reply: McpReply) -> Mapping[str, Any]:
    return as_object((reply.error or {}).get("data")) or {}

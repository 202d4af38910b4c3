"""Protocol constants and types of both sides of the gateway: revisions, error codes, reserved keys,
and the types that its modules exchange.

PURE. Messages are plain dicts; unknown members pass unchanged. Source: the specification's
revisions 2024-11-05 to 2026-07-28 (modelcontextprotocol.io/specification).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Literal, Protocol

import msgspec

from modelplex.core.caller import Caller

Json = dict[str, Any]
Era = Literal["legacy", "modern"]

LEGACY_VERSIONS: Final = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
"""Revisions with `initialize`, oldest first."""
MODERN_VERSIONS: Final = ("2026-07-28",)
"""Revisions whose requests carry version and capabilities in `_meta`."""
NEWEST_LEGACY: Final = LEGACY_VERSIONS[-1]
NEWEST: Final = MODERN_VERSIONS[-1]

RESERVED: Final = "io.modelcontextprotocol/"
META_VERSION: Final = RESERVED + "protocolVersion"
META_CAPABILITIES: Final = RESERVED + "clientCapabilities"
META_CLIENT: Final = RESERVED + "clientInfo"
META_SERVER: Final = RESERVED + "serverInfo"
META_LOG_LEVEL: Final = RESERVED + "logLevel"
META_SUBSCRIPTION: Final = RESERVED + "subscriptionId"
META_RELATED: Final = RESERVED + "related-task"
"""The task that a legacy message belongs to."""

PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600
METHOD_NOT_FOUND: Final = -32601
INVALID_PARAMS: Final = -32602
INTERNAL_ERROR: Final = -32603
RESOURCE_NOT_FOUND: Final = -32002
HEADER_MISMATCH: Final = -32020
MISSING_CAPABILITY: Final = -32021
UNSUPPORTED_VERSION: Final = -32022


class McpReply(msgspec.Struct, frozen=True):
    """The outcome of a request: `result`, or `error` {code, message, data?}. Exactly one is set.

    `reason` is set if the gateway itself refused or failed: "unknown", "policy", "limit",
    "timeout", "invalid", "size", or that of an Unavailable. It is not sent; the REST form maps it
    to a status.
    """

    result: Json | None = None
    error: Json | None = None
    reason: str = ""

    @classmethod
    def failed(
        cls, code: int, message: str, data: Mapping[str, Any] | None = None, *, reason: str = ""
    ) -> McpReply:
        return cls(
            error={"code": code, "message": message, **({"data": dict(data)} if data else {})}, reason=reason
        )

    @property
    def sentence(self) -> str:
        """The message of the gateway's own refusal or failure; "" if there is none."""
        if self.error is not None:
            return str(self.error.get("message", ""))
        content: list[Json] = (self.result or {}).get("content") or [{}]
        return str(content[0].get("text", ""))

    def message(self, id: str | int | None) -> Json:
        """The JSON-RPC response with this id."""
        if self.error is not None:
            return {"jsonrpc": "2.0", "id": id, "error": self.error}
        return {"jsonrpc": "2.0", "id": id, "result": self.result}


NotificationHandler = Callable[[Json], None]
"""Takes a notification (whole message, no id) of one request or of a connection."""
RequestHandler = Callable[[str, Json], Awaitable[McpReply]]
"""Answers a request that a server makes of its client: method, params."""


class Unavailable(Exception):
    """A server that is unavailable. `reason`: "start_failed", "crash_loop", "lost", "timeout",
    "limit", "unauthorized", ...; `retry_after` in seconds.

    `lost` during a call means that the call may have had an effect, so it is not repeated.
    """

    def __init__(self, sentence: str, *, server: str, reason: str, retry_after: float | None = None) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.server = server
        self.reason = reason
        self.retry_after = retry_after


class Catalog(msgspec.Struct, frozen=True, kw_only=True):
    """What a server offers, with its pages merged and its own names."""

    era: Era
    version: str
    info: Json = {}
    capabilities: Json = {}
    instructions: str | None = None
    tools: tuple[Json, ...] = ()
    prompts: tuple[Json, ...] = ()
    resources: tuple[Json, ...] = ()
    templates: tuple[Json, ...] = ()


class McpClient(Protocol):
    """A client of the gateway: a modern request, or a legacy session. `session` is "" if there is
    none.

    `send` puts a notification onto the stream of the present request. `send_request` sends a
    request to the client (legacy sessions only). `capabilities` are the client's own claims: what
    it can answer, not what a server may ask.
    """

    @property
    def caller(self) -> Caller: ...
    @property
    def era(self) -> Era: ...
    @property
    def version(self) -> str: ...
    @property
    def capabilities(self) -> Mapping[str, Any]: ...
    @property
    def session(self) -> str: ...
    def send(self, notification: Json) -> None: ...
    async def send_request(self, method: str, params: Json) -> McpReply: ...

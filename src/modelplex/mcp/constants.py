"""The words of the protocol that both sides of the gateway use: revisions, error codes, reserved
keys, and the shapes that cross its rooms.

PURE. Above it stands all of mcp/; below it nothing. Messages are plain dicts, in and out: what
nobody here knows rides along. Revisions are data, since another one will come.
Source: the specification's revisions 2024-11-05 to 2026-07-28
    (modelcontextprotocol.io/specification).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Literal, Protocol

import msgspec

from modelplex.core.caller import Caller

Json = dict[str, Any]
Era = Literal["legacy", "modern"]

LEGACY_VERSIONS: Final = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
"""Those with an `initialize`, oldest first."""
MODERN_VERSIONS: Final = ("2026-07-28",)
"""Those in which every request carries its envelope."""
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
"""Which task a legacy message belongs to."""

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
    """What a request came to: `result`, or `error` {code, message, data?}, as the other side said
    it. Exactly one is set.

    `reason` says that the gateway itself refused or failed, and why: "unknown", "policy", "limit",
    "timeout", "invalid", "size", or that of an Unavailable; "" where the other side said it. It
    never travels: it is for forms that have statuses of their own.
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
        """What the gateway says of its own refusal or failure: the error's message, or the text of
        a tool's result; "" where there is none.
        """
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
"""Takes a notification (whole message, no id) that belongs to one request, or to a connection."""
RequestHandler = Callable[[str, Json], Awaitable[McpReply]]
"""Answers a request that a server makes of its client: method, params."""


class Unavailable(Exception):
    """A server that cannot be asked now. `reason`: "start_failed", "crash_loop", "lost", "timeout",
    "limit", "disabled", "unauthorized", ...; `retry_after` in seconds.

    `lost` while a call runs means that the call may or may not have happened: it is not repeated.
    """

    def __init__(self, sentence: str, *, server: str, reason: str, retry_after: float | None = None) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.server = server
        self.reason = reason
        self.retry_after = retry_after


class Catalog(msgspec.Struct, frozen=True, kw_only=True):
    """What a server offers, as it said it itself, its pages merged. Names are its own; nothing is
    filtered or renamed here.
    """

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
    """One who asks, as the hub sees them: a modern request, or a legacy session. `session` is ""
    where there is none.

    `send` puts a notification onto the stream of the request that is being answered. `ask` makes a
    request of the client (legacy sessions; Reply.failed elsewhere). `capabilities` are the client's
    own claims: what it can answer, never what a server may ask of it.
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
    async def ask(self, method: str, params: Json) -> McpReply: ...

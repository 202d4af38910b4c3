"""Turns calls of tools, prompts, resources and tasks into records."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import msgspec

from modelplex.core.trace_context import TraceContext, read_trace_context
from modelplex.dialects.core.json import as_object
from modelplex.mcp.constants import McpReply
from modelplex.mcp.request_context import ToolRequestContext
from modelplex.mcp.results import size
from modelplex.records.tool_call import ToolRecord, ToolRecordBuilder, hash_arguments

MAX_NAME: Final = 1_024
"""Characters of a name or URI in a record. The rest is cut in the record only."""
MAX_ERROR: Final = 4_096
"""Characters of a server's error in a record: a log keeps thousands of records in memory."""

_REFUSED: Final = frozenset({"unknown", "policy", "limit", "invalid", "capability"})
"""Reasons that are decisions of the gateway, not failures of a server."""


class CallRecording(msgspec.Struct, frozen=True, kw_only=True):
    """How calls become records.

    ids          request ids
    clock, wall  seconds: a monotonic clock, and Unix time
    on_record    takes the record of each call
    keep_bodies  bytes of each body that a record holds; 0 for none
    on_session   takes the record of each request of a session that is no call; None where none is
                 kept
    """

    ids: Iterator[str]
    clock: Callable[[], float]
    wall: Callable[[], float]
    on_record: Callable[[ToolRecord], None]
    keep_bodies: int = 0
    on_session: Callable[[ToolRecord], None] | None = None

    def begin(self, context: ToolRequestContext) -> None:
        """Give the context its builder."""
        caller = context.client.caller
        context.builder = ToolRecordBuilder(
            id=next(self.ids),
            method=context.method,
            era=context.client.era,
            listener=caller.listener,
            client=caller.client,
            agent=caller.agent,
            started=self.clock(),
            wall_time=self.wall(),
        )
        if caller.run is not None:
            context.builder.run = caller.run.id
        if "_meta" in context.params:
            context.builder.trace = trace_of(context.params["_meta"])

    def note_request(self, context: ToolRequestContext, name: str, arguments: object) -> None:
        builder = context.builder
        builder.tool = name[:MAX_NAME]
        builder.arguments, body = hash_arguments({} if arguments is None else arguments)
        builder.bytes_in = len(body)
        if self.keep_bodies:
            builder.request_body = body[: self.keep_bodies]

    def note_size(self, context: ToolRequestContext, size: int, body: bytes) -> None:
        """The server's result or error as JSON, before it is cut."""
        context.builder.bytes_out = size
        if self.keep_bodies:
            context.builder.response_body = body[: self.keep_bodies]

    def note_reply(self, context: ToolRequestContext, reply: McpReply) -> None:
        builder = context.builder
        builder.reason = reply.reason
        if reply.error is not None:
            code: object = reply.error.get("code")
            builder.code = code if isinstance(code, int) else None
            builder.error = str(reply.error.get("message", ""))[:MAX_ERROR]
        else:
            builder.is_error = (reply.result or {}).get("isError") is True
            if reply.reason:
                builder.error = reply.sentence
        if reply.reason in _REFUSED:
            builder.outcome = "refused"
        elif reply.error is not None or reply.reason:
            builder.outcome = "error"
        else:
            builder.outcome = "tool_error" if builder.is_error else "ok"

    def finish(self, context: ToolRequestContext) -> None:
        self.on_record(context.builder.record(now=self.clock()))

    def begin_session_request(self, context: ToolRequestContext) -> None:
        """Give a request that is no call its builder, where it is kept."""
        if self.on_session is not None:
            self.begin(context)
            context.builder.server = context.route or ""

    def finish_session_request(self, context: ToolRequestContext, reply: McpReply) -> None:
        if self.on_session is None:
            return
        request, response = session_body(context.params), size(reply.result or reply.error)[1]
        context.builder.bytes_in, context.builder.bytes_out = len(request), len(response)
        context.builder.request_body = request[: self.keep_bodies]
        context.builder.response_body = response[: self.keep_bodies]
        self.note_reply(context, reply)
        record = context.builder.record(now=self.clock())
        self.on_session(msgspec.structs.replace(record, is_call=False))


def session_body(params: Mapping[str, Any]) -> bytes:
    """The parameters of a request without `_meta`, which has ids of one exchange; b"" where they
    cannot be written.
    """
    return hash_arguments({name: value for name, value in params.items() if name != "_meta"})[1]


def trace_of(meta: object) -> TraceContext | None:
    """The trace in a request's `_meta`, where MCP has it:
    https://modelcontextprotocol.io/community/seps/414-request-meta (2026-12-01).
    """
    found = as_object(meta) or {}
    parent, state = found.get("traceparent"), found.get("tracestate")
    if not isinstance(parent, str):
        return None
    return read_trace_context([parent], [state] if isinstance(state, str) else [])

"""The Record of a tool call, one for every request to a tool server, refused ones included. It
contains no secret, and the arguments only as a hash, unless `[log] bodies = true`.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any, Literal

import msgspec

from modelplex.core.trace_context import TraceContext

ToolOutcome = Literal["ok", "tool_error", "error", "refused", "client_closed"]
Decision = Literal["allow", "deny"]

_canonical = msgspec.json.Encoder(order="sorted").encode


class ToolRecord(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One call of a tool, prompt, resource or completion. `started` is Unix seconds, `seconds` its
    duration.

    tool          the name of a tool or prompt, or the URI of a resource, as the client wrote it
    arguments     hex SHA-256 of the arguments' canonical JSON (keys sorted, no spaces)
    definition    hex SHA-256 of the tool's listed definition; "" if it is not listed
    rule          the rule that decided; "" for none
    outcome       "ok", "tool_error" (the result has isError), "error", "refused" (by the gateway),
                  "client_closed"
    code          JSON-RPC error code; None without an error
    reason        the gateway's name for an error of its own
    bytes_in, bytes_out   sizes of the arguments and of the result
    is_call       false for another request of a session, such as `initialize` or a list
    trace         of the client, if the request has a traceparent
    """

    id: str
    started: float
    listener: str
    client: str
    agent: str
    era: str
    server: str
    tool: str
    method: str
    run: str = ""
    arguments: str = ""
    decision: Decision = "allow"
    rule: str = ""
    definition: str = ""
    outcome: ToolOutcome = "ok"
    error: str | None = None
    code: int | None = None
    reason: str = ""
    seconds: float = 0.0
    bytes_in: int = 0
    bytes_out: int = 0
    is_error: bool = False
    is_call: bool = True
    trace: TraceContext | None = None
    request_body: bytes | None = None
    response_body: bytes | None = None


class ToolRecordBuilder:
    """The state of one tool call. `wall_time` is Unix seconds, `started` seconds of a monotonic
    clock.
    """

    __slots__ = (
        "agent", "arguments", "bytes_in", "bytes_out", "client", "code", "decision", "definition", "era", "error", "id",
        "is_error", "listener", "method", "outcome", "reason", "request_body", "response_body", "rule", "run", "server", "started", "tool", "trace", "wall_time",
    )  # fmt: skip

    def __init__(
        self,
        *,
        id: str,
        method: str,
        era: str,
        listener: str,
        client: str,
        agent: str,
        started: float,
        wall_time: float,
    ) -> None:
        self.id = id
        self.method = method
        self.era = era
        self.listener = listener
        self.client = client
        self.agent = agent
        self.run = ""
        self.started = started
        self.wall_time = wall_time
        self.server = self.tool = self.arguments = self.definition = self.rule = self.reason = ""
        self.decision: Decision = "allow"
        self.outcome: ToolOutcome = "client_closed"
        self.error: str | None = None
        self.code: int | None = None
        self.is_error = False
        self.bytes_in = self.bytes_out = 0
        self.trace: TraceContext | None = None
        self.request_body: bytes | None = None
        self.response_body: bytes | None = None

    def record(self, *, now: float) -> ToolRecord:
        return ToolRecord(
            id=self.id,
            started=self.wall_time,
            listener=self.listener,
            client=self.client,
            agent=self.agent,
            run=self.run,
            era=self.era,
            server=self.server,
            tool=self.tool,
            method=self.method,
            arguments=self.arguments,
            decision=self.decision,
            rule=self.rule,
            definition=self.definition,
            outcome=self.outcome,
            error=self.error,
            code=self.code,
            reason=self.reason,
            seconds=now - self.started,
            bytes_in=self.bytes_in,
            bytes_out=self.bytes_out,
            is_error=self.is_error,
            trace=self.trace,
            request_body=self.request_body,
            response_body=self.response_body,
        )


def hash_arguments(arguments: Any) -> tuple[str, bytes]:
    """The hash of the arguments, and their canonical JSON. Arguments with a lone surrogate, which
    UTF-8 cannot encode, have no canonical JSON: the hash is "".
    """
    try:
        body = _canonical(arguments)
    except (UnicodeEncodeError, RecursionError):
        return "", b""
    return sha256(body).hexdigest(), body

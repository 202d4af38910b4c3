"""Answers requests of tool clients from recordings: the providers of the type "replay".

What was recorded are the replies that clients got, so no tool server is started or asked, and lists
have what they had, also under another config. What an agent's `tools` do not allow stays unknown to
it. `ping`, log levels and streams of notifications are
answered as without a recording; progress and questions of servers are not repeated.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, cast

import msgspec

from modelplex.core.errors import RecordingUnreadable
from modelplex.dialects.core.json import as_object
from modelplex.mcp import search
from modelplex.mcp.call_recording import MAX_NAME, session_body
from modelplex.mcp.constants import INTERNAL_ERROR, Json, McpReply
from modelplex.mcp.policy import ALLOWED, Decision, decide
from modelplex.mcp.request_context import ToolRequestContext, unknown, unlisted
from modelplex.replay.answers import Nearest, RecordedAnswers
from modelplex.replay.matching import Matcher
from modelplex.replay.recording import RecordedCall, RecordingError, RunRecording
from modelplex.replay.source import RecordingSource

MISS: Final = "not_recorded"
"""The reason of a reply to a request that was not recorded."""
UNREADABLE: Final = "recording_unreadable"

_NAMES: Final = {
    "tools/call": ("name", "arguments"),
    "prompts/get": ("name", "arguments"),
    "resources/read": ("uri", ""),
    "completion/complete": ("ref", "argument"),
    "tasks/get": ("taskId", ""),
    "tasks/result": ("taskId", ""),
    "tasks/update": ("taskId", "inputResponses"),
    "tasks/cancel": ("taskId", ""),
    "tasks/list": ("", ""),
}
"""The members of a call by which it is compared: a record has its name and its arguments."""

_encode = msgspec.json.Encoder().encode


class ToolReplay:
    """The recordings of a config, in their order; none where tools are live."""

    def __init__(self, sources: Sequence[RecordingSource] = ()) -> None:
        self.sources = sources

    def __repr__(self) -> str:
        return f"<ToolReplay {list(self.sources)}>"

    async def answer(self, context: ToolRequestContext) -> McpReply | None:
        """The recorded reply, or an error that names the nearest. None where the request goes on to
        the tool servers.
        """
        missed: McpReply | None = None
        for source in self.sources:
            try:
                answers = await source.answers()
            except RecordingUnreadable as error:
                return McpReply.failed(
                    INTERNAL_ERROR, error.message, {"reason": UNREADABLE}, reason=UNREADABLE
                )
            if not answers.calls:  # the recorded run used no tools
                continue
            asked = list(_asked(context))
            for body in asked:
                key = answers.key_of(body, endpoint=context.method, model=context.client.era, stream=False)
                if (call := answers.take(key, body)) is not None:
                    return _reply(call, context)
            # It compares many bodies.
            missed = await asyncio.to_thread(_miss, answers, context, asked[-1])
            if source.config.on_miss == "live":
                missed = None
        return missed


def recorded_tools(recording: RunRecording, matcher: Matcher) -> RecordedAnswers:
    """The requests of tool clients, with the members by which they are compared. Raises
    RecordingError.
    """
    calls = [_comparable(call) for call in recording.calls if call.kind != "model"]
    return RecordedAnswers(
        RunRecording(recording.source, recording.run, calls), matcher, kinds=("tool", "session")
    )


def _comparable(call: RecordedCall) -> RecordedCall:
    """`model` is the era."""
    body = call.request
    if call.kind == "tool":
        try:
            arguments: object = msgspec.json.decode(body) if body else {}
        except msgspec.DecodeError:
            raise RecordingError(f"the arguments of its call {call.id} are no JSON.") from None
        if call.endpoint not in _NAMES:
            raise RecordingError(f"its call {call.id} has a method that is not known: {call.endpoint}.")
        body = _body(call.endpoint, call.model, arguments)
    return msgspec.structs.replace(call, model=call.dialect, pieces=(body,))


def _body(method: str, name: object, arguments: object) -> bytes:
    of_name, of_arguments = _NAMES[method]
    values = {of_name: name, of_arguments: arguments}
    try:
        return _encode({member: value for member, value in values.items() if member})
    except (UnicodeEncodeError, RecursionError):
        return b""


def named_arguments(method: str, params: Mapping[str, Any]) -> tuple[str, object]:
    """The name and the arguments of a call, as its record has them."""
    of_name, of_arguments = _NAMES[method]
    name: object = params.get(of_name)
    if method == "completion/complete":
        ref = as_object(name) or {}
        name = ref.get("name", ref.get("uri", ""))
    return name if isinstance(name, str) else "", cast("object", params.get(of_arguments))


def _asked(context: ToolRequestContext) -> Iterator[bytes]:
    """The request in the recorded form; of several forms, the one that explains a miss is the
    last.
    """
    method = context.method
    if method not in _NAMES:
        yield session_body(context.params)
        return
    name, arguments = named_arguments(method, context.params)
    yield _body(method, name[:MAX_NAME], arguments or {})
    if method == "tools/call" and name == search.CALL and (inner := as_object(arguments)) is not None:
        name, arguments = named_arguments(method, inner)
        yield _body(method, name[:MAX_NAME], arguments or {})


def _decision(call: RecordedCall, context: ToolRequestContext) -> Decision:
    """Whether this caller may use what was called, by the names that the recorded client wrote."""
    if call.kind != "tool" or not call.server or not context.globs:
        return ALLOWED
    members = as_object(msgspec.json.decode(call.request)) if call.request else None
    name = str((members or {}).get(_NAMES[call.endpoint][0], ""))
    return decide(context.client.caller, server=call.server, method=call.endpoint, name=name, shown=name)


def _refusal(call: RecordedCall, decision: Decision, context: ToolRequestContext) -> McpReply:
    builder = context.builder
    builder.server, builder.decision, builder.rule = call.server, "deny", decision.rule
    if context.method == "resources/read":
        return unlisted(context, builder.tool)
    kind = {"tools/call": "tool", "prompts/get": "prompt"}.get(context.method, "reference")
    return unknown(kind, builder.tool)


def _reply(call: RecordedCall, context: ToolRequestContext) -> McpReply:
    decision = _decision(call, context)
    if not decision.allowed:
        return _refusal(call, decision, context)
    if call.kind == "tool":
        context.builder.server = call.server
    value = cast("Json", msgspec.json.decode(call.response))
    reason = call.code or ""
    is_error = call.outcome in {"error", "refused"} and isinstance(value.get("code"), int)
    return McpReply(error=value, reason=reason) if is_error else McpReply(result=value, reason=reason)


def _miss(answers: RecordedAnswers, context: ToolRequestContext, body: bytes) -> McpReply:
    source, method = answers.recording.source, context.method
    nearest = answers.nearest(body, endpoint=method)
    if nearest is None:
        return _missed(f"The recording {source} has no {method}.", None)
    if not _decision(nearest.call, context).allowed:
        return _missed(f"The recording {source} has no answer to this {method}.", None)
    path = nearest.difference.path if nearest.difference is not None else None
    return _missed(f"The recording {source} has no answer to this {method}. {_explained(nearest)}", path)


def _missed(sentence: str, path: str | None) -> McpReply:
    data = {"reason": MISS, **({"path": path} if path else {})}
    return McpReply.failed(INTERNAL_ERROR, sentence, data, reason=MISS)


def _explained(nearest: Nearest) -> str:
    return nearest.sentence or f"{nearest.name}, which asks in another revision of MCP."

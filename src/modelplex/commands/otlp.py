"""A run as spans in OTLP/JSON: one trace, a root span for the run, and a span for each call.

Names and attributes are those of OpenTelemetry's GenAI conventions
(https://github.com/open-telemetry/semantic-conventions-genai); what they lack begins with
`modelplex.`. Headers are those of
https://opentelemetry.io/docs/specs/semconv/registry/attributes/http/ (read on 2026-12-01), where
bodies have no place. Source of the form: https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Any, Final

import msgspec

import modelplex
from modelplex.commands.export import ReadCall
from modelplex.commands.transcript import Block, Entry
from modelplex.records.request_headers import NOT_KEPT
from modelplex.records.store.queries import RunSummary
from modelplex.records.store.rows import CallSummary

CLIENT: Final = 3
INTERNAL: Final = 1
"""Kinds of a span."""
ERROR: Final = 2
"""The code of a span's status."""
OPERATIONS: Final = {"embeddings": "embeddings", "completions": "text_completion"}
"""`gen_ai.operation.name` of endpoints; of the others it is "chat"."""
Attributes = dict[str, object]


def otlp(run: RunSummary, calls: Sequence[ReadCall]) -> bytes:
    ends = [each.stored.call.started + each.stored.call.seconds for each in calls]
    root = _span(
        run.id,
        trace=run.id,
        parent="",
        name=f"invoke_agent {run.agent}".rstrip(),
        times=(run.started, max([run.ended or run.last, *ends])),
        kind=INTERNAL,
        attributes={
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.agent.name": run.agent or None,
            "gen_ai.conversation.id": run.id,
            "process.command_line": run.command or None,
            "vcs.repository.url.full": run.repository or None,
            "vcs.ref.head.name": run.branch or None,
            **{f"modelplex.tag.{name}": value for name, value in run.tags.items()},
        },
    )
    spans = [root, *(_call_span(run, each) for each in calls)]
    document = {
        "resourceSpans": [
            {
                "resource": {"attributes": _attributes({"service.name": "modelplex"})},
                "scopeSpans": [
                    {"scope": {"name": "modelplex", "version": modelplex.__version__}, "spans": spans}
                ],
            }
        ]
    }
    return msgspec.json.encode(document) + b"\n"


def _call_span(run: RunSummary, read: ReadCall) -> dict[str, object]:
    call = read.stored.call
    operation = "execute_tool" if call.kind == "tool" else OPERATIONS.get(call.endpoint, "chat")
    span = _span(
        call.id,
        trace=run.id,
        parent=run.id,
        name=f"{operation} {call.tool or call.requested_model}".rstrip(),
        times=(call.started, call.started + call.seconds),
        kind=CLIENT,
        attributes={"gen_ai.operation.name": operation, **_facts(call), **_headers(read), **_messages(read)},
    )
    if call.outcome != "ok":
        span["status"] = {"code": ERROR, "message": call.error or call.outcome}
    if call.parent is not None:
        span["links"] = [
            {
                "traceId": _hex(run.id, 32),
                "spanId": _hex(call.parent, 16),
                "attributes": _attributes({"modelplex.relation": call.relation}),
            }
        ]
    return span


def _facts(call: CallSummary) -> Attributes:
    facts: Attributes = {
        "gen_ai.provider.name": call.provider or None,
        "gen_ai.request.model": call.requested_model or None,
        "gen_ai.response.model": call.model or None,
        "gen_ai.response.finish_reasons": [call.finish_reason] if call.finish_reason else None,
        "gen_ai.usage.input_tokens": call.tokens_in,
        "gen_ai.usage.output_tokens": call.tokens_out,
        "gen_ai.usage.cache_read.input_tokens": call.cache_read,
        "gen_ai.usage.cache_creation.input_tokens": call.cache_write,
        "gen_ai.tool.name": call.tool or None,
        "error.type": None if call.outcome == "ok" else call.code or call.outcome,
        "http.response.status_code": call.status or None,
    }
    own: Attributes = {
        "request_id": call.id,
        "outcome": call.outcome,
        "relation": call.relation,
        "cost_usd": call.cost,
        "attempts": call.attempts,
        "stripped": call.stripped,
        "server": call.server or None,
    }
    return {**facts, **{f"modelplex.{name}": value for name, value in own.items()}}


def _headers(read: ReadCall) -> Attributes:
    """Those whose values are stored: a name alone is no value."""
    found: dict[str, list[str]] = {}
    for name, value in read.headers:
        if value != NOT_KEPT:
            found.setdefault(f"http.request.header.{name}", []).append(value)
    return {**found}


def _messages(read: ReadCall) -> Attributes:
    """The conventions' messages as JSON."""
    found: Attributes = {}
    if read.sent is not None:
        found["gen_ai.input.messages"] = msgspec.json.encode(list(map(_message, read.sent.entries))).decode()
    if read.received is not None:
        finish = read.stored.call.finish_reason or ""
        message = {**_message(read.received), "finish_reason": finish}
        found["gen_ai.output.messages"] = msgspec.json.encode([message]).decode()
    return found


def _message(entry: Entry) -> dict[str, object]:
    return {"role": entry.role, "parts": list(map(_part, entry.blocks))}


def _part(block: Block) -> dict[str, object]:
    match block.kind:
        case "tool_call":
            return {"type": "tool_call", "id": block.id, "name": block.name, "arguments": block.text}
        case "tool_result":
            return {"type": "tool_call_response", "id": block.id, "response": block.text}
        case "reasoning":
            return {"type": "reasoning", "content": block.text}
        case _:
            return {"type": "text", "content": block.text}


# --- OTLP ---


def _span(
    id: str,
    *,
    trace: str,
    parent: str,
    name: str,
    times: tuple[float, float],
    kind: int,
    attributes: Attributes,
) -> dict[str, object]:
    return {
        "traceId": _hex(trace, 32),
        "spanId": _hex(id, 16),
        "parentSpanId": _hex(parent, 16) if parent else "",
        "name": name,
        "kind": kind,
        "startTimeUnixNano": str(int(times[0] * 1e9)),
        "endTimeUnixNano": str(int(times[1] * 1e9)),
        "attributes": _attributes(attributes),
    }


def _hex(id: str, digits: int) -> str:
    """An id of OpenTelemetry's for one of ours: the same in every export."""
    return sha256(id.encode()).hexdigest()[:digits]


def _attributes(values: Attributes) -> list[dict[str, object]]:
    return [{"key": key, "value": _value(value)} for key, value in values.items() if value is not None]


def _value(value: Any) -> dict[str, object]:
    match value:
        case bool():
            return {"boolValue": value}
        case int():
            return {"intValue": str(value)}
        case float():
            return {"doubleValue": value}
        case [*values]:
            return {"arrayValue": {"values": [_value(each) for each in values]}}
        case _:
            return {"stringValue": str(value)}

"""A run as OTLP/JSON: the spans of records/spans.py, with the command, headers and messages of the
record.

Headers are those of https://opentelemetry.io/docs/specs/semconv/registry/attributes/http/, messages
those of the GenAI conventions v0.1.0 (read on 2026-12-01).
Source of the form: https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

import modelplex
from modelplex.commands.export import ReadCall
from modelplex.commands.transcript import Block, Entry
from modelplex.records.request_headers import NOT_KEPT
from modelplex.records.spans import AttributeValue, Span, call_spans, run_span
from modelplex.records.store.queries import RunSummary

KINDS: Final = {"internal": 1, "client": 3}
ERROR: Final = 2
"""The code of a span's status."""
SERVICE: Final = "modelplex"


def otlp(run: RunSummary, calls: Sequence[ReadCall]) -> bytes:
    ends = [each.stored.call.started + each.stored.call.seconds for each in calls]
    root = run_span(
        run.id,
        agent=run.agent,
        started=run.started,
        ended=max([run.ended or run.last, *ends]),
        tags=run.tags,
        more={
            "process.command_line": run.command or None,
            "vcs.repository.url.full": run.repository or None,
            "vcs.ref.head.name": run.branch or None,
        },
    )
    spans = [root]
    for each in calls:
        more: dict[str, AttributeValue | None] = {**_headers(each), **_messages(each)}
        spans += call_spans(each.stored.call, each.stored.detail, run=run.id, more=more)
    document = {
        "resourceSpans": [
            {
                "resource": {"attributes": _attributes({"service.name": SERVICE})},
                "scopeSpans": [
                    {
                        "scope": {"name": "modelplex", "version": modelplex.__version__},
                        "spans": [_span(each) for each in spans],
                    }
                ],
            }
        ]
    }
    return msgspec.json.encode(document) + b"\n"


def _headers(read: ReadCall) -> dict[str, AttributeValue]:
    """Those whose values are stored: a name alone is no value."""
    found: dict[str, list[str]] = {}
    for name, value in read.headers:
        if value != NOT_KEPT:
            found.setdefault(f"http.request.header.{name}", []).append(value)
    return {**found}


def _messages(read: ReadCall) -> dict[str, AttributeValue]:
    """The conventions' messages as JSON."""
    found: dict[str, AttributeValue] = {}
    if read.sent is not None:
        found["gen_ai.input.messages"] = msgspec.json.encode(list(map(_message, read.sent.entries))).decode()
    if read.received is not None:
        found["gen_ai.output.messages"] = msgspec.json.encode([_message(read.received)]).decode()
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


def _span(span: Span) -> dict[str, object]:
    written: dict[str, object] = {
        "traceId": span.trace_id,
        "spanId": span.span_id,
        "parentSpanId": span.parent_id,
        "flags": span.flags,
        "name": span.name,
        "kind": KINDS[span.kind],
        "startTimeUnixNano": str(int(span.start * 1e9)),
        "endTimeUnixNano": str(int(span.end * 1e9)),
        "attributes": _attributes(span.attributes),
    }
    if span.state:
        written["traceState"] = span.state
    if span.error is not None:
        written["status"] = {"code": ERROR, "message": span.error}
    if span.links:
        written["links"] = [
            {
                "traceId": each.trace_id,
                "spanId": each.span_id,
                "attributes": _attributes(each.attributes),
            }
            for each in span.links
        ]
    return written


def _attributes(values: Mapping[str, AttributeValue]) -> list[dict[str, object]]:
    return [{"key": key, "value": _value(value)} for key, value in values.items()]


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

"""Runs, calls and attempts as spans. Pure.

The names are those of OpenTelemetry's GenAI and MCP conventions v0.1.0
(https://github.com/open-telemetry/semantic-conventions-genai/blob/v0.1.0/docs/gen-ai, read on
2026-12-01); what they lack begins with `modelplex.`. Spans have no content, no command line and no
secret: whoever adds the messages of a call decides where they go.

    invoke_agent        a run of `modelplex run`
      chat MODEL        a model call with all its attempts
        attempt NAME    one attempt at a provider, by its name in the config
      tools/call TOOL   a call of a tool server

An attempt has no attribute of `gen_ai`: collectors would count it as another call of a model.
Ids follow from ours, so that a span is the same one however often it is made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Literal

import msgspec

from modelplex.core.trace_context import SAMPLED, attempt_id, span_id_of, trace_id_of
from modelplex.records.operations import operation_of
from modelplex.records.record import Record
from modelplex.records.store.rows import CallDetail, CallSummary, StoredAttempt, detail_of, summary_of
from modelplex.records.tool_call import ToolRecord

Kind = Literal["internal", "client"]
AttributeValue = str | bool | int | float | Sequence[str]
Attributes = Mapping[str, AttributeValue | None]
"""None is no attribute."""

TOOL_CALL: Final = "tools/call"
PROMPT: Final = "prompts/get"
RESOURCE: Final = "resources/read"


class SpanLink(msgspec.Struct, frozen=True):
    trace_id: str
    span_id: str
    attributes: dict[str, AttributeValue] = {}


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """`start` and `end` are Unix seconds. `error` is the description of a status that is an error.
    `state` is a tracestate, `flags` those of the trace.
    """

    trace_id: str
    span_id: str
    parent_id: str = ""
    name: str
    kind: Kind
    start: float
    end: float
    attributes: dict[str, AttributeValue]
    error: str | None = None
    links: tuple[SpanLink, ...] = ()
    state: str = ""
    flags: int = SAMPLED


def run_span(
    id: str,
    *,
    agent: str,
    started: float,
    ended: float,
    tags: Mapping[str, str],
    more: Attributes | None = None,
) -> Span:
    """The root of what a run did."""
    return Span(
        trace_id=trace_id_of(id),
        span_id=span_id_of(id),
        name=f"invoke_agent {agent}".rstrip(),
        kind="internal",
        start=started,
        end=ended,
        attributes=_present(
            {
                "gen_ai.operation.name": "invoke_agent",
                "gen_ai.agent.name": agent or None,
                "modelplex.run.id": id,
                **(more or {}),
                **{f"modelplex.tag.{name}": value for name, value in tags.items()},
            }
        ),
    )


def record_spans(record: Record | ToolRecord, *, run: str) -> list[Span]:
    """The spans of a call that has just ended, in this run; "" for none."""
    return call_spans(summary_of(record), detail_of(record), run=run)


def call_spans(
    call: CallSummary, detail: CallDetail, *, run: str, more: Attributes | None = None
) -> list[Span]:
    """The span of a call, with `more` attributes, and those of its attempts."""
    trace_id, parent_id, state, flags = (
        trace_id_of(run or call.id),
        span_id_of(run) if run else "",
        "",
        SAMPLED,
    )
    links: list[SpanLink] = []
    if detail.trace is not None:  # the client's trace goes on
        if run and detail.trace.trace_id != trace_id:
            links.append(SpanLink(trace_id, parent_id, {"modelplex.relation": "run"}))
        trace_id, parent_id = detail.trace.trace_id, detail.trace.parent_id
        state, flags = detail.trace.state, detail.trace.flags
    elif call.parent is not None:
        links.append(SpanLink(trace_id, span_id_of(call.parent), {"modelplex.relation": call.relation}))
    is_tool = call.kind == "tool"
    whole = Span(
        trace_id=trace_id,
        span_id=span_id_of(call.id),
        parent_id=parent_id,
        name=_tool_name(call)
        if is_tool
        else f"{operation_of(call.endpoint)} {call.requested_model}".rstrip(),
        kind="client",
        start=call.started,
        end=call.started + call.seconds,
        attributes=_present(
            {
                **(_tool_facts(call, detail) if is_tool else _model_facts(call, detail)),
                **_common_facts(call, run),
                **(more or {}),
            }
        ),
        error=None if call.outcome == "ok" else call.error or call.outcome,
        links=tuple(links),
        state=state,
        flags=flags,
    )
    return [whole, *(_attempt_span(whole, call, each, n) for n, each in enumerate(detail.attempts))]


def _attempt_span(whole: Span, call: CallSummary, attempt: StoredAttempt, number: int) -> Span:
    start = call.started + attempt.started
    is_error = attempt.outcome != "ok"
    return Span(
        trace_id=whole.trace_id,
        span_id=span_id_of(attempt_id(call.id, number)),
        parent_id=whole.span_id,
        name=f"attempt {attempt.provider}",
        kind="client",
        start=start,
        end=start + attempt.seconds,
        attributes=_present(
            {
                "http.request.resend_count": number or None,
                "http.response.status_code": attempt.status,
                "error.type": attempt.outcome if is_error else None,
                "modelplex.provider": attempt.provider,
                "modelplex.model": attempt.model or None,
                "modelplex.dialect": attempt.dialect or None,
                "modelplex.key": attempt.key,
                "modelplex.cost_usd": attempt.cost,
                "modelplex.upstream_request_id": attempt.upstream_request_id,
            }
        ),
        error=(attempt.message or attempt.outcome) if is_error else None,
        state=whole.state,
        flags=whole.flags,
    )


def _model_facts(call: CallSummary, detail: CallDetail) -> Attributes:
    served = detail.attempts[-1] if detail.attempts else None
    return {
        "gen_ai.operation.name": operation_of(call.endpoint),
        "gen_ai.provider.name": (served.otel_name if served is not None else "") or call.provider or None,
        "gen_ai.request.model": call.requested_model or None,
        "gen_ai.request.stream": call.stream or None,
        "gen_ai.response.model": call.model or None,
        "gen_ai.response.finish_reasons": [call.finish_reason] if call.finish_reason else None,
        "gen_ai.response.time_to_first_chunk": call.first_output if call.stream else None,
        "gen_ai.usage.input_tokens": call.tokens_in,
        "gen_ai.usage.output_tokens": call.tokens_out,
        "gen_ai.usage.cache_read.input_tokens": call.cache_read,
        "gen_ai.usage.cache_write.input_tokens": call.cache_write,
        "gen_ai.usage.reasoning.output_tokens": call.reasoning,
        "http.response.status_code": call.status or None,
        "error.type": None if call.outcome == "ok" else call.code or call.outcome,
        "modelplex.provider": call.provider or None,
        "modelplex.cost_usd": call.cost,
        "modelplex.attempts": call.attempts,
        "modelplex.changes": call.changes,
        "modelplex.stripped": call.stripped,
        "modelplex.blame": call.blame,
    }


def _tool_name(call: CallSummary) -> str:
    """Resources are any number, so that a name has none."""
    return f"{call.endpoint} {call.tool}" if call.endpoint in {TOOL_CALL, PROMPT} else call.endpoint


def _tool_facts(call: CallSummary, detail: CallDetail) -> Attributes:
    method = call.endpoint
    error = "tool_error" if call.outcome == "tool_error" else call.code or call.outcome
    return {
        "mcp.method.name": method,
        "gen_ai.operation.name": "execute_tool" if method == TOOL_CALL else None,
        "gen_ai.tool.name": call.tool if method == TOOL_CALL else None,
        "gen_ai.prompt.name": call.tool if method == PROMPT else None,
        "mcp.resource.uri": call.tool if method == RESOURCE else None,
        "error.type": None if call.outcome == "ok" else error,
        "modelplex.server": call.server or None,
        "modelplex.decision": detail.decision or None,
        "modelplex.rule": detail.rule or None,
    }


def _common_facts(call: CallSummary, run: str) -> Attributes:
    return {
        "gen_ai.agent.name": call.agent or None,
        "modelplex.request_id": call.id,
        "modelplex.outcome": call.outcome,
        "modelplex.relation": call.relation or None,
        "modelplex.listener": call.listener,
        "modelplex.run.id": run or None,
    }


def _present(values: Attributes) -> dict[str, AttributeValue]:
    return {name: value for name, value in values.items() if value is not None}

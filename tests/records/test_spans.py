from __future__ import annotations

import msgspec

from modelplex.core.trace_context import TraceContext, span_id_of, trace_id_of
from modelplex.records.record import AttemptRecord
from modelplex.records.spans import Span, record_spans, run_span
from modelplex.records.tool_call import ToolRecord
from tests.records.store.stored import record, tool_record

CLIENT = TraceContext("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", 1, "a=1")


def tool(**more: object) -> ToolRecord:
    return msgspec.structs.replace(
        tool_record(), **{"agent": "coder", "tool": "git__status", "seconds": 2.0, **more}
    )


def test_a_call_of_a_run_is_below_its_span() -> None:
    root = run_span("run-1", agent="coder", started=1.0, ended=9.0, tags={"pr": "12"})
    call, *attempts = record_spans(record(1), run="run-1")
    assert (root.trace_id, root.span_id, root.parent_id) == (trace_id_of("run-1"), span_id_of("run-1"), "")
    assert root.attributes["modelplex.tag.pr"] == "12"
    assert (call.trace_id, call.parent_id) == (root.trace_id, root.span_id)
    assert {(each.trace_id, each.parent_id) for each in attempts} == {(call.trace_id, call.span_id)}


def test_a_call_without_a_run_is_a_trace_of_its_own() -> None:
    (first, *_), (second, *_) = record_spans(record(1), run=""), record_spans(record(2), run="")
    assert first.trace_id != second.trace_id
    assert not first.parent_id
    assert first == record_spans(record(1), run="")[0]  # the same one however often it is made


def test_the_trace_of_the_client_goes_on() -> None:
    made = msgspec.structs.replace(record(1), trace=CLIENT)
    call, *attempts = record_spans(made, run="run-1")
    assert (call.trace_id, call.parent_id, call.state) == (CLIENT.trace_id, CLIENT.parent_id, "a=1")
    assert [each.span_id for each in call.links] == [span_id_of("run-1")]
    assert {each.trace_id for each in attempts} == {CLIENT.trace_id}
    of_run = TraceContext(trace_id_of("run-1"), "00f067aa0ba902b7")
    same, *_ = record_spans(msgspec.structs.replace(record(1), trace=of_run), run="run-1")
    assert same.links == ()
    (called,) = record_spans(tool(trace=CLIENT), run="")
    assert (called.trace_id, called.parent_id) == (CLIENT.trace_id, CLIENT.parent_id)


def test_each_attempt_is_a_span_and_no_call_of_a_model() -> None:
    attempts = (
        AttemptRecord("first", "a", 0, "timeout", seconds=3.0, message="Nothing came.", otel_name="openai"),
        AttemptRecord("second", "b", 1, "ok", 200, started=3.5, seconds=1.0, otel_name="x_ai"),
    )
    made = msgspec.structs.replace(record(1), attempts=attempts, provider="second", model="b")
    call, one, two = record_spans(made, run="")
    assert call.attributes["gen_ai.provider.name"] == "x_ai"
    assert (one.name, two.name) == ("attempt first", "attempt second")
    assert (one.error, one.attributes["error.type"]) == ("Nothing came.", "timeout")
    assert two.start - one.start == 3.5
    assert two.attributes["http.request.resend_count"] == 1
    for each in (one, two):
        assert not [name for name in each.attributes if name.startswith("gen_ai.")]


def test_a_tool_call_has_the_names_of_mcp() -> None:
    (span,) = record_spans(tool(), run="run-1")
    assert (span.name, span.end - span.start) == ("tools/call git__status", 2.0)
    facts = span.attributes
    assert (facts["mcp.method.name"], facts["gen_ai.tool.name"]) == ("tools/call", "git__status")
    assert facts["gen_ai.operation.name"] == "execute_tool"
    (failed,) = record_spans(tool(outcome="tool_error", is_error=True), run="")
    assert (failed.attributes["error.type"], failed.error) == ("tool_error", "tool_error")
    (read,) = record_spans(tool(method="resources/read", tool="file:///x"), run="")
    assert (read.name, read.attributes["mcp.resource.uri"]) == ("resources/read", "file:///x")
    assert "gen_ai.operation.name" not in read.attributes


def test_a_span_has_no_content() -> None:
    made = msgspec.structs.replace(record(1), request_body=b"canary-in", response_body=b"canary-out")
    spans: list[Span] = record_spans(made, run="")
    assert b"canary" not in msgspec.json.encode(spans)

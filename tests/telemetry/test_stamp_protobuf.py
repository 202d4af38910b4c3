"""Against the official messages."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from modelplex.telemetry.signals import BadTelemetry
from modelplex.telemetry.stamp_protobuf import stamp

OURS = {"modelplex.agent.name": "coder", "modelplex.run.id": "run-1"}


def text(key: str, value: str) -> KeyValue:
    return KeyValue(key=key, value=AnyValue(string_value=value))


def traces(*attributes: KeyValue) -> ExportTraceServiceRequest:
    request = ExportTraceServiceRequest()
    entry = request.resource_spans.add(schema_url="https://example.com/schema")
    entry.resource.attributes.extend(attributes)
    entry.resource.dropped_attributes_count = 300
    scope = entry.scope_spans.add()
    scope.scope.name = "agent"
    scope.spans.add(name="work", trace_id=b"\1" * 16, span_id=b"\2" * 8, start_time_unix_nano=2**63)
    return request


def read(body: bytes) -> ExportTraceServiceRequest:
    request = ExportTraceServiceRequest()
    request.ParseFromString(body)
    return request


def resource_of(body: bytes) -> dict[str, str]:
    (entry,) = read(body).resource_spans
    return {each.key: each.value.string_value for each in entry.resource.attributes}


def test_a_resource_is_stamped_and_all_else_is_the_same() -> None:
    sent = traces(text("service.name", "claude-code"), text("x" * 300, "y"))
    stamped = read(stamp(sent.SerializeToString(), OURS))
    sent.resource_spans[0].resource.attributes.extend([text(*each) for each in OURS.items()])
    assert stamped == sent


def test_forged_attributes_are_taken_out() -> None:
    sent = traces(
        text("modelplex.agent.name", "admin"),
        text("modelplex.anything", "x"),
        text("service.name", "modelplex"),
        text("other", "1"),
    )
    assert resource_of(stamp(sent.SerializeToString(), OURS)) == {"other": "1", **OURS}


def test_a_resource_in_several_pieces_is_one() -> None:
    """A reader joins repeated occurrences of a message: the last words are ours."""
    piece = Resource(attributes=[text("modelplex.agent.name", "admin")]).SerializeToString()
    entry = b"\x0a" + bytes([len(piece)]) + piece
    body = b"\x0a" + bytes([2 * len(entry)]) + entry * 2
    assert resource_of(body) == {"modelplex.agent.name": "admin"}
    assert resource_of(stamp(body, OURS)) == OURS


def test_a_key_that_is_given_twice_is_the_last() -> None:
    """As a reader sees it, so that none gets past by a first harmless one."""
    forged = text("modelplex.agent.name", "admin").SerializeToString()
    attribute = text("harmless", "").SerializeToString() + forged
    resource = b"\x0a" + bytes([len(attribute)]) + attribute
    entry = b"\x0a" + bytes([len(resource)]) + resource
    body = b"\x0a" + bytes([len(entry)]) + entry
    assert resource_of(body) == {"modelplex.agent.name": "admin"}
    assert resource_of(stamp(body, OURS)) == OURS


def test_an_entry_without_a_resource_gets_one() -> None:
    request = ExportTraceServiceRequest()
    request.resource_spans.add()
    assert resource_of(stamp(request.SerializeToString(), OURS)) == OURS
    assert stamp(b"", OURS) == b""


def test_unknown_fields_do_not_pass() -> None:
    """Nor a known one with another wire type, which a reader would take for unknown."""
    body = traces().SerializeToString() + b"\x12\x01x" + b"\x08\x05" + b"\x1d1234" + b"\x2112345678"
    assert len(read(stamp(body, OURS)).SerializeToString()) == len(stamp(traces().SerializeToString(), OURS))


@pytest.mark.parametrize("kind", [ExportLogsServiceRequest, ExportMetricsServiceRequest])
def test_the_other_signals_have_the_same_numbers(kind: Any) -> None:
    request = kind()
    entries = (
        request.resource_logs if isinstance(request, ExportLogsServiceRequest) else request.resource_metrics
    )
    entries.add().resource.attributes.append(text("modelplex.agent.name", "admin"))
    stamped = kind.FromString(stamp(request.SerializeToString(), OURS))
    del entries[0].resource.attributes[:]
    entries[0].resource.attributes.extend([text(*each) for each in OURS.items()])
    assert stamped == request


@pytest.mark.parametrize(
    "body",
    [
        b"\x0a",
        b"\x0a\x05x",
        b"\x0b",
        b"\x00\x01",
        b"\xff" * 12,
        b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        b"\x08",
    ],
)
def test_what_is_no_protobuf_is_refused(body: bytes) -> None:
    with pytest.raises(BadTelemetry, match="no OTLP in protobuf"):
        stamp(body, OURS)


@given(st.binary(max_size=200))
def test_bytes_of_any_kind_are_refused_or_stamped(body: bytes) -> None:
    try:
        stamped = stamp(body, OURS)
    except BadTelemetry:
        return
    try:
        found = read(stamped)
    except Exception:  # noqa: BLE001 - a scope that passes unread may be anything
        return
    for entry in found.resource_spans:
        names = [each.key for each in entry.resource.attributes if each.key.startswith("modelplex.")]
        assert names == list(OURS)

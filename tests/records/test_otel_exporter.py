"""OpenTelemetry's exporter against a server that reads its protobuf."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from modelplex.records import otel_exporter
from modelplex.records.otel_exporter import OtelUnavailable, OtlpExporter, check_installed
from modelplex.records.spans import Span, SpanLink

SPAN = Span(
    trace_id="4bf92f3577b34da6a3ce929d0e0e4736",
    span_id="00f067aa0ba902b7",
    parent_id="00f067aa0ba902b8",
    name="chat m",
    kind="client",
    start=1.5,
    end=2.5,
    attributes={"gen_ai.request.model": "m", "modelplex.attempts": 1, "a": ["x"], "b": True, "c": 0.5},
    error="It broke.",
    links=(SpanLink("4bf92f3577b34da6a3ce929d0e0e4737", "00f067aa0ba902b9", {"why": "run"}),),
    state="rojo=1",
)


@contextmanager
def collector(status: int = 200) -> Generator[tuple[str, list[Any]]]:
    """Its address, and what it got: path, headers and body."""
    got: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            got.append((self.path, dict(self.headers), body))
            self.send_response(status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            del format, args

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/base", got
        finally:
            server.shutdown()
            thread.join()


def test_a_span_arrives_as_it_was() -> None:
    with collector() as (address, got):
        exporter = OtlpExporter(address, headers={"authorization": "Bearer t"}, version="1.2")
        assert exporter.send([SPAN]) == ""
        exporter.stop()
    ((path, headers, body),) = got
    assert path == "/base/v1/traces"
    assert headers["authorization"] == "Bearer t"
    request = ExportTraceServiceRequest()
    request.ParseFromString(body)
    (resource,) = request.resource_spans
    facts = {each.key: each.value.string_value for each in resource.resource.attributes}
    assert (facts["service.name"], facts["service.version"]) == ("modelplex", "1.2")
    ((span,),) = [scope.spans for scope in resource.scope_spans]
    assert span.trace_id.hex() == SPAN.trace_id
    assert (span.span_id.hex(), span.parent_span_id.hex()) == (SPAN.span_id, SPAN.parent_id)
    assert (span.start_time_unix_nano, span.end_time_unix_nano) == (1_500_000_000, 2_500_000_000)
    assert (span.name, span.kind, span.trace_state) == ("chat m", 3, "rojo=1")
    assert (span.status.code, span.status.message) == (2, "It broke.")
    assert span.links[0].span_id.hex() == "00f067aa0ba902b9"
    values = {each.key: each.value for each in span.attributes}
    assert values["modelplex.attempts"].int_value == 1
    assert values["a"].array_value.values[0].string_value == "x"


def test_a_collector_that_refuses_is_what_went_wrong() -> None:
    with collector(401) as (address, got):
        exporter = OtlpExporter(address, headers={}, version="1")
        assert "401" in exporter.send([SPAN])
        assert len(got) == 1  # what it refuses is not repeated
        exporter.stop()


def test_stop_ends_the_repetitions() -> None:
    exporter = OtlpExporter("http://127.0.0.1:1", headers={}, version="1")
    failure: list[str] = []
    thread = threading.Thread(target=lambda: failure.append(exporter.send([SPAN])))
    thread.start()
    exporter.stop()
    thread.join(30)
    assert not thread.is_alive()
    assert failure[0]


def test_without_the_extra_a_sentence_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    check_installed()

    def find_none(name: str) -> None:
        del name

    monkeypatch.setattr(otel_exporter, "find_spec", find_none)
    with pytest.raises(OtelUnavailable) as caught:
        check_installed()
    assert "pip install 'modelplex[otel]'" in caught.value.sentence

"""Sends spans by OpenTelemetry's exporter for OTLP over HTTP: the extra `modelplex[otel]`.

Imported on the sink's thread: the exporter and its SDK take half a second to load.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from typing import Final

from modelplex.records.spans import Span

NEEDS_EXTRA: Final = (
    "[otel] endpoint needs the extra modelplex[otel]: pip install 'modelplex[otel]', "
    "or uv tool install 'modelplex[otel]'."
)
TIMEOUT_S: Final = 5.0
"""Seconds for one batch, its retries included."""
SERVICE: Final = "modelplex"
SERVICE_VARIABLE: Final = "OTEL_SERVICE_NAME"


class OtelUnavailable(Exception):
    """The exporter is not installed. `sentence` says how to get it."""

    sentence = NEEDS_EXTRA


def check_installed() -> None:
    """Raises OtelUnavailable. Loads nothing but the names of packages."""
    try:
        found = find_spec("opentelemetry.exporter.otlp.proto.http")
    except ModuleNotFoundError:
        found = None
    if found is None:
        raise OtelUnavailable


class OtlpExporter:
    """`endpoint` is the base address of the collector, `headers` those of requests to it."""

    def __init__(self, endpoint: str, *, headers: Mapping[str, str], version: str) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope

        self._warning = _FirstWarning()
        logger = logging.getLogger("opentelemetry")
        logger.addHandler(self._warning)
        logger.propagate = False  # the sink reports, once
        self._exporter = OTLPSpanExporter(
            endpoint=f"{endpoint}/v1/traces", headers=dict(headers), timeout=TIMEOUT_S
        )
        name = os.environ.get(SERVICE_VARIABLE) or SERVICE
        self._resource = Resource.create({"service.name": name, "service.version": version})
        self._scope = InstrumentationScope(SERVICE, version)

    def __repr__(self) -> str:
        return "<OtlpExporter>"

    def send(self, spans: Sequence[Span]) -> str:
        """Blocks for TIMEOUT_S. What went wrong; "" for nothing."""
        from opentelemetry.sdk.trace import ReadableSpan
        from opentelemetry.sdk.trace.export import SpanExportResult
        from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags
        from opentelemetry.trace.span import TraceState

        kinds = {"internal": SpanKind.INTERNAL, "client": SpanKind.CLIENT}

        def context(trace_id: str, span_id: str, state: str, flags: int) -> SpanContext:
            return SpanContext(
                int(trace_id, 16),
                int(span_id, 16),
                is_remote=False,
                trace_flags=TraceFlags(flags),
                trace_state=TraceState.from_header([state]) if state else None,
            )

        def readable(span: Span) -> ReadableSpan:
            return ReadableSpan(
                span.name,
                context=context(span.trace_id, span.span_id, span.state, span.flags),
                parent=context(span.trace_id, span.parent_id, "", span.flags) if span.parent_id else None,
                resource=self._resource,
                attributes=span.attributes,
                links=[
                    Link(context(each.trace_id, each.span_id, "", 0), each.attributes) for each in span.links
                ],
                kind=kinds[span.kind],
                status=Status() if span.error is None else Status(StatusCode.ERROR, span.error),
                start_time=int(span.start * 1e9),
                end_time=int(span.end * 1e9),
                instrumentation_scope=self._scope,
            )

        self._warning.message = ""
        result = self._exporter.export([readable(each) for each in spans])
        if result is SpanExportResult.SUCCESS:
            return ""
        return self._warning.message or "the collector did not take them"

    def stop(self) -> None:
        """Also while `send` waits for its next try."""
        stop: Callable[[], object] = self._exporter.shutdown  # without annotations
        stop()


class _FirstWarning(logging.Handler):
    """Keeps the exporter's first warning, which has the cause, in place of a line for each."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.message = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.message = self.message or record.getMessage()[:1_000]

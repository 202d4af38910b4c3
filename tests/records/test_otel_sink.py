"""The sink of spans: a queue and a thread, with collectors that are slow, dead or gone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
import pytest

from modelplex.core.trace_context import span_id_of
from modelplex.records import otel_sink
from modelplex.records.log import Secrets
from modelplex.records.otel_sink import OtelSink, SpanExport
from modelplex.records.record import AttemptRecord
from modelplex.records.spans import Span
from modelplex.records.store_sink import RunInfo
from tests.records.store.stored import record
from tests.records.test_store_sink import Reports, until

RUN = RunInfo(id="run-1", started=1.0, agent="coder", command="claude -p canary-prompt", tags={"pr": "12"})


class Collector:
    """Takes spans, unless it has a `failure`. While `held`, it blocks."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.failure = ""
        self.held = threading.Event()
        self.held.set()
        self.stopped = threading.Event()

    def send(self, spans: Sequence[Span]) -> str:
        while not self.held.wait(0.01) and not self.stopped.is_set():
            pass
        if not self.failure:
            self.spans += spans
        return self.failure

    def stop(self) -> None:
        self.stopped.set()


@contextmanager
def running(
    collector: SpanExport,
    reports: Reports,
    *,
    open_export: Callable[[], SpanExport] | None = None,
    **more: Any,
) -> Generator[OtelSink]:
    mask = more.pop("mask", bytes)
    made = OtelSink(open_export or (lambda: collector), mask=mask, report=reports, now=lambda: 9.0, **more)
    made.start()
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otel_sink, "GATHER_S", 0.01)


def test_what_waits_is_sent_at_the_end() -> None:
    collector = Collector()
    with running(collector, Reports()) as made:
        made.record(record(1))
        assert made.close()
    assert [each.attributes.get("modelplex.request_id") for each in collector.spans][:1] == ["mpx-0001"]
    assert made.counts()["sent"] == len(collector.spans)
    assert collector.stopped.is_set()


def test_a_run_is_sent_when_it_ends() -> None:
    collector = Collector()
    with running(collector, Reports()) as made:
        made.open_run(RUN)
        made.record(msgspec.structs.replace(record(1), run="run-1"))
        made.end_run("run-1")
        made.end_run("run-1")
        until(lambda: made.counts()["sent"] >= 2)
    (root,) = [each for each in collector.spans if each.name == "invoke_agent coder"]
    assert (root.start, root.end, root.span_id) == (1.0, 9.0, span_id_of("run-1"))
    assert b"canary" not in msgspec.json.encode(collector.spans)  # a command line may hold a prompt
    with running(collector, Reports(), run=RUN) as made:
        assert made.close()
    assert len([each for each in collector.spans if each.name == "invoke_agent coder"]) == 2


def test_a_dead_collector_costs_no_request_and_is_reported_once() -> None:
    collector, reports = Collector(), Reports()
    collector.failure = "connection refused"
    with running(collector, reports) as made:
        for number in range(3):
            made.record(record(number))
            until(lambda: not made._queue and made.counts()["failed"] > 0)
        failed = made.counts()["failed"]
        assert failed >= 3
        collector.failure = ""
        made.record(record(9))
        until(lambda: made.counts()["sent"] > 0)
        until(lambda: len(reports.lines) == 2)
    assert [line for line, _ in reports.lines] == [
        "spans cannot be sent; they are counted",
        "spans are sent again",
    ]
    assert reports.lines[0][1]["reason"] == "connection refused"


def test_what_no_longer_fits_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otel_sink, "QUEUE_LIMIT", 3)
    collector = Collector()
    collector.held.clear()
    with running(collector, Reports()) as made:
        for number in range(20):
            made.record(record(number))
        assert made.counts()["dropped"] >= 10
        assert len(made._queue) <= 3
        collector.held.set()


def test_a_collector_that_hangs_does_not_hold_up_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otel_sink, "CLOSE_LIMIT_S", 0.05)
    collector = Collector()
    collector.held.clear()
    with running(collector, Reports()) as made:
        made.record(record(1))
        until(lambda: not made._queue)
        assert not made.close()
        assert collector.stopped.is_set()


def test_an_exporter_that_cannot_be_made_is_reported() -> None:
    def broken() -> SpanExport:
        raise OSError("no such file")

    reports = Reports()
    with running(Collector(), reports, open_export=broken) as made:
        made.record(record(1))
        until(lambda: bool(reports.lines))
    assert reports.lines[0][1]["reason"] == "OSError: no such file"


def test_secrets_are_masked() -> None:
    collector = Collector()
    attempt = AttemptRecord("p", "m", 0, "auth", 401, message="wrong key sk-canary-012345")
    made_record = msgspec.structs.replace(
        record(1), attempts=(attempt,), error="sk-canary-012345", outcome="error"
    )
    with running(collector, Reports(), mask=Secrets(["sk-canary-012345"]).mask) as made:
        made.record(made_record)
        assert made.close()
    assert len(collector.spans) == 2
    assert b"canary" not in msgspec.json.encode(collector.spans)


def test_a_record_of_which_no_span_can_be_made_does_not_end_the_sink() -> None:
    def mask(text: bytes) -> bytes:
        if b"mpx-0001" in text:
            raise ValueError("cannot be read")
        return text

    collector, reports = Collector(), Reports()
    with running(collector, reports, mask=mask) as made:
        made.record(record(1))
        until(lambda: made.counts()["failed"] == 1)
        made.record(record(2))
        until(lambda: made.counts()["sent"] > 0)
    assert reports.lines[0][1]["reason"] == "ValueError: cannot be read"


def test_bodies_do_not_wait_in_memory() -> None:
    collector = Collector()
    collector.held.clear()
    with running(collector, Reports()) as made:
        made.record(record(0))
        until(lambda: not made._queue)
        made.record(msgspec.structs.replace(record(1), request_body=b"x" * 1000))
        (waiting,) = made._queue
        assert not isinstance(waiting, Span)
        assert waiting.request_body is None
        collector.held.set()

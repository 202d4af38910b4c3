"""`modelplex telemetry`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from modelplex import cli
from modelplex.commands.telemetry import NEEDS_EXTRA
from modelplex.telemetry import kept
from modelplex.telemetry.signals import Encoding, Item, Sender, Signal

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def modelplex(capfdbinary: pytest.CaptureFixture[bytes]) -> Run:
    def run(*words: str) -> tuple[int, str, str]:
        status = cli.main(list(words))
        out, err = capfdbinary.readouterr()
        return status, out.decode(), err.decode()

    return run


CODER = Sender("agent:coder", "unix:/s", "coder", "run-1")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    request = ExportTraceServiceRequest()
    span = request.resource_spans.add().scope_spans.add().spans.add(name="work", kind=3)
    span.trace_id, span.span_id = (
        bytes.fromhex("4bf92f3577b34da6a3ce929d0e0e4736"),
        bytes.fromhex("00f067aa0ba902b7"),
    )
    rows: list[tuple[Sender, Signal, Encoding, bytes]] = [
        (CODER, "logs", "json", b'{"resourceLogs":[]}'),
        (CODER, "traces", "protobuf", request.SerializeToString()),
        (Sender("agent:other", "unix:/o", "other"), "logs", "json", b'{"other":1}'),
    ]
    path = tmp_path / kept.FILE
    with closing(kept.open_for_writing(path)) as database, database:
        for number, row in enumerate(rows):
            database.execute(kept._INSERT, kept._row(Item(float(number), *row)))
    return path


def test_it_is_a_line_of_json_for_each_request(modelplex: Run, file: Path) -> None:
    status, out, _ = modelplex("telemetry", "--store", str(file), "--agent", "coder")
    assert status == 0
    logs, traces = map(json.loads, out.splitlines())
    assert logs == {"resourceLogs": []}
    (span,) = traces["resourceSpans"][0]["scopeSpans"][0]["spans"]
    assert (span["traceId"], span["spanId"]) == ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7")
    assert span["kind"] == 3
    _, out, _ = modelplex("telemetry", "--store", str(file), "--signal", "logs", "--run", "run-1")
    assert len(out.splitlines()) == 1


def test_what_cannot_be_read_is_told(modelplex: Run, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    status, _, errors = modelplex("telemetry", "--store", str(file.parent / "nothing"))
    assert status == 1
    assert "cannot be read" in errors
    status, _, errors = modelplex("telemetry", "--since", "never")
    assert (status, "--since" in errors) == (2, True)
    monkeypatch.setitem(sys.modules, "google.protobuf.json_format", None)
    status, _, errors = modelplex("telemetry", "--store", str(file))
    assert (status, NEEDS_EXTRA in errors) == (1, True)

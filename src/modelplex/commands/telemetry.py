"""`modelplex telemetry`: the telemetry of agents that was kept, a line of OTLP/JSON for each
request.

The form of the lines is that of
https://opentelemetry.io/docs/specs/otel/protocol/file-exporter/ (read on 2026-12-01). What an agent
sent in protobuf is written as JSON by OpenTelemetry's own messages: the extra `modelplex[otel]`.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from modelplex.commands.record import FAILED, OK, WRONG, fail
from modelplex.commands.text import since
from modelplex.config import Config
from modelplex.config.state_folder import state_folder
from modelplex.telemetry.kept import FILE, KeptFilter, KeptUnavailable, read_kept
from modelplex.telemetry.signals import Item, Signal

NEEDS_EXTRA: Final = "some of it is in protobuf, which needs the extra modelplex[otel] to be shown: pip install 'modelplex[otel]'."
_REQUESTS: Final[dict[Signal, tuple[str, str]]] = {
    "traces": ("trace.v1.trace_service_pb2", "ExportTraceServiceRequest"),
    "metrics": ("metrics.v1.metrics_service_pb2", "ExportMetricsServiceRequest"),
    "logs": ("logs.v1.logs_service_pb2", "ExportLogsServiceRequest"),
}
_IDS: Final = frozenset({"traceId", "spanId", "parentSpanId"})


def telemetry(arguments: argparse.Namespace, config: Config) -> int:
    """1 where nothing was kept or it cannot be read."""
    try:
        start = None if arguments.since is None else since(arguments.since, now=time.time())
    except ValueError as error:
        return fail(f"--since: {error}", WRONG)
    place = Path(arguments.store) if arguments.store else _place(config)
    if place is None:
        return fail("this user has no home where telemetry is kept.")
    where = KeptFilter(
        agent=arguments.agent or "", run=arguments.run or "", signal=arguments.signal or "", since=start
    )
    try:
        for each in lines(read_kept(place, where)):
            sys.stdout.buffer.write(each)
    except KeptUnavailable as error:
        hint = "" if config.otel.agents else ' [otel] agents = "keep" keeps it.'
        return fail(f"{error.sentence}{hint}")
    except ImportError:
        return fail(NEEDS_EXTRA, FAILED)
    sys.stdout.buffer.flush()
    return OK


def lines(items: Iterator[Item]) -> Iterator[bytes]:
    """Raises ImportError without the extra, where an item is in protobuf."""
    for item in items:
        yield (item.body if item.encoding == "json" else _as_json(item)) + b"\n"


def _place(config: Config) -> Path | None:
    try:
        return state_folder(config.server.state_folder, environ=os.environ) / FILE
    except RuntimeError:
        return None


def _as_json(item: Item) -> bytes:
    """OTLP writes enumerations as numbers, and ids in hexadecimal where protobuf has base64."""
    import msgspec

    module, name = _REQUESTS[item.signal]
    request: Any = getattr(import_module(f"opentelemetry.proto.collector.{module}"), name)()
    to_dict: Callable[..., Any] = import_module("google.protobuf.json_format").MessageToDict
    request.ParseFromString(item.body)
    document: Any = to_dict(request, use_integers_for_enums=True)

    def hexadecimal(value: Any) -> Any:
        match value:
            case [*items]:
                return [hexadecimal(each) for each in items]
            case {**members}:
                return {key: _id(each) if key in _IDS else hexadecimal(each) for key, each in members.items()}
            case _:
                return value

    return msgspec.json.encode(hexadecimal(document))


def _id(written: Any) -> str:
    """An id of OTLP/JSON, of one in base64."""
    import base64

    return base64.b64decode(str(written)).hex()

"""OpenTelemetry of a gateway: its own spans to a collector, and the telemetry of agents, which is
kept, relayed or discarded as `[otel]` says.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from functools import partial
from time import monotonic, time
from typing import TYPE_CHECKING, Final, cast

import modelplex
from modelplex.config import Config
from modelplex.config.state_folder import state_folder
from modelplex.core.caller import Caller
from modelplex.eager_task import in_asyncio_task
from modelplex.http_client import HttpClient
from modelplex.records.log import Log
from modelplex.records.record import Record
from modelplex.records.sink import Sink
from modelplex.records.store_sink import RunInfo
from modelplex.records.tool_call import ToolRecord
from modelplex.server.http_exchange import HttpExchange
from modelplex.server.record_store import OFF, RUN_VARIABLE, RecordStore, run_of
from modelplex.server.response_writer import ResponseWriter
from modelplex.telemetry.signals import EMPTY, LABELS, MEDIA_TYPES, Sender, Signal

if TYPE_CHECKING:
    from modelplex.records.otel_sink import OtelSink, SpanExport
    from modelplex.telemetry.intake import TelemetryIntake
    from modelplex.telemetry.kept import KeptRules, KeptTelemetry
    from modelplex.telemetry.relayed import RelayedTelemetry

KEPT_PART: Final = 4
"""Of `[record] max_size`, a quarter is for the telemetry of agents."""


class Telemetry:
    """`intake` is None where the telemetry of agents is discarded. A config without [otel] loads
    none of it.
    """

    def __init__(
        self,
        config: Config,
        *,
        log: Log,
        client: HttpClient,
        store: RecordStore,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self._log = log
        self._store = store
        self._sink: OtelSink | None = None
        self._kept: KeptTelemetry | None = None
        self._relayed: RelayedTelemetry | None = None
        self.intake: TelemetryIntake | None = None
        otel = config.otel
        headers = {name: value.reveal() for name, value in otel.headers.items()}
        if otel.endpoint and environ.get(RUN_VARIABLE) != OFF:
            self._open_sink(otel.endpoint, headers, run=run_of(environ))
        if "keep" in otel.agents:
            self._open_kept(config, environ)
        if "relay" in otel.agents:
            from modelplex.telemetry.relayed import RelayedTelemetry

            self._relayed = RelayedTelemetry(
                client, otel.endpoint, headers=headers, report=partial(self._failing, "relayed")
            )
        targets = [each for each in (self._kept, self._relayed) if each is not None]
        if targets:
            from modelplex.telemetry.intake import TelemetryIntake

            self.intake = TelemetryIntake(targets, clock=monotonic, now=time)

    def __repr__(self) -> str:
        return f"<Telemetry {self._sink} {self._kept} {self._relayed}>"

    def _open_sink(self, endpoint: str, headers: Mapping[str, str], *, run: RunInfo | None) -> None:
        from modelplex.records.otel_sink import OtelSink

        def export() -> SpanExport:
            from modelplex.records.otel_exporter import OtlpExporter

            return OtlpExporter(endpoint, headers=headers, version=modelplex.__version__)

        self._sink = OtelSink(export, mask=self._log.mask, report=self._log.events, run=run)

    def _open_kept(self, config: Config, environ: Mapping[str, str]) -> None:
        from modelplex.telemetry.kept import FILE, KeptTelemetry

        path = state_folder(config.server.state_folder, environ=environ) / FILE
        self._kept = KeptTelemetry(path, _rules(config), report=partial(self._failing, "kept"))

    @property
    def sinks(self) -> list[Sink]:
        return [] if self._sink is None else [self]

    def record(self, record: Record | ToolRecord, /) -> None:
        """Not those that a connection refused, which name no endpoint."""
        if self._sink is None or not self._store.is_recorded(record.run):
            return
        if isinstance(record, ToolRecord) or record.endpoint:
            self._sink.record(record)

    def open_run(self, run: RunInfo) -> None:
        if self._sink is not None:
            self._sink.open_run(run)

    def end_run(self, id: str) -> None:
        if self._sink is not None:
            self._sink.end_run(id)

    def start(self) -> None:
        """Raises OtelUnavailable where the exporter is not installed."""
        if self._sink is not None:
            from modelplex.records.otel_exporter import check_installed

            check_installed()
            self._sink.start()
        if self._kept is not None:
            self._kept.start()

    def configure(self, config: Config) -> None:
        """Limits of another config. Another [otel] needs a restart."""
        if self._kept is not None:
            self._kept.configure(_rules(config))

    async def close(self) -> None:
        """Send and write what waits, for some seconds at most."""
        if self._relayed is not None:
            await self._relayed.close()
        if self._kept is not None and not await asyncio.to_thread(self._kept.close):
            self._log.events.error("the last telemetry of agents could not be kept")
        if self._sink is not None and not await asyncio.to_thread(self._sink.close):
            self._log.events.error("the last spans could not be sent", **self._sink.counts())

    def spans(self) -> Mapping[str, int]:
        return {} if self._sink is None else self._sink.counts()

    def requests(self) -> Mapping[tuple[str, str, str], int]:
        return {} if self.intake is None else self.intake.counts()

    def passed_on(self) -> Mapping[str, int]:
        found: dict[str, int] = {}
        for each in (self._kept, self._relayed):
            for outcome, count in each.counts().items() if each is not None else ():
                found[outcome] = found.get(outcome, 0) + count
        return found

    def _failing(self, what: str, failure: str) -> None:
        if failure:
            self._log.events.warning(f"telemetry of agents cannot be {what}", reason=failure)
        else:
            self._log.events.info(f"telemetry of agents is {what} again")


def _rules(config: Config) -> KeptRules:
    from modelplex.telemetry.kept import KeptRules

    return KeptRules(config.record.max_age, config.record.max_size // KEPT_PART)


async def take_telemetry(
    intake: TelemetryIntake | None,
    exchange: HttpExchange,
    response: ResponseWriter,
    caller: Caller,
    *,
    limit: int,
) -> tuple[bytes, bytes]:
    """Content type and body of the answer. Raises ModelplexError."""
    head = exchange.head.facts
    if intake is None:
        await response.body(limit=limit, declared=exchange.length)
        encoding = MEDIA_TYPES.get(head.content_type.partition(";")[0].strip(), "json")
        return LABELS[encoding], EMPTY[encoding]
    from modelplex.telemetry.intake import MAX_BODY

    signal = cast("Signal", head.path.rpartition("/")[2])
    run = caller.run.id if caller.run is not None else ""
    owner = f"run:{run}" if run else caller.owner
    sender = Sender(owner, caller.listener, caller.agent, run)
    intake.check(sender, signal)
    body = await response.body(limit=min(limit, MAX_BODY), declared=exchange.length)
    await in_asyncio_task()
    encoding = await intake.take(body, sender, signal, content_type=head.content_type, gzip=head.gzip)
    return LABELS[encoding], EMPTY[encoding]

"""The operator's page of several workers: it shows all of them, whichever one serves it.

Parts and records travel pickled between workers, which are forks of one program with the same
secrets. The supervisor reads none of them.
"""

from __future__ import annotations

import asyncio
import pickle
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import msgspec

from modelplex.dashboard.request import ApprovedName, Definition, LiveCall, SeenAgent, Stopped
from modelplex.records.metrics import Metrics, ModelKey, ModelSeries
from modelplex.records.record import Record
from modelplex.records.sink import Sink, without_bodies
from modelplex.records.tool_call import ToolRecord
from modelplex.server.page_sources import ServerSources
from modelplex.server.workers.collect import Collector
from modelplex.server.workers.merge import Workers, merge

PART, CALLS, STOP, RESET = "page/part", "page/calls", "page/stop", "page/reset"
KEPT_CALLS = 2_000
"""Records that wait for another worker's page, which asks twice a second."""
LEASE_SECONDS = 5.0
"""After the last question of another worker's page: then no more records are kept for it."""


class PagePart(msgspec.Struct, frozen=True):
    """What one worker has for the page. `views` are as JSON."""

    running: list[LiveCall]
    seen: list[SeenAgent]
    views: dict[str, bytes]
    series: dict[ModelKey, ModelSeries]
    requests: dict[tuple[str, str, str, str, str, str, str], int]
    errors: dict[tuple[str, str, str, str], int]
    lost_lines: dict[str, int]


class PageShare:
    """Answers the pages of other workers."""

    def __init__(self, sources: Callable[[], ServerSources], number: int) -> None:
        self._sources = sources
        self._number = number
        self._forwarding: dict[str, ForwardedCalls] = {}
        self.answers: Mapping[str, Callable[[str], bytes]] = {
            PART: lambda _: pickle.dumps(self._part()),
            CALLS: self._calls,
            STOP: self._stop,
            RESET: self._reset,
        }

    def __repr__(self) -> str:
        return f"<PageShare of worker {self._number}>"

    def _part(self) -> PagePart:
        sources = self._sources()
        metrics = sources.metrics
        return PagePart(
            running=sources.running(),
            seen=sources.seen(),
            views={name: msgspec.json.encode(sources.view(name)) for name in ("status", "agents", "mcp")},
            series=metrics.series.copy(),
            requests=metrics.requests.copy(),
            errors=metrics.errors.copy(),
            lost_lines=dict(metrics.lost_lines()),
        )

    def _calls(self, asker: str) -> bytes:
        if asker == str(self._number):
            return pickle.dumps([])  # its own page has a sink here
        found = self._forwarding.get(asker)
        if found is None:
            found = self._forwarding[asker] = ForwardedCalls(
                self._sources(), ended=lambda: self._forwarding.pop(asker, None)
            )
        return pickle.dumps(found.take())

    def _stop(self, argument: str) -> bytes:
        request, agent, run = msgspec.json.decode(argument, type=tuple[str, str, str])
        return msgspec.json.encode(self._sources().stop_own(request=request, agent=agent, run=run))

    def _reset(self, provider: str) -> bytes:
        return msgspec.json.encode(self._sources().reset_own(provider))


class ForwardedCalls:
    """A sink for the page of another worker, until that asks no more."""

    def __init__(self, sources: ServerSources, *, ended: Callable[[], object]) -> None:
        self._records: deque[Record | ToolRecord] = deque(maxlen=KEPT_CALLS)
        self._sources = sources
        self._ended = ended
        self._timer: asyncio.TimerHandle | None = None
        sources.attach(self)

    def record(self, record: Record | ToolRecord, /) -> None:
        self._records.append(without_bodies(record))

    def take(self) -> list[Record | ToolRecord]:
        """The records since the last call."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(LEASE_SECONDS, self._end)
        taken = list(self._records)
        self._records.clear()
        return taken

    def _end(self) -> None:
        self._sources.detach(self)
        self._ended()


class WorkerSources:
    """The page's sources: this worker's, and after a `refresh` those of the others."""

    def __init__(self, own: ServerSources, collector: Collector, workers: Workers) -> None:
        self.metrics = own.metrics
        self.stopping = own.stopping
        self.is_recording = own.is_recording
        self.open_store = own.open_store
        self._own = own
        self._collector = collector
        self._workers = workers
        self._parts: dict[int, PagePart | None] = {}
        self._sinks: list[Sink] = []

    async def refresh(self, view: Literal["part", "calls"]) -> None:
        if view == "part":
            bodies = await self._collector.collect(PART)
            self._parts = {n: None if body is None else pickle.loads(body) for n, body in bodies.items()}  # noqa: S301 - of another worker
            self.metrics = merged_metrics([part for part in self._parts.values() if part is not None])
            return
        bodies = await self._collector.collect(CALLS, str(self._collector.number))
        for body in filter(None, bodies.values()):
            records: list[Record | ToolRecord] = pickle.loads(body)  # noqa: S301 - of another worker
            for record in records:
                for sink in self._sinks:
                    sink.record(record)

    def running(self) -> list[LiveCall]:
        return [call for part in self._answered() for call in part.running]

    def seen(self) -> list[SeenAgent]:
        """The last sighting of each agent, or of the callers of a listener."""
        found: dict[tuple[str, str], SeenAgent] = {}
        for each in (one for part in self._answered() for one in part.seen):
            before = found.get((each.agent, each.listener))
            if before is None or (each.last or 0.0) > (before.last or 0.0):
                found[each.agent, each.listener] = each
        return list(found.values())

    def view(self, name: Literal["status", "agents", "mcp"]) -> Any:
        bodies = {n: None if part is None else part.views[name] for n, part in self._parts.items()}
        return msgspec.json.decode(merge(name, bodies, self._workers))

    async def stop(self, *, request: str = "", agent: str = "", run: str = "") -> Stopped:
        """Runs attach to no gateway with workers."""
        bodies = await self._collector.collect(STOP, msgspec.json.encode((request, agent, run)).decode())
        stopped = (msgspec.json.decode(body, type=Stopped) for body in bodies.values() if body is not None)
        return Stopped([run for of_worker in stopped for run in of_worker.runs])

    async def reset(self, provider: str) -> int:
        bodies = await self._collector.collect(RESET, provider)
        return sum(msgspec.json.decode(body, type=int) for body in bodies.values() if body is not None)

    def attach(self, sink: Sink) -> None:
        self._sinks.append(sink)
        self._own.attach(sink)

    def detach(self, sink: Sink) -> None:
        self._sinks.remove(sink)
        self._own.detach(sink)

    async def definitions(self) -> list[Definition]:
        return await self._own.definitions()

    async def approve(self, server: str, names: Sequence[ApprovedName]) -> int:
        """The others read the file of approvals within a second."""
        return await self._own.approve(server, names)

    def _answered(self) -> list[PagePart]:
        return [part for part in self._parts.values() if part is not None]


def merged_metrics(parts: Sequence[PagePart]) -> Metrics:
    """The sums of what the page shows."""
    merged = Metrics(lost_lines=lambda: _summed([part.lost_lines for part in parts]))
    merged.requests = _summed([part.requests for part in parts])
    merged.errors = _summed([part.errors for part in parts])
    for part in parts:
        for key, series in part.series.items():
            merged.series.setdefault(key, ModelSeries()).add(series)
    return merged


def _summed(tables: Sequence[Mapping[Any, int]]) -> dict[Any, int]:
    keys = dict.fromkeys(key for table in tables for key in table)
    return {key: sum(table.get(key, 0) for table in tables) for key in keys}

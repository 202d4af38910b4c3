"""The gateway as the operator's page sees it. Loaded with the page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any, Literal

import msgspec

from modelplex.core.caller import Caller
from modelplex.core.errors import BadRequest, OperatorStopped
from modelplex.dashboard.request import ApprovedName, Definition, LiveCall, SeenAgent, Stopped
from modelplex.records.builder import RecordBuilder
from modelplex.records.sink import Sink
from modelplex.server.app import App
from modelplex.server.callers import ClientConnection
from modelplex.server.planned_call import PlannedCall
from modelplex.server.record_store import RecordStore
from modelplex.server.reports import Reports
from modelplex.server.response_writer import ResponseWriter
from modelplex.server.tool_endpoints import ToolEndpoints


class ServerSources:
    """The parts of a running process. Everything is read when the page asks."""

    def __init__(
        self,
        app: App,
        reports: Reports,
        tools: ToolEndpoints,
        store: RecordStore,
        *,
        stopping: Callable[[], bool],
        stop_run: Callable[[str], bool],
    ) -> None:
        """`stop_run` refuses what an attached run asks from now on; False where it is none."""
        self.metrics = reports.metrics
        self.stopping = stopping
        self._app = app
        self._reports = reports
        self._tools = tools
        self.is_recording = store.sink is not None
        self.open_store = store.open_for_reading
        self._run = store.run_id
        self._stop_run = stop_run

    def running(self) -> list[LiveCall]:
        now = perf_counter()
        return [
            _live(response, record, now=now) for response, record in self._calls() if record.request.model
        ]

    async def refresh(self, view: Literal["part", "calls"]) -> None:
        """All that there is is here."""

    async def stop(self, *, request: str = "", agent: str = "", run: str = "") -> Stopped:
        return self.stop_own(request=request, agent=agent, run=run)

    async def reset(self, provider: str) -> int:
        return self.reset_own(provider)

    def stop_own(self, *, request: str = "", agent: str = "", run: str = "") -> Stopped:
        """End the calls with this id, of this agent, or of this run with what it asks of tool
        servers, each with an error in the client's protocol. A run that is attached gets no more.
        """
        is_refused = bool(run) and self._stop_run(run)
        stopped: list[str] = []
        for response, record in tuple(self._app.running.items()):
            caller = record.caller if record is not None else _caller_of(response)
            own = caller.run.id if caller.run is not None else self._run
            if (run and own == run) or (
                record is not None and (record.id == request or (agent and caller.agent == agent))
            ):
                response.stop(OperatorStopped("Policy: the operator stopped this request."))
                stopped.append(own)
                self._reports.log.events.warning(
                    "a request was stopped by the operator",
                    request=record.id if record is not None else "",
                    agent=caller.agent,
                )
        return Stopped(stopped, is_refused=is_refused)

    def seen(self) -> list[SeenAgent]:
        return [
            SeenAgent(
                agent=each.caller.agent,
                listener=each.caller.listener,
                client=each.caller.client,
                pid=each.caller.peer.pid if each.caller.peer is not None else None,
                uid=each.caller.peer.uid if each.caller.peer is not None else None,
                reach=each.caller.attested.reach if each.caller.attested is not None else "",
                interfaces=each.caller.attested.interfaces if each.caller.attested is not None else (),
                since=each.since,
                last=each.last,
            )
            for each in self._app.callers.sightings.values()
            if each.caller.kind != "admin"
        ]

    def view(self, name: Literal["status", "agents", "mcp"]) -> Any:
        return self._app.admin.data(name, self._app.gateway)

    def reset_own(self, provider: str) -> int:
        """Close the circuits of this provider. Returns how many."""
        gateway = self._app.gateway
        found = [one for one in gateway.circuits.unhealthy() if one.name.provider == provider]
        gateway.circuits.keep_only(frozenset(gateway.upstreams) - {provider})
        self._reports.log.events.warning("circuit breakers were reset by the operator", provider=provider)
        return len(found)

    def attach(self, sink: Sink) -> None:
        self._reports.sinks.append(sink)

    def detach(self, sink: Sink) -> None:
        self._reports.sinks.remove(sink)

    async def definitions(self) -> list[Definition]:
        service = self._tools.service
        if service is None:
            return []
        return [
            Definition(
                server=each.approval.server,
                kind=each.approval.kind,
                name=each.approval.name,
                state=each.approval.state,
                hash=each.approval.hash,
                approved=each.approval.approved,
                now=each.now,
                before=each.before,
                findings=tuple(finding.sentence for finding in each.approval.findings),
            )
            for each in await service.definitions()
        ]

    async def approve(self, server: str, names: Sequence[ApprovedName]) -> int:
        """Raises BadRequest."""
        # The tools' code is loaded where [mcp] is enabled.
        from modelplex.mcp.lockfile import LockError
        from modelplex.mcp.review import ChosenDefinition, ReviewError

        service = self._tools.service
        if service is None:
            raise BadRequest("[mcp] is not enabled.")
        try:
            chosen = msgspec.convert(names, list[ChosenDefinition], from_attributes=True)
            return await service.approve(server, chosen)
        except msgspec.ValidationError as error:
            raise BadRequest(f"Not approved: {error}.") from None
        except (ReviewError, LockError) as error:
            raise BadRequest(f"Not approved: {error}") from None
        except OSError as error:
            raise BadRequest(f"The approval cannot be stored: {error.strerror or error}.") from None

    def _calls(self) -> list[tuple[ResponseWriter | PlannedCall, RecordBuilder | PlannedCall]]:
        return [(response, record) for response, record in self._app.running.items() if record is not None]


def _caller_of(response: ResponseWriter | PlannedCall) -> Caller:
    """Of a request to tool servers, which has no record yet."""
    client: ClientConnection = response.exchange.connection.state["client"]
    return client.caller


def _live(
    response: ResponseWriter | PlannedCall, record: RecordBuilder | PlannedCall, *, now: float
) -> LiveCall:
    attempt, request = record.attempt, record.request
    return LiveCall(
        id=record.id,
        agent=record.caller.agent,
        listener=record.caller.listener,
        model=request.model,
        provider=attempt.provider if attempt is not None else "",
        provider_model=attempt.model if attempt is not None else "",
        endpoint=request.endpoint,
        stream=request.stream,
        seconds=now - record.started,
        first_output=response.first - record.started if response.first is not None else None,
        sent=response.sent,
        attempts=len(record.attempts) + 1,
        bytes_in=len(request.body),
    )

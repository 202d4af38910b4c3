"""Builds a gateway from a Config and runs it: start, reload, drain, stop.

Start: bind first, so that a second gateway is refused before anything else happens; then serve;
then list the providers' models. Stop: accept no more, let running requests end within
`drain_timeout` or until a second signal, end the rest with an error in their own protocol.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import random
import signal
from collections.abc import Callable
from itertools import starmap
from time import perf_counter, time
from typing import TYPE_CHECKING

import uvloop

import modelplex
from modelplex.config import Config
from modelplex.confinement.confine import UNCONFINED, Confinement
from modelplex.dialects import registry
from modelplex.http_client import HttpClient
from modelplex.limits.agent_limits import AgentLimits
from modelplex.pipeline.gateway import Gateway, SharedState
from modelplex.pipeline.model_catalog import ModelCatalog
from modelplex.pipeline.offload import Offload
from modelplex.pipeline.sealed_policy import egress_of
from modelplex.pipeline.state_origins import StateOrigins
from modelplex.records.log import Log, Secrets
from modelplex.records.metrics import Breaker, BudgetLeft, Metrics
from modelplex.records.price import Prices
from modelplex.records.sink import Sink
from modelplex.routing.circuits import Circuits
from modelplex.server import from_config, process_setup
from modelplex.server.address import Unix
from modelplex.server.admin import AdminRoutes
from modelplex.server.admission import BodyMemory
from modelplex.server.agent_sockets import AgentListeners
from modelplex.server.agents_api import AgentsApi
from modelplex.server.app import App, BodySettings
from modelplex.server.attached_runs import AttachedRuns, RunParts
from modelplex.server.budgets import Budgets, new_budgets
from modelplex.server.callers import CallerResolver
from modelplex.server.config_changes import AgentChanges, ConfigChanges
from modelplex.server.config_file import WATCH_SECONDS
from modelplex.server.config_source import open_source
from modelplex.server.confined import new_client, report_lacking
from modelplex.server.connection_limits import ConnectionLimits
from modelplex.server.connection_registry import ConnectionRegistry
from modelplex.server.heap_trim import HeapTrim, trim_heap
from modelplex.server.internal import Internal
from modelplex.server.internal_access import InternalAccess
from modelplex.server.internal_acts import InternalActs
from modelplex.server.listeners import BoundSocket, Listening, bind_all, serve_all
from modelplex.server.operator_page import OperatorPage, own_token, print_links
from modelplex.server.record_store import RecordStore
from modelplex.server.refused_requests import refusals_of
from modelplex.server.reports import Reports, breakers
from modelplex.server.run_control import RunControl
from modelplex.server.running_report import report_running
from modelplex.server.service_manager import ServiceManager
from modelplex.server.socket_file import claim
from modelplex.server.systemd import not_passed, passed_sockets
from modelplex.server.telemetry import Telemetry
from modelplex.server.tool_endpoints import ToolEndpoints, ToolParts, request_ids

if TYPE_CHECKING:
    from modelplex.credentials.key_command import RunCommand
    from modelplex.dashboard.page import Dashboard
    from modelplex.pipeline.response_store import ResponseStore


def run(
    config: Config,
    *,
    config_path: str | None,
    verbose: bool,
    adapt: Callable[[Config], Config],
    control: RunControl | None,
    manager: ServiceManager,
    confinement: Confinement,
) -> int:
    """As `start.run`, which calls it in a process that is confined."""
    process_setup.set_up()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        process = GatewayProcess(
            config,
            config_path=config_path,
            verbose=verbose,
            adapt=adapt,
            control=control,
            manager=manager,
            confinement=confinement,
        )
        return runner.run(process.serve())


class GatewayProcess:
    """One running gateway."""

    admin_class: type[AdminRoutes] = AdminRoutes
    open_source = staticmethod(open_source)

    def __init__(
        self,
        config: Config,
        *,
        config_path: str | None,
        verbose: bool,
        adapt: Callable[[Config], Config] = lambda config: config,
        control: RunControl | None = None,
        manager: ServiceManager | None = None,
        confinement: Confinement = UNCONFINED,
    ) -> None:
        self._confinement = confinement
        self._source = self.open_source(config, config_path, adapt=adapt, launcher=confinement.launcher)
        self._config = config = self._source.config
        self._control = control
        self._is_of_runs = control is not None and control.is_of_runs
        self._manager = manager or ServiceManager()
        self._verbose = verbose
        self._listening: Listening | None = None
        self._stop = asyncio.Event()
        self._loading: asyncio.Task[None] | None = None
        self._log = self._open_log(config)
        self._life = self._log.events.info
        """Reports the start, a reload and the end."""
        self._store = RecordStore(config, environ=os.environ, log=self._log)
        self._client = new_client(confinement)
        self._telemetry = Telemetry(config, log=self._log, client=self._client, store=self._store)
        metrics = self._new_metrics()
        self._reports = Reports(self._log, metrics, config, more=[*self._store.sinks, *self._telemetry.sinks])
        circuits = Circuits(report=self._reports.circuit_opened)
        self._state = SharedState(circuits, StateOrigins(), Offload(), _response_store(config))
        self._heap_trim = HeapTrim(trim_heap, is_working=lambda: self._state.offload.is_working)
        self._gateway = self._build(config)
        self._admin = self._new_admin(config, metrics)
        self.limits = AgentLimits(config.agents, config.teams, now=perf_counter, wall=time)
        self._budgets = new_budgets(self.limits, self._log.events)
        self.callers = CallerResolver(config, report=self._reports.caller_seen)
        self.app = self._new_app(config)
        self.tools = self._new_tools()
        parts = (self.app, self.callers, self.limits, self._store, self._telemetry)
        self.runs = AttachedRuns(RunParts(*parts, self._serving, self._look_at_config))
        self._reports.sinks.append(self.runs)
        self._changes = ConfigChanges(
            self._source,
            apply=self._apply,
            apply_agents=self._apply_agents,
            listeners=self._listeners,
            events=self._log.events,
            manager=self._manager,
        )
        self._access = InternalAccess(config.server, events=self._log.events, run=confinement.run_command)
        agents = AgentsApi(self._agent_changes(), config=lambda: self._config, counters=self._admin.counters)
        served = self.app, self._reports, self.tools, self._store, self._stop.is_set
        self.page = new_page(*served, stop_run=self.runs.stop, agents=agents, access=self._access)

    def _agent_changes(self) -> AgentChanges:
        return self._changes

    def _listeners(self) -> AgentListeners:  # once it listens
        return AgentListeners(self.app, self.callers, self._serving())

    def _open_log(self, config: Config) -> Log:
        return from_config.open_log(config, verbose=self._verbose)

    def _new_metrics(self) -> Metrics:
        return Metrics(
            breakers=lambda: breakers_of(self._gateway, self._state.circuits),
            lost_lines=self._log.lost,
            budgets=lambda: starmap(BudgetLeft, self.limits.budgets_left()),
            omitted_entries=lambda: self.tools.left_out(),  # noqa: PLW0108 - made later
            record_store=self._store,
            telemetry=self._telemetry,
            shared=lambda: self._budgets.shared,
            version=modelplex.__version__,
        )

    def _new_app(self, config: Config) -> App:
        app = App(
            self._gateway,
            self._admin,
            callers=self.callers,
            limits=self.limits,
            hosts=from_config.allowed_hosts_of(config),
            ids=request_ids(),
            bodies=_body_settings(config, keep=self._store.kept_body(config), heap_trim=self._heap_trim),
            observer=self._reports,
        )
        app.telemetry = self._telemetry.intake
        return app

    def _new_tools(self) -> ToolEndpoints:
        parts = ToolParts(
            app=self.app,
            limits=self.limits,
            reports=self._reports,
            client=self._client,
            offload=self._state.offload,
            shares=lambda: self.traffic.shares,
            store=self._store,
            bind_stdio=self._bind_stdio,
            new_host=self._confinement.new_host,
        )
        return ToolEndpoints(parts)

    def _new_admin(self, config: Config, metrics: Metrics) -> AdminRoutes:
        return self.admin_class(
            config,
            metrics,
            addresses=lambda: self.addresses,
            dropped=lambda: sum(self._log.lost().values()),
            agents=lambda: agents_view(self.callers, self.limits, self._budgets),
            tools=lambda: self.tools.status(),  # noqa: PLW0108 - made later
            records=self._store.status,
            state=lambda: state_view(self._confinement, self._budgets),
        )

    async def serve(self) -> int:
        logging.getLogger().addHandler(self._log.handler())
        self._handle_signals(asyncio.get_running_loop())
        try:
            listening = await self._start()
            tasks = (self._watch(), load_dialects(self._config), self._manager.keep_alive())
            watching = [asyncio.create_task(each) for each in tasks]
            if self._log.is_text:
                watching.append(asyncio.create_task(report_running(self.app, self._log.events)))
            if self._control is not None and self._is_of_runs:
                watching.append(asyncio.create_task(self._stop_when_unused(self._control)))
            gc.freeze()
            self._manager.ready()
            await self._stop.wait()
            for task in watching:
                task.cancel()
            await self._changes.close()
            await self._drain(listening)
        finally:
            await self._close()
        return 0

    def _handle_signals(self, loop: asyncio.AbstractEventLoop) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.handle_signal)
        loop.add_signal_handler(signal.SIGHUP, self.reload)

    async def _listen(self, limits: ConnectionLimits) -> Listening:
        sockets = await bind_listeners(self._config, may_be_none=self._is_of_runs)
        return await serve_all(self.app, sockets, limits=limits, callers=self.callers)

    def _bind_stdio(self, address: Unix) -> BoundSocket | None:
        """The stdio socket of [mcp]; None where this process does not serve it."""
        return BoundSocket(address, claim(address))

    async def _start(self) -> Listening:
        config = self._config
        events, agents = self._log.events, len(config.agents)
        wanted = from_config.connection_limits(config)
        limits = process_setup.within_descriptors(wanted, events, listeners=agents)
        self._source.report(events)
        await self._budgets.open(config)
        await self._store.start()
        self._telemetry.start()
        if self._state.responses is not None:
            await self._state.responses.open()
        if self._control is not None:
            self._control.claim()
        self.tools.load(config)
        self._listening = listening = await self._listen(limits)
        listening.traffic.report_refusal = refusals_of(self._reports).add
        await self.tools.open(config)
        if self._control is not None:
            await self._control.open(self.runs)
        self._confinement.seal()
        fields = from_config.start_log_fields(config, addresses=self.addresses, path=self._source.file.path)
        self._life("started", **fields)
        self._open_page(config)
        self._reports.unpriced.check(self._gateway.catalog.directory)
        self._gateway.catalog.start()
        return listening

    def _open_page(self, config: Config) -> None:
        self.page.open(own_token(config))
        if not self._is_of_runs:
            print_links(self.page.links(self.addresses))

    async def _close(self) -> None:
        if self._loading is not None:
            self._loading.cancel()
        self._heap_trim.close()
        if self._control is not None:
            await self._control.close()
        self.runs.close()
        self._gateway.catalog.stop()
        await self.tools.close()
        await self._telemetry.close()
        await self._client.aclose()
        if self._state.responses is not None:
            await self._state.responses.close()
        await self._budgets.close()
        await self._store.close()
        self._log.close()

    def stop(self) -> None:
        """Drain, then stop."""
        self._stop.set()

    async def _stop_when_unused(self, control: RunControl) -> None:
        await control.wait_until_unused()
        self.stop()

    def handle_signal(self) -> None:
        """The first signal starts the drain, the second one ends it."""
        if self._stop.is_set() and self._listening is not None:
            self._listening.skip_drain()
        self.stop()

    async def _drain(self, listening: Listening) -> None:
        self._admin.readiness.stopping = True
        self._manager.stopping()
        self._life("stopping", patience_seconds=self._config.server.drain_timeout)
        await listening.wait_unless_skipped(self._config.server.drain_grace)
        self.tools.drain()
        await drain(listening, self.app)
        self._life("stopped")

    def reload(self) -> asyncio.Task[None]:
        """Load the config again. An invalid one is reported and changes nothing. Running requests
        keep the config that they started with.
        """
        return self._changes.reload()

    def _apply(self, config: Config) -> None:
        report_lacking(self._confinement, config, self._log.events)
        self._state.circuits.keep_only(from_config.unchanged_providers(self._config, config))
        if not self._verbose:
            self._log.level = config.server.log_level
        old = self._gateway
        self._gateway = self.app.gateway = self._build(config)
        self._apply_agents(config)
        self.app.hosts = from_config.allowed_hosts_of(config)
        self.app.max_body = config.server.max_request_size
        self.app.bodies.configure(total=config.server.body_memory, share=config.server.body_share)
        old.catalog.stop()
        self._gateway.catalog.start()
        self._loading = asyncio.create_task(load_dialects(config))
        self._reports.unpriced.configure(config)
        self._reports.unpriced.check(self._gateway.catalog.directory)

    def _apply_agents(self, config: Config) -> None:
        """What of the config concerns agents: providers and their lists of models stay."""
        self._config = config
        self._gateway.cache = from_config.exact_cache(config, self._gateway.cache)
        self._log.secrets = Secrets(from_config.secrets_of(config))
        self._admin.config = config
        self._access.configure(config.server)
        self.callers.configure(config)
        self.limits.configure(config.agents, config.teams)
        self._store.configure(config)
        self.runs.config_changed()
        self._telemetry.configure(config)
        self._budgets.open_after_reload(config)
        self.tools.reload(config)

    def _build(self, config: Config) -> Gateway:
        run = self._confinement.run_command
        return build_gateway(config, self._client, self._state, (self._reports, self._store), run_command=run)

    async def _watch(self) -> None:
        """Reload when the config file changes."""
        while self._source.file.path is not None:
            await asyncio.sleep(WATCH_SECONDS)
            self._look_at_config()

    def _look_at_config(self) -> None:
        if not self.runs.may_write_config:
            self.tools.reload_approvals()
        self._changes.look(is_writable=self.runs.may_write_config)

    @property
    def sinks(self) -> list[Sink]:
        return self._reports.sinks

    def _serving(self) -> Listening:
        """Once it listens."""
        assert self._listening is not None
        return self._listening

    @property
    def traffic(self) -> ConnectionRegistry:
        """The connections and running requests, once it listens."""
        return self._serving().traffic

    @property
    def addresses(self) -> list[str]:
        """Empty before it listens."""
        return self._listening.addresses if self._listening is not None else []


async def load_dialects(config: Config) -> None:
    """Load the dialects of the configured providers, before a request does. In a thread, since the
    listeners serve already.
    """
    await asyncio.to_thread(registry.load, from_config.dialects_of(config))
    gc.freeze()


def new_page(
    app: App,
    reports: Reports,
    tools: ToolEndpoints,
    store: RecordStore,
    stopping: Callable[[], bool],
    *,
    stop_run: Callable[[str], bool],
    agents: AgentsApi,
    access: InternalAccess,
) -> OperatorPage:
    """The page, with all that is below /_internal/."""
    acts = InternalActs(store.record_act, events=reports.log.events)

    def internal(page: Callable[[], Dashboard]) -> Internal:
        return Internal(app.admin, agents, access, acts, gateway=lambda: app.gateway, page=page)

    parts = (app, reports, tools, store)
    return OperatorPage(*parts, access=access, internal=internal, stopping=stopping, stop_run=stop_run)


def breakers_of(gateway: Gateway, circuits: Circuits) -> list[Breaker]:
    return breakers(circuits, {name: each.keys for name, each in gateway.upstreams.items()})


async def drain(listening: Listening, app: App) -> None:
    """Close the listeners, and end what still runs after the drain timeout."""

    async def stop_requests() -> None:
        await listening.stopping.wait()
        app.stop()

    stopping = asyncio.create_task(stop_requests())
    await listening.drain()
    stopping.cancel()


async def bind_listeners(config: Config, *, may_be_none: bool) -> list[BoundSocket]:
    """Those that systemd passes, and the others of the config. Raises ListenError."""
    passed = passed_sockets(config, os.environ)
    addresses = not_passed(from_config.configured_addresses(config), passed)
    return [*passed, *await bind_all(addresses, may_be_none=may_be_none or bool(passed))]


def build_gateway(
    config: Config,
    client: HttpClient,
    state: SharedState,
    reporting: tuple[Reports, RecordStore],
    *,
    run_command: RunCommand | None,
) -> Gateway:
    reports, store = reporting
    upstreams = from_config.build_upstreams(
        config, client, failed_command=reports.key_command_failed, run_command=run_command
    )
    return Gateway(
        upstreams,
        catalog=ModelCatalog(config, upstreams, now=perf_counter, report=reports.listing_failed),
        rules=from_config.error_rules(config, tokens=store.keeps_tokens(config)),
        prices=Prices(config.prices),
        egress=egress_of(config, machine=from_config.machine_id()),
        state=state,
        chance=random.random,
        cache=from_config.exact_cache(config),
    )


def agents_view(callers: CallerResolver, limits: AgentLimits, budgets: Budgets) -> dict[str, object]:
    """For `/_internal/agents`: each agent's counters, and the network of its last caller and of the
    last caller on the shared sockets.
    """
    seen = callers.last_seen
    return {
        "agents": [{**one, "attested": seen.get(str(one["agent"]))} for one in limits.view()],
        "teams": limits.teams_view(),
        "others": {"attested": seen.get("")},
        "ledger": budgets.status(),
    }


def state_view(confinement: Confinement, budgets: Budgets) -> dict[str, object]:
    """For `/_internal/status`: what the gateway gave up, and the limits over several gateways."""
    return {"confinement": confinement.status(), "shared": budgets.shared.status()}


def _body_settings(config: Config, *, keep: int | None, heap_trim: HeapTrim) -> BodySettings:
    server = config.server
    memory = BodyMemory(total=server.body_memory, share=server.body_share, on_large_release=heap_trim.soon)
    return BodySettings(max_size=server.max_request_size, keep=keep, memory=memory)


def _response_store(config: Config) -> ResponseStore | None:
    where = config.server.keep_responses
    if where is None:
        return None
    from modelplex.pipeline.response_store import MEMORY, ResponseStore

    return ResponseStore(MEMORY if where == "memory" else where)

"""The composition root: a Config becomes a running gateway, and the signals of the process become
reload, drain and stop.

Above it stands the command line; below it everything. It is the one place that knows which part is
given which clock, which dice and which file.

The order of the start: bind first, so that a second start is refused before anything else happens;
then serve; then ask the providers what they have. The order of the end: take no new request, let
running ones finish for `drain_timeout` or until a second signal, end the rest with an error in
their own protocol, write the last log line.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import logging
import os
import random
import resource
import signal
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from pathlib import Path
from time import perf_counter, time
from typing import Protocol

import msgspec
import uvloop

import modelplex
from modelplex.config import DEFAULT_HOST, BudgetConfig, Config, ConfigError, load
from modelplex.config.callers_summary import agent as told_agent
from modelplex.config.callers_summary import exceptions
from modelplex.config.state_folder import state_folder
from modelplex.config.tools import secrets as secrets_of_tools
from modelplex.core.caller import Caller
from modelplex.core.errors import ModelplexError, without_name
from modelplex.http_client import HttpClient
from modelplex.limits.agent_limits import NOTHING, AgentLimits, AgentUsage
from modelplex.limits.budget_store import BudgetStore, BudgetStoreError
from modelplex.mcp.calls import CallRecording
from modelplex.mcp.clients import McpHttp, StdioConnections
from modelplex.mcp.constants import Unavailable
from modelplex.mcp.service import ToolService
from modelplex.pipeline.attempt import ErrorRules
from modelplex.pipeline.gateway import Gateway, SharedState
from modelplex.pipeline.model_catalog import ModelCatalog
from modelplex.pipeline.offload import Offload
from modelplex.pipeline.response_store import MEMORY, ResponseStore
from modelplex.pipeline.sealed_policy import egress_of
from modelplex.pipeline.state_origins import StateOrigins
from modelplex.pipeline.upstream import DemoUpstream, HttpUpstream, Upstream
from modelplex.providers.types import TYPES
from modelplex.records.log import Log, Secrets
from modelplex.records.metrics import Breaker, Metrics
from modelplex.records.price import Prices
from modelplex.records.record import Record
from modelplex.records.sink import Sink
from modelplex.records.tool_call import ToolRecord
from modelplex.records.unpriced import UnpricedWarnings
from modelplex.routing.circuit_breaker import BreakerRules
from modelplex.routing.circuits import ANY_KEY, Circuits, CircuitStatus
from modelplex.routing.failover import FailoverRules
from modelplex.server.address import ListenError
from modelplex.server.admin import AdminRoutes
from modelplex.server.admission import BodyMemory
from modelplex.server.allocator import return_large_blocks
from modelplex.server.app import App
from modelplex.server.callers import CallerResolver
from modelplex.server.connection import MAX_OVER_LIMIT
from modelplex.server.connection_registry import ConnectionRegistry
from modelplex.server.listeners import Address, ConnectionLimits, Listening, Unix, Vsock, listen, parse_http
from modelplex.server.mcp_stdio import Stdio
from modelplex.server.origin import Hosts
from modelplex.server.process_hardening import become_undumpable

WATCH_SECONDS = 1.0
"""How often the config file is looked at: one `stat`, and soon enough for somebody who waits for
it.
"""
YOUNG_OBJECTS = 5_000
"""Allocations between two garbage collections. The default of 700 means a collection every few
requests, and requests leave no cycles; of many more one collection takes milliseconds.
"""
SWITCH_SECONDS = 0.0001
"""How long a thread that reads a large body may go on while the event loop waits for the
interpreter. Python's 5 ms are paid for each step of each request beside it.
"""

MACHINE_ID = Path("/etc/machine-id")

DESCRIPTORS_EACH = 2
"""Of a client's connection: its own, and the one to the provider that answers it."""
SPARE_DESCRIPTORS = 256
"""For files, listeners, the log, kept connections to providers, and what Python opens for itself.
"""


class ReachResult(msgspec.Struct, frozen=True):
    """Whether a provider answered when it was asked for its models."""

    provider: str
    ok: bool
    sentence: str
    answered: bool = False
    """Whether it said something, if not what it was asked for."""


class GatewayUses(Protocol):
    """Those for whom a gateway runs; it ends when they are `gone`. `open` comes before it listens,
    and raises ListenError.
    """

    async def open(self) -> None: ...
    async def gone(self) -> None: ...
    async def close(self) -> None: ...


def as_it_is(config: Config) -> Config:
    return config


def run(
    config: Config,
    *,
    config_path: str | None,
    verbose: bool,
    shaped: Callable[[Config], Config] = as_it_is,
    uses: GatewayUses | None = None,
) -> int:
    """Serve until a signal, or until all `uses` are over. Returns the exit status; raises what has
    a `sentence` where it cannot start.

    `shaped` makes of each config that is loaded later what `config` is already.
    """
    become_undumpable()
    return_large_blocks()
    gc.set_threshold(YOUNG_OBJECTS, 40, 100)
    sys.setswitchinterval(SWITCH_SECONDS)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        process = GatewayProcess(config, config_path=config_path, verbose=verbose, shaped=shaped, uses=uses)
        return runner.run(process.serve())


async def reach(config: Config) -> list[ReachResult]:
    """Ask every provider for its models, all at once."""
    client = HttpClient()

    async def ask(upstream: Upstream) -> ReachResult:
        try:
            models = await upstream.models()
        except ModelplexError as error:
            sentence = without_name(error.message, upstream.name)
            return ReachResult(
                upstream.name, ok=False, sentence=sentence, answered=error.upstream_status is not None
            )
        return ReachResult(upstream.name, ok=True, sentence=f"{len(models)} models")

    try:
        return list(await asyncio.gather(*(ask(u) for u in _upstreams(config, client).values())))
    finally:
        await client.aclose()


class GatewayProcess:
    """One running gateway."""

    def __init__(
        self,
        config: Config,
        *,
        config_path: str | None,
        verbose: bool,
        shaped: Callable[[Config], Config] = as_it_is,
        uses: GatewayUses | None = None,
    ) -> None:
        self._config = config
        self._shaped = shaped
        self._uses = uses
        self._path = config_path
        self._verbose = verbose
        self._log = Log(
            file=config.log.file,
            form=config.log.format,
            level="debug" if verbose else config.server.log_level,
            max_size=config.log.max_size,
            keep=config.log.keep,
            max_body=config.log.max_body,
            secrets=Secrets(_secrets(config)),
        )
        self._client = HttpClient()
        kept = config.server.keep_responses
        self._answers = None if kept is None else ResponseStore(MEMORY if kept == "memory" else kept)
        self._unpriced = UnpricedWarnings(config, self._log.events)
        self._circuits = Circuits(report=self._circuit_opened)
        self._state = SharedState(self._circuits, StateOrigins(), Offload(), self._answers)
        self._metrics = Metrics(
            breakers=self._breakers,
            lost=self._log.lost,
            left_out=self._left_out,
            version=modelplex.__version__,
        )
        self.sinks: list[Sink] = [self._metrics, self._log, self._unpriced]
        self._gateway = self._build(config)
        self._inside = AdminRoutes(
            config,
            self._metrics,
            addresses=lambda: self.addresses,
            dropped=lambda: sum(self._log.lost().values()),
            agents=self._agents,
            tools=self._tool_servers,
        )
        self.limits = AgentLimits(config.agents, now=perf_counter, wall=time)
        self._ledger: BudgetStore | None = None
        self._opening: asyncio.Task[None] | None = None
        self._one_at_a_time = asyncio.Lock()
        self.callers = CallerResolver(config, report=self._tell_of_caller)
        self.app = App(
            self._gateway,
            self._inside,
            callers=self.callers,
            limits=self.limits,
            hosts=_hosts(config),
            ids=request_ids(),
            max_body=config.server.max_request_size,
            keep_bodies=config.log.max_body if verbose and config.log.bodies else 0,
            bodies=BodyMemory(total=config.server.body_memory, share=config.server.body_share),
            started=self._metrics.started,
            record=self.record,
        )
        self._listening: Listening | None = None
        self._tools: ToolService | None = None
        self._stdio: Stdio | None = None
        self._ending: set[asyncio.Task[None]] = set()
        self._stop = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Process {self.addresses} {self._gateway!r}>"

    async def serve(self) -> int:
        logging.getLogger().addHandler(self._log.handler())
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.signalled)
        loop.add_signal_handler(signal.SIGHUP, self.reload)
        try:
            limits = self._within_descriptors(_limits(self._config))
            await self._remember_budgets()
            if self._answers is not None:
                await self._answers.open()
            if self._uses is not None:
                await self._uses.open()
            self._listening = await listen(
                self.app,
                configured_addresses(self._config),
                limits=limits,
                callers=self.callers,
            )
            await self._open_tools()
            self._log.events.info(
                "started",
                version=modelplex.__version__,
                listeners=self.addresses,
                providers=list(self._gateway.upstreams),
                tool_servers=self._tools.servers if self._tools is not None else [],
                config=self._path,
                **_who(self._config),
            )
            self._unpriced.check(self._gateway.catalog.directory)
            self._gateway.catalog.start()
            watching = [asyncio.create_task(self._watch())]
            if self._uses is not None:
                watching.append(asyncio.create_task(self._stop_when_unused(self._uses)))
            gc.freeze()
            await self._stop.wait()
            for task in watching:
                task.cancel()
            await self._shut(self._listening)
        finally:
            self._gateway.catalog.stop()
            await self._close_tools()
            await self._client.aclose()
            if self._answers is not None:
                await self._answers.close()
            await self._close_ledger()
            if self._uses is not None:
                await self._uses.close()
            self._log.close()
        return 0

    def stop(self) -> None:
        """Begin to end: drain, then stop."""
        self._stop.set()

    async def _stop_when_unused(self, uses: GatewayUses) -> None:
        await uses.gone()
        self.stop()

    def signalled(self) -> None:
        """The first signal begins the drain; who sends a second one does not want to wait
        for it.
        """
        if self._stop.is_set() and self._listening is not None:
            self._listening.hurry()
        self.stop()

    def _within_descriptors(self, limits: ConnectionLimits) -> ConnectionLimits:
        """With fewer connections where the process may not have as many files open: one that cannot
        be accepted would be refused to everybody.
        """
        needed = DESCRIPTORS_EACH * self._config.server.max_connections + MAX_OVER_LIMIT + SPARE_DESCRIPTORS
        allowed = raise_descriptors(needed)
        if allowed >= needed:
            return limits
        fitting = max(1, (allowed - MAX_OVER_LIMIT - SPARE_DESCRIPTORS) // DESCRIPTORS_EACH)
        self._log.events.warning(
            "too few file descriptors for [server] max_connections",
            needed=needed,
            allowed=allowed,
            connections=fitting,
        )
        return msgspec.structs.replace(limits, max_connections=fitting)

    async def _shut(self, listening: Listening) -> None:
        self._log.events.info("stopping", patience_seconds=self._config.server.drain_timeout)
        if self.app.front is not None:
            self.app.front.drain()
        ending = asyncio.create_task(self._end_the_rest(listening))
        await listening.drain()
        ending.cancel()
        self._log.events.info("stopped")

    async def _end_the_rest(self, listening: Listening) -> None:
        await listening.stopping.wait()
        self.app.stop()

    # --- budgets ---

    async def _remember_budgets(self) -> None:
        """Open the file of what was spent, where an agent has a budget. Raises LedgerError."""
        async with self._one_at_a_time:
            budgets = any(agent.budget != BudgetConfig() for agent in self._config.agents)
            if self._ledger is None and budgets:
                folder = state_folder(self._config.server.state_folder, environ=os.environ)
                self._ledger = ledger = await asyncio.to_thread(BudgetStore, folder, complain=self._complain)
                self.limits.remember(ledger.kept, ledger.add)
                loop = asyncio.get_running_loop()

                def learned(agent: str, day: str, spent: AgentUsage) -> None:
                    loop.call_soon_threadsafe(self._learn, agent, day, spent)

                ledger.learned = learned

    def _learn(self, agent: str, day: str, spent: AgentUsage) -> None:
        """Another gateway with the same file spent this."""
        if self._ledger is not None:
            days = self._ledger.kept.setdefault(agent, {})
            days[day] = days.get(day, NOTHING).plus(spent)
        self.limits.learn(agent, day, spent)

    async def _remember_new_budgets(self) -> None:
        try:
            await self._remember_budgets()
        except BudgetStoreError as error:
            self._complain(error.sentence)

    async def _close_ledger(self) -> None:
        if self._opening is not None:
            await self._opening
        if self._ledger is not None and not await asyncio.to_thread(self._ledger.close):
            self._complain(f"what agents spent last could not be written to {self._ledger.path}")

    def _complain(self, sentence: str) -> None:
        self._log.events.error(sentence)

    def _agents(self) -> dict[str, object]:
        """For `/_internal/agents`: the counters of each, and what was seen of the networks of its
        last caller, and of the last one on the sockets of nobody in particular.
        """
        seen, ledger = self.callers.last_seen, self._ledger
        return {
            "agents": [{**one, "attested": seen.get(str(one["agent"]))} for one in self.limits.view()],
            "others": {"attested": seen.get("")},
            "ledger": None
            if ledger is None
            else {"path": str(ledger.path), "waiting": ledger.waiting, "failures": ledger.failures},
        }

    # --- tools ---

    async def _open_tools(self) -> None:
        """Serve tools where the config says so. Raises ListenError where the socket of lines cannot
        be had.
        """
        config = self._config
        if not config.mcp.enabled:
            return
        self._tools = service = self._service(config)
        ids = session_ids()
        self.app.front = McpHttp(
            service.gateway,
            config.mcp,
            ids=ids,
            clock=perf_counter,
            open_to_all=config.server.allow_unauthenticated,
            offload=self._state.offload,
        )
        if config.mcp.stdio_socket is not None:
            address = Unix(
                config.mcp.stdio_socket,
                mode=int(config.server.socket_mode, 8),
                group=config.server.socket_group,
            )
            lines = StdioConnections(service.gateway, config.mcp, ids=ids)
            self._stdio = Stdio(
                address, lines, callers=self.callers, shares=self.traffic.shares, bodies=self.app.bodies
            )
            await self._stdio.open()
        service.start()

    async def _open_tools_late(self) -> None:
        try:
            await self._open_tools()
        except ListenError as error:
            self._complain(error.sentence)

    def _service(self, config: Config) -> ToolService:
        return ToolService(
            config,
            environ=os.environ,
            client=self._client,
            events=self._log.events,
            recording=CallRecording(
                ids=request_ids(),
                clock=perf_counter,
                wall=time,
                on_record=self.record,
                keep_bodies=config.log.max_body if self._verbose and config.log.bodies else 0,
            ),
            key=os.urandom(32),
            admit=self._admitted,
        )

    def _adopt_tools(self, config: Config) -> None:
        """Go on with another [mcp]. One that was not there, or is not any more, comes and goes with
        its servers; the socket of lines needs a restart.
        """
        if self._tools is not None and config.mcp.enabled:
            self._tools.adopt(config)
            front = self.app.front
            if front is not None:
                front.config, front.open_to_all = config.mcp, config.server.allow_unauthenticated
        elif self._tools is not None or config.mcp.enabled:
            task = asyncio.create_task(
                self._close_tools() if self._tools is not None else self._open_tools_late()
            )
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)

    async def _close_tools(self) -> None:
        tools, front, stdio = self._tools, self.app.front, self._stdio
        self._tools = self.app.front = self._stdio = None
        if stdio is not None:
            await stdio.close()
        if front is not None:
            await front.close()
        if tools is not None:
            await tools.close()

    def _tool_servers(self) -> list[dict[str, object]]:
        """For `/_internal/mcp`."""
        return self._tools.status() if self._tools is not None else []

    def _left_out(self) -> dict[str, int]:
        """For `/metrics`."""
        return self._tools.gateway.left_out() if self._tools is not None else {}

    @contextlib.contextmanager
    def _admitted(self, caller: Caller) -> Generator[None]:
        """A tool call counts as one of its agent's requests. Raises Unavailable where that may not
        begin.
        """
        try:
            ticket = self.limits.admit(caller)
        except ModelplexError as error:
            raise Unavailable(
                error.message, server="", reason="limit", retry_after=error.retry_after
            ) from None
        try:
            yield
        finally:
            self.limits.settle(ticket)

    # --- configuration ---

    def reload(self) -> None:
        """Load the config anew. A faulty one is reported and changes nothing; calls that run keep
        what they began with.
        """
        if self._path is None:
            self._log.events.warning("reload refused", reason="there is no config file")
            return
        try:
            config = self._shaped(load(self._path, environ=os.environ))
        except ConfigError as error:
            self._log.events.error("reload refused, the old config stays", faults=error.sentence.splitlines())
            return
        running = self._config.server
        server = msgspec.structs.replace(
            config.server, http=running.http, socket=running.socket, vsock=running.vsock
        )
        if _fixed(config) != _fixed(self._config):
            self._log.events.warning(
                "some settings need a restart",
                settings="[server] listeners and limits, agents' sockets, [mcp] stdio_socket, [log]",
            )
        self._circuits.keep_only(unchanged_providers(self._config, config))
        self._config = config = msgspec.structs.replace(config, server=server)
        self._log.secrets = Secrets(_secrets(config))
        if not self._verbose:
            self._log.level = config.server.log_level
        old = self._gateway
        self._gateway = self.app.gateway = self._build(config)
        self._inside.config, self._inside.token = config, config.server.internal_token
        self.callers.configure(config)
        self.limits.configure(config.agents)
        self._opening = asyncio.create_task(self._remember_new_budgets())
        self._adopt_tools(config)
        self.app.hosts = _hosts(config)
        self.app.max_body = config.server.max_request_size
        self.app.bodies.configure(total=config.server.body_memory, share=config.server.body_share)
        old.catalog.stop()
        self._gateway.catalog.start()
        self._log.events.info("config reloaded", providers=list(self._gateway.upstreams))
        self._unpriced.configure(config)
        self._unpriced.check(self._gateway.catalog.directory)

    def _build(self, config: Config) -> Gateway:
        upstreams = _upstreams(config, self._client)
        return Gateway(
            upstreams,
            catalog=ModelCatalog(config, upstreams, now=perf_counter, report=self._listing_failed),
            rules=_rules(config),
            prices=Prices(config.prices),
            egress=egress_of(config, machine=machine_id()),
            state=self._state,
            chance=random.random,
        )

    async def _watch(self) -> None:
        """A change of the file is a reload. A file that is gone for a moment, as editors leave it,
        is waited for.
        """
        if self._path is None:
            return
        known = _stamp(self._path)
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            if self._tools is not None:
                self._tools.reload_approvals()
            now = _stamp(self._path)
            if now is not None and now != known:
                known = now
                self.reload()

    # --- records and warnings ---

    def record(self, record: Record | ToolRecord) -> None:
        """Give the Record of a request or tool call that is over to every sink."""
        for sink in self.sinks:
            sink.record(record)

    def _tell_of_caller(self, caller: Caller, refused: str | None) -> None:
        """One that was refused, or that `attest = "warn"` is for; once a connection."""
        attested, peer = caller.attested, caller.peer
        self._log.events.warning(
            "a caller was refused"
            if refused is not None
            else "a caller has a network"
            if attested and attested.interfaces
            else "a caller's network could not be seen",
            listener=caller.listener,
            agent=caller.agent,
            pid=peer.pid if peer is not None else 0,
            uid=peer.uid if peer is not None else None,
            interfaces=list(attested.interfaces) if attested is not None else [],
            **({"reason": refused} if refused is not None else {}),
        )

    def _listing_failed(self, provider: str, reason: str) -> None:
        reason = without_name(reason, provider)
        self._log.events.warning("a provider did not list its models", provider=provider, reason=reason)

    def _circuit_opened(self, circuit: CircuitStatus) -> None:
        name = circuit.name
        self._log.events.warning(
            "a circuit breaker opened",
            provider=name.provider,
            **({} if name.key == ANY_KEY else {"key": name.key}),
            **({"model": name.model, "endpoint": name.endpoint} if name.model else {}),
            caller=circuit.caller or "everybody",
            reason=circuit.health.reason,
        )

    def _breakers(self) -> Iterable[Breaker]:
        """Each configured key's own, then what else is not well, the worst first."""
        standing = sorted(self._circuits.standing(), key=lambda s: s.health.state, reverse=True)
        found = [
            Breaker(
                s.name.provider,
                None if s.name.key == ANY_KEY else s.name.key,
                s.health.state,
                model=s.name.model,
                endpoint=s.name.endpoint,
                caller=s.caller,
            )
            for s in standing
        ]
        told = {(b.provider, b.key) for b in found if not b.model and not b.caller}
        well = [
            Breaker(name, key, "closed")
            for name, upstream in self._gateway.upstreams.items()
            for key in range(upstream.keys)
            if (name, key) not in told
        ]
        return well + found

    @property
    def traffic(self) -> ConnectionRegistry:
        """Its connections and running requests, once it listens."""
        assert self._listening is not None
        return self._listening.traffic

    @property
    def addresses(self) -> list[str]:
        """Where it listens; empty before it does."""
        return self._listening.addresses if self._listening is not None else []


def unchanged_providers(old: Config, new: Config) -> frozenset[str]:
    """The names of those that a reload left as they were: what is known of their health still
    holds.
    """
    before = {provider.name: provider for provider in old.providers}
    return frozenset(p.name for p in new.providers if before.get(p.name) == p)


def machine_id() -> bytes:
    """What tells this machine from others, and stays (machine-id(5)); its name where it
    has none.
    """
    try:
        return MACHINE_ID.read_bytes().strip()
    except OSError:
        return os.uname().nodename.encode()


def request_ids() -> Iterator[str]:
    """Names for requests: unlike those of any other run, and in order."""
    run_name = os.urandom(4).hex()
    return (f"mpx-{run_name}-{number:06x}" for number in itertools.count(1))


def session_ids() -> Callable[[], str]:
    """Names for sessions, which nobody guesses: 128 random bits."""
    return lambda: os.urandom(16).hex()


def raise_descriptors(needed: int) -> int:
    """Raise this process's own limit of open files to `needed`, as far as it may. Returns the limit
    from now on; it is never lowered.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return needed
    allowed = needed if hard == resource.RLIM_INFINITY else min(hard, needed)
    if allowed > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    return max(soft, allowed)


def configured_addresses(config: Config) -> Sequence[Address]:
    server = config.server
    mode = int(server.socket_mode, 8)
    return [
        *(parse_http(text) for text in server.http),
        *(Unix(path, mode=mode, group=server.socket_group) for path in server.socket),
        *(
            Unix(
                agent.socket,
                mode=int(agent.socket_mode, 8) if agent.socket_mode is not None else mode,
                group=agent.socket_group or server.socket_group,
                agent=agent.name,
            )
            for agent in config.agents
            if agent.socket is not None
        ),
        *(Vsock(port) for port in server.vsock),
    ]


def _upstreams(config: Config, client: HttpClient) -> dict[str, Upstream]:
    """By priority, and within one by their order in the file."""
    built: dict[str, Upstream] = {}
    for provider in sorted(config.providers, key=lambda p: p.priority):
        row = TYPES[provider.type]
        built[provider.name] = (
            DemoUpstream(provider, row, time)
            if provider.type == "demo"
            else HttpUpstream(provider, row, client, clock=time)
        )
    return built


def _rules(config: Config) -> ErrorRules:
    failover = config.failover
    return ErrorRules(
        failover=FailoverRules(
            max_attempts=failover.max_attempts,
            retries=failover.retries,
            backoff=failover.backoff,
            max_backoff=failover.max_backoff,
            max_retry_after=failover.max_retry_after,
        ),
        breaker=BreakerRules(failover.breaker_failures, failover.breaker_window, failover.breaker_cooldown),
        refuse_losses=config.server.on_loss == "refuse",
        drop_pinned_state=config.server.on_pinned_state == "drop",
        ping_interval=config.server.ping_interval,
    )


def _who(config: Config) -> dict[str, object]:
    """What the start's log line says of callers: the policies, who is exempt from what, and the
    agents.
    """
    told: dict[str, object] = {"policy": {"sockets": config.policy.socket, "http": config.policy.http}}
    if exempt := exceptions(config):
        told["open_rules"] = [f"{rule}: {whom}" for rule, whom in exempt]
    if config.agents:
        told["agents"] = [told_agent(each, config) for each in config.agents]
    return told


def _limits(config: Config) -> ConnectionLimits:
    server = config.server
    return ConnectionLimits(
        max_header_size=server.max_header_size,
        header_timeout=server.header_timeout,
        body_timeout=server.body_timeout,
        min_body_rate=server.min_body_rate,
        keep_alive=server.keep_alive,
        max_connections=server.max_connections,
        max_connections_per_listener=server.max_connections_per_listener,
        max_connections_per_caller=server.max_connections_per_caller,
        reserved_connections=server.reserved_connections,
        drain_timeout=server.drain_timeout,
    )


def _hosts(config: Config) -> Hosts:
    own = [parse_http(text).host for text in config.server.http]
    # Only where a port is published, as the container image's environment says: elsewhere names are
    # served by the config alone.
    published = bool(os.environ.get(DEFAULT_HOST)) and bool({"0.0.0.0", "::"}.intersection(own))
    return Hosts(
        names=[*own, *config.server.allowed_hosts],
        origins=config.server.allowed_origins,
        single_labels=published,
    )


def _fixed(config: Config) -> object:
    """What a reload cannot change."""
    sockets = [
        (agent.name, agent.socket, agent.socket_mode, agent.socket_group)
        for agent in config.agents
        if agent.socket
    ]
    lines = config.mcp.stdio_socket if config.mcp.enabled else None
    return _limits(config), config.server.socket_mode, config.server.socket_group, sockets, lines, config.log


def _secrets(config: Config) -> Iterator[str]:
    for provider in config.providers:
        yield from (key.reveal() for key in provider.api_key)
        yield from (value.reveal() for value in provider.headers.values())
    if config.server.internal_token is not None:
        yield config.server.internal_token.reveal()
    for server in config.mcp.servers:
        yield from secrets_of_tools(server)
    yield from (agent.token.reveal() for agent in config.agents if agent.token is not None)


def _stamp(path: str) -> tuple[int, int, int] | None:
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size

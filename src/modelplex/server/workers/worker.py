"""A worker: a gateway on sockets that the supervisor holds. It is told to reload and to stop."""

from __future__ import annotations

import asyncio
import pickle
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec
import uvloop

from modelplex.config import Config
from modelplex.config.api_agents import JoinedAgents
from modelplex.config.workers import Assignment
from modelplex.confinement.confine import UNCONFINED, Confinement
from modelplex.confinement.launcher_client import LauncherClient
from modelplex.records.log import Log
from modelplex.records.log_lock import OutputLock
from modelplex.records.metrics import Metrics
from modelplex.routing.affinity import Origin
from modelplex.server import from_config, process_setup
from modelplex.server.address import Address, Unix
from modelplex.server.agent_sockets import agent_sockets
from modelplex.server.config_changes import AgentChanges
from modelplex.server.config_file import WATCH_SECONDS, ConfigFile
from modelplex.server.config_source import ConfigSource
from modelplex.server.confined import confine_process
from modelplex.server.connection_limits import ConnectionLimits
from modelplex.server.listeners import BoundSocket, Listening, serve_all
from modelplex.server.process import GatewayProcess
from modelplex.server.stored_agents import StoredAgents
from modelplex.server.workers.admin import CollectedAdmin
from modelplex.server.workers.agents import SupervisorAgents
from modelplex.server.workers.descriptors import receive_sockets
from modelplex.server.workers.link import SupervisorLink
from modelplex.server.workers.merge import Workers
from modelplex.server.workers.messages import (
    AgentChanged,
    Answer,
    Applied,
    Ask,
    ChangeAgent,
    Failed,
    Message,
    NewConfig,
    Ready,
    StateMade,
    Stop,
    frame,
)

if TYPE_CHECKING:
    from modelplex.server.workers.page import PageShare, WorkerSources


class WorkerPlace(msgspec.Struct):
    """What the supervisor gives a worker.

    added      the names of the API's agents

    sockets    the listening sockets that it serves
    stdio      that of [mcp] stdio_socket, if it serves it
    addresses  the listeners of all workers
    channel    the connection to the supervisor
    descriptors  where sockets come from it
    page_token that of the operator's page
    """

    number: int
    assignment: Assignment
    sockets: list[BoundSocket]
    stdio: BoundSocket | None
    addresses: list[str]
    channel: socket.socket
    descriptors: socket.socket
    lock: OutputLock
    page_token: str = ""
    added: frozenset[str] = frozenset()


class ConfigUpdate(msgspec.Struct, frozen=True):
    """Another config for running workers. `opened` are the addresses of the sockets that come with
    it, `closed` the paths of those that are gone. `only_agents`: nothing else differs.
    """

    joined: JoinedAgents
    assignment: Assignment
    addresses: list[str]
    opened: list[Address]
    closed: list[str]
    only_agents: bool = False


def run(config: Config, place: WorkerPlace, *, verbose: bool) -> int:
    """Serve until the supervisor says stop, or ends. Returns the exit status."""
    with place.channel.dup() as spare:
        try:
            confinement = confine_process(config, config_path=config.path, adapt=lambda config: config)
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                worker = WorkerProcess(config, place, verbose=verbose, confinement=confinement)
                return runner.run(worker.serve())
        except Exception as error:
            # The outermost loop: the supervisor gets a sentence.
            sentence = getattr(error, "sentence", None) or f"{type(error).__name__}: {error}"
            spare.sendall(frame(Failed(sentence)))
            if verbose and not hasattr(error, "sentence"):
                raise
            return 1


class WorkerProcess(GatewayProcess):
    """The supervisor reports the start, reloads and the end of all workers together."""

    admin_class = CollectedAdmin

    def __init__(
        self, config: Config, place: WorkerPlace, *, verbose: bool, confinement: Confinement = UNCONFINED
    ) -> None:
        self._place = place
        self._link = SupervisorLink(receive=self._receive, lost=self._supervisor_ended)
        self._agents = SupervisorAgents(place.number, place.added, send=self._link.send)
        self._applying: asyncio.Task[None] | None = None
        self._listens = asyncio.Event()
        super().__init__(config, config_path=None, verbose=verbose, confinement=confinement)
        self._life = self._log.events.debug
        self._page_share: PageShare | None = None
        self.page.sources = self._page_sources
        if not place.assignment.tied:
            self._state.origins.announce = self._announce_states

    @staticmethod
    def open_source(
        config: Config,
        path: str | None,
        *,
        adapt: Callable[[Config], Config] = lambda config: config,
        launcher: LauncherClient | None = None,
    ) -> ConfigSource:
        """The supervisor has the file, and the agents of the API."""
        return ConfigSource(config, ConfigFile(path, adapt=adapt, launcher=launcher), StoredAgents(None))

    def _agent_changes(self) -> AgentChanges:
        return self._agents

    async def serve(self) -> int:
        await self._link.open(self._place.channel)
        try:
            return await super().serve()
        finally:
            await self._link.close()

    def _open_log(self, config: Config) -> Log:
        log = super()._open_log(config)
        log.share_output(self._place.lock, worker=self._place.number)
        return log

    def _new_admin(self, config: Config, metrics: Metrics) -> CollectedAdmin:
        place = self._place
        admin = super()._new_admin(config, metrics)
        assert isinstance(admin, CollectedAdmin)
        admin.collect_from(
            Workers(place.number, place.assignment, place.addresses),
            count=place.assignment.count,
            send=self._link.send,
            gateway=lambda: self._gateway,
            answer_page=self._answer_page,
        )
        self._collected_admin = admin
        return admin

    def _handle_signals(self, loop: asyncio.AbstractEventLoop) -> None:
        """Signals are for the supervisor: Ctrl-C reaches the whole process group."""

    async def _listen(self, limits: ConnectionLimits) -> Listening:
        return await serve_all(self.app, self._place.sockets, limits=limits, callers=self.callers)

    def _bind_stdio(self, address: Unix) -> BoundSocket | None:
        held = self._place.stdio
        return None if held is None else BoundSocket(address, held.socket.dup())

    async def _start(self) -> Listening:
        listening = await super()._start()
        self._listens.set()
        self._link.send(Ready())
        return listening

    def _open_page(self, config: Config) -> None:
        del config
        self.page.open(self._place.page_token)

    def _page_sources(self) -> WorkerSources:
        from modelplex.server.workers.page import WorkerSources

        admin = self._collected_admin
        return WorkerSources(self.page.own_sources(), admin.collector, admin.workers)

    def _answer_page(self, name: str, argument: str) -> bytes:
        """For the page that another worker serves."""
        from modelplex.server.workers.page import PageShare

        if self._page_share is None:
            self._page_share = PageShare(self.page.own_sources, self._place.number)
        return self._page_share.answers[name](argument)

    async def _watch(self) -> None:
        """The supervisor watches the config file."""
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            self.tools.reload_approvals()

    def _receive(self, message: Message) -> None:
        match message:
            case NewConfig(pickled):
                if self._confinement.launcher is not None:
                    self._confinement.launcher.reread()
                update = pickle.loads(pickled)  # noqa: S301 - only the supervisor sends one
                process_setup.allow_listeners(
                    len(update.joined.config.agents),
                    connections=from_config.connection_limits(update.joined.config).max_connections,
                )
                sockets = receive_sockets(self._place.descriptors, len(update.opened))
                bound = list(map(BoundSocket, update.opened, sockets))
                self._applying = asyncio.create_task(self._adopt(update, bound, after=self._applying))
            case Stop(now):
                if now and self._listening is not None:
                    self._listening.skip_drain()
                self.stop()
            case Ask() | Answer():
                self._collected_admin.receive(message)
            case StateMade(hashes, provider, account):
                self._state.origins.learn(hashes, (provider, account))
            case AgentChanged():
                self._agents.receive(message)
            case Ready() | Failed() | Applied() | ChangeAgent():
                pass  # from workers only

    async def _adopt(
        self, update: ConfigUpdate, opened: list[BoundSocket], *, after: asyncio.Task[None] | None
    ) -> None:
        await self._listens.wait()  # a config may come while this worker starts
        if after is not None:
            await after
        self._source.use(update.joined)
        self._agents.added = update.joined.added
        workers = self._collected_admin.workers
        workers.assignment, workers.addresses = update.assignment, update.addresses
        (self._apply_agents if update.only_agents else self._apply)(update.joined.config)
        listeners = self._listeners()
        closed = [
            each for path, each in agent_sockets(self._serving().sockets).items() if path in update.closed
        ]
        await listeners.adopt(opened)
        listeners.close(closed)
        self._link.send(Applied())

    def _announce_states(self, hashes: tuple[int, ...], origin: Origin) -> None:
        self._link.send(StateMade(hashes, *origin))

    def _supervisor_ended(self) -> None:
        if not self._stop.is_set():
            self._log.events.error("the supervisor has ended, and so does this worker")
            self.stop()

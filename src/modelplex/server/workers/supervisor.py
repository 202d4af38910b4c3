"""The supervisor of several workers: holds the listening sockets, starts the workers, starts them
again when they end, and passes on reloads, the stop and messages.

It has no event loop and no thread, so that it may fork at any time; a fork shares the memory of all
that is imported, and serves within milliseconds. A connection that comes while a worker is started
again waits in the backlog of its socket.
"""

from __future__ import annotations

import gc
import os
import selectors
import signal
import time
from collections.abc import Callable, Iterator
from importlib import import_module

from modelplex.config import Config
from modelplex.config.workers import assign
from modelplex.dialects import registry
from modelplex.records.log_lock import OutputLock
from modelplex.server import from_config, process_setup
from modelplex.server.config_file import WATCH_SECONDS
from modelplex.server.config_source import ConfigSource, open_source
from modelplex.server.listeners import BoundSocket
from modelplex.server.operator_page import own_token, page_links, print_links
from modelplex.server.service_manager import ServiceManager, service_manager
from modelplex.server.systemd import passed_sockets
from modelplex.server.workers import worker
from modelplex.server.workers.changes import WorkerChanges
from modelplex.server.workers.child import Child, Ended, WorkerEnd, fork
from modelplex.server.workers.messages import (
    AgentChanged,
    Answer,
    Applied,
    Ask,
    BadFrame,
    ChangeAgent,
    Failed,
    Message,
    NewConfig,
    Ready,
    StateMade,
    Stop,
)
from modelplex.server.workers.signals import SignalQueue
from modelplex.server.workers.sockets import HeldSockets
from modelplex.server.workers.supervisor_log import SupervisorLog

START_SECONDS = 60.0
"""For a worker to serve; one that takes longer is killed. It takes a second on a busy machine."""
STOP_SECONDS = 20.0
"""After `drain_timeout`, for workers to end; then they are killed. Their own limits add up to less.
"""
SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
"""Those for the supervisor only."""


class StartError(Exception):
    """A worker cannot start."""

    @property
    def sentence(self) -> str:
        return str(self)


def run(config: Config, *, config_path: str | None, verbose: bool, adapt: Callable[[Config], Config]) -> int:
    """Serve with several workers until a signal. Returns the exit status."""
    process_setup.set_up()
    manager = service_manager(os.environ)
    return Supervisor(open_source(config, config_path, adapt=adapt), manager, verbose=verbose).run()


class Supervisor:
    """The state of the parent process."""

    def __init__(self, source: ConfigSource, manager: ServiceManager, *, verbose: bool) -> None:
        self._source = source
        self._manager = manager
        config = source.config
        self._verbose = verbose
        self._lock = OutputLock()
        self._log = SupervisorLog(config, verbose=verbose, lock=self._lock)
        self._sockets = sockets = HeldSockets(config, assign(config), passed_sockets(config, os.environ))
        self._children = [
            Child(number, sockets=own, stdio=sockets.stdio if number == 1 else None)
            for number, own in sockets.of_worker.items()
        ]
        self._changes = WorkerChanges(source, sockets, self._children, self._log, manager)
        self._page_token = own_token(config)
        self._selector = selectors.DefaultSelector()
        self._signals = SignalQueue(SIGNALS, woken_by=[signal.SIGCHLD])
        self._watch_at = 0.0
        self._stop_until: float | None = None
        self._close_at = 0.0
        self._started = False

    @property
    def _config(self) -> Config:
        return self._source.config

    def __repr__(self) -> str:
        return f"<Supervisor of {self._children}>"

    def run(self) -> int:
        self._selector.register(self._signals.socket, selectors.EVENT_READ)
        self._signals.open()
        try:
            self._start_all()
            while any(child.pid or child.start_at is not None for child in self._children):
                self._step()
            self._log.info("stopped")
        finally:
            self._kill_all()
            self._sockets.close()
            self._signals.close()
        return 0

    # --- start

    def _start_all(self) -> None:
        """Raises StartError, and ListenError."""
        _import_for(self._config)
        gc.collect()
        gc.freeze()  # a collection in a worker would copy the pages of what all share
        first, *others = self._children
        # The first creates the files of the state folder, which the others then find.
        for group in ([first], others):
            for child in group:
                self._start(child)
            while not all(child.ready for child in group) and self._stop_until is None:
                self._step()
        if self._stop_until is not None:
            return
        self._sockets.publish()
        self._started = True
        self._manager.ready()
        fields = from_config.start_log_fields(
            self._config, addresses=self._sockets.addresses, path=self._source.file.path
        )
        self._log.info("started", **fields, workers=[child.pid for child in self._children])
        shown = self._page_token if self._config.server.internal_token is None else ""
        print_links(page_links(self._sockets.addresses, token=shown))

    def _start(self, child: Child) -> None:
        child.start_at, child.started, child.failure = None, time.monotonic(), ""
        try:
            child.pid, child.channel = fork(lambda end: self._be_worker(child, end), quiet=SIGNALS)
        except OSError as error:
            self._ended(child, f"it could not be started ({error.strerror})")
            return
        self._selector.register(child.channel.socket, selectors.EVENT_READ, child)

    def _be_worker(self, child: Child, end: WorkerEnd) -> int:
        """In the child process: close what belongs to the supervisor and to other workers."""
        self._sockets.keep_only([*child.sockets, *([child.stdio] if child.stdio is not None else [])])
        for other in self._children:
            other.close()
        self._selector.close()
        self._signals.forget()
        sockets = [BoundSocket(each.address, each.socket) for each in child.sockets]
        place = worker.WorkerPlace(
            number=child.number,
            assignment=self._sockets.assignment,
            sockets=sockets,
            stdio=child.stdio,
            addresses=self._sockets.addresses,
            channel=end.messages,
            descriptors=end.descriptors,
            lock=self._lock,
            page_token=self._page_token,
            added=self._source.added,
        )
        return worker.run(self._config, place, verbose=self._verbose)

    # --- the loop

    def _step(self) -> None:
        """Wait for the next thing to do, and do all that is due."""
        now = time.monotonic()
        for key, events in self._selector.select(max(0.0, self._next_time(now) - now)):
            child = key.data
            if isinstance(child, Child) and events & selectors.EVENT_READ:
                self._read(child)
        for number in self._signals.take():
            self._handle_signal(number)
        self._reap()
        self._do_due(time.monotonic())
        self._flush()

    def _next_time(self, now: float) -> float:
        times = [now + WATCH_SECONDS, *(c.start_at for c in self._children if c.start_at is not None)]
        if self._stop_until is not None:
            times += [each for each in (self._stop_until, self._close_at) if each > now]
        return min(times)

    def _do_due(self, now: float) -> None:
        for child in self._children:
            if child.start_at is not None and child.start_at <= now:
                self._start(child)
            elif child.pid and not child.ready and now - child.started > START_SECONDS:
                child.failure = f"it did not serve within {START_SECONDS:.0f} s"
                child.kill()
        self._changes.check_applied(now)
        if self._stop_until is not None:
            if now >= self._close_at:
                self._sockets.close()
            if now > self._stop_until:
                left = [child.number for child in self._children if child.pid]
                self._log.error("workers did not end and are killed", workers=left)
                self._kill_all()
        elif now >= self._watch_at:
            self._watch_at = now + WATCH_SECONDS
            self._manager.alive()
            if self._started and self._source.file.has_changed():
                self._reload()

    def _flush(self) -> None:
        for child in self._children:
            if (channel := child.channel) is not None:
                channel.flush()
                events = selectors.EVENT_READ | (selectors.EVENT_WRITE if channel.has_unsent else 0)
                self._selector.modify(channel.socket, events, child)

    def _read(self, child: Child) -> None:
        channel = child.channel
        if channel is None:
            return
        try:
            messages = channel.receive()
        except BadFrame as error:
            child.failure = f"it sent what is no message: {error}"
            child.kill()
            messages = None
        if messages is None:
            # Its end follows; until then the descriptor would be ready all the time.
            self._forget_channel(child)
            return
        for message in messages:
            self._receive(child, message)

    def _forget_channel(self, child: Child) -> None:
        if child.channel is not None:
            self._selector.unregister(child.channel.socket)
            child.channel.close()
            child.channel = None

    # --- messages

    def _receive(self, child: Child, message: Message) -> None:
        match message:
            case Ready():
                self._is_ready(child)
            case Failed(sentence):
                child.failure = sentence
            case Applied():
                self._changes.applied(child)
            case Ask():
                for other in self._others(child):
                    if other.ready:
                        other.send(message)
                    else:
                        child.send(Answer(message.id, message.asker, other.number, None))
            case Answer():
                self._children[message.asker - 1].send(message)
            case StateMade():
                for other in self._others(child):
                    other.send(message)
            case ChangeAgent():
                self._change_agent(child, message)
            case Stop() | NewConfig() | AgentChanged():
                pass  # from the supervisor only

    def _others(self, child: Child) -> Iterator[Child]:
        return (other for other in self._children if other is not child)

    def _is_ready(self, child: Child) -> None:
        child.ready = True
        self._sockets.listen_again(child.number)
        if self._started:
            self._log.warning("a worker was replaced", worker=child.number, pid=child.pid)

    # --- reload

    def _reload(self) -> None:
        self._changes.reload()

    def _change_agent(self, child: Child, asked: ChangeAgent) -> None:
        if self._stop_until is None and self._started:
            child.send(self._changes.change(asked))

    # --- ends

    def _reap(self) -> None:
        for child in self._children:
            if child.pid:
                pid, status = os.waitpid(child.pid, os.WNOHANG)
                if pid:
                    while child.channel is not None:
                        self._read(child)  # what it said last, such as why it cannot start
                    self._ended(child, Ended(pid, status).reason)

    def _ended(self, child: Child, reason: str) -> None:
        pid, failure = child.pid, child.failure
        self._forget_channel(child)
        child.close()
        if self._stop_until is not None:
            return
        if not self._started:
            raise StartError(failure or f"worker {child.number} ended at the start: {reason}.")
        now = time.monotonic()
        delay = child.restarts.ended(lived=now - child.started)
        child.start_at = now + delay
        fields = {"failure": failure} if failure else {}
        self._log.error(
            "a worker ended",
            worker=child.number,
            pid=pid,
            reason=reason,
            in_a_row=child.restarts.in_a_row,
            restart_in_seconds=delay,
            **fields,
        )
        self._changes.ended(child)

    def _kill_all(self) -> None:
        for child in self._children:
            if child.pid:
                child.kill()
                os.waitpid(child.pid, 0)
                self._forget_channel(child)
                child.close()

    # --- signals

    def _handle_signal(self, number: int) -> None:
        if number != signal.SIGHUP:
            self._stop()
        elif self._stop_until is None and self._started:
            self._reload()

    def _stop(self) -> None:
        """The first signal starts the drain, the second one ends it."""
        is_second = self._stop_until is not None
        if not is_second:
            self._manager.stopping()
            patience, grace = self._config.server.drain_timeout, self._config.server.drain_grace
            self._log.info("stopping", patience_seconds=patience)
            self._close_at = time.monotonic() + grace
            self._stop_until = self._close_at + patience + STOP_SECONDS
        if is_second or not self._config.server.drain_grace:
            self._sockets.close()
        for child in self._children:
            child.start_at = None
            child.send(Stop(now=is_second))


def _import_for(config: Config) -> None:
    """Import what the workers would when they first use it: before the fork all share it."""
    registry.load(from_config.dialects_of(config))
    if config.mcp.enabled:
        import_module("modelplex.server.open_tools")

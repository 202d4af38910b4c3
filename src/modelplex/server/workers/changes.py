"""Another config for running workers: the supervisor binds and closes the sockets of agents, and
sends each worker its share. A change is made as a whole or not at all.
"""

from __future__ import annotations

import pickle
import time
from collections.abc import Sequence

from modelplex.config.api_agents import JoinedAgents
from modelplex.config.workers import extended, reload_conflict
from modelplex.core.errors import Conflict, GatewayFault, ModelplexError
from modelplex.server.address import ListenError
from modelplex.server.config_source import ConfigSource
from modelplex.server.from_config import by_priority
from modelplex.server.service_manager import ServiceManager
from modelplex.server.stored_agents import StoredAgents
from modelplex.server.workers.child import Child
from modelplex.server.workers.messages import AgentChanged, ChangeAgent, NewConfig
from modelplex.server.workers.sockets import HeldSockets, SocketShare
from modelplex.server.workers.supervisor_log import SupervisorLog
from modelplex.server.workers.worker import ConfigUpdate

APPLY_SECONDS = 10.0
"""For all workers to apply a config, until those that have not are named in the log."""


class ReloadConflict(Exception):
    """Running workers cannot adopt a config."""


class WorkerChanges:
    """Its methods block, for milliseconds: the supervisor serves nothing."""

    def __init__(
        self,
        source: ConfigSource,
        sockets: HeldSockets,
        children: Sequence[Child],
        log: SupervisorLog,
        manager: ServiceManager,
    ) -> None:
        self._source = source
        self._sockets = sockets
        self._children = children
        self._log = log
        self._manager = manager
        self._unapplied: dict[int, int] = {}
        """How many configs a worker has still to apply, by its number."""
        self._is_reload = False
        """Whether one of them is a reload, which is reported; a change by the API has an answer."""
        self._apply_until = 0.0

    def __repr__(self) -> str:
        return f"<WorkerChanges of {self._source!r}>"

    def reload(self) -> None:
        """Load the file again."""
        self._manager.reloading()
        joined = self._source.load(events=self._log)
        try:
            if joined is not None:
                self._use(joined)
                return
        except ReloadConflict as error:
            self._log.error("reload refused, it needs a restart", reason=str(error))
        except ListenError as error:
            self._log.error("reload refused, the old config stays", faults=[error.sentence])
        self._manager.ready()

    def applied(self, child: Child) -> None:
        """This worker uses the first config that it had still to apply."""
        left = self._unapplied.get(child.number, 0) - 1
        if left > 0:
            self._unapplied[child.number] = left
        else:
            self.ended(child)

    def ended(self, child: Child) -> None:
        """This worker has nothing more to apply: the next one begins with what is now."""
        if self._unapplied.pop(child.number, None) is not None:
            self._sockets.listen_again(child.number)
            self._report_applied()

    def check_applied(self, now: float) -> None:
        """Log the workers that have not applied the last config in time."""
        if self._unapplied and now > self._apply_until:
            self._log.error("the new config is not applied by all workers", workers=sorted(self._unapplied))
            self._unapplied.clear()
            self._is_reload = False
            self._manager.ready()

    def _report_applied(self) -> None:
        if self._is_reload and not self._unapplied:
            self._is_reload = False
            providers = [each.name for each in by_priority(self._source.config)]
            self._log.info("config reloaded", providers=providers)
            self._manager.ready()

    def change(self, asked: ChangeAgent) -> AgentChanged:
        """Add or remove an agent of the API. Returns the answer."""
        source = self._source
        try:
            change = source.delete(asked.name) if asked.body is None else source.put(asked.name, asked.body)
            if change.joined is not None:
                self._use(change.joined, change.stored)
        except ModelplexError as error:
            return _refusal(asked, error)
        except ReloadConflict as error:
            return _refusal(asked, Conflict(f"Not while the workers run: {error}.", code="agent_split"))
        except ListenError as error:
            return _refusal(asked, Conflict(error.sentence, code="agent_socket_unusable"))
        except OSError as error:
            sentence = f"The agent cannot be kept in {source.stored.path}: {error.strerror}."
            return _refusal(asked, GatewayFault(sentence, code="agents_not_stored"))
        return AgentChanged(asked.id, change.outcome)

    def _use(self, joined: JoinedAgents, stored: StoredAgents | None = None) -> None:
        """Raises ReloadConflict, ListenError, and OSError where agents cannot be kept; then nothing
        changes.
        """
        config = joined.config
        assignment = extended(self._sockets.assignment, config)
        if reason := reload_conflict(assignment, config):
            raise ReloadConflict(reason)
        update = self._sockets.update(config)
        for _ in update.claim():
            pass
        try:
            if stored is not None:
                stored.save()
        except BaseException:
            update.discard()
            raise
        self._source.use(joined, stored)
        self._log.configure(config)
        for fault in update.publish():
            self._log.error(fault.sentence)
        shares = self._sockets.adopt(update, assignment)
        self._is_reload = self._is_reload or stored is None
        for child in self._children:
            if child.pid:
                self._unapplied[child.number] = self._unapplied.get(child.number, 0) + 1
        self._apply_until = time.monotonic() + APPLY_SECONDS
        for child in self._children:
            self._send(child, joined, shares[child.number], only_agents=stored is not None)
        self._report_applied()

    def _send(self, child: Child, joined: JoinedAgents, share: SocketShare, *, only_agents: bool) -> None:
        """A worker that is started again begins with what is now."""
        if child.channel is None:
            return
        try:
            child.channel.send_sockets([each.socket for each in share.opened])
        except OSError:
            child.failure = "it did not take new sockets"
            child.kill()
            return
        update = ConfigUpdate(
            joined,
            self._sockets.assignment,
            self._sockets.addresses,
            opened=[each.address for each in share.opened],
            closed=share.closed,
            only_agents=only_agents,
        )
        child.send(NewConfig(pickle.dumps(update)))


def _refusal(asked: ChangeAgent, error: ModelplexError) -> AgentChanged:
    return AgentChanged(asked.id, None, error.status, error.code or error.type, error.message)

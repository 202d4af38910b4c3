"""Resolves who sends a request: from a connection and the headers of a request to a Caller.

Listeners call `identify` for each connection, the app calls `resolve` for each request. Names come
from the host: an agent is known by its socket or by the token that was sent. A request with any
other API key belongs to no agent. This module knows no route and no model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from hashlib import sha256
from time import time

import msgspec

from modelplex.config import AgentConfig, Config
from modelplex.config.settings import Attest
from modelplex.core.caller import Caller, CallerRun, Kind, Peer, PeerNetwork
from modelplex.core.errors import OperatorStopped, PolicyDenied
from modelplex.policy.bounds import bounds_of, rule_names
from modelplex.server.peer import UNKNOWN, PeerSocket, attest, credentials

Refusal = tuple[str, str]
"""A sentence and an error code."""
KINDS: tuple[Kind, ...] = ("tcp", "unix", "vsock", "admin")
BEARER = b"bearer "
MAX_SIGHTINGS = 256
"""Owners of requests: the agents and listeners of a config. A reload may rename them."""
KEY_HEADERS = frozenset({b"authorization", b"x-api-key", b"x-goog-api-key"})
"""Headers in which the clients of the dialects send an API key."""


class AgentPolicy(msgspec.Struct, frozen=True):
    """What the config says about one agent, or about callers that are no agent, on one kind of
    listener. `template` lacks the facts of a connection. `allow_uid` and `attest` are for Unix
    sockets.
    """

    template: Caller
    allow_uid: frozenset[int] = frozenset()
    attest: Attest = "off"


class ClientConnection(msgspec.Struct):
    """Who is at the other end of a connection. `caller` was made with `policy`; every request gets
    `refused`, if it is set. `reported`: the first request has come. `admitted` is what the app
    decided about the last model call.
    """

    caller: Caller
    policy: AgentPolicy | None = None
    refused: Refusal | None = None
    reported: bool = False
    admitted: object = None


class CallerSighting(msgspec.Struct):
    """The last process, or address, that sent requests as this caller. `since` is when its first
    request came, in Unix seconds, and `last` when its last connection sent its first one.
    """

    caller: Caller
    since: float
    last: float


class CallerResolver:
    """Resolves the callers of a process. `report(caller, reason)` runs once per connection, at its
    first request, if the caller is refused, or if `attest = "warn"` finds that it has a network or
    may have one; then the reason is None.
    """

    def __init__(self, config: Config, *, report: Callable[[Caller, str | None], None] | None = None) -> None:
        self._report = report
        self._agents: dict[str, AgentConfig] = {}
        self._defaults: object = None
        self._stopped_runs: set[str] = set()
        self.policies: dict[tuple[Kind, str], AgentPolicy] = {}
        """Another dict for each config."""
        self.last_seen: dict[str, PeerNetwork] = {}
        """The network of the last caller, by agent; "" is for sockets of no agent."""
        self.sightings: dict[str, CallerSighting] = {}
        """By the owner of what they ask, the last seen last; at most MAX_SIGHTINGS."""
        self.configure(config)

    def __repr__(self) -> str:
        return f"<CallerResolver {len(self._agents)} agents, {len(self._tokens)} tokens>"

    def configure(self, config: Config) -> None:
        """Use this config from now on, for open connections too. The policies of agents that have
        not changed stay the same objects.
        """
        before = self._policies_of_unchanged(config)
        self._agents = {agent.name: agent for agent in config.agents}
        self._tokens = {
            sha256(agent.token.reveal().encode()).digest(): agent.name
            for agent in config.agents
            if agent.token is not None
        }
        self.policies = {}
        for kind in KINDS:
            for name in ("", *self._agents):
                self.policies[kind, name] = before.get((kind, name)) or _policy(
                    config, kind, self._agents.get(name)
                )
        self._defaults = _defaults(config)

    def _policies_of_unchanged(self, config: Config) -> dict[tuple[Kind, str], AgentPolicy]:
        if self._defaults != _defaults(config):
            return {}
        same = {agent.name for agent in config.agents if self._agents.get(agent.name) == agent}
        return {key: policy for key, policy in self.policies.items() if not key[1] or key[1] in same}

    def stop_run(self, run: str) -> None:
        """Refuse the requests of this run from now on, also on open connections: what was decided
        about their heads goes with the table of policies.
        """
        self._stopped_runs.add(run)
        self.policies = self.policies.copy()

    def forget_run(self, run: str) -> None:
        """It has ended."""
        self._stopped_runs.discard(run)

    def knows(self, agent: str) -> bool:
        """Whether callers may be this agent; "" is for callers that are none."""
        return not agent or agent in self._agents

    def identify(
        self,
        sock: PeerSocket | None,
        *,
        listener: str,
        kind: Kind,
        client: str = "",
        agent: str = "",
        run: CallerRun | None = None,
    ) -> ClientConnection:
        """Identify the client of an accepted connection. `agent` and `run` are those whose socket
        it is. Reads /proc where attestation is on, in a fraction of a millisecond.
        """
        policy = self.policies.get((kind, agent))
        peer = credentials(sock) if kind in {"unix", "admin"} and sock is not None else None
        attested: PeerNetwork | None = None
        refused: Refusal | None = None
        if kind == "unix" and policy is not None:
            refused = _uid_refusal(peer, policy)
            if refused is None and policy.attest != "off" and sock is not None:
                attested = attest(sock, peer)
                if policy.attest == "require":
                    refused = _network_refusal(attested, peer)
        elif kind == "vsock":
            attested = UNKNOWN
        caller = Caller(
            listener=listener, kind=kind, client=client, agent=agent, peer=peer, attested=attested, run=run
        )
        if policy is not None:
            caller = _with_policy(caller, policy)
        return ClientConnection(caller, policy, refused)

    def resolve(self, connection: ClientConnection, headers: Iterable[tuple[bytes, bytes]]) -> Caller:
        """Resolve the caller of one request. Raises PolicyDenied if the connection is refused, its
        agent is no longer configured, or its run was stopped.
        """
        if not connection.reported:
            self._report_first_request(connection)
            caller = self._resolve(connection, headers)
            self._see(caller)
            return caller
        return self._resolve(connection, headers)

    def _resolve(self, connection: ClientConnection, headers: Iterable[tuple[bytes, bytes]]) -> Caller:
        if connection.refused is not None:
            sentence, code = connection.refused
            raise PolicyDenied(sentence, code=code)
        caller = connection.caller
        if caller.run is not None and caller.run.id in self._stopped_runs:
            raise OperatorStopped("Policy: the operator stopped this run, and its requests are refused.")
        if not caller.agent and self._tokens and (name := self._agent_of_token(headers)):
            return _with_policy(caller, self.policies[caller.kind, name])
        policy = self.policies.get((caller.kind, caller.agent))
        if policy is None:
            raise PolicyDenied(
                f"Policy: this socket is that of the agent {caller.agent!r}, which is no longer configured.",
                code="agent_unknown",
            )
        if policy is not connection.policy:
            connection.caller, connection.policy = _with_policy(caller, policy), policy
            connection.refused = _refusal_after_reload(caller, policy)
            return self._resolve(connection, headers)
        return connection.caller

    def _report_first_request(self, connection: ClientConnection) -> None:
        """A connection without a request, as of a client that checks whether the socket is live, is
        not reported.
        """
        connection.reported = True
        caller, policy, refused = connection.caller, connection.policy, connection.refused
        attested = caller.attested
        if attested is not None and policy is not None and caller.kind == "unix":
            self.last_seen[caller.agent] = attested
        warned = (
            policy is not None
            and policy.attest == "warn"
            and attested is not None
            and attested.reach != "isolated"
        )
        if self._report is not None and (refused is not None or warned):
            self._report(caller, None if refused is None else refused[0])

    def _see(self, caller: Caller) -> None:
        """Once per connection."""
        now, owner = time(), caller.owner
        before = self.sightings.pop(owner, None)
        same = (
            before is not None and before.caller.peer == caller.peer and before.caller.client == caller.client
        )
        self.sightings[owner] = CallerSighting(caller, before.since if before and same else now, now)
        if len(self.sightings) > MAX_SIGHTINGS:
            del self.sightings[next(iter(self.sightings))]

    def _agent_of_token(self, headers: Iterable[tuple[bytes, bytes]]) -> str | None:
        for name, value in headers:
            if name not in KEY_HEADERS:
                continue
            token = value[len(BEARER) :] if value[: len(BEARER)].lower() == BEARER else value
            # By its hash, so that the time of the look-up does not depend on how much of a guess
            # is right.
            if (agent := self._tokens.get(sha256(token.strip()).digest())) is not None:
                return agent
        return None


def share_owner(caller: Caller) -> str:
    """Whose share a connection counts for: its agent's; else that of one process, or of one
    address, on its listener. Tokens are not known yet when a connection is accepted.
    """
    if caller.agent:
        return caller.owner
    peer = caller.peer
    return (
        f"{caller.listener} {caller.client}" if peer is None else f"{caller.listener} {peer.uid}:{peer.pid}"
    )


def _defaults(config: Config) -> object:
    """What an agent's policy has of the rest of the config."""
    return config.policy, config.server.allow_uid, config.server.attest


def _policy(config: Config, kind: Kind, agent: AgentConfig | None) -> AgentPolicy:
    policy, allow, server = config.policy, config.policy.allow, config.server
    default, opened = (policy.http, allow.http) if kind == "tcp" else (policy.socket, allow.socket)
    opened = (*allow.everywhere, *opened, *(agent.allow if agent is not None else ()))
    template = Caller(
        listener="",
        kind=kind,
        sealed=((agent.policy if agent is not None else None) or default) == "sealed",
        allowed=rule_names(opened),
        bounds=bounds_of(opened),
    )
    if agent is None:
        return AgentPolicy(template, frozenset(server.allow_uid), server.attest)
    template = msgspec.structs.replace(
        template,
        agent=agent.name,
        models=agent.models,
        tools=agent.tools,
        priced_only=agent.on_unpriced == "refuse" and agent.budget.usd is not None,
        seed=agent.seed,
    )
    return AgentPolicy(
        template, frozenset(agent.allow_uid or server.allow_uid), agent.attest or server.attest
    )


def _with_policy(caller: Caller, policy: AgentPolicy) -> Caller:
    return msgspec.structs.replace(
        policy.template,
        listener=caller.listener,
        client=caller.client,
        peer=caller.peer,
        attested=caller.attested,
        run=caller.run,
        priced_only=policy.template.priced_only or (caller.run is not None and caller.run.priced_only),
        seed=policy.template.seed if caller.run is None or caller.run.seed is None else caller.run.seed,
    )


def _refusal_after_reload(caller: Caller, policy: AgentPolicy) -> Refusal | None:
    """Of a connection that was not refused before, by what is known of its client."""
    if caller.kind != "unix":
        return None
    refused = _uid_refusal(caller.peer, policy)
    if refused is None and policy.attest == "require" and caller.attested is not None:
        refused = _network_refusal(caller.attested, caller.peer)
    return refused


def _uid_refusal(peer: Peer | None, policy: AgentPolicy) -> Refusal | None:
    if not policy.allow_uid or (peer is not None and peer.uid in policy.allow_uid):
        return None
    who = "a user that the kernel does not name" if peer is None else f"uid {peer.uid} (pid {peer.pid})"
    code = "uid_not_allowed"
    return f"Policy: this socket serves only some users, and yours is {who}. The setting is allow_uid.", code


def _network_refusal(attested: PeerNetwork, peer: Peer | None) -> Refusal | None:
    if attested.reach == "isolated":
        return None
    pid = f"pid {peer.pid}" if peer is not None and peer.pid else "of another PID namespace"
    yours = (
        f"yours has {', '.join(attested.interfaces)} ({pid})"
        if attested.reach == "networked"
        else f"what yours has could not be seen ({pid})"
    )
    code = "caller_has_network"
    return f"Policy: this socket serves callers without a network; {yours}. The setting is attest.", code

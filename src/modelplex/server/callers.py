"""Who calls, and whether they may: from a connection and the headers of a request to a Caller.

Above it stand the listeners, which call `meet` once a connection, and the app, which calls `of` for
each request; below it the config and `peer`. It knows no route and no model. A name is the host's
to give: that of the agent whose socket it is, or whose token was sent. Any other key is nobody in
particular.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from hashlib import sha256

import msgspec

from modelplex.config import AgentConfig, Config
from modelplex.config.settings import Attest
from modelplex.core.caller import Bound, Caller, Kind, Peer, PeerNetwork
from modelplex.core.errors import PolicyDenied
from modelplex.policy.bounds import bounds_of, rule_names
from modelplex.server.peer import UNKNOWN, PeerSocket, attest, credentials

Headers = Iterable[tuple[bytes, bytes]]
Refusal = tuple[str, str]
BEARER = b"bearer "
KEY_HEADERS = frozenset({b"authorization", b"x-api-key", b"x-goog-api-key"})
"""Where the clients of each form put their API key."""


class AgentPolicy(msgspec.Struct, frozen=True):
    """What a config says of one agent's callers, or of nobody's in particular, on one kind of
    listener. `allow_uid` and `attest` are for its own socket.
    """

    agent: str = ""
    sealed: bool = False
    allowed: frozenset[str] = frozenset()
    bounds: frozenset[Bound] = frozenset()
    models: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()
    priced_only: bool = False
    allow_uid: frozenset[int] = frozenset()
    attest: Attest = "off"


class ClientConnection(msgspec.Struct):
    """What is known of a connection. `refused`, a sentence and a code, is said to each of its
    requests; `terms` are those that `caller` was made by. `asked`: a request has come, and the host
    was told of what there is to tell.
    """

    caller: Caller
    terms: AgentPolicy | None = None
    refused: Refusal | None = None
    asked: bool = False


class CallerResolver:
    """The door book of a process. `report` is told, once a connection that asks for something, of a
    caller that is refused (with the sentence), or is only warned of: it has a network, or cannot be
    judged (None).
    """

    def __init__(self, config: Config, *, report: Callable[[Caller, str | None], None] | None = None) -> None:
        self._report = report
        self.last_seen: dict[str, PeerNetwork] = {}
        """What was attested last, by agent; "" for the sockets of nobody in particular."""
        self.configure(config)

    def __repr__(self) -> str:
        return f"<Callers {len(self._agents)} agents, {len(self._tokens)} tokens>"

    def configure(self, config: Config) -> None:
        """From here on this config holds, for connections that are open too."""
        self._agents = {agent.name: agent for agent in config.agents}
        self._tokens = {
            sha256(agent.token.reveal().encode()).digest(): agent.name
            for agent in config.agents
            if agent.token is not None
        }
        self._terms: dict[tuple[Kind, str], AgentPolicy] = {}
        for kind in ("tcp", "unix", "vsock"):
            for name in ("", *self._agents):
                self._terms[kind, name] = _terms(config, kind, self._agents.get(name))

    def meet(
        self, sock: PeerSocket | None, *, listener: str, kind: Kind, client: str = "", agent: str = ""
    ) -> ClientConnection:
        """A connection was accepted: who is at its other end. `agent` is whose socket it is. Reads
        /proc where attestation is on, in a fraction of a millisecond.
        """
        terms = self._terms.get((kind, agent))
        peer = credentials(sock) if kind == "unix" and sock is not None else None
        attested: PeerNetwork | None = None
        refused: Refusal | None = None
        if kind == "unix" and terms is not None:
            refused = _not_this_user(peer, terms)
            if refused is None and terms.attest != "off" and sock is not None:
                attested = attest(sock, peer)
                if terms.attest == "require":
                    refused = _has_network(attested, peer)
        elif kind == "vsock":
            attested = UNKNOWN
        caller = Caller(
            listener=listener, kind=kind, client=client, agent=agent, peer=peer, attested=attested
        )
        met = ClientConnection(caller, refused=refused)
        if terms is not None:
            met.caller, met.terms = _under(caller, terms), terms
        return met

    def _tell(self, met: ClientConnection) -> None:
        """At its first request, what was seen of a connection: one that asks for nothing, to see
        whether somebody listens, is no caller yet.
        """
        met.asked = True
        caller, terms, attested = met.caller, met.terms, met.caller.attested
        if attested is not None and terms is not None and caller.kind == "unix":
            self.last_seen[terms.agent] = attested
        warned = (
            terms is not None
            and terms.attest == "warn"
            and attested is not None
            and attested.reach != "isolated"
        )
        if self._report is not None and (met.refused is not None or warned):
            self._report(caller, None if met.refused is None else met.refused[0])

    def of(self, met: ClientConnection, headers: Headers) -> Caller:
        """Who makes this request. Raises PolicyDenied where the connection is refused, or its agent
        is no longer configured.
        """
        if not met.asked:
            self._tell(met)
        if met.refused is not None:
            sentence, code = met.refused
            raise PolicyDenied(sentence, code=code)
        caller = met.caller
        if not caller.agent and self._tokens and (name := self._by_token(headers)):
            return _under(caller, self._terms[caller.kind, name])
        terms = self._terms.get((caller.kind, caller.agent))
        if terms is None:
            raise PolicyDenied(
                f"Policy: this socket is that of the agent {caller.agent!r}, which is no longer configured.",
                code="agent_unknown",
            )
        if terms is not met.terms:
            met.caller, met.terms = _under(caller, terms), terms
        return met.caller

    def _by_token(self, headers: Headers) -> str | None:
        for name, value in headers:
            if name not in KEY_HEADERS:
                continue
            token = value[len(BEARER) :] if value[: len(BEARER)].lower() == BEARER else value
            # Looked up by its hash: how long that takes says nothing of how much of a guess was
            # right.
            if (agent := self._tokens.get(sha256(token.strip()).digest())) is not None:
                return agent
        return None


def connecting(caller: Caller) -> str:
    """Whose share a connection takes: its agent's, or that of one process, user or address on its
    listener. A token is not known yet when a connection is accepted.
    """
    if caller.agent:
        return caller.owner
    peer = caller.peer
    return (
        f"{caller.listener} {caller.client}" if peer is None else f"{caller.listener} {peer.uid}:{peer.pid}"
    )


def _terms(config: Config, kind: Kind, agent: AgentConfig | None) -> AgentPolicy:
    policy, server = config.policy, config.server
    usual = policy.http if kind == "tcp" else policy.socket
    allow = policy.allow
    opened = (*allow.everywhere, *(allow.http if kind == "tcp" else allow.socket))
    if agent is None:
        return AgentPolicy(
            sealed=usual == "sealed",
            allowed=rule_names(opened),
            bounds=bounds_of(opened),
            allow_uid=frozenset(server.allow_uid),
            attest=server.attest,
        )
    return AgentPolicy(
        agent=agent.name,
        sealed=(agent.policy or usual) == "sealed",
        allowed=rule_names((*opened, *agent.allow)),
        bounds=bounds_of((*opened, *agent.allow)),
        models=agent.models,
        tools=agent.tools,
        priced_only=agent.on_unpriced == "refuse" and agent.budget.usd is not None,
        allow_uid=frozenset(agent.allow_uid or server.allow_uid),
        attest=agent.attest or server.attest,
    )


def _under(caller: Caller, terms: AgentPolicy) -> Caller:
    return msgspec.structs.replace(
        caller,
        agent=terms.agent,
        sealed=terms.sealed,
        allowed=terms.allowed,
        bounds=terms.bounds,
        models=terms.models,
        tools=terms.tools,
        priced_only=terms.priced_only,
    )


def _not_this_user(peer: Peer | None, terms: AgentPolicy) -> Refusal | None:
    if not terms.allow_uid or (peer is not None and peer.uid in terms.allow_uid):
        return None
    who = "a user that the kernel does not name" if peer is None else f"uid {peer.uid} (pid {peer.pid})"
    code = "uid_not_allowed"
    return f"Policy: this socket serves some users alone, and yours is {who}. The setting is allow_uid.", code


def _has_network(attested: PeerNetwork, peer: Peer | None) -> Refusal | None:
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

"""Who may call, in words: for `modelplex check` and for the log line of the start. Free of secrets.

It stands beside `redacted.py`; above it stand `cli` and `serve`.
"""

from __future__ import annotations

from modelplex.config.settings import AgentConfig, Config
from modelplex.policy.bounds import AllowEntry


def policies(config: Config) -> list[str]:
    """What holds for callers, a line for each kind of listener, then one for each rule that is open
    for somebody.
    """
    policy = config.policy
    return [
        f"sockets: {policy.socket}",
        f"http: {policy.http}",
        *(f"open rule {rule}: {whom}" for rule, whom in exceptions(config)),
    ]


def exceptions(config: Config) -> list[tuple[str, str]]:
    """Each rule of the sealed policy that is open, with its bounds, and for whom."""
    allow = config.policy.allow
    found = [
        *((rule, "everybody") for rule in allow.everywhere),
        *((rule, "callers of sockets") for rule in allow.socket),
        *((rule, "callers of HTTP") for rule in allow.http),
        *((rule, f"agent {agent.name}") for agent in config.agents for rule in agent.allow),
        *((rule, f"provider {provider.name}") for provider in config.providers for rule in provider.allow),
    ]
    return sorted(((_opened(rule), whom) for rule, whom in found), key=lambda each: each[0])


def _opened(allowed: AllowEntry) -> str:
    """As it is told: `web-search (docs.example.com; at most 3 uses a request)`."""
    if isinstance(allowed, str):
        return allowed
    bounds = [", ".join(allowed.domains)] if allowed.domains else []
    if allowed.max_uses is not None:
        bounds.append(f"at most {allowed.max_uses} use{'s' * (allowed.max_uses != 1)} a request")
    return f"{allowed.rule} ({'; '.join(bounds)})"


def agents_sockets(config: Config) -> list[str]:
    return [
        f"{agent.socket} (a Unix socket of agent {agent.name}, mode {agent.socket_mode or config.server.socket_mode})"
        for agent in config.agents
        if agent.socket is not None
    ]


def agent(agent: AgentConfig, config: Config) -> str:
    """One agent: how it is known, and what it may."""
    server = config.server
    known = [f"socket {agent.socket}"] if agent.socket is not None else []
    if agent.token is not None:
        known.append(
            "a token"
            if server.http or server.socket or server.vsock
            else "a token, which no listener here takes"
        )
    may = [f"models: {', '.join(agent.models) or 'all'}", f"tools: {', '.join(agent.tools) or 'all'}"]
    rate, budget = agent.rate, agent.budget
    if rate.requests is not None:
        may.append(f"{rate.requests} requests a minute")
    if rate.tokens is not None:
        may.append(f"{rate.tokens} tokens a minute")
    per = "in total" if budget.per == "total" else f"a {budget.per}"
    if budget.usd is not None:
        may.append(f"${budget.usd:g} {per}")
    if budget.tokens is not None:
        may.append(f"{budget.tokens} tokens {per}")
    if agent.on_unpriced == "refuse":
        may.append("models of no known price refused")
    if agent.concurrent is not None:
        may.append(f"{agent.concurrent} at once")
    if agent.policy is not None:
        may.append(f"policy {agent.policy}")
    if agent.socket is not None:
        uids = agent.allow_uid or server.allow_uid
        may += [f"users {', '.join(map(str, uids))}"] if uids else []
        attest = agent.attest or server.attest
        may += [f"attest {attest}"] if attest != "off" else []
    return f"{agent.name} ({', '.join(known)}): {', '.join(may)}"

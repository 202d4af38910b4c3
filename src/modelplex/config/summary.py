"""A config without its secrets: as text for `modelplex check` and the log line of the start, as
JSON for `/_internal/config`.
"""

from __future__ import annotations

import os.path
import re
from collections.abc import Sequence
from typing import Any, Final, cast

import msgspec

from modelplex.config.mcp_settings import McpServer
from modelplex.config.secret import Secret, hide
from modelplex.config.settings import (
    AgentConfig,
    Config,
    KeyInFile,
    ProviderConfig,
)
from modelplex.config.workers import assign
from modelplex.policy.bounds import AllowEntry

LISTED: Final = 12
"""Agents that are listed one by one: half a screen of 24 lines."""
ROWS: Final = 6
"""Rows of the table of more agents, so that all fits on a screen."""
NAMED: Final = 3
"""Names of a longer list that are written."""


def redacted(config: Config) -> dict[str, object]:
    """The config in JSON's types. Of API keys it shows the number, of other secrets asterisks."""
    shown = cast("dict[str, Any]", msgspec.to_builtins(config, enc_hook=hide))
    for provider in shown["providers"]:
        count = len(provider["api_key"])
        provider["api_key"] = {0: "not set", 1: "set"}.get(count, f"{count} keys")
    return shown


def summary(config: Config, *, whole: bool = False) -> list[str]:
    """What would be served, one line each. Many agents are a table, unless `whole`."""
    counted = len(config.agents) > LISTED and not whole
    server = config.server
    lines = [f"config: {config.path or 'none'}", "listens on:"]
    lines += [f"  http://{address}" for address in server.http]
    lines += [f"  {path} (a Unix socket, mode {server.socket_mode})" for path in server.socket]
    lines += _agent_folders(config) if counted else _agent_sockets(config)
    lines += [f"  vsock:{port} (AF_VSOCK, for virtual machines)" for port in server.vsock]
    if server.admin_socket is not None:
        lines.append(f"  {server.admin_socket} (the admin socket: status, metrics and the page, mode 0600)")
    lines += _workers(config, counted=counted)
    lines.append("providers, in the order in which they are tried:")
    lines += [f"  {_provider(each)}" for each in sorted(config.providers, key=lambda each: each.priority)]
    if config.aliases:
        lines.append("aliases:")
        lines += [f"  {name} -> {', '.join(targets)}" for name, targets in config.aliases.items()]
    lines += _shadowed(config)
    lines += ["policy:", *(f"  {line}" for line in policies(config))]
    if counted:
        lines += _agent_table(config)
    elif config.agents:
        lines += ["agents:", *(f"  {agent_summary(each, config)}" for each in config.agents)]
    if config.mcp.enabled:
        lines.append(f"tool servers (pinning: {config.mcp.pinning}, search: {config.mcp.search}):")
        lines += [f"  {_tool_server(each)}" for each in config.mcp.servers]
    return lines


def _agent_sockets(config: Config) -> list[str]:
    return [
        f"  {agent.socket} (a Unix socket of agent {agent.name}, mode {agent.socket_mode or config.server.socket_mode})"
        for agent in config.agents
        if agent.socket is not None
    ]


def _agent_folders(config: Config) -> list[str]:
    """The sockets of agents, counted by folder and mode."""
    counts: dict[tuple[str, str], int] = {}
    for agent in config.agents:
        if agent.socket is not None:
            key = os.path.dirname(agent.socket) or ".", str(agent.socket_mode or config.server.socket_mode)  # noqa: PTH120 - as it is written
            counts[key] = counts.get(key, 0) + 1
    return [
        f"  {count} Unix sockets of agents in {folder} (mode {mode})"
        for (folder, mode), count in counts.items()
    ]


def _agent_table(config: Config) -> list[str]:
    """A row for all agents that may do the same, the most numerous first."""
    groups: dict[str, list[str]] = {}
    for agent in config.agents:
        groups.setdefault(_limits(agent, config), []).append(agent.name)
    rows = sorted(groups.items(), key=lambda row: -len(row[1]))
    shown = [(str(len(names)), _named(names), limits) for limits, names in rows[:ROWS]]
    widths = [max(len(row[column]) for row in shown) for column in (0, 1)]
    lines = [f"agents: {len(config.agents)}, by what they may do:"]
    lines += [f"  {count:>{widths[0]}}  {names:<{widths[1]}}  {limits}" for count, names, limits in shown]
    if left := sum(len(names) for _, names in rows[ROWS:]):
        lines.append(f"  and {left} more, of other limits")
    return [*lines, "  `modelplex check --all` lists each agent"]


def _named(names: Sequence[str]) -> str:
    if len(names) <= NAMED + 1:
        return ", ".join(names)
    return f"{', '.join(names[:NAMED])} and {len(names) - NAMED} more"


def _workers(config: Config, *, counted: bool) -> list[str]:
    assignment = assign(config)
    if assignment.count == 1:
        return []
    served = [assignment.served_by(number, config) for number in range(1, assignment.count + 1)]
    shown = [_named(each) if counted else ", ".join(each) for each in served]
    return ["workers:", *(f"  {number}: {text}" for number, text in enumerate(shown, 1))]


def _provider(provider: ProviderConfig) -> str:
    keys = {0: "no key", 1: "1 key"}.get(len(provider.api_key), f"{len(provider.api_key)} keys")
    if provider.auth is not None:
        keys = f"credentials: {type(provider.auth).__struct_config__.tag}"
    elif read_later := [f"file {key.path}" for key in provider.api_key if isinstance(key, KeyInFile)]:
        keys += f" ({', '.join(read_later)})"
    models = ", ".join(provider.models) or "all that it lists"
    where = f" at {provider.base_url}" if provider.base_url else ""
    return f"{provider.name} ({provider.type}){where}: priority {provider.priority}, {keys}, models: {models}"


def _shadowed(config: Config) -> list[str]:
    """Models whose own name leads to another provider, as far as the config lists models."""
    from modelplex.pipeline.model_catalog import directory_of
    from modelplex.routing.aliases import shadowed_models

    found = shadowed_models(directory_of(config))
    lines = ["models to request by another name, since their own leads to another provider:"] if found else []
    return lines + [f"  {c.provider}'s {c.model}: request {name}" for c, name in found]


def policies(config: Config) -> list[str]:
    """The policy of each kind of listener, then each open rule."""
    return [
        f"sockets: {config.policy.socket}",
        f"http: {config.policy.http}",
        *(f"open rule {rule}: {whom}" for rule, whom in open_rules(config)),
    ]


def open_rules(config: Config) -> list[tuple[str, str]]:
    """Each open rule of the sealed policy with its bounds, and for whom it is open."""
    allow = config.policy.allow
    found = [
        *((rule, "everybody") for rule in allow.everywhere),
        *((rule, "callers of sockets") for rule in allow.socket),
        *((rule, "callers of HTTP") for rule in allow.http),
        *((rule, f"agent {agent.name}") for agent in config.agents for rule in agent.allow),
        *((rule, f"provider {provider.name}") for provider in config.providers for rule in provider.allow),
    ]
    return sorted(((_bounded(rule), whom) for rule, whom in found), key=lambda each: each[0])


def _bounded(allowed: AllowEntry) -> str:
    """For example `web-search (docs.example.com; at most 3 uses a request)`."""
    if isinstance(allowed, str):
        return allowed
    bounds = [", ".join(allowed.domains)] if allowed.domains else []
    if allowed.max_uses is not None:
        bounds.append(f"at most {allowed.max_uses} use{'s' * (allowed.max_uses != 1)} a request")
    return f"{allowed.rule} ({'; '.join(bounds)})"


def agent_summary(agent: AgentConfig, config: Config) -> str:
    """How an agent is identified, and what it may do."""
    server = config.server
    identified = [f"socket {agent.socket}"] if agent.socket is not None else []
    if agent.token is not None:
        usable = server.http or server.socket or server.vsock
        identified.append("a token" if usable else "a token, which no listener here accepts")
    return f"{agent.name} ({', '.join(identified)}): {_limits(agent, config)}"


def _limits(agent: AgentConfig, config: Config) -> str:
    server, rate, budget = config.server, agent.rate, agent.budget
    per = "in total" if budget.per == "total" else f"a {budget.per}"
    limits = [
        (True, f"models: {', '.join(agent.models) or 'all'}"),
        (True, f"tools: {', '.join(agent.tools) or 'all'}"),
        (rate.requests is not None, f"{rate.requests} requests a minute"),
        (rate.tokens is not None, f"{rate.tokens} tokens a minute"),
        (budget.usd is not None, f"${budget.usd or 0:g} {per}"),
        (budget.tokens is not None, f"{budget.tokens} tokens {per}"),
        (agent.on_unpriced == "refuse", "models without a known price refused"),
        (agent.concurrent is not None, f"{agent.concurrent} at once"),
        (agent.policy is not None, f"policy {agent.policy}"),
    ]
    if agent.socket is not None:
        uids, attest = agent.allow_uid or server.allow_uid, agent.attest or server.attest
        limits += [(bool(uids), f"users {', '.join(map(str, uids))}"), (attest != "off", f"attest {attest}")]
    return ", ".join(text for holds, text in limits if holds)


def _tool_server(server: McpServer) -> str:
    target, tools = server.command or _origin(server.url), ", ".join(server.tools) or "all"
    parts = [f"{server.name} ({target}): protocol {server.protocol}, {server.scope}, tools: {tools}"]
    if server.client_requests:
        parts.append(f"may request {' and '.join(server.client_requests)}")
    if server.tasks:
        parts.append("with tasks")
    if server.roots:
        parts.append(f"roots: {', '.join(server.roots)}")
    if not server.network:
        parts.append("without network")
    return "; ".join(parts)


def _origin(url: Secret | None) -> str:
    """A url without its path and query, which may be secret."""
    found = re.match(r"https?://[^/?#]+|unix:[^:]*", url.reveal() if url else "")
    return found[0] if found else "a url"

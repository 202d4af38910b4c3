"""Reads a Config into the values that the parts of the server take. Opens nothing but the log."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from time import time
from typing import TYPE_CHECKING

import msgspec

import modelplex
from modelplex.config import DEFAULT_HOST, Config, ProviderConfig, Secret
from modelplex.config.admins import admin_tokens
from modelplex.config.credentials import auth_secrets
from modelplex.config.settings import ServerConfig
from modelplex.config.shared import shared_secrets
from modelplex.config.summary import LISTED, agent_summary, open_rules
from modelplex.config.tools import secrets as secrets_of_tools
from modelplex.confinement.confine import word_of
from modelplex.http_client import HttpClient
from modelplex.pipeline.attempt import ErrorRules
from modelplex.pipeline.demo_upstream import DemoUpstream
from modelplex.pipeline.upstream import HttpUpstream, Upstream
from modelplex.providers.types import TYPES
from modelplex.records.log import Log, Secrets
from modelplex.routing.circuit_breaker import BreakerRules
from modelplex.routing.failover import FailoverRules
from modelplex.server.address import Address, Unix, Vsock, parse_http
from modelplex.server.connection_limits import ConnectionLimits
from modelplex.server.origin import Hosts
from modelplex.server.record_store import store_place, store_secrets

if TYPE_CHECKING:
    from modelplex.credentials.key_command import RunCommand
    from modelplex.pipeline.exact_cache import ExactCache

MACHINE_ID = Path("/etc/machine-id")
ADMIN_MODE = 0o600
"""Of the admin socket, whatever `socket_mode` says: for the gateway's own user and root."""
ADMIN_MODE_BY_UID = 0o666
"""Where [[server.admins]] names users: whoever connects is checked by the kernel's word for it."""


def configured_addresses(config: Config) -> Sequence[Address]:
    server = config.server
    mode = int(server.socket_mode, 8)
    return [
        *(parse_http(text) for text in server.http),
        *(Unix(path, mode=mode, group=server.socket_group) for path in server.socket),
        *agent_addresses(config).values(),
        *(Vsock(port) for port in server.vsock),
        *([Unix(server.admin_socket, mode=admin_mode(server), admin=True)] if server.admin_socket else []),
    ]


def admin_mode(server: ServerConfig) -> int:
    return ADMIN_MODE_BY_UID if any(each.uid for each in server.admins) else ADMIN_MODE


def agent_addresses(config: Config) -> dict[str, Unix]:
    """The sockets of agents, by path."""
    server = config.server
    mode = int(server.socket_mode, 8)
    return {
        agent.socket: Unix(
            agent.socket,
            mode=int(agent.socket_mode, 8) if agent.socket_mode is not None else mode,
            group=agent.socket_group or server.socket_group,
            agent=agent.name,
        )
        for agent in config.agents
        if agent.socket is not None
    }


def with_listeners_of(running: ServerConfig, server: ServerConfig) -> ServerConfig:
    """The settings of `server` with the listeners of `running`, which a reload cannot change. Those
    of agents are theirs.
    """
    return msgspec.structs.replace(
        server,
        http=running.http,
        socket=running.socket,
        vsock=running.vsock,
        admin_socket=running.admin_socket,
        workers=running.workers,
    )


def stdio_address(config: Config) -> Unix | None:
    """The stdio socket of [mcp]."""
    path = config.mcp.stdio_socket if config.mcp.enabled else None
    mode = int(config.server.socket_mode, 8)
    return None if path is None else Unix(path, mode=mode, group=config.server.socket_group)


def by_priority(config: Config) -> Sequence[ProviderConfig]:
    """The providers by priority, then in the order of the file."""
    return sorted(config.providers, key=lambda p: p.priority)


def build_upstreams(
    config: Config,
    client: HttpClient,
    *,
    failed_command: Callable[[str, str], None] | None = None,
    run_command: RunCommand | None = None,
) -> dict[str, Upstream]:
    """`failed_command` gets a provider's name and what its key command wrote to stderr;
    `run_command` runs one, by default as a child of this process.
    """
    failed = failed_command or _nowhere
    built: dict[str, Upstream] = {}
    for provider in by_priority(config):
        row = TYPES[provider.type]
        match provider.type:
            case "demo":
                built[provider.name] = DemoUpstream(provider, row, time)
            case "replay":
                from modelplex.pipeline.replay import ReplayUpstream

                built[provider.name] = ReplayUpstream(provider, store=partial(record_place, config))
            case _:
                built[provider.name] = HttpUpstream(
                    provider,
                    row,
                    client,
                    clock=time,
                    failed_command=partial(failed, provider.name),
                    run_command=run_command,
                )
    return built


def exact_cache(config: Config, last: ExactCache | None = None) -> ExactCache | None:
    """None where no caller has one. `last` is that of a config of which only agents differ."""
    if not config.cache.exact and not any(agent.cache for agent in config.agents):
        return None
    if last is not None:
        last.configure(config)
        return last
    from modelplex.pipeline.exact_cache import ExactCache

    return ExactCache(config)


def _nowhere(provider: str, said: str) -> None:
    del provider, said


def record_place(config: Config) -> str:
    """Where the record store is. Raises RecordingError."""
    from modelplex.records.store.database import StoreError
    from modelplex.replay.recording import RecordingError

    try:
        return store_place(config, os.environ)
    except StoreError as error:
        raise RecordingError(error.sentence) from None


def dialects_of(config: Config) -> frozenset[str]:
    """The dialects of the providers' conversations."""
    return frozenset(TYPES[provider.type].dialect for provider in config.providers)


def error_rules(config: Config, *, tokens: bool = False) -> ErrorRules:
    """`tokens`: the record store keeps token ids."""
    failover = config.failover
    return ErrorRules(
        failover=msgspec.convert(failover, FailoverRules, from_attributes=True),
        breaker=BreakerRules(failover.breaker_failures, failover.breaker_window, failover.breaker_cooldown),
        refuse_losses=config.server.on_loss == "refuse",
        drop_pinned_state=config.server.on_pinned_state == "drop",
        ping_interval=config.server.ping_interval,
        tokens=tokens,
        traces=bool(config.otel.endpoint),
    )


def connection_limits(config: Config) -> ConnectionLimits:
    """The settings of the same names. The others keep their defaults."""
    return msgspec.convert(config.server, ConnectionLimits, from_attributes=True)


def allowed_hosts_of(config: Config) -> Hosts:
    own = [parse_http(text).host for text in config.server.http]
    # Only where the environment of the container image says that a port is published; elsewhere
    # the config names all hosts.
    published = bool(os.environ.get(DEFAULT_HOST)) and bool({"0.0.0.0", "::"}.intersection(own))
    return Hosts(
        names=[*own, *config.server.allowed_hosts],
        origins=config.server.allowed_origins,
        single_labels=published,
    )


def open_log(config: Config, *, verbose: bool) -> Log:
    log = Log(
        file=config.log.file,
        log_format=config.log.format,
        level="debug" if verbose else config.server.log_level,
        max_size=config.log.max_size,
        keep=config.log.keep,
        max_body=config.log.max_body,
        secrets=Secrets(secrets_of(config)),
    )
    log.bodies = verbose and config.log.bodies
    return log


def secrets_of(config: Config) -> Iterator[str]:
    for provider in config.providers:
        yield from (key.reveal() for key in provider.api_key if isinstance(key, Secret))
        yield from auth_secrets(provider)
        yield from (value.reveal() for value in provider.headers.values())
    if config.server.internal_token is not None:
        yield config.server.internal_token.reveal()
    yield from (token.reveal() for token, _ in admin_tokens(config.server.admins))
    for server in config.mcp.servers:
        yield from secrets_of_tools(server)
    yield from store_secrets(config)
    yield from shared_secrets(config.shared)
    yield from (value.reveal() for value in config.otel.headers.values())
    yield from (agent.token.reveal() for agent in config.agents if agent.token is not None)


def restart_settings(config: Config) -> object:
    """The settings that a reload cannot change, as a value to compare."""
    shared = bool(config.server.socket) or stdio_address(config) is not None
    return (
        connection_limits(config),
        config.server.workers,
        (config.server.socket_mode, config.server.socket_group) if shared else (),
        (config.server.admin_socket, admin_mode(config.server)),
        stdio_address(config),
        config.log,
        config.otel,
        config.shared,
        msgspec.structs.replace(config.record, max_age=0.0, max_size=0, tokens=False),
    )


def start_log_fields(config: Config, *, addresses: Sequence[str], path: str | None) -> dict[str, object]:
    """Fields of the log line `started`: what is served, policies, open rules and agents."""
    own = {f"unix:{agent.socket}" for agent in config.agents} if len(config.agents) > LISTED else ()
    fields: dict[str, object] = {
        "version": modelplex.__version__,
        "listeners": [each for each in addresses if each not in own],
        "providers": [each.name for each in by_priority(config)],
        "tool_servers": [each.name for each in config.mcp.servers] if config.mcp.enabled else [],
        "config": path,
        "policy": {"sockets": config.policy.socket, "http": config.policy.http},
        "confined": word_of(config),
    }
    if opened := open_rules(config):
        fields["open_rules"] = [f"{rule}: {whom}" for rule, whom in opened]
    if config.agents:
        many = len(config.agents) > LISTED
        fields["agents"] = (
            len(config.agents) if many else [agent_summary(each, config) for each in config.agents]
        )
    return fields


def unchanged_providers(old: Config, new: Config) -> frozenset[str]:
    """The names of providers that a reload leaves unchanged: their circuit breakers are kept."""
    before = {provider.name: provider for provider in old.providers}
    return frozenset(p.name for p in new.providers if before.get(p.name) == p)


def machine_id() -> bytes:
    """The permanent id of this machine (machine-id(5)), or its host name."""
    try:
        return MACHINE_ID.read_bytes().strip()
    except OSError:
        return os.uname().nodename.encode()

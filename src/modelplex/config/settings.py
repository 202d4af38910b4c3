"""Every setting as a frozen type: the names are the keys of the TOML file, the defaults are what a small config leaves out.

Below it stand the vocabulary and `secret.py`; above it everything that is configured. It knows neither files nor the environment.
Sizes are bytes and times are seconds. `read.py` says what each key may hold; modelplex.example.toml says it to users.
"""

from __future__ import annotations

from typing import Final, Literal, Protocol

import msgspec

from modelplex.config.secret import Secret

DEFAULT_HTTP: Final = "127.0.0.1:11435"
"""One above Ollama's port, so that both can run; loopback, since whoever reaches it spends the keys."""

LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["auto", "human", "json"]
OnLoss = Literal["report", "refuse"]
OnPinnedState = Literal["refuse", "drop"]


class TypeFacts(Protocol):
    """What the provider room tells of one type, as far as a config is checked against it."""

    @property
    def default_base_url(self) -> str | None: ...

    @property
    def needs_key(self) -> bool: ...

    @property
    def needs_base_url(self) -> bool: ...

    @property
    def key_env(self) -> str | None:
        """The variable in which users of that service keep their key."""
        ...


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """`[server]`: where it listens and what it accepts.

    http             addresses as "host:port" ("[::1]:8080" for IPv6), always with both parts; empty where only sockets are served
    socket_mode      octal digits
    allowed_hosts    names in `Host` that are served beside loopback and the listener's own address
    keep_responses   where answers of the Responses form are kept, for who goes on from one by its id: "memory", a file, or not at all
    on_loss          what to do where the target's dialect cannot say a part of the request
    on_pinned_state  what to do with state that only an unreachable provider can read
    ping_interval    silence on a stream after which a keep-alive is written
    """

    http: tuple[str, ...] = (DEFAULT_HTTP,)
    socket: tuple[str, ...] = ()
    socket_mode: str = "0660"
    socket_group: str | None = None
    log_level: LogLevel = "info"
    max_request_size: int = 10_485_760
    max_header_size: int = 65_536
    header_timeout: float = 10.0
    body_timeout: float = 30.0
    keep_alive: float = 75.0
    max_connections: int = 2048
    drain_timeout: float = 30.0
    allowed_hosts: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()
    internal_token: Secret | None = None
    keep_responses: str | None = None
    on_loss: OnLoss = "report"
    on_pinned_state: OnPinnedState = "refuse"
    ping_interval: float = 15.0


class ProviderConfig(msgspec.Struct, frozen=True, kw_only=True):
    """One of `[[providers]]`.

    base_url   http, https, or `unix:/path/to.sock`, with `:/prefix` after it where the paths have one; "" where the type needs none
    api_key    tried in turn
    models     names or globs; empty means that the provider is asked for its list
    priority   lower is tried first
    quirks     fields of call.Quirks that replace those of the type, already of the field's type
    """

    name: str
    type: str
    base_url: str = ""
    api_key: tuple[Secret, ...] = ()
    models: tuple[str, ...] = ()
    priority: int = 1
    headers: dict[str, Secret] = {}
    connect_timeout: float = 10.0
    first_byte_timeout: float = 300.0
    idle_timeout: float = 300.0
    models_refresh: float = 300.0
    api_version: str | None = None
    ca_file: str | None = None
    verify_tls: bool = True
    max_response_size: int = 67_108_864
    quirks: dict[str, object] = {}


class FailoverConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`[failover]`. `retries` are of the same candidate; a provider that asks for more than `max_retry_after` is left for the next at once."""

    max_attempts: int = 6
    retries: int = 2
    backoff: float = 0.5
    max_backoff: float = 8.0
    max_retry_after: float = 20.0
    breaker_failures: int = 5
    breaker_window: float = 60.0
    breaker_cooldown: float = 30.0


class LogConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`[log]`. `max_size` and `keep` rotate `file`; `max_body` cuts a body that is logged, where `bodies` allows it at all."""

    file: str | None = None
    bodies: bool = False
    format: LogFormat = "auto"
    max_size: int = 52_428_800
    keep: int = 5
    max_body: int = 65_536


class McpServer(msgspec.Struct, frozen=True, kw_only=True):
    """One of `[mcp] servers`: a `command` that is started, or a `url`. Arguments and addresses often carry tokens, so they are secrets."""

    name: str
    command: str | None = None
    args: tuple[Secret, ...] = ()
    env: dict[str, Secret] = {}
    cwd: str | None = None
    url: Secret | None = None
    headers: dict[str, Secret] = {}
    allow: tuple[str, ...] = ()
    roots: tuple[str, ...] = ()


class McpConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`[mcp]`."""

    enabled: bool = False
    servers: tuple[McpServer, ...] = ()


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """The whole. `path` is the file that it came from, None where there was none. `aliases` maps a name to what is tried for it, in order."""

    server: Server = Server()
    providers: tuple[ProviderConfig, ...] = ()
    aliases: dict[str, tuple[str, ...]] = {}
    failover: FailoverConfig = FailoverConfig()
    log: LogConfig = LogConfig()
    mcp: McpConfig = McpConfig()
    path: str | None = None

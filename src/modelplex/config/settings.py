"""Every setting as a frozen type: the names are the keys of the TOML file, the defaults are what a
small config leaves out.

Below it stand the vocabulary and `secret.py`; above it everything that is configured. It knows
neither files nor the environment. Sizes are bytes and times are seconds. `read.py` says what each
key may hold; modelplex.example.toml says it to users.
"""

from __future__ import annotations

from typing import Final, Literal, Protocol

import msgspec

from modelplex.config.secret import Secret
from modelplex.policy.bounds import AllowEntry

DEFAULT_HTTP: Final = "127.0.0.1:11435"
"""One above Ollama's port, so that both can run; loopback, since whoever reaches it spends the
keys.
"""

SHARES: Final = 2.5
"""Shares of body memory for which there is room, if the config says nothing else: a caller that
uses up its own leaves another one most of a share, and the process stays below 200 MB.
"""

LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["auto", "human", "json"]
OnLoss = Literal["report", "refuse"]
OnPinnedState = Literal["refuse", "drop"]
OnUnpriced = Literal["allow", "refuse"]
PolicyName = Literal["sealed", "open"]
Attest = Literal["off", "warn", "require"]
Period = Literal["day", "month", "total"]
McpProtocol = Literal["auto", "legacy", "modern"]
McpStart = Literal["lazy", "eager"]
McpScope = Literal["shared", "session", "agent"]
McpSearch = Literal["auto", "on", "off"]
McpOversized = Literal["refuse", "cut"]
McpPinning = Literal["auto", "trust_first", "locked", "off"]


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


class ServerConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`[server]`: where it listens and what it accepts.

    http             addresses as "host:port" ("[::1]:8080" for IPv6), always with both parts; empty
                     where only sockets are served
    socket_mode      octal digits
    max_body_memory  bytes of request bodies at once, for the process; None is 2.5 times the share
                     of a caller
    max_body_memory_per_caller  the share; None is `max_request_size`
    max_connections_per_listener, max_connections_per_caller  None is half of `max_connections`, and
    a quarter
    reserved_connections  of `max_connections`, for HTTP alone; None is an eighth
    min_body_rate    bytes a second that a body has to come at, on average, after its first
                     `body_timeout`; 0 is no bound
    allowed_hosts    names in `Host` that are served beside loopback and the listener's own address
    keep_responses   where answers of the Responses form are kept, for who goes on from one by its
                     id: "memory", a file, or not at all
    on_loss          what to do where the target's dialect cannot say a part of the request
    on_pinned_state  what to do with state that only an unreachable provider can read
    ping_interval    silence on a stream after which a keep-alive is written
    vsock            ports of AF_VSOCK, for virtual machines
    allow_uid        whose processes may connect to `socket`; empty means that the file's mode
                     decides alone
    attest           what becomes of a caller of `socket` that has a network of its own
    state_folder     where counters, catalogues and locks are kept; None means the user's own state
                     folder
    allow_unauthenticated  whether MCP is served beyond loopback to callers without an agent's token
    """

    http: tuple[str, ...] = (DEFAULT_HTTP,)
    socket: tuple[str, ...] = ()
    socket_mode: str = "0660"
    socket_group: str | None = None
    log_level: LogLevel = "info"
    max_request_size: int = 33_554_432
    max_body_memory: int | None = None
    max_body_memory_per_caller: int | None = None
    max_header_size: int = 65_536
    header_timeout: float = 10.0
    body_timeout: float = 30.0
    min_body_rate: int = 32_768
    keep_alive: float = 75.0
    max_connections: int = 2048
    max_connections_per_listener: int | None = None
    max_connections_per_caller: int | None = None
    reserved_connections: int | None = None
    drain_timeout: float = 30.0
    allowed_hosts: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()
    internal_token: Secret | None = None
    keep_responses: str | None = None
    on_loss: OnLoss = "report"
    on_pinned_state: OnPinnedState = "refuse"
    ping_interval: float = 15.0
    vsock: tuple[int, ...] = ()
    allow_uid: tuple[int, ...] = ()
    attest: Attest = "off"
    state_folder: str | None = None
    allow_unauthenticated: bool = False

    @property
    def body_share(self) -> int:
        """Bytes of bodies that one caller may have in flight."""
        share = self.max_body_memory_per_caller
        return self.max_request_size if share is None else share

    @property
    def body_memory(self) -> int:
        """Bytes of bodies that all callers together may have in flight."""
        return int(SHARES * self.body_share) if self.max_body_memory is None else self.max_body_memory


class ProviderConfig(msgspec.Struct, frozen=True, kw_only=True):
    """One of `[[providers]]`.

    base_url   http, https, or `unix:/path/to.sock`, with `:/prefix` after it where the paths have
               one; "" where the type needs none
    api_key    tried in turn
    models     names or globs; empty means that the provider is asked for its list
    priority   lower is tried first
    quirks     fields of call.Quirks that replace those of the type, already of the field's type
    allow      rules of the sealed policy that do not hold for what is sent to this provider
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
    allow: tuple[AllowEntry, ...] = ()


class FailoverConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`[failover]`. `retries` are of the same candidate; a provider that asks for more than
    `max_retry_after` is left for the next at once.
    """

    max_attempts: int = 6
    retries: int = 2
    backoff: float = 0.5
    max_backoff: float = 8.0
    max_retry_after: float = 20.0
    breaker_failures: int = 5
    breaker_window: float = 60.0
    breaker_cooldown: float = 30.0


class LogConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`[log]`. `max_size` and `keep` rotate `file`; `max_body` cuts a body that is logged, where
    `bodies` allows it at all.
    """

    file: str | None = None
    bodies: bool = False
    format: LogFormat = "auto"
    max_size: int = 52_428_800
    keep: int = 5
    max_body: int = 65_536


class AllowConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`[policy.allow]`: rules of the sealed policy that are opened, by name or within bounds: for
    every caller, or for those of one kind of listener.
    """

    everywhere: tuple[AllowEntry, ...] = ()
    socket: tuple[AllowEntry, ...] = ()
    http: tuple[AllowEntry, ...] = ()


class PolicyConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`[policy]`: what holds for a listener's callers, unless their `[[agents]]` entry says
    otherwise. `socket` is Unix sockets and AF_VSOCK.
    """

    socket: PolicyName = "sealed"
    http: PolicyName = "open"
    allow: AllowConfig = AllowConfig()


class RateConfig(msgspec.Struct, frozen=True, kw_only=True):
    """An agent's `rate`, a minute; None is no limit."""

    requests: int | None = None
    tokens: int | None = None


class BudgetConfig(msgspec.Struct, frozen=True, kw_only=True):
    """An agent's `budget`. Days and months are of UTC."""

    usd: float | None = None
    tokens: int | None = None
    per: Period = "total"


class PriceConfig(msgspec.Struct, frozen=True, kw_only=True):
    """One of `[[prices]]`: US dollars per million tokens. It holds for models whose name at the
    provider matches one of `model`; None for `provider` means all of them.

    cached_input, cache_write   None means what `input` costs
    """

    model: tuple[str, ...]
    provider: str | None = None
    input: float
    output: float
    cached_input: float | None = None
    cache_write: float | None = None


class AgentConfig(msgspec.Struct, frozen=True, kw_only=True):
    """One of `[[agents]]`: known by a `socket` of its own, on HTTP by its `token`, or both.

    models      names or globs that it may ask for; empty means all
    tools       globs of exposed tool names ("git__*"); empty means all
    concurrent  requests that may run at once
    on_unpriced  what becomes of a request to a model of no known price, where the budget counts
                 dollars
    policy      None means what the listener's callers have
    allow       rules of the sealed policy that are opened for it
    attest, allow_uid, socket_mode, socket_group   None or empty means what [server] says
    """

    name: str
    socket: str | None = None
    socket_mode: str | None = None
    socket_group: str | None = None
    token: Secret | None = None
    models: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()
    rate: RateConfig = RateConfig()
    budget: BudgetConfig = BudgetConfig()
    concurrent: int | None = None
    on_unpriced: OnUnpriced = "allow"
    policy: PolicyName | None = None
    allow: tuple[AllowEntry, ...] = ()
    allow_uid: tuple[int, ...] = ()
    attest: Attest | None = None


class McpServer(msgspec.Struct, frozen=True, kw_only=True):
    """One of `[mcp] servers`: a `command` that is started, or a `url`. Arguments and addresses
    often carry tokens, so they are secrets.

    protocol    which era it is spoken to in; "auto" asks it
    tools       globs of its own tool names; one that begins with "!" denies; empty means all
    timeout     seconds of a call without progress
    idle_stop   seconds without a call after which its process is stopped; 0 never
    scope       how many processes there are: one, one a session, one an agent
    network     False puts the process into an empty network namespace
    allow       what it may ask of the client: "sampling", "elicitation", "roots" (a client's roots
                widen what some servers serve); and "tasks", calls that outlast their answer
    roots       folders that it is told of where it asks for roots; the client's are never passed on
    idempotent  globs of tools whose call may be sent again after a crash
    plain_text  True shows control characters and invisible ones in what it says as what they are,
                in place of passing them on
    """

    name: str
    command: str | None = None
    args: tuple[Secret, ...] = ()
    env: dict[str, Secret] = {}
    cwd: str | None = None
    url: Secret | None = None
    headers: dict[str, Secret] = {}
    protocol: McpProtocol = "auto"
    tools: tuple[str, ...] = ()
    timeout: float = 60.0
    start: McpStart = "lazy"
    idle_stop: float = 900.0
    scope: McpScope = "shared"
    network: bool = True
    allow: tuple[str, ...] = ()
    roots: tuple[str, ...] = ()
    idempotent: tuple[str, ...] = ()
    plain_text: bool = False

    @property
    def asks(self) -> tuple[str, ...]:
        """Of `allow`, what it may ask of a client."""
        return tuple(each for each in self.allow if each != "tasks")

    @property
    def tasks(self) -> bool:
        """Whether a call of it may go on as a task."""
        return "tasks" in self.allow


class McpConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`[mcp]`. Sizes in bytes, times in seconds.

    prefix           False leaves out `server__` where the merged names allow it
    name_limit       characters of an exposed name
    stdio_socket     a Unix socket that speaks MCP's stdio framing, a message a line
    lock_file        what `modelplex mcp lock` writes; relative to the config file
    pinning          "auto" is "locked" where the lock file exists, else "trust_first"
    search           whether `search_tools` and its two siblings stand for the whole list; "auto"
                     above `search_above` tools
    max_in_flight    calls at once for each caller; `max_server_in_flight` for each server
    max_call_time    what progress can extend a call to
    meta             vendor keys of `_meta` that pass, as globs
    oversized        what becomes of a tool's result beyond `max_result`: refused, or cut to it
    """

    enabled: bool = False
    servers: tuple[McpServer, ...] = ()
    prefix: bool = True
    name_limit: int = 64
    stdio_socket: str | None = None
    lock_file: str = "modelplex.mcp.lock"
    pinning: McpPinning = "auto"
    search: McpSearch = "off"
    search_above: int = 60
    max_message: int = 4_194_304
    max_depth: int = 64
    max_result: int = 4_194_304
    max_in_flight: int = 64
    max_server_in_flight: int = 16
    max_call_time: float = 600.0
    max_pages: int = 100
    max_sessions: int = 1000
    session_idle: float = 1800.0
    max_processes: int = 64
    start_timeout: float = 20.0
    probe_timeout: float = 3.0
    list_timeout: float = 30.0
    meta: tuple[str, ...] = ("*",)
    oversized: McpOversized = "refuse"


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """The whole. `path` is the file that it came from, None where there was none. `aliases` maps a
    name to what is tried for it, in order.
    """

    server: ServerConfig = ServerConfig()
    providers: tuple[ProviderConfig, ...] = ()
    aliases: dict[str, tuple[str, ...]] = {}
    failover: FailoverConfig = FailoverConfig()
    log: LogConfig = LogConfig()
    mcp: McpConfig = McpConfig()
    policy: PolicyConfig = PolicyConfig()
    agents: tuple[AgentConfig, ...] = ()
    prices: tuple[PriceConfig, ...] = ()
    path: str | None = None

"""Every setting as a frozen type, with the keys of the TOML file as names. Sizes are in bytes,
times in seconds.

`read.py` and its neighbours have the rules for the values; modelplex.example.toml explains the keys
to users.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, Protocol

import msgspec

from modelplex.config.mcp_settings import McpConfig
from modelplex.config.secret import Secret
from modelplex.core.request import Endpoint
from modelplex.policy.bounds import AllowEntry

DEFAULT_HTTP: Final = "127.0.0.1:11435"
"""One above Ollama's port, so that both can run. Loopback: every caller of this address uses the
keys.
"""

SHARES: Final = 2.5
"""The default of `max_body_memory`, in shares of a caller: two callers can use their whole share,
and the process stays below 200 MB.
"""

PolicyName = Literal["sealed", "open"]
Attest = Literal["off", "warn", "require"]
Confine = Literal["off", "auto", "require"]


class TypeFacts(Protocol):
    """Facts about a provider type that a config is checked against."""

    @property
    def default_base_url(self) -> str | None: ...

    @property
    def needs_key(self) -> bool: ...

    @property
    def needs_base_url(self) -> bool: ...

    @property
    def is_users_own(self) -> bool:
        """Whether each user has another address, so that a key may go to it."""
        ...

    @property
    def address_keys(self) -> tuple[str, ...]:
        """The keys of which the address is made, such as `region`."""
        ...

    @property
    def address_env(self) -> Mapping[str, tuple[str, ...]]:
        """The environment variables in which users keep them."""
        ...

    def address(self, values: Mapping[str, str]) -> str: ...

    @property
    def credentials(self) -> Literal["", "aws", "gcp"]:
        """Where a credential is from if there is no key."""
        ...

    @property
    def added(self) -> tuple[str, ...]:
        """Members of the body that `body` may set."""
        ...

    @property
    def key_env(self) -> str | None:
        """The environment variable in which users of the service keep their key."""
        ...


class ServerConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`[server]`: listeners and limits.

    http             addresses as "host:port" ("[::1]:8080" for IPv6), both parts given; empty for
                     no HTTP
    socket_mode      octal digits
    max_body_memory  bytes of request bodies in flight, of the process; None is SHARES times the
                     share of a caller
    max_body_memory_per_caller  the share of a caller; None is `max_request_size`
    max_connections_per_listener, max_connections_per_caller  None is half, and a quarter, of
                     `max_connections`
    reserved_connections  of `max_connections`, for HTTP only; None is an eighth
    drain_grace      seconds after a signal in which it serves on, but is no longer ready
    min_body_rate    average bytes a second of a request body after its first `body_timeout`; 0 is
                     no bound
    allowed_hosts    names that are accepted in `Host` besides loopback and the listener's own
    keep_responses   where responses of the Responses API are stored: "memory", a file, or None
    on_loss          when a request has a part that the target's dialect cannot express
    on_pinned_state  when only an unreachable provider can read the opaque state of a request
    ping_interval    seconds of silence on a stream until a keep-alive is sent
    vsock            ports of AF_VSOCK, for virtual machines
    admin_socket     a Unix socket with status, metrics and the page, for the host alone
    allow_uid        users whose processes may connect to `socket`; empty leaves it to the mode
    attest           when a caller of `socket` has a network of its own
    state_folder     of counters, catalogs and locks; None is the user's state folder
    allow_unauthenticated  serve MCP beyond loopback to callers without an agent's token
    workers          processes that serve; each socket belongs to one of them
    confine          give up files, programs and system calls that are not needed, as far as this
                     system can; "require" does not start where it cannot
    page_token       whether the gateway makes a token for the page, with all rights, and prints it
    admins           who may use /_internal/, besides that token and `internal_token`
    """

    http: tuple[str, ...] = (DEFAULT_HTTP,)
    socket: tuple[str, ...] = ()
    socket_mode: str = "0660"
    socket_group: str | None = None
    log_level: Literal["debug", "info", "warning", "error"] = "info"
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
    drain_grace: float = 0.0
    allowed_hosts: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()
    internal_token: Secret | None = None
    keep_responses: str | None = None
    on_loss: Literal["report", "refuse"] = "report"
    on_pinned_state: Literal["refuse", "drop"] = "refuse"
    ping_interval: float = 15.0
    vsock: tuple[int, ...] = ()
    admin_socket: str | None = None
    allow_uid: tuple[int, ...] = ()
    attest: Attest = "off"
    state_folder: str | None = None
    allow_unauthenticated: bool = False
    workers: int = 1
    confine: Confine = "auto"
    page_token: bool = True
    admins: tuple[AdminConfig, ...] = ()

    @property
    def body_share(self) -> int:
        """Bytes of request bodies that one caller may have in flight."""
        share = self.max_body_memory_per_caller
        return self.max_request_size if share is None else share

    @property
    def body_memory(self) -> int:
        """Bytes of request bodies that all callers together may have in flight."""
        return int(SHARES * self.body_share) if self.max_body_memory is None else self.max_body_memory


class KeyInFile(msgspec.Struct, frozen=True):
    """An API key in a file that is read while the gateway runs: `file:PATH`."""

    path: str


class KeyFromCommand(msgspec.Struct, frozen=True):
    """An API key that a command prints: `command:WORDS`. The words may hold a secret."""

    words: tuple[Secret, ...]


class CommandAuth(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="command"):
    """`ttl` is the seconds for which a key without a time of its own is used."""

    command: tuple[Secret, ...]
    ttl: float = 300.0


class OidcAuth(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="oidc"):
    """An OAuth 2 client of its own (RFC 6749 4.4), by its secret or by the signed assertion in a
    file (RFC 7523 2.2).
    """

    token_url: str
    client_id: str
    client_secret: Secret | None = None
    assertion_file: str | None = None
    scope: str = ""
    audience: str = ""


class EntraAuth(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="entra"):
    """Microsoft Entra ID. What is absent comes from the environment as for Azure's libraries;
    without a secret or a token file it is the managed identity. `scope` is the type's own if empty.
    """

    tenant: str = ""
    client_id: str = ""
    client_secret: Secret | None = None
    token_file: str = ""
    scope: str = ""


class GcpAuth(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="gcp"):
    """Google Cloud. Without a file, where Google's libraries look."""

    credentials_file: str = ""


class AwsAuth(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="aws"):
    """AWS. Without a profile, the default chain; `role` is assumed with what it finds."""

    profile: str = ""
    role: str = ""
    external_id: str = ""


ApiKey = Secret | KeyInFile | KeyFromCommand
Auth = CommandAuth | OidcAuth | EntraAuth | GcpAuth | AwsAuth
OnMiss = Literal["fail", "live", "demo"]


AdminRight = Literal["metrics", "read", "stop", "change"]


class AdminConfig(msgspec.Struct, frozen=True, kw_only=True):
    """One of `[[server.admins]]`: a program or a person, known by a token, or by its user on the
    admin socket.

    token  sent as `Authorization: Bearer TOKEN`; None for users alone
    uid    users whose processes are this admin on `admin_socket`
    may    a set: "metrics" reads counts alone, "read" everything, "stop" ends calls, "change" does
           all else that changes something. Only "read" has another in it, which is "metrics"
    """

    name: str
    token: ApiKey | None = None
    uid: tuple[int, ...] = ()
    may: tuple[AdminRight, ...]


class ProviderConfig(msgspec.Struct, frozen=True, kw_only=True):
    """One of `[[providers]]`.

    base_url   http, https, or `unix:/path/to.sock`, then `:/prefix` where the paths have one; ""
               where the type needs none
    api_key    used in turn
    auth       where a credential that expires is from, in place of `api_key`
    region, project, location, resource  of a cloud, for the address and the signature
    models     names or globs; empty asks the provider for its list
    priority   the lowest is tried first
    endpoints  those that it has, in place of those of its type; () for these
    lacks      endpoints of its type that it does not have
    trace_context  it is sent the `traceparent` and `tracestate` of requests
    quirks     fields of `Quirks` that replace those of the type
    body       members of its requests that clients cannot set, as the service names them
    allow      rules of the sealed policy that are open for requests to this provider

    Of the type "replay":
    run, file  what it answers from: a run of the record store, or a recording
    on_miss    what becomes of a request that was not recorded: an error, another provider, the demo
    timing     streams take the time that they took
    live_tools  calls of tools are made, and not answered from the recording
    folder     the program's working folder now, where it may be another than the recorded one
    volatile_members, volatile_texts  further rules of what differs between two runs: VolatileRules
    """

    name: str
    type: str
    base_url: str = ""
    api_key: tuple[ApiKey, ...] = ()
    auth: Auth | None = None
    region: str = ""
    project: str = ""
    location: str = ""
    resource: str = ""
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
    endpoints: tuple[Endpoint, ...] = ()
    lacks: tuple[Endpoint, ...] = ()
    trace_context: bool = False
    quirks: dict[str, object] = {}
    body: dict[str, object] = {}
    allow: tuple[AllowEntry, ...] = ()
    run: str | None = None
    file: str | None = None
    on_miss: OnMiss = "fail"
    timing: bool = False
    live_tools: bool = False
    folder: str | None = None
    volatile_members: tuple[str, ...] = ()
    volatile_texts: tuple[str, ...] = ()


class FailoverConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`[failover]`. `retries` are of one candidate. A provider whose Retry-After is above
    `max_retry_after` is not retried; the next one is tried. `on_overflow`: whether the next
    candidate is tried after one for which the conversation is too long.
    """

    max_attempts: int = 6
    retries: int = 2
    backoff: float = 0.5
    max_backoff: float = 8.0
    max_retry_after: float = 20.0
    breaker_failures: int = 5
    breaker_window: float = 60.0
    breaker_cooldown: float = 30.0
    on_overflow: Literal["refuse", "next"] = "refuse"


class LogConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`[log]`. `max_size` and `keep` rotate `file`; `max_body` truncates the bodies that `bodies`
    logs.
    """

    file: str | None = None
    bodies: bool = False
    format: Literal["auto", "human", "json"] = "auto"
    max_size: int = 52_428_800
    keep: int = 5
    max_body: int = 65_536


class CacheConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`[cache]`: `exact`: equal requests of a caller get the same answer. `max_size` are the bytes
    of the answers in memory, `max_age` the seconds for which one is used.
    """

    exact: bool = False
    max_size: int = 67_108_864
    max_age: float = 86_400.0


class RecordConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`[record]`: the store of records. `content` None is "full" in `modelplex run`, else
    "metadata". Without `store` it is a file in the state folder; an
    address of PostgreSQL may have a password. `max_age` and `max_size` bound what is kept.
    `tokens`: token ids and log probabilities too, where bodies are stored. `host` is the name of
    this one in the record; "" is the machine's own.
    """

    content: Literal["metadata", "full", "off"] | None = None
    store: Secret | None = None
    max_age: float = 2_592_000.0
    max_size: int = 1_073_741_824
    tokens: bool = False
    host: str = ""


AgentTelemetry = Literal["keep", "relay"]


class OtelConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`[otel]`: OpenTelemetry.

    endpoint  the base address of a collector, without a trailing slash; "" for none: no spans
    headers   of requests to it
    agents    what becomes of the telemetry that agents send; empty: it is answered and discarded
    """

    endpoint: str = ""
    headers: dict[str, Secret] = {}
    agents: tuple[AgentTelemetry, ...] = ()


class PackagesConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`[packages]`: the mirrors of `modelplex run --packages`.

    pypi, npm  the index to mirror, whose address may have a password; None is the one of the host's
               own pip, uv or npm
    allow      packages besides those of lock files, as `pypi:NAME` or `npm:NAME@VERSION`
    min_age    seconds since the release of what may be had
    """

    pypi: Secret | None = None
    npm: Secret | None = None
    allow: tuple[str, ...] = ()
    min_age: float = 0.0


class AllowConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`[policy.allow]`: open rules of the sealed policy, by name or within bounds, for every caller
    or for those of one kind of listener.
    """

    everywhere: tuple[AllowEntry, ...] = ()
    socket: tuple[AllowEntry, ...] = ()
    http: tuple[AllowEntry, ...] = ()


class PolicyConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`[policy]`: the policy of a listener's callers, unless their `[[agents]]` entry has another.
    `socket` is for Unix sockets and AF_VSOCK.
    """

    socket: PolicyName = "sealed"
    http: PolicyName = "open"
    allow: AllowConfig = AllowConfig()


class RateConfig(msgspec.Struct, frozen=True, kw_only=True):
    """An agent's `rate` per minute; None is no limit."""

    requests: int | None = None
    tokens: int | None = None


class BudgetConfig(msgspec.Struct, frozen=True, kw_only=True):
    """An agent's `budget`. Days and months are in UTC."""

    usd: float | None = None
    tokens: int | None = None
    per: Literal["day", "month", "total"] = "total"


class PriceConfig(msgspec.Struct, frozen=True, kw_only=True):
    """One of `[[prices]]`: US dollars per million tokens, for models whose name at the provider
    matches one of `model`. `provider` None is every provider; `cached_input` and `cache_write`
    None cost what `input` does.
    """

    model: tuple[str, ...]
    provider: str | None = None
    input: float
    output: float
    cached_input: float | None = None
    cache_write: float | None = None


class AgentConfig(msgspec.Struct, frozen=True, kw_only=True):
    """One of `[[agents]]`, identified by a `socket` of its own, by its `token`, or both.

    models      names or globs that it may request; empty means all
    tools       globs of exposed tool names ("git__*"); empty means all
    concurrent  requests that may run at once
    on_unpriced  for a model without a known price, where the budget counts dollars
    cache       whether equal requests get the same answer; None is that of [cache]
    seed        of its requests that have none, where the provider takes one
    policy      None is the listener's
    allow       rules of the sealed policy that are open for it
    attest, allow_uid, socket_mode, socket_group   None or empty is that of [server]
    tags        of its calls in the record store
    team        a name of [[teams]], whose budget holds besides its own
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
    on_unpriced: Literal["allow", "refuse"] = "allow"
    cache: bool | None = None
    seed: int | None = None
    policy: PolicyName | None = None
    allow: tuple[AllowEntry, ...] = ()
    allow_uid: tuple[int, ...] = ()
    attest: Attest | None = None
    tags: dict[str, str] = {}
    team: str | None = None


class TeamConfig(msgspec.Struct, frozen=True, kw_only=True):
    """One of `[[teams]]`: its budget is for all of its agents together."""

    name: str
    budget: BudgetConfig = BudgetConfig()


class SharedConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`[shared]`: the limits of agents and teams hold over all gateways with the same engine.

    url      of Redis or Valkey, which may have a password; None: they hold in each gateway
    on_loss  while the engine is away: refuse requests of agents with limits, or leave them to the
             limits of this gateway alone
    lease    seconds without a message after which the requests of a gateway are ended
    """

    url: Secret | None = None
    on_loss: Literal["refuse", "open"] = "refuse"
    lease: float = 15.0


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """The whole config. `path` is its file, or None, and `digest` the hex SHA-256 of its bytes.
    `aliases` maps a name to the models that are tried for it, in order.
    """

    server: ServerConfig = ServerConfig()
    providers: tuple[ProviderConfig, ...] = ()
    aliases: dict[str, tuple[str, ...]] = {}
    failover: FailoverConfig = FailoverConfig()
    log: LogConfig = LogConfig()
    record: RecordConfig = RecordConfig()
    cache: CacheConfig = CacheConfig()
    otel: OtelConfig = OtelConfig()
    packages: PackagesConfig = PackagesConfig()
    mcp: McpConfig = McpConfig()
    policy: PolicyConfig = PolicyConfig()
    agents: tuple[AgentConfig, ...] = ()
    teams: tuple[TeamConfig, ...] = ()
    shared: SharedConfig = SharedConfig()
    prices: tuple[PriceConfig, ...] = ()
    path: str | None = None
    digest: str = ""

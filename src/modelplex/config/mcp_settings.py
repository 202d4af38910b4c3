"""The settings of `[mcp]`, its servers and their sign-ins, as `settings.py` has all others."""

from __future__ import annotations

from typing import Literal

import msgspec

from modelplex.config.secret import Secret

McpProtocol = Literal["auto", "legacy", "modern"]


class McpOAuth(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="oauth"):
    """`auth` of one of `[mcp] servers`: how the gateway gets tokens for it. Without the table a
    person may sign in too, with what the servers say of themselves.

    grant            "authorization_code": a person signs in. By itself the gateway gets tokens with
                     "client_credentials", or "jwt_bearer" for the signed assertion in a file
    client_id        of a client that was registered beforehand, with its `client_secret`, or with
                     the key in `private_key_file` (PEM), named `key_id` at the server
    client_metadata  the https address of the gateway's client ID metadata document
    issuer           of the authorization server, where the tool server names several or none
    scope            what is asked for, in place of what the server names
    redirect_port    of the way back from the browser, on 127.0.0.1; 0 is any
    per_agent        each agent has a sign-in of its own
    """

    grant: Literal["authorization_code", "client_credentials", "jwt_bearer"] = "authorization_code"
    client_id: str = ""
    client_secret: Secret | None = None
    private_key_file: str = ""
    key_id: str = ""
    assertion_file: str = ""
    client_metadata: str = ""
    issuer: str = ""
    scope: str = ""
    redirect_port: int = 0
    per_agent: bool = False

    @property
    def by_itself(self) -> bool:
        """Whether no person signs in."""
        return self.grant != "authorization_code"


class McpServer(msgspec.Struct, frozen=True, kw_only=True):
    """One of `[mcp] servers`: a `command` to start, or a `url`. Arguments and addresses often
    contain tokens, so they are secrets.

    protocol    the era that is spoken; "auto" probes
    tools       globs of its own tool names; a leading "!" denies; empty means all
    timeout     seconds of a call without progress
    idle_stop   seconds without a call until its process is stopped; 0 is never
    scope       one process for all, for each session, or for each agent
    network     False starts the process in an empty network namespace
    allow       what it may request of a client: "sampling", "elicitation", "roots" (a client's
                roots widen what some servers serve); and "tasks", calls that outlast their response
    roots       folders that answer a request for roots; a client's own are never forwarded
    idempotent  globs of tools whose call may be repeated after a crash
    plain_text  escape control and invisible characters in results instead of forwarding them
    """

    name: str
    command: str | None = None
    args: tuple[Secret, ...] = ()
    env: dict[str, Secret] = {}
    cwd: str | None = None
    url: Secret | None = None
    headers: dict[str, Secret] = {}
    auth: McpOAuth | None = None
    protocol: McpProtocol = "auto"
    tools: tuple[str, ...] = ()
    timeout: float = 60.0
    start: Literal["lazy", "eager"] = "lazy"
    idle_stop: float = 900.0
    scope: Literal["shared", "session", "agent"] = "shared"
    network: bool = True
    allow: tuple[str, ...] = ()
    roots: tuple[str, ...] = ()
    idempotent: tuple[str, ...] = ()
    plain_text: bool = False

    @property
    def may_sign_in(self) -> bool:
        """Whether a token of a sign-in is sent to it: a remote server, to which `headers` send no
        token.
        """
        over_http = self.url is not None and not self.url.reveal().startswith("unix:")
        return over_http and not any(name.lower() == "authorization" for name in self.headers)

    @property
    def client_requests(self) -> tuple[str, ...]:
        """Of `allow`, what it may request of a client."""
        return tuple(each for each in self.allow if each != "tasks")

    @property
    def tasks(self) -> bool:
        return "tasks" in self.allow


class McpConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`[mcp]`.

    prefix           False leaves out `server__` where names stay unique
    name_limit       characters of an exposed name
    stdio_socket     a Unix socket with MCP's stdio framing: one message per line
    lock_file        of `modelplex mcp lock`; relative to the config file
    pinning          "auto" is "locked" where the lock file exists, else "trust_first"
    search           expose `search_tools` and its two siblings instead of the whole list; "auto"
                     does above `search_above` tools
    max_in_flight    calls at once for each caller; `max_server_in_flight` for each server
    max_call_time    the limit of a call with progress
    meta             vendor keys of `_meta` that are forwarded, as globs
    oversized        for a result above `max_result`: refuse it, or cut it
    """

    enabled: bool = False
    servers: tuple[McpServer, ...] = ()
    prefix: bool = True
    name_limit: int = 64
    stdio_socket: str | None = None
    lock_file: str = "modelplex.mcp.lock"
    pinning: Literal["auto", "trust_first", "locked", "off"] = "auto"
    search: Literal["auto", "on", "off"] = "off"
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
    oversized: Literal["refuse", "cut"] = "refuse"

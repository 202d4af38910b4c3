"""The table [mcp] and its servers, and which strings of a server are secrets.

Judges what is written: whether a command exists, or a url answers, shows when the server starts.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping
from typing import Final, cast
from urllib.parse import parse_qsl, urlsplit

from modelplex.config.mcp_settings import McpConfig, McpOAuth, McpServer
from modelplex.config.rules import (
    MAX_BYTES,
    PATH,
    Rule,
    build,
    environment_name,
    header_name,
    integer,
    list_of,
    mapping,
    matching,
    one_of,
    read_fields,
    rules_of,
    seconds,
    secret,
    secret_argument,
    tables,
    text,
)
from modelplex.config.secret import Secret
from modelplex.config.toml_node import FAULTY, Faulty, TomlNode, quote

LEAST_NAME: Final = 36
MAX_NAME: Final = 128
"""Characters of an exposed name: the longest server name and the suffix that makes a shortened name
unique must fit; the protocol recommends at most 128.
"""
MIN_MESSAGE: Final = 65_536
"""Bytes. A list of tools must fit."""
MAX_DEPTH: Final = 500
"""Levels of lists and tables; Python's own stack ends above it."""

RESERVED_HEADERS: Final = frozenset(
    "host content-length content-type content-encoding transfer-encoding connection accept"
    " mcp-session-id mcp-protocol-version mcp-method mcp-name last-event-id".split()
)
"""Headers of messages to a tool server that the gateway sets itself."""

_BYTES = integer("bytes", least=MIN_MESSAGE, most=MAX_BYTES)
_COUNT = integer("a number", least=1, most=1_000_000)


def _glob(*, denies: bool) -> Rule[str]:
    expected = "the name of a tool, or a glob" + (', with "!" before it to deny it' if denies else "")
    read = text(expected)

    def rule(node: TomlNode) -> str | Faulty:
        value = read(node)
        if value is FAULTY or (value != "!" and (denies or not value.startswith("!"))):
            return value
        return node.reject(expected, found=quote(node.value))

    return rule


def _folder(node: TomlNode) -> str | Faulty:
    value = PATH(node)
    if value is FAULTY or (posixpath.isabs(value) and ".." not in value.split("/")):
        return value
    return node.reject("an absolute path of a folder, without ..", found=quote(node.value))


def _scope(node: TomlNode) -> str | Faulty:
    value = _SCOPE_TEXT(node)
    if value is FAULTY or re.fullmatch(r"[\x21\x23-\x5b\x5d-\x7e]+( [\x21\x23-\x5b\x5d-\x7e]+)*", value):
        return value
    return node.reject("scopes with one space between them", found=quote(node.value))


_SCOPE_TEXT: Final = text("scopes with one space between them")
_HTTPS: Final = matching(r"https?://[^/?#\s@]+(/[^?#\s]*)?", "an address that begins with https://")
"""As it is written: an issuer is compared as text."""
OAUTH: Final = rules_of(
    McpOAuth,
    client_id=text("the id of the client"),
    client_secret=secret("the client's secret"),
    private_key_file=PATH,
    key_id=text("the name of the key"),
    assertion_file=PATH,
    client_metadata=_HTTPS,
    issuer=_HTTPS,
    scope=_scope,
    redirect_port=integer("a port", least=1, most=65535),
)
_TYPE: Final = one_of(("oauth",))


def _auth(node: TomlNode) -> McpOAuth | Faulty:
    """A table with `type`, as for providers."""
    if not isinstance(node.value, dict):
        return node.reject('a table, as in { type = "oauth" }', found="another value")
    values, members = read_fields(node, {"type": _TYPE, **OAUTH})
    if "type" not in members:
        return node.child("type").reject('"oauth"', found="none")
    if values.pop("type", FAULTY) is FAULTY:
        return FAULTY
    built = build(McpOAuth, values)
    if "client_secret" in members and "private_key_file" in members:
        members["private_key_file"].reject("one proof of the client", found="client_secret beside it")
    if not built.client_id and (
        proof := next((n for n in ("client_secret", "private_key_file") if n in members), "")
    ):
        members[proof].reject("client_id beside it", found="none")
    if built.grant == "client_credentials" and not (
        built.client_id and ({"client_secret", "private_key_file"} & set(members))
    ):
        node.reject(
            "client_id, and client_secret or private_key_file", found="none, which client_credentials needs"
        )
    if (built.grant == "jwt_bearer") != ("assertion_file" in members):
        node.reject('assertion_file and grant = "jwt_bearer" together', found="one of them")
    if built.by_itself and built.per_agent:
        members["per_agent"].reject('grant = "authorization_code"', found=f'"{built.grant}"')
    return built


SERVER: Final = rules_of(
    McpServer,
    auth=_auth,
    name=matching(r"[a-z0-9-]{1,24}", "a name of at most 24 lower-case letters, digits and dashes"),
    command=PATH,
    args=list_of(secret_argument("an argument"), "a list of arguments"),
    env=mapping(secret_argument("the variable's value"), key=environment_name),
    cwd=PATH,
    url=secret("an address that begins with https://, http:// or unix:/"),
    headers=mapping(secret("the header's value", empty=True), key=header_name(reserved=RESERVED_HEADERS)),
    tools=list_of(
        _glob(denies=True), 'a list of tool names or globs, each with "!" before it to deny it', unique=True
    ),
    idle_stop=seconds(zero=True),
    allow=list_of(
        one_of(("sampling", "elicitation", "roots", "tasks")),
        'a list of what it may request of clients, "sampling", "elicitation" and "roots", and of "tasks"',
        unique=True,
    ),
    roots=list_of(_folder, "a list of folders, each an absolute path", unique=True),
    idempotent=list_of(_glob(denies=False), "a list of tool names or globs", unique=True),
)

_NEEDS_COMMAND: Final = ("args", "env", "cwd", "network")
_URL: Final = re.compile(r"https?://[^/?#\s@]+([/?#].*)?|unix:/[^\s]*[^\s/][^\s]*")


def _server(node: TomlNode) -> McpServer | Faulty:
    values, members = read_fields(node, SERVER)
    if not isinstance(node.value, dict):
        return FAULTY
    if "name" not in members:
        node.child("name").reject("a name", found="none")
    has_command, has_url = "command" in members, "url" in members
    if has_command == has_url:
        found = "both" if has_url else "neither"
        node.reject("either a command to start or a url to connect to", found=found)
    unusable = [
        key for key in _NEEDS_COMMAND if key in members and (key != "network" or values.get(key) is False)
    ]
    if has_url and not has_command and unusable:
        members[min(unusable)].reject("a command beside it", found="a url, for which nothing is started")
    if "headers" in members and has_command and not has_url:
        members["headers"].reject("a url beside it", found="a command")
    if "auth" in members:
        _check_auth(values, members, node)
    url = values.get("url")
    if isinstance(url, Secret) and not _URL.fullmatch(url.reveal()):
        members["url"].reject(
            "an address that begins with https:// or http://, without user and password, or with unix:/",
            found="a string",
        )
    return build(McpServer, {"name": "", **values})


def _check_auth(values: Mapping[str, object], members: Mapping[str, TomlNode], node: TomlNode) -> None:
    """What `auth` needs of the rest of its server."""
    auth, headers, url = values.get("auth"), values.get("headers"), values.get("url")
    if "command" in members:
        members["auth"].reject("a url beside it", found="a command")
    elif isinstance(url, Secret) and url.reveal().startswith("unix:"):
        members["auth"].reject("a url with https:// or http:// beside it", found="a socket")
    names = cast("Mapping[str, object]", headers) if isinstance(headers, dict) else ()
    if any(name.lower() == "authorization" for name in names):
        members["auth"].reject("no authorization in headers beside it", found="both")
    if isinstance(auth, McpOAuth) and auth.per_agent and values.get("scope") != "agent":
        node.reject(
            'scope = "agent"',
            found="per_agent = true in auth, for which each agent needs a session of its own",
        )


MCP: Final = rules_of(
    McpConfig,
    servers=tables(_server),
    name_limit=integer("characters", least=LEAST_NAME, most=MAX_NAME),
    stdio_socket=PATH,
    lock_file=PATH,
    search_above=integer("tools", least=0, most=1_000_000),
    max_message=_BYTES,
    max_depth=integer("levels", least=8, most=MAX_DEPTH),
    max_result=_BYTES,
    max_in_flight=_COUNT,
    max_server_in_flight=_COUNT,
    max_pages=integer("pages", least=1, most=100_000),
    max_sessions=_COUNT,
    max_processes=integer("processes", least=1, most=10_000),
    meta=list_of(text("a key of _meta, or a glob"), "a list of keys of _meta, or globs", unique=True),
)


def read_mcp(node: TomlNode) -> McpConfig:
    values, _ = read_fields(node, MCP)
    config = build(McpConfig, values)
    if "probe_timeout" in node.raw_table() and config.probe_timeout > config.start_timeout:
        found = f"{config.probe_timeout:g}, and a start_timeout of {config.start_timeout:g}"
        node.child("probe_timeout").reject("at most start_timeout", found=found)
    for server in node.get("servers").elements():
        timeout = server.get("timeout")
        if isinstance(timeout.value, (int, float)) and timeout.value > config.max_call_time:
            timeout.reject(
                f"seconds of at most {config.max_call_time:g}",
                found=f"{timeout.value:g}",
                hint="[mcp] max_call_time ends every call",
            )
    return config


# --- secrets

_SECRET_NAME: Final = re.compile(r"(?i)key|token|secret|passw|credential|auth|bearer")
"""Names of options and variables whose value is a secret."""
_SECRET_VALUE: Final = re.compile(
    r"(?=[^0-9]*[0-9])(?=[^A-Za-z]*[A-Za-z])[A-Za-z0-9_+=-]{20,}|[a-z0-9+]+://[^/@]+@.+"
)
"""What looks like a key, or is an address with a password in it."""


def is_secret(name: str, value: str) -> bool:
    """Whether a variable, header or option of this name, or this value, is a secret."""
    return bool(_SECRET_NAME.search(name) or _SECRET_VALUE.fullmatch(value))


def secrets(server: McpServer) -> Iterator[str]:
    """What the log must not show. Of the arguments only what may be a secret, so that `--verbose`
    and paths stay readable.
    """
    yield from (value.reveal() for value in (*server.env.values(), *server.headers.values()))
    yield from _secrets_of_target(server)
    yield from _client_secret(server)
    if server.url is not None:
        yield server.url.reveal()


def credentials(server: McpServer) -> Iterator[str]:
    """What results of the server must not show either: a tool that prints its environment would
    give the host's keys to an agent. Only what has a secret's name or looks like one, since a
    result may well contain a path that the server was given.
    """
    for name, value in (*server.env.items(), *server.headers.items()):
        if is_secret(name, value.reveal()):
            yield value.reveal()
            yield value.reveal().removeprefix("Bearer ")
    yield from _client_secret(server)
    yield from _secrets_of_target(server)


def _client_secret(server: McpServer) -> Iterator[str]:
    if server.auth is not None and server.auth.client_secret is not None:
        yield server.auth.client_secret.reveal()


def _secrets_of_target(server: McpServer) -> Iterator[str]:
    """Secrets in the arguments, and in the query of the url."""
    if server.url is not None:
        yield from (value for _, value in parse_qsl(urlsplit(server.url.reveal()).query))
    before = ""
    for arg in (arg.reveal() for arg in server.args):
        name, _, value = arg.partition("=") if arg.startswith("-") else (before, "", arg)
        if value and is_secret(name, value):
            yield value
        before = arg if arg.startswith("-") else ""

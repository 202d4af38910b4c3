"""The table [server]: where the gateway listens, and its limits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from modelplex.config.address import default_host, http_address
from modelplex.config.admins import UIDS, admin, check_admins
from modelplex.config.detected import default_http
from modelplex.config.rules import (
    MAX_BYTES,
    PATH,
    build,
    integer,
    list_of,
    matching,
    parsed,
    read_fields,
    rules_of,
    seconds,
    secret,
    tables,
    text,
)
from modelplex.config.settings import ServerConfig
from modelplex.config.toml_node import Faulty, TomlNode, quote

MAX_VSOCK_PORT: Final = 2**32 - 2

BYTES: Final = integer("bytes", least=1, most=MAX_BYTES)
SOCKET_MODE: Final = matching(r"0?[0-7]{3}", 'octal digits in quotes, such as "0660"')
GROUP: Final = text("the name of a group")
MAX_WORKERS: Final = 64
"""Processes: more than most machines have cores."""
_CONNECTIONS: Final = integer("connections", least=1, most=1_000_000)


def _address(node: TomlNode) -> str | Faulty:
    def parse(written: str) -> str:
        return http_address(written, host=default_host(node.document.environ))

    return parsed(parse, 'an address such as "127.0.0.1:11435", or ":8080" for localhost')(node)


SERVER: Final = rules_of(
    ServerConfig,
    http=list_of(_address, "an address, or a list of them", single=str, unique=True),
    socket=list_of(PATH, "a path, or a list of them", single=str, unique=True),
    socket_mode=SOCKET_MODE,
    socket_group=GROUP,
    max_request_size=BYTES,
    max_body_memory=BYTES,
    max_body_memory_per_caller=BYTES,
    max_header_size=BYTES,
    min_body_rate=integer("bytes a second", least=0, most=MAX_BYTES),
    max_connections=_CONNECTIONS,
    max_connections_per_listener=_CONNECTIONS,
    max_connections_per_caller=_CONNECTIONS,
    reserved_connections=integer("connections", least=0, most=1_000_000),
    drain_timeout=seconds(zero=True),
    drain_grace=seconds(zero=True),
    allowed_hosts=list_of(
        matching(r"[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]", "a host's name, without scheme and port"),
        "a list of host names",
    ),
    allowed_origins=list_of(
        matching(r"https?://[A-Za-z0-9.:\[\]_-]+", 'an origin such as "https://app.example.com"'),
        "a list of origins",
    ),
    internal_token=secret("a token"),
    keep_responses=text('"memory", or the path of a file'),
    vsock=list_of(
        integer("a port of AF_VSOCK", least=1, most=MAX_VSOCK_PORT),
        "a port, or a list of them",
        single=int,
        unique=True,
    ),
    admin_socket=PATH,
    allow_uid=UIDS,
    state_folder=PATH,
    workers=integer("processes", least=1, most=MAX_WORKERS),
    admins=tables(admin),
)


def read_server(node: TomlNode) -> ServerConfig:
    values, members = read_fields(node, SERVER)
    if "http" not in members:
        values["http"] = default_http(node.document.environ)
    server = build(ServerConfig, values)
    check_admins(
        node.get("admins"),
        server.admins,
        internal_token=server.internal_token,
        admin_socket="admin_socket" in members,
    )
    if server.body_share < server.max_request_size:
        _too_small(
            members, "max_body_memory_per_caller", server.max_request_size, "[server] max_request_size"
        )
    elif server.body_memory < 2 * server.body_share:
        _too_small(members, "max_body_memory", 2 * server.body_share, "twice the share of one caller")
    return server


def _too_small(members: Mapping[str, TomlNode], key: str, least: int, what: str) -> None:
    node = members[key]
    node.reject(f"at least {least} bytes, which is {what}", found=quote(node.value))

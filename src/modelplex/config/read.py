"""A config from the bytes of its TOML file: the tables, and what must hold between them.

Records every fault before it raises. Does no I/O: the environment, the provider types and whether
an Ollama listens are arguments.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from modelplex.config import admins, agents, prices, tools
from modelplex.config.detected import DEMO, DEMO_PRIORITY, default_http, found_providers
from modelplex.config.otel import OTEL, read_otel
from modelplex.config.problems import ConfigError, ConfigFault
from modelplex.config.providers import PROVIDER, provider
from modelplex.config.rules import (
    MAX_BYTES,
    PATH,
    alias_name,
    build,
    integer,
    list_of,
    mapping,
    matching,
    read_fields,
    rules_of,
    seconds,
    secret_argument,
    table,
    tables,
    text,
)
from modelplex.config.server import BYTES, SERVER, read_server
from modelplex.config.settings import (
    CacheConfig,
    Config,
    FailoverConfig,
    LogConfig,
    PackagesConfig,
    PolicyConfig,
    ProviderConfig,
    RecordConfig,
    ServerConfig,
    TypeFacts,
)
from modelplex.config.shared import SHARED, read_shared
from modelplex.config.toml_node import Faulty, TomlDocument, TomlNode, quote
from modelplex.config.toml_positions import Path, places

MAX_FILE: Final = 4 * 1024 * 1024
"""Bytes of a config. A thousand providers need less; a disk image named by mistake is not read into
memory.
"""

FAILOVER: Final = rules_of(
    FailoverConfig,
    max_attempts=integer("attempts", least=1, most=1000),
    retries=integer("retries", least=0, most=100),
    backoff=seconds(zero=True),
    max_backoff=seconds(zero=True),
    max_retry_after=seconds(zero=True),
    breaker_failures=integer("failures", least=1, most=1_000_000),
    breaker_cooldown=seconds(zero=True),
)
LOG: Final = rules_of(
    LogConfig,
    file=PATH,
    max_size=BYTES,
    keep=integer("files", least=0, most=10_000),
    max_body=integer("bytes", least=0, most=MAX_BYTES),
)
RECORD: Final = rules_of(
    RecordConfig,
    store=secret_argument("the path of a file, or an address of PostgreSQL"),
    max_size=BYTES,
    host=matching(r"[^\x00-\x20\x7f]{1,100}", "a name of up to 100 characters without spaces"),
)
CACHE: Final = rules_of(CacheConfig, max_size=BYTES)
PACKAGES: Final = rules_of(
    PackagesConfig,
    pypi=secret_argument("the address of an index"),
    npm=secret_argument("the address of a registry"),
    allow=list_of(
        matching(
            r"pypi:[\w.-]+(==\S+)?|npm:(@[\w.~-]+/)?[\w.~-]+(@\S+)?",
            "pypi:NAME, pypi:NAME==VERSION, npm:NAME or npm:NAME@VERSION",
        ),
        "a list of packages",
    ),
    min_age=seconds(zero=True),
)

HOMES: Final[dict[str, str]] = {
    key: home
    for rules, home in (
        (admins.ADMIN, "one of [[server.admins]]"),
        (prices.PRICE, "one of [[prices]]"),
        (agents.TEAM, "one of [[teams]]"),
        (agents.AGENT, "one of [[agents]]"),
        (PROVIDER, "one of [[providers]]"),
        (tools.MCP, "[mcp]"),
        (PACKAGES, "[packages]"),
        (RECORD, "[record]"),
        (OTEL, "[otel]"),
        (SHARED, "[shared]"),
        (LOG, "[log]"),
        (FAILOVER, "[failover]"),
        (SERVER, "[server]"),
    )
    for key in rules
}
"""The table of each key, for a key in the wrong one: a table of TOML ends where the next begins,
which is easily forgotten.
"""


def parse(
    content: bytes,
    *,
    file: str,
    environ: Mapping[str, str],
    types: Mapping[str, TypeFacts],
    find_ollama: Callable[[], bool] = lambda: False,
) -> Config:
    """The config in `content`; `file` names it in faults and becomes the Config's path.

    `environ` expands each `${NAME}`. `types` are the provider types that exist. A config without
    providers gets those of `found_providers`; `find_ollama` is called only then. Raises ConfigError
    with every fault.
    """
    tree, lines = read_toml(content, file=file)
    document = TomlDocument(file, lines, environ, HOMES)
    config = _config(TomlNode(tree, (), document), types=types, find_ollama=find_ollama)
    if document.faults:
        raise ConfigError(document.faults)
    return config


def read_toml(content: bytes, *, file: str) -> tuple[dict[str, object], dict[Path, int]]:
    def error(line: int | None, expected: str, found: str) -> ConfigError:
        return ConfigError([ConfigFault(file, line, "", expected=expected, found=found)])

    if len(content) > MAX_FILE:
        raise error(None, f"a config of at most {MAX_FILE} bytes", "more")
    try:
        string = content.decode("utf-8-sig")
        return tomllib.loads(string), places(string)
    except UnicodeDecodeError as fault:
        raise error(content.count(b"\n", 0, fault.start) + 1, "text in UTF-8", "other bytes") from None
    except RecursionError:
        raise error(None, "TOML", "lists or tables nested too deeply") from None
    except ValueError as fault:  # a TOMLDecodeError; a number with thousands of digits raises another
        reason = str(fault)
        at = re.search(r" \(at line (\d+), column \d+\)$| \(at end of document\)$", reason)
        last = content.count(b"\n", 0, len(content.rstrip())) + 1
        line = (int(at[1]) if at[1] else last) if at else None
        reason = reason[: at.start()] if at else reason
        raise error(line, "TOML", reason[:1].lower() + reason[1:]) from None


def _config(root: TomlNode, *, types: Mapping[str, TypeFacts], find_ollama: Callable[[], bool]) -> Config:
    values, _ = read_fields(
        root,
        {
            "server": read_server,
            "providers": tables(provider(types)),
            "aliases": mapping(_targets, key=alias_name),
            "failover": table(FailoverConfig, FAILOVER),
            "log": table(LogConfig, LOG),
            "record": table(RecordConfig, RECORD),
            "cache": table(CacheConfig, CACHE),
            "otel": read_otel,
            "shared": read_shared,
            "packages": table(PackagesConfig, PACKAGES),
            "mcp": tools.read_mcp,
            "policy": table(PolicyConfig, agents.POLICY),
            "agents": tables(agents.agent),
            "teams": tables(agents.team),
            "prices": tables(prices.price),
        },
    )
    if not isinstance(values.get("server"), ServerConfig):
        values["server"] = ServerConfig(http=default_http(root.document.environ))
    config = build(Config, {**values, "path": root.document.file})
    config = _without_default_http(root, config)
    _check_listeners(root, config)
    _check_message_size(root, config)
    if not config.providers:
        found = found_providers(root.document.environ, found_ollama=find_ollama(), types=types)
        config = msgspec.structs.replace(config, providers=found)
    config = with_demo(config)
    prices.check_providers(root.get("prices"), config.prices, config.providers)
    return config


def with_demo(config: Config) -> Config:
    """The config with a demo provider, where a recording needs it and there is none. It serves
    nothing else.
    """
    if not any(each.on_miss == DEMO for each in config.providers):
        return config
    if any(each.name == DEMO for each in config.providers):
        return config
    demo = ProviderConfig(name=DEMO, type=DEMO, models=(DEMO,), priority=DEMO_PRIORITY)
    return msgspec.structs.replace(config, providers=(*config.providers, demo))


def _targets(node: TomlNode) -> tuple[str, ...] | Faulty:
    expected = 'a model, or a list of them, each as "provider/model" or "model"'
    if isinstance(node.value, dict):
        return node.reject(expected, found="a table", hint="a name with a dot in it needs quotes")
    target = text('"provider/model", or a model\'s name')
    return list_of(target, expected, least=1, single=str, unique=True)(node)


def _without_default_http(root: TomlNode, config: Config) -> Config:
    """No HTTP by default where other listeners are configured; a token needs HTTP, though."""
    written = root.get("server").raw_table().keys()
    sockets_only = any(each.socket for each in config.agents) and not any(
        each.token for each in config.agents
    )
    if "http" in written or not ({"socket", "vsock"} & written or sockets_only):
        return config
    return msgspec.structs.replace(config, server=msgspec.structs.replace(config.server, http=()))


def _check_listeners(root: TomlNode, config: Config) -> None:
    """The gateway listens somewhere, `attest` has a socket, and nothing is used twice."""
    server, node = config.server, root.get("server")
    listeners = {"socket", "vsock", "admin_socket"}
    if not (server.http or listeners & node.raw_table().keys() or "agents" in root.raw_table()):
        node.child("http").reject("somewhere to listen", found="neither http nor socket")
    if server.attest == "require" and not (server.socket or any(each.socket for each in config.agents)):
        hint = "the network of a client of HTTP or AF_VSOCK cannot be seen"
        node.child("attest").reject("a socket beside it", found="none", hint=hint)
    sockets = [config.mcp.stdio_socket] if config.mcp.stdio_socket else []
    agents.check_teams(root, config.teams, config.agents)
    agents.check_unique(root.get("agents"), config.agents, server, sockets=sockets)


def _check_message_size(root: TomlNode, config: Config) -> None:
    """A message of a tool call counts as a body: above its caller's share of body memory it would
    always be refused.
    """
    node, share = root.get("mcp").get("max_message"), config.server.body_share
    if node.value == config.mcp.max_message > share:
        node.reject(
            f"at most {share} bytes, which is [server] max_body_memory_per_caller", found=quote(node.value)
        )

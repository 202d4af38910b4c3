"""The tables of tool servers: [mcp], and each of its servers.

It stands beside `read.py`, which calls it, and above the rules. It judges what is written; whether
a command exists, or anybody answers at a url, is found out by whoever starts it.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping
from typing import Final, cast
from urllib.parse import parse_qsl, urlsplit

from modelplex.config.rules import (
    FAULTY,
    Faulty,
    Rule,
    TomlNode,
    environment_name,
    fields,
    flag,
    header_name,
    hidden,
    many,
    matching,
    named,
    once,
    one_of,
    seconds,
    secret,
    shown,
    text,
    whole,
)
from modelplex.config.secret import Secret
from modelplex.config.settings import McpConfig, McpServer

LEAST_NAME: Final = 36
MOST_NAME: Final = 128
"""Characters of an exposed name: the longest server's name and what makes a cut name unique must
fit; the protocol's own advice ends at 128.
"""

LARGEST: Final = 2**40
"""Bytes; no size that anybody means is above it."""
LEAST_MESSAGE: Final = 65_536
"""Bytes. Below it not even a list of tools gets through."""
MOST_DEPTH: Final = 500
"""Levels of lists and tables: what is deeper than Python's own stack is not read at all."""

WRITTEN_BY_US: Final = frozenset(
    {
        *(
            "host",
            "content-length",
            "content-type",
            "content-encoding",
            "transfer-encoding",
            "connection",
            "accept",
        ),
        *("mcp-session-id", "mcp-protocol-version", "mcp-method", "mcp-name", "last-event-id"),
    }
)
"""Headers that a config may not add to what is sent to a tool server: they say what a message is.
"""

_PATH = text("a path")
_BYTES = whole("bytes", least=LEAST_MESSAGE, most=LARGEST)
_COUNT = whole("a number", least=1, most=1_000_000)


def _glob(*, denies: bool) -> Rule[str]:
    expected = "the name of a tool, or a glob" + (', with "!" before it to deny it' if denies else "")
    read = text(expected)

    def rule(node: TomlNode) -> str | Faulty:
        value = read(node)
        if value is FAULTY or (value != "!" and (denies or not value.startswith("!"))):
            return value
        return node.wrong(expected, found=shown(node.value))

    return rule


def _folder(node: TomlNode) -> str | Faulty:
    value = _PATH(node)
    if value is FAULTY or (posixpath.isabs(value) and ".." not in value.split("/")):
        return value
    return node.wrong("a folder by its whole path, which begins with /", found=shown(node.value))


SERVER: Final[dict[str, Rule[object]]] = {
    "name": matching(r"[a-z0-9-]{1,24}", "a name of at most 24 small letters, digits and dashes"),
    "command": _PATH,
    "args": many(hidden("an argument"), "a list of arguments"),
    "env": named(hidden("the variable's value"), name=environment_name),
    "cwd": _PATH,
    "url": secret("an address that begins with https://, http:// or unix:/"),
    "headers": named(secret("the header's value", empty=True), name=header_name(refused=WRITTEN_BY_US)),
    "protocol": one_of(("auto", "legacy", "modern")),
    "tools": once(
        many(_glob(denies=True), 'a list of tool names or globs, each with "!" before it to deny it')
    ),
    "timeout": seconds(),
    "start": one_of(("lazy", "eager")),
    "idle_stop": seconds(zero=True),
    "scope": one_of(("shared", "session", "agent")),
    "network": flag,
    "allow": once(
        many(
            one_of(("sampling", "elicitation", "roots", "tasks")),
            'a list of what it may ask of clients, "sampling", "elicitation" and "roots", and of "tasks"',
        )
    ),
    "roots": once(many(_folder, "a list of folders, each by its whole path")),
    "idempotent": once(many(_glob(denies=False), "a list of tool names or globs")),
    "plain_text": flag,
}

MCP: Final[dict[str, Rule[object]]] = {
    "enabled": flag,
    "prefix": flag,
    "name_limit": whole("characters", least=LEAST_NAME, most=MOST_NAME),
    "stdio_socket": _PATH,
    "lock_file": _PATH,
    "pinning": one_of(("auto", "trust_first", "locked", "off")),
    "search": one_of(("auto", "on", "off")),
    "search_above": whole("tools", least=0, most=1_000_000),
    "max_message": _BYTES,
    "max_depth": whole("levels", least=8, most=MOST_DEPTH),
    "max_result": _BYTES,
    "max_in_flight": _COUNT,
    "max_server_in_flight": _COUNT,
    "max_call_time": seconds(),
    "max_pages": whole("pages", least=1, most=100_000),
    "max_sessions": _COUNT,
    "session_idle": seconds(),
    "max_processes": whole("processes", least=1, most=10_000),
    "start_timeout": seconds(),
    "probe_timeout": seconds(),
    "list_timeout": seconds(),
    "meta": once(many(text("a key of _meta, or a glob"), "a list of keys of _meta, or globs")),
    "oversized": one_of(("refuse", "cut")),
}
"""All but `servers`."""

_ONLY_STARTED: Final = ("args", "env", "cwd", "network")
_URL: Final = re.compile(r"https?://[^/?#\s@]+([/?#].*)?|unix:/[^\s]*[^\s/][^\s]*")


def server(node: TomlNode, *, homes: Mapping[str, str]) -> McpServer | Faulty:
    """One of `[[mcp.servers]]`."""
    values, members = fields(node, SERVER, homes=homes)
    if not isinstance(node.value, dict):
        return FAULTY
    if "name" not in members:
        node.child("name", None).wrong("a name", found="none")
    if ("command" in members) == ("url" in members):
        found = "both" if "url" in members else "neither"
        node.wrong("either a command to start or a url to reach", found=found)
    startable = [
        key for key in _ONLY_STARTED if key in members and (key != "network" or values.get(key) is False)
    ]
    if "url" in members and "command" not in members and startable:
        members[min(startable)].wrong("a command beside it", found="a url, which is not started here")
    if "headers" in members and "command" in members and "url" not in members:
        members["headers"].wrong("a url beside it", found="a command, which takes none")
    url = values.get("url")
    if isinstance(url, Secret) and not _URL.fullmatch(url.reveal()):
        members["url"].wrong(
            "an address that begins with https:// or http://, without user and password, or with unix:/",
            found="a string",
        )
    return McpServer(**cast("dict[str, object]", {"name": "", **values}))  # type: ignore[arg-type]


def agreed(node: TomlNode, config: McpConfig) -> None:
    """What [mcp] and its servers come to together, as far as it was written. `node` is [mcp]."""
    is_table = isinstance(node.value, dict)
    table = cast("dict[str, object]", node.value) if is_table else {}
    if "probe_timeout" in table and config.probe_timeout > config.start_timeout:
        found = f"{config.probe_timeout:g}, and a start_timeout of {config.start_timeout:g}"
        node.child("probe_timeout", None).wrong("less than the whole start may take", found=found)
    written = table.get("servers")
    for index, entry in enumerate(cast("list[object]", written) if isinstance(written, list) else []):
        timeout = cast("dict[str, object]", entry).get("timeout") if isinstance(entry, dict) else None
        if isinstance(timeout, (int, float)) and timeout > config.max_call_time:
            node.child("servers", None).child(index, None).child("timeout", None).wrong(
                f"seconds of at most {config.max_call_time:g}",
                found=f"{timeout:g}",
                hint="[mcp] max_call_time ends every call",
            )


_TELLING: Final = re.compile(r"(?i)key|token|secret|passw|credential|auth|bearer")
"""Names of options whose value is a secret."""
_TOKEN: Final = re.compile(
    r"(?=[^0-9]*[0-9])(?=[^A-Za-z]*[A-Za-z])[A-Za-z0-9_+=-]{20,}|[a-z0-9+]+://[^/@]+@.+"
)
"""What looks like a key, or an address with a password in it."""


def secrets(each: McpServer) -> Iterator[str]:
    """What no line of the log may hold. Of the arguments only what can be one: `--verbose` and a
    path in every line must stay readable.
    """
    yield from (value.reveal() for value in (*each.env.values(), *each.headers.values()))
    if each.url is not None:
        url = each.url.reveal()
        yield url
        yield from (value for _, value in parse_qsl(urlsplit(url).query))
    before = ""
    for arg in (arg.reveal() for arg in each.args):
        name, _, value = arg.partition("=") if arg.startswith("-") else (before, "", arg)
        if value and (_TELLING.search(name) or _TOKEN.fullmatch(value)):
            yield value
        before = arg if arg.startswith("-") else ""


def credentials(each: McpServer) -> Iterator[str]:
    """What no answer of the server's may hold either: a tool that prints its environment would hand
    the host's keys to an agent. Only what is named or looks like one, since an answer may well
    speak of a path that its server was told.
    """
    for name, value in (*each.env.items(), *each.headers.items()):
        if _TELLING.search(name) or _TOKEN.fullmatch(value.reveal()):
            yield value.reveal()
            yield value.reveal().removeprefix("Bearer ")
    told = set(secrets(each)) - {value.reveal() for value in (*each.env.values(), *each.headers.values())}
    yield from told - ({each.url.reveal()} if each.url is not None else set())


def described(config: McpConfig) -> list[str]:
    """What the tables come to, a line for the whole and one for each server; free of secrets."""
    return [
        f"tool servers (pinning: {config.pinning}, search: {config.search}):",
        *(f"  {_described(each)}" for each in config.servers),
    ]


def _described(each: McpServer) -> str:
    where = each.command or _origin(each.url)
    asks = f"; may ask for {' and '.join(each.asks)}" if each.asks else ""
    asks += "; with tasks" if each.tasks else ""
    roots = f"; roots: {', '.join(each.roots)}" if each.roots else ""
    alone = "" if each.network else "; without network"
    tools = ", ".join(each.tools) or "all"
    return (
        f"{each.name} ({where}): protocol {each.protocol}, {each.scope}, tools: {tools}{asks}{roots}{alone}"
    )


def _origin(url: Secret | None) -> str:
    """A url without what may be secret: its path and what follows."""
    found = re.match(r"https?://[^/?#]+|unix:[^:]*", url.reveal() if url else "")
    return found[0] if found else "a url"

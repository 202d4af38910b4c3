"""Tool servers of other programs as our `[[mcp.servers]]`. PURE.

Forms: `mcpServers` (Claude Desktop, Claude Code, Cursor, gemini-cli and others), with those of
`projects` in Claude Code's own file; `servers` (VS Code's mcp.json; `mcp.servers` in its settings);
`mcp_servers` (Codex, in TOML).
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, cast

from modelplex.config.tools import RESERVED_HEADERS
from modelplex.imports.notes import ImportFault, Json, Notes

NAME_LIMIT: Final = 24
"""Characters of a name: docs/reference/config.md."""

_COMMENT: Final = re.compile(r'("(?:[^"\\]|\\.)*")|//[^\n]*|/\*.*?\*/', re.DOTALL)
_LAST_COMMA: Final = re.compile(r'("(?:[^"\\]|\\.)*")|,(?=\s*[}\]])', re.DOTALL)

URLS: Final = ("url", "httpUrl", "serverUrl")
UNREAD: Final = frozenset({"type", "transport", "disabled", "enabled", "name", "inputs", "required"})
"""Members that say nothing beyond what the others say, or that are looked at elsewhere."""


def find_servers(content: bytes, *, file: str) -> dict[str, Json]:
    """The tool servers of a file by name. Raises ImportFault."""
    tree = _tree(content, file=file)
    found: dict[str, Json] = {}
    for table in _tables(tree):
        for name, server in table.items():
            if isinstance(server, dict):
                found.setdefault(name, cast("Json", server))
    if not found:
        raise ImportFault(f"{file}: there is no tool server in mcpServers, servers or mcp_servers")
    return found


def _tree(content: bytes, *, file: str) -> Json:
    try:
        text = content.decode("utf-8-sig")
        if file.endswith(".toml"):
            return tomllib.loads(text)
        plain = _LAST_COMMA.sub(_keep_string, _COMMENT.sub(_keep_string, text))
        tree: object = json.loads(plain)
    except (ValueError, RecursionError) as error:
        raise ImportFault(f"{file}: {error}") from None
    if not isinstance(tree, dict):
        raise ImportFault(f"{file}: it is no object")
    return cast("Json", tree)


def _keep_string(found: re.Match[str]) -> str:
    return found[1] or " "


def _tables(tree: Json) -> Iterator[Json]:
    nested = _object(tree.get("mcp"))
    for each in (
        *(tree.get(name) for name in ("mcpServers", "servers", "mcp_servers", "mcp.servers")),
        *(nested.get(name) for name in ("servers", "mcpServers")),
        *(_object(project).get("mcpServers") for project in _object(tree.get("projects")).values()),
    ):
        yield _object(each)


def _object(value: object) -> Json:
    return cast("Json", value) if isinstance(value, dict) else {}


def convert(servers: Mapping[str, Json], notes: Notes) -> list[Json]:
    """A table for each server; what is not carried is in `notes`."""
    tables: list[Json] = []
    for written, server in servers.items():
        if server.get("disabled") is True or server.get("enabled") is False:
            notes.add(written, "left out, since it is switched off")
            continue
        name = _name(written, {table["name"] for table in tables})
        if name != written:
            notes.add(written, f"is named {name} here")
        table = _table(name, server, notes)
        if table is not None:
            tables.append(table)
    return tables


def _name(written: str, taken: set[str]) -> str:
    base = re.sub(r"[^a-z0-9-]+", "-", written.lower()).strip("-")[:NAME_LIMIT].strip("-") or "server"
    name, number = base, 1
    while name in taken:
        number += 1
        name = f"{base[: NAME_LIMIT - 3]}-{number}"
    return name


def _table(name: str, server: Json, notes: Notes) -> Json | None:
    table: Json = {"name": name}
    url = next((server[key] for key in URLS if isinstance(server.get(key), str)), None)
    command = server.get("command")
    if isinstance(command, str) and command:
        table["command"] = notes.text(command, where=f"{name}.command")
        table["args"] = _arguments(name, server.get("args"), notes) or None
    elif isinstance(url, str):
        table["url"] = _url(name, url, notes)
    else:
        notes.add(name, "left out, since it has neither a command nor a url")
        return None
    for key, value in server.items():
        if key in UNREAD or key in URLS or key in {"command", "args"}:
            continue
        reader = _READERS.get(key)
        if reader is None:
            notes.add(f"{name}.{key}", "was not carried")
        else:
            reader(table, value, notes)
    unusable = ("env", "cwd") if "url" in table else ("headers",)
    for key in unusable:
        if table.pop(key, None):
            notes.add(f"{name}.{key}", "was not carried: it does not fit the rest")
    return table


def _arguments(name: str, args: object, notes: Notes) -> list[str]:
    """A secret is what looks like one, or follows an option with a secret's name."""
    written: list[str] = []
    before = ""
    for each in _list(args):
        option, equals, value = each.partition("=") if each.startswith("-") else (before, "", each)
        variable = f"{name}_{option.lstrip('-')}" if option else f"{name}_argument"
        where = f"{name}.args"
        if equals:
            written.append(
                f"{option.replace('$', '$$')}={notes.text(value, where=where, name=option, variable=variable)}"
            )
        elif each.startswith("-"):
            written.append(notes.text(each, where=where))
        else:
            written.append(notes.text(value, where=where, name=option, variable=variable))
        before = each if each.startswith("-") and not equals else ""
    return written


def _url(name: str, url: str, notes: Notes) -> str:
    """The secrets of a url are in its query."""
    where = f"{name}.url"
    base, mark, query = url.partition("?")
    pieces: list[str] = []
    for piece in query.split("&"):
        key, equals, value = piece.partition("=")
        pieces.append(f"{key}{equals}{notes.text(value, where=where, name=key, variable=f'{name}_{key}')}")
    return notes.text(base, where=where) + mark + "&".join(pieces)


def _list(value: object) -> list[str]:
    return [str(each) for each in cast("Sequence[object]", value)] if isinstance(value, list) else []


# --- members

Reader = Callable[[Json, Any, Notes], None]


def _env(table: Json, value: object, notes: Notes) -> None:
    env: Json = table.setdefault("env", {})
    for key, each in _object(value).items():
        env[key] = notes.text(each, where=f"{table['name']}.env.{key}", name=key)


def _env_vars(table: Json, value: object, notes: Notes) -> None:
    env: Json = table.setdefault("env", {})
    for key in _list(value):
        env[key] = notes.need(key)


def _headers(table: Json, value: object, notes: Notes) -> None:
    headers: Json = table.setdefault("headers", {})
    for key, each in _object(value).items():
        where = f"{table['name']}.headers.{key}"
        if key.lower() in RESERVED_HEADERS:
            notes.add(where, "was not carried: the gateway sets it")
        else:
            headers[key] = notes.text(each, where=where, name=key, variable=f"{table['name']}_{key}")


def _env_headers(table: Json, value: object, notes: Notes) -> None:
    headers: Json = table.setdefault("headers", {})
    headers |= {key: notes.need(str(each)) for key, each in _object(value).items()}


def _bearer(table: Json, value: object, notes: Notes) -> None:
    table.setdefault("headers", {})["authorization"] = f"Bearer {notes.need(str(value))}"


def _cwd(table: Json, value: object, notes: Notes) -> None:
    table["cwd"] = notes.text(value, where=f"{table['name']}.cwd")


def _tools(table: Json, value: object, notes: Notes) -> None:
    del notes
    table.setdefault("tools", []).extend(_list(value))


def _no_tools(table: Json, value: object, notes: Notes) -> None:
    del notes
    table.setdefault("tools", []).extend(f"!{each}" for each in _list(value))


def _seconds(table: Json, value: object, notes: Notes) -> None:
    if isinstance(value, (int, float)) and value > 0:
        table["timeout"] = float(value)
    else:
        notes.add(f"{table['name']}.timeout", "was not carried")


_READERS: Final[Mapping[str, Reader]] = {
    "env": _env,
    "env_vars": _env_vars,
    "headers": _headers,
    "http_headers": _headers,
    "env_http_headers": _env_headers,
    "bearer_token_env_var": _bearer,
    "cwd": _cwd,
    "enabled_tools": _tools,
    "includeTools": _tools,
    "disabled_tools": _no_tools,
    "disabledTools": _no_tools,
    "excludeTools": _no_tools,
    "tool_timeout_sec": _seconds,
}

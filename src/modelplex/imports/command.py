"""`modelplex import` and `modelplex mcp import`: reads the file, prints or writes TOML on stdout,
and says on stderr what was not carried.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, cast

from modelplex.config import ConfigError, provider_types
from modelplex.config.read import parse
from modelplex.imports.notes import ImportFault, Json, Notes
from modelplex.imports.servers import convert, find_servers
from modelplex.imports.toml_text import table_text

MAX_FILE: Final = 16_777_216
"""Bytes of a file that is read. Claude Code's own file holds the history of its projects."""
Tables = Sequence[tuple[str, Json]]


def run_mcp(arguments: argparse.Namespace, config: str) -> int:
    """`config` is the file that --write appends to. Raises ImportFault."""
    notes = _notes()
    servers = find_servers(_read(arguments.file), file=arguments.file)
    tables = [("[[mcp.servers]]", each) for each in convert(servers, notes)]
    if arguments.write:
        _append(config, tables, notes)
    else:
        tables = _checked([("[mcp]", {"enabled": True}), *tables], notes)
        sys.stdout.write(_text(tables))
    _report(notes)
    return 0


def run_foreign(arguments: argparse.Namespace) -> int:
    """Raises ImportFault."""
    from modelplex.imports import litellm

    notes = _notes()
    document = _yaml(_read(arguments.file), arguments.file)
    tables = _checked(litellm.read(document, notes), notes)
    for fault in _faults(_text(tables), notes):
        notes.add("the config", f"has a fault: {fault}")
    sys.stdout.write(_text(tables))
    _report(notes)
    return 0


def _notes() -> Notes:
    return Notes(home=str(Path.home()), folder=os.getcwd())  # noqa: PTH109 - a string is needed


def _read(file: str) -> bytes:
    try:
        with Path(file).expanduser().open("rb") as opened:
            content = opened.read(MAX_FILE + 1)
    except OSError as error:
        raise ImportFault(f"{file}: {error.strerror}") from None
    if len(content) > MAX_FILE:
        raise ImportFault(f"{file}: it has more than {MAX_FILE} bytes")
    return content


def _yaml(content: bytes, file: str) -> Json:
    tree: object
    try:
        tree = json.loads(content)
    except ValueError:
        try:
            yaml: Any = importlib.import_module("yaml")
        except ImportError:
            raise ImportFault(
                "reading YAML needs the extra modelplex[yaml]: pip install 'modelplex[yaml]', or uv tool install 'modelplex[yaml]'"
            ) from None
        try:
            tree = yaml.safe_load(content)
        except (yaml.YAMLError, RecursionError) as error:
            raise ImportFault(f"{file}: {' '.join(str(error).split())}") from None
    if not isinstance(tree, dict) or not isinstance(cast("Json", tree).get("model_list"), list):
        raise ImportFault(f"{file}: there is no model_list, so it is no config of LiteLLM")
    return cast("Json", tree)


def _text(tables: Tables) -> str:
    return "\n".join(table_text(heading, members) for heading, members in tables)


def _checked(tables: Tables, notes: Notes) -> list[tuple[str, Json]]:
    """The tables that the gateway accepts; the others are named."""
    kept: list[tuple[str, Json]] = []
    for heading, members in tables:
        faults = _faults(_text([(heading, members)]), notes) if heading.startswith("[[") else []
        if faults:
            notes.add(str(members.get("name") or members.get("model")), f"left out: {'; '.join(faults)}")
        else:
            kept.append((heading, members))
    return kept


def _faults(text: str, notes: Notes) -> list[str]:
    environ = dict.fromkeys(notes.variables, "x")
    demo = '\n[[providers]]\nname = "modelplex-import-check"\ntype = "demo"\n'
    try:
        parse(f"{text}{demo}".encode(), file="config.toml", environ=environ, types=provider_types())
    except ConfigError as error:
        # A price names a provider of another table.
        return [
            f"{fault.key}: {fault.message}" for fault in error.faults if not fault.key.endswith("].provider")
        ]
    return []


def _append(config: str, tables: Tables, notes: Notes) -> None:
    """Add the servers that the config lacks. The file is replaced in one step. Raises
    ImportFault.
    """
    path = Path(config)
    before = path.read_text(encoding="utf-8-sig") if path.exists() else ""
    try:
        tree: dict[str, Any] = tomllib.loads(before)
    except ValueError as error:
        raise ImportFault(f"{config}: {error}") from None
    mcp = tree.get("mcp", {})
    taken = {each.get("name") for each in mcp.get("servers", [])}
    new = _checked([each for each in tables if each[1]["name"] not in taken], notes)
    for _, table in tables:
        if table["name"] in taken:
            notes.add(table["name"], f"left out, since {config} has a server of this name")
    if not new:
        return
    head = [] if "mcp" in tree else [("[mcp]", {"enabled": True})]
    if "mcp" in tree and mcp.get("enabled") is not True:
        notes.add(config, "set enabled = true in [mcp] to serve them")
    text = (f"{before.rstrip()}\n\n" if before.strip() else "") + _text([*head, *new])
    try:
        tomllib.loads(text)
    except ValueError as error:
        raise ImportFault(
            f"{config}: tables cannot be appended to it ({error}): nothing was written"
        ) from None
    _replace(path, text)
    sys.stdout.write(f"{config}: added {', '.join(table['name'] for _, table in new)}\n")


def _replace(path: Path, text: str) -> None:
    """Through a link, and with the file's mode."""
    target = path.resolve()
    mode = target.stat().st_mode & 0o777 if target.exists() else 0o600
    try:
        with tempfile.NamedTemporaryFile("w", dir=target.parent, delete=False, encoding="utf-8") as file:
            file.write(text)
        os.chmod(file.name, mode)  # noqa: PTH101 - it is a string
        os.replace(file.name, target)  # noqa: PTH105 - the same
    except OSError as error:
        raise ImportFault(f"{path}: {error.strerror}") from None


def _report(notes: Notes) -> None:
    for line in notes.lines:
        sys.stderr.write(f"modelplex: {line}\n")
    missing = [name for name in notes.variables if name not in os.environ]
    if missing:
        sys.stderr.write(f"modelplex: set in the environment of the gateway: {', '.join(missing)}\n")

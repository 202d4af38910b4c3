"""Checks of keys and tokens: unexpanded variables, placeholders, and who may read them."""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from modelplex.config import provider_types
from modelplex.config.address import same_origin
from modelplex.config.credentials import COMMAND, FILE
from modelplex.config.lint.finding import ConfigFinding, LintContext
from modelplex.config.toml_positions import Path as Place

SHORTEST_KEY: Final = 8
"""Characters. A shorter value is a word for a server that needs no key, such as "none"."""

FOREIGN_VARIABLE: Final = re.compile(
    r"""\$(?P<shell>[A-Za-z_]\w*)
      | os\.environ(?:/|\[['"]|\.get\(['"])(?P<python>[A-Za-z_]\w*)['"\])]*
      | process\.env\.(?P<node>[A-Za-z_]\w*)
      | \{?env[:.](?P<env>[A-Za-z_]\w*)\}?
      | %(?P<windows>[A-Za-z_]\w*)%
      | \{\{\s*(?P<template>[A-Za-z_]\w*)\s*\}\}
    """,
    re.VERBOSE,
)
"""A variable in the form of another program. Only `${NAME}` is expanded here."""

PLACEHOLDER: Final = re.compile(
    r"""(?:sk-|sk-ant-|sk-proj-|gsk_|AIza)?(?:\.{3,}|\u2026|x{3,}|\*{3,}|0{8,}|1234\w*)
      | <[^<>]*> | \[[^][]*\]
      | .{0,20}your[\w -]{0,40}(?:key|token|secret).{0,20} | my[-_ ]?(?:api[-_ ]?)?(?:key|token|secret)
      | (?:sk-)?(?:change[-_ ]?me|replace[-_ ]?me|placeholder|todo|fixme|secret|password|insert.*here|paste.*here|api[-_]?key)
    """,
    re.VERBOSE | re.IGNORECASE,
)
"""What documentation writes in place of a key."""


def _tokens(context: LintContext) -> Iterator[tuple[Place, str]]:
    yield from context.strings("server", "internal_token")
    for index in range(len(context.config.server.admins)):
        yield from context.strings("server", "admins", index, "token")
    for index in range(len(context.config.agents)):
        yield from context.strings("agents", index, "token")


def _secrets(context: LintContext) -> Iterator[tuple[Place, str]]:
    """Every value that may be a key or token, as written."""
    for index in range(len(context.config.providers)):
        yield from context.strings("providers", index, "api_key")
        yield from context.strings("providers", index, "headers")
    yield from _tokens(context)
    for index in range(len(context.config.mcp.servers)):
        yield from context.strings("mcp", "servers", index, "env")
        yield from context.strings("mcp", "servers", index, "headers")


def unexpanded_variables(context: LintContext) -> Iterator[ConfigFinding]:
    for place, value in _secrets(context):
        if found := FOREIGN_VARIABLE.fullmatch(value.strip()):
            name = next(filter(None, found.groups()))
            message = f"the variable {name} is not expanded in this form: the text itself is sent"
            yield context.error("literal-variable", place, message, f'write "${{{name}}}"')


def placeholders(context: LintContext) -> Iterator[ConfigFinding]:
    types = provider_types()
    found = [
        (place, value, "this token is a placeholder, which can be guessed")
        for place, value in _tokens(context)
    ]
    for index, provider in enumerate(context.config.providers):
        usual = types[provider.type].default_base_url
        # A server of the user's own may accept any key.
        if types[provider.type].needs_key and not (usual and not same_origin(provider.base_url, usual)):
            keys = context.strings("providers", index, "api_key")
            found += [(place, value, "this is a placeholder, not a key") for place, value in keys]
    for place, value, message in found:
        if PLACEHOLDER.fullmatch(value.strip()):
            remedy = 'write "${NAME}" and set that variable to the real one'
            yield context.error("placeholder-key", place, message, remedy)


def file_mode(context: LintContext) -> Iterator[ConfigFinding]:
    path = context.config.path
    try:
        mode = Path(path).stat().st_mode if path is not None else 0
    except OSError:
        return
    if not stat.S_ISREG(mode):
        return
    if mode & stat.S_IWOTH:
        message = "every user of this machine may change this file, and with it where keys are sent"
        yield context.error("writable-config", (), message, f"chmod o-w {path}")
    literal = [
        place
        for place, value in _secrets(context)
        if ("api_key" in place or place[-1] in {"internal_token", "token"})
        and "${" not in value
        and not value.startswith((FILE, COMMAND))
        and not FOREIGN_VARIABLE.fullmatch(value)
        and len(value) >= SHORTEST_KEY
    ]
    if literal and mode & stat.S_IROTH:
        message = "this key is in a file that every user of this machine may read"
        yield context.warning("readable-keys", literal[0], message, f'chmod 600 {path}, or write "${{NAME}}"')

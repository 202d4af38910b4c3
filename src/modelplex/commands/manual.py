"""The manual page in man(7), from the rows of the parser."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from modelplex.commands.parser_rows import ArgumentRow, CommandRow

_EXIT: Final = (
    ("0", "success; also after SIGTERM or Ctrl-C"),
    ("1", "a valid config could not be served, or a check failed"),
    ("2", "the config or the arguments are wrong"),
    ("130", "Ctrl-C before it served"),
)
_FILES: Final = (
    ("config.toml", "the settings, in the working folder; --config and MODELPLEX_CONFIG name another file"),
    ("modelplex.mcp.lock", "the approved definitions of tools, beside the config"),
)


def man_page(row: CommandRow, *, version: str) -> str:
    """`row` is the whole command line."""
    return "\n".join(_lines(row, version)) + "\n"


def _lines(row: CommandRow, version: str) -> Iterator[str]:
    yield f'.TH MODELPLEX 1 "" "modelplex {version}" "Modelplex"'
    yield from (
        ".SH NAME",
        "modelplex \\- gateway through which agents without a network reach models and tools",
    )
    yield from (".SH SYNOPSIS", f".B {_roff(row.usage)}")
    yield from (".SH DESCRIPTION", _roff(row.description))
    yield "Without a command, modelplex serves."
    yield ".SH OPTIONS"
    yield "Those that apply to a command may stand before or after it."
    yield from _arguments(row.options)
    yield ".SH COMMANDS"
    shared = frozenset(row.options)
    for command in row.all():
        if command is not row and not command.commands:
            yield from _command(command, shared)
    yield ".SH EXIT STATUS"
    yield from _items(_EXIT)
    yield ".PP"
    yield "run and bridge return the status of the program that they run."
    yield from (".SH FILES", *_items(_FILES))
    yield from (".SH EXAMPLES", *_verbatim(row.examples))


def _command(command: CommandRow, shared: frozenset[ArgumentRow]) -> Iterator[str]:
    yield f'.SS "{_roff(command.name)}"'
    yield f".B {_roff(command.usage)}"
    yield from (".PP", _roff(command.description))
    yield from _arguments(command.arguments)
    yield from _arguments([each for each in command.options if each not in shared])
    if command.examples:
        yield from (".PP", *_verbatim(command.examples))


def _arguments(arguments: Sequence[ArgumentRow]) -> Iterator[str]:
    for each in arguments:
        flags = ", ".join(f"\\fB{_roff(flag)}\\fR" for flag in each.flags)
        metavar = f"\\fI{_roff(each.metavar)}\\fR" if each.metavar else ""
        yield from (".TP", " ".join(filter(None, (flags, metavar))), _roff(each.help))


def _items(rows: Sequence[tuple[str, str]]) -> Iterator[str]:
    for name, text in rows:
        yield from (".TP", f"\\fB{_roff(name)}\\fR", _roff(text))


def _verbatim(text: str) -> list[str]:
    return [".nf", *(_roff(line) for line in text.rstrip("\n").splitlines()), ".fi"]


def _roff(text: str) -> str:
    """Text in which nothing is a request or an escape, and a dash is a dash that can be copied."""
    escaped = re.sub(r"^([.'])", r"\\&\1", text.replace("\\", "\\e"), flags=re.MULTILINE)
    return escaped.replace("-", "\\-")

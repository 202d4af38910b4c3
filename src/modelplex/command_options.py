"""Options that may stand before or after a command: each one that is read is applied by the
command, or refused. Imports argparse alone, so that `--version` and `--help` answer at once.

`cli` names the options and the commands that apply them. Every parser stores what it reads under a
name of its own, since argparse lets a subcommand's parser overwrite what was read before;
`settle` merges them.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any, NamedTuple

SERVE = ""
"""The command of `modelplex` without one."""
LEVEL = "@"
"""Between an option's name and the number of the parser that read it: in no name of an option."""


class Option(NamedTuple):
    """One option. `commands` apply it; `repeated_by` are those of them for which it may be given
    several times. A switch takes no value.
    """

    flag: str
    commands: frozenset[str]
    settings: Mapping[str, Any]
    repeated_by: frozenset[str] = frozenset()
    is_switch: bool = False

    @property
    def name(self) -> str:
        return self.flag.lstrip("-").replace("-", "_")


class Shared:
    """The options of one command line."""

    def __init__(self, options: Sequence[Option]) -> None:
        self.options = tuple(options)
        self._levels = count()

    def parent(self, command: str | None) -> argparse.ArgumentParser:
        """A parser to inherit from (argparse's `parents`) with the options of a command; with None,
        for what stands before a command, all of them.
        """
        level = next(self._levels)
        made = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
        for option in self.options:
            if command is None or command in option.commands:
                kind: dict[str, Any] = (
                    {"action": "append_const", "const": True} if option.is_switch else {"action": "append"}
                )
                made.add_argument(option.flag, dest=f"{option.name}{LEVEL}{level}", **kind, **option.settings)
        return made

    def settle(self, parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
        """Set each option under its plain name: True or False for a switch, a list or None where it
        may be repeated, else one value or None.

        Ends the process through `parser.error` where the command does not apply one, or where one
        has two values.
        """
        command: str = arguments.command or SERVE
        for option in self.options:
            values = _taken(option.name, arguments)
            if values and command not in option.commands:
                parser.error(
                    f"argument {option.flag}: `modelplex{f' {command}' if command else ''}` does not apply it"
                )
            if option.is_switch:
                settled: Any = bool(values)
            elif command in option.repeated_by:
                settled = values or None
            else:
                settled = values[-1] if values else None
                if any(value != settled for value in values):
                    parser.error(f"argument {option.flag}: given twice, as {values[0]} and as {settled}")
            setattr(arguments, option.name, settled)


def _taken(name: str, arguments: argparse.Namespace) -> list[Any]:
    """What all parsers read under this name, in their order; it is taken out of `arguments`. A
    command's own option of that name is the last.
    """
    found = vars(arguments)
    levels = [key for key in found if key.partition(LEVEL)[0] == name and LEVEL in key]
    values: list[Any] = []
    for key in sorted(levels, key=lambda key: int(key.partition(LEVEL)[2])):
        values += found.pop(key)
    own = found.pop(name, None)
    return values if own is None or own is False else [*values, own]


class Parser(argparse.ArgumentParser):
    """The parser of the whole command line, which settles what it has read."""

    shared: Shared | None = None

    def parse_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> argparse.Namespace:
        parsed = super().parse_args(args, namespace or argparse.Namespace())
        if self.shared is not None:
            self.shared.settle(self, parsed)
        return parsed

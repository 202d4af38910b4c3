"""The parser of the command line as plain rows, from which completions, the manual page and
suggestions are made. Nothing about an option is written twice.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, cast


class ArgumentRow(NamedTuple):
    """An option, or without `flags` a positional argument. An option without `metavar` is a switch.
    `values` are all that it takes; empty if it takes others.
    """

    flags: tuple[str, ...]
    metavar: str
    help: str
    values: tuple[str, ...] = ()


class CommandRow(NamedTuple):
    """A command, with the options that are applied after it. `name` is whole ("modelplex mcp
    list"). After the options of one that `runs_a_program`, a command line of another program
    follows.
    """

    name: str
    description: str
    usage: str
    examples: str
    options: tuple[ArgumentRow, ...]
    arguments: tuple[ArgumentRow, ...]
    commands: tuple[CommandRow, ...]
    runs_a_program: bool
    offered: tuple[str, ...] = ()
    """Words that may stand for the program."""

    @property
    def word(self) -> str:
        return self.name.rpartition(" ")[2]

    @property
    def summary(self) -> str:
        """The first sentence of the description."""
        return self.description.partition(". ")[0].partition(": ")[0].rstrip(".")

    def option(self, flag: str) -> ArgumentRow | None:
        return next((each for each in self.options if flag in each.flags), None)

    def command(self, word: str) -> CommandRow | None:
        return next((each for each in self.commands if each.word == word), None)

    def all(self) -> Iterator[CommandRow]:
        """This one and all below it."""
        yield self
        for each in self.commands:
            yield from each.all()


def rows_of(parser: argparse.ArgumentParser, name: str = "modelplex") -> CommandRow:
    options: list[ArgumentRow] = []
    arguments: list[ArgumentRow] = []
    commands: list[CommandRow] = []
    runs_a_program = False
    offered: tuple[str, ...] = ()
    for action in _actions(parser):
        choices: object = action.choices
        if isinstance(choices, Mapping):
            below = cast("Mapping[str, argparse.ArgumentParser]", choices)
            commands += [rows_of(each, f"{name} {word}") for word, each in below.items()]
        elif action.nargs == argparse.REMAINDER:
            runs_a_program = True
            offered = getattr(action, "offered", ())
        else:
            (options if action.option_strings else arguments).append(_row(action))
    return CommandRow(
        name,
        parser.description or "",
        " ".join(parser.format_usage().removeprefix("usage: ").split()),
        parser.epilog or "",
        tuple(options),
        tuple(arguments),
        tuple(commands),
        runs_a_program,
        offered,
    )


def _actions(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """Not public in argparse, which has no other list of them."""
    return parser._actions  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]


def _row(action: argparse.Action) -> ArgumentRow:
    metavar: Any = action.metavar or ""
    values = tuple(map(str, action.choices)) if action.choices is not None else ()
    return ArgumentRow(
        tuple(action.option_strings), str(metavar), (action.help or "").replace("%%", "%"), values
    )

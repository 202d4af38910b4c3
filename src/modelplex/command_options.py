"""The command line: the parser of all commands, and the options that they share.

A shared option may stand before or after a command; it is applied by the command, or refused.
Imports argparse and texts only, so that `--version` and `--help` answer at once. A command or
option that does not exist is answered with the one that was meant.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from functools import cache
from itertools import count
from typing import Any, Final, NamedTuple, NoReturn

from modelplex import __version__
from modelplex.commands import options as record_options
from modelplex.commands import setup_options
from modelplex.mcp import options as mcp_options
from modelplex.sandbox import arguments as run_options
from modelplex.sandbox import bridge

SERVE: Final = ""
"""The command of `modelplex` without one."""
DEFAULT_CONFIG: Final = "config.toml"
USUAL_WIDTH: Final = 80
"""Columns of help texts where there is no terminal."""
LISTED_WIDTH: Final = 12
"""Columns of a command's name in the list of commands."""

GROUPS: Final = (
    ("commands for agents", ("run", "replay", "bridge", "client")),
    ("commands for the configuration", ("init", "check", "import", "mcp")),
    (
        "commands for the record",
        ("runs", "show", "usage", "tail", "export", "verify", "certify", "acts", "telemetry", "stop", "page"),
    ),
    ("commands for the shell", ("completion", "man")),
)
"""The commands as `modelplex --help` lists them. Each is in one group."""

_EXAMPLES: Final = """\
examples:
  modelplex                                    serve config.toml, or without one what is detected
  modelplex init                               write a config of what is found: keys, Ollama, agents
  modelplex --config team.toml                 serve another config
  modelplex --http ":8080"                     HTTP on port 8080 of localhost
  modelplex --http "0.0.0.0:8080"              HTTP for the whole network: every caller uses your keys
  modelplex --socket ./modelplex.socket        a Unix socket, and no HTTP
  modelplex --socket ./m.socket --http ":8080" both
  modelplex check --reach                      show what would be served, and which providers answer
"""

_CHECK_EXAMPLES: Final = """\
examples:
  modelplex check                              check config.toml
  modelplex check --config team.toml --reach   check another config, and request each provider's list of models
  modelplex check --strict --json              for scripts: fail for warnings too, and print the findings as JSON

The exit status is 0 without errors, 1 where a setting will fail, where a provider did not answer --reach, or with --strict where there is a warning, and 2
where the config cannot be used.
"""

_BRIDGE_EXAMPLES: Final = """\
examples:
  modelplex bridge --socket /socket/modelplex.socket -- codex exec "Write the marker."
  modelplex bridge --socket ./modelplex.socket --listen vsock:11435     on the host of a VM
  modelplex bridge --connect vsock:2:11435                              in the VM
"""

# --- values


def _fail(reason: object) -> NoReturn:
    raise argparse.ArgumentTypeError(str(reason))


def _address(written: str) -> str:
    from modelplex.config import default_host, http_address

    try:
        return http_address(written, host=default_host(os.environ))
    except ValueError as error:
        _fail(f'"{written}" is not an address: {error}')


def _vsock_port(written: str) -> int:
    from modelplex.config.server import MAX_VSOCK_PORT

    if not (written.isascii() and written.isdigit() and 0 < int(written) <= MAX_VSOCK_PORT):
        _fail(f'"{written}" is not a port: a number from 1 to {MAX_VSOCK_PORT}')
    return int(written)


class _WrongWords(Exception):
    def __init__(self, parser: Parser, message: str) -> None:
        super().__init__(message)
        self.parser = parser


class Parser(argparse.ArgumentParser):
    """Raises what argparse would report, so that `parse` can say what was meant."""

    def error(self, message: str) -> NoReturn:
        raise _WrongWords(self, message)

    def end(self, message: str) -> NoReturn:
        super().error(message)


# --- shared options


class Option(NamedTuple):
    """`commands` apply it; those of `repeated_by` take several values. Without a `metavar` it is a
    switch.
    """

    flag: str
    commands: frozenset[str]
    help: str
    metavar: str = ""
    type: Callable[[str], object] | None = None
    repeated_by: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        return self.flag.lstrip("-").replace("-", "_")


_LISTENING: Final = frozenset({SERVE, "check"})
OPTIONS: Final = (
    Option(
        "--config",
        _LISTENING | {"mcp", "run", "replay"} | record_options.NAMES,
        f"the TOML file with the settings (default: {DEFAULT_CONFIG} where it exists, else what is detected: keys in the environment, an Ollama on its usual "
        "port, and the built-in demo provider)",
        "FILE",
        bridge.file_name,
    ),
    Option(
        "--http",
        _LISTENING,
        'serve HTTP on this "host:port" instead of the config\'s; ":8080" means localhost; may be repeated (default: 127.0.0.1:11435)',
        "ADDR",
        _address,
        repeated_by=_LISTENING,
    ),
    Option(
        "--socket",
        _LISTENING | {"run", "bridge"},
        "serve on this Unix socket instead of the config's, and on HTTP only with --http; may be repeated",
        "PATH",
        bridge.file_name,
        repeated_by=_LISTENING,
    ),
    Option(
        "--vsock",
        _LISTENING,
        "serve virtual machines on this port of AF_VSOCK instead of the config's, and on HTTP only with --http; may be repeated",
        "PORT",
        _vsock_port,
        repeated_by=_LISTENING,
    ),
    Option(
        "--admin-socket",
        frozenset({SERVE}),
        "serve the page, status and metrics on this Unix socket too, for the host alone",
        "PATH",
        bridge.file_name,
    ),
    Option(
        "--no-reload", frozenset({SERVE, "run", "replay"}), "do not reload the config when the file changes"
    ),
    Option(
        "--verbose",
        _LISTENING | {"mcp", "run", "replay"} | record_options.NAMES,
        "log more; bodies of requests and responses too, where the config has [log] bodies = true",
    ),
)
LEVEL: Final = "@"
"""Separates an option's name from the number of the parser that read it: argparse lets a command's
parser overwrite what another one read, so each stores under a name of its own.
"""


def _shared(command: str | None, level: int) -> Parser:
    """A parser to inherit from (argparse's `parents`) with the options of a command; None is for
    all of them, before a command.
    """
    parser = Parser(add_help=False, argument_default=argparse.SUPPRESS, formatter_class=HelpFormatter)
    for option in OPTIONS:
        if command is None or command in option.commands:
            settings: dict[str, Any] = {"action": "append_const", "const": True}
            if option.metavar:
                settings = {"action": "append", "metavar": option.metavar, "type": option.type}
            parser.add_argument(
                option.flag, dest=f"{option.name}{LEVEL}{level}", help=option.help, **settings
            )
    return parser


def _settle(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """Set each option under its plain name: True or False for a switch, a list or None where it may
    be repeated, else one value or None. Ends the process through `parser.error` where the command
    does not apply an option, or where one has two values.
    """
    command: str = arguments.command or SERVE
    for option in OPTIONS:
        values = _take_values(option.name, arguments)
        settled: Any = values or None
        if values and command not in option.commands:
            shown = f"modelplex {command}".strip()
            parser.error(f"argument {option.flag}: `{shown}` does not apply it")
        if not option.metavar:
            settled = bool(values)
        elif command not in option.repeated_by:
            settled = values[-1] if values else None
            if any(value != settled for value in values):
                parser.error(f"argument {option.flag}: given twice, as {values[0]} and as {settled}")
        setattr(arguments, option.name, settled)


def _take_values(name: str, arguments: argparse.Namespace) -> list[Any]:
    """Remove what all parsers read under this name, in their order; a command's own option of the
    name comes last.
    """
    found = vars(arguments)
    levels = sorted(int(key.partition(LEVEL)[2]) for key in found if key.startswith(f"{name}{LEVEL}"))
    values = [value for level in levels for value in found.pop(f"{name}{LEVEL}{level}")]
    own = found.pop(name, None)
    return values if own is None or own is False else [*values, own]


# --- the parser


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """As wide as the terminal. argparse makes one for each option, and would load shutil with three
    compressors for the width.
    """

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=_terminal_width() - 2)


@cache
def _terminal_width() -> int:
    """As shutil.get_terminal_size has it."""
    columns = os.environ.get("COLUMNS", "")
    if columns.isdecimal() and int(columns):
        return int(columns)
    try:
        return os.get_terminal_size(sys.__stdout__.fileno() if sys.__stdout__ else 1).columns or USUAL_WIDTH
    except (OSError, ValueError):
        return USUAL_WIDTH


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The arguments, with `command` (None to serve). Ends the process where they are wrong."""
    words = sys.argv[1:] if argv is None else argv
    parser = build_parser()
    try:
        arguments = parser.parse_args(words)
        _settle(parser, arguments)
    except _WrongWords as wrong:
        from modelplex.commands.parser_rows import rows_of
        from modelplex.commands.unknown_words import explain

        if (sentence := explain(rows_of(parser), words)) is None:
            wrong.parser.end(str(wrong))
        parser.exit(2, f"modelplex: {sentence}\n")
    return arguments


_COMMON: Final[dict[str, Any]] = {"formatter_class": HelpFormatter, "allow_abbrev": False}


def build_parser() -> Parser:
    levels = count()
    parser = Parser(
        prog="modelplex",
        usage="modelplex [options] [COMMAND ...]",
        description="Serves models and tools to agents, over HTTP and Unix sockets, and keeps the API keys to itself.",
        epilog=_EXAMPLES,
        parents=[_shared(None, next(levels))],
        **_COMMON,
    )
    version = f"modelplex {__version__}"
    parser.add_argument("--version", action="version", version=version, help="print the version and exit")
    parser.set_defaults(command=None)
    # argparse cannot list them in groups: they are hidden, and listed below.
    commands = parser.add_subparsers(dest="command", prog="modelplex", help=argparse.SUPPRESS)
    _add_check(commands, shared=_shared("check", next(levels)))
    mcp_options.add(commands, shared=lambda: _shared("mcp", next(levels)), formatter=HelpFormatter)
    record_options.add(commands, shared=lambda name: _shared(name, next(levels)), formatter=HelpFormatter)
    _add_for_agents(commands)
    setup_options.add(commands, formatter=HelpFormatter)
    for title, words in GROUPS:
        shown = [f"{word:<{LISTED_WIDTH}}{_summary(commands.choices[word])}" for word in words]
        parser.add_argument_group(title, "\n".join(shown))
    return parser


def _add_check(commands: Any, *, shared: Parser) -> None:
    check = commands.add_parser(
        "check",
        help="check the config and show what would be served",
        description="Check the config and show what would be served: listeners, providers in their order, and aliases.",
        epilog=_CHECK_EXAMPLES,
        parents=[shared],
        **_COMMON,
    )
    for flag, text in (
        ("--reach", "request each provider's list of models, and show which ones answer"),
        ("--confine", "confine a process as the gateway does, and show what it can still do"),
        ("--all", "list each agent and each finding, where there are many"),
        ("--strict", "fail for warnings too"),
        ("--json", "print the findings as JSON"),
    ):
        check.add_argument(flag, action="store_true", help=text)


def _add_for_agents(commands: Any) -> None:
    """Commands that start a program, or stand in for one: their own options come before `--`."""
    run = commands.add_parser(
        "run",
        usage="modelplex run [options] -- COMMAND ...",
        help="run a program in a sandbox without a network",
        description="Run a program in a sandbox that reaches the gateway and no network.",
        epilog=run_options.EXAMPLES,
        **_COMMON,
    )
    run_options.add_arguments(run)
    replay = commands.add_parser(
        "replay",
        usage="modelplex replay [options] RUN|FILE -- COMMAND ...",
        help="run a program again on its recorded answers",
        description="Run a program again on its recorded answers: without a provider, a key or a network.",
        epilog=run_options.REPLAY_EXAMPLES,
        **_COMMON,
    )
    run_options.add_arguments(replay, is_replay=True)
    forward = commands.add_parser(
        "bridge",
        usage="modelplex bridge (--socket PATH | --connect ADDRESS) [--listen ADDRESS] [-- COMMAND ...]",
        help="forward a loopback port to a gateway's socket",
        description="Forward a loopback port to a gateway's socket.",
        epilog=_BRIDGE_EXAMPLES,
        **_COMMON,
    )
    bridge.add_arguments(forward)


def _summary(parser: argparse.ArgumentParser) -> str:
    text = (parser.description or "").partition(": ")[0].rstrip(".")
    return text[:1].lower() + text[1:]

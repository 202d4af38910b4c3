"""The command `modelplex`: arguments to a config, and the config to one of the commands.

Imports the commands where they are used, so that `--version` and `--help` answer at once. Faults
are sentences on stderr, not tracebacks. Exit status: 2 where the arguments or the config are wrong,
1 where a valid config could not be served, 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from modelplex import command_options
from modelplex.command_options import DEFAULT_CONFIG
from modelplex.commands import options as record_options
from modelplex.commands import setup_options

if TYPE_CHECKING:
    from modelplex.config import Config
    from modelplex.config.lint.finding import ConfigFinding
    from modelplex.confinement.check import ConfinementCheck
    from modelplex.server.reach import ReachResult
    from modelplex.server.run_control import RunControl

CONFIG_VARIABLE: Final = "MODELPLEX_CONFIG"
"""The environment variable with a file that is read, where it exists, before DEFAULT_CONFIG. The
container image sets it to /config.toml.
"""
RUN_AS_VARIABLE: Final = "MODELPLEX_RUN_AS"
"""The environment variable with the uid:gid that a process of root changes to. The container image
sets it.
"""

LISTENERS: Final = ("http", "socket", "vsock")
"""Options, and the settings of [server] that they replace."""

LISTED_FINDINGS: Final = 5
"""Findings of one code that `check` lists: a config of 500 agents may have 500."""

OK: Final = 0
FAILED: Final = 1
WRONG: Final = 2
INTERRUPTED: Final = 130
"""The status that shells give a process that Ctrl-C ended."""


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status. `argv` has no program name; None takes the process's own."""
    _open_streams()
    arguments = command_options.parse(argv)
    try:
        if os.environ.get(RUN_AS_VARIABLE):
            from modelplex.server.run_as import drop_root

            sockets = list(arguments.socket or ()) if arguments.command is None else []
            drop_root(os.environ[RUN_AS_VARIABLE], sockets=sockets, config=_config_file(arguments))
        return _run(arguments)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has ended (`modelplex check | head`). Python would report it once
        # more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except Exception as error:
        # The outermost loop: the user gets a sentence.
        sentence = getattr(error, "sentence", None)
        if not isinstance(sentence, str):
            if arguments.verbose:
                raise
            sentence = f"{type(error).__name__}: {error} (--verbose shows the traceback)"
        _print_error(sentence)
        return FAILED


def _open_streams() -> None:
    """Open standard streams that are closed, as some supervisors start their children. Otherwise
    their numbers go to the next files opened, such as a socket, and stderr is written into it.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number, which is this one
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: PTH123, SIM115 - as long as the process
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: PTH123, SIM115


def _run(arguments: argparse.Namespace) -> int:
    if arguments.command == "bridge":
        from modelplex.sandbox import bridge

        return bridge.run(arguments)
    if arguments.command in {"run", "replay"}:
        from modelplex.sandbox import run

        return run.run(arguments)
    if arguments.command == "import":
        from modelplex.imports.command import run_foreign

        return run_foreign(arguments)
    if arguments.command == "mcp" and arguments.mcp == "import":
        from modelplex.imports.command import run_mcp

        return run_mcp(arguments, _config_file(arguments) or DEFAULT_CONFIG)
    if arguments.command == "init":
        from modelplex.first_config.command import init

        return init(arguments, check=_check_written)
    if arguments.command in setup_options.NAMES:
        from modelplex.commands import setup

        return setup.run(arguments, command_options.build_parser)
    from modelplex.config import ConfigError

    try:
        if arguments.command in record_options.NAMES:
            return _read_record(arguments)
        config = _with_listeners(_config(arguments), arguments)
    except ConfigError as error:
        if arguments.command == "check" and arguments.json:
            from modelplex.config.lint.finding import findings_of

            _print_json(arguments.config or DEFAULT_CONFIG, findings_of(error.faults), failed=True)
        else:
            _print_error(error.sentence)
        return WRONG
    if arguments.command == "check":
        return _check(config, arguments)
    if arguments.command == "mcp":
        from modelplex.mcp import commands

        return commands.run(arguments, config)
    from modelplex.server import start

    def control() -> RunControl | None:
        from modelplex.server.run_control import control_of_host

        return control_of_host(config, environ=os.environ) if config.server.workers == 1 else None

    return start.run(
        config,
        config_path=None if arguments.no_reload else config.path,
        verbose=arguments.verbose,
        control=control,
    )


def _read_record(arguments: argparse.Namespace) -> int:
    """Raises ConfigError. Without a file the record is in the state folder."""
    from modelplex.commands import record
    from modelplex.config import Config, load

    file = _config_file(arguments)
    config = Config() if file is None else load(file, environ=os.environ)
    if arguments.command == "stop":
        from modelplex.commands.stop import stop

        return stop(arguments, config)
    if arguments.command == "page":
        from modelplex.commands.page import page

        return page(arguments, config)
    return record.run(arguments, config)


def _print_error(sentence: str) -> None:
    sys.stderr.write(f"modelplex: {sentence}\n")


# --- the config


def _config_file(arguments: argparse.Namespace) -> str | None:
    named: str | None = getattr(arguments, "config", None)
    usual = (os.environ.get(CONFIG_VARIABLE, ""), DEFAULT_CONFIG)
    return named if named is not None else next(filter(os.path.lexists, usual), None)


def _config(arguments: argparse.Namespace) -> Config:
    """Of the file, else of what is detected, which is listed on stderr. Raises ConfigError."""
    from modelplex.config import describe, load, load_without_file, provider_types

    file = _config_file(arguments)
    if file is not None:
        return load(file, environ=os.environ)
    config = load_without_file(os.environ)
    found = describe(config, types=provider_types())
    _print_error(f"there is no {DEFAULT_CONFIG} here, so it serves what it detects:")
    sys.stderr.writelines(f"  {line}\n" for line in found)
    return config


def _with_listeners(config: Config, arguments: argparse.Namespace) -> Config:
    """The config with the listeners of the command line. Without --http, a --socket or --vsock
    means no HTTP.
    """
    from msgspec.structs import replace

    given = {name: getattr(arguments, name) for name in LISTENERS}
    listeners = {name: tuple(dict.fromkeys(values)) for name, values in given.items() if values is not None}
    if listeners:
        listeners = {"http": (), **listeners}
    server = replace(config.server, **listeners)
    admin_socket: str | None = getattr(arguments, "admin_socket", None)
    if admin_socket is not None:
        server = replace(server, admin_socket=admin_socket)
    return replace(config, server=server)


# --- check


def _check(config: Config, arguments: argparse.Namespace) -> int:
    """Prints what would be served on stdout and the findings on stderr; with --json the findings
    alone, on stdout. With --reach also which providers answer. Returns the exit status.
    """
    from modelplex.config.lint.checks import lint
    from modelplex.config.summary import summary

    overridden = [f"--{name}" for name in LISTENERS if getattr(arguments, name) is not None]
    findings = lint(config, environ=os.environ, overridden=overridden)
    failed = any(arguments.strict or finding.severity == "error" for finding in findings)
    if not arguments.json:
        sys.stdout.writelines(f"{line}\n" for line in summary(config, whole=arguments.all))
        sys.stdout.flush()
        _print_findings(findings, most=len(findings) if arguments.all else LISTED_FINDINGS)
    confinement: ConfinementCheck | None = None
    if arguments.confine:
        from modelplex.server.confined import check_confinement

        confinement = check_confinement(config)
        failed = failed or not confinement.ok
    results: Sequence[ReachResult] | None = None
    if arguments.reach:
        import asyncio

        from modelplex.server.reach import check_reach

        results = asyncio.run(check_reach(config))
        failed = failed or not all(result.ok for result in results)
    if arguments.json:
        _print_json(config.path, findings, failed=failed, results=results, confinement=confinement)
    else:
        _print_confinement(confinement)
        _print_reach(results)
    return FAILED if failed else OK


def _print_confinement(check: ConfinementCheck | None) -> None:
    if check is None:
        return
    sys.stdout.write(f"confined: {check.confined}\n")
    for each in check.trials:
        sys.stdout.write(f"  {'refused' if each.failed else 'POSSIBLE':9} {each.what}: {each.outcome}\n")


def _print_reach(results: Sequence[ReachResult] | None) -> None:
    if results is None:
        return
    sys.stdout.write("reach:\n")
    for result in results:
        outcome = "ok" if result.ok else "failed" if result.answered else "no answer"
        sys.stdout.write(f"  {result.provider}: {outcome}: {result.sentence}\n")


def _check_written(file: str) -> int:
    """`modelplex check` without options."""
    from modelplex.config import load

    arguments = command_options.parse(["check", "--config", file])
    return _check(load(file, environ=os.environ), arguments)


def _print_findings(findings: Sequence[ConfigFinding], *, most: int) -> None:
    """At most so many of each code."""
    counts: dict[str, int] = {}
    for finding in findings:
        counts[finding.code] = counts.get(finding.code, 0) + 1
        if counts[finding.code] <= most:
            _print_error(str(finding))
    for code, count in counts.items():
        if count > most:
            _print_error(f"and {count - most} more of {code}: `modelplex check --all` lists them")


def _print_json(
    path: str | None,
    findings: Sequence[ConfigFinding],
    *,
    failed: bool,
    results: Sequence[ReachResult] | None = None,
    confinement: ConfinementCheck | None = None,
) -> None:
    """docs/reference/cli.md has the members, which are stable."""
    import json

    from msgspec.structs import asdict

    document: dict[str, object] = {
        "config": path,
        "ok": not failed,
        "findings": [asdict(finding) for finding in findings],
    }
    if results is not None:
        document["reach"] = [
            {"provider": result.provider, "ok": result.ok, "message": result.sentence} for result in results
        ]
    if confinement is not None:
        document["confine"] = {
            "confined": confinement.confined,
            "attempts": [
                {"what": each.what, "refused": each.failed, "message": each.outcome}
                for each in confinement.trials
            ],
        }
    sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False) + "\n")

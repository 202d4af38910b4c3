"""Arguments become a config, and the config goes to one of the commands. Nothing else happens here.

Above it stands `__main__`; below it `config` and `serve`, which are imported where they are used:
`--version` and `--help` answer before anything heavy is loaded. It knows no protocol and no
provider. Faults are sentences on stderr, never tracebacks: 2 where the arguments or the config are
wrong, 1 where a right config could not be served, 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Final, NoReturn, Protocol, TypeAlias

from modelplex import __version__
from modelplex.command_options import SERVE, Option, Parser, Shared
from modelplex.mcp import options as mcp_options

if TYPE_CHECKING:
    from modelplex.config import Config, ProviderConfig
    from modelplex.config.lint import ConfigFinding

DEFAULT_CONFIG: Final = "config.toml"
CONFIG_VARIABLE: Final = "MODELPLEX_CONFIG"
"""The variable that names a file which is read, where it exists, before DEFAULT_CONFIG. The
container image sets it to /config.toml.
"""
RUN_AS_VARIABLE: Final = "MODELPLEX_RUN_AS"
"""The variable that names whom a process of root's becomes, as uid:gid. The container image sets
it.
"""
ALONE: Final = ("run", "bridge")
_LISTENING: Final = frozenset({SERVE, "check"})
"""What the options of listeners are for: the commands that serve, or say what would be served."""

OK: Final = 0
FAILED: Final = 1
WRONG: Final = 2
INTERRUPTED: Final = 130
"""What shells say of a process that Ctrl-C ended."""

_ABOUT: Final = (
    "Serves every model that it is told of, over HTTP and over Unix sockets, and keeps the keys to itself."
)

_EXAMPLES: Final = """\
examples:
  modelplex                                    serve config.toml, or without one what is found here
  modelplex --config team.toml                 serve another config
  modelplex --http ":8080"                     HTTP on port 8080 of localhost
  modelplex --http "0.0.0.0:8080"              HTTP for the whole network: whoever reaches it uses your keys
  modelplex --socket ./modelplex.socket        a Unix socket, and no HTTP
  modelplex --socket ./m.socket --http ":8080" both
  modelplex check --reach                      what would be served, and who answers
"""

_CHECK_EXAMPLES: Final = """\
examples:
  modelplex check                              check config.toml
  modelplex check --config team.toml --reach   check another config, and ask each provider for its models
  modelplex check --strict --json              for a script: warnings fail too, and the findings are JSON

The exit status is 0 where all is well or only warnings are told, 1 where a setting will fail, where --reach found a provider that does not answer, or with --strict
where there is a warning, and 2 where the config cannot be used.
"""


_RUN_EXAMPLES: Final = """\
examples:
  modelplex run -- python agent.py              the folder here is writable, the home is empty, the network is the gateway
  modelplex run --check                         prove it from inside
  modelplex run --rw ~/.codex -- codex          share one more folder
  modelplex run --env GITHUB_TOKEN -- ./task    pass one more variable

The exit status is the program's, 128 and the signal's number where a signal ended it, and 1 where there is no sandbox to be had.
"""

_BRIDGE_EXAMPLES: Final = """\
examples:
  modelplex bridge --socket /socket/modelplex.socket -- codex exec "Write the marker."
  modelplex bridge --socket ./modelplex.socket --listen vsock:11435     on the host of a VM
  modelplex bridge --connect vsock:2:11435                              in the VM
"""


class ProviderCheck(Protocol):
    """Whether one provider answered; the sentence says with what."""

    @property
    def provider(self) -> str: ...

    @property
    def ok(self) -> bool: ...

    @property
    def sentence(self) -> str: ...


Reach: TypeAlias = "Callable[[Config], Awaitable[Sequence[ProviderCheck]]]"
"""Asks each provider of a config for its models."""


def main(argv: Sequence[str] | None = None) -> int:
    """The command `modelplex`; returns its exit status. `argv` leaves out the program's name, None
    takes the process's own.
    """
    _open_streams()
    arguments = _parser().parse_args(argv)
    try:
        if os.environ.get(RUN_AS_VARIABLE):
            from modelplex.server.run_as import drop_root

            drop_root(
                os.environ[RUN_AS_VARIABLE], sockets=_sockets(arguments), config=_config_file(arguments)
            )
        return _alone(arguments) if arguments.command in ALONE else _run(arguments)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone (`modelplex check | head`). Python would complain once
        # more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except Exception as error:
        # The outermost loop: the user gets a sentence.
        if arguments.verbose and not hasattr(error, "sentence"):
            raise
        _complain(_sentence(error))
        return FAILED


def _open_streams() -> None:
    """Some supervisors start their children with streams closed. Their numbers would go to whatever
    is opened next, a socket or the event loop's own, and what is written to stderr would land in
    there.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number, which is this one
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: PTH123, SIM115 - for as long as the process lives
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: PTH123, SIM115


def _alone(arguments: argparse.Namespace) -> int:
    """The commands that need no config here: `run` has a gateway of its own read it, and `bridge`
    knows none.
    """
    if arguments.command == "bridge":
        from modelplex.sandbox import bridge

        return bridge.run(arguments)
    from modelplex.sandbox import run

    return run.run(arguments)


def _run(arguments: argparse.Namespace) -> int:
    from modelplex.config import ConfigError

    try:
        config = with_listeners(
            _config(arguments), http=arguments.http, socket=arguments.socket, vsock=arguments.vsock
        )
    except ConfigError as error:
        if arguments.command == "check" and arguments.json:
            from modelplex.config.lint import of_faults

            _write_json(arguments.config or DEFAULT_CONFIG, of_faults(error.faults), failed=True)
        else:
            _complain(error.sentence)
        return WRONG
    if arguments.command == "check":
        return check(
            config,
            reach=_reach if arguments.reach else None,
            strict=arguments.strict,
            as_json=arguments.json,
            overridden=[
                f"--{name}" for name in ("http", "socket", "vsock") if getattr(arguments, name) is not None
            ],
        )
    if arguments.command == "mcp":
        from modelplex.mcp import commands

        return commands.run(arguments, config)
    from modelplex.server import process

    return process.run(
        config, config_path=None if arguments.no_reload else config.path, verbose=arguments.verbose
    )


# --- arguments ------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    form = argparse.RawDescriptionHelpFormatter
    shared = _shared()
    parser = Parser(
        prog="modelplex",
        description=_ABOUT,
        epilog=_EXAMPLES,
        formatter_class=form,
        parents=[shared.parent(None)],
        allow_abbrev=False,
    )
    parser.shared = shared
    version = f"modelplex {__version__}"
    parser.add_argument("--version", action="version", version=version, help="print the version and exit")
    parser.set_defaults(command=None)
    commands = parser.add_subparsers(
        dest="command",
        metavar="COMMAND",
        title="commands",
        description="Without one, modelplex serves.",
        parser_class=argparse.ArgumentParser,
    )
    checking = commands.add_parser(
        "check",
        help="check the config and say what would be served",
        description="Check the config and say what would be served: where, which providers in which order, and which aliases.",
        epilog=_CHECK_EXAMPLES,
        formatter_class=form,
        parents=[shared.parent("check")],
        allow_abbrev=False,
    )
    checking.add_argument(
        "--reach", action="store_true", help="ask each provider for its models, and say which ones answer"
    )
    checking.add_argument("--strict", action="store_true", help="fail for warnings too")
    checking.add_argument("--json", action="store_true", help="print the findings as JSON")
    mcp_options.add(commands, shared=lambda: shared.parent("mcp"))
    _add_alone(commands.add_parser)
    return parser


def _add_alone(add: Callable[..., argparse.ArgumentParser]) -> None:
    """Their modules say what may stand behind them; what stands before them is applied or refused
    as with every command.
    """
    from modelplex.sandbox import arguments, bridge

    options = {"run": arguments.add_arguments, "bridge": bridge.add_arguments}
    form = argparse.RawDescriptionHelpFormatter
    for name, usage, help_, epilog in (
        (
            "run",
            "modelplex run [options] -- COMMAND ...",
            "run a program that has no network but the gateway",
            _RUN_EXAMPLES,
        ),
        (
            "bridge",
            "modelplex bridge (--socket PATH | --connect PLACE) [--listen PLACE] [-- COMMAND ...]",
            "make a port of the loopback out of a gateway's socket",
            _BRIDGE_EXAMPLES,
        ),
    ):
        parser = add(
            name,
            usage=usage,
            help=help_,
            description=help_[0].upper() + help_[1:] + ".",
            epilog=epilog,
            formatter_class=form,
            allow_abbrev=False,
        )
        options[name](parser)


def _shared() -> Shared:
    """The options that may stand before a command, and the commands that apply them. `run` and
    `bridge` say themselves what theirs mean.
    """
    return Shared(
        [
            Option(
                "--config",
                frozenset({SERVE, "check", "mcp", "run"}),
                {
                    "metavar": "FILE",
                    "type": _path,
                    "help": f"the TOML file with the settings (default: {DEFAULT_CONFIG} where it exists, else keys in the environment, "
                    "an Ollama on its usual port, and the built-in demo provider)",
                },
            ),
            Option(
                "--http",
                _LISTENING,
                {
                    "metavar": "ADDR",
                    "type": _address,
                    "help": 'serve HTTP on this "host:port" instead of the config\'s; ":8080" means localhost; may be repeated '
                    "(default: 127.0.0.1:11435)",
                },
                repeated_by=_LISTENING,
            ),
            Option(
                "--socket",
                _LISTENING | {"run", "bridge"},
                {
                    "metavar": "PATH",
                    "type": _path,
                    "help": "serve on this Unix socket instead of the config's, and on HTTP only where --http is given too; may be repeated",
                },
                repeated_by=_LISTENING,
            ),
            Option(
                "--vsock",
                _LISTENING,
                {
                    "metavar": "PORT",
                    "type": _vsock_port,
                    "help": "serve virtual machines on this port of AF_VSOCK instead of the config's, and on HTTP only where --http is given too; "
                    "may be repeated",
                },
                repeated_by=_LISTENING,
            ),
            Option(
                "--no-reload",
                frozenset({SERVE, "run"}),
                {"help": "keep to the config as it is at the start, whatever becomes of the file"},
                is_switch=True,
            ),
            Option(
                "--verbose",
                frozenset({SERVE, "check", "mcp", "run"}),
                {
                    "help": "log more; request and answer bodies too, where the config's [log] has bodies = true"
                },
                is_switch=True,
            ),
        ]
    )


def _address(written: str) -> str:
    from modelplex.config import default_host, http_address

    try:
        return http_address(written, host=default_host(os.environ))
    except ValueError as error:
        _refuse(f'"{written}" is not an address: {error}')


def _path(written: str) -> str:
    return written or _refuse("it names no file")


def _vsock_port(written: str) -> int:
    from modelplex.config.agents import MOST_VSOCK_PORT

    if not (written.isascii() and written.isdigit() and 0 < int(written) <= MOST_VSOCK_PORT):
        _refuse(f'"{written}" is no port: a number from 1 to {MOST_VSOCK_PORT}')
    return int(written)


def _refuse(reason: object) -> NoReturn:
    raise argparse.ArgumentTypeError(str(reason))


# --- the config -----------------------------------------------------------------------------------


def _config_file(arguments: argparse.Namespace) -> str | None:
    named: str | None = getattr(arguments, "config", None)
    usual = (os.environ.get(CONFIG_VARIABLE, ""), DEFAULT_CONFIG)
    return named if named is not None else next(filter(os.path.lexists, usual), None)


def _sockets(arguments: argparse.Namespace) -> list[str]:
    """The sockets that the command line has the gateway serve."""
    return list(arguments.socket or ()) if arguments.command is None else []


def _config(arguments: argparse.Namespace) -> Config:
    """What --config names, else config.toml, else what is found, which is then said on stderr.
    Raises ConfigError.
    """
    from modelplex.config import describe, load, load_without_file, provider_types

    file = _config_file(arguments)
    if file is not None:
        return load(file, environ=os.environ)
    config = load_without_file(os.environ)
    found = describe(config, types=provider_types())
    _complain(f"there is no {DEFAULT_CONFIG} here, so it serves what it finds:")
    sys.stderr.writelines(f"  {line}\n" for line in found)
    return config


def with_listeners(
    config: Config,
    *,
    http: Sequence[str] | None,
    socket: Sequence[str] | None,
    vsock: Sequence[int] | None = None,
) -> Config:
    """The config with what the command line says of listeners. A socket alone means no HTTP; what
    is not named stays as configured.
    """
    from msgspec.structs import replace

    server = config.server
    if socket is not None:
        server = replace(server, socket=_once(socket), http=())
    if vsock is not None:
        server = replace(server, vsock=tuple(dict.fromkeys(vsock)), http=())
    if http is not None:
        server = replace(server, http=_once(http))
    return replace(config, server=server)


def _once(words: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(words))


# --- check ----------------------------------------------------------------------------------------


def check(
    config: Config,
    *,
    reach: Reach | None,
    strict: bool = False,
    as_json: bool = False,
    overridden: Sequence[str] = (),
) -> int:
    """Says on stdout what would be served, and on stderr what is wrong with it; with `as_json` the
    findings alone, on stdout. With `reach`, which asks each provider for its models, also who
    answers. `overridden` are options that replaced settings of the file. Returns the exit status.
    """
    from modelplex.config.lint import lint

    findings = lint(config, environ=os.environ, overridden=overridden)
    failed = any(strict or finding.severity == "error" for finding in findings)
    if not as_json:
        sys.stdout.writelines(f"{line}\n" for line in served(config))
        sys.stdout.flush()
        for finding in findings:
            _complain(str(finding))
    results: Sequence[ProviderCheck] | None = None
    if reach is not None:
        import asyncio

        results = asyncio.run(_all(reach, config))
        failed = failed or not all(result.ok for result in results)
    if as_json:
        _write_json(config.path, findings, failed=failed, results=results)
    elif results is not None:
        sys.stdout.write("reach:\n")
        for result in results:
            sys.stdout.write(f"  {result.provider}: {_word(result)}: {result.sentence}\n")
    return FAILED if failed else OK


def _word(result: ProviderCheck) -> str:
    """One that answered with an error did answer."""
    return "ok" if result.ok else "failed" if getattr(result, "answered", False) else "no answer"


def _write_json(
    path: str | None,
    findings: Sequence[ConfigFinding],
    *,
    failed: bool,
    results: Sequence[ProviderCheck] | None = None,
) -> None:
    """The form is in docs/reference/cli.md; its members stay."""
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
    sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False) + "\n")


async def _all(reach: Reach, config: Config) -> Sequence[ProviderCheck]:
    return await reach(config)


async def _reach(config: Config) -> Sequence[ProviderCheck]:
    from modelplex.server.reach import check_reach

    return await check_reach(config)


def served(config: Config) -> list[str]:
    """What a config comes to, a line each; free of secrets."""
    from modelplex.config import callers_summary as callers
    from modelplex.config import tools

    lines = [f"config: {config.path or 'none'}", "listens on:"]
    lines += [f"  http://{address}" for address in config.server.http]
    lines += [f"  {path} (a Unix socket, mode {config.server.socket_mode})" for path in config.server.socket]
    lines += [f"  {words}" for words in callers.agents_sockets(config)]
    lines += [f"  vsock:{port} (AF_VSOCK, for virtual machines)" for port in config.server.vsock]
    lines.append("providers, in the order in which they are tried:")
    lines += [
        f"  {_provider(provider)}" for provider in sorted(config.providers, key=lambda one: one.priority)
    ]
    if config.aliases:
        lines.append("aliases:")
        lines += [f"  {name} -> {', '.join(targets)}" for name, targets in config.aliases.items()]
    lines += _redirected(config)
    lines += ["policy:", *(f"  {words}" for words in callers.policies(config))]
    if config.agents:
        lines += ["agents:", *(f"  {callers.agent(each, config)}" for each in config.agents)]
    if config.mcp.enabled:
        lines += tools.described(config.mcp)
    return lines


def _redirected(config: Config) -> list[str]:
    """Models whose own name means another provider, as far as the config names models."""
    from modelplex.pipeline.model_catalog import directory_of
    from modelplex.routing.aliases import shadowed_models

    found = shadowed_models(directory_of(config))
    lines = ["asked for by another name, since their own means another provider:"] if found else []
    return lines + [f"  {c.provider}'s {c.model}: ask for {name}" for c, name in found]


def _provider(provider: ProviderConfig) -> str:
    keys = {0: "no key", 1: "1 key"}.get(len(provider.api_key), f"{len(provider.api_key)} keys")
    models = ", ".join(provider.models) or "all that it lists"
    where = f" at {provider.base_url}" if provider.base_url else ""
    return f"{provider.name} ({provider.type}){where}: priority {provider.priority}, {keys}, models: {models}"


# --- what the user sees ---------------------------------------------------------------------------


def _sentence(error: Exception) -> str:
    """What an error has to say for itself; of one that nobody foresaw, also its kind."""
    sentence = getattr(error, "sentence", None)
    return (
        sentence if isinstance(sentence, str) else f"{type(error).__name__}: {error} (--verbose shows where)"
    )


def _complain(sentence: str) -> None:
    sys.stderr.write(f"modelplex: {sentence}\n")

"""The gateway that `modelplex run` starts: serves runs of a config, or of one of its agents.

Runs as a process of its own. The run that starts it has the other end of its standard input, and
others may attach at --runs PATH: see server/run_control.py. It ends with the last of them.
"""

# A socket may be a link, which is not followed.
# ruff: noqa: PTH100
from __future__ import annotations

import argparse
import os
import socket
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from modelplex.config import Config
    from modelplex.server.run_control import RunControl

WRONG: Final = 2


def config_for_runs(
    config: Config, *, agent: str | None, socket: str | None = None, admin_socket: str | None = None
) -> Config:
    """The config without its listeners, but for the `socket` of the agent, where it has one there;
    and with an admin socket for the host. An agent that is not in the config any more has none.
    """
    from msgspec.structs import replace

    server = replace(config.server, http=(), socket=(), vsock=(), admin_socket=admin_socket)
    mcp = replace(config.mcp, stdio_socket=None)
    if agent is None:
        return replace(config, server=server, mcp=mcp)
    agents = tuple(
        each if _is_same(each.socket, socket) else replace(each, socket=None)
        for each in config.agents
        if each.name == agent
    )
    return replace(config, server=server, agents=agents, mcp=mcp)


def _is_same(path: str | None, other: str | None) -> bool:
    """Whether both are one path, which may be relative in a config."""
    return path is not None and other is not None and os.path.abspath(path) == os.path.abspath(other)


def main(argv: list[str]) -> int:
    from modelplex.config import ConfigError
    from modelplex.config.recordings import ReplayPlan, with_recording
    from modelplex.server import start

    arguments = _parse(argv)
    replay: ReplayPlan | None = None
    if arguments.replay is not None:
        import msgspec

        replay = msgspec.json.decode(arguments.replay, type=ReplayPlan)

    def adapt(config: Config) -> Config:
        if replay is not None:
            config = with_recording(config, replay)
        return config_for_runs(
            config, agent=arguments.agent, socket=arguments.socket, admin_socket=arguments.admin_socket
        )

    def control() -> RunControl:
        from modelplex.server.run_control import RunControl  # the launcher is forked before

        return RunControl(arguments.runs, first=socket.socket(fileno=os.dup(0)))

    try:
        config = adapt(_load(arguments.config, is_replay=replay is not None))
    except ConfigError as error:
        sys.stderr.write(f"modelplex: {error.sentence}\n")
        return WRONG
    try:
        return start.run(
            config,
            config_path=None if arguments.no_reload else config.path,
            verbose=arguments.verbose,
            adapt=adapt,
            control=control,
            is_of_runs=True,
        )
    except Exception as error:
        # The outermost loop: the user gets a sentence.
        if arguments.verbose and not hasattr(error, "sentence"):
            raise
        sys.stderr.write(f"modelplex: {getattr(error, 'sentence', repr(error))}\n")
        return 1


def _load(file: str | None, *, is_replay: bool) -> Config:
    """Without a file what is found is served, or the recording alone. Raises ConfigError."""
    from modelplex.config import load, load_without_file
    from modelplex.config.settings import Config

    if file is not None:
        return load(file, environ=os.environ)
    return Config() if is_replay else load_without_file(os.environ)


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="modelplex.sandbox.gateway", allow_abbrev=False)
    for name in ("--config", "--agent", "--socket", "--runs", "--admin-socket", "--replay"):
        parser.add_argument(name)
    for name in ("--no-reload", "--verbose"):
        parser.add_argument(name, action="store_true")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

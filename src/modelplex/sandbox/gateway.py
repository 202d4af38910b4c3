"""The gateway that `modelplex run` starts: serves a config, or one of its agents, on one socket.

Runs as a process of its own. With --uses it is shared by the runs of an agent, and ends with the
last one. A run uses it through its standard input, whose other end the run that started it holds,
or through a connection to the socket PATH.runs beside the agent's. A use begins with one byte from
here, and ends when its holder shuts its side down or exits; the last byte then says whether other
uses remain.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from modelplex.config import Config
    from modelplex.server.socket_file import SocketFile

WRONG: Final = 2
RUNS: Final = ".runs"
"""The suffix of the socket of the uses."""
BEGAN, MORE, LAST = b"U", b"M", b"L"
PRIVATE_MODE: Final = "0600"


class RunUses:
    """Counts the runs that use this gateway."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._count = 0
        self._over = asyncio.Event()
        self._file: SocketFile | None = None
        self._server: asyncio.Server | None = None
        self._first: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<RunUses {self._count} at {self._path}>"

    async def open(self) -> None:
        """Count the first use, and accept others. Raises ListenError."""
        from modelplex.server.address import Unix
        from modelplex.server.socket_file import NO_CLEANUP, claim

        self._count = 1
        self._file = claim(Unix(self._path, mode=int(PRIVATE_MODE, 8)))
        self._server = await asyncio.start_unix_server(self._use, sock=self._file.socket, **NO_CLEANUP)
        self._file.publish()
        reader, writer = await asyncio.open_unix_connection(sock=socket.socket(fileno=os.dup(0)))
        self._first = asyncio.create_task(self._hold(reader, writer))

    async def wait_until_unused(self) -> None:
        await self._over.wait()

    async def close(self) -> None:
        if self._first is not None:
            self._first.cancel()
        if self._server is not None:
            self._server.close()
        if self._file is not None:
            self._file.remove()
            self._file.release()

    async def _use(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._over.is_set():
            writer.close()
            return
        self._count += 1
        await self._hold(reader, writer)

    async def _hold(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Until the holder ends its use."""
        with suppress(OSError):
            writer.write(BEGAN)
            while await reader.read(1):
                pass
        self._count -= 1
        if self._count == 0:
            self._over.set()
            if self._server is not None:
                self._server.close()
        with suppress(OSError):
            writer.write(MORE if self._count else LAST)
            writer.close()


def config_for_socket(
    config: Config, socket: str, *, agent: str | None, admin_socket: str | None = None
) -> Config:
    """The config with this socket as its only listener: the agent's, or without an agent; and with
    an admin socket for the host.

    An agent that is not in the config any more has no listener. At another path than the agent's
    own the socket is for this user only.
    """
    from msgspec.structs import replace

    sockets = () if agent else (socket,)
    server = replace(config.server, http=(), socket=sockets, vsock=(), admin_socket=admin_socket)
    mcp = replace(config.mcp, stdio_socket=None)
    if agent is None:
        return replace(config, server=server, mcp=mcp)
    found = next((each for each in config.agents if each.name == agent), None)
    if found is not None and found.socket != socket:
        server = replace(server, socket_group=None)
        found = replace(found, socket=socket, socket_mode=PRIVATE_MODE, socket_group=None)
    return replace(config, server=server, agents=() if found is None else (found,), mcp=mcp)


def main(argv: list[str]) -> int:
    from modelplex.config import ConfigError, load
    from modelplex.config.recordings import ReplayPlan, with_recording
    from modelplex.config.settings import Config
    from modelplex.server import process

    arguments = _parse(argv)
    replay: ReplayPlan | None = None
    if arguments.replay is not None:
        import msgspec

        replay = msgspec.json.decode(arguments.replay, type=ReplayPlan)

    def adapt(config: Config) -> Config:
        if replay is not None:
            config = with_recording(config, replay)
        return config_for_socket(
            config, arguments.socket, agent=arguments.agent, admin_socket=arguments.admin_socket
        )

    try:
        config = Config() if arguments.config is None else load(arguments.config, environ=os.environ)
        config = adapt(config)
    except ConfigError as error:
        sys.stderr.write(f"modelplex: {error.sentence}\n")
        return WRONG
    try:
        return process.run(
            config,
            config_path=None if arguments.no_reload else config.path,
            verbose=arguments.verbose,
            adapt=adapt,
            uses=RunUses(arguments.uses) if arguments.uses is not None else None,
        )
    except Exception as error:
        # The outermost loop: the user gets a sentence.
        if arguments.verbose and not hasattr(error, "sentence"):
            raise
        sys.stderr.write(f"modelplex: {getattr(error, 'sentence', repr(error))}\n")
        return 1


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="modelplex.sandbox.gateway", allow_abbrev=False)
    parser.add_argument("--socket", required=True)
    for name in ("--config", "--agent", "--uses", "--admin-socket", "--replay"):
        parser.add_argument(name)
    for name in ("--no-reload", "--verbose"):
        parser.add_argument(name, action="store_true")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

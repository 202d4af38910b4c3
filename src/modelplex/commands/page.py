"""`modelplex page`: the page of a gateway that listens on sockets only, for a browser of this host.

A browser cannot open a Unix socket. The command listens on a port of the loopback, passes what
comes there to the gateway's admin socket as it is, and prints the link with the token. It ends with
the gateway, or with Ctrl-C. The page needs its token here as everywhere.
"""

from __future__ import annotations

import asyncio
import http.client
import os
import sys
from argparse import Namespace
from contextlib import closing, suppress
from typing import Final

import msgspec

from modelplex.commands.record import OK, WRONG, fail
from modelplex.commands.text import line
from modelplex.config import Config
from modelplex.config.run_sockets import is_listening, run_of_socket, run_sockets
from modelplex.server.operator_page import kept_token, page_links, reachable

HOST: Final = "127.0.0.1"
CONNECTIONS: Final = 64
"""At once; a browser opens six."""
PIECE: Final = 65_536
"""Bytes that are read at once."""
HEALTH_S: Final = 2.0
"""Seconds to wait for a gateway at an HTTP address."""
GONE: Final = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class _Gateway(msgspec.Struct, frozen=True):
    """One that runs: its page is at `address`, or behind the admin socket `path`. `named` is how it
    is chosen.
    """

    named: str
    address: str = ""
    path: str = ""


def page(arguments: Namespace, config: Config) -> int:
    """Returns the exit status: 2 where it is not clear which gateway is meant."""
    if arguments.at is not None:
        found = [_Gateway("", path=os.path.abspath(arguments.at))]  # noqa: PTH100 - a path may be a link
    else:
        found = _runs() if arguments.run is not None else [*_own(config), *_runs()]
    if arguments.run is not None and arguments.at is None:
        found = [each for each in found if each.named.endswith(f" {arguments.run}")]
    if not found:
        what = f"the gateway of {line(arguments.run)} does not run" if arguments.run else "no gateway runs"
        return fail(f"{what}; --at names the admin socket of another one.")
    if len(found) > 1:
        return fail(f"several gateways run: {', '.join(each.named for each in found)}.", WRONG)
    token = "" if config.server.internal_token is not None else kept_token(config)
    (gateway,) = found
    if gateway.address:
        _print_link(gateway.address, token)
        return OK
    if not is_listening(gateway.path):
        return fail(f"no gateway listens on {line(gateway.path)}.")
    try:
        asyncio.run(PageRelay(gateway.path).serve(arguments.port, token))
    except OSError as error:
        return fail(f"port {arguments.port} cannot be used: {error.strerror or error}.")
    return OK


def _runs() -> list[_Gateway]:
    found = ((run_of_socket(path), path) for path in run_sockets(os.environ) if is_listening(path))
    return [_Gateway(f"modelplex page {name}", path=path) for name, path in found]


def _own(config: Config) -> list[_Gateway]:
    """The config's, where it listens."""
    for address in config.server.http[:1]:
        base = reachable(f"http://{address}")
        connection = http.client.HTTPConnection(base.removeprefix("http://"), timeout=HEALTH_S)
        with suppress(OSError, http.client.HTTPException), closing(connection):
            connection.request("GET", "/health")
            if b"modelplex" in connection.getresponse().read(PIECE):
                return [_Gateway(base, address=base)]
    if config.server.admin_socket is not None:
        path = os.path.abspath(config.server.admin_socket)  # noqa: PTH100 - a path may be a link
        if is_listening(path):
            return [_Gateway(f"modelplex page --at {path}", path=path)]
    return []


def _print_link(address: str, token: str) -> None:
    for link in page_links([address], token=token):
        sys.stdout.write(f"Page: {link}\n")
    sys.stdout.flush()


class PageRelay:
    """Passes connections to the socket at `path`, until it has no listener any more."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._tasks: set[asyncio.Task[None]] = set()
        self._ended = asyncio.Event()
        self.port = 0
        """Set once it listens."""

    def __repr__(self) -> str:
        return f"<PageRelay {self.port} to {self._path}, {len(self._tasks)} open>"

    async def serve(self, port: int, token: str) -> None:
        """Raises OSError where the port cannot be used."""
        server = await asyncio.start_server(self._connected, HOST, port, limit=PIECE)
        async with server:
            self.port = server.sockets[0].getsockname()[1]
            _print_link(f"http://{HOST}:{self.port}", token)
            try:
                await self._ended.wait()
            finally:
                for task in self._tasks:
                    task.cancel()

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._tasks) >= CONNECTIONS:
            writer.close()
            return
        task = asyncio.create_task(self._pass(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError), closing(writer):
            try:
                from_gateway, to_gateway = await asyncio.open_unix_connection(self._path, limit=PIECE)
            except OSError:
                await reader.read(PIECE)  # what is not read would reset the connection
                writer.write(GONE)
                writer.close()
                await writer.wait_closed()
                self._ended.set()
                return
            with closing(to_gateway):
                await asyncio.gather(_copy(reader, to_gateway), _copy(from_gateway, writer))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Until its end, which is passed on too. Raises OSError."""
    while piece := await reader.read(PIECE):
        writer.write(piece)
        await writer.drain()
    writer.write_eof()

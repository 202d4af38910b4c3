"""A Unix socket for clients that speak in lines, with a file that is made and removed as those of HTTP are.

Above it `serve.py` of the process; below it `socket_file`. What is said on a connection is not its business: it gives each to `serve`, with who is at its other end.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

from modelplex.caller import Caller
from modelplex.listen.address import Unix
from modelplex.listen.socket_file import BACKLOG, SocketFile, claim

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter, Caller], Awaitable[None]]
Meet = Callable[[socket.socket, str], Caller | None]
"""Who is at the other end, from the accepted socket and the listener's name; None for somebody who may not be here."""


class LineListener:
    """One listening socket. `shut` takes no new connection; the open ones are ended by who serves them."""

    def __init__(self, file: SocketFile) -> None:
        self._file = file
        self._server: asyncio.Server | None = None

    def __repr__(self) -> str:
        return f"<LineListener {self._file!r}>"

    @property
    def address(self) -> str:
        return self._file.address.name

    async def start(self, serve: Serve, meet: Meet, *, limit: int) -> None:
        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            caller = meet(writer.get_extra_info("socket"), self.address)
            if caller is None:
                writer.close()
                return
            await serve(reader, writer, caller)

        self._server = await asyncio.start_unix_server(
            connected, sock=self._file.socket, limit=limit, backlog=BACKLOG
        )
        self._file.publish()

    def shut(self) -> None:
        """The file first, so that nobody finds a socket that refuses; its lock last. Safe to call twice."""
        self._file.remove()
        if self._server is not None:
            self._server.close()
        else:
            self._file.socket.close()
        self._file.release()


async def listen_lines(address: Unix, serve: Serve, meet: Meet, *, limit: int) -> LineListener:
    """Serve at this path. `limit` is a line's length in bytes. Raises ListenError with a sentence."""
    listener = LineListener(claim(address))
    try:
        await listener.start(serve, meet, limit=limit)
    except BaseException:
        listener.shut()
        raise
    return listener

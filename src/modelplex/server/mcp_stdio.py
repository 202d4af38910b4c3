"""The `[mcp] stdio_socket`: its file, its connections and their callers. mcp/clients/stdio reads
the lines. A stock client connects with `socat - UNIX-CONNECT:PATH`.
"""

from __future__ import annotations

import asyncio

import msgspec

from modelplex.core.errors import PolicyDenied
from modelplex.mcp.clients.stdio import PIECE, StdioConnections
from modelplex.mcp.constants import INTERNAL_ERROR, McpReply
from modelplex.server.admission import BodyMemory, Reservation
from modelplex.server.callers import CallerResolver, share_owner
from modelplex.server.connection_shares import ConnectionShares, ShareRefused
from modelplex.server.listeners import BoundSocket
from modelplex.server.socket_file import NO_CLEANUP


class McpStdioListener:
    """One such socket. Callers are checked as on every other socket. Its connections count for
    their callers' shares, and are never idle.
    """

    def __init__(
        self,
        bound: BoundSocket,
        lines: StdioConnections,
        *,
        callers: CallerResolver,
        shares: ConnectionShares,
        bodies: BodyMemory,
    ) -> None:
        self.lines = lines
        self._shares = shares
        self._bodies = bodies
        self._callers = callers
        self._bound = bound

    def __repr__(self) -> str:
        return f"<McpStdioListener on {self._bound.address.name}: {self.lines!r}>"

    async def open(self) -> None:
        """Serve connections."""
        loop = asyncio.get_running_loop()

        def accept() -> asyncio.StreamReaderProtocol:
            return asyncio.StreamReaderProtocol(
                asyncio.StreamReader(PIECE, loop=loop), self._serve, loop=loop
            )

        self._bound.server = await loop.create_unix_server(accept, sock=self._bound.socket, **NO_CLEANUP)
        self._bound.publish()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = self._callers.identify(
            writer.get_extra_info("socket"),
            listener=self._bound.address.name,
            kind="unix",
        )
        try:
            caller = self._callers.resolve(client, ())
        except PolicyDenied as denied:
            _refuse(writer, denied.message, reason="policy")
            return
        place = self._shares.enter(
            share_owner(client.caller), listener=self._bound.address.name, over_http=False
        )
        if isinstance(place, ShareRefused):
            _refuse(writer, place.message, reason="limit")
            return
        try:
            await self.lines.serve(
                reader, writer, caller, reserve=lambda: Reservation(self._bodies, caller.owner)
            )
        finally:
            self._shares.leave(place)

    async def close(self) -> None:
        self._bound.close()
        await self.lines.close()


def _refuse(writer: asyncio.StreamWriter, sentence: str, *, reason: str) -> None:
    refused = McpReply.failed(INTERNAL_ERROR, sentence, {"reason": reason})
    writer.write(msgspec.json.encode(refused.message(None)) + b"\n")
    writer.close()

"""A response: status, headers, and a body that the caller reads."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from modelplex.http_client.errors import ResponseTooLarge, SendError, closed_early

if TYPE_CHECKING:
    from modelplex.http_client.connection import UpstreamConnection


class HttpResponse:
    """Read it to its end or `close()` it, to release the connection."""

    __slots__ = ("_by_name", "_connection", "_fault", "headers", "status")

    def __init__(
        self, connection: UpstreamConnection, *, status: int, headers: list[tuple[bytes, bytes]]
    ) -> None:
        self.status = status
        self.headers = headers
        self._by_name: dict[bytes, bytes] | None = None
        self._connection: UpstreamConnection | None = connection
        self._fault: SendError | None = None

    def header(self, name: bytes) -> bytes | None:
        """The first value of a header. `name` in lower case."""
        found = self._by_name
        if found is None:
            found = self._by_name = dict(reversed(self.headers))  # the first of a name comes last
        return found.get(name)

    async def chunk(self) -> bytes | None:
        """The body bytes received so far, or the next ones; b"" at a clean end and from then on;
        None after a `nudge`.

        Raises:
            ConnectionCut: the connection ended before the body. Received bytes are returned first.
            TimedOut: nothing was received for `Timeouts.idle` seconds.
            BadResponse: the chunked framing is invalid.
        """
        connection = self._connection
        if connection is None:
            if self._fault is not None:
                raise self._fault
            return b""
        chunks = connection.chunks
        if not connection.is_ready():
            nudged, connection.nudged = connection.nudged, False
            await connection.wait(None if nudged else connection.timeouts.idle)
            if not connection.is_ready():
                return None
        if chunks:
            data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
            connection.mark_read()
            if connection.complete:
                self._connection = None
                connection.release()
            return data
        self._connection = None
        if connection.complete:
            connection.release()
            return b""
        self._fault = connection.fault or closed_early(connection.origin)
        raise self._fault

    async def deliver(self, take: Callable[[bytes], bool]) -> bool:
        """Call `take` with the body bytes as they arrive, within the callback of the connection.
        Returns True after a `nudge`; False when `take` returns False, and where `chunk` returns or
        raises the next at once: at the end, at a fault, and if bytes are waiting already.
        """
        connection = self._connection
        if connection is None or connection.is_ready():
            return False
        connection.deliver = take
        try:
            await connection.wait(connection.timeouts.idle)
        finally:
            connection.deliver = None
            nudged, connection.nudged = connection.nudged, False
        return nudged and not connection.is_ready()

    async def body(self, *, limit: int) -> bytes:
        """The rest of the body.

        Raises:
            ResponseTooLarge: it has more than `limit` bytes. The connection is aborted.
            ConnectionCut, TimedOut, BadResponse: as `chunk`.
        """
        connection = self._connection
        if connection is not None:
            while not connection.complete and connection.fault is None and connection.buffered <= limit:
                connection.limit = limit
                connection.resume_reading()
                try:
                    await connection.wait(connection.timeouts.idle)
                finally:
                    connection.limit = 0
                connection.nudged = False
            if connection.buffered > limit:
                self.close()
                raise ResponseTooLarge(
                    f"The response is larger than the limit of {limit} bytes.", limit=limit
                )
            if connection.complete:
                chunks = connection.chunks
                body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
                connection.mark_read()
                self._connection = None
                connection.release()
                return body
            connection.mark_read()  # the bytes before a fault are no body
        return await self.chunk() or b""

    def nudge(self) -> None:
        """Wake the task that waits in `chunk`: it gets None. Does not extend the timeout."""
        connection = self._connection
        if connection is not None and connection.waiter is not None:
            connection.nudged = True
            connection.wake()

    def close(self) -> None:
        """Return the connection to the pool if the response was received whole, else abort it.
        Idempotent.
        """
        connection = self._connection
        if connection is None:
            return
        self._connection = None
        self._fault = closed_early(connection.origin)
        if connection.complete:
            connection.mark_read()
            connection.release()
        else:
            connection.fail(self._fault)

    def __repr__(self) -> str:
        return f"<HttpResponse {self.status} {self._connection or 'ended'}>"

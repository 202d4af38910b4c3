"""A scripted HTTP server on a real socket, and requests to it."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import trustme

from modelplex.http_client import HttpClient, HttpResponse, Origin, Timeouts

BOUND = 20.0  # seconds for a whole scenario: far above what any takes
SOON = 0.05  # a timeout that is meant to expire
KEY = b"sk-this-must-never-be-shown"
HEADERS = ((b"authorization", b"Bearer " + KEY), (b"accept-encoding", b"identity"))
PATIENT = Timeouts(connect=60.0, first_byte=60.0, idle=60.0)  # beyond BOUND: a wait that expires late fails
SHORT = Timeouts(connect=60.0, first_byte=SOON, idle=SOON)

OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\nt: u\r\n\r\n"
TO_THE_END = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nhello"

Run = Callable[[Callable[[], Coroutine[Any, Any, None]]], None]
Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter, int], Awaitable[None]]


class Upstream:
    """Runs a script for each connection. The script gets the number of the connection, from 1."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.connections = 0
        self.hung_up = 0
        self.origin = Origin(host="127.0.0.1", port=0, tls=False)
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self.script(reader, writer, self.connections)
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            self.hung_up += 1
        except asyncio.CancelledError:
            pass
        finally:
            writer.transport.abort()

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)


@contextlib.asynccontextmanager
async def upstream(
    script: Script, *, tls: ssl.SSLContext | None = None, unix: Path | None = None
) -> AsyncGenerator[Upstream]:
    served = Upstream(script)
    if unix is not None:
        server = await asyncio.start_unix_server(served.serve, unix)
        served.origin = Origin(host="localhost", port=80, tls=False, unix=str(unix))
    else:
        server = await asyncio.start_server(served.serve, "127.0.0.1", 0, ssl=tls)
        port: int = server.sockets[0].getsockname()[1]
        served.origin = Origin(host="127.0.0.1", port=port, tls=tls is not None)
    try:
        yield served
    finally:
        server.close()
        await served.stop()


@contextlib.asynccontextmanager
async def client(**settings: Any) -> AsyncGenerator[HttpClient]:
    made = HttpClient(**settings)
    try:
        yield made
    finally:
        await made.aclose()


async def read_request(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    _, _, rest = head.lower().partition(b"content-length:")
    return head, await reader.readexactly(int(rest.split(b"\r\n")[0])) if rest else b""


def respond_with(*responses: bytes) -> Script:
    """Send these responses to the requests of each connection in turn, the last one repeatedly."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        served = 0
        while True:
            await read_request(reader)
            writer.write(responses[min(served, len(responses) - 1)])
            served += 1

    return script


def respond_then_close(response: bytes) -> Script:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        await read_request(reader)
        writer.write(response)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    return script


async def send(
    pool: HttpClient,
    origin: Origin,
    *,
    method: bytes = b"POST",
    body: bytes = b"{}",
    timeouts: Timeouts = PATIENT,
) -> HttpResponse:
    return await pool.send(
        origin, method=method, target=b"/v1/x", headers=HEADERS, body=body, timeouts=timeouts
    )


async def fetch(
    pool: HttpClient, origin: Origin, *, method: bytes = b"POST", timeouts: Timeouts = PATIENT
) -> bytes:
    response = await send(pool, origin, method=method, timeouts=timeouts)
    return await response.body(limit=1 << 20)


async def until(condition: Callable[[], bool]) -> None:
    """Wait until the condition holds. The limit is the scenario's BOUND."""
    while not condition():
        await asyncio.sleep(0.001)


def counts(pool: HttpClient) -> tuple[int, int]:
    """(open, idle) connections of all origins."""
    pools = pool._pools.values()
    return sum(len(p.open) for p in pools), sum(len(p.idle) for p in pools)


def only_connection(pool: HttpClient) -> Any:
    (connection,) = next(iter(pool._pools.values())).open
    return connection


def server_context(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(*names).configure_cert(context)  # pyright: ignore[reportUnknownMemberType]
    return context


def tls_origin(
    origin: Origin, ca_file: str | None, *, host: str = "127.0.0.1", verify: bool = True
) -> Origin:
    return Origin(host=host, port=origin.port, tls=True, ca_file=ca_file, verify=verify)

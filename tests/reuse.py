"""A client that keeps one connection and compares raw bytes, and a gateway that reuses nothing.

What the gateway reuses of earlier requests, and what it depends on, is in
docs/decisions/0024-calls-within-callbacks.md.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self

import msgspec
import pytest

from modelplex.http_client import HttpResponse
from modelplex.pipeline import upstream
from modelplex.pipeline.candidates import CandidateSelection
from modelplex.pipeline.missing_endpoints import MissingEndpoints
from modelplex.records.metrics import Metrics
from modelplex.records.record import Record, Times
from modelplex.server import response_headers
from modelplex.server.http_exchange import App, HttpExchange
from modelplex.server.planned_call import PlannedCall
from modelplex.server.request_head import KnownHeads
from tests.processes import WAIT_S, Address, connect, request

JSON = "content-type: application/json"


def post(target: str, body: bytes, *, headers: Sequence[str] = (JSON,)) -> bytes:
    """A POST that leaves the connection open."""
    rows = ["host: localhost", *headers, f"content-length: {len(body)}"]
    return "\r\n".join([f"POST {target} HTTP/1.1", *rows, "", ""]).encode("latin-1") + body


def get(target: str, *, headers: Sequence[str] = ()) -> bytes:
    return request("GET", target, headers=headers, close=False)


@dataclass(frozen=True)
class Response:
    """One response: the bytes of its head, and its body without the framing of chunks."""

    head: bytes
    body: bytes
    is_whole: bool = True

    @property
    def status(self) -> int:
        return int(self.head.split(b" ", 2)[1])

    def header(self, name: str) -> str:
        """Its value, "" where the response has none."""
        found = re.search(rf"(?mi)^{name}: ([^\r]*)".encode(), self.head)
        return "" if found is None else found[1].decode("latin-1")


class Kept:
    """A client with one connection, which it opens again where the gateway has closed it."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.reader = asyncio.StreamReader()
        self.writer: asyncio.StreamWriter | None = None
        self.opened = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def send(self, data: bytes) -> Response:
        async with asyncio.timeout(WAIT_S):
            if self.writer is None or self.writer.is_closing() or self.reader.at_eof():
                await self.close()
                self.reader, self.writer = await connect(self.address)
                self.opened += 1
            self.writer.write(data)
            await self.writer.drain()
            return await self._read()

    async def _read(self) -> Response:
        head = await self.reader.readuntil(b"\r\n\r\n")
        body = b""
        try:
            if b"\r\ntransfer-encoding: chunked\r\n" not in head:
                length = re.search(rb"\r\ncontent-length: (\d+)", head)
                assert length is not None, head
                body = await self.reader.readexactly(int(length[1]))
            else:
                while size := int(await self.reader.readline(), 16):
                    body += await self.reader.readexactly(size)
                    await self.reader.readexactly(2)
                await self.reader.readexactly(2)
        except (asyncio.IncompleteReadError, ConnectionError, ValueError):
            await self.close()
            return Response(head, body, is_whole=False)
        if b"\r\nconnection: close\r\n" in head:
            await self.close()
        return Response(head, body)

    async def close(self) -> None:
        if (writer := self.writer) is not None:
            self.writer = None
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()


def neutral(response: Response) -> Response:
    """Without what differs between two equal requests: the request's id and times."""
    identity = response.header("x-request-id") or response.header("request-id")
    head, body = response.head, response.body
    if identity:
        for known in {identity.encode(), identity.rpartition("_")[2].encode()}:
            head, body = head.replace(known, b"ID"), body.replace(known, b"ID")
    head = re.sub(rb"x-modelplex-overhead-ms: [\d.]+", b"x-modelplex-overhead-ms: T", head)
    head = re.sub(rb"content-length: \d+", b"content-length: N", head)  # of bodies that hold a time
    body = re.sub(rb'("created(?:_at)?":\s*"?)[\d.TZ:-]+', rb"\1T", body)
    return Response(head, body, response.is_whole)


def neutral_head(head: bytes) -> bytes:
    """A head that a provider got, without the span of the attempt."""
    return re.sub(rb"\r\ntraceparent: 00-(\w+)-\w{16}-", rb"\r\ntraceparent: 00-\1-SPAN-", head)


def neutral_record(record: Record) -> str:
    """A Record without its id, its times and the folder of its socket. How much of a body that is
    too large had come when it was refused depends on the time as well.
    """
    attempts = tuple(msgspec.structs.replace(each, seconds=0.0, started=0.0) for each in record.attempts)
    plain = msgspec.structs.replace(record, id="", started=0.0, times=Times(), attempts=attempts)
    if record.status == 413:
        plain = msgspec.structs.replace(plain, bytes_in=0, request_body=None)
    return re.sub(rb'"listener":"(\w+):[^"]*"', rb"\1", msgspec.json.encode(plain)).decode()


def reuse_nothing(patch: pytest.MonkeyPatch) -> None:
    """Decide everything anew for each request, and run each as a task of asyncio."""

    def find(self: KnownHeads, data: bytes) -> None:
        del self, data

    def forget(self: CandidateSelection, wanted: object, attempts: object) -> None:
        del self, wanted, attempts

    async def deliver(self: HttpResponse, take: Callable[[bytes], bool]) -> bool:
        del self, take
        return False

    patch.setattr(KnownHeads, "find", find)
    patch.setattr(CandidateSelection, "_remember", forget)
    patch.setattr(upstream, "START_SIZE", 0)
    patch.setattr(response_headers, "_template", response_headers._template.__wrapped__)
    patch.setattr(Metrics, "_remember_usual", forget)
    patch.setattr(HttpResponse, "deliver", deliver)
    run_as_tasks(patch)


def learn_nothing(patch: pytest.MonkeyPatch) -> None:
    """Remember nothing of what a provider refused. It is no decision that is reused: the next
    request is sent in another way.
    """

    def forget(self: MissingEndpoints, attempt: object, *, now: float) -> None:
        del self, attempt, now

    patch.setattr(MissingEndpoints, "add", forget)


def count_planned(patch: pytest.MonkeyPatch) -> list[str]:
    """Gets the ids of calls that were answered by a plan."""
    respond, planned = PlannedCall._respond, list[str]()

    def counted(self: PlannedCall, *args: Any, **more: Any) -> None:
        planned.append(self.id)
        respond(self, *args, **more)

    patch.setattr(PlannedCall, "_respond", counted)
    return planned


def run_as_tasks(patch: pytest.MonkeyPatch) -> None:
    """Run each request as a task of asyncio from its start."""
    run = HttpExchange.run

    async def run_later(self: HttpExchange, app: App) -> None:
        await asyncio.sleep(0)
        await run(self, app)

    patch.setattr(HttpExchange, "run", run_later)

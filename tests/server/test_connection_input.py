"""Input of a connection: where it is read to, and what becomes of it."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from modelplex.server import connection_limits
from modelplex.server.connection_input import ConnectionInput
from modelplex.server.connection_limits import ConnectionLimits
from modelplex.server.connection_refusals import INVALID_HTTP, ConnectionRefusal
from modelplex.server.connection_registry import READ_SIZE, ConnectionRegistry


class Reader:
    """Takes bytes, and refuses those that begin with "bad"."""

    def __init__(self) -> None:
        self.remaining = 0
        self.data = b""

    def feed(self, data: bytes) -> ConnectionRefusal | None:
        self.data += data
        return INVALID_HTTP if data.startswith(b"bad") else None

    def body_read(self, size: int) -> None:
        self.remaining -= size


class Exchange:
    def __init__(self, size: int) -> None:
        self.block = bytearray(size)
        self.size = 0

    @property
    def unfilled(self) -> memoryview:
        return memoryview(self.block)[self.size :]

    def body_filled(self, size: int) -> None:
        self.size += size


class Input(ConnectionInput):
    def __init__(self) -> None:
        limits = ConnectionLimits()
        super().__init__(ConnectionRegistry(limits=limits, loop=asyncio.get_running_loop()))
        self.got = Reader()
        self.reader = cast("Any", self.got)
        self.refused: list[ConnectionRefusal] = []
        self.reads = 0
        self.aborted = False
        self.transport = cast("Any", self)

    def refuse(self, refusal: ConnectionRefusal) -> None:
        self.refused.append(refusal)

    def input_read(self) -> None:
        self.reads += 1

    def abort(self) -> None:
        self.aborted = True

    def receive(self, data: bytes) -> None:
        """As a transport does."""
        buffer = self.get_buffer(-1)
        buffer[: len(data)] = data
        self.buffer_updated(len(data))


async def test_input_is_copied_out_of_the_shared_buffer() -> None:
    one, other = Input(), Input()
    other.traffic = one.traffic
    assert len(one.get_buffer(-1)) == READ_SIZE
    one.receive(b"one")
    other.receive(b"other")
    assert (one.got.data, other.got.data) == (b"one", b"other")
    assert (one.reads, one.refused) == (1, [])


async def test_a_refusal_of_the_reader_is_sent() -> None:
    each = Input()
    each.receive(b"bad input")
    assert each.refused == [INVALID_HTTP]


async def test_a_large_body_is_read_into_its_block() -> None:
    each = Input()
    exchange = Exchange(10)
    each.latest = cast("Any", exchange)
    each.got.remaining = 10
    each.receive(b"12345")
    each.receive(b"67890")
    assert (bytes(exchange.block), each.got.remaining, each.got.data) == (b"1234567890", 0, b"")
    assert (each.reads, each.body_pace.size) == (2, 10)
    each.receive(b"next")
    assert each.got.data == b"next"


async def test_input_of_an_ending_connection_is_discarded_up_to_a_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection_limits, "LINGER_BYTES", 10)
    each = Input()
    each.ignores_input = True
    each.got.remaining = 5
    each.receive(b"1234567890")
    assert not each.aborted
    each.receive(b"1")
    assert each.aborted
    assert each.got.data == b""

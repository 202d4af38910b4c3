"""Takes the telemetry of agents: limits, decompression, the stamp, and a queue for whoever keeps or
relays it.

Each owner has a share of rate and of the memory of what waits; a flood is answered with 429, which
exporters of OTLP repeat later, and costs nothing but its reading.
Source of the answers: https://opentelemetry.io/docs/specs/otlp/#otlphttp-response (2026-12-01).
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

import msgspec

from modelplex.core.errors import AgentLimited, BadRequest, TooLarge
from modelplex.telemetry import stamp_json, stamp_protobuf
from modelplex.telemetry.signals import MEDIA_TYPES, BadTelemetry, Encoding, Item, Sender, Signal

MAX_BODY: Final = 4_194_304
"""Bytes of a request as it is sent. The SDKs' batches of 512 have a tenth of it."""
MAX_INFLATED: Final = 16_777_216
"""Bytes of a request once it is decompressed."""
SMALL: Final = 16_384
"""Bytes of an uncompressed body up to which it is stamped on the loop: some 0.1 ms."""
BYTES_A_SECOND: Final = 262_144
BURST_BYTES: Final = 8_388_608
"""Of one owner, decompressed. An agent that works sends some kilobytes a second."""
REQUESTS_A_SECOND: Final = 10.0
BURST_REQUESTS: Final = 100.0
MAX_OWNERS: Final = 4_096
"""Owners whose rate is remembered; a gateway has as many as agents, listeners and runs."""


class TelemetryTarget(Protocol):
    """Keeps or relays. `add` returns at once; False where it has no room for this owner now, which
    it counts.
    """

    def add(self, item: Item, /) -> bool: ...


class _Bucket(msgspec.Struct):
    """What an owner may still send, at a time of the monotonic clock. Its large bodies have their
    `turn` one after the other, so that the size of one limits the next.
    """

    at: float
    requests: float = BURST_REQUESTS
    size: float = BURST_BYTES
    turn: asyncio.Lock = msgspec.field(default_factory=asyncio.Lock)

    def fill(self, now: float) -> None:
        passed = max(0.0, now - self.at)
        self.at = now
        self.requests = min(BURST_REQUESTS, self.requests + passed * REQUESTS_A_SECOND)
        self.size = min(BURST_BYTES, self.size + passed * BYTES_A_SECOND)

    def wait(self) -> float:
        """Seconds until another request; 0.0 for now."""
        if self.requests >= 1.0 and self.size > 0.0:
            return 0.0
        return max((1.0 - self.requests) / REQUESTS_A_SECOND, -self.size / BYTES_A_SECOND, 1.0)


class TelemetryIntake:
    """`clock` is monotonic, `now` returns Unix time."""

    def __init__(
        self, targets: Sequence[TelemetryTarget], *, clock: Callable[[], float], now: Callable[[], float]
    ) -> None:
        self._targets = targets
        self._clock = clock
        self._now = now
        self._buckets: dict[str, _Bucket] = {}
        self._counts: dict[tuple[str, str, str], int] = {}

    def __repr__(self) -> str:
        return f"<TelemetryIntake {sum(self._counts.values())} requests>"

    def counts(self) -> Mapping[tuple[str, str, str], int]:
        """Requests by agent, signal and what became of them: "accepted", "limited", "invalid"."""
        return self._counts

    def check(self, sender: Sender, signal: Signal) -> None:
        """Before the body is read. Raises AgentLimited."""
        bucket = self._bucket(sender)
        if (wait := bucket.wait()) > 0.0:
            raise self._limited(sender, signal, wait)
        bucket.requests -= 1.0

    async def take(
        self, body: bytes, sender: Sender, signal: Signal, *, content_type: str, gzip: bool
    ) -> Encoding:
        """Stamp and pass on. Returns the encoding of the response. Raises BadRequest, TooLarge and
        AgentLimited.
        """
        encoding = MEDIA_TYPES.get(content_type.partition(";")[0].strip())
        if encoding is None:
            self._count(sender, signal, "invalid")
            raise BadRequest(
                f"Telemetry is {' or '.join(MEDIA_TYPES)}.", status=415, code="unsupported_media_type"
            )
        bucket = self._bucket(sender)
        try:
            if gzip or len(body) > SMALL:
                stamped = await self._in_turn(bucket, body, sender, signal, encoding, gzip=gzip)
            else:
                bucket.size -= len(body)
                stamped = _stamped(body, sender, signal, encoding)
        except BadTelemetry as error:
            self._count(sender, signal, "invalid")
            raise BadRequest(f"This is no telemetry of OTLP: {error}.", code="invalid_telemetry") from None
        except TooLarge:
            self._count(sender, signal, "invalid")
            raise
        item = Item(self._now(), sender, signal, encoding, stamped)
        taken = [target.add(item) for target in self._targets]
        if not any(taken):
            self._count(sender, signal, "limited")
            raise _limited("more telemetry than can be kept or relayed now", 5.0)
        self._count(sender, signal, "accepted")
        return encoding

    async def _in_turn(
        self, bucket: _Bucket, body: bytes, sender: Sender, signal: Signal, encoding: Encoding, *, gzip: bool
    ) -> bytes:
        async with bucket.turn:
            bucket.fill(self._clock())
            if bucket.size <= 0.0:
                raise self._limited(sender, signal, bucket.wait())
            size = MAX_INFLATED if gzip else len(body)
            try:
                if gzip:
                    body = await asyncio.to_thread(_inflated, body)
                    size = len(body)
                return await asyncio.to_thread(_stamped, body, sender, signal, encoding)
            finally:
                bucket.size -= size

    def _limited(self, sender: Sender, signal: Signal, wait: float) -> AgentLimited:
        self._count(sender, signal, "limited")
        return _limited(f"telemetry of more than {BYTES_A_SECOND} bytes a second", wait)

    def _bucket(self, sender: Sender) -> _Bucket:
        now = self._clock()
        bucket = self._buckets.get(sender.owner)
        if bucket is None:
            if len(self._buckets) >= MAX_OWNERS:
                del self._buckets[next(iter(self._buckets))]
            bucket = self._buckets[sender.owner] = _Bucket(now)
        bucket.fill(now)
        return bucket

    def _count(self, sender: Sender, signal: Signal, outcome: str) -> None:
        key = (sender.agent, signal, outcome)
        self._counts[key] = self._counts.get(key, 0) + 1


def _limited(what: str, wait: float) -> AgentLimited:
    seconds = float(int(wait) + 1)
    return AgentLimited(
        f"This agent sends {what}. Try again in {seconds:.0f} seconds.",
        code="telemetry_limited",
        retry_after=seconds,
    )


def _stamped(body: bytes, sender: Sender, signal: Signal, encoding: Encoding) -> bytes:
    if encoding == "json":
        return stamp_json.stamp(body, signal, sender.attributes)
    return stamp_protobuf.stamp(body, sender.attributes)


def _inflated(body: bytes) -> bytes:
    reader = zlib.decompressobj(wbits=31)
    try:
        plain = reader.decompress(body, MAX_INFLATED)
        if reader.unconsumed_tail:
            raise TooLarge(f"Telemetry has at most {MAX_INFLATED} bytes once it is decompressed.")
    except zlib.error as error:
        raise BadTelemetry(f"the body is no gzip: {error}") from None
    if not reader.eof or reader.unused_data:
        raise BadTelemetry("the body is no whole gzip")
    return plain

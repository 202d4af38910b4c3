"""Relays the telemetry of agents to a collector, as it was stamped and in its own encoding.

A bounded queue in which owners take turns, and one request at a time. A collector that cannot be
reached is tried again; what it does not take in the end is lost, and counted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Final

from modelplex.core.fair_queue import FairQueue
from modelplex.http_client import HttpClient, SendError, Timeouts, parse_origin
from modelplex.telemetry.signals import LABELS, Item

QUEUED_BYTES: Final = 16_777_216
QUEUED_SHARE: Final = 4_194_304
"""Bytes that wait to be sent: of all, and of one owner."""
TIMEOUTS: Final = Timeouts(connect=5.0, first_byte=10.0, idle=10.0)
TRIES: Final = 3
RETRY_S: Final = 2.0
RETRIED: Final = frozenset({429, 502, 503, 504})
"""Statuses that an exporter repeats: https://opentelemetry.io/docs/specs/otlp/ (2026-12-01)."""
MAX_ANSWER: Final = 65_536
CLOSE_LIMIT_S: Final = 2.0


class RelayedTelemetry:
    """`headers` are of requests to the collector. `report(failure)` is called when relaying begins
    to fail, and with "" when it works again. `sleep` waits for seconds.
    """

    def __init__(
        self,
        client: HttpClient,
        endpoint: str,
        *,
        headers: Mapping[str, str],
        report: Callable[[str], None],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._client = client
        self._origin, self._path = parse_origin(endpoint)
        self._headers = [(name.encode(), value.encode()) for name, value in headers.items()]
        self._report = report
        self._sleep = sleep
        self._queue: FairQueue[Item] = FairQueue()
        self._waiting: dict[str, int] = {}
        self._failure = ""
        self._sent = self._lost = 0
        self._task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<RelayedTelemetry {len(self._queue)} waiting, {self._lost} lost>"

    def counts(self) -> Mapping[str, int]:
        """Requests that the collector took, and those that it did not."""
        return {"relayed": self._sent, "lost": self._lost}

    def add(self, item: Item, /) -> bool:
        owner, size = item.sender.owner, len(item.body)
        mine = self._waiting.get(owner, 0)
        if mine + size > QUEUED_SHARE or sum(self._waiting.values()) + size > QUEUED_BYTES:
            self._lost += 1
            return False
        self._waiting[owner] = mine + size
        self._queue.add(owner, item)
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._send_all())
        return True

    async def close(self) -> None:
        """Send what waits, for at most CLOSE_LIMIT_S."""
        if self._task is None:
            return
        await asyncio.wait([self._task], timeout=CLOSE_LIMIT_S)
        self._task.cancel()

    async def _send_all(self) -> None:
        while len(self._queue):
            owner = next(iter(self._queue))
            item = self._queue.pop(owner)
            try:
                failure = await self._send(item)
            finally:
                left = self._waiting.get(owner, 0) - len(item.body)
                if left > 0:
                    self._waiting[owner] = left
                else:
                    self._waiting.pop(owner, None)  # an empty body counts for nothing
            if failure:
                self._lost += 1
            else:
                self._sent += 1
            if bool(failure) != bool(self._failure):
                self._report(failure)
            self._failure = failure

    async def _send(self, item: Item) -> str:
        """What went wrong; "" for nothing."""
        failure, tries = "", 1 if self._failure else TRIES
        for number in range(tries):
            if number:
                await self._sleep(RETRY_S)
            try:
                status = await self._post(item)
            except SendError as error:
                failure = error.sentence
                continue
            if status < 300:
                return ""
            failure = f"the collector answered {status}"
            if status not in RETRIED:
                break
        return failure

    async def _post(self, item: Item) -> int:
        reply = await self._client.send(
            self._origin,
            target=f"{self._path}/v1/{item.signal}".encode(),
            headers=[*self._headers, (b"content-type", LABELS[item.encoding])],
            body=item.body,
            timeouts=TIMEOUTS,
        )
        try:
            if reply.status < 300:
                with suppress(SendError):  # it was taken: sent again, it would be there twice
                    await reply.body(limit=MAX_ANSWER)  # so that the connection is kept
        finally:
            reply.close()
        return reply.status

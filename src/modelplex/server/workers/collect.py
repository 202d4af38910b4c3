"""One answer of all workers: the asked worker collects a view of each, through the supervisor."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from modelplex.server.workers.messages import Answer, Ask, Message

COLLECT_SECONDS = 2.0
"""For the other workers to answer: a busy one takes milliseconds, and monitors wait for seconds."""


class Collection:
    """One view, while the answers come in. `missing` are the workers that have not answered."""

    def __init__(self, others: frozenset[int]) -> None:
        self.bodies: dict[int, bytes | None] = dict.fromkeys(others)
        self.missing = set(others)
        self.complete = asyncio.Event()

    def add(self, worker: int, body: bytes | None) -> None:
        if worker in self.missing:
            self.missing.discard(worker)
            self.bodies[worker] = body
        if not self.missing:
            self.complete.set()


class Collector:
    """`send` passes a message to the supervisor; `local` gives a view of this worker, for a caller
    or for the host ("").
    """

    def __init__(
        self,
        number: int,
        count: int,
        *,
        send: Callable[[Message], None],
        local: Callable[[str, str], Awaitable[bytes]],
    ) -> None:
        self.number = number
        self._others = frozenset(range(1, count + 1)) - {number}
        self._send = send
        self._local = local
        self._ids = 0
        self._open: dict[int, Collection] = {}
        self._running: dict[tuple[str, str], asyncio.Task[dict[int, bytes | None]]] = {}
        self._answering: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<Collector of worker {self.number}, {len(self._open)} open>"

    async def collect(self, view: str, owner: str = "") -> dict[int, bytes | None]:
        """The view of each worker, by number; None of one that did not answer. Requests for the
        same view share a collection, so that callers cannot multiply the work of all workers.
        """
        key = view, owner
        running = self._running.get(key)
        if running is None:
            running = self._running[key] = asyncio.create_task(self._collect(view, owner))
            running.add_done_callback(lambda _: self._running.pop(key, None))
        return await asyncio.shield(running)

    async def _collect(self, view: str, owner: str) -> dict[int, bytes | None]:
        self._ids += 1
        id_, collection = self._ids, Collection(self._others)
        self._open[id_] = collection
        self._send(Ask(id_, self.number, view, owner))
        own: bytes | None = None
        try:
            own = await self._local(view, owner)
            async with asyncio.timeout(COLLECT_SECONDS):
                await collection.complete.wait()
        except TimeoutError:
            pass
        finally:
            del self._open[id_]
        return dict(sorted({**collection.bodies, self.number: own}.items()))

    def receive(self, message: Ask | Answer) -> None:
        """Answer another worker, or take its answer."""
        if isinstance(message, Ask):
            task = asyncio.create_task(self._answer(message))
            self._answering.add(task)
            task.add_done_callback(self._answering.discard)
        elif (collection := self._open.get(message.id)) is not None:
            collection.add(message.worker, message.body)

    async def _answer(self, asked: Ask) -> None:
        body = await self._local(asked.view, asked.owner)
        self._send(Answer(asked.id, asked.asker, self.number, body))

"""The views of one of several workers: /_internal/ and /health in detail show all of them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, cast

import msgspec

from modelplex.core.caller import Caller
from modelplex.pipeline.gateway import Gateway
from modelplex.records.metrics import CONTENT_TYPE
from modelplex.server.admin import JSON, AdminRoutes, View
from modelplex.server.workers.collect import Collector
from modelplex.server.workers.merge import Workers, merge, merge_metrics
from modelplex.server.workers.messages import Answer, Ask, Message

HEALTH = "health"
METRICS = "metrics"
AGENTS = "agents"
PAGE = "page/"
"""Before the names of what pages ask (page.py)."""


class CollectedAdmin(AdminRoutes):
    """`collect_from` has to be called before a view is made."""

    def collect_from(
        self,
        workers: Workers,
        *,
        count: int,
        send: Callable[[Message], None],
        gateway: Callable[[], Gateway],
        answer_page: Callable[[str, str], bytes],
    ) -> None:
        """`gateway` gives the present one, for views that other workers ask for; `answer_page`
        answers their pages.
        """
        self.workers = workers
        self._gateway = gateway
        self._answer_page = answer_page
        self.collector = Collector(workers.asked, count, send=send, local=self._local)

    def receive(self, message: Ask | Answer) -> None:
        self.collector.receive(message)

    async def counters(self) -> Mapping[str, Any]:
        bodies = await self.collector.collect(AGENTS)
        return cast("Mapping[str, Any]", msgspec.json.decode(merge(AGENTS, bodies, self.workers)))

    def view(self, name: str) -> View | None:
        return None if super().view(name) is None else partial(self._collected, name)

    async def health(
        self, gateway: Gateway, *, detail: bool, caller: Caller | None = None
    ) -> tuple[bytes, bytes]:
        if not detail:
            return await super().health(gateway, detail=False)
        bodies = await self.collector.collect(HEALTH, caller.owner if caller is not None else "")
        return JSON, merge(HEALTH, bodies, self.workers)

    async def _collected(self, name: str, gateway: Gateway) -> tuple[bytes, bytes]:
        del gateway
        bodies = await self.collector.collect(name)
        if name == METRICS:
            return CONTENT_TYPE, await asyncio.to_thread(merge_metrics, bodies)
        return JSON, merge(name, bodies, self.workers)

    async def _local(self, name: str, owner: str) -> bytes:
        """The view of this worker. `owner` is the argument of what a page asks."""
        if name.startswith(PAGE):
            return self._answer_page(name, owner)
        gateway = self._gateway()
        if name == HEALTH:
            # Circuits are found by the owner, which is the listener of a caller without an agent.
            caller = Caller(listener=owner, kind="unix") if owner else None
            _, body = await super().health(gateway, detail=True, caller=caller)
            return body
        view = super().view(name)
        if view is None:
            return b"null"
        _, body = await view(gateway)
        return body

    def _status(self, gateway: Gateway) -> dict[str, Any]:
        return {**super()._status(gateway), "pid": os.getpid()}

"""The built-in demo provider: the interface of an Upstream, and nothing outside this process."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from modelplex.config import ProviderConfig
from modelplex.core.events import ListedModel
from modelplex.core.request import Attempt, Endpoint, RawRequest
from modelplex.dialects.endpoints import endpoint_for
from modelplex.dialects.raw_request import read_request
from modelplex.dialects.registry import provider_dialect
from modelplex.pipeline import demo
from modelplex.pipeline.offload import is_heavy
from modelplex.pipeline.upstream import PreparedPost, UpstreamResponse
from modelplex.providers.demo import MODELS
from modelplex.providers.specs import ProviderSpec
from modelplex.records.price import seller_of


class DemoUpstream:
    """The interface of an Upstream. `clock` returns Unix time."""

    type = "demo"
    base_url = ""
    trace_context = False

    def __init__(self, config: ProviderConfig, row: ProviderSpec, clock: Callable[[], float]) -> None:
        self.name = config.name
        self.max_response_size = config.max_response_size
        self.seller = seller_of(config)
        self.keys = 1
        self._row = row
        self._quirks = row.quirks
        self._clock = clock

    def __repr__(self) -> str:
        return f"<DemoUpstream {self.name}>"

    def attempts(self, model: str, endpoint: Endpoint) -> list[Attempt]:
        dialect, served = endpoint_for(self._row.dialect, endpoint, serves=self._row.serves)
        return [
            Attempt(
                provider=self.name,
                model=model,
                dialect=dialect,
                endpoint=served,
                quirks=self._quirks,
                otel_name=self._row.otel_name,
            )
        ]

    def usual(self, attempt: Attempt) -> Attempt | None:
        del attempt
        return None  # it has one endpoint for conversations

    def prepared(self, raw_request: RawRequest, attempt: Attempt) -> PreparedPost | None:
        del raw_request, attempt
        return None  # nothing is sent

    async def open(
        self, raw_request: RawRequest, attempt: Attempt, body: bytes, *, trace: bytes = b""
    ) -> UpstreamResponse:
        del trace
        if is_heavy(body):
            return await asyncio.to_thread(self._answer, raw_request, attempt, body)
        return self._answer(raw_request, attempt, body)

    def _answer(self, raw_request: RawRequest, attempt: Attempt, body: bytes) -> UpstreamResponse:
        if body is not raw_request.body:
            raw_request = read_request(body, endpoint=attempt.endpoint, dialect=attempt.dialect)
        created = int(self._clock())
        if raw_request.stream:
            return CannedResponse(b"text/event-stream", demo.stream(raw_request, created=created))
        status, answer = demo.answer(raw_request, created=created)
        if status >= 300:
            raise provider_dialect(self._row.dialect).read_error(status, {}, answer)
        return CannedResponse(b"application/json", [answer])

    async def models(self) -> list[ListedModel]:
        return [ListedModel(name) for name in MODELS]

    def hide(self, text: bytes) -> bytes:
        return text


class CannedResponse:
    """A response that is complete from the start."""

    status = 200

    def __init__(self, content_type: bytes, pieces: list[bytes]) -> None:
        self.headers = [(b"content-type", content_type)]
        self._pieces = deque(pieces)

    def header(self, name: bytes) -> bytes | None:
        return next((value for each, value in self.headers if each == name), None)

    async def chunk(self) -> bytes:
        return self._pieces.popleft() if self._pieces else b""

    async def deliver(self, take: Callable[[bytes], bool]) -> bool:
        """Nothing: all is there."""
        del take
        return False

    async def body(self, *, limit: int) -> bytes:
        del limit
        return b"".join(self._pieces)

    def nudge(self) -> None:
        """Nothing waits."""

    def close(self) -> None:
        self._pieces.clear()

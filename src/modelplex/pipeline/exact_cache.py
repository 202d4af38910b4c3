"""Answers equal requests from memory: `[cache] exact = true`.

Equal are requests of one caller, under the same policy, with the same bytes at the same endpoint.
Only whole answers are kept, and until the config's file changes. Limits apply before it, as to any
call.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator
from hashlib import sha256
from time import perf_counter
from typing import Final

import msgspec

from modelplex.config import Config
from modelplex.core.caller import Caller
from modelplex.core.errors import ModelplexError
from modelplex.core.events import Usage
from modelplex.core.request import Attempt, Change, RawRequest, StrippedValue
from modelplex.dialects.form import CONVERSATION
from modelplex.dialects.registry import DIALECTS
from modelplex.pipeline.response_output import ResponseHead, ResponseOutput
from modelplex.records.builder import RecordBuilder

NAME: Final = "cache"
"""The provider of such an answer, in headers and records."""
CACHED: Final = frozenset({CONVERSATION, "completions", "embeddings"})
"""Endpoints whose answer depends on the request alone, by their name in a provider's row."""
STATEFUL: Final = frozenset({"background", "conversation", "previous_response_id"})
"""Members of a request whose answer depends on more."""
SHARE: Final = 4
"""One answer takes at most this part of the cache."""
PIECE: Final = 65_536
"""Bytes of a stream that are written at once."""

Answer = Callable[[RawRequest, ResponseOutput, RecordBuilder], Awaitable[None]]


class CachedAnswer(msgspec.Struct, frozen=True):
    """`id` is the call whose answer it is. `at` is seconds of a monotonic clock."""

    id: str
    at: float
    head: ResponseHead
    is_stream: bool
    body: bytes
    usage: Usage | None
    finish_reason: str | None
    changes: tuple[Change, ...]
    stripped: tuple[StrippedValue, ...]


class CapturedOutput:
    """A ResponseOutput that keeps what it passes on, up to `limit` bytes. `is_whole`: the response
    has ended well, and all of it is in `pieces`.
    """

    def __init__(self, output: ResponseOutput, *, limit: int) -> None:
        self._output = output
        self._left = limit
        self.pieces: list[bytes] = []
        self.head: ResponseHead | None = None
        self.status = 0
        self.is_stream = False
        self.is_whole = False

    def __repr__(self) -> str:
        return f"<CapturedOutput {self.status} {len(self.pieces)} pieces>"

    @property
    def started(self) -> bool:
        return self._output.started

    @property
    def stop_error(self) -> ModelplexError | None:
        return self._output.stop_error

    def _take(self, data: bytes) -> None:
        self._left -= len(data)
        if self._left >= 0:
            self.pieces.append(data)
        else:
            self.pieces.clear()

    async def respond(self, status: int, head: ResponseHead, body: bytes) -> None:
        self.status, self.head = status, head
        self._take(body)
        await self._output.respond(status, head, body)
        self.is_whole = self._left >= 0

    async def start(self, head: ResponseHead) -> None:
        self.status, self.head, self.is_stream = 200, head, True
        await self._output.start(head)

    async def write(self, data: bytes) -> None:
        self._take(data)
        await self._output.write(data)

    def write_now(self, data: bytes) -> bool:
        if not self._output.write_now(data):
            return False
        self._take(data)
        return True

    async def finish(self) -> None:
        await self._output.finish()
        self.is_whole = self._left >= 0

    def abort(self) -> None:
        self._output.abort()


class ExactCache:
    """The answers of one config; for the event loop alone."""

    def __init__(self, config: Config, *, now: Callable[[], float] = perf_counter) -> None:
        self._now = now
        self.configure(config)
        self._answers: OrderedDict[bytes, CachedAnswer] = OrderedDict()
        self._size = 0

    def __repr__(self) -> str:
        return f"<ExactCache {len(self._answers)} answers, {self._size} bytes>"

    def configure(self, config: Config) -> None:
        """Another config of which only agents differ: the answers stay."""
        self._settings = config.cache
        self._agents = {agent.name: agent.cache for agent in config.agents if agent.cache is not None}

    async def answer(
        self, request: RawRequest, output: ResponseOutput, record: RecordBuilder, otherwise: Answer
    ) -> None:
        """Answer as before, else by `otherwise`, whose answer is kept. Raises what that raises."""
        if not self._applies(request, record.caller):
            await otherwise(request, output, record)
            return
        key = _key(request, record.caller)
        if (found := self._find(key)) is not None:
            await _send(found, request, output, record)
            return
        captured = CapturedOutput(output, limit=self._settings.max_size // SHARE)
        await otherwise(request, captured, record)
        if captured.is_whole and captured.status == 200 and record.failure is None:
            self._keep(key, captured, record)

    def _applies(self, request: RawRequest, caller: Caller) -> bool:
        form = DIALECTS[request.dialect].form
        return (
            self._agents.get(caller.agent, self._settings.exact)
            and form.served_as in CACHED
            and request.fields.keys().isdisjoint(STATEFUL)
        )

    def _find(self, key: bytes) -> CachedAnswer | None:
        found = self._answers.get(key)
        if found is None:
            return None
        if self._now() - found.at > self._settings.max_age:
            self._drop(key)
            return None
        self._answers.move_to_end(key)
        return found

    def _keep(self, key: bytes, captured: CapturedOutput, record: RecordBuilder) -> None:
        """The first of several answers to requests at the same time stays."""
        if key in self._answers or captured.head is None:
            return
        if captured.head.recording:  # a recording may have another answer to an equal request
            return
        body = b"".join(captured.pieces)
        self._answers[key] = CachedAnswer(
            record.id,
            self._now(),
            captured.head,
            captured.is_stream,
            body,
            record.usage,
            record.finish_reason,
            record.changes,
            record.stripped,
        )
        self._size += len(body)
        while self._size > self._settings.max_size:
            self._drop(next(iter(self._answers)))

    def _drop(self, key: bytes) -> None:
        self._size -= len(self._answers.pop(key).body)


def _key(request: RawRequest, caller: Caller) -> bytes:
    """With the caller's policy: an agent that was removed and added again may have another."""
    facts = (
        (caller.owner, caller.kind, caller.sealed, caller.models, caller.priced_only, caller.seed),
        (sorted(caller.allowed), sorted(map(repr, caller.bounds))),
        (request.dialect, request.endpoint, request.model, request.stream, request.include_usage),
        request.headers,
    )
    return sha256(msgspec.msgpack.encode(facts) + b"\0" + request.body).digest()


async def _send(
    found: CachedAnswer, request: RawRequest, output: ResponseOutput, record: RecordBuilder
) -> None:
    attempt = Attempt(
        provider=NAME, model=found.head.model, dialect=request.dialect, endpoint=request.endpoint
    )
    record.attempt = attempt
    record.upstream_sent = started = perf_counter()
    record.changes, record.stripped, record.passthrough = found.changes, found.stripped, True
    head = msgspec.structs.replace(
        found.head,
        request_id=record.id,
        provider=NAME,
        attempts=1,
        overhead=record.overhead(),
        recording=found.id,
        upstream_headers=(),
    )
    if found.is_stream:
        await output.start(head)
        for piece in _pieces(found.body):
            await output.write(piece)
        await output.finish()
    else:
        await output.respond(200, head, found.body)
    # Tokens are shown as they were counted, and count for no limit: nobody made them again.
    record.add_attempt(
        attempt,
        None,
        started=started,
        seconds=perf_counter() - started,
        request_id=found.id,
        cost=0.0,
        charge=0.0,
    )
    record.usage, record.finish_reason = found.usage, found.finish_reason


def _pieces(body: bytes) -> Iterator[bytes]:
    for start in range(0, len(body), PIECE):
        yield body[start : start + PIECE]

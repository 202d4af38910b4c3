"""Answers requests from recordings: the providers of the type "replay", which are asked before any
other.

What was recorded are the client's bytes, so the answer is these bytes, and no provider's response
is read or translated again. Policy, limits and Record apply as to any call. A request without a
recorded answer is an error, or goes on to other providers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from fnmatch import fnmatchcase
from functools import partial
from time import perf_counter
from typing import Final

from modelplex.config import ProviderConfig
from modelplex.core.errors import (
    ModelplexError,
    ProviderError,
    ReplayMiss,
    detached,
)
from modelplex.core.events import ListedModel
from modelplex.core.request import Attempt, Endpoint, RawRequest
from modelplex.dialects.registry import DIALECTS
from modelplex.pipeline.offload import Offload, is_heavy
from modelplex.pipeline.response_output import ResponseHead, ResponseOutput
from modelplex.pipeline.sealed_policy import EgressRules, SealedPolicy
from modelplex.pipeline.upstream import PreparedPost, Upstream, UpstreamResponse
from modelplex.providers import all_specs
from modelplex.records.builder import RecordBuilder
from modelplex.records.price import Seller, seller_of
from modelplex.replay.answers import Nearest, RecordedAnswers
from modelplex.replay.recording import RecordedCall
from modelplex.replay.source import RecordingSource

PIECE: Final = 65_536
"""Bytes of a stream that are written at once."""


class ReplayUpstream:
    """A recording as a provider. It is loaded with the first request. `store` gives the place of
    the record store; it may raise RecordingError.
    """

    type = "replay"
    base_url = ""
    trace_context = False
    keys = 1

    def __init__(self, config: ProviderConfig, *, store: Callable[[], str]) -> None:
        self.name = config.name
        self.max_response_size = config.max_response_size
        self.seller: Seller = seller_of(config)
        self.on_miss = config.on_miss
        self.timing = config.timing
        self._config = config
        self._source = RecordingSource(config, store=store)

    def __repr__(self) -> str:
        return f"<ReplayUpstream {self.name}>"

    def serves(self, model: str) -> bool:
        globs = self._config.models
        return not globs or any(fnmatchcase(model, glob) for glob in globs)

    async def answers(self) -> RecordedAnswers:
        """Raises RecordingUnreadable; the next request then tries again."""
        return await self._source.answers()

    # --- as a provider

    def attempts(self, model: str, endpoint: Endpoint) -> list[Attempt]:
        """None: ReplayStage answers before candidates are selected."""
        del model, endpoint
        return []

    def usual(self, attempt: Attempt) -> Attempt | None:
        del attempt
        return None

    def prepared(self, raw_request: RawRequest, attempt: Attempt) -> PreparedPost | None:
        del raw_request, attempt
        return None

    async def open(
        self, raw_request: RawRequest, attempt: Attempt, body: bytes, *, trace: bytes = b""
    ) -> UpstreamResponse:
        raise NotImplementedError

    async def models(self) -> list[ListedModel]:
        return [ListedModel(name) for name in (await self.answers()).models]

    def hide(self, text: bytes) -> bytes:
        return text


class ReplayStage:
    """The recordings among the providers of one config, in their order."""

    def __init__(self, upstreams: Iterable[Upstream], *, egress: EgressRules, offload: Offload) -> None:
        self._sources = [each for each in upstreams if isinstance(each, ReplayUpstream)]
        self._egress = egress
        self._offload = offload

    async def answer(
        self, request: RawRequest, output: ResponseOutput, record: RecordBuilder
    ) -> tuple[str, ...] | None:
        """Answer from a recording, and return None; else return the providers that may answer: none
        named means all. Raises ReplayMiss, RecordingUnreadable and PolicyDenied.
        """
        allowed: tuple[str, ...] = ()
        for source in self._sources:
            if not source.serves(request.model):
                continue
            attempt = Attempt(
                provider=source.name,
                model=request.model,
                dialect=request.dialect,
                endpoint=request.endpoint,
                otel_name=all_specs()[source.type].otel_name,
            )
            record.attempt = attempt
            await self._check_policy(request, attempt, record)
            record.upstream_sent = started = perf_counter()
            answers = await source.answers()
            received = request.body if record.received is None else record.received
            call = await self._found(answers, request, received, record)
            if call is not None:
                await self._send(call, source, output, record)
                self._note(call, attempt, record, started=started)
                return None
            miss = await asyncio.to_thread(_miss, answers, request, received)
            if source.on_miss == "fail":
                raise miss
            record.add_attempt(attempt, miss, started=started, seconds=perf_counter() - started)
            record.attempt = None
            allowed = (DEMO,) if source.on_miss == "demo" else ()
        return allowed

    async def _check_policy(self, request: RawRequest, attempt: Attempt, record: RecordBuilder) -> None:
        """Nothing leaves, and what the policy refuses is refused as in the recorded run."""
        if not record.caller.sealed:
            return
        policy = SealedPolicy(request, record.caller, self._egress)
        permit = partial(policy.permitted, [attempt])
        if is_heavy(request.body):
            await self._offload.run(permit, body=request.body, owner=record.caller.owner)
        else:
            permit()
        record.stripped = policy.judged(attempt).stripped

    async def _found(
        self, answers: RecordedAnswers, request: RawRequest, body: bytes, record: RecordBuilder
    ) -> RecordedCall | None:
        key_of = partial(
            answers.key_of, body, endpoint=request.endpoint, model=request.model, stream=request.stream
        )
        if is_heavy(body):
            key = await self._offload.run(key_of, body=body, owner=record.caller.owner)
        else:
            key = key_of()
        return answers.take(key, body)

    async def _send(
        self, call: RecordedCall, source: ReplayUpstream, output: ResponseOutput, record: RecordBuilder
    ) -> None:
        head = ResponseHead(
            content_type=content_type(call),
            dialect=record.request.dialect,
            request_id=record.id,
            provider=source.name,
            model=record.request.model,
            attempts=len(record.attempts) + 1,
            overhead=record.overhead(),
            stripped=record.stripped,
            recording=call.id,
        )
        record.passthrough = True
        if call.status != 200 or not call.stream:
            if source.timing:
                await asyncio.sleep(call.seconds)
            await output.respond(call.status, head, call.response)
            return
        if source.timing:
            await asyncio.sleep(call.first_output or 0.0)
        await output.start(head)
        pieces = list(_events(call.response) if source.timing else _pieces(call.response))
        pause = max(0.0, call.seconds - (call.first_output or 0.0)) / max(1, len(pieces))
        for number, piece in enumerate(pieces):
            if number and source.timing:
                await asyncio.sleep(pause)
            await output.write(piece)
        if was_cut(call):
            output.abort()
        else:
            await output.finish()

    def _note(self, call: RecordedCall, attempt: Attempt, record: RecordBuilder, *, started: float) -> None:
        failure: ModelplexError | None = None
        if call.outcome != "ok" or call.status >= 400:
            failure = detached(
                ProviderError(
                    call.error or "The recorded call did not end well.",
                    status=call.status or None,
                    code=call.code,
                )
            )
            record.fail(failure)
        record.add_attempt(
            attempt,
            failure,
            started=started,
            seconds=perf_counter() - started,
            request_id=call.id,
            usage=call.usage,
            cost=0.0,  # nobody bills it
            charge=0.0,
        )
        record.finish_reason = call.finish_reason


DEMO: Final = "demo"
"""The provider of `on_miss = "demo"`."""


def _miss(answers: RecordedAnswers, request: RawRequest, body: bytes) -> ReplayMiss:
    nearest = answers.nearest(body, endpoint=request.endpoint)
    source = answers.recording.source
    if nearest is None:
        return ReplayMiss(f"The recording {source} has no call of {request.endpoint}.", param="model")
    path = nearest.difference.path if nearest.difference is not None else None
    return ReplayMiss(
        f"The recording {source} has no answer to this request. {_explained(nearest)}", param=path
    )


def _explained(nearest: Nearest) -> str:
    return nearest.sentence or f"{nearest.name}, which asks for another model or another form of stream."


def content_type(call: RecordedCall) -> bytes:
    """Recordings have bodies and no headers: by the first bytes."""
    begin = call.response[:64].lstrip()
    if begin.startswith((b"event:", b"data:", b"id:", b":")):
        return b"text/event-stream"
    if call.stream and call.status == 200 and begin.startswith(b"{"):
        return b"application/x-ndjson"
    if begin.startswith((b"{", b"[", b'"')) or not begin:
        return b"application/json"
    return b"application/octet-stream"


def was_cut(call: RecordedCall) -> bool:
    """Whether the recorded stream ended before its end: its client went away, or it broke in a
    dialect that has no form for an error in a stream.
    """
    if call.outcome == "client_closed":
        return True
    if call.outcome != "broken" or call.dialect not in DIALECTS:
        return False
    passthrough = DIALECTS[call.dialect].passthrough
    return passthrough is None or not passthrough.framing.error(ReplayMiss(""), "")


def _pieces(body: bytes) -> Iterator[bytes]:
    for start in range(0, len(body), PIECE):
        yield body[start : start + PIECE]


def _events(body: bytes) -> Iterator[bytes]:
    """The events of a stream, or its lines."""
    end = b"\n\n" if b"\n\n" in body else b"\n"
    start = 0
    while start < len(body):
        found = body.find(end, start)
        stop = len(body) if found < 0 else found + len(end)
        yield body[start:stop]
        start = stop

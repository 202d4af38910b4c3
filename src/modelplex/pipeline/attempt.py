"""One attempt: builds the upstream body, sends it, relays the response, and records what happened.

The commit point is the first output that goes to the client. A failure before it is returned, so
that the next candidate can be tried; a failure after it is written in the client's own protocol,
never as a normal end.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from functools import partial
from time import perf_counter
from typing import Final, TypeVar

import msgspec

from modelplex.core.errors import (
    ClientClosed,
    InternalFault,
    ModelplexError,
    PolicyDenied,
    RateLimited,
    Stopping,
    Unsupported,
    UpstreamAuth,
    UpstreamReply,
    detached,
)
from modelplex.core.events import Usage
from modelplex.core.request import Attempt, Change, ChatRequest, RawRequest, StrippedValue
from modelplex.dialects.core.estimate import estimated
from modelplex.dialects.core.refused_parameters import Refusal, may_take_out, without
from modelplex.dialects.core.token_members import REASON as TOKENS_REASON
from modelplex.dialects.core.token_members import SERVERS, with_token_members
from modelplex.dialects.dialect import Headers, TokenReader
from modelplex.dialects.endpoints import is_free
from modelplex.dialects.exchange import Exchange
from modelplex.dialects.form import CONVERSATION
from modelplex.dialects.parsed_request import ParsedRequest
from modelplex.dialects.raw_request import price_dimensions
from modelplex.dialects.registry import find
from modelplex.dialects.wrapped_exchange import TokenExchange
from modelplex.http_client import SendError
from modelplex.pipeline.call_plans import BegunPost
from modelplex.pipeline.error_redaction import redact_error
from modelplex.pipeline.missing_endpoints import MissingEndpoints, is_missing_endpoint
from modelplex.pipeline.offload import Offload, is_heavy, is_large
from modelplex.pipeline.refused_parameters import RefusedParameters
from modelplex.pipeline.response_output import ResponseHead, ResponseOutput
from modelplex.pipeline.sealed_policy import SealedPolicy
from modelplex.pipeline.state_origins import StateOrigins
from modelplex.pipeline.stored_responses import StoredResponses
from modelplex.pipeline.stream import (
    ResponseStream,
    StreamCallbacks,
    is_one_piece,
    nested_too_deep,
    refuse_page,
)
from modelplex.pipeline.upstream import (
    Upstream,
    UpstreamResponse,
    forwarded_headers,
    map_send_error,
    read_headers,
)
from modelplex.records.builder import RecordBuilder
from modelplex.records.price import Prices
from modelplex.routing.affinity import without_foreign_state
from modelplex.routing.circuit_breaker import BreakerRules
from modelplex.routing.circuits import Circuits
from modelplex.routing.failover import FailoverRules
from modelplex.routing.key_rotation import KeyRotation

log = logging.getLogger("modelplex.pipeline")

HUNG_UP = ClientClosed("The caller disconnected.")
"""The outcome of a request until it has another. Never raised."""
Result = TypeVar("Result")


class ErrorRules(msgspec.Struct, frozen=True):
    """What the config decides about the data path. `ping_interval` is seconds of silence after
    which a committed stream gets a keep-alive, and a held one is committed. `traces`: the
    gateway sends spans, and so begins a trace where the client has none. `tokens`: token ids and
    log probabilities of responses are recorded, and asked for.
    """

    failover: FailoverRules = FailoverRules()
    breaker: BreakerRules = BreakerRules()
    refuse_losses: bool = False
    drop_pinned_state: bool = False
    ping_interval: float = 15.0
    tokens: bool = False
    traces: bool = False


class RequestContext(msgspec.Struct, frozen=True):
    """One request while it is served. `stored` is set for dialects with stored responses, `policy`
    for sealed callers, `begun` where a plan has sent it.
    """

    parsed: ParsedRequest
    output: ResponseOutput
    record: RecordBuilder
    stored: StoredResponses | None = None
    policy: SealedPolicy | None = None
    begun: BegunPost | None = None


class _SentRequest(msgspec.Struct):
    """What was sent to a provider; `started` is a reading of the monotonic clock. `call` is set
    where the body was written from it. `exchange` is another one once the provider answered in
    another framing. `tokens` is set where token ids are recorded.
    """

    parsed: ParsedRequest
    attempt: Attempt
    exchange: Exchange
    started: float
    call: ChatRequest | None = None
    tokens: TokenReader | None = None


class _Written(msgspec.Struct, frozen=True):
    """The body and the dialect's headers of an attempt; empty where nothing was sent."""

    body: bytes = b""
    headers: Headers = ()


NOTHING: Final = _Written()


class AttemptRunner:
    """Runs attempts at the providers of one configuration."""

    def __init__(
        self,
        upstreams: Mapping[str, Upstream],
        *,
        rules: ErrorRules,
        prices: Prices,
        circuits: Circuits,
        origins: StateOrigins,
        keys: KeyRotation,
        offload: Offload,
    ) -> None:
        self._upstreams = upstreams
        self._rules = rules
        self._prices = prices
        self._circuits = circuits
        self._origins = origins
        self._keys = keys
        self._offload = offload
        self.missing = MissingEndpoints()
        self.refused = RefusedParameters()

    async def run(
        self, context: RequestContext, attempt: Attempt, request: ChatRequest | None
    ) -> ModelplexError | None:
        """Return what went wrong before the first output, or None where the caller has its
        response, complete or broken. `request` is set where opaque state was removed or unwrapped.
        """
        record = context.record
        if attempt.delay:
            await asyncio.sleep(attempt.delay)
            record.queued += attempt.delay
        usual = self._upstreams[attempt.provider].usual(attempt)
        if self.missing.has(attempt, now=perf_counter()):
            if usual is None:
                record.attempt = attempt
                error = no_endpoint(attempt)
                record.add_attempt(attempt, error, started=perf_counter(), seconds=0.0)
                return error
            attempt, usual = usual, None
        failure, sent = await self._once(context, attempt, request)
        if usual is not None and self.missing.has(attempt, now=perf_counter()):
            attempt = usual
            failure, sent = await self._once(context, attempt, request)
        if failure is None or self._rules.refuse_losses:
            return failure
        if _learn(self.refused, context, attempt, failure, sent):
            failure, _ = await self._once(context, attempt, request)
        return failure

    async def _once(
        self, context: RequestContext, attempt: Attempt, request: ChatRequest | None
    ) -> tuple[ModelplexError | None, _Written]:
        """As `run`, without another try; and what was sent."""
        record = context.record
        owner = record.caller.owner
        attempt = self.refused.adapted(attempt, caller=owner, now=perf_counter())
        record.attempt = attempt
        try:
            raw = context.parsed.raw_request
            passes = raw.dialect == attempt.dialect and request is None
            if is_large(raw.body) if passes else is_heavy(raw.body):
                parsed, exchange = await self.offloaded(
                    context, partial(self.exchange, context, attempt, request)
                )
            else:
                parsed, exchange = self.exchange(context, attempt, request)
        except (Unsupported, PolicyDenied) as error:  # another candidate may be able to serve it
            record.add_attempt(attempt, error, started=perf_counter(), seconds=0.0)
            return detached(error), NOTHING
        raw_request = _with_headers(self.refused, context, attempt, parsed.raw_request, exchange)
        record.changes, record.passthrough = exchange.changes, exchange.is_passthrough
        upstream = self._upstreams[attempt.provider]
        begun = context.begun
        connection = None if begun is None else begun.take(attempt, exchange.body)
        started = perf_counter() if begun is None or connection is None else begun.started
        record.upstream_sent = started
        self._circuits.attempt_started(attempt, record.caller.owner, now=started)
        tokens = exchange.tokens if isinstance(exchange, TokenExchange) else None
        sent = _SentRequest(parsed, attempt, exchange, started, request, tokens)
        response: UpstreamResponse | None = None
        failure: ModelplexError | None = HUNG_UP
        try:
            trace = record.trace_lines(begin=self._rules.traces) if upstream.trace_context else b""
            open_ = upstream.open if begun is None else begun.opener(connection, upstream.open)
            response = await open_(raw_request, attempt, exchange.body, trace=trace)
            failure = await self._relay(context, sent, response)
        except SendError as error:
            failure = map_send_error(attempt.provider, error)
        except ModelplexError as error:
            failure = self._missing_endpoint(error, attempt) or error
        except RecursionError:
            failure = nested_too_deep(attempt.provider)
        except Exception:
            log.exception("the attempt of %s at %s failed", record.id, attempt.provider)
            failure = InternalFault()
        finally:
            if response is not None:
                response.close()
            self._record(context, sent, response, failure)
        if context.output.started:
            if failure is not None:
                record.fail(failure)
            return None, NOTHING
        passed = raw_request.headers if attempt.dialect == raw_request.dialect else ()
        return failure, _Written(exchange.body, passed)

    def _missing_endpoint(self, error: ModelplexError, attempt: Attempt) -> Unsupported | None:
        """Unsupported where the provider does not have the endpoint, which is no health signal and
        is remembered; not for conversations at the usual endpoint, whose 404 is a wrong base_url.
        """
        if attempt.endpoint == CONVERSATION or not is_missing_endpoint(error, attempt):
            return None
        self.missing.add(attempt, now=perf_counter())
        return no_endpoint(attempt, status=error.upstream.status)

    def _record(
        self,
        context: RequestContext,
        sent: _SentRequest,
        response: UpstreamResponse | None,
        failure: ModelplexError | None,
    ) -> None:
        """Record the outcome of an attempt: in the Record, in the circuit breakers, and where its
        opaque state comes from.
        """
        record, attempt = context.record, sent.attempt
        if failure is not None:
            hide = self._upstreams[attempt.provider].hide
            redact_error(detached(failure), hide, sealed=record.caller.sealed)
        self._report_health(context, attempt, failure)
        observed = sent.exchange.observed
        usage = observed.usage or _usage_without_output(sent.parsed.raw_request, response, failure)
        cost, charge = self._cost(attempt, usage, sent.parsed.raw_request)
        record.add_attempt(
            attempt,
            failure,
            started=sent.started,
            seconds=perf_counter() - sent.started,
            request_id=None if response is None else read_headers(response.headers).request_id,
            usage=usage,
            cost=cost,
            charge=charge,
            sent=sent.exchange.body,
        )
        record.changes = sent.exchange.changes
        record.tokens = sent.tokens.kept() if sent.tokens is not None else None
        record.finish_reason = observed.finish if failure is None else None
        if context.stored is not None:
            record.response_id = context.stored.response_id
        if observed.opaque_states:
            self._origins.remember(observed.opaque_states, attempt)

    async def offloaded(self, context: RequestContext, work: Callable[[], Result]) -> Result:
        """Run work on a request's body, in a thread where the body is large."""
        body = context.parsed.raw_request.body
        return await self._offload.run(work, body=body, owner=context.record.caller.owner)

    def exchange(
        self, context: RequestContext, attempt: Attempt, request: ChatRequest | None
    ) -> tuple[ParsedRequest, Exchange]:
        """The exchange with this candidate, and the request that it was built from."""
        parsed = context.parsed
        stripped: tuple[StrippedValue, ...] = ()
        if context.policy is not None:
            parsed, stripped = self._permitted(context, context.policy, attempt)
        dropped: tuple[Change, ...] = ()
        if request is not None and self._rules.drop_pinned_state:
            request, dropped = without_foreign_state(request, attempt, self._origins.find)
        exchange = parsed.exchange(attempt, call=request)
        exchange.changes = dropped + exchange.changes
        owner = context.record.caller.owner
        refused = self.refused.of(attempt, caller=owner, now=perf_counter())
        _take_out(refused, exchange, parsed, attempt)
        if (seed := context.record.caller.seed) is not None:
            _set_seed(exchange, attempt, seed)
        if self._rules.refuse_losses and (lost := _first_loss(exchange.changes)) is not None:
            raise Unsupported(
                f'{attempt.provider} cannot be told {lost.path!r} as it stands ({lost.op}: {lost.reason}), and [server] on_loss is "refuse".',
                param=lost.path,
            )
        exchange.changes = parsed.raw_request.mended + exchange.changes
        if context.policy is not None:
            exchange.body, more = context.policy.written(
                exchange.body, attempt, is_passthrough=exchange.is_passthrough
            )
            stripped += more
        context.record.stripped = stripped
        if self._rules.tokens and context.record.keeps_bodies:
            names = {each.path for each in refused}
            exchange = _with_tokens(exchange, attempt, stream=parsed.raw_request.stream, refused=names)
        return parsed, exchange

    def _permitted(
        self, context: RequestContext, policy: SealedPolicy, attempt: Attempt
    ) -> tuple[ParsedRequest, tuple[StrippedValue, ...]]:
        """The request that the policy permits for this candidate, and what was stripped. It is
        parsed anew only where candidates are permitted different requests.
        """
        judged = policy.judged(attempt)
        if judged.raw_request is context.parsed.raw_request:
            return context.parsed, judged.stripped
        return parse(judged.raw_request, context.record, context.stored), judged.stripped

    def _cost(
        self, attempt: Attempt, usage: Usage | None, request: RawRequest
    ) -> tuple[float | None, float | None]:
        """The known cost of an attempt in US dollars, and what a budget counts, which may be from
        estimated usage.
        """
        if usage is None:
            return None, None
        seller = self._upstreams[attempt.provider].seller
        return self._prices.amounts(
            seller, attempt.model, usage, conditions=partial(price_dimensions, request)
        )

    def _report_health(
        self, context: RequestContext, attempt: Attempt, failure: ModelplexError | None
    ) -> None:
        """Report the outcome to the circuit breakers. A request counts once, with all its retries;
        a caller that disconnected is no signal.
        """
        caller = context.record.caller.owner
        if failure is None:
            self._circuits.succeeded(attempt, caller)
        elif isinstance(failure, ClientClosed | Stopping):
            self._circuits.ended_without_signal(attempt, caller)
        else:
            again = any(
                (each.provider, each.model, each.key) == (attempt.provider, attempt.model, attempt.key)
                for each in context.record.attempts
            )
            self._circuits.failed(
                attempt, caller, failure, now=perf_counter(), rules=self._rules.breaker, again=again
            )
        if isinstance(failure, UpstreamAuth | RateLimited):
            self._keys.advance(attempt, caller=caller, keys=self._upstreams[attempt.provider].keys)

    async def _relay(
        self, context: RequestContext, sent: _SentRequest, response: UpstreamResponse
    ) -> ModelplexError | None:
        """Send the response to the caller. Returns what broke it after its first output; raises
        what went wrong before.
        """
        output, record, stored = context.output, context.record, context.stored
        attempt, exchange = sent.attempt, sent.exchange
        upstream = self._upstreams[attempt.provider]
        if exchange.media_type and (not record.request.stream or is_one_piece(response)):
            await self._relay_whole(context, sent, response)
            return None
        label = (
            exchange.media_type.encode() or response.header(b"content-type") or b"application/octet-stream"
        )
        refuse_page(response, provider=attempt.provider)
        stream = ResponseStream(
            response,
            exchange,
            output,
            upstream=upstream,
            request_id=record.id,
            ping_interval=self._rules.ping_interval,
            callbacks=StreamCallbacks(
                head=lambda: _head(label, response, record),
                on_output=lambda: self._circuits.first_output(attempt, record.caller.owner),
                keep=stored.stream_keeper() if stored is not None else None,
            ),
        )
        return await stream.run()

    async def _relay_whole(
        self, context: RequestContext, sent: _SentRequest, response: UpstreamResponse
    ) -> None:
        """Send a response that is read as a whole, which becomes a stream where one was asked for.
        Raises what went wrong.
        """
        record, stored, exchange = context.record, context.stored, sent.exchange
        body = await response.body(limit=self._upstreams[sent.attempt.provider].max_response_size)
        whole = partial(_read_whole, sent, body)
        if is_large(body) or (not exchange.is_passthrough and is_heavy(body)):
            sent.exchange, out = await self._offload.run(whole, body=body, owner=record.caller.owner)
        else:
            sent.exchange, out = whole()
        record.changes, record.passthrough = sent.exchange.changes, sent.exchange.is_passthrough
        label = b"application/json"
        if record.request.stream:
            label = sent.exchange.media_type.encode()
            if stored is not None and (keep := stored.stream_keeper()) is not None:
                await keep(out)
        elif stored is not None:
            await stored.keep(out)
        await context.output.respond(200, _head(label, response, record), out)


def parse(request: RawRequest, record: RecordBuilder, stored: StoredResponses | None) -> ParsedRequest:
    kept = stored.kept if stored is not None else None
    return ParsedRequest(request, id=record.id, created=int(record.wall_time), kept=kept)


def _learn(
    refused: RefusedParameters,
    context: RequestContext,
    attempt: Attempt,
    failure: ModelplexError,
    sent: _Written,
) -> bool:
    """Whether the error names something without which the request is asked again."""
    record = context.record
    added = {change.path for change in record.changes if change.reason == TOKENS_REASON}
    owner, now = record.caller.owner, perf_counter()
    return sent is not NOTHING and refused.learn(
        failure, attempt, sent.body, caller=owner, now=now, added=added, headers=sent.headers
    )


def _with_headers(
    refused: RefusedParameters,
    context: RequestContext,
    attempt: Attempt,
    raw_request: RawRequest,
    exchange: Exchange,
) -> RawRequest:
    """The request with the headers that go to this candidate: those of its dialect, without what it
    refused.
    """
    if not raw_request.headers or attempt.dialect != raw_request.dialect:
        return raw_request
    owner = context.record.caller.owner
    headers, changes = refused.headers_for(attempt, raw_request.headers, caller=owner, now=perf_counter())
    if not changes:
        return raw_request
    exchange.changes += changes
    return msgspec.structs.replace(raw_request, headers=headers)


def _head(content_type: bytes, response: UpstreamResponse, record: RecordBuilder) -> ResponseHead:
    attempt = record.attempt
    assert attempt is not None
    return ResponseHead(
        content_type=content_type,
        dialect=record.request.dialect,
        request_id=record.id,
        provider=attempt.provider,
        model=attempt.model,
        attempts=len(record.attempts) + 1,
        overhead=record.overhead(),
        changes=record.changes,
        stripped=record.stripped,
        exhausted=record.exhausted,
        upstream_headers=tuple(forwarded_headers(response.headers)),
    )


GENERATING: Final = frozenset({CONVERSATION, "completions"})
"""Endpoints where a model generates text, by their name in a provider's row."""


def _set_seed(exchange: Exchange, attempt: Attempt, seed: int) -> None:
    """For endpoints where models generate text."""
    from modelplex.dialects.core.seed import with_seed

    provider = find(attempt.dialect)
    if provider is None or provider.form.served_as not in GENERATING:
        return
    refused = "seed" in attempt.quirks.refuses
    exchange.body, change = with_seed(exchange.body, provider.form.seed, seed, refused=refused)
    if change is not None:
        exchange.changes += (change,)


def _take_out(refused: list[Refusal], exchange: Exchange, parsed: ParsedRequest, attempt: Attempt) -> None:
    """Take what the provider refused out of the body."""
    own = [each for each in refused if may_take_out(each.path)]
    if not own:
        return
    exchange.body, taken_out = without(exchange.body, own)
    exchange.changes += tuple(
        msgspec.structs.replace(change, path=parsed.client_path(change.path, attempt)) for change in taken_out
    )


def _with_tokens(exchange: Exchange, attempt: Attempt, *, stream: bool, refused: set[str]) -> Exchange:
    """The exchange that asks for token ids and keeps them, where the provider knows how."""
    dialect = find(attempt.dialect)
    reader = dialect.provider.token_reader if dialect is not None and dialect.provider is not None else None
    if attempt.quirks.tokens == "none" or reader is None:
        return exchange
    members = SERVERS[attempt.quirks.tokens]
    asked = with_token_members(exchange.body, members, stream=stream, refused=frozenset(refused))
    wrapped = TokenExchange(exchange, reader())
    wrapped.body = asked.body
    wrapped.changes += asked.changes
    if asked.withholds:
        wrapped.withhold_logprobs()
    return wrapped


def _read_whole(sent: _SentRequest, body: bytes) -> tuple[Exchange, bytes]:
    if sent.tokens is not None:
        sent.tokens.whole(body)
    return sent.parsed.whole(sent.exchange, sent.attempt, body, call=sent.call)


def _first_loss(changes: tuple[Change, ...]) -> Change | None:
    return next((change for change in changes if change.op != "add"), None)


def no_endpoint(attempt: Attempt, *, status: int | None = None) -> Unsupported:
    answered = "It answered so within the last hour" if status is None else f"It answered {status}"
    return Unsupported(
        f"{attempt.provider} does not have /{attempt.endpoint} for {attempt.model!r}. {answered}.",
        upstream=UpstreamReply(status=status),
    )


def _usage_without_output(
    request: RawRequest, response: UpstreamResponse | None, failure: ModelplexError | None
) -> Usage | None:
    """What is billed for an attempt without usage and output. A provider whose response began had
    read the prompt. An error response costs nothing, and an HTML page is not from a model.
    """
    if response is None or is_free(request.endpoint):
        return None
    if failure is not None and (failure.upstream.body is not None or _is_html(response)):
        return None
    return estimated(request, characters=0)


def _is_html(response: UpstreamResponse) -> bool:
    return (response.header(b"content-type") or b"").lower().startswith(b"text/html")

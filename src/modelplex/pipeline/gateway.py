"""The data path of a model request. Begin reading here.

    request parsed -> policy -> candidates -> attempts with failover -> response written -> record

`CandidateSelection` selects the providers, `plan` orders them, `AttemptRunner` runs one attempt.
Imports no listener; a `ResponseOutput` is the caller's side. A caller that disconnects cancels the
task, which closes the upstream connection at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Mapping, Sequence
from functools import partial
from operator import attrgetter
from time import perf_counter
from typing import TYPE_CHECKING

import msgspec

from modelplex.core.errors import ModelplexError, Unsupported, detached
from modelplex.core.request import Attempt, Change, ChatRequest, RawRequest
from modelplex.dialects.core.search import holds_any
from modelplex.dialects.endpoints import is_count
from modelplex.dialects.parsed_request import (
    ParsedRequest,
    answer_locally,
    estimate_count,
    holds_envelopes,
    may_hold_opaque_state,
    may_name_stored_state,
)
from modelplex.dialects.raw_request import price_dimensions
from modelplex.dialects.registry import DIALECTS, same_family, write_error
from modelplex.dialects.wrapped_exchange import TokenExchange
from modelplex.pipeline.attempt import HUNG_UP, AttemptRunner, ErrorRules, RequestContext, parse
from modelplex.pipeline.call_plans import (
    READ,
    BegunPost,
    CallPlan,
    CallPlans,
    PlanBasis,
    Requester,
    marks_of,
    switches_between,
)
from modelplex.pipeline.candidates import CandidateSelection
from modelplex.pipeline.model_catalog import RECORDING, ModelCatalog
from modelplex.pipeline.offload import Offload
from modelplex.pipeline.response_output import ResponseHead, ResponseOutput
from modelplex.pipeline.sealed_policy import EgressRules, SealedPolicy
from modelplex.pipeline.state_origins import StateOrigins
from modelplex.pipeline.stored_responses import StoredResponses, open_stored
from modelplex.pipeline.upstream import Upstream
from modelplex.records.builder import RecordBuilder
from modelplex.records.price import Prices
from modelplex.routing.affinity import attempts_for_state
from modelplex.routing.circuits import Circuits, circuits_of
from modelplex.routing.failover import Exhausted, Outcome, plan
from modelplex.routing.key_rotation import KeyRotation

if TYPE_CHECKING:
    from modelplex.pipeline.exact_cache import ExactCache
    from modelplex.pipeline.replay import ReplayStage
    from modelplex.pipeline.response_store import ResponseStore


PLAN_BASIS: Callable[[Gateway], PlanBasis] = attrgetter(
    "catalog.directory", "keys.version", "runner.refused.version", "runner.missing.version", "origins.version"
)
"""What ends all plans by its change (`call_plans.py`)."""


class SharedState(msgspec.Struct, frozen=True):
    """What outlives a reload of the config. `responses` is None where none are kept."""

    circuits: Circuits
    origins: StateOrigins
    offload: Offload
    responses: ResponseStore | None = None


class Gateway:
    """The providers of one configuration. `chance` returns a number in [0, 1). `cache` is set where
    the configuration has one.
    """

    def __init__(
        self,
        upstreams: Mapping[str, Upstream],
        *,
        catalog: ModelCatalog,
        rules: ErrorRules,
        prices: Prices,
        egress: EgressRules,
        state: SharedState,
        chance: Callable[[], float],
        cache: ExactCache | None = None,
    ) -> None:
        self.upstreams = upstreams
        self.catalog = catalog
        self.rules = rules
        self.circuits = state.circuits
        self.offload = state.offload
        self.responses = state.responses
        self.prices = prices
        self.origins = state.origins
        self._chance = chance
        self.cache = cache
        self._replay: ReplayStage | None = None
        if any(each.type == RECORDING for each in upstreams.values()):
            from modelplex.pipeline.replay import ReplayStage

            self._replay = ReplayStage(upstreams.values(), egress=egress, offload=state.offload)
        self.keys = keys = KeyRotation()
        self.selection = CandidateSelection(
            upstreams, catalog=catalog, prices=prices, egress=egress, keys=keys, offload=state.offload
        )
        self.runner = AttemptRunner(
            upstreams,
            rules=rules,
            prices=prices,
            circuits=state.circuits,
            origins=state.origins,
            keys=keys,
            offload=state.offload,
        )

        self.plans = CallPlans(partial(PLAN_BASIS, self))

    def __repr__(self) -> str:
        return f"<Gateway {len(self.upstreams)} providers, {self.catalog!r}>"

    async def answer(
        self,
        request: RawRequest,
        output: ResponseOutput,
        record: RecordBuilder,
        *,
        requester: Requester | None = None,
        begun: BegunPost | None = None,
    ) -> None:
        """Answer one request, with an error if it fails; `record` holds what happened. Raises
        CancelledError where the caller hung up. `requester` gets a plan for such requests; `begun`
        is set where a plan has sent this one.
        """
        try:
            if self.cache is None:
                await self._answer(request, output, record, requester, begun)
            else:
                await self.cache.answer(request, output, record, self._answer)
        except ModelplexError as error:
            await _refuse(detached(error), output, record)
        except asyncio.CancelledError:
            if output.stop_error is None:
                record.fail(HUNG_UP)
                raise
            await _refuse(output.stop_error, output, record)

    async def _answer(
        self,
        request: RawRequest,
        output: ResponseOutput,
        record: RecordBuilder,
        requester: Requester | None = None,
        begun: BegunPost | None = None,
    ) -> None:
        caller, dialect = record.caller, DIALECTS[request.dialect]
        only: tuple[str, ...] = ()
        if self._replay is not None:
            found = await self._replay.answer(request, output, record)
            if found is None:
                return
            only = found
            requester = None
        stored: StoredResponses | None = None
        if dialect.storage is not None:
            request, stored = await open_stored(
                request, self.responses, owner=caller.owner, offload=self.offload
            )
            record.previous_response = stored.previous if stored is not None else None
        attempts, policy = await self.selection.attempts(request, caller, only=only)
        if (
            dialect.answer_locally is not None
            and (body := answer_locally(request, attempts, created=int(record.wall_time))) is not None
        ):
            await output.respond(200, ResponseHead(dialect=request.dialect, request_id=record.id), body)
            return
        if is_count(request.endpoint):
            attempts = [each for each in attempts if each.dialect]
            if not attempts:
                await self._estimate(request, output, record, "no provider of this model counts")
                return
            if self._may_pin(request, attempts):
                # The opaque state may be another candidate's, and a count is no conversation that
                # could be parsed for it.
                await self._estimate(request, output, record, "several providers may have made its state")
                return
        judged = policy.judged(attempts[0]).raw_request if policy is not None and attempts else request
        context = RequestContext(parse(judged, record, stored), output, record, stored, policy, begun)
        changed: ChatRequest | None = None
        if self._may_pin(request, attempts):
            attempts, changed = await self.runner.offloaded(
                context, partial(self._pinned, context.parsed, attempts)
            )
        steps: Generator[Attempt, Outcome, Exhausted] | None = None
        try:
            if attempts and self.circuits.all_closed:
                attempt = attempts[0]
            else:
                steps = self._plan(attempts, caller.owner)
                attempt = next(steps)
            while (error := await self.runner.run(context, attempt, changed)) is not None:
                if steps is None:
                    steps = self._plan(attempts, caller.owner, is_begun=True)
                    next(steps)
                attempt = steps.send(Outcome(error, self._chance()))
            if requester is not None and judged.body is request.body:
                self._remember(requester, context, attempts)
        except StopIteration as stop:
            error = stop.value.error
            if not is_count(request.endpoint) or not isinstance(error, Unsupported):
                raise error from None
            await self._estimate(request, output, record, "no provider of this model counts")

    def _remember(self, requester: Requester, context: RequestContext, attempts: Sequence[Attempt]) -> None:
        """Keep a plan of a call that was served in the usual way."""
        record, policy, attempt = context.record, context.policy, attempts[0]
        request = record.request
        if (
            request.stream
            or record.caller.seed is not None
            or self._traces(attempt, record)
            or not record.passthrough
            or record.failure is not None
            or record.attempt != attempt
            or len(record.attempts) != 1
            or record.changes
            or record.stripped
            or request.mended
            or (policy is not None and not _is_plain(policy, request, attempts))
            or requester.basis != PLAN_BASIS(self)
        ):
            return
        dialect = DIALECTS[request.dialect]
        marks = marks_of(dialect, attempt, may_pin=self._pins_by_marks(attempts))
        if marks is None or dialect.passthrough is None or holds_any(request.body, marks):
            return
        _, exchange = self.runner.exchange(context, attempt, None)
        post = self.upstreams[attempt.provider].prepared(context.parsed.raw_request, attempt)
        switches = switches_between(request.body, exchange.body)
        if post is None or switches is None or isinstance(exchange, TokenExchange):
            return
        plan = CallPlan(
            endpoint=request.endpoint,
            dialect=request.dialect,
            model=request.model,
            attempt=attempt,
            circuits=circuits_of(attempt),
            post=post,
            observe=dialect.passthrough.observe,
            marks=marks,
            lists=dialect.lists,
            conditions=price_dimensions(request),
            table=None if policy is None else dialect.policy,
            facts=None if policy is None else policy.facts(attempt),
            switches=switches,
        )
        self.plans.remember(requester, request, plan)

    def _traces(self, attempt: Attempt, record: RecordBuilder) -> bool:
        """Whether such a request goes to the provider with a trace of its own."""
        if record.trace is not None:
            return True
        return self.rules.traces and self.upstreams[attempt.provider].trace_context

    async def _estimate(
        self, request: RawRequest, output: ResponseOutput, record: RecordBuilder, reason: str
    ) -> None:
        """Answer a token count with an estimate; `reason` is why no provider counts."""
        record.changes = (Change("lower", "input_tokens", f"{reason}; it is estimated"),)
        counted = await self.offload.run(
            partial(estimate_count, request), body=request.body, owner=record.caller.owner
        )
        head = ResponseHead(dialect=request.dialect, request_id=record.id, changes=record.changes)
        await output.respond(200, head, counted or b"{}")

    def _plan(
        self, attempts: Sequence[Attempt], caller: str, *, is_begun: bool = False
    ) -> Generator[Attempt, Outcome, Exhausted]:
        circuits = self.circuits
        return plan(
            attempts,
            may_try=lambda attempt: circuits.may_try(attempt, caller, now=perf_counter()),
            rules=self.rules.failover,
            is_begun=is_begun,
            wait_reason=lambda attempt: circuits.wait_reason(attempt, caller, now=perf_counter()),
            wait_seconds=lambda attempt: circuits.wait_seconds(attempt, caller, now=perf_counter()),
        )

    def _may_pin(self, request: RawRequest, attempts: Sequence[Attempt]) -> bool:
        """Whether the body has to be parsed for state that may not go to every candidate. Where
        there is one origin, and no other ever made opaque state, only an envelope would matter: a
        search for every name costs half a millisecond a megabyte.
        """
        if not self._pins_by_marks(attempts):
            return holds_envelopes(request)
        return may_hold_opaque_state(request) or (len(attempts) > 1 and may_name_stored_state(request))

    def _pins_by_marks(self, attempts: Sequence[Attempt]) -> bool:
        """Whether opaque state outside of envelopes matters."""
        if len(attempts) == 1:
            origins = {(attempts[0].provider, attempts[0].account)}
        else:
            origins = {(each.provider, each.account) for each in attempts}
        return len(origins) != 1 or not self.origins.seen <= origins or self.rules.drop_pinned_state

    def _pinned(
        self, parsed: ParsedRequest, attempts: list[Attempt]
    ) -> tuple[list[Attempt], ChatRequest | None]:
        """The attempts to which the opaque state of the request may go. The ChatRequest comes with
        them where the body has to be written from it: an envelope is opened, or state is dropped.
        """
        if self.rules.drop_pinned_state:
            return attempts, parsed.call
        fitting = attempts_for_state(attempts, parsed.call, self.origins.find)
        return fitting, parsed.call if holds_envelopes(parsed.raw_request) else None


def _is_plain(policy: SealedPolicy, request: RawRequest, attempts: Sequence[Attempt]) -> bool:
    """Whether the policy decides about one candidate, and its switches follow from what is read of
    a body.
    """
    held = policy.switches(attempts[0])
    return len(attempts) == 1 and not any(name in request.fields and name not in READ for name in held)


async def _refuse(error: ModelplexError, output: ResponseOutput, record: RecordBuilder) -> None:
    """Answer with an error in the client's dialect. The provider's own body is passed on where it
    speaks the same dialect and blames the client.
    """
    record.fail(error)
    attempt = record.attempt
    dialect = record.request.dialect
    if attempt is None or not same_family(attempt.dialect, dialect):
        # A body of another dialect may look like one of the client's.
        error.upstream = msgspec.structs.replace(error.upstream, body=None)
    if record.request.stream and (failed := DIALECTS[dialect].family.write_failed_stream) is not None:
        stream = failed(error, id=record.id, created=int(record.wall_time), model=record.request.model)
        if stream is not None:
            await output.respond(200, _error_head(error, record, content_type=b"text/event-stream"), stream)
            return
    status, body = write_error(dialect, error, request_id=record.id)
    if error.upstream.body is not None and error.blame == "client":
        body = error.upstream.body
    await output.respond(status, _error_head(error, record), body)


def _error_head(
    error: ModelplexError, record: RecordBuilder, *, content_type: bytes = b"application/json"
) -> ResponseHead:
    attempt = record.attempt
    return ResponseHead(
        content_type=content_type,
        dialect=record.request.dialect,
        request_id=record.id,
        provider=attempt.provider if attempt is not None else "",
        model=attempt.model if attempt is not None else "",
        attempts=len(record.attempts),
        stripped=record.stripped,
        exhausted=record.exhausted,
        upstream_headers=error.upstream.headers,
        may_retry=error.sdk_may_retry,
        retry_after=error.retry_after,
    )

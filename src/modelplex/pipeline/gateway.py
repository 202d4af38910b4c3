"""The data path.

    A listener takes a request; its wire reads it; route names who to try, and in what order; a
    provider says how to reach them; their wire reads the answer back; our wire writes it out; a
    Record is kept.

Above it stand the listeners, which bring an Ask and a Door; below it the wires, the route, the
upstreams and the record. It is the only place where those meet. It decides nothing itself:
`resolve`, `plan`, `pin` and `health` decide, and it does what they say.

The point of no return is the first output that goes to the client. Before it, a failure is an
Outcome, and the next candidate is tried; after it, a failure is written in the client's own
protocol, never as a normal end. A caller that hangs up cancels the task that runs here, which
closes the upstream at once.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from functools import lru_cache, partial
from time import perf_counter
from typing import TypeVar
from urllib.parse import quote

import msgspec

from modelplex.core.caller import Caller
from modelplex.core.errors import (
    BudgetExceeded,
    ClientClosed,
    ModelplexError,
    PolicyDenied,
    RateLimited,
    Stopping,
    UnknownModel,
    Unsupported,
    UpstreamAuth,
    UpstreamBroken,
    detached,
)
from modelplex.core.events import Usage
from modelplex.core.request import Attempt, Change, ChatRequest, Endpoint, RawRequest, StrippedValue
from modelplex.dialects.core.estimate import estimated
from modelplex.dialects.core.foreign_errors import (
    error_without_addresses,
    error_without_page,
    without_addresses,
    without_page,
)
from modelplex.dialects.exchange import Exchange
from modelplex.dialects.openai_responses import dialect as openai_responses
from modelplex.dialects.parsed_request import (
    ParsedRequest,
    answered_here,
    counted_here,
    holds_envelopes,
    may_hold_seals,
    may_name_what_is_kept,
)
from modelplex.dialects.raw_request import prices_depend_on
from modelplex.dialects.registry import family, provider_dialect, request_names, write_error
from modelplex.http_client import SendError
from modelplex.pipeline.model_catalog import ModelCatalog
from modelplex.pipeline.offload import Offload
from modelplex.pipeline.response_store import ResponseStore
from modelplex.pipeline.sealed_policy import EgressRules, SealedPolicy
from modelplex.pipeline.stored_responses import StoredResponses
from modelplex.pipeline.stream import (
    Headers,
    ResponseOutput,
    ResponseStream,
    refuse_mislabelled,
    refuse_page,
    stopped,
)
from modelplex.pipeline.upstream import Upstream, UpstreamResponse, forwarded, told_by
from modelplex.providers.endpoints import COUNTS
from modelplex.records.builder import RecordBuilder
from modelplex.records.price import Prices, Seller
from modelplex.records.record import AttemptRecord
from modelplex.routing.affinity import Origin, pinned, without_foreign_state
from modelplex.routing.aliases import Candidate
from modelplex.routing.circuit_breaker import BreakerRules
from modelplex.routing.circuits import Circuits
from modelplex.routing.failover import Exhausted, FailoverRules, Outcome, plan

MISLABELLED_BYTES = 65_536
"""How much of an answer with a wrong content type is read, to find the error that it may be."""
MISLABELLED_STATUS = 502
"""The status that such an error is read with, since its own said 200."""
NO_SUCH_PATH = frozenset({404, 405, 501})
"""What services answer to an operation that they do not have."""
FREE = frozenset({*COUNTS, "moderations"})
"""Endpoints that no provider bills."""
REMEMBERED_SEALS = 20_000
"""Sealed states whose maker is remembered, about 4 MB; a conversation has some dozens, and the
oldest are forgotten first.
"""
HUNG_UP = ClientClosed("The caller hung up.")
"""What a call has come to unless it comes to something else. It is never raised."""
CHANGES_LIMIT = 1024
"""Bytes of x-modelplex-changes and of x-modelplex-stripped; the Record has all of them."""
PATH_MARKS = "/:@+;()[]"
"""What a path in x-modelplex-changes keeps as it is. A comma would begin another change, and
members may have any name.
"""
POINTER_MARKS = PATH_MARKS + "%~"
"""A pointer comes with its rare characters encoded already."""
Result = TypeVar("Result")
Makers = OrderedDict[int, Origin]
"""Who made a sealed state, by its hash."""
STREAM_HEADERS = [(b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")]
"""Streams are for their reader alone, and at once; nginx would hold them back otherwise."""


class ErrorRules(msgspec.Struct, frozen=True):
    """What the config decides of the data path. `ping_interval` is seconds of silence after which a
    committed stream gets a keep-alive, and a held one is committed.
    """

    failover: FailoverRules = FailoverRules()
    breaker: BreakerRules = BreakerRules()
    refuse_losses: bool = False
    drop_pinned_state: bool = False
    ping_interval: float = 15.0


class RequestContext(msgspec.Struct, frozen=True):
    """One request while it is answered: what is asked, who asked, what is noted of it, what is
    kept, and under which policy it goes.
    """

    asked: ParsedRequest
    door: ResponseOutput
    journal: RecordBuilder
    keeping: StoredResponses | None = None
    policing: SealedPolicy | None = None


class Gateway:
    """The providers of one configuration, ready to be asked. `chance` gives a number in [0, 1)."""

    def __init__(
        self,
        upstreams: Mapping[str, Upstream],
        *,
        listing: ModelCatalog,
        rules: ErrorRules,
        chance: Callable[[], float],
        prices: Prices,
        egress: EgressRules,
        answers: ResponseStore | None = None,
        circuits: Circuits | None = None,
        makers: Makers | None = None,
        offload: Offload | None = None,
    ) -> None:
        self.upstreams = upstreams
        self.listing = listing
        self.rules = rules
        self.circuits = circuits if circuits is not None else Circuits()
        self._chance = chance
        self._prices = prices
        self._egress = egress
        self.answers = answers
        self.offload = offload if offload is not None else Offload()
        self._preferred_key: dict[tuple[str, str], int] = {}
        self._makers: Makers = makers if makers is not None else OrderedDict()
        self._origins: set[Origin] = set(self._makers.values())

    def __repr__(self) -> str:
        return f"<Gateway {len(self.upstreams)} providers, {self.listing!r}>"

    async def answer(self, ask: RawRequest, door: ResponseOutput, journal: RecordBuilder) -> None:
        """Answer one request, whatever happens; what happened is in the journal. Raises
        CancelledError where the caller hung up.
        """
        try:
            await self._answer(ask, door, journal)
        except ModelplexError as error:
            await self._refuse(detached(error), door, journal)
        except asyncio.CancelledError:
            if not door.stopping:
                journal.failed(HUNG_UP)
                raise
            await self._refuse(stopped(), door, journal)

    async def _answer(self, ask: RawRequest, door: ResponseOutput, journal: RecordBuilder) -> None:
        keeping: StoredResponses | None = None
        if ask.dialect == openai_responses.DIALECT:
            keeping = StoredResponses(self.answers, owner=journal.caller.owner, offload=self.offload)
            journal.ask = ask = await keeping.opened(ask)
        attempts, policing = await self._permitted(ask, journal)
        if (body := answered_here(ask, attempts, created=int(journal.wall))) is not None:
            await door.whole(
                200, [(b"content-type", b"application/json"), (b"x-request-id", journal.id.encode())], body
            )
            return
        if ask.endpoint in COUNTS:
            attempts = [a for a in attempts if a.dialect]
            if not attempts:
                await self._estimate(ask, door, journal)
                return
        judged = policing.judged(attempts[0]).ask if policing is not None and attempts else ask
        turn = RequestContext(_asked(judged, journal, keeping), door, journal, keeping, policing)
        pinned_call: ChatRequest | None = None
        if self._must_pin(ask, attempts):
            attempts, pinned_call = await self._beside(turn, partial(self._pinned, turn.asked, attempts))
        steps = self._plan(attempts, journal.caller.owner)
        try:
            attempt = next(steps)
            while (error := await self._try(turn, attempt, pinned_call)) is not None:
                attempt = steps.send(Outcome(error, self._chance()))
        except StopIteration as stop:
            error = stop.value.error
            if ask.endpoint not in COUNTS or not isinstance(error, Unsupported):
                raise error from None
            await self._estimate(ask, door, journal)

    async def _estimate(self, ask: RawRequest, door: ResponseOutput, journal: RecordBuilder) -> None:
        """A prompt's length where no provider can be asked for it."""
        journal.changes = (
            Change("lower", "input_tokens", "no provider of this model counts; it is estimated"),
        )
        head = [
            (b"content-type", b"application/json"),
            *request_names(ask.dialect, journal.id),
            (b"x-modelplex-changes", changes_header(journal.changes)),
        ]
        counted = await self.offload.run(
            partial(counted_here, ask), body=ask.body, owner=journal.caller.owner
        )
        await door.whole(200, head, counted or b"{}")

    # --- who may be asked ---

    async def _permitted(
        self, ask: RawRequest, journal: RecordBuilder
    ) -> tuple[list[Attempt], SealedPolicy | None]:
        """Who may be sent this request, and the policy under which it goes. Raises UnknownModel and
        PolicyDenied.
        """
        candidates = await self.listing.candidates(ask.model, globs=journal.caller.models)
        if journal.caller.priced_only and ask.endpoint not in FREE:
            candidates = self._priced(candidates, journal.caller)
        sealed = journal.caller.sealed
        if sealed:
            candidates = self._not_by_guess(candidates, ask.model)
        attempts = [
            a
            for c in candidates
            for a in self._by_key(c.provider, c.model, ask.endpoint, journal.caller.owner)
        ]
        if not sealed:
            return attempts, None
        policing = SealedPolicy(ask, journal.caller, self._egress)
        permitted = await self.offload.run(
            partial(policing.permitted, attempts), body=ask.body, owner=journal.caller.owner
        )
        return permitted, policing

    def _priced(self, candidates: tuple[Candidate, ...], caller: Caller) -> tuple[Candidate, ...]:
        """An agent whose dollars are to be counted gets models whose price is known. Raises
        BudgetExceeded.
        """
        priced = tuple(c for c in candidates if self._prices.table(self._seller(c), c.model) is not None)
        if candidates and not priced:
            names = ", ".join(dict.fromkeys(f"{c.provider}/{c.model}" for c in candidates))
            raise BudgetExceeded(
                f'Policy: no price is known of {names}, and the agent {caller.agent!r} has a budget in dollars with on_unpriced = "refuse". '
                "The gateway's owner can name a price in [[prices]].",
                code="no_price_known",
                param="model",
            )
        return priced

    def _not_by_guess(self, candidates: tuple[Candidate, ...], asked: str) -> tuple[Candidate, ...]:
        """A name is text of the caller's own, so under the sealed policy it goes to nobody who may
        never have heard of it. Raises UnknownModel.
        """
        spelled = self._egress.spelled
        known = tuple(c for c in candidates if (c.provider, c.model) in spelled or self.listing.is_known(c))
        if candidates and not known:
            names = ", ".join(dict.fromkeys(c.provider for c in candidates))
            raise UnknownModel(
                f"The model {asked!r} is not known here: {names} could not be asked what it serves, and the sealed policy sends no name by guess. "
                "The gateway's owner can name it in [[providers]] models.",
                param="model",
            )
        return known

    def _by_key(self, provider: str, model: str, endpoint: Endpoint, caller: str) -> list[Attempt]:
        attempts = self.upstreams[provider].attempts(model, endpoint)
        first = self._preferred_key.get((caller, provider), 0)
        return attempts[first:] + attempts[:first] if first else attempts

    def _plan(self, attempts: Sequence[Attempt], caller: str) -> Generator[Attempt, Outcome, Exhausted]:
        circuits = self.circuits
        return plan(
            attempts,
            open_to=lambda attempt: circuits.may_try(attempt, caller, now=perf_counter()),
            rules=self.rules.failover,
            why_shut=lambda attempt: (
                told.reason
                if (told := circuits.told(attempt, caller, now=perf_counter())) is not None
                else ""
            ),
            told_wait=lambda attempt: circuits.told_wait(attempt, caller, now=perf_counter()),
        )

    def _must_pin(self, ask: RawRequest, attempts: Sequence[Attempt]) -> bool:
        """Whether the body has to be read for state that may not go to everybody. Where there is
        one candidate, and nobody else ever sealed anything, only an envelope would matter: a look
        for every name costs half a millisecond a megabyte.
        """
        origins = {(a.provider, a.account) for a in attempts}
        if len(origins) == 1 and self._origins <= origins and not self.rules.drop_pinned_state:
            return holds_envelopes(ask)
        return may_hold_seals(ask) or (len(attempts) > 1 and may_name_what_is_kept(ask))

    def _pinned(
        self, asked: ParsedRequest, attempts: list[Attempt]
    ) -> tuple[list[Attempt], ChatRequest | None]:
        """Where sealed state may go. The Call comes with it where an envelope must be opened, so
        that the bytes cannot pass untouched.
        """
        if self.rules.drop_pinned_state:
            return attempts, asked.call
        fitting = pinned(attempts, asked.call, self._maker)
        return fitting, asked.call if holds_envelopes(asked.ask) else None

    def _maker(self, seal: str) -> Origin | None:
        return self._makers.get(_mark(seal))

    def _remember(self, seals: tuple[str, ...], attempt: Attempt) -> None:
        for seal in seals:
            self._makers[_mark(seal)] = origin = (attempt.provider, attempt.account)
            self._origins.add(origin)
        while len(self._makers) > REMEMBERED_SEALS:
            self._makers.popitem(last=False)

    # --- one attempt ---

    async def _try(
        self, turn: RequestContext, attempt: Attempt, call: ChatRequest | None
    ) -> ModelplexError | None:
        """Returns what went wrong before the first output, or None where the caller has its answer,
        whole or broken.
        """
        journal = turn.journal
        if attempt.delay:
            await asyncio.sleep(attempt.delay)
            journal.queued += attempt.delay
        journal.attempt = attempt
        try:
            asked, passage = await self._beside(turn, partial(self._passage, turn, attempt, call))
        except (Unsupported, PolicyDenied) as error:  # another candidate may have the words
            journal.tried(attempt, error, seconds=0.0)
            return detached(error)
        journal.changes, journal.passing = passage.changes, passage.passing
        upstream = self.upstreams[attempt.provider]
        caller = journal.caller.owner
        journal.left = started = perf_counter()
        self.circuits.left(attempt, caller, now=started)
        answer: UpstreamResponse | None = None
        failure: ModelplexError | None = HUNG_UP
        try:
            answer = await upstream.open(asked.ask, attempt, passage.body)
            failure = await self._relay(turn, attempt, answer, passage)
        except SendError as error:
            failure = told_by(attempt.provider, error)
        except ModelplexError as error:
            failure = _cannot_count(error, attempt) or error
        except RecursionError:
            failure = UpstreamBroken(
                f"{attempt.provider} answered with JSON that is nested deeper than is read."
            )
        finally:
            if answer is not None:
                answer.close()
            if failure is not None:
                as_told(detached(failure), upstream.hide, sealed=journal.caller.sealed)
            self._note(turn, attempt, failure)
            seen = passage.seen
            usage = seen.usage or _begun(asked.ask, answer, failure)
            cost, charge = self._cost(attempt, usage, asked.ask)
            journal.tried(
                attempt,
                failure,
                seconds=perf_counter() - started,
                request_id=_upstream_id(answer),
                usage=usage,
                cost=cost,
                charge=charge,
            )
            journal.changes = passage.changes
            journal.finish = seen.finish if failure is None else None
            self._remember(seen.seals, attempt)
        if turn.door.begun:
            if failure is not None:
                journal.failed(failure)
            return None
        return failure

    async def _beside(self, turn: RequestContext, work: Callable[[], Result]) -> Result:
        """What is done with a request's body, in a thread where it is a large one."""
        ask = turn.asked.ask
        return await self.offload.run(work, body=ask.body, owner=turn.journal.caller.owner)

    def _passage(
        self, turn: RequestContext, attempt: Attempt, call: ChatRequest | None
    ) -> tuple[ParsedRequest, Exchange]:
        """What goes to this candidate, and the request that it was made of."""
        asked, stripped = self._judged(turn, attempt)
        dropped: tuple[Change, ...] = ()
        if call is not None and self.rules.drop_pinned_state:
            call, dropped = without_foreign_state(call, attempt, self._maker)
        passage = asked.passage(attempt, call=call)
        passage.changes = dropped + passage.changes
        losses = [change for change in passage.changes if change.op != "add"]
        if losses and self.rules.refuse_losses:
            lost = losses[0]
            raise Unsupported(
                f'{attempt.provider} cannot be told {lost.path!r} as it stands ({lost.op}: {lost.reason}), and [server] on_loss is "refuse".',
                param=lost.path,
            )
        passage.changes = asked.ask.mended + passage.changes
        if turn.policing is not None:
            passage.body, more = turn.policing.written(passage.body, attempt, passing=passage.passing)
            stripped += more
        turn.journal.stripped = stripped
        return asked, passage

    def _judged(
        self, turn: RequestContext, attempt: Attempt
    ) -> tuple[ParsedRequest, tuple[StrippedValue, ...]]:
        """The request as policy lets it go to this candidate, and what it lost. It is read anew
        only where another candidate may be sent more or less.
        """
        if turn.policing is None:
            return turn.asked, ()
        judged = turn.policing.judged(attempt)
        if judged.ask is turn.asked.ask:
            return turn.asked, judged.stripped
        return _asked(judged.ask, turn.journal, turn.keeping), judged.stripped

    def _seller(self, attempt: Attempt | Candidate | AttemptRecord) -> Seller:
        upstream = self.upstreams[attempt.provider]
        return Seller(attempt.provider, upstream.type, upstream.base_url)

    def _cost(
        self, attempt: Attempt, usage: Usage | None, ask: RawRequest
    ) -> tuple[float | None, float | None]:
        """US dollars of an attempt as far as they are known, and those that a budget counts, which
        are of an estimate too.
        """
        if usage is None:
            return None, None
        seller, said = self._seller(attempt), prices_depend_on(ask)
        cost = self._prices.cost(seller, attempt.model, usage, said=said)
        return cost, self._prices.charge(seller, attempt.model, usage, said=said) if cost is None else cost

    def _note(self, turn: RequestContext, attempt: Attempt, failure: ModelplexError | None) -> None:
        """What it says of the provider's health. A request counts once, however often it is tried;
        a caller that hung up says nothing.
        """
        caller = turn.journal.caller.owner
        if failure is None:
            self.circuits.answered(attempt, caller)
        elif isinstance(failure, ClientClosed | Stopping):
            self.circuits.ended(attempt, caller)
        else:
            again = any(
                (one.provider, one.model, one.key) == (attempt.provider, attempt.model, attempt.key)
                for one in turn.journal.tries
            )
            self.circuits.failed(
                attempt, caller, failure, now=perf_counter(), rules=self.rules.breaker, again=again
            )
        if isinstance(failure, UpstreamAuth | RateLimited):
            keys = self.upstreams[attempt.provider].keys
            self._preferred_key[caller, attempt.provider] = (attempt.key + 1) % keys

    # --- what comes back ---

    async def _relay(
        self, turn: RequestContext, attempt: Attempt, answer: UpstreamResponse, passage: Exchange
    ) -> ModelplexError | None:
        """Give the answer to the caller. Returns what broke it after its first output; raises what
        went wrong before.
        """
        door, journal, keeping = turn.door, turn.journal, turn.keeping
        provider = self.upstreams[attempt.provider]
        if passage.media_type and not journal.ask.stream:
            body = await answer.body(limit=provider.max_response_size)
            out = await self.offload.run(partial(passage.whole, body), body=body, owner=journal.caller.owner)
            journal.changes = passage.changes
            if keeping is not None:
                await keeping.keep(out)
            await door.whole(200, self._head(b"application/json", answer, journal), out)
            return None
        label = passage.media_type.encode() or answer.header(b"content-type") or b"application/octet-stream"
        if passage.media_type:
            dialect = provider_dialect(attempt.dialect)
            await refuse_mislabelled(
                answer,
                provider=attempt.provider,
                read_error=lambda body: dialect.read_error(MISLABELLED_STATUS, {}, body),
                limit=MISLABELLED_BYTES,
            )
        else:
            refuse_page(answer, provider=attempt.provider)
        stream = ResponseStream(
            answer,
            passage,
            door,
            provider=attempt.provider,
            request_id=journal.id,
            head=lambda: self._head(label, answer, journal),
            on_output=lambda: self.circuits.output(attempt, journal.caller.owner),
            quiet=self.rules.ping_interval,
            hide=provider.hide,
            keep=keeping.keep_of if keeping is not None and keeping.kept and keeping.kept.store else None,
        )
        return await stream.run()

    def _head(self, label: bytes, answer: UpstreamResponse, journal: RecordBuilder) -> Headers:
        """An answer's headers: what happened, and what the provider says of its limits."""
        attempt = journal.attempt
        assert attempt is not None
        head = [
            (b"content-type", label),
            *request_names(journal.ask.dialect, journal.id),
            (b"x-modelplex-provider", _visible(attempt.provider)),
            (b"x-modelplex-model", _visible(attempt.model)),
            (b"x-modelplex-attempts", b"%d" % (len(journal.tries) + 1)),
            (b"x-modelplex-overhead-ms", b"%.3f" % (journal.ours() * 1000)),
        ]
        if label.startswith(b"text/event-stream"):
            head += STREAM_HEADERS
        if journal.changes:
            head.append((b"x-modelplex-changes", changes_header(journal.changes)))
        if journal.stripped:
            head.append((b"x-modelplex-stripped", stripped_header(journal.stripped)))
        head += forwarded(answer.headers)
        return head

    async def _refuse(self, error: ModelplexError, door: ResponseOutput, journal: RecordBuilder) -> None:
        """The answer is an error, in the caller's dialect. Where the provider speaks the same one,
        in its own words.
        """
        journal.failed(error)
        attempt = journal.attempt
        if attempt is None or family(attempt.dialect) != family(journal.ask.dialect):
            error.upstream_body = None  # another dialect's words, and some look like the caller's own
        status, body = write_error(journal.ask.dialect, error, request_id=journal.id)
        own_words = error.upstream_body
        if own_words is not None and error.blame == "client":
            body = own_words
        head = [(b"content-type", b"application/json"), *request_names(journal.ask.dialect, journal.id)]
        if attempt is not None:
            head += [
                (b"x-modelplex-provider", _visible(attempt.provider)),
                (b"x-modelplex-model", _visible(attempt.model)),
                (b"x-modelplex-attempts", b"%d" % len(journal.tries)),
            ]
        if journal.stripped:
            head.append((b"x-modelplex-stripped", stripped_header(journal.stripped)))
        told = error.upstream_headers
        if not error.sdk_may_retry:
            told = (
                *((name, value) for name, value in told if name != b"x-should-retry"),
                (b"x-should-retry", b"false"),
            )
        head += told
        if error.retry_after is not None and not any(name == b"retry-after" for name, _ in told):
            head.append((b"retry-after", b"%.12g" % error.retry_after))
        await door.whole(status, head, body)


def _asked(ask: RawRequest, journal: RecordBuilder, keeping: StoredResponses | None) -> ParsedRequest:
    kept = keeping.kept if keeping is not None else None
    return ParsedRequest(ask, id=journal.id, created=int(journal.wall), kept=kept)


def _mark(seal: str) -> int:
    """What a seal is known again by. Clients that hold it as bytes send it back in either alphabet
    of base64.
    """
    return hash(seal.replace("-", "+").replace("_", "/"))


def as_told(error: ModelplexError, hide: Callable[[bytes], bytes], *, sealed: bool) -> None:
    """What a caller may read of a failure. This is the one place that every attempt's failure
    passes: an error inside an answer, one in the place of an answer, and one of the connection.
    Some repeat what they were sent, some are a proxy's page, and some name the machines behind the
    provider.

    A sealed caller is told no address at all; another one may read those in a refusal of its own
    request, which it may have written itself.
    """

    def told(text: str) -> str:
        text = without_page(hide(text.encode("utf-8", "replace")).decode())
        return without_addresses(text) if sealed or error.blame == "provider" else text

    error.message = told(error.message)
    error.args = (error.message,)
    error.type = told(error.type)
    error.code = told(error.code) if error.code is not None else None
    error.param = told(error.param) if error.param is not None else None
    if error.upstream_body is not None:
        body = error_without_page(hide(error.upstream_body))
        error.upstream_body = error_without_addresses(body) if sealed else body


def _cannot_count(error: ModelplexError, attempt: Attempt) -> Unsupported | None:
    """What such an answer to the question for a prompt's length means: the service speaks the form,
    but not this part of it. That is no fault of its health.
    """
    if attempt.endpoint not in COUNTS or error.upstream_status not in NO_SUCH_PATH:
        return None
    if isinstance(error, UnknownModel) and attempt.model in error.message:
        return None
    return Unsupported(f"{attempt.provider} does not count tokens.", upstream_status=error.upstream_status)


def _begun(ask: RawRequest, answer: UpstreamResponse | None, failure: ModelplexError | None) -> Usage | None:
    """What is billed for an attempt of which no usage and no output came. Once its answer had
    begun, the provider had read the prompt. An error in the place of an answer costs nothing, and a
    page in HTML is no model's.
    """
    if answer is None or ask.endpoint in FREE:
        return None
    if failure is not None and (failure.upstream_body is not None or _is_html(answer)):
        return None
    return estimated(ask, characters=0)


def _is_html(answer: UpstreamResponse) -> bool:
    return (answer.header(b"content-type") or b"").lower().startswith(b"text/html")


def _upstream_id(answer: UpstreamResponse | None) -> str | None:
    if answer is None:
        return None
    found = answer.header(b"x-request-id") or answer.header(b"request-id")
    return found.decode("latin-1") if found is not None else None


@lru_cache(maxsize=1024)
def _visible(text: str) -> bytes:
    """A name as a header value: what is not plain ASCII is percent-encoded."""
    return quote(text, safe="/:@+,;=()[] ").encode()


def changes_header(changes: tuple[Change, ...]) -> bytes:
    """`op=path[,...]`, cut at CHANGES_LIMIT bytes with the number of those left out
    (docs/reference/translation.md#losses).
    """
    told = (f"{change.op}={quote(change.path, safe=PATH_MARKS)}" for change in changes)
    return _listed(told, total=len(changes))


def stripped_header(stripped: tuple[StrippedValue, ...]) -> bytes:
    """`pointer=rule[,...]`, cut like the changes."""
    told = (f"{quote(one.pointer, safe=POINTER_MARKS)}={one.rule}" for one in stripped)
    return _listed(told, total=len(stripped))


def _listed(items: Iterable[str], *, total: int) -> bytes:
    """As many as there is room for. No more are written: there may be one for each member of a
    body.
    """
    kept: list[str] = []
    size = 0
    for item in items:
        if size + len(item) > CHANGES_LIMIT:
            kept.append(f"more={total - len(kept)}")
            break
        kept.append(item)
        size += len(item) + 1
    return ",".join(kept).encode()

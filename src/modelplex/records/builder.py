"""Collects the events of a request and builds its Record. Times are arguments."""

from __future__ import annotations

import msgspec

from modelplex.core.caller import Caller
from modelplex.core.errors import Blame, ClientClosed, ModelplexError, PolicyDenied, QuotaExceeded
from modelplex.core.events import Usage
from modelplex.core.request import Attempt, Change, RawRequest, StrippedValue
from modelplex.core.trace_context import (
    SAMPLED,
    TraceContext,
    attempt_id,
    span_id_of,
    trace_id_of,
    traceparent,
)
from modelplex.records.record import AS_RECEIVED, AttemptRecord, Outcome, Record, Times


class CallFailure(msgspec.Struct, frozen=True):
    """The error of a call as plain data: an exception would keep its frames and the body alive."""

    message: str
    code: str
    blame: Blame
    client_closed: bool
    rule: str = ""


class RecordBuilder(msgspec.Struct, kw_only=True, eq=False):
    """The state of one call. Times are seconds of one monotonic clock; `wall_time` is Unix time.

    received  the body as it came, None until it was read. `request` has the one that is served
    read, declared  bytes that came of a body that was not read to its end, and its content-length
    keeps_bodies    the Record gets the bodies; `body_chunks` are those of the response
    """

    id: str
    request: RawRequest
    caller: Caller
    started: float
    wall_time: float
    received: bytes | None = None
    read: int = 0
    declared: int | None = None
    headers: tuple[tuple[str, str], ...] = ()
    response_id: str | None = None
    previous_response: str | None = None
    trace: TraceContext | None = None
    attempt: Attempt | None = None
    attempts: list[AttemptRecord] = []
    exhausted: tuple[str, ...] = ()
    """Providers whose usage limit was found to be reached."""
    changes: tuple[Change, ...] = ()
    stripped: tuple[StrippedValue, ...] = ()
    passthrough: bool = False
    queued: float = 0.0
    upstream_sent: float | None = None
    first_output: float | None = None
    output_started: bool = False
    status: int = 0
    failure: CallFailure | None = None
    usage: Usage | None = None
    finish_reason: str | None = None
    cost: float | None = None
    bytes_out: int = 0
    keeps_bodies: bool = False
    tokens: bytes | None = None
    """Of the last attempt."""
    body_chunks: list[bytes] | None = None

    def __repr__(self) -> str:
        return f"<RecordBuilder {self.id} {self.request.endpoint}, {len(self.attempts)} attempts>"

    def overhead(self) -> float:
        """Seconds of the gateway's own time until the upstream request was sent, without earlier
        attempts and their delays.
        """
        spent = self.queued
        if self.attempt is not None and self.attempt.number > 1:
            spent += sum(one.seconds for one in self.attempts[: self.attempt.number - 1])
        return max(0.0, (self.upstream_sent or self.started) - self.started - spent)

    def add_attempt(
        self,
        attempt: Attempt,
        error: ModelplexError | None,
        *,
        started: float,
        seconds: float,
        request_id: str | None = None,
        usage: Usage | None = None,
        cost: float | None = None,
        charge: float | None = None,
        sent: bytes | None = None,
    ) -> None:
        self.usage, self.cost = usage, cost
        if isinstance(error, QuotaExceeded) and attempt.provider not in self.exhausted:
            self.exhausted += (attempt.provider,)
        self.attempts.append(
            AttemptRecord(
                provider=attempt.provider,
                model=attempt.model,
                key=attempt.key,
                outcome="ok" if error is None else error.code or error.type,
                status=200 if error is None else error.upstream.status,
                started=started - self.started,
                seconds=seconds,
                message=None if error is None else error.message,
                upstream_request_id=request_id,
                usage=usage,
                cost=cost,
                charge=charge,
                dialect=attempt.dialect,
                otel_name=attempt.otel_name,
                sent=self._kept(sent),
                bytes_sent=0 if sent is None else len(sent),
            )
        )

    def _kept(self, sent: bytes | None) -> bytes | None:
        if sent is None or not self.keeps_bodies:
            return None
        received = self.request.body if self.received is None else self.received
        return AS_RECEIVED if sent == received else sent

    def trace_lines(self, *, begin: bool) -> bytes:
        """Header lines by which a provider goes on with the trace of this request, below the span
        of the attempt that begins. Without a trace of the client, nothing, or those of a new one.
        """
        trace = self.trace
        if trace is None and not begin:
            return b""
        run = self.caller.run
        trace_id = (
            trace.trace_id if trace is not None else trace_id_of(run.id if run is not None else self.id)
        )
        span = span_id_of(attempt_id(self.id, len(self.attempts)))
        lines = (
            f"traceparent: {traceparent(trace_id, span, trace.flags if trace is not None else SAMPLED)}\r\n"
        )
        if trace is not None and trace.state:
            lines += f"tracestate: {trace.state}\r\n"
        return lines.encode("ascii")

    def fail(self, error: ModelplexError) -> None:
        self.failure = CallFailure(
            error.message,
            error.code or error.type,
            error.blame,
            isinstance(error, ClientClosed),
            error.rule if isinstance(error, PolicyDenied) else "",
        )

    def budget_charge(self) -> tuple[int, float]:
        """Tokens and US dollars that all attempts count against a budget; 0 dollars for an unknown
        price.
        """
        tokens, dollars = 0, 0.0
        for one in self.attempts:
            if (usage := one.usage) is not None:
                tokens += usage.input + usage.output
                dollars += one.charge or 0.0
        return tokens, dollars

    def record(self, *, now: float) -> Record:
        """`now` is when the last byte was sent."""
        ask, caller, failure, attempt = self.request, self.caller, self.failure, self.attempt
        outcome: Outcome
        if failure is None:
            outcome = "ok"
        elif failure.client_closed:
            outcome = "client_closed"
        else:
            outcome = "broken" if self.output_started else "error"
        body = ask.body if self.received is None else self.received
        return Record(
            id=self.id,
            started=self.wall_time,
            listener=caller.listener,
            client=caller.client,
            agent=caller.agent,
            run=caller.run.id if caller.run is not None else "",
            peer=caller.peer,
            peer_network=caller.attested,
            endpoint=ask.endpoint,
            dialect=ask.dialect,
            requested_model=ask.model,
            model=attempt.model if attempt is not None else "",
            provider=attempt.provider if attempt is not None else "",
            stream=ask.stream,
            passthrough=self.passthrough,
            status=self.status,
            outcome=outcome,
            blame=failure.blame if failure is not None else None,
            error=failure.message if failure is not None else None,
            code=failure.code if failure is not None else None,
            rule=failure.rule if failure is not None else "",
            finish_reason=self.finish_reason,
            usage=self.usage,
            cost=self.cost,
            times=Times(
                overhead=self.overhead(),
                queued=self.queued,
                first_output=self.first_output - self.started if self.first_output is not None else None,
                total=now - self.started,
            ),
            attempts=tuple(self.attempts),
            changes=self.changes,
            stripped=self.stripped,
            bytes_in=len(body) or self.read,
            bytes_out=self.bytes_out,
            declared=self.declared,
            headers=self.headers,
            response_id=self.response_id,
            previous_response=self.previous_response,
            trace=self.trace,
            request_body=body if self.body_chunks is not None else None,
            response_body=b"".join(self.body_chunks) if self.body_chunks is not None else None,
            tokens=self.tokens,
        )

"""The body that a provider gets for a stored request, as the gateway writes it now.

Only what clients send is stored: a provider's body differs from it by what the Record names, and
would double what is stored. It is written again by the code that serves requests, so that another
config or version since then shows.
"""

from __future__ import annotations

from typing import cast

import msgspec

from modelplex.core.errors import NotFound
from modelplex.core.request import Endpoint
from modelplex.dialects.raw_request import read_request
from modelplex.pipeline.attempt import RequestContext, parse
from modelplex.pipeline.gateway import Gateway
from modelplex.pipeline.response_output import ResponseOutput
from modelplex.records.builder import RecordBuilder
from modelplex.records.store.queries import CallSummary
from modelplex.server.callers import CallerResolver

NO_CLIENT = cast("ResponseOutput", None)
"""Building a body writes nothing to a client."""


async def sent_body(gateway: Gateway, callers: CallerResolver, call: CallSummary, body: bytes) -> bytes:
    """Raises NotFound where that provider is no candidate any more, and what a request with this
    body would be refused with.
    """
    caller = callers.caller_like(listener=call.listener, agent=call.agent)
    if caller is None or not call.provider:
        raise NotFound("No provider got this request, or its agent is no longer in the config.")
    request = read_request(
        body, endpoint=cast("Endpoint", call.endpoint), dialect=call.dialect, model=None, stream=None
    )
    if not request.model:
        request = msgspec.structs.replace(request, model=call.requested_model)
    record = RecordBuilder(id=call.id, request=request, caller=caller, started=0.0, wall_time=call.started)
    attempts, policy = await gateway.selection.attempts(request, caller)
    wanted = (call.provider, call.model)
    attempt = next((each for each in attempts if (each.provider, each.model) == wanted), None)
    if attempt is None:
        raise NotFound(f"{call.provider} no longer serves {call.model!r} to this agent.")
    judged = policy.judged(attempt).raw_request if policy is not None else request
    context = RequestContext(parse(judged, record, None), NO_CLIENT, record, None, policy)
    _, exchange = await gateway.runner.offloaded(
        context, lambda: gateway.runner.exchange(context, attempt, None)
    )
    return exchange.body

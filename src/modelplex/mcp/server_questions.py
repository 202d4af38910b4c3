"""Requests that a server makes of its client during a call (sampling, elicitation, roots). They are
answered from the config, relayed to a legacy client, or given to a modern client as input requests.
"""

from __future__ import annotations

import asyncio
from typing import cast

from modelplex.dialects.core.json import as_object
from modelplex.mcp import era_translation
from modelplex.mcp.call_route import CallRoute
from modelplex.mcp.constants import (
    INTERNAL_ERROR,
    META_RELATED,
    METHOD_NOT_FOUND,
    MISSING_CAPABILITY,
    Json,
    McpReply,
)
from modelplex.mcp.request_state import RequestStateSealer, SealedRequestState


async def answer_questions(
    call: CallRoute,
    questions: Json,
    *,
    timeout: float,  # noqa: ASYNC109 - seconds for each answer
) -> tuple[Json, Json | McpReply]:
    """Answer input requests from the config or by asking a legacy client. Returns the answers and
    the questions left for a modern client, or an error that ends the call.
    """
    answers: Json = {}
    left: Json = {}
    for key, question in questions.items():
        method, params = _question(question)
        if method == "roots/list" and call.upstream.config.roots:
            answers[key] = call.roots
        elif not era_translation.may_ask(method, params, call.capabilities):
            return {}, refuse_question(call, era_translation.required_capabilities(method))
        elif call.client.era == "modern":
            left[key] = question
        else:
            try:
                async with asyncio.timeout(timeout):
                    answer = await ask_client(call, method, params)
            except TimeoutError:
                answer = McpReply.failed(INTERNAL_ERROR, "no answer in time")
            if answer.result is None:
                reason = (answer.error or {}).get("message", "no answer")
                return {}, call.failed(f"The client did not answer {method}: {reason}", "client")
            answers[key] = answer.result
    return answers, left


async def ask_client(call: CallRoute, method: str, params: Json) -> McpReply:
    """Relay a request to a legacy client, without reserved members of `_meta`."""
    if not era_translation.may_ask(method, params, call.capabilities):
        return McpReply.failed(METHOD_NOT_FOUND, f"{method} is not answered here.")
    question = dict(params)
    original = question.pop("_meta", None)
    related = call.related(original)
    meta = {**era_translation.without_reserved(original, call.globs), **related}
    meta.pop("progressToken", None)
    if meta:
        question["_meta"] = meta
    reply = await call.client.send_request(method, question)
    if reply.result is None:
        return reply
    answer = dict(reply.result)
    meta = era_translation.without_reserved(answer.pop("_meta", None), call.globs)
    if related:  # the answer belongs to the question's task
        meta[META_RELATED] = cast("Json", original)[META_RELATED]
    return McpReply(result={**answer, "_meta": meta} if meta else answer)


def refuse_question(call: CallRoute, required: Json) -> McpReply:
    """The error for a question that the config does not allow or the client did not declare."""
    names = " and ".join(era_translation.capability_names(required)) or "something"
    if call.client.era == "modern" and not era_translation.declares(call.client.capabilities, required):
        return McpReply.failed(
            MISSING_CAPABILITY,
            f"{call.upstream.name} has to ask the client for {names}, which it did not declare.",
            {"requiredCapabilities": required},
            reason="capability",
        )
    return call.failed(
        f"{call.upstream.name} asked for {names}, which the host does not allow this server.",
        "policy",
    )


def questions_for_client(
    call: CallRoute, result: Json, left: Json, roots: tuple[str, ...], *, sealer: RequestStateSealer
) -> McpReply:
    """A result that asks a modern client. The server's request state is sealed for this server and
    this caller.
    """
    converted = dict(result)
    if left:
        converted["inputRequests"] = left
    else:
        converted.pop("inputRequests", None)
    state: object = converted.pop("requestState", None)
    if state is not None or roots:
        converted["requestState"] = sealer.seal(
            SealedRequestState(
                call.upstream.name,
                call.client.caller.owner,
                state if isinstance(state, str) else None,
                roots,
            )
        )
    return McpReply(result=converted)


def _question(question: object) -> tuple[str, Json]:
    request = as_object(question) or {}
    return str(request.get("method", "")), as_object(request.get("params")) or {}

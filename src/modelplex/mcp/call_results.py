"""Converts a server's reply for the client that made the call."""

from __future__ import annotations

from typing import Final, cast

from modelplex.dialects.core.json import as_object
from modelplex.mcp import era_translation, results
from modelplex.mcp.call_route import CallRoute
from modelplex.mcp.constants import MISSING_CAPABILITY, Json, McpReply
from modelplex.mcp.result_shapes import repair_result
from modelplex.mcp.server_questions import refuse_question
from modelplex.mcp.shapes import Malformed

INPUT: Final = "input_required"
TASK: Final = "task"


def reply_for_client(call: CallRoute, reply: McpReply) -> McpReply:
    """The reply in the client's protocol era. Errors of the gateway itself stay as they are."""
    plain_text = call.upstream.config.plain_text
    if reply.error is not None:
        if reply.reason:
            return reply
        if reply.error.get("code") == MISSING_CAPABILITY and call.era == "modern":
            return refuse_question(call, _required_capabilities(reply.error))
        error = era_translation.error_for_client(reply.error, era=call.client.era, method=call.method)
        return McpReply(error=results.escape_message(error) if plain_text else error)
    if not isinstance(reply.result, dict):  # pyright: ignore[reportUnnecessaryIsInstance] - a server may send anything
        return call.failed(f"{call.upstream.name} answered with what is no result.", "invalid_answer")
    kind = reply.result.get("resultType", "complete")
    if call.era == "modern" and kind not in ("complete", INPUT) and (kind != TASK or call.tasks is None):
        sentence = f"{call.upstream.name} answered with a {str(kind)[:40]!r}, which is not relayed."
        return call.failed(sentence, "invalid_answer")
    converted = era_translation.result_for_client(
        reply.result,
        era=call.client.era,
        server_era=call.era,
        globs=call.globs,
        ttl=era_translation.READ_TTL if call.method == "resources/read" else None,
    )
    _translate_task_ids(call, reply.result, converted)
    if kind == "complete" and not reply.reason:
        try:
            converted = repair_result(call.method, converted, era=call.client.era)
        except Malformed as fault:
            sentence = f"{call.upstream.name} answered with a result that no client can read: {fault}."
            return call.failed(sentence, "invalid_answer")
    return McpReply(
        result=results.escape_message(converted) if plain_text else converted, reason=reply.reason
    )


def _translate_task_ids(call: CallRoute, result: Json, converted: Json) -> None:
    """Replace the server's task ids in a result by the client's. A task that the call has created
    belongs to the caller from now on.
    """
    if call.tasks is None:
        return
    created: object = result.get("task")
    if call.era == "modern":
        created = result if result.get("resultType") == TASK else None
    if call.method != "tools/call":
        if call.task is not None and result.get("taskId") == call.task.own:
            converted["taskId"] = call.task.id_on(call.route)
        if call.era == "modern" and isinstance(inner := result.get("result"), dict):
            converted["result"] = era_translation.inner_result(cast("Json", inner), globs=call.globs)
    elif isinstance(created, dict) and isinstance(own := cast("Json", created).get("taskId"), str):
        task = call.tasks.add(call.upstream, own, scope=call.scope, client=call.client, route=call.route)
        if call.era == "modern":
            converted["taskId"] = task.id_on(call.route)
        else:
            converted["task"] = {**cast("Json", created), "taskId": task.id_on(call.route)}
    if related := call.related(result.get("_meta")):
        converted["_meta"] = {**converted.get("_meta", {}), **related}


def _required_capabilities(error: Json) -> Json:
    return as_object((as_object(error.get("data")) or {}).get("requiredCapabilities")) or {}

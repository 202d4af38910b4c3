"""A server's reply to a call, converted for the client that made the call."""

from __future__ import annotations

from typing import Final, cast

from modelplex.mcp import era_translation, results, shapes
from modelplex.mcp.call_route import CallRoute
from modelplex.mcp.constants import MISSING_CAPABILITY, Json, McpReply
from modelplex.mcp.server_questions import refuse_question
from modelplex.mcp.tasks import Tasks

INPUT: Final = "input_required"
TASK: Final = "task"


def to_client(call: CallRoute, reply: McpReply, *, globs: tuple[str, ...], tasks: Tasks) -> McpReply:
    """Convert a reply to the client's protocol era. Errors of the gateway itself stay as is."""
    modern = call.client.era == "modern"
    if reply.error is not None:
        if reply.reason:
            return reply
        code = reply.error.get("code")
        if code == MISSING_CAPABILITY and call.era == "modern":
            return refuse_question(call, _required(reply.error))
        shown = era_translation.error(reply.error, era=call.client.era, method=call.method)
        return McpReply(error=results.plain_words(shown) if call.upstream.config.plain_text else shown)
    if not isinstance(reply.result, dict):  # pyright: ignore[reportUnnecessaryIsInstance] - a server may say anything
        return call.failed(f"{call.upstream.name} answered with what is no result.", "invalid_answer")
    kind = reply.result.get("resultType", "complete")
    if call.era == "modern" and kind not in ("complete", INPUT) and not (kind == TASK and call.tasks):
        return call.failed(
            f"{call.upstream.name} answered with a {str(kind)[:40]!r}, which is not relayed.",
            "invalid_answer",
        )
    converted = era_translation.downwards(
        reply.result,
        era=call.client.era,
        server_era=call.era,
        globs=globs,
        ttl=era_translation.READ_TTL if call.method == "resources/read" and modern else None,
    )
    if call.tasks:
        _translate_task_ids(call, reply.result, converted, globs=globs, tasks=tasks)
    if kind == "complete" and not reply.reason:
        try:
            converted = shapes.answered(call.method, converted, era=call.client.era)
        except shapes.Malformed as fault:
            sentence = f"{call.upstream.name} answered with a result that no client can read: {fault}."
            return call.failed(sentence, "invalid_answer")
    if call.upstream.config.plain_text:
        converted = results.plain_words(converted)
    return McpReply(result=converted, reason=reply.reason)


def _translate_task_ids(
    call: CallRoute, result: Json, converted: Json, *, globs: tuple[str, ...], tasks: Tasks
) -> None:
    """Replace the server's task ids in a result by the client's. A task that the call has created
    belongs to the caller from now on.
    """
    task: object = result.get("task")
    if call.era == "modern":
        task = result if result.get("resultType") == TASK else None
    if call.method != "tools/call":
        if call.held is not None and result.get("taskId") == call.held.own:
            converted["taskId"] = call.held.shown(call.route)
        if call.era == "modern" and isinstance(inner := result.get("result"), dict):
            converted["result"] = era_translation.inner(cast("Json", inner), globs=globs)
    elif isinstance(task, dict) and isinstance(own := cast("Json", task).get("taskId"), str):
        held = tasks.made(call.upstream, own, scope=call.scope, client=call.client, route=call.route)
        if call.era == "modern":
            converted["taskId"] = held.shown(call.route)
        else:
            converted["task"] = {**cast("Json", task), "taskId": held.shown(call.route)}
    if related := call.related(result.get("_meta"), tasks):
        converted["_meta"] = {**converted.get("_meta", {}), **related}


def _required(error: Json) -> Json:
    data: object = error.get("data")
    required: object = cast("Json", data).get("requiredCapabilities") if isinstance(data, dict) else None
    return cast("Json", required) if isinstance(required, dict) else {}

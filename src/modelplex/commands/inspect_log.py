"""A run as a log of inspect_ai (https://inspect.aisi.org.uk/eval-logs.html), version 2 of its JSON
form: one sample for each conversation of the run, with a model event for each call.

Messages that several calls have in common stand once, in the sample's pool, to which the events
refer.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from modelplex.commands.export import ReadCall
from modelplex.commands.transcript import Block, Entry
from modelplex.core.request import AnyTool, HostedTool, Tool
from modelplex.records.store.queries import RunSummary
from modelplex.records.store.rows import CallSummary

VERSION: Final = 2
STOP_REASONS: Final = {
    "stop": "stop",
    "stop_sequence": "stop",
    "length": "max_tokens",
    "context": "model_length",
    "tool_calls": "tool_calls",
    "refusal": "content_filter",
    "filter": "content_filter",
}
Json = dict[str, Any]
_encode = msgspec.json.Encoder().encode


def inspect_log(run: RunSummary, calls: Sequence[ReadCall]) -> bytes:
    models = [each.stored.call for each in calls if each.stored.call.kind == "model"]
    samples = [_sample(number, chain) for number, chain in enumerate(_conversations(calls), 1)]
    usage = _usage_by_model(models)
    document: Json = {
        "version": VERSION,
        "status": "success",
        "eval": {
            "run_id": run.id,
            "eval_id": run.id,
            "task_id": run.id,
            "created": _time(run.started),
            "task": run.command or run.agent or run.id,
            "dataset": {
                "name": run.id,
                "samples": len(samples),
                "sample_ids": [one["id"] for one in samples],
            },
            "model": next(iter(usage), "none"),
            "config": {},
            "tags": [f"{name}={value}" for name, value in run.tags.items()],
            "metadata": {"agent": run.agent, "repository": run.repository, "branch": run.branch},
        },
        "plan": {"name": "modelplex", "steps": []},
        "stats": {
            "started_at": _time(run.started),
            "completed_at": _time(run.ended or run.last),
            "model_usage": usage,
        },
        "samples": samples,
    }
    return _encode(document) + b"\n"


def _conversations(calls: Sequence[ReadCall]) -> list[list[ReadCall]]:
    """The calls of each conversation, oldest first; tool calls are in none."""
    first_of: dict[str, str] = {}
    chains: dict[str, list[ReadCall]] = {}
    for each in calls:
        call = each.stored.call
        if call.kind == "model":
            first = first_of[call.id] = first_of.get(call.parent or "", call.id)
            chains.setdefault(first, []).append(each)
    return list(chains.values())


def _sample(number: int, chain: Sequence[ReadCall]) -> Json:
    pool = _Pool()
    events = [_event(each, pool, began=chain[0].stored.call.started) for each in chain]
    first, last = chain[0], max(chain, key=_progress)
    end = max(each.stored.call.started + each.stored.call.seconds for each in chain)
    return {
        "id": number,
        "epoch": 1,
        "input": [_message(entry, pool) for entry in (first.sent.entries if first.sent else ())],
        "target": "",
        "messages": [
            *(_message(entry, pool) for entry in (last.sent.entries if last.sent else ())),
            *([_message(last.received, pool)] if last.received else []),
        ],
        "output": _output(last, pool),
        "model_usage": _usage_by_model([each.stored.call for each in chain]),
        "metadata": {
            "calls": [each.stored.call.id for each in chain],
            "relation": first.stored.call.relation,
        },
        "events": events,
        "events_data": {"messages": pool.messages, "calls": []},
        "started_at": _time(first.stored.call.started),
        "completed_at": _time(end),
        "total_time": end - first.stored.call.started,
    }


def _progress(each: ReadCall) -> tuple[bool, int, float]:
    """How far a call brought its conversation: the most messages of those that went well."""
    call = each.stored.call
    return call.outcome == "ok", call.messages, call.started


class _Pool:
    """The messages of one sample, each once. `tools` has the name of the tool of each call."""

    def __init__(self) -> None:
        self.messages: list[Json] = []
        self.tools: dict[str, str] = {}
        self._places: dict[bytes, int] = {}

    def places(self, entries: Sequence[Entry]) -> list[list[int]]:
        """Ranges in `messages`: the first, and the one after the last."""
        ranges: list[list[int]] = []
        for entry in entries:
            message = _message(entry, self)
            key = _encode(message)
            place = self._places.setdefault(key, len(self.messages))
            if place == len(self.messages):
                self.messages.append(message)
            if ranges and ranges[-1][1] == place:
                ranges[-1][1] += 1
            else:
                ranges.append([place, place + 1])
        return ranges


def _event(each: ReadCall, pool: _Pool, *, began: float) -> Json:
    call = each.stored.call
    return {
        "event": "model",
        "uuid": call.id,
        "timestamp": _time(call.started),
        "working_start": call.started - began,
        "model": _model(call),
        "input": [],
        "input_refs": pool.places(each.sent.entries if each.sent else ()),
        "tools": [found for tool in (each.sent.tools if each.sent else ()) if (found := _tool(tool))],
        "tool_choice": "auto",
        "config": {},
        "output": _output(each, pool),
        "retries": max(0, call.attempts - 1),
        "error": call.error,
        "completed": _time(call.started + call.seconds),
        "working_time": call.seconds,
        "metadata": {"request_id": call.id, "relation": call.relation, "provider": call.provider},
    }


def _output(each: ReadCall, pool: _Pool) -> Json:
    call = each.stored.call
    output: Json = {"model": _model(call), "choices": [], "time": call.seconds, "error": call.error}
    if each.received is not None and call.outcome == "ok":
        message = {**_message(each.received, pool), "source": "generate", "model": _model(call)}
        reason = STOP_REASONS.get(call.finish_reason or "", "unknown")
        output["choices"] = [{"message": message, "stop_reason": reason}]
        output["completion"] = each.received.text
    if call.tokens_in is not None:
        output["usage"] = _usage(call)
    return output


def _message(entry: Entry, pool: _Pool) -> Json:
    content = [_content(block) for block in entry.blocks if block.kind in {"text", "reasoning", "other"}]
    match entry.role:
        case "assistant":
            calls = [block for block in entry.blocks if block.kind == "tool_call"]
            pool.tools |= {block.id: block.name for block in calls}
            return {
                "role": "assistant",
                "content": content,
                "tool_calls": list(map(_tool_call, calls)) or None,
            }
        case "tool":
            results = [block for block in entry.blocks if block.kind == "tool_result"]
            first = results[0] if results else Block("tool_result", "")
            message: Json = {
                "role": "tool",
                "content": "\n".join(block.text for block in results),
                "tool_call_id": first.id,
                "function": first.name or pool.tools.get(first.id),
            }
            if first.is_error:
                message["error"] = {"type": "unknown", "message": first.text}
            return message
        case "system" | "developer":
            return {"role": "system", "content": content}
        case _:
            return {"role": "user", "content": content}


def _content(block: Block) -> Json:
    if block.kind == "reasoning":
        return {"type": "reasoning", "reasoning": block.text}
    return {"type": "text", "text": block.text}


def _tool_call(block: Block) -> Json:
    found: Json = {"id": block.id, "function": block.name, "arguments": {}}
    try:
        arguments = msgspec.json.decode(block.text or "{}")
    except msgspec.DecodeError as error:
        return {**found, "arguments": {"input": block.text}, "parse_error": str(error)}
    found["arguments"] = arguments if isinstance(arguments, dict) else {"input": arguments}
    return found


class _Schema(msgspec.Struct):
    properties: dict[str, object] = {}


_read_schema = msgspec.json.Decoder(_Schema).decode


def _tool(tool: AnyTool) -> Json | None:
    """Name, description and the names of parameters: inspect's form of schemas is narrower than
    JSON Schema.
    """
    if isinstance(tool, HostedTool):
        return None
    names: list[str] = []
    if isinstance(tool, Tool) and tool.parameters is not None:
        try:
            names = list(_read_schema(tool.parameters).properties)
        except msgspec.DecodeError:
            names = []
    parameters: Json = {"type": "object", "properties": {name: Json() for name in names}, "required": []}
    return {"name": tool.name, "description": tool.description or "", "parameters": parameters}


def _usage(call: CallSummary) -> Json:
    tokens_in, tokens_out = call.tokens_in or 0, call.tokens_out or 0
    return {
        "input_tokens": tokens_in - (call.cache_read or 0) - (call.cache_write or 0),
        "output_tokens": tokens_out,
        "total_tokens": tokens_in + tokens_out,
        "input_tokens_cache_read": call.cache_read,
        "input_tokens_cache_write": call.cache_write,
        "reasoning_tokens": call.reasoning,
        "total_cost": call.cost,
    }


def _usage_by_model(calls: Sequence[CallSummary]) -> dict[str, Json]:
    found: dict[str, Json] = {}
    for call in calls:
        if call.tokens_in is None:
            continue
        usage, sums = _usage(call), found.setdefault(_model(call), {})
        for name, number in usage.items():
            if number is not None:
                sums[name] = sums.get(name, 0) + number
    return found


def _model(call: CallSummary) -> str:
    return f"{call.provider}/{call.model}" if call.model else call.requested_model or "none"


def _time(at: float) -> str:
    return dt.datetime.fromtimestamp(at, dt.UTC).isoformat()

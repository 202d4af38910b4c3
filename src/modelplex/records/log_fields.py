"""The fields of a log line, and their text: JSON, or one line for a person.

docs/reference/log.md lists the keys; a key without a value is left out. It is called on the log's
writer thread.

Text from others (model names, error sentences, bodies) cannot end a line or control a terminal:
control characters are escaped.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from typing import TypeAlias

import msgspec

from modelplex.core.errors import without_name
from modelplex.core.events import Usage
from modelplex.records.record import AttemptRecord, Record
from modelplex.records.tool_call import ToolRecord

Fields: TypeAlias = dict[str, object]

SENTENCE_LIMIT = 2_000
"""Characters of an error's sentence; providers put whole pages into theirs."""

LIST_LIMIT = 50
"""Attempts, changes and stripped parts that a line names; a long dialogue can lose one part a turn.
"""

_LEVELS = {"client": "warning", "policy": "warning", "provider": "error", "gateway": "error"}


def level_of(record: Record) -> str:
    """A call that went well, or whose caller hung up, is worth "info"; one that the caller got
    wrong "warning"; else "error".
    """
    if record.outcome in {"ok", "client_closed"} or record.blame is None:
        return "info"
    return _LEVELS[record.blame]


def fields_of(record: Record, *, max_body: int, mask: Callable[[bytes], bytes]) -> Fields:
    """The line's fields in their order. Bodies are cut at `max_body` bytes; `mask` hides secrets,
    before anything is cut through one.
    """
    fields: Fields = {
        "time": _utc(record.started + record.times.total),
        "level": level_of(record),
        "event": "call",
        "request_id": record.id,
        "listener": record.listener,
        "client": record.client,
        **_caller(record),
        "endpoint": record.endpoint,
        "dialect": record.dialect,
        "stream": record.stream,
        "passthrough": record.passthrough,
        "model_asked": record.requested_model,
        "model": record.model,
        "provider": record.provider,
        "status": record.status,
        "outcome": record.outcome,
    }
    if record.blame is not None:
        fields["blame"] = record.blame
    if record.code is not None:
        fields["code"] = record.code
    if record.error is not None:
        fields["error"] = _sentence(without_name(record.error, record.provider or ""), mask)
    if record.finish_reason is not None:
        fields["finish_reason"] = record.finish_reason
    if record.usage is not None:
        fields["tokens"] = _tokens(record.usage)
    if record.cost is not None:
        fields["cost_usd"] = round(record.cost, 9)
    times = record.times
    fields["ms"] = {
        "queue": round(times.queued * 1000, 3),
        "ours": round(times.overhead * 1000, 3),
        "first_byte": None if times.first_output is None else round(times.first_output * 1000, 3),
        "total": round(times.total * 1000, 3),
    }
    tries = record.attempts
    if tries and tries[-1].upstream_request_id is not None:
        fields["upstream_request_id"] = tries[-1].upstream_request_id
    if len(tries) > 1 or (tries and tries[0].outcome != "ok"):
        fields["attempts"] = [_attempt(one, mask) for one in tries[:LIST_LIMIT]]
    if record.changes:
        fields["changes"] = [
            {"op": c.op, "path": c.path, "reason": c.reason} for c in record.changes[:LIST_LIMIT]
        ]
    if record.stripped:
        fields["stripped"] = [{"pointer": s.pointer, "rule": s.rule} for s in record.stripped[:LIST_LIMIT]]
    fields["bytes"] = {"in": record.bytes_in, "out": record.bytes_out}
    for key, body in (("request_body", record.request_body), ("response_body", record.response_body)):
        if body is not None:
            fields[key], left_out = _body(body, limit=max_body, mask=mask)
            if left_out:
                fields[f"{key}_cut"] = left_out
    return fields


def _caller(record: Record) -> Fields:
    """Who called, as far as that is known."""
    fields: Fields = {}
    if record.agent:
        fields["agent"] = record.agent
    if record.peer is not None:
        fields["peer"] = {"pid": record.peer.pid, "uid": record.peer.uid, "gid": record.peer.gid}
    if record.peer_network is not None:
        fields["network"] = record.peer_network.reach
        if record.peer_network.interfaces:
            fields["interfaces"] = list(record.peer_network.interfaces)
    return fields


_TOOL_LEVELS = {
    "ok": "info",
    "tool_error": "info",
    "client_closed": "info",
    "refused": "warning",
    "error": "error",
}


def level_of_tool(call: ToolRecord) -> str:
    """A tool that says that it failed has answered: that is the agent's to read, and no
    fault here.
    """
    return _TOOL_LEVELS[call.outcome]


def fields_of_tool(call: ToolRecord, *, max_body: int, mask: Callable[[bytes], bytes]) -> Fields:
    """The fields of a tool call's line, in their order."""
    fields: Fields = {
        "time": _utc(call.started + call.seconds),
        "level": level_of_tool(call),
        "event": "tool",
        "request_id": call.id,
        "listener": call.listener,
        "client": call.client,
        "agent": call.agent,
        "era": call.era,
        "method": call.method,
        "server": call.server,
        "tool": call.tool[:SENTENCE_LIMIT],
        "arguments_sha256": call.arguments,
        "definition_sha256": call.definition,
        "decision": call.decision,
        "rule": call.rule,
        "outcome": call.outcome,
    }
    for key in ("agent", "tool", "arguments_sha256", "definition_sha256", "rule"):
        if not fields[key]:
            del fields[key]
    if call.code is not None:
        fields["code"] = call.code
    if call.reason:
        fields["reason"] = call.reason
    if call.error is not None:
        fields["error"] = _sentence(without_name(call.error, call.server), mask)
    fields["ms"] = {"total": round(call.seconds * 1000, 3)}
    fields["bytes"] = {"in": call.bytes_in, "out": call.bytes_out}
    for key, body in (("request_body", call.request_body), ("response_body", call.response_body)):
        if body is not None:
            fields[key], left_out = _body(body, limit=max_body, mask=mask)
            if left_out:
                fields[f"{key}_cut"] = left_out
    return fields


def _tokens(usage: Usage) -> dict[str, object]:
    return {
        "in": usage.input,
        "out": usage.output,
        "cached": usage.cache_read,
        "cache_write": usage.cache_write,
        "reasoning": usage.reasoning,
        "estimated": usage.estimated,
    }


def _attempt(attempt: AttemptRecord, mask: Callable[[bytes], bytes]) -> Fields:
    fields: Fields = {
        "provider": attempt.provider,
        "model": attempt.model,
        "key": attempt.key,
        "outcome": attempt.outcome,
        "ms": round(attempt.seconds * 1000, 3),
    }
    if attempt.status is not None:
        fields["status"] = attempt.status
    if attempt.message is not None:
        fields["error"] = _sentence(without_name(attempt.message, attempt.provider), mask)
    if attempt.upstream_request_id is not None:
        fields["upstream_request_id"] = attempt.upstream_request_id
    if attempt.usage is not None:
        fields["tokens"] = _tokens(attempt.usage)
    if attempt.cost is not None:
        fields["cost_usd"] = round(attempt.cost, 9)
    return fields


def _sentence(text: str, mask: Callable[[bytes], bytes]) -> str:
    if len(text) <= SENTENCE_LIMIT:
        return text
    masked = mask(text.encode("utf-8", "replace")).decode()
    return f"{masked[:SENTENCE_LIMIT]}… ({len(masked) - SENTENCE_LIMIT} characters more)"


SECRET_REACH = 8_192
"""Bytes beyond the cut that are looked at, so that a secret which the cut goes through is still
found whole. Keys are shorter.
"""


def _body(body: bytes, *, limit: int, mask: Callable[[bytes], bytes]) -> tuple[str, int]:
    """The body's text up to `limit` bytes, and how many bytes were left out."""
    shown = mask(body[: limit + SECRET_REACH])[:limit] if len(body) > limit else body
    return shown.decode("utf-8", "replace"), max(0, len(body) - limit)


# --- JSON -----------------------------------------------------------------------------------------


def _anything(value: object) -> object:
    """For what an event carries beyond JSON's types. A Secret's `str` is asterisks."""
    return str(value)


_encoder = msgspec.json.Encoder(enc_hook=_anything)


def json_call(record: Record, *, max_body: int, mask: Callable[[bytes], bytes]) -> bytes:
    return _json(fields_of(record, max_body=max_body, mask=mask))


def json_tool(call: ToolRecord, *, max_body: int, mask: Callable[[bytes], bytes]) -> bytes:
    return _json(fields_of_tool(call, max_body=max_body, mask=mask))


def json_event(event: Mapping[str, object], *, at: float) -> bytes:
    """`at` is Unix seconds; `event` has "level", "event" and what the event carries."""
    heads = {key: event[key] for key in ("level", "event") if key in event}
    return _json({"time": _utc(at), **heads, **event})


def _json(fields: Mapping[str, object]) -> bytes:
    try:
        return _encoder.encode(fields) + b"\n"
    except (UnicodeEncodeError, TypeError, ValueError, RecursionError):
        # A lone surrogate, a key that is no text, a loop: the line is worth more than its form.
        plain = {str(key): repr(value) for key, value in fields.items()}
        return _encoder.encode({_clean(key): _clean(value) for key, value in plain.items()}) + b"\n"


def _clean(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


# --- a person's line ------------------------------------------------------------------------------

_RESET = "\x1b[0m"
_DIM = "\x1b[2m"
_COLOURS = {
    "debug": "\x1b[36m",
    "info": "\x1b[32m",
    "warning": "\x1b[33m",
    "error": "\x1b[31m",
    "critical": "\x1b[31m",
}

# C0, DEL and C1, line and paragraph separators, marks that turn the direction of writing, lone
# surrogates.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def _safe(text: str) -> str:
    if text.isascii() and text.isprintable():
        return text
    return _UNSAFE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def human_call(record: Record, *, colour: bool, max_body: int, mask: Callable[[bytes], bytes]) -> bytes:
    """One line; bodies follow it, each on an indented line of its own."""
    paint, dim, reset = (_COLOURS[level_of(record)], _DIM, _RESET) if colour else ("", "", "")
    parts = [
        f"{dim}{_local(record.started + record.times.total)}{reset}",
        f"{paint}{record.status or '---'}{reset}",
        _safe(_names(record)),
    ]
    if record.agent:
        parts.append(f"{dim}{_safe(record.agent)}{reset}")
    if record.outcome == "client_closed":
        parts.append("client hung up")
    elif record.outcome == "broken":
        parts.append(f"{paint}broke off{reset}")
    if record.usage is not None:
        parts.append(_token_words(record.usage))
    if record.cost is not None:
        parts.append(f"${record.cost:.6f}")
    parts.append(_time_words(record))
    if len(record.attempts) > 1:
        parts.append(f"{len(record.attempts)} attempts")
    parts.append(f"{dim}{_safe(record.id)}{reset}")
    if record.error is not None and record.outcome != "client_closed":
        parts.append(
            f"{paint}{_safe(_sentence(without_name(record.error, record.provider or ''), mask))}{reset}"
        )
    whole = "  ".join(parts)
    for name, body in (("request ", record.request_body), ("response", record.response_body)):
        if body is not None:
            text, left_out = _body(body, limit=max_body, mask=mask)
            whole += (
                f"\n    {dim}{name}{reset} {_safe(text)}{f' … {left_out} bytes more' if left_out else ''}"
            )
    return whole.encode("utf-8", "replace") + b"\n"


def human_tool(call: ToolRecord, *, colour: bool, max_body: int, mask: Callable[[bytes], bytes]) -> bytes:
    """One line; bodies follow it, each on an indented line of its own."""
    paint, dim, reset = (_COLOURS[level_of_tool(call)], _DIM, _RESET) if colour else ("", "", "")
    parts = [
        f"{dim}{_local(call.started + call.seconds)}{reset}",
        f"{paint}{call.outcome}{reset}",
        _safe(f"{call.method} {call.tool[:SENTENCE_LIMIT]} → {call.server}" if call.tool else call.method),
        _duration(call.seconds),
        f"{dim}{_safe(call.id)}{reset}",
    ]
    if call.rule:
        parts.append(_safe(f"{call.decision} by {call.rule}"))
    if call.error is not None and call.outcome != "client_closed":
        parts.append(f"{paint}{_safe(_sentence(without_name(call.error, call.server), mask))}{reset}")
    whole = "  ".join(parts)
    for name, body in (("request ", call.request_body), ("response", call.response_body)):
        if body is not None:
            text, left_out = _body(body, limit=max_body, mask=mask)
            whole += (
                f"\n    {dim}{name}{reset} {_safe(text)}{f' … {left_out} bytes more' if left_out else ''}"
            )
    return whole.encode("utf-8", "replace") + b"\n"


def _names(record: Record) -> str:
    served = (
        f"{record.requested_model or record.endpoint} → {record.provider}"
        if record.provider
        else record.requested_model or record.endpoint
    )
    return (
        f"{served}/{record.model}" if record.provider and record.model != record.requested_model else served
    )


def _token_words(usage: Usage) -> str:
    inside = [f"{usage.cache_read} cached"] if usage.cache_read else []
    if usage.reasoning:
        inside.append(f"{usage.reasoning} reasoning")
    about = "~" if usage.estimated else ""
    return f"{about}{usage.input}+{usage.output} tokens" + (f" ({', '.join(inside)})" if inside else "")


def _time_words(record: Record) -> str:
    times = record.times
    first = "" if times.first_output is None else f"first {_duration(times.first_output)}, "
    return f"{_duration(times.total)} ({first}ours {_duration(times.overhead)})"


def _duration(seconds: float) -> str:
    if seconds >= 1:
        return f"{seconds:.2f}s"
    return f"{seconds * 1000:.0f}ms" if seconds >= 0.01 else f"{seconds * 1000:.1f}ms"


_HEADS = frozenset({"level", "event", "exception"})


def human_event(event: Mapping[str, object], *, at: float, colour: bool) -> bytes:
    """One line; an exception's traceback follows it, indented."""
    level = str(event.get("level", "info"))
    paint, dim, reset = (_COLOURS.get(level, ""), _DIM, _RESET) if colour else ("", "", "")
    words = [f"{dim}{_local(at)}{reset}", f"{paint}{level}{reset}", _safe(str(event.get("event", "")))]
    words += [
        f"{dim}{_safe(key)}={reset}{_safe(str(value))}" for key, value in event.items() if key not in _HEADS
    ]
    text = "  ".join(words)
    if (exception := event.get("exception")) is not None:
        text += "".join(f"\n    {_safe(line)}" for line in str(exception).splitlines())
    return text.encode("utf-8", "replace") + b"\n"


# --- time -----------------------------------------------------------------------------------------


class _Second:
    """The last second that was written out: lines come in their order, so most find it here."""

    def __init__(self, form: str, convert: Callable[[float], time.struct_time]) -> None:
        self._form = form
        self._convert = convert
        self._last = (-1, "")

    def text(self, at: float) -> str:
        second = int(at)
        known, text = self._last
        if known != second:
            text = time.strftime(self._form, self._convert(second))
            self._last = (second, text)
        return f"{text}.{int((at - second) * 1000):03d}"


_utc_second = _Second("%Y-%m-%dT%H:%M:%S", time.gmtime)
_local_second = _Second("%H:%M:%S", time.localtime)


def _utc(at: float) -> str:
    return f"{_utc_second.text(at)}Z"


def _local(at: float) -> str:
    return _local_second.text(at)

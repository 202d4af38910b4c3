"""The fields of a log line, and their JSON. `log_text` writes lines for people.

docs/reference/log.md lists the keys; a key without a value is left out. Runs on the event loop, and
on the log's writer thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TypeAlias

import msgspec

from modelplex.core.errors import without_name
from modelplex.core.events import Usage
from modelplex.records.record import AttemptRecord, Record
from modelplex.records.tool_call import ToolRecord

Fields: TypeAlias = dict[str, object]
Mask: TypeAlias = Callable[[bytes], bytes]
"""Masks secrets. It runs before a text is cut, so that no part of a secret is left."""

SENTENCE_LIMIT = 2_000
"""Characters of an error message; some providers send whole pages."""
LIST_LIMIT = 50
"""Attempts, changes and stripped values in a line. A long conversation may lose one in a turn."""
SECRET_REACH = 8_192
"""Bytes beyond the cut of a body that are masked too, so that a secret across the cut is found.
Keys are shorter.
"""

_BLAME_LEVELS = {"client": "warning", "policy": "warning", "provider": "error", "gateway": "error"}
_TOOL_LEVELS = {
    "ok": "info",
    "tool_error": "info",  # the tool's own failure is for the agent to read
    "client_closed": "info",
    "refused": "warning",
    "error": "error",
}


def level_of(record: Record | ToolRecord) -> str:
    """`info` if the call succeeded or its client disconnected, `warning` if it failed because of
    the client or a policy, else `error`.
    """
    if isinstance(record, ToolRecord):
        return _TOOL_LEVELS[record.outcome]
    if record.outcome in {"ok", "client_closed"} or record.blame is None:
        return "info"
    return _BLAME_LEVELS[record.blame]


def json_call(record: Record | ToolRecord, *, max_body: int | None, mask: Mask) -> bytes:
    """The line of a model or tool call. Bodies are cut at `max_body` bytes; None leaves them
    out.
    """
    has_bodies = max_body is not None and (
        record.request_body is not None or record.response_body is not None
    )
    if isinstance(record, ToolRecord):
        fields = _tool_fields(record, mask)
    else:
        line = _call_line(record, mask)
        if not has_bodies:
            try:
                return _encoder.encode(line) + b"\n"
            except UnicodeEncodeError:  # a lone surrogate
                pass
        fields = msgspec.to_builtins(line)
    for key, body in (("request_body", record.request_body), ("response_body", record.response_body)):
        if body is not None and max_body is not None:
            fields[key], left_out = body_text(body, limit=max_body, mask=mask)
            if left_out:
                fields[f"{key}_cut"] = left_out
    return _json(fields)


def json_event(event: Mapping[str, object], *, at: float) -> bytes:
    """The line of an event. `at` is Unix seconds; `event` has "level" and "event"."""
    first = {key: event[key] for key in ("level", "event") if key in event}
    return _json({"time": _utc(at), **first, **event})


class _Milliseconds(msgspec.Struct, gc=False):
    queue: float
    ours: float
    first_byte: float | None
    total: float


class _Bytes(msgspec.Struct, gc=False):
    received: int = msgspec.field(name="in")
    sent: int = msgspec.field(name="out")


class _Tokens(msgspec.Struct, gc=False):
    read: int = msgspec.field(name="in")
    written: int = msgspec.field(name="out")
    cached: int
    cache_write: int
    reasoning: int
    estimated: bool


class _CallLine(msgspec.Struct, omit_defaults=True, kw_only=True, gc=False):
    """The line of a model call, in the order of its keys. It is encoded without a dictionary: this
    is most of what a line costs.
    """

    time: str
    level: str
    event: str
    request_id: str
    listener: str
    client: str
    agent: str = ""
    peer: Fields | None = None
    network: str | None = None
    interfaces: list[str] | None = None
    endpoint: str
    dialect: str
    stream: bool
    passthrough: bool
    model_asked: str
    model: str
    provider: str
    status: int
    outcome: str
    blame: str | None = None
    code: str | None = None
    error: str | None = None
    finish_reason: str | None = None
    tokens: _Tokens | None = None
    cost_usd: float | None = None
    ms: _Milliseconds
    upstream_request_id: str | None = None
    attempts: list[Fields] | None = None
    changes: list[Fields] | None = None
    stripped: list[Fields] | None = None
    size: _Bytes = msgspec.field(name="bytes")


def _call_line(record: Record, mask: Mask) -> _CallLine:
    times, attempts, first = record.times, record.attempts, record.times.first_output
    kind = (
        record.listener,
        record.client,
        record.agent,
        record.endpoint,
        record.dialect,
        record.stream,
        record.passthrough,
        record.requested_model,
        record.model,
        record.provider,
        record.status,
        record.outcome,
        record.blame,
        record.code,
        record.finish_reason,
    )
    same = _lines.get(kind) or _new_line(kind, record)
    line = msgspec.structs.replace(
        same,
        time=_utc(record.started + times.total),
        request_id=record.id,
        tokens=None if record.usage is None else _tokens(record.usage),
        cost_usd=None if record.cost is None else round(record.cost, 9),
        ms=_Milliseconds(
            _ms(times.queued), _ms(times.overhead), None if first is None else _ms(first), _ms(times.total)
        ),
        upstream_request_id=attempts[-1].upstream_request_id if attempts else None,
        size=_Bytes(record.bytes_in, record.bytes_out),
    )
    if record.peer is not None or record.peer_network is not None:
        _add_caller(line, record)
    if record.error is not None:
        line.error = error_text(record.error, record.provider, mask)
    if len(attempts) > 1 or (attempts and attempts[0].outcome != "ok"):
        line.attempts = [_attempt(one, mask) for one in attempts[:LIST_LIMIT]]
    if record.changes:
        line.changes = [{"op": c.op, "path": c.path, "reason": c.reason} for c in record.changes[:LIST_LIMIT]]
    if record.stripped:
        line.stripped = [{"pointer": s.pointer, "rule": s.rule} for s in record.stripped[:LIST_LIMIT]]
    return line


_lines: dict[tuple[object, ...], _CallLine] = {}
"""Lines of earlier calls, by what is alike in many: a struct of so many members takes less time to
copy than to make.
"""
LINES = 256


def _new_line(kind: tuple[object, ...], record: Record) -> _CallLine:
    if len(_lines) >= LINES:
        _lines.clear()
    line = _lines[kind] = _CallLine(
        time="",
        level=level_of(record),
        event="call",
        request_id="",
        listener=record.listener,
        client=record.client,
        agent=record.agent,
        endpoint=record.endpoint,
        dialect=record.dialect,
        stream=record.stream,
        passthrough=record.passthrough,
        model_asked=record.requested_model,
        model=record.model,
        provider=record.provider,
        status=record.status,
        outcome=record.outcome,
        blame=record.blame,
        code=record.code,
        finish_reason=record.finish_reason,
        ms=_Milliseconds(0.0, 0.0, None, 0.0),
        size=_Bytes(0, 0),
    )
    return line


def _ms(seconds: float) -> float:
    """Milliseconds with three digits. `round` takes a text in between, and ten times as long."""
    return int(seconds * 1_000_000 + 0.5) / 1000


def _add_caller(line: _CallLine, record: Record) -> None:
    if record.peer is not None:
        line.peer = {"pid": record.peer.pid, "uid": record.peer.uid, "gid": record.peer.gid}
    if record.peer_network is not None:
        line.network = record.peer_network.reach
        if record.peer_network.interfaces:
            line.interfaces = list(record.peer_network.interfaces)


def _tool_fields(record: ToolRecord, mask: Mask) -> Fields:
    fields: Fields = {
        "time": _utc(record.started + record.seconds),
        "level": level_of(record),
        "event": "tool",
        "request_id": record.id,
        "listener": record.listener,
        "client": record.client,
        "agent": record.agent,
        "era": record.era,
        "method": record.method,
        "server": record.server,
        "tool": record.tool[:SENTENCE_LIMIT],
        "arguments_sha256": record.arguments,
        "definition_sha256": record.definition,
        "decision": record.decision,
        "rule": record.rule,
        "outcome": record.outcome,
    }
    for key in ("agent", "tool", "arguments_sha256", "definition_sha256", "rule"):
        if not fields[key]:
            del fields[key]
    if record.code is not None:
        fields["code"] = record.code
    if record.reason:
        fields["reason"] = record.reason
    if record.error is not None:
        fields["error"] = error_text(record.error, record.server, mask)
    fields["ms"] = {"total": _ms(record.seconds)}
    fields["bytes"] = {"in": record.bytes_in, "out": record.bytes_out}
    return fields


def _attempt(attempt: AttemptRecord, mask: Mask) -> Fields:
    fields: Fields = {
        "provider": attempt.provider,
        "model": attempt.model,
        "key": attempt.key,
        "outcome": attempt.outcome,
        "ms": _ms(attempt.seconds),
    }
    if attempt.status is not None:
        fields["status"] = attempt.status
    if attempt.message is not None:
        fields["error"] = error_text(attempt.message, attempt.provider, mask)
    if attempt.upstream_request_id is not None:
        fields["upstream_request_id"] = attempt.upstream_request_id
    if attempt.usage is not None:
        fields["tokens"] = _tokens(attempt.usage)
    if attempt.cost is not None:
        fields["cost_usd"] = round(attempt.cost, 9)
    return fields


def _tokens(usage: Usage) -> _Tokens:
    return _Tokens(
        usage.input, usage.output, usage.cache_read, usage.cache_write, usage.reasoning, usage.estimated
    )


def error_text(message: str, name: str, mask: Mask) -> str:
    """The message of an error, without the leading name of its provider or server, which has a
    field of its own.
    """
    text = without_name(message, name)
    if len(text) <= SENTENCE_LIMIT:
        return text
    masked = mask(text.encode("utf-8", "replace")).decode()
    return f"{masked[:SENTENCE_LIMIT]}… ({len(masked) - SENTENCE_LIMIT} characters more)"


def body_text(body: bytes, *, limit: int, mask: Mask) -> tuple[str, int]:
    """The text of a body up to `limit` bytes, and how many bytes were left out."""
    shown = mask(body[: limit + SECRET_REACH])[:limit] if len(body) > limit else body
    return shown.decode("utf-8", "replace"), max(0, len(body) - limit)


_encoder = msgspec.json.Encoder(enc_hook=str)  # a Secret's `str` is asterisks


def _json(fields: Mapping[str, object]) -> bytes:
    try:
        return _encoder.encode(fields) + b"\n"
    except (UnicodeEncodeError, TypeError, ValueError, RecursionError):
        # A lone surrogate, a key that is no string, a cycle: write what can be written.
        plain = {str(key): repr(value) for key, value in fields.items()}
        return _encoder.encode({_clean(key): _clean(value) for key, value in plain.items()}) + b"\n"


def _clean(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


class CachedTime:
    """Formats times, and caches the last second: lines come in order."""

    def __init__(self, form: str, convert: Callable[[float], time.struct_time]) -> None:
        self._form = form
        self._convert = convert
        self._last = (-1, "")

    def text(self, at: float) -> str:
        """`at` is Unix seconds; milliseconds are appended."""
        second = int(at)
        last, text = self._last
        if last != second:
            text = time.strftime(self._form, self._convert(second))
            self._last = (second, text)
        return f"{text}.{int((at - second) * 1000):03d}"


_utc_time = CachedTime("%Y-%m-%dT%H:%M:%S", time.gmtime)


def _utc(at: float) -> str:
    return f"{_utc_time.text(at)}Z"

"""Log lines for people.

Text from outside (model names, error messages, bodies) cannot end a line or control a terminal:
control characters are escaped. Runs on the log's writer thread.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from typing import cast

from modelplex.core.events import Usage
from modelplex.records.log_fields import (
    SENTENCE_LIMIT,
    CachedTime,
    Mask,
    body_text,
    error_text,
    level_of,
)
from modelplex.records.record import Record
from modelplex.records.tool_call import ToolRecord

_RESET = "\x1b[0m"
_DIM = "\x1b[2m"
_COLOURS = {
    "debug": "\x1b[36m",
    "info": "\x1b[32m",
    "warning": "\x1b[33m",
    "error": "\x1b[31m",
    "critical": "\x1b[31m",
}
_OWN_PLACE = frozenset({"level", "event", "exception"})
"""Fields of an event that are not written as `key=value`."""
LISTED_LIMIT = 8
"""Values of a list that a line shows. Of a longer one it shows LISTED_FIRST, and how many more."""
LISTED_FIRST = 3

# C0, DEL and C1, line and paragraph separators, marks that change the direction of writing, lone
# surrogates.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_local_time = CachedTime("%H:%M:%S", time.localtime)


class DayMark:
    """The date before the first line of each day, in local time."""

    def __init__(self) -> None:
        self._seen = (-1, -1)

    def text(self, at: float) -> bytes:
        """The date, or nothing where the line before had the same. `at` is Unix seconds."""
        local = time.localtime(at)
        day = (local.tm_year, local.tm_yday)
        if day <= self._seen:  # a call is written when it ended, and threads may swap two lines
            return b""
        self._seen = day
        return time.strftime("%Y-%m-%d ", local).encode()


def ended(record: Record | ToolRecord) -> float:
    """When a call ended, in Unix seconds: the time of its line."""
    return record.started + (record.seconds if isinstance(record, ToolRecord) else record.times.total)


def call_line(record: Record | ToolRecord, *, colour: bool, max_body: int, mask: Mask) -> bytes:
    """The line of a model or tool call; bodies follow it, each on an indented line."""
    paint, dim, reset = (_COLOURS[level_of(record)], _DIM, _RESET) if colour else ("", "", "")
    if isinstance(record, ToolRecord):
        parts, name = _tool_parts(record, paint, dim, reset), record.server
    else:
        parts, name = _call_parts(record, paint, dim, reset), record.provider
    if record.error is not None and record.outcome != "client_closed":
        parts.append(f"{paint}{_safe(error_text(record.error, name, mask))}{reset}")
    line = "  ".join(parts)
    for label, body in (("request ", record.request_body), ("response", record.response_body)):
        if body is not None:
            text, left_out = body_text(body, limit=max_body, mask=mask)
            cut = f" … {left_out} bytes more" if left_out else ""
            line += f"\n    {dim}{label}{reset} {_safe(text)}{cut}"
    return line.encode("utf-8", "replace") + b"\n"


def event_line(event: Mapping[str, object], *, at: float, colour: bool) -> bytes:
    """The line of an event; the traceback of an exception follows it, indented. `at` is Unix
    seconds.
    """
    level = str(event.get("level", "info"))
    paint, dim, reset = (_COLOURS.get(level, ""), _DIM, _RESET) if colour else ("", "", "")
    parts = [f"{dim}{_local_time.text(at)}{reset}", f"{paint}{level}{reset}"]
    parts.append(_safe(str(event.get("event", ""))))
    parts += [
        f"{dim}{_safe(key)}={reset}{_safe(_shown(value))}"
        for key, value in event.items()
        if key not in _OWN_PLACE and value not in (None, [], {}, ())
    ]
    text = "  ".join(parts)
    if (exception := event.get("exception")) is not None:
        text += "".join(f"\n    {_safe(line)}" for line in str(exception).splitlines())
    return text.encode("utf-8", "replace") + b"\n"


def _shown(value: object) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case Mapping():
            pairs = cast("Mapping[object, object]", value).items()
            return _listed([f"{name} {_shown(each)}" for name, each in pairs])
        case list() | tuple():
            return _listed([_shown(each) for each in cast("Sequence[object]", value)])
        case _:
            return str(value)


def _listed(values: list[str]) -> str:
    shown = values if len(values) <= LISTED_LIMIT else values[:LISTED_FIRST]
    more = [f"and {len(values) - len(shown)} more"] if len(shown) < len(values) else []
    return ("; " if any(", " in each for each in shown) else ", ").join(shown + more)


def _call_parts(record: Record, paint: str, dim: str, reset: str) -> list[str]:
    parts = [
        f"{dim}{_local_time.text(ended(record))}{reset}",
        f"{paint}{record.status or '---'}{reset}",
        _safe(_route(record)),
    ]
    if record.agent:
        parts.append(f"{dim}{_safe(record.agent)}{reset}")
    if record.outcome == "client_closed":
        parts.append("client disconnected")
    elif record.outcome == "broken":
        parts.append(f"{paint}broke off{reset}")
    if record.usage is not None:
        parts.append(_tokens(record.usage))
    if record.cost is not None:
        parts.append(f"${record.cost:.6f}")
    times = record.times
    first = "" if times.first_output is None else f"first {_duration(times.first_output)}, "
    parts.append(f"{_duration(times.total)} ({first}ours {_duration(times.overhead)})")
    if len(record.attempts) > 1:
        parts.append(f"{len(record.attempts)} attempts")
    if record.stripped:
        parts.append(f"stripped {_safe(_listed([f'{s.pointer} ({s.rule})' for s in record.stripped]))}")
    parts.append(f"{dim}{_safe(record.id)}{reset}")
    return parts


def _tool_parts(record: ToolRecord, paint: str, dim: str, reset: str) -> list[str]:
    target = f" {record.tool[:SENTENCE_LIMIT]} → {record.server}" if record.tool else ""
    parts = [
        f"{dim}{_local_time.text(ended(record))}{reset}",
        f"{paint}{record.outcome}{reset}",
        _safe(f"{record.method}{target}"),
        _duration(record.seconds),
        f"{dim}{_safe(record.id)}{reset}",
    ]
    if record.rule:
        parts.append(_safe(f"{record.decision} by {record.rule}"))
    return parts


def _route(record: Record) -> str:
    """The requested model and what served it."""
    route = record.requested_model or record.endpoint
    if not record.provider:
        return route
    model = f"/{record.model}" if record.model != record.requested_model else ""
    return f"{route} → {record.provider}{model}"


def _tokens(usage: Usage) -> str:
    details = [f"{usage.cache_read} cached"] if usage.cache_read else []
    if usage.reasoning:
        details.append(f"{usage.reasoning} reasoning")
    about = "~" if usage.estimated else ""
    return f"{about}{usage.input}+{usage.output} tokens" + (f" ({', '.join(details)})" if details else "")


def _duration(seconds: float) -> str:
    if seconds >= 1:
        return f"{seconds:.2f}s"
    return f"{seconds * 1000:.0f}ms" if seconds >= 0.01 else f"{seconds * 1000:.1f}ms"


def _safe(text: str) -> str:
    if text.isascii() and text.isprintable():
        return text
    return _UNSAFE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)

"""The trace that a client's request belongs to, from its `traceparent` and `tracestate`, and the
ids of spans. Pure.

Source: https://www.w3.org/TR/trace-context/ (read on 2026-12-01). A traceparent is read strictly:
what is invalid is ignored, and its tracestate with it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from hashlib import sha256
from typing import Final

import msgspec

MAX_STATE: Final = 512
"""Characters of a tracestate that are kept: as many as everybody should pass on (3.3.1.5)."""
MAX_MEMBERS: Final = 32
"""List members of a tracestate (3.3.1.1)."""
MAX_HEADER: Final = 4_096
"""Characters of a tracestate that are looked at."""
SAMPLED: Final = 1
KNOWN_FLAGS: Final = 3
"""Sampled, and a random trace id. Others are sent on as 0 (3.2.2.5)."""

_PARENT: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_MEMBER: Final = re.compile(
    r"(?:[a-z0-9][a-z0-9_\-*/]{0,255}|[a-z0-9][a-z0-9_\-*/]{0,240}@[a-z][a-z0-9_\-*/]{0,13})"
    r"=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
)


class TraceContext(msgspec.Struct, frozen=True, gc=False):
    """`trace_id` has 32 hexadecimal digits, `parent_id`, the client's span, 16."""

    trace_id: str
    parent_id: str
    flags: int = 0
    state: str = ""

    @property
    def traceparent(self) -> str:
        return traceparent(self.trace_id, self.parent_id, self.flags)


def traceparent(trace_id: str, span_id: str, flags: int = SAMPLED) -> str:
    return f"00-{trace_id}-{span_id}-{flags & KNOWN_FLAGS:02x}"


def read_trace_context(parents: Sequence[str], states: Sequence[str] = ()) -> TraceContext | None:
    """The context in the values of these headers, in their order; None where there is none, or two,
    or it is invalid.
    """
    if len(parents) != 1:
        return None
    found = _PARENT.fullmatch(parents[0].strip(" \t"))
    if found is None:
        return None
    version, trace_id, parent_id, flags, more = found.groups()
    if version == "ff" or (version == "00" and more is not None):
        return None
    if not trace_id.strip("0") or not parent_id.strip("0"):
        return None
    return TraceContext(trace_id, parent_id, int(flags, 16) & KNOWN_FLAGS, _state(states))


def _state(headers: Sequence[str]) -> str:
    """The list of all headers; "" where it is invalid. What is too long loses its last members."""
    text = ",".join(headers)
    if len(text) > MAX_HEADER:
        return ""
    members = [stripped for each in text.split(",") if (stripped := each.strip(" \t"))]
    keys = {each.partition("=")[0] for each in members}
    if len(members) > MAX_MEMBERS or len(keys) < len(members):
        return ""
    if not all(_MEMBER.fullmatch(each) for each in members):
        return ""
    while len(state := ",".join(members)) > MAX_STATE:
        members.pop()
    return state


def trace_id_of(id: str) -> str:
    """The trace of a run or of a call by our id of it: the same in every export."""
    return sha256(id.encode()).hexdigest()[:32]


def span_id_of(id: str) -> str:
    """The span of a run, a call or an attempt by our id of it."""
    return sha256(id.encode()).hexdigest()[:16]


def attempt_id(call: str, number: int) -> str:
    """Our id of an attempt, counted from 0, of a call."""
    return f"{call}/{number}"

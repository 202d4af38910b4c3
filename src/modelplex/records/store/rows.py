"""A Record as a row of the table `calls`. Pure.

Texts are made such that both databases take them: no NUL, no lone surrogate, and bounded.
"""

from __future__ import annotations

import datetime as dt
from functools import lru_cache
from typing import Final

import msgspec

from modelplex.core.events import Usage
from modelplex.core.request import Change, StrippedValue
from modelplex.records.record import AttemptRecord, Record
from modelplex.records.store.database import Row
from modelplex.records.tool_call import ToolRecord

MAX_TEXT: Final = 4_096
"""Characters of an error or a name. Longer ones are cut."""

CALL_COLUMNS: Final = (
    *("id", "started", "day", "kind", "run", "parent", "relation"),
    *("agent", "listener", "client", "pid", "reach"),
    *("dialect", "endpoint", "requested_model", "model", "provider", "server", "tool"),
    *("stream", "status", "outcome", "blame", "code", "error", "finish_reason"),
    *("tokens_in", "cache_read", "cache_write", "tokens_out", "reasoning", "cost"),
    *("seconds", "first_output", "overhead", "attempts", "changes", "stripped"),
    *("bytes_in", "bytes_out", "messages", "node", "context", "detail"),
)
FOREIGN: Final = tuple(
    CALL_COLUMNS.index(name)
    for name in ("requested_model", "model", "server", "tool", "code", "error", "finish_reason", "detail")
)
"""The places of texts that clients and providers write."""
INSERT_CALL: Final = (
    f"INSERT INTO calls ({', '.join(CALL_COLUMNS)}) VALUES ({', '.join('?' * len(CALL_COLUMNS))}) "  # noqa: S608 - our own names
    "ON CONFLICT (id) DO NOTHING"
)


class Placement(msgspec.Struct, frozen=True):
    """Where a call belongs: its run, the call that it extends, and how.

    relation  "root", "turn" (its parent's next), "branch" (another one after the same call),
              "retry" (its messages again), "compaction" (a shorter conversation of the same
              program), "subagent" (one with another system prompt), "tool" or "other"
    """

    run: str
    parent: str | None = None
    relation: str = "root"


class StoredAttempt(msgspec.Struct, frozen=True, omit_defaults=True):
    """One attempt at a provider: AttemptRecord has the meanings."""

    provider: str
    model: str
    outcome: str
    key: int = 0
    status: int | None = None
    seconds: float = 0.0
    message: str | None = None
    upstream_request_id: str | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None
    cost: float | None = None


class StoredUsage(msgspec.Struct, frozen=True, omit_defaults=True):
    """Counts of a Usage that have no column."""

    cache_write_1h: int = 0
    input_audio: int = 0
    input_image: int = 0
    output_audio: int = 0
    output_image: int = 0
    web_searches: int = 0
    estimated: bool = False


class CallDetail(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is shown of one call and never selected by. `method` and what follows are of tool calls.

    cut     the bodies that were not stored whole: "request", "response"
    masked  secrets of the config were taken out of the bodies
    """

    attempts: tuple[StoredAttempt, ...] = ()
    changes: tuple[Change, ...] = ()
    stripped: tuple[StrippedValue, ...] = ()
    usage: StoredUsage | None = None
    uid: int | None = None
    interfaces: tuple[str, ...] = ()
    passthrough: bool = False
    queued: float = 0.0
    cut: tuple[str, ...] = ()
    masked: bool = False
    method: str = ""
    era: str = ""
    arguments: str = ""
    definition: str = ""
    decision: str = ""
    rule: str = ""
    reason: str = ""


_encode = msgspec.json.Encoder().encode
read_detail = msgspec.json.Decoder(CallDetail).decode


def clean(text: str | None) -> str | None:
    """The text as both databases take it."""
    if text is None or (text.isascii() and "\0" not in text and len(text) <= MAX_TEXT):
        return text
    return text[:MAX_TEXT].encode("utf-8", "replace").decode().replace("\0", "\ufffd")


def model_row(
    record: Record,
    place: Placement,
    *,
    messages: int = 0,
    node: bytes | None = None,
    context: bytes | None = None,
    cut: tuple[str, ...] = (),
    masked: bool = False,
) -> Row:
    usage, peer, times = record.usage, record.peer, record.times
    detail = CallDetail(
        attempts=tuple(map(_attempt, record.attempts)),
        changes=record.changes,
        stripped=record.stripped,
        usage=_rest(usage),
        uid=peer.uid if peer is not None else None,
        interfaces=record.peer_network.interfaces if record.peer_network is not None else (),
        passthrough=record.passthrough,
        queued=times.queued,
        cut=cut,
        masked=masked,
    )
    tokens = (None,) * 5 if usage is None else _tokens(usage)
    return (
        *(record.id, record.started, day_of(record.started), "model", place.run, place.parent, place.relation),
        *(record.agent, record.listener, record.client, peer.pid if peer is not None else 0),
        record.peer_network.reach if record.peer_network is not None else "",
        *(record.dialect, record.endpoint, clean(record.requested_model), clean(record.model), record.provider),
        *("", "", int(record.stream), record.status, record.outcome, record.blame, clean(record.code)),
        *(clean(record.error), clean(record.finish_reason), *tokens, record.cost),
        *(times.total, times.first_output, times.overhead),
        *(len(record.attempts), len(record.changes), len(record.stripped)),
        *(record.bytes_in, record.bytes_out, messages, node, context, _text(detail)),
    )  # fmt: skip


def tool_row(record: ToolRecord, place: Placement, *, cut: tuple[str, ...] = (), masked: bool = False) -> Row:
    detail = CallDetail(
        cut=cut,
        masked=masked,
        method=record.method,
        era=record.era,
        arguments=record.arguments,
        definition=record.definition,
        decision=record.decision,
        rule=record.rule,
        reason=record.reason,
    )
    code = None if record.code is None else str(record.code)
    return (
        *(record.id, record.started, day_of(record.started), "tool", place.run, place.parent, place.relation),
        *(record.agent, record.listener, record.client, 0, ""),
        *("", record.method, "", "", "", record.server, clean(record.tool)),
        *(0, 0, record.outcome, None, code, clean(record.error), None),
        *(None, None, None, None, None, None),
        *(record.seconds, None, 0.0, 0, 0, 0),
        *(record.bytes_in, record.bytes_out, 0, None, None, _text(detail)),
    )  # fmt: skip


def day_of(at: float) -> str:
    """The day in UTC, as budgets count days."""
    return _day(int(at // 86_400))


@lru_cache(maxsize=64)
def _day(number: int) -> str:
    return dt.datetime.fromtimestamp(number * 86_400, dt.UTC).strftime("%Y-%m-%d")


def _attempt(attempt: AttemptRecord) -> StoredAttempt:
    usage = attempt.usage
    return StoredAttempt(
        provider=attempt.provider,
        model=attempt.model,
        outcome=attempt.outcome,
        key=attempt.key,
        status=attempt.status,
        seconds=attempt.seconds,
        message=clean(attempt.message),
        upstream_request_id=attempt.upstream_request_id,
        tokens_in=usage.input if usage is not None else None,
        tokens_out=usage.output if usage is not None else None,
        cost=attempt.cost,
    )


def _tokens(usage: Usage) -> tuple[int, int, int, int, int]:
    return usage.input, usage.cache_read, usage.cache_write, usage.output, usage.reasoning


def _rest(usage: Usage | None) -> StoredUsage | None:
    if usage is None:
        return None
    rest = StoredUsage(
        usage.cache_write_1h,
        usage.input_audio,
        usage.input_image,
        usage.output_audio,
        usage.output_image,
        usage.web_searches,
        usage.estimated,
    )
    return None if rest == _NO_REST else rest


_NO_REST: Final = StoredUsage()


def _text(detail: CallDetail) -> str:
    try:
        return _encode(detail).decode()
    except UnicodeEncodeError:  # a lone surrogate in a path or a name
        return _encode(CallDetail(cut=detail.cut, masked=detail.masked)).decode()

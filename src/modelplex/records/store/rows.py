"""The table `calls`: its columns, and a Record as a row of it. Pure.

Texts are made such that both databases take them: no NUL, no lone surrogate, and bounded.
"""

from __future__ import annotations

import datetime as dt
from functools import lru_cache
from typing import Final, Literal

import msgspec

from modelplex.core.events import Usage
from modelplex.core.request import Change, StrippedValue
from modelplex.core.trace_context import TraceContext
from modelplex.records.admin_act import AdminAct
from modelplex.records.record import AttemptRecord, Record
from modelplex.records.run_facts import RunFacts
from modelplex.records.store.database import Row
from modelplex.records.tool_call import ToolRecord

SESSION: Final = "session"
"""The kind of requests of tool clients that are no calls, such as `initialize` and lists: they are
kept for a replay, and neither listed nor counted.
"""
FACTS: Final = "facts"
"""The kind of RunFacts."""
ACT: Final = "act"
"""The kind of AdminActs."""
MAX_TEXT: Final = 4_096
"""Characters of an error or a name. Longer ones are cut."""


class CallSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A row of the table `calls`, as it is listed: its fields are the columns. `tokens_in` is None
    where the provider counted nothing; then, `cost` None is no unknown price.
    """

    id: str
    started: float
    kind: str
    run: str
    parent: str | None
    relation: str
    agent: str
    listener: str
    client: str
    pid: int = 0
    reach: str = ""
    dialect: str = ""
    endpoint: str
    requested_model: str = ""
    model: str = ""
    provider: str = ""
    server: str = ""
    tool: str = ""
    status: int = 0
    outcome: str
    blame: str | None = None
    code: str | None
    error: str | None
    finish_reason: str | None = None
    tokens_in: int | None = None
    cache_read: int | None = None
    cache_write: int | None = None
    tokens_out: int | None = None
    reasoning: int | None = None
    cost: float | None = None
    seconds: float
    first_output: float | None = None
    overhead: float = 0.0
    attempts: int = 0
    changes: int = 0
    stripped: int = 0
    bytes_in: int
    bytes_out: int
    messages: int = 0
    stream: bool = False

    @property
    def is_unpriced(self) -> bool:
        """It used tokens that have no known price."""
        return self.cost is None and bool(self.tokens_in or self.tokens_out)


CALL_COLUMNS: Final = (
    *CallSummary.__struct_fields__,
    *("day", "node", "context", "response_id", "detail", "host"),
)
"""All columns: those by which a row is found, its CallDetail as JSON, and the gateway's host are
not listed. The host is the last: chain.py.
"""
FOREIGN: Final = tuple(
    CALL_COLUMNS.index(name)
    for name in (
        "requested_model",
        "model",
        "server",
        "tool",
        "code",
        "error",
        "finish_reason",
        "response_id",
        "detail",
    )
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


UNPLACED: Final = Placement("", relation="")


SentBody = Literal["", "same", "stored"]
"""Where the bytes are that went to a provider: nowhere, they are the client's, or in the table
`sent`.
"""


class StoredAttempt(msgspec.Struct, frozen=True, omit_defaults=True):
    """One attempt at a provider: AttemptRecord has the meanings."""

    provider: str
    model: str
    outcome: str
    key: int = 0
    status: int | None = None
    started: float = 0.0
    seconds: float = 0.0
    message: str | None = None
    upstream_request_id: str | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None
    cost: float | None = None
    dialect: str = ""
    otel_name: str = ""
    sent: SentBody = ""
    bytes_sent: int = 0


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
    declared  the content-length of a body that was not read to its end
    headers  the hash of the part that has the request's headers, as a JSON list of pairs
    facts   of a row of the kind "facts"
    act     of a row of the kind "act"
    trace   of the client, where it sent one
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
    declared: int | None = None
    headers: str = ""
    trace: TraceContext | None = None
    method: str = ""
    era: str = ""
    arguments: str = ""
    definition: str = ""
    decision: str = ""
    rule: str = ""
    reason: str = ""
    facts: RunFacts | None = None
    act: AdminAct | None = None


_encode = msgspec.json.Encoder().encode
read_detail = msgspec.json.Decoder(CallDetail).decode


def clean(text: str | None) -> str | None:
    """The text as both databases take it."""
    if text is None or (text.isascii() and "\0" not in text and len(text) <= MAX_TEXT):
        return text
    return text[:MAX_TEXT].encode("utf-8", "replace").decode().replace("\0", "\ufffd")


class Bodies(msgspec.Struct, frozen=True):
    """What is known of a call's bodies once they are split: `node` and `context` as in the tables,
    `sent` of each attempt, `headers` the hash of the part with the request's headers.
    """

    messages: int = 0
    node: bytes | None = None
    context: bytes | None = None
    cut: tuple[str, ...] = ()
    masked: bool = False
    sent: tuple[SentBody, ...] = ()
    headers: str = ""


NO_BODIES: Final = Bodies()


def row_of(
    record: Record | ToolRecord | RunFacts | AdminAct,
    place: Placement,
    bodies: Bodies = NO_BODIES,
    *,
    host: str = "",
) -> Row:
    """`host` is that of the gateway."""
    response_id: str | None = None
    if isinstance(record, ToolRecord):
        summary = tool_summary(record, place)
    elif isinstance(record, RunFacts):
        summary = _facts_summary(record, place)
    elif isinstance(record, AdminAct):
        summary = _act_summary(record, place)
    else:
        summary = model_summary(record, place, messages=bodies.messages)
        response_id = clean(record.response_id)
    *columns, stream = msgspec.structs.astuple(summary)
    return (
        *columns,
        int(stream),  # PostgreSQL takes no boolean for a number
        day_of(record.started),
        bodies.node,
        bodies.context,
        response_id,
        _text(detail_of(record, bodies)),
        host,
    )


def model_summary(record: Record, place: Placement, *, messages: int = 0) -> CallSummary:
    usage, peer, times, network = record.usage, record.peer, record.times, record.peer_network
    tokens = _NO_TOKENS if usage is None else _tokens(usage)
    return CallSummary(
        id=record.id,
        started=record.started,
        kind="model",
        run=place.run,
        parent=place.parent,
        relation=place.relation,
        agent=record.agent,
        listener=record.listener,
        client=record.client,
        pid=peer.pid if peer is not None else 0,
        reach=network.reach if network is not None else "",
        dialect=record.dialect,
        endpoint=record.endpoint,
        requested_model=clean(record.requested_model) or "",
        model=clean(record.model) or "",
        provider=record.provider,
        stream=record.stream,
        status=record.status,
        outcome=record.outcome,
        blame=record.blame,
        code=clean(record.code),
        error=clean(record.error),
        finish_reason=clean(record.finish_reason),
        tokens_in=tokens[0],
        cache_read=tokens[1],
        cache_write=tokens[2],
        tokens_out=tokens[3],
        reasoning=tokens[4],
        cost=record.cost,
        seconds=times.total,
        first_output=times.first_output,
        overhead=times.overhead,
        attempts=len(record.attempts),
        changes=len(record.changes),
        stripped=len(record.stripped),
        bytes_in=record.bytes_in,
        bytes_out=record.bytes_out,
        messages=messages,
    )


def tool_summary(record: ToolRecord, place: Placement) -> CallSummary:
    return CallSummary(
        id=record.id,
        started=record.started,
        kind="tool" if record.is_call else SESSION,
        run=place.run,
        parent=place.parent,
        relation=place.relation,
        agent=record.agent,
        listener=record.listener,
        client=record.client,
        endpoint=record.method,
        server=record.server,
        tool=clean(record.tool) or "",
        outcome=record.outcome,
        code=record.reason or (None if record.code is None else str(record.code)),
        error=clean(record.error),
        seconds=record.seconds,
        bytes_in=record.bytes_in,
        bytes_out=record.bytes_out,
    )


def _facts_summary(facts: RunFacts, place: Placement) -> CallSummary:
    return CallSummary(
        id=facts.id,
        started=facts.started,
        kind=FACTS,
        run=place.run,
        parent=None,
        relation="",
        agent=facts.agent,
        listener=facts.listener,
        client="",
        endpoint="",
        outcome="ok",
        code=None,
        error=None,
        seconds=0.0,
        bytes_in=0,
        bytes_out=0,
    )


def _act_summary(act: AdminAct, place: Placement) -> CallSummary:
    return CallSummary(
        id=act.id,
        started=act.started,
        kind=ACT,
        run=place.run,
        parent=None,
        relation="",
        agent=act.agent,
        listener=act.listener,
        client=act.client,
        pid=act.pid,
        endpoint=act.act,
        status=act.status,
        outcome=act.outcome,
        code=act.code,
        error=clean(act.error),
        seconds=act.seconds,
        bytes_in=0,
        bytes_out=0,
    )


def summary_of(record: Record | ToolRecord) -> CallSummary:
    """Of a call that is not in the store yet."""
    if isinstance(record, ToolRecord):
        return tool_summary(record, UNPLACED)
    return model_summary(record, UNPLACED)


def detail_of(record: Record | ToolRecord | RunFacts | AdminAct, bodies: Bodies = NO_BODIES) -> CallDetail:
    if isinstance(record, ToolRecord):
        return _tool_detail(record, bodies)
    if isinstance(record, RunFacts):
        return CallDetail(facts=record)
    if isinstance(record, AdminAct):
        return CallDetail(act=record)
    peer, network = record.peer, record.peer_network
    sent = bodies.sent or (_NOT_STORED,) * len(record.attempts)
    return CallDetail(
        attempts=tuple(map(_attempt, record.attempts, sent)),
        changes=record.changes,
        stripped=record.stripped,
        usage=_rest(record.usage),
        uid=peer.uid if peer is not None else None,
        interfaces=network.interfaces if network is not None else (),
        passthrough=record.passthrough,
        queued=record.times.queued,
        cut=bodies.cut,
        masked=bodies.masked,
        declared=record.declared,
        headers=bodies.headers,
        trace=record.trace,
    )


def _tool_detail(record: ToolRecord, bodies: Bodies) -> CallDetail:
    return CallDetail(
        cut=bodies.cut,
        masked=bodies.masked,
        trace=record.trace,
        method=record.method,
        era=record.era,
        arguments=record.arguments,
        definition=record.definition,
        decision=record.decision,
        rule=record.rule,
        reason=record.reason,
    )


def day_of(at: float) -> str:
    """The day in UTC, as budgets count days."""
    return _day(int(at // 86_400))


@lru_cache(maxsize=64)
def _day(number: int) -> str:
    return dt.datetime.fromtimestamp(number * 86_400, dt.UTC).strftime("%Y-%m-%d")


_NOT_STORED: Final[SentBody] = ""


def _attempt(attempt: AttemptRecord, sent: SentBody) -> StoredAttempt:
    usage = attempt.usage
    return StoredAttempt(
        provider=attempt.provider,
        model=attempt.model,
        outcome=attempt.outcome,
        key=attempt.key,
        status=attempt.status,
        started=attempt.started,
        seconds=attempt.seconds,
        message=clean(attempt.message),
        upstream_request_id=attempt.upstream_request_id,
        tokens_in=usage.input if usage is not None else None,
        tokens_out=usage.output if usage is not None else None,
        cost=attempt.cost,
        dialect=attempt.dialect,
        otel_name=attempt.otel_name,
        sent=sent,
        bytes_sent=attempt.bytes_sent,
    )


_NO_TOKENS: Final = (None,) * 5


def _tokens(usage: Usage) -> tuple[int, int, int, int, int]:
    return usage.input, usage.cache_read, usage.cache_write, usage.output, usage.reasoning


def _rest(usage: Usage | None) -> StoredUsage | None:
    if usage is None or not (
        usage.cache_write_1h
        or usage.input_audio
        or usage.input_image
        or usage.output_audio
        or usage.output_image
        or usage.web_searches
        or usage.estimated
    ):
        return None
    return StoredUsage(
        usage.cache_write_1h,
        usage.input_audio,
        usage.input_image,
        usage.output_audio,
        usage.output_image,
        usage.web_searches,
        usage.estimated,
    )


def _text(detail: CallDetail) -> str:
    try:
        return _encode(detail).decode()
    except UnicodeEncodeError:  # a lone surrogate in a path or a name
        return _encode(CallDetail(cut=detail.cut, masked=detail.masked, headers=detail.headers)).decode()

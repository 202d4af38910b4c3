"""The store of records as the page reads it: calls, one call with its parts, runs, spending.

Each function blocks; `PageRecords.read` runs one at a time in a thread, on a connection of its own
that only reads.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeVar

import msgspec

from modelplex.commands.transcript import Block, Entry, read_received, read_sent
from modelplex.dashboard.calls import PageFilter
from modelplex.records.store.database import Database, StoreError
from modelplex.records.store.queries import (
    CallFilter,
    RequestPart,
    StoredCall,
    UsageRow,
    calls_of_run,
    last_message,
    one_call,
    recent_calls,
    request_parts,
    response_body,
    search,
    usage,
)
from modelplex.records.store.rows import CallSummary

T = TypeVar("T")

PAGE: Final = 200
"""Rows of one page of the list."""
SCAN: Final = 1_000
SCANS: Final = 20
"""Rows that are read at a time, and how often, for a filter that the store does not know."""
SHOWN: Final = 65_536
"""Characters of one part that are sent to the page. The whole body has a link of its own."""
REOPEN_S: Final = 1.0
"""Seconds after which a store that could not be opened is tried again."""
HOUR: Final = 3_600.0
DAY: Final = 86_400.0


class ShownPart(msgspec.Struct, frozen=True):
    """A piece of a request. `is_new`: the turn before did not have it. `label` is its role or the
    name of its member; `blocks` is what a message says, `text` the bytes.
    """

    kind: str
    label: str
    bytes: int
    is_new: bool
    text: str
    is_cut: bool = False
    blocks: tuple[Block, ...] = ()


class CallContent(msgspec.Struct, frozen=True):
    parts: list[ShownPart]
    response: tuple[Block, ...]
    response_bytes: int
    before: str | None
    """The call of the turn before, where its request is stored too."""


class PageRecords:
    """`open` raises StoreError. Nothing is opened until somebody looks."""

    def __init__(self, open: Callable[[], Database]) -> None:
        self._open = open
        self._database: Database | None = None
        self._failed = 0.0
        self._lock = asyncio.Lock()

    def __repr__(self) -> str:
        return f"<PageRecords {self._database!r}>"

    async def read(self, query: Callable[[Database], T]) -> T | None:
        """None where there is no store that can be read now."""
        async with self._lock:
            return await asyncio.to_thread(self._read, query)

    def _read(self, query: Callable[[Database], T]) -> T | None:
        if self._database is None and time.monotonic() < self._failed + REOPEN_S and self._failed:
            return None
        try:
            if self._database is None:
                self._database = self._open()
            return query(self._database)
        except StoreError:
            self._failed = time.monotonic()
            self._drop()
            return None

    def _drop(self) -> None:
        database, self._database = self._database, None
        if database is not None:
            with contextlib.suppress(StoreError):
                database.close()


# --- calls ---


class CallPage(msgspec.Struct, frozen=True):
    """`last` is where the next page begins, None at the end."""

    rows: list[CallSummary]
    last: tuple[float, str] | None


def call_page(db: Database, wanted: PageFilter, before: tuple[float, str] | None) -> CallPage:
    """The newest calls that match, before this one."""
    where = CallFilter(
        kind=wanted.kind,
        agent=wanted.agent,
        outcome=wanted.outcome,
        unpriced=wanted.only == "unpriced",
    )
    found: list[CallSummary] = []
    for _ in range(SCANS):
        batch = recent_calls(db, msgspec.structs.replace(where, before=before), limit=SCAN)
        for call in batch:
            before = (call.started, call.id)
            if wanted.matches(call):
                found.append(call)
                if len(found) == PAGE:
                    return CallPage(found, before)
        if len(batch) < SCAN:
            return CallPage(found, None)
    return CallPage(found, before)


# --- one call ---


def call_content(db: Database, found: StoredCall) -> CallContent:
    """The parts of the request, marked where the turn before had them, and the response."""
    call = found.call
    pieces = request_parts(db, call.id) if found.has_request else []
    parent = one_call(db, call.parent) if call.parent and found.has_request else None
    before = request_parts(db, parent.call.id) if parent is not None and parent.has_request else []
    response = response_body(db, call.id) if found.has_response else None
    known: set[object] = {piece.hash or piece.content for piece in before}
    if parent is not None and before and not (_has_messages(before) and _has_messages(pieces)):
        known.update(_entries(parent.call, before))  # one of the two is stored in one piece
    if _has_messages(pieces):
        shown = list(_page_parts(call, pieces, known, is_first=not before))
    else:
        shown = list(_whole_parts(_entries(call, pieces), known))
    return CallContent(
        parts=shown,
        response=_response(call, response),
        response_bytes=len(response or b""),
        before=parent.call.id if parent is not None and before else None,
    )


def _has_messages(pieces: Sequence[RequestPart]) -> bool:
    return any(piece.kind == "message" for piece in pieces)


def _entries(call: CallSummary, pieces: Sequence[RequestPart]) -> Sequence[Entry]:
    body = b"".join(piece.content for piece in pieces)
    if not body:
        return ()
    if call.kind == "tool":
        return (Entry("arguments", (Block("tool_call", body.decode("utf-8", "replace")),)),)
    return read_sent(call, body).entries


def _whole_parts(entries: Sequence[Entry], known: set[object]) -> Iterator[ShownPart]:
    """Of a small body, which is stored in one piece."""
    for entry in entries:
        text = "\n".join(block.text for block in entry.blocks)
        yield ShownPart(
            kind="message",
            label=entry.role,
            bytes=len(text.encode(errors="replace")),
            is_new=entry not in known,
            text=text[:SHOWN],
            is_cut=len(text) > SHOWN,
            blocks=_bounded(entry.blocks),
        )


def _page_parts(
    call: CallSummary, pieces: Sequence[RequestPart], known: set[object], *, is_first: bool
) -> Iterator[ShownPart]:
    member = "body"
    for piece in pieces:
        text = piece.content.decode("utf-8", "replace")
        if piece.kind == "rest":
            member = _last_member(text) or member
            if not any(character.isalnum() for character in text):
                continue  # a comma between two messages
        entries = read_message(call, piece.content) if piece.kind == "message" else ()
        yield ShownPart(
            kind=piece.kind,
            label=entries[0].role if entries else "other members" if piece.kind == "rest" else member,
            bytes=len(piece.content),
            is_new=is_first
            or not ((piece.hash or piece.content) in known or (entries and known >= set(entries))),
            text=text[:SHOWN],
            is_cut=len(text) > SHOWN,
            blocks=_bounded(block for entry in entries for block in entry.blocks),
        )


def _last_member(text: str) -> str:
    """The name of the member whose value follows this piece of JSON."""
    name, colon, rest = text.rstrip().rpartition(":")
    if not colon or rest.strip(" \t\n["):
        return ""
    return name.rstrip().rpartition('"')[0].rpartition('"')[2]


BODIES: Final = (
    b'{"model":"m","max_tokens":1,"messages":[%b]}',
    b'{"model":"m","input":[%b]}',
    b'{"contents":[%b]}',
)
"""Smallest bodies with one message, of the dialects in turn: the wrong ones are not read."""


def read_message(call: CallSummary, message: bytes) -> Sequence[Entry]:
    """What one message says, read by its dialect in a body of its own."""
    for body in BODIES:
        entries = read_sent(call, body % message).entries
        if entries and entries[0].role != "request":
            return entries
    return ()


def _response(call: CallSummary, body: bytes | None) -> tuple[Block, ...]:
    if not body:
        return ()
    if call.kind == "tool":
        return _bounded([Block("text", body.decode("utf-8", "replace"))])
    return _bounded(read_received(call, body).blocks)


def _bounded(blocks: Iterator[Block] | Sequence[Block]) -> tuple[Block, ...]:
    return tuple(msgspec.structs.replace(block, text=block.text[:SHOWN]) for block in blocks)


# --- runs ---


def search_run(db: Database, run: str, text: str) -> list[str]:
    """The calls of a run whose names or bodies hold this text."""
    wanted, found = text.lower(), set(search(db, run, text))
    return [
        call.id
        for call in calls_of_run(db, run)
        if call.id in found
        or wanted in f"{call.id} {call.requested_model} {call.model} {call.tool} {call.error or ''}".lower()
    ]


class RunCall(msgspec.Struct, frozen=True, kw_only=True):
    """One call in its run. `asks` is the beginning of what the last message says, `says` that of
    the response; both "" where no bodies are stored.
    """

    row: CallSummary
    asks: str = ""
    says: str = ""


LINE: Final = 160
"""Characters of a message in the list of a run."""


def run_calls(db: Database, run: str) -> list[RunCall]:
    """Oldest first."""
    return [_run_call(db, call) for call in calls_of_run(db, run)]


def _run_call(db: Database, call: CallSummary) -> RunCall:
    asks = says = ""
    last = last_message(db, call.id)
    if (
        entries := read_message(call, last)
        if last is not None
        else _entries(call, request_parts(db, call.id))
    ):
        asks = _line(entries[-1].blocks)
    if body := response_body(db, call.id):
        says = _line(_response(call, body))
    return RunCall(
        row=call,
        asks=asks,
        says=says,
    )


def _line(blocks: Sequence[Block]) -> str:
    texts = (f"{block.name} {block.text}" if block.name else block.text for block in blocks)
    return " ".join(" ".join(texts).split())[:LINE]


# --- spending ---


class Spending(msgspec.Struct, frozen=True):
    """`by` has the sums of each group. `cost` and `tokens` have those of each model at each step of
    time, which begin at `at`; `agents` both for each agent.
    """

    by: dict[str, list[UsageRow]]
    at: list[float]
    cost: dict[str, list[float]]
    tokens: dict[str, list[int]]
    agents: dict[str, AgentSteps]


class AgentSteps(msgspec.Struct, frozen=True):
    cost: list[float]
    tokens: list[int]


GROUPS: Final = ("agent", "model", "provider", "tag", "host")


def spending(db: Database, now: float, days: int) -> Spending:
    """The last day by hours, more by days in UTC."""
    if days == 1:
        began = now - now % HOUR - 23 * HOUR
        at, step = [began + HOUR * i for i in range(24)], HOUR
    else:
        began = now - now % DAY - (days - 1) * DAY
        at, step = [began + DAY * i for i in range(days)], DAY
    where = CallFilter(since=began, kind="model")
    cost: dict[str, list[float]] = {}
    tokens: dict[str, list[int]] = {}
    agents: dict[str, AgentSteps] = {}
    for model, agent, index, dollars, count in _steps(db, where, began=began, step=step):
        cost.setdefault(model, [0.0] * len(at))[index] += dollars
        tokens.setdefault(model, [0] * len(at))[index] += count
        own = agents.setdefault(agent, AgentSteps([0.0] * len(at), [0] * len(at)))
        own.cost[index] += dollars
        own.tokens[index] += count
    by = {name: usage(db, by=[name], where=where) for name in GROUPS}
    return Spending(by=by, at=at, cost=cost, tokens=tokens, agents=agents)


def _steps(
    db: Database, where: CallFilter, *, began: float, step: float
) -> Iterator[tuple[str, str, int, float, int]]:
    """Model, agent, number of the step, US dollars and tokens."""
    if step == DAY:
        for row in usage(db, by=["day", "model", "agent"], where=where):
            group, used = row.group, row.tokens_in + row.tokens_out
            day = dt.datetime.fromisoformat(f"{group['day']}T00:00:00+00:00").timestamp()
            yield group["model"], group["agent"], int((day - began) / DAY), row.cost, used
        return
    rows = db.query(
        "SELECT started, model, agent, cost, tokens_in, tokens_out FROM calls "
        "WHERE kind = 'model' AND started >= ? ORDER BY started DESC LIMIT ?",
        [began, MOST_CALLS],
    )
    for started, model, agent, cost, tokens_in, tokens_out in rows:
        used = (tokens_in or 0) + (tokens_out or 0)
        yield model, agent, min(23, int((started - began) / step)), cost or 0.0, used


# --- plots ---


class Series(msgspec.Struct, frozen=True, kw_only=True):
    """Values for each step of time. `at` are Unix seconds; times are None where nothing ended."""

    at: list[float]
    p50: list[float | None]
    p95: list[float | None]
    first_p50: list[float | None]
    first_p95: list[float | None]
    calls: dict[str, list[int]]
    errors: dict[str, list[int]]


STEPS: Final = 60
MOST_CALLS: Final = 50_000
"""Calls that one plot reads: a tenth of a second's work. With more, the oldest are left out."""


def series(db: Database, now: float, seconds: float) -> Series:
    """The last `seconds` in STEPS steps."""
    since, step = now - seconds, seconds / STEPS
    rows = db.query(
        "SELECT started, provider, outcome, blame, seconds, first_output, stream FROM calls "
        "WHERE kind = 'model' AND started >= ? ORDER BY started DESC LIMIT ?",
        [since, MOST_CALLS],
    )
    total: list[list[float]] = [[] for _ in range(STEPS)]
    first: list[list[float]] = [[] for _ in range(STEPS)]
    calls: dict[str, list[int]] = {}
    errors: dict[str, list[int]] = {}
    for started, provider, outcome, blame, took, first_output, stream in rows:
        index = min(STEPS - 1, int((started - since) / step))
        calls.setdefault(provider or "none", [0] * STEPS)[index] += 1
        if outcome == "ok":
            total[index].append(took)
            if stream and first_output is not None:
                first[index].append(first_output)
        else:
            errors.setdefault(blame or "gateway", [0] * STEPS)[index] += 1
    return Series(
        at=[since + step * i for i in range(STEPS)],
        p50=[_part(values, 0.5) for values in total],
        p95=[_part(values, 0.95) for values in total],
        first_p50=[_part(values, 0.5) for values in first],
        first_p95=[_part(values, 0.95) for values in first],
        calls=calls,
        errors=errors,
    )


def _part(values: list[float], part: float) -> float | None:
    """The value below which this part of the values is; the nearest one."""
    return sorted(values)[min(len(values) - 1, int(part * len(values)))] if values else None


def find_call(db: Database, id: str) -> tuple[StoredCall, CallContent] | None:
    found = one_call(db, id)
    return None if found is None else (found, call_content(db, found))

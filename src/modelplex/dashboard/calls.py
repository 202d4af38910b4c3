"""Calls as they end, for the pages that look: a sink that exists while one does.

The gateway may end a thousand calls a second, and nobody reads so many. Each page gets a sample of
what matches its filter, the unusual calls first, and how many were left out; all of them are in the
store.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from itertools import islice

import msgspec

from modelplex.core.events import Usage
from modelplex.records.record import Record
from modelplex.records.sink import Sink
from modelplex.records.tool_call import ToolRecord

RECENT = 2_000
"""Records that are kept while somebody looks: two seconds of a busy gateway, a few MB."""
ROWS_PER_TICK = 40
"""Rows that one page gets at a time. Twice a second that is more than a person reads."""


class CallRow(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the list, of a model or a tool call. `unpriced`: it used tokens that have no
    known price. `stripped`, `changes` and `attempts` are counts.
    """

    id: str
    kind: str
    started: float
    agent: str
    listener: str
    model: str
    served: str = ""
    provider: str = ""
    endpoint: str = ""
    outcome: str
    status: int = 0
    code: str | None = None
    blame: str | None = None
    error: str | None = None
    seconds: float
    first_output: float | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None
    cached: int | None = None
    cost: float | None = None
    unpriced: bool = False
    attempts: int = 0
    stripped: int = 0
    changes: int = 0
    stream: bool = False
    passthrough: bool = False
    bytes_in: int = 0
    bytes_out: int = 0


def row_of(record: Record | ToolRecord) -> CallRow:
    if isinstance(record, ToolRecord):
        return CallRow(
            id=record.id,
            kind="tool",
            started=record.started,
            agent=record.agent,
            listener=record.listener,
            model=record.tool,
            provider=record.server,
            endpoint=record.method,
            outcome=record.outcome,
            code=record.reason or (str(record.code) if record.code is not None else None),
            error=record.error,
            seconds=record.seconds,
            bytes_in=record.bytes_in,
            bytes_out=record.bytes_out,
        )
    usage = record.usage
    return CallRow(
        id=record.id,
        kind="model",
        started=record.started,
        agent=record.agent,
        listener=record.listener,
        model=record.requested_model,
        served=record.model,
        provider=record.provider,
        endpoint=record.endpoint,
        outcome=record.outcome,
        status=record.status,
        code=record.code,
        blame=record.blame,
        error=record.error,
        seconds=record.times.total,
        first_output=record.times.first_output,
        tokens_in=usage.input if usage is not None else None,
        tokens_out=usage.output if usage is not None else None,
        cached=usage.cache_read if usage is not None else None,
        cost=record.cost,
        unpriced=is_unpriced(usage, record.cost),
        attempts=len(record.attempts),
        stripped=len(record.stripped),
        changes=len(record.changes),
        stream=record.stream,
        passthrough=record.passthrough,
        bytes_in=record.bytes_in,
        bytes_out=record.bytes_out,
    )


def is_unpriced(usage: Usage | None, cost: float | None) -> bool:
    return usage is not None and cost is None and bool(usage.input or usage.output)


class PageFilter(msgspec.Struct, frozen=True, kw_only=True):
    """What a page asks for; "" matches everything. `model` and `q` are parts of names, without
    case; `only` is one of ONLY.
    """

    kind: str = ""
    agent: str = ""
    model: str = ""
    provider: str = ""
    outcome: str = ""
    only: str = ""
    q: str = ""

    def matches(self, row: CallRow) -> bool:
        named = f"{row.model} {row.served}".lower()
        return (
            (not self.kind or row.kind == self.kind)
            and (not self.agent or row.agent == self.agent)
            and (not self.provider or row.provider == self.provider)
            and (not self.outcome or row.outcome == self.outcome)
            and (not self.model or self.model.lower() in named)
            and (self.only not in ONLY or ONLY[self.only](row))
            and (not self.q or self.q.lower() in _searched(row))
        )


ONLY: Mapping[str, Callable[[CallRow], bool]] = {
    "failed": lambda row: row.outcome != "ok",
    "unpriced": lambda row: row.unpriced,
    "stripped": lambda row: row.stripped > 0,
    "changed": lambda row: row.changes > 0,
    "retried": lambda row: row.attempts > 1,
}
"""Kinds of unusual calls."""


def _searched(row: CallRow) -> str:
    parts = (row.id, row.agent, row.model, row.served, row.provider, row.endpoint, row.code, row.error)
    return " ".join(filter(None, parts)).lower()


def filter_of(arguments: Mapping[str, str]) -> PageFilter:
    """Of a query; unknown names are ignored."""
    known = {name: arguments[name][:200] for name in PageFilter.__struct_fields__ if name in arguments}
    return PageFilter(**known)


class CallSample(msgspec.Struct, frozen=True):
    """`matched` of the `ended` calls match the filter, and `rows` are some of them, the newest
    last. `missed` calls ended too fast to be looked at.
    """

    rows: list[CallRow]
    matched: int
    ended: int
    missed: int


class CallFeed:
    """A sink with the last calls. It is attached while it has a `CallSubscription`."""

    def __init__(self, attach: Callable[[Sink], None], detach: Callable[[Sink], None]) -> None:
        self._attach = attach
        self._detach = detach
        self._recent: deque[Record | ToolRecord] = deque(maxlen=RECENT)
        self.ended = 0
        self._subscriptions: set[CallSubscription] = set()

    def __repr__(self) -> str:
        return f"<CallFeed {len(self._subscriptions)} subscriptions, {len(self._recent)} recent>"

    def record(self, record: Record | ToolRecord, /) -> None:
        self._recent.append(record)
        self.ended += 1

    def find(self, call: str) -> Record | ToolRecord | None:
        """A recent call by its id."""
        return next((each for each in reversed(self._recent) if each.id == call), None)

    def subscribe(self, wanted: PageFilter) -> CallSubscription:
        """`close` ends it."""
        if not self._subscriptions:
            self._attach(self)
        subscription = CallSubscription(self, wanted)
        self._subscriptions.add(subscription)
        return subscription

    def leave(self, subscription: CallSubscription) -> None:
        self._subscriptions.discard(subscription)
        if not self._subscriptions:
            self._detach(self)
            self._recent.clear()

    def since(self, ended: int) -> tuple[list[Record | ToolRecord], int]:
        """The calls after the first `ended` ones, and how many of them are kept no longer."""
        new = self.ended - ended
        kept = min(new, len(self._recent))
        return list(islice(self._recent, len(self._recent) - kept, None)), new - kept


class CallSubscription:
    """One page that looks."""

    def __init__(self, feed: CallFeed, wanted: PageFilter) -> None:
        self._feed = feed
        self._wanted = wanted
        self._seen = feed.ended

    def close(self) -> None:
        self._feed.leave(self)

    def take(self) -> CallSample:
        """What ended since the last time."""
        new, missed = self._feed.since(self._seen)
        ended, self._seen = self._feed.ended - self._seen, self._feed.ended
        rows = [row for row in map(row_of, new) if self._wanted.matches(row)]
        return CallSample(sampled(rows, ROWS_PER_TICK), len(rows), ended, missed)


def sampled(rows: list[CallRow], limit: int) -> list[CallRow]:
    """At most `limit` rows in their order: the unusual ones first, then evenly from the others."""
    if len(rows) <= limit:
        return rows
    unusual = [i for i, row in enumerate(rows) if row.outcome != "ok" or row.unpriced or row.stripped]
    chosen = set(unusual[-limit:])
    usual = [i for i in range(len(rows)) if i not in chosen]
    room = limit - len(chosen)
    chosen.update(usual[len(usual) * k // room] for k in range(room))
    return [row for i, row in enumerate(rows) if i in chosen]

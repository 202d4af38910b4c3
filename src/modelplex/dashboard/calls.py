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

from modelplex.records.record import Record
from modelplex.records.sink import Sink, without_bodies
from modelplex.records.store.rows import CallSummary, summary_of
from modelplex.records.tool_call import ToolRecord

RECENT = 2_000
"""Records that are kept while somebody looks: two seconds of a busy gateway, a few MB."""
ROWS_PER_TICK = 40
"""Rows that one page gets at a time. Twice a second that is more than a person reads."""


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

    def matches(self, row: CallSummary) -> bool:
        named = f"{row.tool} {row.requested_model} {row.model}".lower()
        return (
            (not self.kind or row.kind == self.kind)
            and (not self.agent or row.agent == self.agent)
            and (not self.provider or self.provider in {row.provider, row.server})
            and (not self.outcome or row.outcome == self.outcome)
            and (not self.model or self.model.lower() in named)
            and (self.only not in ONLY or ONLY[self.only](row))
            and (not self.q or self.q.lower() in _searched(row))
        )


ONLY: Mapping[str, Callable[[CallSummary], bool]] = {
    "failed": lambda row: row.outcome != "ok",
    "unpriced": lambda row: row.is_unpriced,
    "stripped": lambda row: row.stripped > 0,
    "changed": lambda row: row.changes > 0,
    "retried": lambda row: row.attempts > 1,
}
"""Kinds of unusual calls."""


def _searched(row: CallSummary) -> str:
    names = (row.agent, row.requested_model, row.model, row.provider, row.server, row.tool, row.endpoint)
    parts = (row.id, *names, row.code, row.error)
    return " ".join(filter(None, parts)).lower()


def filter_of(arguments: Mapping[str, str]) -> PageFilter:
    """Of a query; unknown names are ignored."""
    known = {name: arguments[name][:200] for name in PageFilter.__struct_fields__ if name in arguments}
    return PageFilter(**known)


class CallSample(msgspec.Struct, frozen=True):
    """`matched` of the `ended` calls match the filter, and `rows` are some of them, the newest
    last. `missed` calls ended too fast to be looked at.
    """

    rows: list[CallSummary]
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
        self._recent.append(without_bodies(record))
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
        rows = [row for row in map(summary_of, new) if self._wanted.matches(row)]
        return CallSample(sampled(rows, ROWS_PER_TICK), len(rows), ended, missed)


def sampled(rows: list[CallSummary], limit: int) -> list[CallSummary]:
    """At most `limit` rows in their order: the unusual ones first, then evenly from the others."""
    if len(rows) <= limit:
        return rows
    unusual = [i for i, row in enumerate(rows) if row.outcome != "ok" or row.is_unpriced or row.stripped]
    chosen = set(unusual[-limit:])
    usual = [i for i in range(len(rows)) if i not in chosen]
    room = limit - len(chosen)
    chosen.update(usual[len(usual) * k // room] for k in range(room))
    return [row for i, row in enumerate(rows) if i in chosen]

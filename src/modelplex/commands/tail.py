"""`modelplex tail`: calls as they end."""

from __future__ import annotations

import argparse
import sys
import time
from typing import Final, NoReturn

import msgspec

from modelplex.commands.text import line, local_time, money
from modelplex.records.store.database import Database
from modelplex.records.store.queries import CallFilter, recent_calls
from modelplex.records.store.rows import CallSummary

POLL_S: Final = 0.5
"""Seconds between two looks: about as often as a gateway writes."""
SEEN_LIMIT: Final = 5_000
"""Calls that are remembered, since a long call is written after later ones that have ended."""
WINDOW_S: Final = 3_600.0
"""Seconds before the newest call in which calls are looked for: longer than a call takes."""
_encode = msgspec.json.Encoder().encode


def tail(arguments: argparse.Namespace, database: Database) -> NoReturn:
    """Prints until it is interrupted."""
    follower = Follower(database, agent=arguments.agent or "")
    for call in follower.first(arguments.lines):
        _print(call, as_json=arguments.json)
    while True:
        time.sleep(POLL_S)
        for call in follower.more():
            _print(call, as_json=arguments.json)


class Follower:
    """Returns each call once, in the order in which they are written."""

    def __init__(self, database: Database, *, agent: str) -> None:
        self._database = database
        self._agent = agent
        self._seen: dict[str, None] = {}
        self._newest = 0.0

    def __repr__(self) -> str:
        return f"<Follower {len(self._seen)} seen>"

    def first(self, count: int) -> list[CallSummary]:
        """The last `count` calls."""
        found = self._new()
        return found[-count:] if count else []

    def more(self) -> list[CallSummary]:
        return self._new()

    def _new(self) -> list[CallSummary]:
        since = self._newest - WINDOW_S if self._newest else None
        where = CallFilter(agent=self._agent, since=since)
        found = [
            each for each in recent_calls(self._database, where, limit=1_000) if each.id not in self._seen
        ]
        found.reverse()
        for each in found:
            self._seen[each.id] = None
            self._newest = max(self._newest, each.started)
        while len(self._seen) > SEEN_LIMIT:
            del self._seen[next(iter(self._seen))]
        return found


def _print(call: CallSummary, *, as_json: bool) -> None:
    sys.stdout.write(_encode(call).decode() + "\n" if as_json else one_line(call) + "\n")
    sys.stdout.flush()


def one_line(call: CallSummary) -> str:
    """For example `2026-12-01 12:00:00 mpx-1 coder openai/gpt-5 ok 1.2s 1200+80 tokens $0.0123`."""
    what = (
        f"{call.server}/{call.tool}"
        if call.kind == "tool"
        else f"{call.provider}/{call.model or call.requested_model}"
    )
    parts = [local_time(call.started), call.id, call.agent or "-", what, call.outcome, f"{call.seconds:.1f}s"]
    if call.tokens_in is not None:
        parts.append(f"{call.tokens_in}+{call.tokens_out} tokens")
        parts.append("unpriced" if call.cost is None else money(call.cost))
    parts += [f"{call.attempts} attempts"] if call.attempts > 1 else []
    parts += [f"{call.stripped} stripped"] if call.stripped else []
    parts += [call.error] if call.error else []
    return line(" ".join(parts))

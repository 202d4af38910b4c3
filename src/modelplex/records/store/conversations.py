"""Places calls in runs and conversations: which call extends which, and in what way.

A call whose messages extend those of another one is its child. Elsewhere than in `modelplex run`, a
run is what one process calls (on a socket, the kernel says which one), and what extends its
conversations; on TCP it is one conversation, and what the same client calls in between.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final, Generic, Protocol, TypeVar

import msgspec

from modelplex.records.store.rows import Placement

REMEMBERED: Final = 5_000
"""Calls, processes and runs in memory, some 2 MB. What was forgotten is looked up in the store."""
RETRY_S: Final = 3600.0
"""Seconds within which the same messages are a retry; later they begin another conversation."""
IDLE_S: Final = 600.0
"""Seconds after which what a process or client calls without a conversation is another run: process
ids and addresses are used again.
"""

Key = TypeVar("Key")
Value = TypeVar("Value")


class Recent(Generic[Key, Value]):
    """A mapping that forgets what was used least recently."""

    def __init__(self, limit: int = REMEMBERED) -> None:
        self._items: OrderedDict[Key, Value] = OrderedDict()
        self._limit = limit

    def __len__(self) -> int:
        return len(self._items)

    def get(self, key: Key) -> Value | None:
        found = self._items.get(key)
        if found is not None:
            self._items.move_to_end(key)
        return found

    def put(self, key: Key, value: Value) -> None:
        items = self._items
        items[key] = value
        items.move_to_end(key)
        if len(items) > self._limit:
            items.popitem(last=False)

    def clear(self) -> None:
        self._items.clear()


class Call(msgspec.Struct, frozen=True):
    """What a call is placed by. `turns` are the hashes of its conversation up to each message;
    `pid` is 0 where it is unknown. `previous` is the id of the stored response from which it goes
    on, `response_id` that of its own. `run` is its run of `modelplex run`, where it is known.
    """

    id: str
    at: float
    kind: str = "model"
    agent: str = ""
    listener: str = ""
    client: str = ""
    pid: int = 0
    turns: Sequence[bytes] = ()
    context: bytes | None = None
    previous: str | None = None
    response_id: str | None = None
    run: str = ""


class KnownCall(msgspec.Struct):
    """A call that others may extend."""

    id: str
    run: str
    context: bytes | None
    at: float
    children: int = 0


class _Run(msgspec.Struct):
    """The most messages of a call in this run, by the hash of its system prompt."""

    longest: dict[bytes | None, int] = {}


class Lookup(Protocol):
    """Finds calls in the store."""

    def by_turns(self, turns: Sequence[bytes], /) -> KnownCall | None:
        """The last call whose conversation ends with one of these turns, the longest first."""
        ...

    def by_response(self, response_id: str, /) -> KnownCall | None:
        """The call whose response this is."""
        ...


MAX_LOOKUP: Final = 64
"""Turns that are looked up in the store: those of some thirty requests of a tool loop."""


class Conversations:
    """Of one store. `run` is the run of every call, in `modelplex run`."""

    def __init__(self, lookup: Lookup, *, run: str | None = None) -> None:
        self._lookup = lookup
        self._run = run
        self._calls: Recent[bytes, KnownCall] = Recent()
        self._responses: Recent[str, KnownCall] = Recent()
        self._callers: Recent[tuple[str, str, str, int], tuple[str, float]] = Recent()
        self._runs: Recent[str, _Run] = Recent()

    def __repr__(self) -> str:
        return f"<Conversations {len(self._calls)} calls, {len(self._runs)} runs>"

    def forget(self) -> None:
        """What was placed since may not be in the store."""
        self._calls.clear()
        self._responses.clear()
        self._callers.clear()
        self._runs.clear()

    def place(self, call: Call) -> Placement:
        found, is_same = self._find(call)
        caller = call.agent, call.listener, call.client, call.pid
        run = self._run_of(call, found, caller)
        relation, parent = "other" if call.kind == "model" else call.kind, None
        if found is not None and is_same:
            relation, parent = "retry" if found.context == call.context else "subagent", found.id
        elif found is not None:
            relation, parent = "branch" if found.children else "turn", found.id
            found.children += 1
        elif call.turns:
            relation = self._relation(run, call)
        placement = Placement(run, parent, relation)
        self._callers.put(caller, (run, call.at))
        self._remember(call, run)
        return placement

    def _find(self, call: Call) -> tuple[KnownCall | None, bool]:
        """The call that this one extends or repeats, and whether it repeats it."""
        if call.previous is not None:
            return self._responses.get(call.previous) or self._lookup.by_response(call.previous), False
        last = len(call.turns) - 1
        for number in range(last, -1, -1):
            found = self._calls.get(call.turns[number])
            if found is not None and (number < last or call.at - found.at < RETRY_S):
                return found, number == last
        if not call.turns:
            return None, False
        found = self._lookup.by_turns(call.turns[-2 : -2 - MAX_LOOKUP : -1])
        return found, False

    def _run_of(self, call: Call, found: KnownCall | None, caller: tuple[str, str, str, int]) -> str:
        if call.run or self._run is not None:
            return call.run or self._run or ""
        known = self._callers.get(caller)
        is_near = known is not None and call.at - known[1] < IDLE_S
        if known is not None and is_near and (call.pid or not call.turns):
            return known[0]
        if found is not None:
            return found.run
        return f"run-{call.id.removeprefix('mpx-')}"

    def _relation(self, run: str, call: Call) -> str:
        """Of a conversation that begins."""
        known = self._runs.get(run)
        if known is None or not known.longest:
            return "root"
        if call.context not in known.longest:
            return "subagent"
        return "compaction" if known.longest[call.context] > len(call.turns) else "root"

    def _remember(self, call: Call, run_id: str) -> None:
        known = KnownCall(call.id, run_id, call.context, call.at)
        if call.response_id is not None:
            self._responses.put(call.response_id, known)
        if not call.turns:
            return
        if call.previous is None:  # else its turns are the last ones of a conversation
            self._calls.put(call.turns[-1], known)
        run = self._runs.get(run_id)
        if run is None:
            self._runs.put(run_id, run := _Run())
        if run.longest.get(call.context, 0) < len(call.turns):
            run.longest[call.context] = len(call.turns)

"""Matches tool results to calls for dialects whose clients need not name it (Gemini, Ollama).

Each lookup takes constant time, however many calls are pending.
"""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

Call = TypeVar("Call")


class _Entry(Generic[Call]):
    __slots__ = ("call", "is_taken")

    def __init__(self, call: Call) -> None:
        self.call = call
        self.is_taken = False


class PendingCalls(Generic[Call]):
    """Calls in order, found by id, by name, or the first of all. A call is taken once."""

    def __init__(self) -> None:
        self._all: deque[_Entry[Call]] = deque()
        self._by_id: dict[str, deque[_Entry[Call]]] = {}
        self._by_name: dict[str, deque[_Entry[Call]]] = {}

    def __repr__(self) -> str:
        return f"<PendingCalls {sum(not entry.is_taken for entry in self._all)}>"

    def add(self, id_: str, name: str, call: Call) -> None:
        entry = _Entry(call)
        self._all.append(entry)
        self._by_id.setdefault(id_, deque()).append(entry)
        self._by_name.setdefault(name, deque()).append(entry)

    def take(self, id_: str | None, name: str | None, *, or_any: bool = False) -> Call | None:
        """The first with this id, else the first of this name; with neither, and `or_any`, the
        first of all. None where there is none.
        """
        found = self._first(self._by_id.get(id_)) if id_ else None
        if found is None and name is not None:
            found = self._first(self._by_name.get(name))
        elif found is None and or_any:
            found = self._first(self._all)
        if found is None:
            return None
        found.is_taken = True
        return found.call

    @staticmethod
    def _first(entries: deque[_Entry[Call]] | None) -> _Entry[Call] | None:
        while entries:
            if not entries[0].is_taken:
                return entries[0]
            entries.popleft()
        return None

"""Rules that the readers of provider responses share: framing, failures, finish reasons.

Imports no dialect.
"""

from __future__ import annotations

from collections.abc import Callable

from modelplex.core.errors import ModelplexError
from modelplex.core.events import Event, Reason, ResponseFailed
from modelplex.core.request import Attempt, OpaqueState
from modelplex.dialects.core.broken_responses import unreadable
from modelplex.dialects.core.json import MALFORMED
from modelplex.dialects.core.quota import Quota
from modelplex.dialects.core.sse import SseReader

_CALLS_DECIDE: frozenset[Reason] = frozenset({"stop", "stop_sequence", "length", "context", "tool_calls"})


class EventBuffer:
    """Events that were read and not taken yet, and the numbers of their parts."""

    __slots__ = ("_parts", "events", "is_over", "quota")

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.is_over = False
        """The last event was read, or the response failed."""
        self.quota = Quota()
        self._parts = 0

    def __repr__(self) -> str:
        return f"{self._parts} parts, over={self.is_over}"

    def next_part(self) -> int:
        """The number of a new part. Raises UpstreamBroken beyond the quota."""
        self.quota.take_entry()
        self._parts += 1
        return self._parts - 1

    def fail(self, error: ModelplexError) -> None:
        """End the response with an error."""
        self.is_over = True
        self.events.append(ResponseFailed(error))

    def take(self) -> list[Event]:
        events, self.events = self.events, []
        return events

    def read(self, work: Callable[[], None]) -> list[Event]:
        """The events that `work` appends. What it raises ends the response."""
        try:
            work()
        except ModelplexError as error:
            self.fail(error)
        except MALFORMED as error:
            self.fail(unreadable(error))
        return self.take()


class SseResponseReader:
    """A ResponseReader (dialects/dialect.py) of server-sent events. A dialect implements
    `_read_event` and `_read_end`, which append to `_out` and may raise ModelplexError.
    """

    def __init__(self) -> None:
        self._out = EventBuffer()
        self._sse = SseReader()
        self.quota = self._out.quota

    def feed(self, data: bytes) -> list[Event]:
        out = self._out
        if out.is_over:
            return []
        try:  # not `out.read`: this runs for each chunk
            for event in self._sse.feed(data):
                self._read_event(event.data, event.event)
                if out.is_over:
                    break
        except ModelplexError as error:
            out.fail(error)
        except MALFORMED as error:
            out.fail(unreadable(error))
        return out.take()

    def end(self) -> list[Event]:
        return [] if self._out.is_over else self._out.read(self._read_rest)

    def _read_rest(self) -> None:
        for event in self._sse.end():
            self._read_event(event.data, event.event)
        if not self._out.is_over:
            self._read_end()

    def _read_event(self, data: bytes, name: str) -> None:
        """Read the data of one event; `name` is its `event` field, "" where it has none."""
        raise NotImplementedError

    def _read_end(self) -> None:
        """Read the end of a stream that did not end before."""
        raise NotImplementedError


def finish_reason(reason: Reason, *, calls: bool, refused: bool = False) -> Reason:
    """Why a response ended, in view of what it holds. Whole tool calls end a turn, whatever reason
    the provider gives, unless a filter cut it (docs/reference/translation.md#finish-reasons).
    `calls`: there are calls, and all are whole.
    """
    if calls and reason in _CALLS_DECIDE:
        return "tool_calls"
    if reason == "tool_calls":
        return "stop"
    return "refusal" if reason == "stop" and refused else reason


def opaque_state(attempt: Attempt, format: str, data: str, *, id: str | None = None) -> OpaqueState:
    """Opaque state that the provider of this attempt made."""
    return OpaqueState(
        format, data, provider=attempt.provider, account=attempt.account, model=attempt.model, id=id
    )

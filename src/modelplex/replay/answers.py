"""Which recorded call answers a request: one with the same content, in the recorded order.

Parallel equal requests get the recorded answers one after the other. After the last one they begin
again with the first. Not thread-safe.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Collection, Sequence
from typing import Final

import msgspec

from modelplex.replay.matching import Difference, Matcher, VolatileRules
from modelplex.replay.recording import RecordedCall, RunRecording

MAX_COMPARED: Final = 200
"""Recorded calls that are compared with a request that none of them answers."""


class Nearest(msgspec.Struct, frozen=True):
    """The recorded call most like a request, its number in the recording from 1 on, and where the
    two differ first.
    """

    call: RecordedCall
    number: int
    difference: Difference | None

    @property
    def name(self) -> str:
        return f"The nearest is its call {self.number} ({self.call.id})"

    @property
    def sentence(self) -> str:
        """What differs; "" where the bodies are alike."""
        found = self.difference
        if found is None:
            return ""
        return f"{self.name}, from which it differs first at {found.path}: recorded {found.recorded}, now {found.now}."


class _Group(msgspec.Struct):
    """Recorded calls that are the same but for what is volatile. `used` are indexes of `calls`."""

    calls: list[RecordedCall] = []
    used: set[int] = set()

    def take(self, body: bytes) -> RecordedCall:
        """The next one; of several, one with the very same body."""
        if len(self.used) == len(self.calls):
            self.used.clear()
        free = [number for number in range(len(self.calls)) if number not in self.used]
        same = [number for number in free if self.calls[number].request == body] if len(free) > 1 else free
        number = (same or free)[0]
        self.used.add(number)
        return self.calls[number]


class RecordedAnswers:
    """The calls of some kinds of a recording, by their content."""

    def __init__(
        self, recording: RunRecording, matcher: Matcher, *, kinds: Collection[str] = ("model",)
    ) -> None:
        self.recording = recording
        self._matcher = matcher
        self._groups: dict[bytes, _Group] = {}
        self.calls = [call for call in recording.calls if call.kind in kinds]
        for call in self.calls:
            self._groups.setdefault(matcher.key(call), _Group()).calls.append(call)
        for group in self._groups.values():
            # Where a client went away, another answer to the same request is the whole one.
            group.calls = [each for each in group.calls if each.outcome != "client_closed"] or group.calls

    def __repr__(self) -> str:
        return f"<RecordedAnswers {self.recording.source}: {len(self.calls)} calls>"

    @property
    def models(self) -> list[str]:
        """The names that were requested."""
        return list(dict.fromkeys(call.model for call in self.calls))

    def key_of(self, body: bytes, *, endpoint: str, model: str, stream: bool) -> bytes:
        return self._matcher.key_of(body, endpoint=endpoint, model=model, stream=stream)

    def take(self, key: bytes, body: bytes) -> RecordedCall | None:
        """The answer to a request with this key and body; None where none was recorded."""
        group = self._groups.get(key)
        return None if group is None else group.take(body)

    def nearest(self, body: bytes, *, endpoint: str) -> Nearest | None:
        """The recorded call at the same endpoint with the most values in common. None without
        one.
        """
        numbered = [(number, call) for number, call in enumerate(self.calls, 1) if call.endpoint == endpoint][
            :MAX_COMPARED
        ]
        if not numbered:
            return None
        number, call = max(numbered, key=lambda each: self._matcher.likeness(each[1].request, body))
        return Nearest(call, number, self._matcher.difference(call.request, body))


def listed_rules(members: Sequence[str] = (), texts: Sequence[str] = ()) -> VolatileRules:
    """The rules of volatile.toml, and further ones of a config."""
    data = pkgutil.get_data("modelplex.replay", "volatile.toml")
    assert data is not None, "volatile.toml is missing from the package"
    rules = msgspec.toml.decode(data, type=VolatileRules)
    own = {f"own_{number}": text for number, text in enumerate(texts, 1)}
    return VolatileRules((*rules.members, *members), {**own, **rules.texts})

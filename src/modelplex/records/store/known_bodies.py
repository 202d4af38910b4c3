"""The bodies that were split last: the next body of a conversation begins with most of one.

Of such a body only what is new is read, hashed and searched for secrets, so that recording a call
costs what its turn adds, and not its whole conversation once more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from modelplex.records.store.parts import SplitBody, split_body, split_longer

KEPT: Final = 32
"""Bodies, those that went to providers too. Conversations that go on at once beyond that are read
whole.
"""
KEPT_BYTES: Final = 8_388_608
"""Bytes of all of them."""
STEPS_BACK: Final = 4
"""Messages at the end that may differ: clients write the last ones anew for a provider's cache."""
OVERLAP: Final = 4_096
"""Bytes before what is new that are searched for secrets too: a secret may begin there."""


PROBE: Final = 32
"""Bytes before the end of a message that are compared before all that is before them."""


class _Known(msgspec.Struct, frozen=True):
    """`key` is what the conversation's members and owner are. `probes` has the number, the end and
    the last bytes of the messages with which another body may go on, the first of them first.
    """

    key: tuple[bytes, Sequence[str]]
    body: bytes
    split: SplitBody
    probes: tuple[tuple[int, int, bytes], ...]


class KnownBodies:
    """`mask` takes secrets out of bytes."""

    def __init__(self) -> None:
        self._known: list[_Known] = []
        self._bytes = 0

    def __repr__(self) -> str:
        return f"<KnownBodies {len(self._known)}, {self._bytes} bytes>"

    def split(
        self, body: bytes, *, conversation: Sequence[str], seed: bytes, mask: Callable[[bytes], bytes]
    ) -> tuple[bytes, SplitBody]:
        """The body without secrets, and its parts."""
        key = (seed, conversation)
        found = self._resumed(body, key, mask)
        if found is None:
            body = mask(body)
            found = split_body(body, conversation=conversation, seed=seed)
        if found.ends and not (self._known and self._known[0].split is found):
            self._remember(_Known(key, body, found, _probes(body, found.ends)))
        return body, found

    def clear(self) -> None:
        self._known.clear()
        self._bytes = 0

    def _resumed(
        self, body: bytes, key: tuple[bytes, Sequence[str]], mask: Callable[[bytes], bytes]
    ) -> SplitBody | None:
        for number, known in enumerate(self._known):
            if known.key != key or not (same := _same_messages(body, known)):
                continue
            if body == known.body:
                if number:
                    self._known.insert(0, self._known.pop(number))
                return known.split
            end = known.split.ends[same - 1]
            new = body[max(0, end - OVERLAP) :]
            if mask(new) != new:
                return None
            found = split_longer(body, known.split, same=same, conversation=key[1], seed=key[0])
            if found is not None:
                del self._known[number]
                self._bytes -= len(known.body)
            return found
        return None

    def _remember(self, known: _Known) -> None:
        if len(known.body) > KEPT_BYTES:
            return
        self._known.insert(0, known)
        self._bytes += len(known.body)
        while len(self._known) > KEPT or self._bytes > KEPT_BYTES:
            self._bytes -= len(self._known.pop().body)


def _probes(body: bytes, ends: Sequence[int]) -> tuple[tuple[int, int, bytes], ...]:
    first = max(0, len(ends) - STEPS_BACK)
    return tuple(
        (count, end, body[max(0, end - PROBE) : end]) for count, end in enumerate(ends[first:], first + 1)
    )


def _same_messages(body: bytes, known: _Known) -> int:
    """How many messages of the known body this one begins with, where most are the same."""
    for count, end, last in reversed(known.probes):
        if body.startswith(last, max(0, end - PROBE)) and body.startswith(known.body[:end]):
            return count
    return 0

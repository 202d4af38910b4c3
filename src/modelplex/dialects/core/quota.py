"""How much of one provider's stream the gateway holds: one counter, which everything draws on that
keeps a piece of it.

Above it stand the watches, the readers and the passage; below it the errors. What is drawn is never
given back, so that nothing can be forgotten: it is the size of what a stream says, not of what is
held at one moment. Text that passes untouched is not held, and not drawn for. An answer of a
model's longest output has some MB.
"""

from __future__ import annotations

from modelplex.core.errors import UpstreamBroken

MAX_HELD = 33_554_432
"""Bytes of text, arguments and sealed state that one stream may make us hold, and of what each of
its parts takes. The longest answers of models are a hundredth of it; a generated image may be a
tenth.
"""
ENTRY = 2_048
"""Bytes that a part, a call, a choice or a name costs us beside its text, in all places that know
of it.
"""
PIECE = 64
"""Bytes that a piece of a text costs beside its characters."""
MAX_CHOICES = 1_024
"""Choices of an answer. OpenAI's limit is 128; a larger index would be a place in a list that
nobody asked for.
"""
MAX_COUNTS = 100
"""Members of `usage` in one stream: each event's are added to those before, and all are read again.
"""
ASCII, WIDE = 1, 4
"""Bytes of a character in memory."""


class Quota:
    """The counter of one stream."""

    __slots__ = ("held", "limit")

    def __init__(self) -> None:
        self.held = 0
        self.limit = MAX_HELD

    def __repr__(self) -> str:
        return f"<Quota {self.held} of {self.limit}>"

    def take(self, size: int) -> None:
        """Raises UpstreamBroken beyond the limit."""
        self.held += size
        if self.held > self.limit:
            raise UpstreamBroken(
                f"The provider's stream holds more than the {self.limit} bytes of content that are kept of one."
            )

    def take_text(self, text: str) -> None:
        self.take(PIECE + len(text) * (ASCII if text.isascii() else WIDE))

    def take_entry(self, text: str | bytes = b"") -> None:
        """For something that is known by a name or a number of its own."""
        self.take(ENTRY + len(text))


def check_counts(members: int) -> None:
    """Raises UpstreamBroken for a `usage` of more members than MAX_COUNTS."""
    if members > MAX_COUNTS:
        raise UpstreamBroken(f"The provider's stream counts more than {MAX_COUNTS} things in `usage`.")


def choice_of(index: int | None) -> int:
    """The index of a choice, 0 where none is given. Raises UpstreamBroken for one that no answer
    has.
    """
    if index is None:
        return 0
    if not 0 <= index < MAX_CHOICES:
        raise UpstreamBroken(f"The provider's stream has a choice {index}; at most {MAX_CHOICES} are read.")
    return index

"""Limits how much of one provider's stream the gateway holds: one counter for all who keep a piece.

What is taken is never given back: the counter is the size of the stream's content, not of what is
held at one moment. Text that passes unchanged is not held and not counted. The longest responses of
models have some MB.
"""

from __future__ import annotations

from modelplex.core.errors import UpstreamBroken

MAX_HELD = 33_554_432
"""Bytes of text, arguments and opaque state held of one stream, with the cost of each part. The
longest responses of models take a hundredth of it; a generated image may take a tenth.
"""
ENTRY = 2_048
"""Bytes that a part, a call, a choice or a name costs beside its text, in all data structures."""
PIECE = 64
"""Bytes that a piece of a text costs beside its characters."""
MAX_CHOICES = 1_024
"""Choices of a response. OpenAI's limit is 128; clients keep choices in a list, by index."""
MAX_COUNTS = 100
"""Members of `usage` in one stream: each event's members are added, and all are read again."""
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
            raise self._exceeded()

    def take_text(self, text: str) -> None:
        # As `take`, without a second call for each chunk.
        self.held += PIECE + len(text) * (ASCII if text.isascii() else WIDE)
        if self.held > self.limit:
            raise self._exceeded()

    def _exceeded(self) -> UpstreamBroken:
        return UpstreamBroken(
            f"The provider's stream holds more than the {self.limit} bytes of content that are kept of one."
        )

    def take_entry(self, text: str | bytes = b"") -> None:
        """For a part, call, choice or name; `text` is what is held of it."""
        self.take(ENTRY + len(text))


def check_counts(members: int) -> None:
    """Raises UpstreamBroken for a `usage` of more members than MAX_COUNTS."""
    if members > MAX_COUNTS:
        raise UpstreamBroken(f"The provider's stream counts more than {MAX_COUNTS} things in `usage`.")


def choice_of(index: int | None) -> int:
    """The index of a choice, 0 unless given. Raises UpstreamBroken for an index out of range."""
    if index is None:
        return 0
    if not 0 <= index < MAX_CHOICES:
        raise UpstreamBroken(f"The provider's stream has a choice {index}; at most {MAX_CHOICES} are read.")
    return index

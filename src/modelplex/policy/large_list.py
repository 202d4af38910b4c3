"""A long list of a large body, decoded in batches. Imports nothing of ours."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator


class LargeList:
    """Decodes its entries each time it is iterated, and keeps none of them: decoded text can take
    four times the memory of its JSON. No `list`, so that only a rule that knows it accepts it.
    """

    __slots__ = ("_batches", "_length")

    def __init__(self, batches: Callable[[], Iterable[list[object]]], length: int) -> None:
        self._batches = batches
        self._length = length

    def __repr__(self) -> str:
        return f"<LargeList of {self._length} entries>"

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[object]:
        for batch in self._batches():
            yield from batch

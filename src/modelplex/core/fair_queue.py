"""A queue in which owners take turns. Each operation takes constant time."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

Item = TypeVar("Item", bound=Hashable)


class FairQueue(Generic[Item]):
    """Items by owner, the oldest first. Iterating yields the owners, whose turn is next first. An
    owner may have an item once.
    """

    __slots__ = ("_queues", "size")

    def __init__(self) -> None:
        self._queues: OrderedDict[str, OrderedDict[Item, None]] = OrderedDict()
        self.size = 0

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[str]:
        return iter(self._queues)

    def count(self, owner: str) -> int:
        return len(self._queues.get(owner, ()))

    def add(self, owner: str, item: Item) -> None:
        """An owner that has no items yet is the last to have its turn."""
        self._queues.setdefault(owner, OrderedDict())[item] = None
        self.size += 1

    def pop(self, owner: str) -> Item:
        """Take the owner's oldest item; all others have their turn before its next. Raises KeyError
        for an owner without items.
        """
        item, _ = self._queues[owner].popitem(last=False)
        self._queues.move_to_end(owner)
        self._removed(owner)
        return item

    def discard(self, owner: str, item: Item) -> None:
        """Remove an item, if it still waits."""
        if item in self._queues.get(owner, ()):
            del self._queues[owner][item]
            self._removed(owner)

    def _removed(self, owner: str) -> None:
        self.size -= 1
        if not self._queues[owner]:
            del self._queues[owner]

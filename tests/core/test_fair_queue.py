"""Owners take turns; the items of one owner keep their order."""

import pytest

from modelplex.core.fair_queue import FairQueue


def filled(text: str) -> FairQueue[int]:
    """An item for each letter, which names its owner; items are numbered from 0."""
    queue: FairQueue[int] = FairQueue()
    for number, owner in enumerate(text):
        queue.add(owner, number)
    return queue


def drained(queue: FairQueue[int]) -> list[tuple[str, int]]:
    order: list[tuple[str, int]] = []
    while queue:
        owner = next(iter(queue))
        order.append((owner, queue.pop(owner)))
    return order


def test_owners_take_turns_and_each_owners_items_keep_their_order() -> None:
    assert drained(filled("aaabbc")) == [("a", 0), ("b", 3), ("c", 5), ("a", 1), ("b", 4), ("a", 2)]


def test_an_owner_whose_turn_is_skipped_stays_in_front() -> None:
    queue = filled("aabb")
    assert queue.pop("b") == 2
    assert list(queue) == ["a", "b"]
    assert drained(queue) == [("a", 0), ("b", 3), ("a", 1)]


def test_an_owner_that_comes_again_is_the_last() -> None:
    queue = filled("abc")
    queue.pop("a")
    queue.add("a", 9)
    assert list(queue) == ["b", "c", "a"]


def test_a_discarded_item_has_no_turn() -> None:
    queue = filled("aaab")
    queue.discard("a", 1)
    queue.discard("b", 3)
    queue.discard("b", 3)
    queue.discard("a", 3)  # not the owner's
    assert (len(queue), queue.count("a"), queue.count("b"), list(queue)) == (2, 2, 0, ["a"])
    assert drained(queue) == [("a", 0), ("a", 2)]


def test_the_size_counts_items_and_an_empty_queue_is_false() -> None:
    queue = filled("aab")
    assert len(queue) == 3
    drained(queue)
    assert not queue
    with pytest.raises(KeyError):
        queue.pop("a")

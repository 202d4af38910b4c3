"""The queue between the event loop and the thread of the store."""

from __future__ import annotations

from modelplex.records.record_queue import RecordQueue
from modelplex.records.store.packed import Pack
from tests.records.store.stored import record


def _new_pack() -> Pack:
    return Pack(tags={})


def test_records_and_packs_are_in_their_order() -> None:
    queue = RecordQueue()
    queue.append(record(1, b"x" * 10), 10)
    assert queue.pack(record(2), _new_pack)
    assert queue.pack(record(3), _new_pack)
    queue.append(record(4), 0)
    assert queue.pack(record(5), _new_pack)
    assert queue.records == 5
    assert queue.first_pack() is None
    batch, size = queue.first_records(9)
    assert (len(batch), size) == (1, 10)
    queue.remove(1, records=1, size=10)
    pack = queue.first_pack()
    assert pack is not None
    assert pack.count == 2
    assert queue.bodies == pack.bytes + len(queue._entries[2][0].packed().blob) - _head()  # type: ignore[union-attr]
    queue.remove(1, records=pack.count, size=pack.bytes)
    assert queue.records == 2


def _head() -> int:
    """Bytes of a blob that are no Record's."""
    made = _new_pack()
    assert made.add(record(5))
    return len(made.packed().blob) - made.bytes


def test_a_pack_that_was_taken_gets_nothing_more() -> None:
    queue = RecordQueue()
    assert queue.pack(record(1), _new_pack)
    first = queue.first_pack()
    assert queue.pack(record(2), _new_pack)
    assert first is not None
    assert (first.count, len(queue._entries)) == (1, 2)


def test_no_pack_is_no_entry() -> None:
    queue = RecordQueue()
    assert not queue.pack(record(1), lambda: None)
    assert (queue.records, bool(queue)) == (0, False)

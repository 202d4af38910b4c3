"""Digests and links of a chain."""

from __future__ import annotations

from modelplex.records.store.chain import Seal, StoredRecord, first_link, next_link
from modelplex.records.store.parts import pack


def test_a_digest_is_the_same_as_the_database_gives_the_row_back() -> None:
    written = StoredRecord(["a", 1, None, True, b"x"], b"\x00body")
    read = StoredRecord(("a", 1.0, None, 1, memoryview(b"x")), b"\x00body")
    assert written.digest == read.digest


def test_a_digest_covers_each_body_and_not_its_compression() -> None:
    text = b"a" * 5000
    packed = pack(text)
    assert len(packed) < len(text)
    found = {
        StoredRecord(["a"], packed).digest,
        StoredRecord(["a"], b"\x00" + text).digest,
        StoredRecord(["a"], None, packed).digest,
        StoredRecord(["a"], sent=[packed]).digest,
        StoredRecord(["b"], packed).digest,
        StoredRecord(["a"], packed, tokens=packed).digest,
    }
    assert len(found) == 5


def test_a_link_depends_on_run_place_and_record() -> None:
    begin = first_link("run-1")
    found = {
        next_link(begin, 1, b"a"),
        next_link(begin, 2, b"a"),
        next_link(begin, 1, b"b"),
        next_link(first_link("run-2"), 1, b"a"),
    }
    assert len(found) == 4


def test_what_is_signed_covers_number_and_end() -> None:
    seal = Seal("run-1", 1, b"h", closed=False)
    others = (Seal("run-1", 2, b"h", False), Seal("run-1", 1, b"h", True), Seal("run-2", 1, b"h", False))
    assert len({seal.message, *(each.message for each in others)}) == 4

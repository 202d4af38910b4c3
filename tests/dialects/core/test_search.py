"""A mark is found wherever it is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelplex.dialects.core import search
from modelplex.dialects.core.search import holds_any


@given(
    text=st.lists(st.sampled_from([b"mp", b"mpx", b"1.", b"x", b"mpx1.", b"1", b" text "]), max_size=40).map(
        b"".join
    ),
    samples=st.integers(1, 9),
    rare=st.integers(1, 50),
)
def test_the_fast_search_finds_what_the_plain_one_finds(text: bytes, samples: int, rare: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "SMALL", 1)
        patch.setattr(search, "SAMPLES", 1 if len(text) < 10 else samples)
        patch.setattr(search, "RARE", rare)
        for marks in ((b"mpx1.",), (b"xx", b"mpx1.")):
            assert holds_any(text, marks) == any(mark in text for mark in marks)


@pytest.mark.parametrize("size", [0, 100, 10_000, 300_000])
@pytest.mark.parametrize("filling", [b"a text of words ", b"x", b"mpx1", b"1.1.", bytes(range(256))])
def test_a_mark_is_found_at_the_beginning_in_the_middle_and_at_the_end(size: int, filling: bytes) -> None:
    body = (filling * (size // len(filling) + 1))[:size]
    assert not holds_any(body, (b"mpx1.",)) or b"mpx1." in body
    for at in (0, size // 2, size):
        assert holds_any(body[:at] + b"mpx1." + body[at:], (b"absent!", b"mpx1."))


def test_no_marks_are_not_found() -> None:
    assert not holds_any(b"x" * 10_000, ())

import json
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from modelplex.dialects.core.ndjson import NdjsonReader, line


def _lines(data: bytes, *, cuts: list[int], limit: int) -> tuple[list[bytes], bool]:
    lines = NdjsonReader(limit=limit)
    found: list[bytes] = []
    bounds = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for start, stop in pairwise(bounds):
        found += lines.feed(data[start:stop])
    return found + lines.end(), lines.overflowed


@given(
    data=st.lists(st.sampled_from([b"\n", b"\r\n", b"{}", b"a", b" ", "ü".encode(), b"\r"])).map(b"".join),
    cuts=st.lists(st.integers(0, 60)),
    limit=st.integers(1, 12),
)
def test_lines_are_the_same_however_the_bytes_are_cut(data: bytes, cuts: list[int], limit: int) -> None:
    assert _lines(data, cuts=cuts, limit=limit) == _lines(data, cuts=[], limit=limit)


def test_blank_lines_and_both_line_ends_leave_nothing_behind() -> None:
    assert _lines(b'{"a":1}\r\n\n  \r\n{"b":2}', cuts=[], limit=100) == ([b'{"a":1}', b'{"b":2}'], False)


def test_a_line_at_the_limit_passes_and_one_above_it_ends_the_lines() -> None:
    assert _lines(b"12345\n12345\n", cuts=[], limit=5) == ([b"12345", b"12345"], False)
    assert _lines(b"12345\n123456\n1\n", cuts=[], limit=5) == ([b"12345"], True)


def test_what_never_ends_is_not_held_beyond_the_limit() -> None:
    lines = NdjsonReader(limit=10)
    for _ in range(100):
        assert lines.feed(b"aaaa") == []
    assert lines.overflowed
    assert repr(lines) == "<Lines overflowed>"
    assert lines.end() == []


@given(st.text())
def test_a_written_line_is_one_line_to_whoever_splits_text(text: str) -> None:
    written = line(json.dumps(text, ensure_ascii=False).encode("utf-8", "replace")).decode()
    assert len(written.splitlines()) == 1
    assert json.loads(written) == text.encode("utf-8", "replace").decode()

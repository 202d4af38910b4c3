"""Framing of passthrough streams: whole events, limits, withheld events and ends."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelplex.core.errors import UpstreamBroken
from modelplex.core.events import Usage
from modelplex.dialects.core import passthrough
from modelplex.dialects.core.passthrough import SseObserver


class Observer(SseObserver):
    """`{"error"}` ends the stream, `{"hidden"}` is withheld, `{"end"}` is the end mark."""

    def __init__(self) -> None:
        super().__init__()
        self.read: list[tuple[bytes, bytes]] = []

    def _usage(self) -> Usage | None:
        return None

    def _judge_end(self) -> None:
        if self._finish is None:
            self._fail(UpstreamBroken("no end"))

    def _read_event(self, data: bytes, name: bytes) -> bool:
        self.read.append((name, data))
        if data == b'{"error"}':
            return self._fail(UpstreamBroken("error"), forwarded=self.has_output)
        if data == b'{"end"}':
            self._finish = "stop"
        elif data != b'{"hidden"}':
            self.has_output = True
        return data != b'{"hidden"}'


def forwarded(stream: bytes, cuts: list[int]) -> tuple[bytes, Observer]:
    observer = Observer()
    bounds = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    out = b"".join(observer.feed(stream[start:stop]) for start, stop in pairwise(bounds))
    return out + observer.end(), observer


EVENTS = st.sampled_from(
    [
        b'data: {"a"}\n\n',
        b'data: {"a"}\r\n\r\n',
        b'data: {"a"}\r\r',
        b'event: n\ndata: {"b"}\n\n',
        b'event: n\r\ndata: {"b"}\r\n\r\n',
        b'id: 1\ndata: {"c"}\n\n',
        b'event: n\nid: 1\ndata: {"d"}\n\n',
        b'data: {"e"\ndata: }\n\n',
        b"data: [x]\n\n",
        b'data:{"f"}\n\n',
        b": data: {}\n\n",
        b"\n",
        b"event: n\n\n",
    ]
)


@given(st.lists(EVENTS), st.lists(st.integers(0, 200), max_size=8))
def test_events_are_the_same_however_the_bytes_are_cut(events: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(events) + b'data: {"end"}\n\n'
    out, observer = forwarded(stream, cuts)
    assert out == stream
    assert observer.failed is None
    assert observer.read == forwarded(stream, [])[1].read
    expected: dict[bytes, tuple[bytes, bytes] | None] = {
        b'data: {"a"}': (b"", b'{"a"}'),
        b"event: n\ndata": (b"n", b'{"b"}'),
        b'id: 1\ndata: {"c"}': (b"", b'{"c"}'),
        b"event: n\nid": (b"n", b'{"d"}'),
        b'data: {"e"': (b"", b'{"e"\n}'),
        b"data: [x]": (b"", b"[x]"),
        b"data:{": (b"", b'{"f"}'),
    }
    plain = [event.replace(b"\r\n", b"\n").replace(b"\r", b"\n") for event in events]
    read = [value for event in plain for start, value in expected.items() if event.startswith(start)]
    assert observer.read == [*read, (b"", b'{"end"}')]


@pytest.mark.parametrize("cuts", [[], [13], [20], list(range(200))])
def test_a_withheld_event_is_taken_out(cuts: list[int]) -> None:
    first, hidden, last = b'data: {"a"}\n\n', b'data: {"hidden"}\n\n', b'data: {"end"}\n\n'
    out, observer = forwarded(first + hidden + last, cuts)
    assert out == first + last
    assert observer.failed is None


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n"])
@pytest.mark.parametrize("cuts", [[], [13], list(range(200))])
def test_nothing_is_forwarded_after_an_error_and_an_error_only_after_output(
    cuts: list[int], end: bytes
) -> None:
    first, error = b'data: {"a"}' + end, b'data: {"error"}' + end
    out, observer = forwarded(first + error + first, cuts)
    assert out.rstrip() == (first + error).rstrip()  # CR LF CR ends an event, its last LF may come later
    assert observer.error_forwarded
    out, observer = forwarded(error + first, cuts)
    assert out == b""
    assert not observer.error_forwarded
    assert len(observer.read) == 1


def test_the_last_blank_line_is_added_and_a_missing_end_mark_is_an_error() -> None:
    out, observer = forwarded(b'data: {"end"}', [])
    assert (out, observer.failed) == (b'data: {"end"}\n\n', None)
    out, observer = forwarded(b'data: {"a"}', [])
    assert out == b'data: {"a"}\n\n'
    assert observer.observed.error is observer.failed
    assert "no end" in str(observer.failed)
    assert repr(observer).startswith("<Observer finish=None failed=<UpstreamBroken 502")


@pytest.mark.parametrize("data", [b'data: {"a"}\n\n', b'data: {"a"}\r\n\r\n', b'id: 1\ndata: {"a"}\n\n'])
@pytest.mark.parametrize("together", [True, False])
def test_only_bytes_in_a_row_without_data_are_a_stalled_stream(
    data: bytes, together: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passthrough, "IDLE_CAP", 50)
    observer = Observer()
    for _ in range(20):
        chunk = b": ten bytes\n\n" + data
        assert b"".join(map(observer.feed, [chunk] if together else [chunk[:13], chunk[13:]])) == chunk
    for _ in range(20):
        observer.feed(b": ten bytes\n\n")
    assert observer.failed is not None
    assert "without data" in str(observer.failed)


def test_an_event_without_an_end_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passthrough, "LINE_CAP", 50)
    observer = Observer()
    assert [observer.feed(b"data: {xxx") for _ in range(10)] == [b""] * 10
    assert "more than" in str(observer.failed)

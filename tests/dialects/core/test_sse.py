from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelplex.core.errors import UpstreamBroken
from modelplex.dialects.core import sse
from modelplex.dialects.core.sse import SseEvent, SseReader

STREAM = (
    "\ufeffdata: first\n\n"
    ": a comment\n\n"
    "event: named\ndata: two\ndata:lines\nid: 7\nretry: 10\n\n"
    "event: without data\n\n"
    "data: gr\u00fc\u00dfe \U0001f600\nunknown: field\n\n"
    "data\n\n"
    "\n\n"
    "data:  one space stays\n"
).encode()

EVENTS = [
    SseEvent("", b"first"),
    SseEvent("named", b"two\nlines"),
    SseEvent("", "gr\u00fc\u00dfe \U0001f600".encode()),
    SseEvent("", b""),
    SseEvent("", b" one space stays"),
]


def read(*chunks: bytes) -> list[SseEvent]:
    reader = SseReader()
    events = [event for chunk in chunks for event in reader.feed(chunk)]
    return events + reader.end()


@pytest.mark.parametrize("ending", [b"\n", b"\r", b"\r\n"])
def test_a_stream_cut_at_any_byte_gives_the_same_events(ending: bytes) -> None:
    stream = STREAM.replace(b"\n", ending)
    assert read(stream) == EVENTS
    for cut in range(len(stream) + 1):
        assert read(stream[:cut], stream[cut:]) == EVENTS
    assert read(*(stream[n : n + 1] for n in range(len(stream)))) == EVENTS


@given(st.data())
@settings(deadline=None)
def test_a_stream_cut_in_many_places_gives_the_same_events(data: st.DataObject) -> None:
    ending = data.draw(st.sampled_from([b"\n", b"\r", b"\r\n"]))
    stream = STREAM.replace(b"\n", ending)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)))))
    parts = [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert read(*parts) == EVENTS


def test_whole_events_in_one_chunk_are_read_at_once() -> None:
    reader = SseReader()
    assert reader.feed(b"data: 1\n\ndata: 2\n\n: ping\n\nevent: x\ndata: 3\n\n") == [
        SseEvent("", b"1"),
        SseEvent("", b"2"),
        SseEvent("x", b"3"),
    ]
    assert reader.end() == []


def test_an_event_is_given_as_soon_as_its_blank_line_ends_with_cr() -> None:
    reader = SseReader()
    assert reader.feed(b"data: 1\r\r") == [SseEvent("", b"1")]
    assert reader.feed(b"data: 2\r\n\r") == [SseEvent("", b"2")]
    assert reader.feed(b"\ndata: 3\n\n") == [SseEvent("", b"3")]


def test_a_line_without_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "LINE_CAP", 100)
    reader = SseReader()
    reader.feed(b"data: " + b"x" * 90)
    with pytest.raises(UpstreamBroken):
        reader.feed(b"x" * 10)
    with pytest.raises(UpstreamBroken):
        read(b"data: " + b"x" * 101 + b"\n\n")


def test_an_event_of_endless_lines_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "LINE_CAP", 100)
    with pytest.raises(UpstreamBroken):
        read(*[b"data: xxxxxxxxxx\n"] * 11)


def test_what_is_written_is_read_back() -> None:
    assert sse.event(b'{"a":1}') == b'data: {"a":1}\n\n'
    assert sse.event(b"{}", name=b"ping") == b"event: ping\ndata: {}\n\n"
    assert read(sse.event(b"two\nlines", name=b"x") + sse.comment(b"ping")) == [SseEvent("x", b"two\nlines")]


def test_a_reader_tells_its_state() -> None:
    reader = SseReader()
    reader.feed(b"event: x\ndata: 1\nda")
    assert repr(reader) == "<SseReader carry=2 lines=1 event=b'x'>"


def test_ids_and_waits_are_kept_and_the_last_counts() -> None:
    reader = SseReader()
    assert (reader.last_id, reader.retry) == ("", None)
    assert reader.feed(b"id: 1\nretry: 50\ndata: a\n\nid: 2\nid: 3\0\nretry: x\n\n") == [SseEvent("", b"a")]
    assert (reader.last_id, reader.retry) == ("2", 0.05)
    reader.feed(b"id: " + b"4" * (sse.MAX_ID + 1) + b"\n\n")
    assert reader.last_id == "2"


def test_a_readers_own_limits_replace_the_common_ones() -> None:
    with pytest.raises(UpstreamBroken):
        SseReader(limit=10).feed(b"data: 1234567890\n\n")
    lines = b"data:\n" * 10
    assert SseReader(limit=10, line_cost=1).feed(lines + b"\n") == [SseEvent("", b"\n" * 9)]
    with pytest.raises(UpstreamBroken):
        SseReader(limit=10, line_cost=2).feed(lines)
    with pytest.raises(UpstreamBroken):
        SseReader(idle_limit=5).feed(b": ten bytes\n")

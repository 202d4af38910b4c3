"""The framing of event streams, compared with botocore's parser."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelplex.core.errors import UpstreamBroken
from modelplex.dialects.bedrock_converse.event_stream import EventStreamReader, StreamMessage
from tests.dialects.bedrock_converse.converse_model import event, message, read_by_botocore, text_stream


def read(*pieces: bytes) -> list[StreamMessage]:
    reader = EventStreamReader()
    return [each for piece in pieces for each in reader.feed(piece)]


def test_a_stream_of_these_tests_is_one_that_botocore_reads() -> None:
    assert read_by_botocore(b"".join(text_stream("Hel", "lo"))) == [
        {"messageStart": {"role": "assistant"}},
        {"contentBlockDelta": {"delta": {"text": "Hel"}, "contentBlockIndex": 0}},
        {"contentBlockDelta": {"delta": {"text": "lo"}, "contentBlockIndex": 0}},
        {"contentBlockStop": {"contentBlockIndex": 0}},
        {"messageStop": {"stopReason": "end_turn"}},
        {
            "metadata": {
                "usage": {"inputTokens": 3, "outputTokens": 2, "totalTokens": 5},
                "metrics": {"latencyMs": 9},
            }
        },
    ]


@given(st.lists(st.integers(0, 400)), st.lists(st.binary(max_size=40), max_size=4))
def test_messages_are_the_same_however_the_bytes_are_cut(cuts: list[int], payloads: list[bytes]) -> None:
    data = b"".join(message(each, event_type="x", message_type="event") for each in payloads)
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    pieces = [data[a:b] for a, b in itertools.pairwise(places)]
    expected = [StreamMessage({":event-type": "x", ":message-type": "event"}, each) for each in payloads]
    assert read(*pieces) == expected


def test_headers_of_every_type_are_stepped_over() -> None:
    from binascii import crc32
    from struct import pack

    rows = b""
    for kind, size in {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}.items():
        rows += b"\x01" + bytes([97 + kind, kind]) + bytes(size)
    rows += b"\x01b\x06" + pack(">H", 3) + b"abc" + b"\x01t\x07" + pack(">H", 2) + b"hi"
    head = pack(">II", 16 + len(rows), len(rows))
    start = head + pack(">I", crc32(head)) + rows
    assert read(start + pack(">I", crc32(start))) == [StreamMessage({"t": "hi"}, b"")]


@pytest.mark.parametrize("place", [0, 5, 9, 14, 40, -1])
def test_a_changed_byte_is_found(place: int) -> None:
    data = bytearray(event("messageStart", {"role": "assistant"}))
    data[place] ^= 1
    with pytest.raises(UpstreamBroken, match="event stream is broken"):
        read(bytes(data))


def test_a_message_that_is_too_large_is_not_awaited() -> None:
    from binascii import crc32
    from struct import pack

    for total, headers in ((0xFFFFFFFF, 0), (200_000, 150_000), (12, 0), (16, 8)):
        head = pack(">II", total, headers)
        with pytest.raises(UpstreamBroken, match="impossible length"):
            read(head + pack(">I", crc32(head)))


def test_headers_that_do_not_fit_are_an_error() -> None:
    from binascii import crc32
    from struct import pack

    for rows in (
        b"\x09ab",
        b"\x01a\x63",
        b"\x01a\x07\x00\x09hi",
        b"\x01a\x07\x00\x02\xff\xff",
        b"\x01a\x05\x00",
    ):
        head = pack(">II", 16 + len(rows), len(rows))
        start = head + pack(">I", crc32(head)) + rows
        with pytest.raises(UpstreamBroken, match="headers"):
            read(start + pack(">I", crc32(start)))


def test_what_is_left_of_a_message_shows() -> None:
    reader = EventStreamReader()
    data = event("messageStart", {"role": "assistant"})
    assert list(reader.feed(data[:-1])) == []
    assert reader.has_rest
    assert len(list(reader.feed(data[-1:]))) == 1
    assert not reader.has_rest
    assert repr(reader) == "<EventStreamReader 0 bytes held>"

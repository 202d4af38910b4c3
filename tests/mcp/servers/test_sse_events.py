"""Server-sent events with their ids."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelplex.mcp.servers.sse_events import Event, EventReader, EventTooLong

WHOLE = b'\xef\xbb\xbf: hi\r\nid: 1\r\nretry: 50\r\ndata: {"a":\r\ndata: 1}\r\n\r\nevent: endpoint\rdata:/x\r\rid: 2\ndata:\n\n'


@given(st.lists(st.integers(0, len(WHOLE)), max_size=12))
def test_events_are_the_same_in_any_pieces(cuts: list[int]) -> None:
    reader = EventReader(limit=1000)
    edges = [0, *sorted(cuts), len(WHOLE)]
    events = [e for a, b in pairwise(edges) for e in reader.feed(WHOLE[a:b])]
    assert events == [Event("message", b'{"a":\n1}'), Event("endpoint", b"/x"), Event("message", b"")]
    assert (reader.last_id, reader.retry) == ("2", 0.05)


@pytest.mark.parametrize("data", [b"data: " + b"x" * 200, b"data: xxxxxxxxxx\n" * 20])
def test_an_event_above_the_limit_is_refused(data: bytes) -> None:
    with pytest.raises(EventTooLong):
        EventReader(limit=100).feed(data)

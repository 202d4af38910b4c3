"""The base of response readers: framing, failures, the end, and finish reasons."""

from __future__ import annotations

import msgspec
import pytest

from modelplex.core.errors import RateLimited, UpstreamBroken
from modelplex.core.events import Reason, ResponseEnded, ResponseFailed, TextDelta
from modelplex.core.request import Attempt, OpaqueState
from modelplex.dialects.core.quota import MAX_HELD
from modelplex.dialects.core.response_reader import (
    EventBuffer,
    SseResponseReader,
    finish_reason,
    opaque_state,
)


class Reader(SseResponseReader):
    """Each event is a JSON string; "end" ends the response, "limit" is an error."""

    def _read_event(self, data: bytes, name: str) -> None:
        text = msgspec.json.decode(data, type=str)
        if text == "limit":
            raise RateLimited("Slow down.")
        if text == "end":
            self._out.is_over = True
            self._out.events.append(ResponseEnded("stop"))
        else:
            self._out.events.append(TextDelta(0, name + text))

    def _read_end(self) -> None:
        raise UpstreamBroken("No end mark.")


def test_events_are_read_with_their_names_and_nothing_after_the_end() -> None:
    reader = Reader()
    data = b'data: "a"\n\nevent: x\ndata: "b"\n\ndata: "end"\n\ndata: "c"\n\n'
    assert reader.feed(data) == [TextDelta(0, "a"), TextDelta(0, "xb"), ResponseEnded("stop")]
    assert reader.feed(b'data: "d"\n\n') == []
    assert reader.end() == []


@pytest.mark.parametrize("data", [b'data: "limit"\n\n', b"data: {\n\n", b"data: 1\n\n", b'data: "\xff"\n\n'])
def test_a_failure_comes_after_the_events_before_it_and_is_the_last(data: bytes) -> None:
    reader = Reader()
    text, failed = reader.feed(b'data: "a"\n\n' + data)
    assert text == TextDelta(0, "a")
    assert isinstance(failed, ResponseFailed)
    assert type(failed.error) is (RateLimited if b"limit" in data else UpstreamBroken)
    assert reader.feed(b'data: "b"\n\n') == reader.end() == []


def test_the_last_event_may_lack_its_blank_line() -> None:
    reader = Reader()
    assert reader.feed(b'data: "end"') == []
    assert reader.end() == [ResponseEnded("stop")]


def test_an_end_without_the_mark_is_a_failure() -> None:
    (failed,) = Reader().end()
    assert isinstance(failed, ResponseFailed)
    assert failed.error.message == "No end mark."


def test_an_endless_line_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelplex.dialects.core.sse.LINE_CAP", 10)
    (failed,) = Reader().feed(b"data: " + b"x" * 20)
    assert isinstance(failed, ResponseFailed)


def test_parts_are_numbered_up_to_the_quota() -> None:
    out = EventBuffer()
    assert [out.next_part(), out.next_part()] == [0, 1]
    out.quota.held = MAX_HELD
    with pytest.raises(UpstreamBroken):
        out.next_part()


@pytest.mark.parametrize(
    ("given", "calls", "refused", "reason"),
    [
        ("stop", False, False, "stop"),
        ("stop", True, False, "tool_calls"),
        ("stop_sequence", True, False, "tool_calls"),
        ("length", True, False, "tool_calls"),
        ("context", True, False, "tool_calls"),
        ("tool_calls", False, False, "stop"),
        ("filter", True, False, "filter"),
        ("paused", True, False, "paused"),
        ("stop", False, True, "refusal"),
        ("length", False, True, "length"),
    ],
)
def test_whole_calls_decide_the_finish_reason(
    given: Reason, calls: bool, refused: bool, reason: Reason
) -> None:
    assert finish_reason(given, calls=calls, refused=refused) == reason


def test_opaque_state_has_its_origin() -> None:
    attempt = Attempt("p", "m", "openai_chat", account="k1")
    assert opaque_state(attempt, "f", "data", id="i") == OpaqueState("f", "data", "p", "k1", "m", "i")

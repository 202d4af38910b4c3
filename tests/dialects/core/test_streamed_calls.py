"""Tool calls of a response, from their pieces."""

from __future__ import annotations

import pytest

from modelplex.core.errors import UpstreamBroken
from modelplex.core.events import Event, PartEnded, TextDelta, ToolArgumentsDelta
from modelplex.core.request import ProviderRequest
from modelplex.dialects.core.streamed_calls import StreamedCall, close_calls, free_input

WRITTEN = ProviderRequest(b"", free=frozenset({"patch"}), answer_tool="answer")


def _call(name: str = "f", *pieces: str, free: bool = False) -> tuple[StreamedCall, list[Event]]:
    call = StreamedCall(name, WRITTEN, part=3, choice=1, free=free)
    return call, [event for piece in pieces if (event := call.add(piece)) is not None]


def test_arguments_are_sent_as_they_arrive() -> None:
    call, events = _call("f", '{"a"', ":1}")
    assert events == [ToolArgumentsDelta(3, '{"a"', 1), ToolArgumentsDelta(3, ":1}", 1)]
    assert call.close() == [PartEnded(3, 1)]
    assert call.close() == [], "once"


def test_a_call_without_arguments_has_an_empty_object() -> None:
    assert _call()[0].close() == [ToolArgumentsDelta(3, "{}", 1), PartEnded(3, 1)]
    assert _call(free=True)[0].close() == [PartEnded(3, 1)]


def test_a_wrapped_free_form_call_is_sent_when_it_is_complete() -> None:
    call, events = _call("patch", '{"input":', '"x"}')
    assert events == []
    assert call.close() == [ToolArgumentsDelta(3, "x", 1), PartEnded(3, 1)]
    assert _call("patch", "{}")[0].close() == [PartEnded(3, 1)]


def test_the_arguments_of_the_answer_tool_are_text() -> None:
    call, events = _call("answer", '{"a":1}')
    assert events == [TextDelta(3, '{"a":1}', 1)]
    assert call.close() == [PartEnded(3, 1)]


@pytest.mark.parametrize(
    ("pieces", "free", "whole", "whole_if_cut"),
    [
        (('{"a":1}',), False, True, True),
        (('{"a":',), False, True, False),
        ((), False, True, False),
        ((" ",), False, True, False),
        (("*** Begin",), True, True, False),
    ],
)
def test_a_limit_makes_empty_arguments_and_open_text_incomplete(
    pieces: tuple[str, ...], free: bool, whole: bool, whole_if_cut: bool
) -> None:
    call, _ = _call("f", *pieces, free=free)
    assert (call.is_whole(cut=False), call.is_whole(cut=True)) == (whole, whole_if_cut)


def test_a_limit_cuts_arguments_and_otherwise_the_model_wrote_them_so() -> None:
    whole, half = _call("f", "{}")[0], _call("f", '{"a":')[0]
    assert close_calls([whole, half], cut=True) == ([PartEnded(3, 1)], False)
    assert close_calls([half], cut=False) == ([PartEnded(3, 1)], True)
    marked = _call("f", '{"a":')[0]
    marked.cut = True
    with pytest.raises(UpstreamBroken, match="not JSON"):
        close_calls([marked], cut=False)


def test_a_call_that_the_provider_marks_incomplete_is_incomplete() -> None:
    call, _ = _call("f", "{}")
    call.cut = True
    assert not call.is_whole(cut=False)


def test_text_after_the_end_of_a_call_breaks_it() -> None:
    call, _ = _call("f", "{}")
    call.close()
    assert call.add(" ") is None
    assert close_calls([call], cut=False) == ([], True)
    assert call.add("x") is None
    with pytest.raises(UpstreamBroken):
        close_calls([call], cut=False)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ('{"input":"x"}', "x"),
        ('{"input":""}', ""),
        ("{}", ""),
        ('{"input":5}', '{"input":5}'),
        ('{"other":"x"}', '{"other":"x"}'),
        ("plain", "plain"),
        ('["x"]', '["x"]'),
        ("", ""),
        ('{"input":"\\ud83d"}', "\ufffd"),
    ],
)
def test_the_text_of_a_free_form_tool_is_unwrapped(arguments: str, text: str) -> None:
    assert free_input(arguments) == text


def test_a_call_shows_its_state() -> None:
    assert repr(_call("f", "{", "}")[0]) == "<StreamedCall 3 of 2 pieces, closed=False>"

"""The calls of one choice, from deltas as compatible servers send them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from modelplex.core.errors import UpstreamBroken
from modelplex.core.events import Event, OpaqueStateReceived, PartEnded, ToolArgumentsDelta, ToolCallStarted
from modelplex.core.request import Attempt, ProviderRequest
from modelplex.dialects.core.response_reader import EventBuffer
from modelplex.dialects.openai_chat.tool_calls_in import ChoiceCalls, ToolCallDelta

ATTEMPT = Attempt("p", "m", "openai_chat")
PLAIN = ProviderRequest(b"")


def _read(*deltas: dict[str, Any], written: ProviderRequest = PLAIN) -> tuple[ChoiceCalls, list[Event]]:
    out = EventBuffer()
    calls = ChoiceCalls(0, out, ATTEMPT, written)
    number = 0
    for each in deltas:
        delta = msgspec.convert(each, ToolCallDelta)
        call = calls.continued_by(delta)
        if call is None:
            call = calls.begin(delta, number=number)
            number += 1
        calls.read(call, delta)
    return calls, out.take()


def _started(events: list[Event]) -> list[tuple[str, str]]:
    return [(event.id, event.name) for event in events if isinstance(event, ToolCallStarted)]


def _f(name: str = "", arguments: Any = None, **more: Any) -> dict[str, Any]:
    return {"function": {"name": name or None, "arguments": arguments}, **more}


@pytest.mark.parametrize(
    ("deltas", "started"),
    [
        # Index 0 for all calls, each with an id.
        ([_f("f", "{}", index=0, id="a"), _f("g", "{}", index=0, id="b")], [("a", "f"), ("b", "g")]),
        # No index, and an id for each.
        ([_f("f", "{}", id="a"), _f("g", "{}", id="b")], [("a", "f"), ("b", "g")]),
        # No index and no id: a name begins a call.
        ([_f("f", "{}"), _f("g", "{}")], [("call_0", "f"), ("call_1", "g")]),
        # The same id and name in each delta.
        ([_f("f", "{", index=0, id="a"), _f("f", "}", index=0, id="a")], [("a", "f")]),
        # An id that is a number.
        ([_f("f", "{}", index=0, id=7)], [("7", "f")]),
        # The name comes after the first arguments.
        ([_f("", "{", index=0), _f("f", "}", index=0, id="a")], [("a", "f")]),
    ],
)
def test_calls_are_told_apart(deltas: list[dict[str, Any]], started: list[tuple[str, str]]) -> None:
    assert _started(_read(*deltas)[1]) == started


def test_what_came_before_the_name_follows_it() -> None:
    _, events = _read(_f("", '{"a"', index=0, id="a"), _f("f", ":1}", index=0))
    assert events == [
        ToolCallStarted(0, "a", "f"),
        ToolArgumentsDelta(0, '{"a"'),
        ToolArgumentsDelta(0, ":1}"),
    ]


def test_a_whole_call_is_closed_when_another_begins() -> None:
    _, events = _read(_f("f", '{"a":1}', index=0, id="a"), _f("g", "{", index=1, id="b"))
    assert events[2] == PartEnded(0)
    _, events = _read(_f("f", '{"a":{}', index=0, id="a"), _f("g", "{}", index=1, id="b"))
    assert PartEnded(0) not in events


def test_arguments_may_be_an_object() -> None:
    _, events = _read(_f("f", {"a": 1}, index=0, id="a"))
    assert events[1] == ToolArgumentsDelta(0, '{"a":1}')


def test_a_signature_is_of_its_call() -> None:
    extra = {"google": {"thought_signature": "sig"}}
    _, events = _read(_f("f", "{}", index=0, id="a", extra_content=extra))
    (state,) = [event for event in events if isinstance(event, OpaqueStateReceived)]
    assert (state.part, state.state.data, state.state.provider) == (0, "sig", "p")


def test_the_end_closes_all_calls() -> None:
    calls, _ = _read(_f("f", "{}", index=0, id="a"), _f("g", '{"a":', index=1, id="b"))
    assert calls.finish(cut=True) == (True, False)
    calls, _ = _read(_f("f", '{"a":', index=0, id="a"))
    assert calls.finish(cut=False) == (True, True), "the model wrote it so, and its agent tells it"
    assert _read()[0].finish(cut=False) == (False, True)


def test_a_call_without_a_name_is_an_error() -> None:
    calls, events = _read(_f("", "{}", index=0, id="a"))
    assert events == []
    with pytest.raises(UpstreamBroken, match="without a name"):
        calls.finish(cut=True)


def test_the_answer_tool_is_no_call() -> None:
    calls, _ = _read(_f("answer", "{}", index=0, id="a"), written=ProviderRequest(b"", answer_tool="answer"))
    assert calls.finish(cut=False) == (False, True)


def test_pieces_of_a_long_call_are_not_parsed_again_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[int] = []

    def parses(text: str) -> bool:
        parsed.append(len(text))
        return False

    monkeypatch.setattr("modelplex.dialects.openai_chat.tool_calls_in.parses", parses)
    deltas: list[dict[str, Any]] = [_f("f", "{}", index=0, id="a")]
    for n in range(1, 200):
        deltas += [_f("g", "{", index=n, id=f"b{n}"), _f("", "}", index=0)]
    _read(*deltas)
    assert len(parsed) < 20

"""Output items of Responses: indexes, and content that is read once."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from modelplex.core.errors import UpstreamBroken
from modelplex.core.events import (
    Event,
    MediaOutput,
    PartEnded,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    ToolArgumentsDelta,
    ToolCallStarted,
)
from modelplex.core.request import Attempt, ProviderRequest
from modelplex.dialects.core.quota import Quota
from modelplex.dialects.core.response_reader import EventBuffer
from modelplex.dialects.openai_responses.response_items_in import ItemIndexes, ItemReader, OutputItem, as_json


def _item(**members: Any) -> OutputItem:
    return msgspec.convert(members, OutputItem)


def _reader() -> tuple[ItemReader, EventBuffer]:
    out = EventBuffer()
    return ItemReader(out, Attempt("p", "m", "openai_responses"), ProviderRequest(b"")), out


def _read(reader: ItemReader, out: EventBuffer, index: int, **members: Any) -> list[Event]:
    reader.read(index, _item(**members), msgspec.Raw(msgspec.json.encode(members)))
    return out.take()


def test_an_item_has_its_index_by_either_of_its_names() -> None:
    indexes = ItemIndexes(Quota())
    assert indexes.of_event(4, "fc_1", "call_1") == 4
    assert indexes.of_event(None, "fc_1") == indexes.of_event(None, None, "call_1") == 4
    assert indexes.of_event(None, "other") == 5, "a new item comes after all others"
    assert indexes.of_event(None, None) == 6
    assert repr(indexes) == "<ItemIndexes 3 names>"


def test_an_id_for_each_event_is_not_kept_for_ever() -> None:
    """https://github.com/vercel/ai/issues/18548"""
    indexes = ItemIndexes(Quota())
    assert {indexes.of_event(0, f"m{n}") for n in range(100)} == {0}
    assert repr(indexes) == "<ItemIndexes 4 names>"


def test_the_final_output_may_be_numbered_and_named_differently() -> None:
    reader, out = _reader()
    call = {"type": "function_call", "name": "f", "call_id": "c", "arguments": "{}"}
    _read(reader, out, 0, type="message", id="m", content=[{"type": "output_text", "text": "a"}])
    _read(reader, out, 3, **call)
    message = _item(id="other")
    assert reader.index_of_final(0, message, taken=set()) == 0
    assert reader.index_of_final(1, message, taken=set()) == 0, "the only one of its kind"
    assert reader.index_of_final(1, message, taken={0}) == 1, "another one, at a free place"
    assert reader.index_of_final(3, message, taken={0}) == 4, "a call is at 3"
    assert reader.index_of_final(0, _item(**call), taken=set()) == 3
    assert reader.index_of_final(0, _item(**{**call, "name": "g"}), taken=set()) == 4
    assert reader.index_of_final(0, _item(type="reasoning"), taken=set()) == 4


def test_text_is_read_once() -> None:
    reader, out = _reader()
    reader.add_text((0, "text", 0), "Hi", None)
    assert out.take() == [TextDelta(0, "Hi")]
    reader.add_whole_text((0, "text", 0), "Hi", None)
    content = [{"type": "output_text", "text": "Hi"}, {"type": "output_text", "text": "there"}]
    assert _read(reader, out, 0, type="message", content=content) == [
        PartEnded(0),
        TextDelta(1, "there"),
        PartEnded(1),
    ]
    assert _read(reader, out, 0, type="message", content=content) == []


def test_a_refusal_is_noted() -> None:
    reader, out = _reader()
    content = [{"type": "refusal", "refusal": "No."}]
    assert _read(reader, out, 0, type="message", content=content) == [RefusalDelta(0, "No."), PartEnded(0)]
    assert reader.refused


def test_of_summary_and_reasoning_the_first_is_read() -> None:
    reader, out = _reader()
    reader.add_reasoning((0, "summary", 0), "a")
    reader.add_reasoning((0, "summary", 1), "b")
    reader.add_reasoning((0, "reasoning", 0), "c")
    assert out.take() == [ReasoningDelta(0, "a", summary=True), ReasoningDelta(0, "\n\nb", summary=True)]


def test_a_call_is_closed_when_its_item_is_whole() -> None:
    reader, out = _reader()
    reader.begin(0, _item(type="function_call", name="f", call_id="c"))
    reader.add_arguments(0, '{"a":1}')
    assert out.take() == [ToolCallStarted(0, "c", "f"), ToolArgumentsDelta(0, '{"a":1}')]
    assert _read(reader, out, 0, type="function_call", name="f", arguments='{"a":1}') == [PartEnded(0)]
    reader.add_arguments(0, "more")
    assert out.take() == []
    assert reader.finish(cut=False)


def test_an_incomplete_call_stays_open() -> None:
    reader, out = _reader()
    events = _read(reader, out, 0, type="function_call", name="f", arguments="{}", status="incomplete")
    assert PartEnded(0) not in events
    assert not reader.finish(cut=True)
    with pytest.raises(UpstreamBroken):
        reader.finish(cut=False)


def test_a_call_without_a_name_is_an_error() -> None:
    reader, out = _reader()
    with pytest.raises(UpstreamBroken, match="without a name"):
        _read(reader, out, 0, type="function_call", arguments="{}")


def test_other_items_are_media() -> None:
    reader, out = _reader()
    (media,) = _read(reader, out, 0, type="web_search_call", id="ws_1")
    assert isinstance(media, MediaOutput)


def test_log_probabilities_get_the_members_of_chat() -> None:
    reader, out = _reader()
    token = {"token": "a", "logprob": -1.0, "top_logprobs": [{"token": "b", "logprob": -2.0}]}
    reader.add_text((0, "text", 0), "", [msgspec.Raw(msgspec.json.encode(token))])
    (event,) = out.take()
    assert isinstance(event, TextDelta)
    assert event.logprobs is not None
    assert msgspec.json.decode(event.logprobs) == [
        {**token, "bytes": None, "top_logprobs": [{"token": "b", "logprob": -2.0, "bytes": None}]}
    ]


@pytest.mark.parametrize(("given", "text"), [(None, ""), ("{}", "{}"), ({"a": 1}, '{"a":1}')])
def test_arguments_may_be_an_object(given: object, text: str) -> None:
    assert as_json(given) == text

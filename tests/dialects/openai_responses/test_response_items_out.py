"""Output items as Responses clients read them: order, numbers, and final members."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from modelplex.core.events import (
    CitationAdded,
    MediaOutput,
    OpaqueStateReceived,
    PartEnded,
    ReasoningDelta,
    TextDelta,
    ToolArgumentsDelta,
    ToolCallStarted,
)
from modelplex.core.request import Change, OpaqueState, Tool
from modelplex.dialects.core.sse import SseReader
from modelplex.dialects.openai_responses.response_items_out import EventNumbering, ItemWriter


def _writer(*tools: Tool) -> tuple[ItemWriter, list[Change]]:
    changes: list[Change] = []
    return ItemWriter(EventNumbering(), response_id="r", tools=tools, changes=changes), changes


def _events(out: bytes) -> list[dict[str, Any]]:
    return [json.loads(event.data) for event in SseReader().feed(out)]


def _types(out: bytes) -> list[str]:
    return [event["type"].removeprefix("response.") for event in _events(out)]


def test_events_are_numbered_and_named() -> None:
    numbering = EventNumbering()
    numbering.event("response.created", b'"a":1')
    out = numbering.event("response.completed", b'"a":2')
    assert (
        out == b'event: response.completed\ndata: {"type":"response.completed","sequence_number":1,"a":2}\n\n'
    )


def test_the_texts_of_two_parts_are_in_one_message() -> None:
    writer, _ = _writer()
    out = writer.write(TextDelta(0, "a")) + writer.write(PartEnded(0)) + writer.write(TextDelta(1, "b"))
    out += writer.close_all(cut=False)
    assert _types(out) == [
        *("output_item.added", "content_part.added", "output_text.delta"),
        *("output_text.done", "content_part.done", "content_part.added", "output_text.delta"),
        *("output_text.done", "content_part.done", "output_item.done"),
    ]
    assert [event["sequence_number"] for event in _events(out)] == list(range(10))
    (message,) = writer.output
    assert isinstance(message, dict)
    assert (message["id"], message["status"]) == ("msg_r_0", "completed")
    assert [part["text"] for part in message["content"]] == ["a", "b"]


def test_a_call_closes_the_message_and_stays_open_beside_another() -> None:
    writer, _ = _writer()
    out = writer.write(TextDelta(0, "a")) + writer.write(ToolCallStarted(1, "c1", "f"))
    assert _types(out)[-2:] == ["output_item.done", "output_item.added"]
    writer.write(ToolCallStarted(2, "c2", "g"))
    writer.write(ToolArgumentsDelta(1, '{"a":1}'))
    assert [item.kind for item in writer.open_items] == ["call", "call"]
    assert _types(writer.write(PartEnded(2))) == [], "its arguments may still come"
    assert _types(writer.write(PartEnded(1))) == ["function_call_arguments.done", "output_item.done"]


def test_a_cut_response_has_incomplete_items() -> None:
    writer, _ = _writer()
    writer.write(ToolCallStarted(0, "c1", "f"))
    writer.write(ToolCallStarted(1, "c2", "g"))
    writer.write(ToolArgumentsDelta(1, "{"))
    assert "function_call_arguments.done" not in _types(writer.close_all(cut=True))
    assert [item["status"] for item in writer.output if isinstance(item, dict)] == ["incomplete"] * 2


def test_a_whole_call_without_arguments_has_an_empty_object() -> None:
    writer, _ = _writer()
    writer.write(ToolCallStarted(0, "c1", "f"))
    (_, done, _) = _events(writer.close_all(cut=False))
    assert done["arguments"] == "{}"


def test_a_tool_in_a_namespace_is_written_with_it() -> None:
    writer, _ = _writer(Tool("read", namespace="files"))
    sent = next(iter(writer._in_namespaces))
    (added,) = _events(writer.write(ToolCallStarted(0, "c", sent)))
    assert (added["item"]["name"], added["item"]["namespace"]) == ("read", "files")


def test_reasoning_is_a_summary_and_foreign_state_is_in_an_envelope() -> None:
    writer, _ = _writer()
    writer.write(ReasoningDelta(0, "Hm."))
    writer.write(OpaqueStateReceived(0, OpaqueState("anthropic-claude-v1", "sig", "a", "k")))
    writer.close_all(cut=False)
    (item,) = writer.output
    assert isinstance(item, dict)
    assert item["summary"] == [{"type": "summary_text", "text": "Hm."}]
    assert item["encrypted_content"].startswith("mpx1.")


def test_losses_are_reported() -> None:
    writer, changes = _writer()
    assert writer.write(MediaOutput(0, msgspec.Raw(b"{}"), "openai_chat")) == b""
    assert (
        writer.write(CitationAdded(0, msgspec.Raw(b'{"type":"char_location"}'), "anthropic_messages")) == b""
    )
    assert [change.path for change in changes] == ["output[]", "output[].content[].annotations"]


def test_an_item_of_this_dialect_passes_unchanged() -> None:
    writer, _ = _writer()
    raw = msgspec.Raw(b'{"type":"web_search_call","id":"ws_1"}')
    assert _types(writer.write(MediaOutput(0, raw, "openai_responses"))) == [
        "output_item.added",
        "output_item.done",
    ]
    assert writer.output == [raw]

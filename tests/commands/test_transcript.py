"""Bodies as messages, in every dialect that has conversations."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from modelplex.commands.transcript import Block, Entry, new_entries, read_received, read_sent
from modelplex.records.store.queries import recent_calls
from modelplex.records.store.rows import CallSummary
from tests.commands.recorded import SECOND, completion, request, streamed
from tests.records.store import stored


@pytest.fixture
def call(tmp_path: Path) -> CallSummary:
    db = stored.database(tmp_path)
    stored.write(db, stored.record(1, dialect="openai_chat", endpoint="chat/completions"))
    return recent_calls(db)[0]


def test_messages_calls_and_results_are_read(call: CallSummary) -> None:
    found = read_sent(call, request(SECOND))
    assert [entry.role for entry in found.entries] == ["system", "user", "assistant", "tool"]
    assert found.entries[2].blocks == (Block("tool_call", '{"path": "a.py"}', "read_file", "call_1"),)
    assert found.entries[3].blocks[0].kind == "tool_result"
    assert [tool.name for tool in found.tools] == ["read_file"]


ANTHROPIC = b"""event: message_start
data: {"type":"message_start","message":{"id":"m","type":"message","role":"assistant","model":"x","content":[],"usage":{"input_tokens":1,"output_tokens":1}}}

event: content_block_start
data: {"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":""}}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"Hm"}}

event: content_block_stop
data: {"type":"content_block_stop","index":0}

event: content_block_start
data: {"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"t1","name":"ls","input":{}}}

event: content_block_delta
data: {"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{\\"a\\":1}"}}

event: content_block_stop
data: {"type":"content_block_stop","index":1}

event: message_delta
data: {"type":"message_delta","delta":{"stop_reason":"tool_use"},"usage":{"output_tokens":2}}

event: message_stop
data: {"type":"message_stop"}

"""


@pytest.mark.parametrize(
    ("dialect", "endpoint", "body", "response", "stream", "sent", "received"),
    [
        ("openai_chat", "chat/completions", request([{"role": "user", "content": "Hi"}]), completion({"content": "Yes"}, "stop"), False, "Hi", "Yes"),
        ("openai_chat", "chat/completions", request([{"role": "user", "content": "Hi"}]), streamed("Ye", "s"), True, "Hi", "Yes"),
        ("anthropic_messages", "messages", b'{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"Hi"}]}', ANTHROPIC, True, "Hi", ""),
        ("openai_responses", "responses", b'{"model":"m","input":"Hi"}', b'{"id":"r","object":"response","status":"completed","model":"m","output":[{"type":"message","role":"assistant","content":[{"type":"output_text","text":"Yes"}]}]}', False, "Hi", "Yes"),
        ("gemini", "generateContent", b'{"contents":[{"role":"user","parts":[{"text":"Hi"}]}]}', b'{"candidates":[{"content":{"role":"model","parts":[{"text":"Yes"}]},"finishReason":"STOP"}]}', False, "Hi", "Yes"),
        ("ollama", "api/chat", b'{"model":"m","messages":[{"role":"user","content":"Hi"}]}', b'{"model":"m","message":{"role":"assistant","content":"Yes"},"done":true,"done_reason":"stop"}', False, "Hi", "Yes"),
    ],
)  # fmt: skip
def test_each_dialect(
    call: CallSummary,
    dialect: str,
    endpoint: str,
    body: bytes,
    response: bytes,
    stream: bool,
    sent: str,
    received: str,
) -> None:
    of = msgspec.structs.replace(call, dialect=dialect, endpoint=endpoint, stream=stream)
    assert [entry.text for entry in read_sent(of, body).entries] == [sent]
    found = read_received(of, response)
    assert found.role == "assistant"
    assert found.text == received


def test_reasoning_and_calls_of_a_stream(call: CallSummary) -> None:
    of = msgspec.structs.replace(call, dialect="anthropic_messages", endpoint="messages", stream=True)
    assert read_received(of, ANTHROPIC).blocks == (
        Block("reasoning", "Hm"),
        Block("tool_call", '{"a":1}', "ls", "t1"),
    )


@pytest.mark.parametrize("body", [b"", b"no json", b"\xff", b'{"model": "m", "messages": [{"role": 1}]}'])
def test_what_cannot_be_read_is_text(call: CallSummary, body: bytes) -> None:
    assert read_sent(call, body).entries == (
        Entry("request", (Block("text", body.decode("utf-8", "replace")),)),
    )
    assert read_received(call, body).text == body.decode("utf-8", "replace")


def test_a_dialect_that_is_gone_is_text(call: CallSummary) -> None:
    of = msgspec.structs.replace(call, dialect="gone")
    assert read_sent(of, b"{}").entries[0].text == "{}"
    assert read_received(of, b"{}").text == "{}"


def test_a_turn_adds_what_was_not_there() -> None:
    entries = [Entry(role, ()) for role in ("system", "user", "assistant", "user")]
    assert [entry.role for entry in new_entries(entries, before=2, answered=True)] == ["user"]
    assert [entry.role for entry in new_entries(entries, before=2, answered=False)] == ["assistant", "user"]
